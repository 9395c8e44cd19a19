//! Layers that mean harm. Each is unpacked in every form, with something outside that it must not
//! reach; what is legal among them must come out as in Docker.

use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use fs_err as fs;
use gondola::cache::{Policy, prune};
use gondola::error::ErrorKind;
use gondola::oci::Digest;
use gondola::sandbox::Isolation;
use gondola::store::Store;

use super::archive::{
    Raw, archive, device, fifo, file, folder, gzip, hard_link, image, image_of, image_of_blobs,
    other, symlink,
};
use super::support::{need, root};
use super::world::{World, left_in, list, listing, paths, read, refusal};

/// One isolation for each form.
const ISOLATIONS: [Isolation; 3] = [Isolation::NsRoot, Isolation::InContainer, Isolation::Ns];

/// A layer is refused, in every form, and leaves nothing.
#[track_caller]
fn refused(entries: &[Raw], why: &str) {
    for isolation in ISOLATIONS {
        let world = World::new();
        let error = refusal(world.layer(entries, isolation)).to_string();
        assert!(error.contains(why), "{isolation}: {error}");
        assert!(!error.contains('\x1b'), "{error:?}");
        assert!(!world.path("store/gondola/rootfs").join("trusted").exists());
        world.is_untouched();
    }
}

/// A layer is unpacked, in every form, and holds these paths.
#[track_caller]
fn holds(entries: &[Raw], expected: &[&str]) {
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.layer(entries, isolation).unwrap();
        assert_eq!(paths(&rootfs.view().unwrap()), expected, "{isolation}");
        world.is_untouched();
    }
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    for path in ["../outside/new", "a/../../outside/new", "..", "/..", "a/.."] {
        refused(&[file(path, "x")], "it has a part \"..\"");
    }
    refused(&[file("a", "x").record("path", b"a\0b")], "NUL");
    refused(&[file("x/".repeat(2100) + "y", "x")], "longer than 4095 bytes");
    refused(&[file("x".repeat(256), "x")], "longer than 255 bytes");
    refused(&[file("\x1b[31m/..", "x")], "it has a part \"..\"");
}

#[test]
fn absolute_and_empty_names_mean_places_in_the_image() {
    holds(&[file("/etc/passwd", "x")], &["etc", "etc/passwd"]);
    holds(&[folder("./"), folder("/"), folder(".")], &[]);
    holds(&[file("\x1b]0;x\x07", "x")], &["\u{1b}]0;x\u{7}"].map(|_| "\\u{1b}]0;x\\u{7}"));
}

#[test]
fn a_path_of_many_parts_takes_no_longer_than_it_is_long() {
    let deep = "d/".repeat(2000) + "f";
    let world = World::new();
    let entries: Vec<Raw> = (0..20).map(|n| file(format!("{deep}{n}"), "x")).collect();
    let rootfs = world.layer(&entries, Isolation::Ns).unwrap();
    let found = rootfs.view().unwrap().find(&("/d".repeat(500)), gondola::rootfs::Follow::Last);
    assert!(found.unwrap().unwrap().entry.is_directory());
    world.is_untouched();
}

#[test]
fn a_link_out_of_the_image_leads_to_a_place_inside() {
    let world = World::new();
    let outside = world.outside().display().to_string();
    for target in [outside.as_str(), "../../../../../../../../outside", "/proc/self/root"] {
        for isolation in ISOLATIONS {
            let world = World::new();
            let entries = [symlink("link", target), file("link/new", "x"), folder("link/kept")];
            let rootfs = world.layer(&entries, isolation).unwrap();
            let inside = target.trim_start_matches("../").trim_start_matches('/');
            let view = rootfs.view().unwrap();
            assert_eq!(read(&view, &format!("/{inside}/new")).as_deref(), Some("x"));
            assert_eq!(read(&view, "/link/new").as_deref(), Some("x"));
            world.is_untouched();
        }
    }
    world.is_untouched();
}

#[test]
fn a_second_entry_replaces_a_link_and_does_not_follow_it() {
    let world = World::new();
    let outside = world.outside().join("kept").display().to_string();
    let second = [
        file("x", "new").mode(0o777).owner(5, 5),
        folder("x").mode(0o700),
        symlink("x", "elsewhere"),
        fifo("x"),
        device(b'3', "x", 1, 3),
    ];
    for entry in second {
        for isolation in ISOLATIONS {
            let rootfs = world.layer(&[symlink("x", &outside), entry.clone()], isolation).unwrap();
            let listing = listing(&rootfs.view().unwrap());
            assert_eq!(listing.len(), 1);
            assert!(!listing[0].contains("kept"), "{listing:?}");
            world.is_untouched();
        }
    }
    // A folder is no reason to follow the link that stands for one, nor is its mode.
    let outside = world.outside().display().to_string();
    let rootfs =
        world.layer(&[symlink("x", &outside), folder("x"), file("x/y", "")], Isolation::Ns);
    assert_eq!(paths(&rootfs.unwrap().view().unwrap()), ["x", "x/y"]);
    world.is_untouched();
}

#[test]
fn a_loop_of_links_is_refused() {
    refused(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "")], "open its folder");
    refused(&[file("a", ""), file("a/x", "")], "open its folder");
}

#[test]
fn hard_links_stay_inside() {
    let world = World::new();
    let kept = world.outside().join("kept").display().to_string();
    refused(&[hard_link("x", &kept)], "has no such file before this entry");
    refused(&[hard_link("x", "../outside/kept")], "it has a part \"..\"");
    refused(&[hard_link("x", "later"), file("later", "")], "has no such file before this entry");
    refused(&[folder("a"), hard_link("x", "a")], "it is no file");
    let out = world.outside().display().to_string();
    refused(&[symlink("out", &out), hard_link("x", "out/kept")], "has no such file");
    // A link to a link is the link again.
    holds(&[symlink("a", &kept), hard_link("b", "a")], &["a", "b"]);
    let entries =
        [file("a", "same"), hard_link("b", "/a"), symlink("d", "."), hard_link("c", "d/a")];
    for isolation in ISOLATIONS {
        let world = World::new();
        let view = world.layer(&entries, isolation).unwrap().view().unwrap();
        let lines = listing(&view).join("\n");
        assert!(lines.contains(" b => a") && lines.contains(" c => a"), "{lines}");
    }
    world.is_untouched();
}

#[test]
fn a_hard_link_to_itself_changes_nothing() {
    let world = World::new();
    let view = world.layer(&[file("a", "x"), hard_link("a", "a")], Isolation::Ns).unwrap().view();
    assert_eq!(read(&view.unwrap(), "/a").as_deref(), Some("x"));
}

#[test]
fn devices_and_pipes_are_described_and_never_opened() {
    need!(root("making devices"));
    let entries = [
        fifo("pipe").mode(0o640).owner(3, 4),
        device(b'3', "null", 1, 3).owner(0, 5),
        device(b'4', "disk", 8, 17).mode(0o660),
        file("pipe2", "x"),
        fifo("pipe2"),
    ];
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.layer(&entries, isolation).unwrap();
        let expected = [
            "b 0660 0:0 1000 disk 8 17",
            "c 0666 0:5 1000 null 1 3",
            "p 0640 3:4 1000 pipe",
            "p 0644 0:0 1000 pipe2",
        ];
        assert_eq!(listing(&rootfs.view().unwrap()), expected, "{isolation}");
        let null = fs::symlink_metadata(rootfs.layers()[0].join("null")).unwrap();
        assert_eq!(null.file_type().is_file(), isolation != Isolation::NsRoot, "{isolation}");
    }
    refused(&[device(b'3', "x", 1, 3).record("uid", b"99999999999")], "32 bits");
}

#[test]
fn modes_of_every_sort_are_kept_and_hinder_nobody() {
    need!(root("giving files away"));
    let entries = [
        folder("closed").mode(0),
        file("closed/secret", "x").mode(0),
        folder("closed/in").mode(0o500),
        file("closed/in/y", "y").mode(0o200),
        file("su", "x").mode(0o6755).owner(0, 7),
        folder("tmp").mode(0o1777).mtime(5),
    ];
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.layer(&entries, isolation).unwrap();
        let expected = [
            "d 0000 0:0 1000 closed",
            "d 0500 0:0 1000 closed/in",
            "f 0200 0:0 1000 closed/in/y <1 bytes>",
            "f 0000 0:0 1000 closed/secret <1 bytes>",
            "f 6755 0:7 1000 su <1 bytes>",
            "d 1777 0:0 5 tmp",
        ];
        assert_eq!(listing(&rootfs.view().unwrap()), expected, "{isolation}");
    }
}

#[test]
fn types_that_layers_do_not_have_are_refused() {
    refused(&[other(b'V', "volume")], "no type that layers have");
    refused(&[other(b'D', "dump")], "no type that layers have");
}

#[test]
fn whiteouts_without_a_name_and_with_contents_are_refused() {
    for path in [".wh.", "a/.wh..", ".wh..."] {
        refused(&[file(path, "")], "it hides no name that a file can have");
    }
    refused(&[file(".wh.x/y", "")], "a whiteout has nothing in it");
    holds(&[file(".wh..wh.aufs", ""), folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "")], &[]);
}

#[test]
fn a_whiteout_behind_a_link_hides_nothing_outside() {
    for isolation in ISOLATIONS {
        let world = World::new();
        let outside = world.outside().display().to_string();
        let hostile: &[Raw] =
            &[symlink("out", &outside), file("out/.wh.kept", ""), file("out/.wh..wh..opq", "")];
        world.unpack(&image(&[&[file("a", "")], hostile]), isolation).unwrap();
        world.is_untouched();
    }
}

#[test]
fn records_override_paths_links_and_sizes() {
    let entries = [
        file("short", "x").record("path", "records/say"),
        symlink("link", "wrong").record("linkpath", "right"),
    ];
    for isolation in ISOLATIONS {
        let world = World::new();
        let lines = listing(&world.layer(&entries, isolation).unwrap().view().unwrap());
        assert!(lines.iter().any(|line| line.ends_with("records/say <1 bytes>")), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with("link -> right")), "{lines:?}");
    }
    refused(&[file("x", "abc").record("path", "../outside/new")], "it has a part");
    // A global header changes nothing.
    holds(
        &[Raw { content: b"19 path=../outside\n".to_vec(), ..other(b'g', "g") }, file("a", "")],
        &["a"],
    );
}

#[test]
fn owners_and_times_beyond_the_system_are_refused_or_kept() {
    refused(&[file("x", "").owner(u64::from(u32::MAX), 0)], "32 bits");
    refused(&[file("x", "").owner(0, 1 << 40)], "32 bits");
    let world = World::new();
    let entries =
        [file("x", "").record("mtime", "-5"), file("y", "").record("mtime", "99999999999")];
    let lines = listing(&world.layer(&entries, Isolation::Ns).unwrap().view().unwrap());
    assert!(lines[0].starts_with("f 0644 0:0 -5 x"), "{lines:?}");
}

#[test]
fn attributes_of_the_system_an_overlay_or_ours_are_left_out() {
    need!(root("setting trusted attributes"));
    let mut entries = Vec::new();
    for path in ["file", "folder"] {
        let entry = if path == "file" { file(path, "") } else { folder(path) };
        let entry = entry
            .xattr("user.overlay.opaque", "y")
            .xattr("user.overlay.whiteout", "y")
            .xattr("user.overlay.redirect", "/etc")
            .xattr("user.overlay.metacopy", "")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("trusted.overlay.redirect", "/etc")
            .xattr("user.gondola.owner", "0:0")
            .xattr("user.gondola.device", "b 8 0")
            .xattr("security.selinux", "x")
            .xattr("user.mine", "kept");
        entries.push(entry);
    }
    let base: &[Raw] = &[file("folder/below", "x"), file("file", "old")];
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.unpack(&image(&[base, &entries]), isolation).unwrap();
        for path in ["file", "folder"] {
            let found = rootfs.layers()[1].join(path);
            let mut names = vec![0; 4096];
            let length = rustix::fs::listxattr(&found, names.as_mut_slice()).unwrap();
            assert_eq!(&names[..length], b"user.mine\0", "{isolation} {path}");
        }
        let view = rootfs.view().unwrap();
        assert_eq!(read(&view, "/folder/below").as_deref(), Some("x"), "{isolation}");
        assert_eq!(read(&view, "/file").as_deref(), Some(""), "{isolation}");
    }
}

#[test]
fn a_device_of_an_overlay_hides_only_what_lies_below() {
    for isolation in ISOLATIONS {
        let world = World::new();
        holds(&[device(b'3', "x", 0, 0)], &[]);
        let hostile: &[Raw] = &[device(b'3', "x", 0, 0)];
        let rootfs = world.unpack(&image(&[&[file("x", ""), file("y", "")], hostile]), isolation);
        assert_eq!(paths(&rootfs.unwrap().view().unwrap()), ["y"]);
    }
}

#[test]
fn sizes_that_are_lies_are_refused() {
    refused(&[file("x", "abc").size(8 << 30)], "it ends in the middle of an entry");
    let sparse = file("x", "abc")
        .record("GNU.sparse.major", "1")
        .record("GNU.sparse.minor", "0")
        .record("GNU.sparse.name", "x")
        .record("GNU.sparse.realsize", (1_u64 << 40).to_string());
    refused(&[sparse], "sparse");
}

#[test]
fn truncated_and_wrong_blobs_are_refused() {
    let whole = archive(&[file("a", "content"), file("b", "content")]);
    let compressed = gzip(&whole);
    let wrong_id = Digest::of(b"something else");
    let junk = [compressed.as_slice(), b"junk"].concat();
    let cases = [
        (compressed[..compressed.len() / 2].to_vec(), Digest::of(&whole), "cannot unpack layer"),
        (gzip(&whole[..700]), Digest::of(&whole[..700]), "it ends in the middle of an entry"),
        (compressed.clone(), wrong_id, "the config says"),
        (junk, Digest::of(&whole), "cannot unpack layer"),
    ];
    for (bytes, diff_id, why) in cases {
        let world = World::new();
        let image = image_of_blobs([(bytes, diff_id)]);
        let error = refusal(world.unpack(&image, Isolation::Ns)).to_string();
        assert!(error.contains(why), "{error}");
        assert!(!world.path("store/gondola/rootfs/recorded").exists());
        world.is_untouched();
    }
    // More members than one are one archive.
    let (first, second) = whole.split_at(600);
    let members = [gzip(first), gzip(second)].concat();
    let world = World::new();
    let image = image_of_blobs([(members, Digest::of(&whole))]);
    let view = world.unpack(&image, Isolation::Ns).unwrap().view().unwrap();
    assert_eq!(paths(&view), ["a", "b"]);
}

#[test]
fn a_blob_that_is_not_what_its_digest_names_is_refused() {
    let world = World::new();
    let whole = archive(&[file("a", "content")]);
    let mut image = image_of(&[whole]);
    image.layers[0].source =
        gondola::image::BlobLocation::Memory(gzip(&archive(&[file("b", "")])).into());
    let error = refusal(world.unpack(&image, Isolation::Ns));
    assert!(error.to_string().contains("content of sha256:"), "{error}");
    assert!(!world.path("store/gondola/rootfs/recorded").exists());
}

#[test]
fn a_failed_layer_leaves_the_others_and_no_rest() {
    let world = World::new();
    let good = archive(&[file("a", "content")]);
    let bad = archive(&[file("../b", "content")]);
    let error = refusal(world.unpack(&image_of(&[good, bad]), Isolation::Ns));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    world.is_untouched();
    // The end of the process takes everything that was unfinished with it.
    let root = world.store.root().to_owned();
    let folder = world.into_folder();
    let store = Store::open(&root).unwrap();
    prune(&store, &Policy::default(), SystemTime::UNIX_EPOCH).unwrap();
    drop(store);
    assert_eq!(left_in(&root.join("gondola/work")), [""; 0]);
    drop(folder);
}

#[test]
fn an_entry_that_replaces_a_folder_takes_what_was_in_it() {
    let entries = [
        file("a/b/c", "x"),
        file("a", "now a file"),
        folder("d"),
        file("d/e", ""),
        symlink("d", "a"),
    ];
    for isolation in ISOLATIONS {
        let world = World::new();
        let rootfs = world.layer(&entries, isolation).unwrap();
        assert_eq!(paths(&rootfs.view().unwrap()), ["a", "d"]);
        let outer = rootfs.layers()[0].parent().unwrap().to_owned();
        assert!(!list(&outer).iter().any(|name| name.contains("removed")), "{:?}", list(&outer));
        assert_eq!(fs::metadata(rootfs.layers()[0].join("a")).unwrap().size(), 10);
    }
}
