//! One folder of an image, unpacked alone as plain files.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use gondola::error::{ErrorKind, Result};
use gondola::image::{Blob, Image};
use gondola::rootfs::Part;
use gondola::sandbox::Isolation;
use gondola::store::Store;

use super::archive::{Raw, device, fifo, file, folder, hard_link, image, symlink};
use super::pulls::{ALL, pushed, removed_folders};
use super::support::{Registry, need};
use super::world::{World, block_on, refusal};

/// What a Go distribution has.
const WHOLE: [&str; 4] = ["VERSION", "bin/go", "pkg/tool", "src/runtime"];

fn go() -> Part {
    Part::new("/usr/local/go/", &WHOLE).unwrap()
}

fn unpack(world: &World, image: &Image) -> Result<Option<PathBuf>> {
    block_on(world.unpacker(Isolation::Toolchain).unpack_part(image, &go()))
}

/// Unpacks layers, the base first, and lists what comes out: `path: contents`.
fn unpacked(layers: &[&[Raw]]) -> Result<Vec<String>> {
    let world = World::new();
    let found = unpack(&world, &image(layers));
    world.is_untouched();
    let mut lines = Vec::new();
    if let Some(root) = found? {
        list(&root, &root, &mut lines);
    }
    lines.sort();
    Ok(lines)
}

fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let state = fs::symlink_metadata(&path).unwrap();
        if state.is_dir() {
            found.push(format!("{name}/"));
            list(root, &path, found);
        } else if state.is_symlink() {
            found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            assert!(state.is_file(), "{name}");
            found.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_folder_alone_is_unpacked_as_the_layers_together_have_it() {
    let base: &[Raw] = &[
        folder("usr/local"),
        file("usr/local/bin/x", "no"),
        file("usr/local/gone", "no"),
        file("usr/local/go/a", "old"),
        file("usr/local/go/kept", "base"),
        file("usr/local/go/sub/removed", "no"),
        file("usr/local/go/sub/stays", "base"),
        hard_link("usr/local/go/sub/same", "usr/local/go/sub/stays"),
        file("usr/local/go/emptied/old", "no"),
        file("usr/local/go/was/folder", "no"),
    ];
    let middle: &[Raw] = &[
        file("./usr/local/go/a", "new"),
        file("usr/local/go/sub/.wh.removed", ""),
        file("usr/local/go/emptied/.wh..wh..opq", ""),
        file("usr/local/go/emptied/new", "middle"),
        file("usr/local/go/was", "file"),
        hard_link("usr/local/go/b", "usr/local/go/a"),
        symlink("usr/local/go/sub/link", "../a"),
        file("usr/local/go/twice", "first"),
        file("usr/local/go/twice", "second"),
    ];
    let top: &[Raw] =
        &[file("usr/local/go/top", "top"), file("usr/local/go/.wh.kept", ""), file("etc/x", "no")];
    let expect = [
        "a: new",
        "b: new",
        "emptied/",
        "emptied/new: middle",
        "sub/",
        "sub/link -> ../a",
        "sub/same: base",
        "sub/stays: base",
        "top: top",
        "twice: second",
        "was: file",
    ];
    assert_eq!(unpacked(&[base, middle, top]).unwrap(), expect);
    assert_eq!(
        unpacked(&[&[file("etc/x", "")], &[file("usr/local/go", "")]]).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(unpacked(&[&[file("etc/x", "")]]).unwrap(), [""; 0]);
}

#[test]
fn a_layer_that_hides_something_leaves_no_mark_of_it() {
    let only: &[Raw] = &[
        file("usr/local/go/x", "x"),
        file("usr/local/go/.wh.y", ""),
        file("usr/local/go/sub/.wh..wh..opq", ""),
        device(b'3', "usr/local/go/z", 0, 0),
    ];
    assert_eq!(unpacked(&[&[file("etc/x", "")], only]).unwrap(), ["sub/", "x: x"]);
}

#[test]
fn a_whole_one_or_a_whiteout_ends_the_reading() {
    let whole: &[Raw] = &[
        file("usr/local/go/VERSION", "go1.99"),
        file("usr/local/go/bin/go", "go"),
        folder("usr/local/go/pkg/tool"),
        file("usr/local/go/src/runtime/x.go", "x"),
    ];
    let refused: &[Raw] = &[fifo("usr/local/go/pipe")];
    let over: &[Raw] = &[file("usr/local/go/VERSION", "go1.99.1")];
    let found = unpacked(&[refused, whole, over]).unwrap();
    assert!(found.contains(&"VERSION: go1.99.1".to_owned()), "{found:?}");
    assert_eq!(found.len(), 8);
    for gone in [
        "usr/.wh.local",
        "usr/local/.wh.go",
        "usr/local/go/.wh..wh..opq",
        ".wh..wh..opq",
        "usr/.wh..wh..opq",
    ] {
        let layers: [&[Raw]; 3] = [refused, whole, &[file(gone, ""), file("usr/local/go/x", "x")]];
        assert_eq!(unpacked(&layers).unwrap(), ["x: x"], "{gone}");
    }
}

#[test]
fn layers_that_do_not_count_are_not_fetched_and_none_is_twice() {
    let registry = need!(Registry::plain());
    let world = World::new();
    let layers: [&[Raw]; 3] = [
        &[file("etc/below", "x")],
        &[
            file("usr/local/go/VERSION", "go1.99"),
            file("usr/local/go/bin/go", "go").mode(0o4755).mtime(1_000_000).owner(7, 1 << 40),
            file("usr/local/go/pkg/tool/x", "").mode(0).xattr("user.mine", "x"),
            file("usr/local/go/src/runtime/x.go", "x"),
        ],
        &[file("go/above", "y")],
    ];
    let image = pushed(&world, &registry, image(&layers));
    let digest = image.manifest.digest();
    let unpacker = world.unpacker(Isolation::Toolchain);
    assert_eq!(unpacker.kept_part(digest, &go()).unwrap(), None);
    let found = block_on(async {
        let (one, other) = (unpacker.clone(), unpacker.clone());
        let part = go();
        let (one, other) =
            tokio::join!(one.unpack_part(&image, &part), other.unpack_part(&image, &part));
        assert_eq!(one.as_ref().unwrap(), other.as_ref().unwrap());
        one.unwrap().unwrap()
    });
    assert_eq!(unpack(&world, &image).unwrap().as_ref(), Some(&found));
    assert_eq!(unpacker.kept_part(digest, &go()).unwrap().as_ref(), Some(&found));
    let gets = |layer: &Blob| registry.count("GET", layer.descriptor.digest.as_str(), &[200]);
    assert_eq!(image.layers.iter().map(gets).collect::<Vec<_>>(), [0, 1, 1]);
    // Another part of the same image is another folder.
    let all = Part::new("usr/local/go", &[]).unwrap();
    assert_eq!(unpacker.kept_part(digest, &all).unwrap(), None);

    // Files are plain whatever the archive says.
    let state = |path: &str| fs::metadata(found.join(path)).unwrap();
    let program = state("bin/go");
    assert_eq!((program.mode() & 0o7777, program.mtime()), (0o755, 1_000_000));
    assert_eq!(program.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(state("pkg/tool/x").mode() & 0o7777, 0o644);
    let mut names = [0; 256];
    let listed = rustix::fs::listxattr(found.join("pkg/tool/x"), &mut names[..]).unwrap();
    assert_eq!(String::from_utf8_lossy(&names[..listed]).matches("user.").count(), 0);
}

#[test]
fn what_could_lead_out_of_the_folder_is_refused() {
    let cases: [&[Raw]; 14] = [
        &[symlink("usr/local/go/x", "/etc")],
        &[symlink("usr/local/go/x", "/usr/local/go/y")],
        &[symlink("usr/local/go/x", "../y")],
        &[symlink("usr/local/go/a/x", "../../y")],
        &[symlink("usr/local/go/a/x", "b/../../../go/y"), folder("usr/local/go/a/b")],
        // Each of the two stays inside by its text alone.
        &[symlink("usr/local/go/a/b/top", "../.."), symlink("usr/local/go/x", "a/b/top/../../etc")],
        &[
            symlink("usr/local/go/a/b/x", "../../y"),
            hard_link("usr/local/go/x", "usr/local/go/a/b/x"),
        ],
        &[symlink("usr/local/go/x", "../out"), file("usr/local/go/x/z", "no")],
        &[device(b'3', "usr/local/go/x", 1, 3)],
        &[device(b'4', "usr/local/go/x", 0, 0)],
        &[fifo("usr/local/go/x")],
        &[symlink("usr/local/go", "/elsewhere")],
        &[symlink("usr/local", "elsewhere")],
        &[symlink("usr/local", "elsewhere"), file("usr/local/go/x", "no")],
    ];
    for lines in cases {
        let error = unpacked(&[lines]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{lines:?}: {error}");
        // Merged with others it is no better.
        let over: &[Raw] = &[file("usr/local/go/top", "")];
        let error = unpacked(&[lines, over]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{lines:?}: {error}");
    }
    for link in [
        hard_link("usr/local/go/x", "etc/passwd"),
        hard_link("usr/local/go/x", "usr/local/go/y"),
        hard_link("usr/local/go/x", "usr/local/go/../../../etc/passwd"),
        file("usr/local/go/../../../outside", "x"),
    ] {
        let layer = [file("etc/passwd", "no"), link];
        assert_eq!(unpacked(&[&layer]).unwrap_err().kind(), ErrorKind::Invalid, "{layer:?}");
    }
}

#[test]
fn links_that_stay_inside_are_kept_and_followed() {
    let layer: &[Raw] = &[
        symlink("usr/local/go/a/x", "../a/b/../c"),
        symlink("usr/local/go/a/dangling", "nowhere/../../../../.."),
        symlink("usr/local/go/loop", "loop"),
        symlink("usr/local/go/to", "a"),
        file("usr/local/go/to/z", "z"),
        hard_link("usr/local/go/same", "usr/local/go/to/z"),
    ];
    let expect = [
        "a/",
        "a/dangling -> nowhere/../../../../..",
        "a/x -> ../a/b/../c",
        "a/z: z",
        "loop -> loop",
        "same: z",
        "to -> a",
    ];
    assert_eq!(unpacked(&[layer]).unwrap(), expect);
}

#[test]
fn a_broken_layer_leaves_nothing_and_the_folder_goes_when_nobody_uses_it() {
    let world = World::new();
    let bad: &[Raw] = &[file("usr/local/go/x", "abc").size(8 << 30)];
    let error = refusal(unpack(&world, &image(&[&[], bad])));
    assert!(error.to_string().contains("it ends in the middle of an entry"), "{error}");
    assert!(!world.path("store/gondola/rootfs").exists());

    let image = image(&[&[file("usr/local/go/x", "x")]]);
    let found = unpack(&world, &image).unwrap().unwrap();
    let other = Store::open(world.store.root()).unwrap();
    assert_eq!(removed_folders(&other, &ALL), 0);
    drop(other);
    let root = world.store.root().to_owned();
    let ended = world.into_folder();
    assert!(found.exists());
    assert_eq!(removed_folders(&Store::open(&root).unwrap(), &ALL), 1);
    assert!(!found.exists());
    drop(ended);
}
