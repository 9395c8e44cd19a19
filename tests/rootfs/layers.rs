//! What layers do to those below them, read without mounting and, where it can be, as the kernel
//! merges them.

use std::collections::BTreeMap;

use fs_err as fs;
use gondola::layer::EntryKind;
use gondola::rootfs::{Follow, Rootfs};
use gondola::sandbox::Isolation;

use super::archive::{Raw, file, folder, hard_link, image, symlink};
use super::support::{need, program, root};
use super::world::{World, line, listing, paths, read, refusal, shell};

const ISOLATIONS: [Isolation; 3] = [Isolation::NsRoot, Isolation::InContainer, Isolation::Ns];

fn merged(layers: &[&[Raw]], expected: &[&str]) {
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.unpack(&image(layers), isolation).unwrap();
        assert_eq!(paths(&rootfs.view().unwrap()), expected, "{isolation}");
    }
}

#[test]
fn whiteouts_hide_what_lies_below_and_nothing_of_their_own_layer() {
    let base: &[Raw] = &[file("a", "1"), file("d/x", "1"), file("d/y", "1"), file("e/x", "1")];
    merged(&[base, &[file(".wh.a", ""), file("d/.wh.x", "")]], &["d", "d/y", "e", "e/x"]);
    merged(&[base, &[file(".wh.d", ""), file(".wh.missing", "")]], &["a", "e", "e/x"]);
    merged(&[base, &[file("d/.wh..wh..opq", ""), file("d/z", "")]], &["a", "d", "d/z", "e", "e/x"]);
    merged(&[base, &[file("d/z", ""), file("d/.wh..wh..opq", "")]], &["a", "d", "d/z", "e", "e/x"]);
    merged(&[base, &[file(".wh..wh..opq", ""), file("new", "")]], &["new"]);
    // In both orders, and for files and folders.
    merged(&[base, &[file(".wh.d", ""), file("d/z", "")]], &["a", "d", "d/z", "e", "e/x"]);
    merged(&[base, &[file("d/z", ""), file(".wh.d", "")]], &["a", "d", "d/z", "e", "e/x"]);
    merged(&[base, &[file(".wh.a", ""), file("a", "2")]], &["a", "d", "d/x", "d/y", "e", "e/x"]);
    merged(&[base, &[file("a", "2"), file(".wh.a", "")]], &["a", "d", "d/x", "d/y", "e", "e/x"]);
    // A third layer brings back what the second hid, and nothing else.
    merged(&[base, &[file(".wh.d", "")], &[file("d/n", "")]], &["a", "d", "d/n", "e", "e/x"]);
    // There is nothing below the first.
    merged(&[&[file(".wh.a", ""), file("d/.wh..wh..opq", ""), file(".wh..wh..opq", "")]], &["d"]);
}

#[test]
fn files_and_folders_replace_each_other() {
    let base: &[Raw] = &[file("a/x", ""), file("b", "")];
    merged(&[base, &[file("a", ""), file("b/x", "")]], &["a", "b", "b/x"]);
    merged(&[base, &[file("a", "")], &[folder("a")]], &["a", "b"]);
    merged(&[base, &[symlink("a", "b")]], &["a", "b"]);
}

#[test]
fn folders_that_a_layer_does_not_name_look_like_the_ones_below() {
    need!(root("giving folders away"));
    let base: &[Raw] = &[
        folder("./").mode(0o711).owner(1, 2).mtime(50),
        folder("srv").mode(0o2770).owner(33, 33).mtime(60).xattr("user.mark", "x"),
        symlink("var/run", "/run"),
    ];
    let top: &[Raw] = &[file("srv/www/x", ""), file("var/run/x", "")];
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.unpack(&image(&[base, top]), isolation).unwrap();
        let view = rootfs.view().unwrap();
        let expected = [
            "d 2770 33:33 60 srv user.mark",
            "d 0755 0:0 0 srv/www",
            "f 0644 0:0 1000 srv/www/x <0 bytes>",
            "d 0755 0:0 0 var",
            // As in Docker and containerd, a link of a lower layer is not followed.
            "d 0755 0:0 0 var/run",
            "f 0644 0:0 1000 var/run/x <0 bytes>",
        ];
        assert_eq!(listing(&view), expected, "{isolation}");
        let top = view.find("/", Follow::Last).unwrap().unwrap();
        assert_eq!(line("/", &top.entry), "d 0711 1:2 50 /", "{isolation}");
    }
}

#[test]
fn a_hard_link_to_a_file_below_makes_both_names_one_file() {
    let base: &[Raw] = &[
        folder("d").mode(0o750).owner(3, 4),
        file("d/a", "below").mode(0o640).owner(5, 6),
        symlink("s", "d"),
        symlink("l", "d/a"),
    ];
    let top: &[Raw] = &[
        hard_link("b", "d/a"),
        hard_link("c", "b"),
        hard_link("e/f", "/s/a"),
        hard_link("l2", "l"),
        hard_link("x", "d/a"),
        file("x", "later"),
        hard_link("d/a", "d/a"),
    ];
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.unpack(&image(&[base, top]), isolation).unwrap();
        let view = rootfs.view().unwrap();
        let expected = [
            "f 0640 5:6 1000 b <5 bytes>",
            "h 0640 5:6 1000 c => b",
            "d 0750 3:4 1000 d",
            "h 0640 5:6 1000 d/a => b",
            "d 0755 0:0 0 e",
            "h 0640 5:6 1000 e/f => b",
            "l 0777 0:0 1000 l -> d/a",
            "l 0777 0:0 1000 l2 -> d/a",
            "l 0777 0:0 1000 s -> d",
            "f 0644 0:0 1000 x <5 bytes>",
        ];
        assert_eq!(listing(&view), expected, "{isolation}");
        assert_eq!(read(&view, "/e/f").as_deref(), Some("below"), "{isolation}");
        assert_eq!(read(&view, "/x").as_deref(), Some("later"), "{isolation}");
        // What is below is as it was.
        let below = world.unpack(&image(&[base]), isolation).unwrap();
        assert_eq!(listing(&below.view().unwrap()).len(), 4, "{isolation}");
    }
}

#[test]
fn a_hard_link_to_what_its_layer_removes_is_refused() {
    let base: &[Raw] = &[folder("d"), file("d/a", "x"), file("a", "x")];
    let cases: [(&[Raw], &str); 6] = [
        (&[hard_link("b", "none")], "nor has one below"),
        (&[hard_link("b", "d")], "it is no file"),
        (&[file(".wh.a", ""), hard_link("b", "a")], "the same layer removes that file"),
        (&[file("d/.wh..wh..opq", ""), hard_link("b", "d/a")], "the same layer removes that file"),
        (&[file(".wh.d", ""), hard_link("b", "d/a")], "the same layer removes that file"),
        (&[file("d", ""), hard_link("b", "d/a")], "the same layer removes that file"),
    ];
    for isolation in ISOLATIONS {
        for (top, why) in cases {
            let world = World::new();
            let error = refusal(world.unpack(&image(&[base, top]), isolation)).to_string();
            assert!(error.contains(why), "{isolation} {top:?}: {error}");
        }
        // Removed after the link it was renamed.
        let world = World::new();
        let top: &[Raw] = &[hard_link("b", "a"), file(".wh.a", "")];
        let view = world.unpack(&image(&[base, top]), isolation).unwrap().view().unwrap();
        assert_eq!(paths(&view), ["b", "d", "d/a"], "{isolation}");
        assert_eq!(read(&view, "/b").as_deref(), Some("x"));
    }
}

#[test]
fn a_view_follows_links_as_the_kernel_does_and_stays_inside() {
    let world = World::new();
    let base: &[Raw] = &[
        file("etc/passwd", "root"),
        symlink("etc/link", "../../../../etc/passwd"),
        symlink("etc/dir", "/etc"),
        symlink("loop", "loop"),
        symlink("dangling", "nowhere"),
        file("usr/bin/sh", "sh"),
        symlink("bin", "usr/bin"),
    ];
    let top: &[Raw] = &[file("usr/bin/.wh.sh", ""), file("usr/bin/bash", "bash")];
    let rootfs = world.unpack(&image(&[base, top]), Isolation::Ns).unwrap();
    let view = rootfs.view().unwrap();
    let real = |path: &str, follow| {
        let found = view.find(path, follow).unwrap();
        found.map(|found| found.path.map_or("/".to_owned(), |path| path.to_string()))
    };
    for (path, last, not_last) in [
        ("/etc/link", Some("etc/passwd"), Some("etc/link")),
        ("etc/dir/dir/passwd", Some("etc/passwd"), Some("etc/passwd")),
        ("/bin/bash", Some("usr/bin/bash"), Some("usr/bin/bash")),
        ("/bin/sh", None, None),
        ("/../../bin/../lib", None, None),
        ("/bin/../..", Some("/"), Some("/")),
        ("/dangling", None, Some("dangling")),
        ("/etc/passwd/x", None, None),
        ("", Some("/"), Some("/")),
    ] {
        assert_eq!(real(path, Follow::Last).as_deref(), last, "{path}");
        assert_eq!(real(path, Follow::NotLast).as_deref(), not_last, "{path}");
    }
    assert!(view.find("/loop", Follow::Last).is_err());
    let names = |folder: Option<&str>| {
        let folder = folder.map(|path| path.parse().unwrap());
        let children = view.children(folder.as_ref()).unwrap();
        children.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["bin", "dangling", "etc", "loop", "usr"]);
    assert_eq!(names(Some("usr/bin")), ["bash"]);
    assert_eq!(read(&view, "/etc/link").as_deref(), Some("root"));
    assert_eq!(read(&view, "/etc"), None);
    let error = refusal(view.read("/etc/passwd", 3)).to_string();
    assert!(error.contains("at most 3 are taken"), "{error}");
}

#[test]
fn a_part_of_a_view_is_a_tree_with_its_hard_links() {
    let world = World::new();
    let entries = [file("a/b/x", "same"), hard_link("a/y", "a/b/x"), hard_link("z", "a/b/x")];
    let view = world.layer(&entries, Isolation::Ns).unwrap().view().unwrap();
    let tree = view.tree(Some(&"a".parse().unwrap())).unwrap();
    let names: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(names, ["b", "b/x", "y"]);
    let link = &tree.get(&"y".parse().unwrap()).unwrap().kind;
    assert_eq!(link, &EntryKind::HardLink("b/x".parse().unwrap()));
    let single = view.tree(Some(&"a/b/x".parse().unwrap())).unwrap();
    assert_eq!(single.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["x"]);
}

/// Every odd layer of these tests at once, over a base with a shell.
fn odd_layers(busybox: &[u8]) -> Vec<Vec<Raw>> {
    let mut shell = file("bin/busybox", "").mode(0o755);
    shell.content = busybox.to_vec();
    vec![
        vec![
            shell,
            file("keep", "1"),
            file("gone", "1"),
            file("dir/a", "1"),
            file("dir/b", "1"),
            file("opaque/a", "1"),
            file("again/a", "1"),
            file("file-to-dir", "1"),
            file("dir-to-file/x", "1"),
            symlink("link", "keep"),
        ],
        vec![
            file(".wh.gone", ""),
            file("dir/.wh.a", ""),
            file("opaque/.wh..wh..opq", ""),
            file("opaque/b", "2"),
            file(".wh.again", ""),
            file("file-to-dir/x", "2"),
            file("dir-to-file", "2"),
            hard_link("dir-to-file-too", "dir-to-file"),
        ],
        vec![file("again/b", "3"), file("keep", "3").mode(0o600), file("opaque/.wh.b", "")],
    ]
}

/// The kernel's merge of a root file system: a path and a content or kind on each line.
fn as_mounted(rootfs: &Rootfs, isolation: Isolation) -> BTreeMap<String, String> {
    let fork = rootfs.fork().unwrap();
    let script = "cd /; /bin/busybox find keep gone dir opaque again file-to-dir dir-to-file \
        dir-to-file-too link 2>/dev/null | while read f; do if [ -d $f ]; then echo $f dir; \
        else echo $f $(/bin/busybox cat $f); fi; done > /result";
    shell(fork.root(), isolation, script);
    let result = read(&fork.view().unwrap(), "/result").unwrap();
    let lines = result.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(path, what)| (path.to_owned(), what.to_owned())).collect()
}

#[test]
fn the_kernel_merges_the_layers_to_what_the_view_shows() {
    need!(root("mounting as root"));
    let busybox = fs::read(need!(program("busybox"))).unwrap();
    let layers = odd_layers(&busybox);
    let layers: Vec<&[Raw]> = layers.iter().map(Vec::as_slice).collect();
    for isolation in [Isolation::NsRoot, Isolation::InContainer, Isolation::Ns, Isolation::NsCopy] {
        let world = World::new();
        let rootfs = world.unpack(&image(&layers), isolation).unwrap();
        let view = rootfs.view().unwrap();
        let mut expected = BTreeMap::new();
        for path in paths(&view).into_iter().filter(|path| !path.starts_with("bin")) {
            let what = read(&view, &path).unwrap_or_else(|| "dir".to_owned());
            expected.insert(path, what);
        }
        assert_eq!(as_mounted(&rootfs, isolation), expected, "{isolation}");
    }
}
