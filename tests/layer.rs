//! Layers as other programs, and a small machine, see them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::path::Path;
use std::process::Command;

use std::os::unix::fs::{MetadataExt as _, symlink};

use gondola::layer::{
    Content, Encoding, Entry, EntryKind, ListedKind, Tree, TreePath, WriteOptions, decompress,
    detect, entries, write,
};

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

fn write_to(tree: &Tree, encoding: Encoding, file: &Path) {
    let out = fs_err::File::create(file).unwrap();
    write(tree, &WriteOptions { encoding, threads: 2 }, &|_| (), out).unwrap();
}

/// The output of GNU tar; `None`, with a note, where there is none.
fn gnu_tar(arguments: &[&str], archive: &Path) -> Option<String> {
    let version = Command::new("tar").arg("--version").output();
    if !version.is_ok_and(|version| version.stdout.starts_with(b"tar (GNU tar)")) {
        eprintln!("skipped: this machine has no GNU tar");
        return None;
    }
    let mut command = Command::new("tar");
    command.args(arguments).arg("-f").arg(archive).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn every_kind(long: &str) -> Tree {
    let mut tree = Tree::new();
    let mut put = |path: &str, entry: Entry| {
        tree.insert_with_parents(path.parse().unwrap(), entry).unwrap();
    };
    put("app", Entry::file("hello", 0o4755).owned_by(65532, 65532).modified(86_400));
    put("app~", Entry::new(EntryKind::HardLink(path("app")), 0o755));
    put("dev/null", Entry::new(EntryKind::CharDevice { major: 1, minor: 3 }, 0o666));
    put("dev/sda", Entry::new(EntryKind::BlockDevice { major: 8, minor: 17 }, 0o660));
    put("käse", Entry::symlink("名前"));
    put("line\nbreak/é", Entry::file("", 0o600).owned_by(3_000_000, 4_000_000).modified(-86_400));
    put("pipe", Entry::new(EntryKind::Fifo, 0o600).modified(20_000_000_000));
    put(long, Entry::symlink("../".repeat(60)));
    tree
}

#[test]
fn gnu_tar_lists_what_the_tree_has_and_complains_of_nothing() {
    let long = format!("{0}/{0}/{0}", "long".repeat(20));
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("layer.tar.gz");
    write_to(&every_kind(&long), Encoding::default(), &archive);
    let Some(listing) = gnu_tar(&["-tvz", "--numeric-owner"], &archive) else { return };
    let squeezed: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let up = "../".repeat(60);
    let parent = &long[..81];
    assert_eq!(
        squeezed,
        [
            "-rwsr-xr-x 65532/65532 5 1970-01-02 00:00 app",
            "hrwxr-xr-x 0/0 0 1970-01-01 00:00 app~ link to app",
            "drwxr-xr-x 0/0 0 1970-01-01 00:00 dev/",
            "crw-rw-rw- 0/0 1,3 1970-01-01 00:00 dev/null",
            "brw-rw---- 0/0 8,17 1970-01-01 00:00 dev/sda",
            "lrwxrwxrwx 0/0 0 1970-01-01 00:00 käse -> 名前",
            "drwxr-xr-x 0/0 0 1969-12-31 00:00 line\\nbreak/",
            "-rw------- 3000000/4000000 0 1969-12-31 00:00 line\\nbreak/é",
            &format!("drwxr-xr-x 0/0 0 1970-01-01 00:00 {parent}"),
            &format!("drwxr-xr-x 0/0 0 1970-01-01 00:00 {parent}{parent}"),
            &format!("lrwxrwxrwx 0/0 0 1970-01-01 00:00 {long} -> {up}"),
            "prw------- 0/0 0 2603-10-11 11:33 pipe",
        ]
    );
}

#[test]
fn gnu_tar_unpacks_every_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let mut tree = Tree::new();
    tree.insert_with_parents(path("a/b"), Entry::file(content.clone(), 0o640)).unwrap();
    for encoding in ["none", "gzip:1", "gzip:9"] {
        let archive = folder.path().join(encoding);
        write_to(&tree, encoding.parse().unwrap(), &archive);
        let to = folder.path().join(format!("unpacked-{encoding}"));
        fs_err::create_dir(&to).unwrap();
        if gnu_tar(&["-x", "-C", to.to_str().unwrap()], &archive).is_none() {
            return;
        }
        assert!(fs_err::read(to.join("a/b")).unwrap() == content, "{encoding}");
    }
}

#[test]
fn the_forms_that_gnu_tar_writes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    let long = "long".repeat(30);
    fs_err::create_dir_all(from.join(&long)).unwrap();
    fs_err::write(from.join(&long).join("file"), "hello").unwrap();
    symlink(&long, from.join("link")).unwrap();
    let sparse = fs_err::File::create(from.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    for place in 0..30 {
        // More pieces than the header has room for, so that the map goes on behind it.
        std::os::unix::fs::FileExt::write_all_at(sparse.file(), b"x", place << 20).unwrap();
    }
    let uid = fs_err::metadata(&from).unwrap().uid();
    for form in [
        "--format=gnu",
        "--format=oldgnu",
        "--format=pax",
        "--sparse-version=0.1",
        "--sparse-version=0.0",
    ] {
        let archive = folder.path().join(form);
        let arguments = ["-c", "-z", "-S", "--sort=name", form, "-C", from.to_str().unwrap(), "."];
        if gnu_tar(&arguments, &archive).is_none() {
            return;
        }
        let layer = fs_err::read(&archive).unwrap();
        let inside = decompress(detect(&layer), &layer[..]).unwrap();
        let listed: Vec<_> = entries(inside).map(|entry| entry.unwrap()).collect();
        let names: Vec<_> = listed.iter().map(|entry| entry.tree_path().unwrap()).collect();
        let expected =
            ["link", &long, &format!("{long}/file"), "sparse"].map(|name| Some(path(name)));
        assert_eq!(names, [&[None], &expected[..]].concat(), "{form}");
        assert_eq!(listed[1].kind, ListedKind::Symlink(long.clone().into_bytes()), "{form}");
        assert_eq!((listed[3].size, listed[3].sparse), (5, false), "{form}");
        assert_eq!((listed[4].size, listed[4].sparse), (40 << 20, true), "{form}");
        assert!(listed.iter().all(|entry| entry.uid == u64::from(uid)), "{form}");
    }
}

/// The most memory that this process ever held, in KiB.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs_err::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    let mut tree = Tree::new();
    tree.insert(path("large"), Entry::file(Content::from_file(&large).unwrap(), 0o644)).unwrap();
    write_to(&tree, Encoding::default(), &folder.path().join("layer"));
    let peak = peak_memory();
    assert!(peak < 64 << 10, "found {peak} KiB, expected less than 64 MiB");
}
