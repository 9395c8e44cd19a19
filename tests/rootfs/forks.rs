//! What a step writes, as a tree; and that tree in Docker.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use gondola::image::{Blob, Draft, Image, Layer, TaggedArtifact};
use gondola::layer::{Encoding, Entry, EntryKind, Tree, WriteOptions};
use gondola::oci::{Descriptor, History, MediaType};
use gondola::rootfs::{Fork, Rootfs, View};
use gondola::sandbox::Isolation;
use gondola::transport::{self, Location};

use super::archive::{Raw, device, fifo, file, folder, hard_link, image, symlink};
use super::support::{Docker, need, program, root};
use super::world::{World, block_on, line, paths, read, shell};

/// A base with a shell and something to change.
pub fn base(busybox: &Path) -> Vec<Raw> {
    let mut shell = file("bin/busybox", "").mode(0o755);
    shell.content = fs::read(busybox).unwrap();
    vec![
        folder("./").mtime(500),
        folder("bin").mtime(500),
        shell,
        folder("etc").mtime(500),
        file("etc/passwd", "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n").mtime(500),
        folder("etc/conf.d").mtime(500),
        file("etc/conf.d/a", "a"),
        file("etc/conf.d/b", "b"),
        folder("srv").owner(33, 33).mode(0o750).mtime(500),
        file("srv/data", "data").owner(33, 33).mode(0o640),
        symlink("srv/link", "data").owner(33, 33),
        file("tree/x/y", "1"),
        file("tree/z", "1"),
        hard_link("tree/z2", "tree/z"),
        folder("tmp").mode(0o1777).mtime(500),
        folder("dev").mtime(500),
        folder("proc").mtime(500),
    ]
}

/// What a step of a build might do.
pub const STEP: &str = "PATH=/bin; B=/bin/busybox
    echo new > /etc/new; $B touch -d @700 /etc/new
    $B rm /etc/conf.d/a
    $B rm -r /tree/x; $B mkdir /tree/x; echo 2 > /tree/x/n
    $B mv /tree/z /tree/renamed
    $B ln /etc/new /etc/new2
    $B ln -s new /etc/newlink
    $B chmod 4711 /srv/data
    $B mkfifo /srv/pipe
    $B mkdir -p /opt/deep/er; $B chmod 700 /opt/deep
    $B rm -r /etc/conf.d; echo file > /etc/conf.d
    $B rm /srv/link; $B ln -s elsewhere /srv/link";

fn changes_of(fork: &Fork, isolation: Isolation, script: &str) -> Tree {
    let stubs = shell(fork.root(), isolation, script);
    fork.changes(&stubs).unwrap()
}

/// The lines of a tree, with `T` for times that a step gave by its clock.
pub fn lines(tree: &Tree) -> Vec<String> {
    let lines = tree.iter().map(|(path, mut entry)| {
        let recent = entry.mtime > 1_000_000;
        entry.mtime = if recent { 0 } else { entry.mtime };
        let line = line(&path.to_string(), &entry);
        if recent { line.replacen(" 0 ", " T ", 1) } else { line }
    });
    lines.collect()
}

/// What [`STEP`] changes, as every isolation must tell it; those that copy cannot see that a folder was
/// replaced by another of its name.
pub fn expected(isolation: Isolation) -> Vec<&'static str> {
    let in_overlay = isolation.has_overlay();
    let mut lines = vec![
        "d 0755 0:0 T etc",
        "f 0644 0:0 T etc/conf.d <5 bytes>",
        "f 0644 0:0 700 etc/new <4 bytes>",
        "h 0644 0:0 700 etc/new2 => etc/new",
        "l 0777 0:0 T etc/newlink -> new",
        "d 0755 0:0 T opt",
        "d 0700 0:0 T opt/deep",
        "d 0755 0:0 T opt/deep/er",
        "d 0750 33:33 T srv",
        "f 4711 33:33 1000 srv/data <4 bytes>",
        "l 0777 0:0 T srv/link -> elsewhere",
        "p 0644 0:0 T srv/pipe",
        "d 0755 0:0 T tree",
        "f 0000 0:0 T tree/.wh.z <0 bytes>",
    ];
    if in_overlay {
        lines.push("f 0644 0:0 1000 tree/renamed <1 bytes>");
        lines.push("d 0755 0:0 T tree/x");
        lines.push("f 0000 0:0 T tree/x/.wh..wh..opq <0 bytes>");
        lines.push("f 0644 0:0 T tree/x/n <2 bytes>");
    } else {
        // The renamed file has another name that was not touched: it is told of as well.
        lines.push("f 0644 0:0 1000 tree/renamed <1 bytes>");
        lines.push("d 0755 0:0 T tree/x");
        lines.push("f 0000 0:0 T tree/x/.wh.y <0 bytes>");
        lines.push("f 0644 0:0 T tree/x/n <2 bytes>");
        lines.push("h 0644 0:0 1000 tree/z2 => tree/renamed");
    }
    lines
}

#[test]
fn what_a_step_wrote_becomes_a_tree() {
    need!(root("mounting as root"));
    let busybox = need!(program("busybox"));
    for isolation in [Isolation::NsRoot, Isolation::InContainer] {
        let world = World::new();
        let rootfs = world.layer(&base(&busybox), isolation).unwrap();
        let fork = rootfs.fork().unwrap();
        let tree = changes_of(&fork, isolation, STEP);
        assert_eq!(lines(&tree), expected(isolation), "{isolation}");
    }
}

#[test]
fn names_of_a_file_in_several_folders_are_links_to_the_first_of_them() {
    need!(root("mounting as root"));
    let busybox = need!(program("busybox"));
    // The first name is what the others are made of. A name at the root stands behind those in `a`.
    let names = ["a/deep/er/f", "b/f", "c", "d/e/f"];
    for isolation in [Isolation::NsRoot, Isolation::NsCopy, Isolation::InContainer] {
        let world = World::new();
        let rootfs = world.layer(&base(&busybox), isolation).unwrap();
        for made in names {
            let fork = rootfs.fork().unwrap();
            let others = names.iter().rev().filter(|name| **name != made);
            let links: Vec<String> = others.map(|name| format!("$B ln /{made} /{name}")).collect();
            let script = format!(
                "B=/bin/busybox; $B mkdir -p /a/deep/er /b /d/e; echo 1 > /{made}; {}",
                links.join("; ")
            );
            let tree = changes_of(&fork, isolation, &script);
            let expected = [
                "d 0755 0:0 T a",
                "d 0755 0:0 T a/deep",
                "d 0755 0:0 T a/deep/er",
                "f 0644 0:0 T a/deep/er/f <2 bytes>",
                "d 0755 0:0 T b",
                "h 0644 0:0 T b/f => a/deep/er/f",
                "h 0644 0:0 T c => a/deep/er/f",
                "d 0755 0:0 T d",
                "d 0755 0:0 T d/e",
                "h 0644 0:0 T d/e/f => a/deep/er/f",
            ];
            assert_eq!(lines(&tree), expected, "{isolation}, made of {made}");
            let file = tree.get(&"a/deep/er/f".parse().unwrap()).unwrap();
            let EntryKind::File(content) = file.kind else { panic!("{isolation}: no file") };
            assert_eq!(content.bytes().unwrap(), "1\n", "{isolation}");
        }
    }
}

#[test]
fn a_step_that_changes_nothing_leaves_an_empty_tree() {
    need!(root("mounting as root"));
    let busybox = need!(program("busybox"));
    for isolation in [Isolation::NsRoot, Isolation::NsCopy, Isolation::InContainer] {
        let world = World::new();
        let rootfs = world.layer(&base(&busybox), isolation).unwrap();
        let fork = rootfs.fork().unwrap();
        // What is mounted on is made for it: /etc/resolv.conf, /sys, /dev/shm and others.
        let tree = changes_of(&fork, isolation, "/bin/busybox cat /etc/passwd >/dev/null");
        assert_eq!(lines(&tree), Vec::<String>::new(), "{isolation}");
        let tree = fork.changes(&[]).unwrap();
        assert_eq!(lines(&tree), Vec::<String>::new(), "{isolation}: again");
    }
}

#[test]
fn what_is_mounted_on_stays_where_a_step_filled_it_and_its_folder_keeps_the_steps_time() {
    need!(root("mounting as root"));
    let busybox = need!(program("busybox"));
    let world = World::new();
    let rootfs = world.layer(&base(&busybox), Isolation::NsRoot).unwrap();
    let fork = rootfs.fork().unwrap();
    let tree = changes_of(&fork, Isolation::NsRoot, "echo x > /etc/mine; /bin/busybox sleep 0.1");
    assert_eq!(lines(&tree), ["d 0755 0:0 T etc", "f 0644 0:0 T etc/mine <2 bytes>"]);
}

#[test]
fn several_whiteouts_of_one_device_are_whiteouts_and_no_links() {
    need!(root("mounting as root"));
    let busybox = need!(program("busybox"));
    let world = World::new();
    let rootfs = world.layer(&base(&busybox), Isolation::NsRoot).unwrap();
    let fork = rootfs.fork().unwrap();
    let script = "/bin/busybox rm /etc/conf.d/a /etc/conf.d/b /srv/data /tree/z";
    let tree = changes_of(&fork, Isolation::NsRoot, script);
    let hidden: Vec<String> =
        lines(&tree).into_iter().filter(|line| line.contains(".wh.")).collect();
    assert_eq!(hidden.len(), 4, "{hidden:?}");
    assert!(hidden.iter().all(|line| line.starts_with("f 0000")), "{hidden:?}");
}

#[test]
fn kept_changes_are_a_layer_that_is_found_again() {
    need!(root("mounting as root"));
    let busybox = need!(program("busybox"));
    for isolation in [Isolation::NsRoot, Isolation::InContainer] {
        let world = World::new();
        let rootfs = world.layer(&base(&busybox), isolation).unwrap();
        let fork = rootfs.fork().unwrap();
        shell(fork.root(), isolation, STEP);
        let before = paths(&fork.view().unwrap());
        let (kept, id) = fork.keep(None).unwrap();
        assert_eq!(paths(&kept.view().unwrap()), before, "{isolation}");
        let again = world.unpacker(isolation).kept(&id).unwrap().unwrap();
        assert_eq!(again.layers(), kept.layers());
        let fork = again.fork().unwrap();
        let tree =
            changes_of(&fork, isolation, "/bin/busybox rm /etc/new2; echo more >> /etc/conf.d");
        let mut expected = vec![
            "d 0755 0:0 T etc",
            "f 0000 0:0 T etc/.wh.new2 <0 bytes>",
            "f 0644 0:0 T etc/conf.d <10 bytes>",
        ];
        if !isolation.has_overlay() {
            // It had two names.
            expected.push("f 0644 0:0 700 etc/new <4 bytes>");
        }
        assert_eq!(lines(&tree), expected, "{isolation}");
        assert!(world.unpacker(isolation).kept("step-0123").unwrap().is_none());
    }
}

#[test]
fn a_fork_that_is_dropped_leaves_nothing() {
    let world = World::new();
    let rootfs = world.layer(&[file("a", "")], Isolation::NsRoot).unwrap();
    let fork = rootfs.fork().unwrap();
    fork.apply(&tree_of(&[("b", Entry::file("x", 0o600))])).unwrap();
    assert_eq!(paths(&fork.view().unwrap()), ["a", "b"]);
    drop(fork);
    assert_eq!(paths(&rootfs.view().unwrap()), ["a"]);
}

fn tree_of(entries: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::new();
    for (path, entry) in entries {
        tree.insert(path.parse().unwrap(), entry.clone()).unwrap();
    }
    tree
}

/// What a tree makes of a base, in every form, in an overlay and in a copy.
fn applied(entries: &[Raw], change: impl Fn(&mut Tree), check: impl Fn(&View, &str)) {
    for isolation in [
        Isolation::NsRoot,
        Isolation::NsSubuid,
        Isolation::Ns,
        Isolation::InContainer,
        Isolation::NsCopy,
    ] {
        let world = World::new();
        let rootfs = world.layer(entries, isolation).unwrap();
        let mut tree = Tree::new();
        change(&mut tree);
        let fork = rootfs.fork().unwrap();
        fork.apply(&tree).unwrap();
        check(&fork.view().unwrap(), isolation.as_str());
        let (kept, _) = fork.keep(None).unwrap();
        check(&kept.view().unwrap(), isolation.as_str());
    }
}

#[test]
fn a_tree_is_written_over_what_lower_layers_have() {
    need!(root("giving files away"));
    let base = [
        folder("dir").owner(1, 1).mode(0o700).mtime(7),
        file("dir/old", "1"),
        file("file", "1"),
        folder("full"),
        file("full/x", "1"),
    ];
    let content = tempfile::NamedTempFile::new().unwrap();
    fs::write(content.path(), "from a file").unwrap();
    let change = |tree: &mut Tree| {
        let mut put = |path: &str, entry: Entry| tree.insert(path.parse().unwrap(), entry).unwrap();
        let content = gondola::layer::Content::from_file(content.path()).unwrap();
        put("dir/new", Entry::file(content, 0o4755).owned_by(5, 6).modified(9));
        put("dir/new-too", Entry::new(EntryKind::HardLink("dir/new".parse().unwrap()), 0o4755));
        put("dir/link", Entry::symlink("new").owned_by(5, 6).modified(9));
        put("file", Entry::directory(0o750).modified(9));
        put("file/in", Entry::file("2", 0o644).modified(9));
        put("full", Entry::file("now a file", 0o644).modified(9));
        put("new/deep/pipe", Entry::new(EntryKind::Fifo, 0o600).modified(9));
    };
    applied(&base, change, |view, isolation| {
        let expected = [
            // Its time and owner are what they were: the tree has no say in them.
            "d 0700 1:1 7 dir",
            "l 0777 5:6 9 dir/link -> new",
            "f 4755 5:6 9 dir/new <11 bytes>",
            "h 4755 5:6 9 dir/new-too => dir/new",
            "f 0644 0:0 1000 dir/old <1 bytes>",
            "d 0750 0:0 9 file",
            "f 0644 0:0 9 file/in <1 bytes>",
            "f 0644 0:0 9 full <10 bytes>",
            "d 0755 0:0 0 new",
            "d 0755 0:0 0 new/deep",
            "p 0600 0:0 9 new/deep/pipe",
        ];
        assert_eq!(super::world::listing(view), expected, "{isolation}");
        assert_eq!(read(view, "/dir/new").as_deref(), Some("from a file"), "{isolation}");
    });
}

#[test]
fn whiteouts_of_a_tree_hide_what_lower_layers_and_the_fork_have() {
    let base = [file("a", ""), file("d/x", ""), file("d/y", ""), file("e/x", ""), file("f/x", "")];
    let change = |tree: &mut Tree| {
        tree.insert_whiteout(&"a".parse().unwrap(), 0).unwrap();
        tree.insert_opaque(Some(&"d".parse().unwrap()), 0).unwrap();
        tree.insert("d/new".parse().unwrap(), Entry::file("", 0o644)).unwrap();
        tree.insert_whiteout(&"e/x".parse().unwrap(), 0).unwrap();
        tree.insert_whiteout(&"f".parse().unwrap(), 0).unwrap();
        tree.insert("f".parse().unwrap(), Entry::directory(0o755)).unwrap();
        tree.insert("f/y".parse().unwrap(), Entry::file("", 0o644)).unwrap();
    };
    applied(&base, change, |view, isolation| {
        assert_eq!(paths(view), ["d", "d/new", "e", "f", "f/y"], "{isolation}");
    });
    let everything = |tree: &mut Tree| {
        tree.insert_opaque(None, 0).unwrap();
        tree.insert("n".parse().unwrap(), Entry::file("", 0o644)).unwrap();
    };
    applied(&base, everything, |view, isolation| assert_eq!(paths(view), ["n"], "{isolation}"));
}

#[test]
fn a_tree_does_not_go_through_files() {
    let world = World::new();
    let rootfs = world.layer(&[file("a", ""), symlink("l", "/")], Isolation::NsRoot).unwrap();
    for path in ["a/x", "l/x"] {
        let fork = rootfs.fork().unwrap();
        let error = fork.apply(&tree_of(&[(path, Entry::file("", 0o644))])).unwrap_err();
        assert!(error.to_string().contains("it is no folder"), "{error}");
    }
}

/// The base with the changes as a layer on top.
fn with_layer(base: &Image, tree: &Tree) -> Image {
    let mut bytes = Vec::new();
    let options = WriteOptions { encoding: Encoding::default(), threads: 1 };
    let info = gondola::layer::write(tree, &options, &|_| (), &mut bytes).unwrap();
    let blob = Blob::in_memory(Descriptor::of(MediaType::OCI_LAYER_GZIP, &bytes), bytes.into());
    let mut draft = Draft::from_base(base);
    draft.container().cmd = Some(vec!["/bin/busybox".to_owned()]);
    draft.push_layer(Layer { blob, diff_id: info.diff_id }, History::default());
    draft.finish()
}

/// What Docker's `export` of a container of an image holds.
fn exported(docker: &Docker, world: &World, image: Image) -> BTreeMap<String, String> {
    let archive = world.path("image.tar");
    let named = TaggedArtifact {
        artifact: gondola::image::Artifact::Image(image),
        references: vec!["changed:latest".parse().unwrap()],
    };
    let place: Location = format!("docker-archive:{}", archive.display()).parse().unwrap();
    let context = world.unpacker(Isolation::NsRoot).context;
    block_on(transport::write(&place, &[named], &context)).unwrap();
    docker.load(&archive);
    let id = docker.docker(&["create", "--network=none", "changed:latest"]);
    let exported = world.path("exported.tar");
    docker.docker(&["export", "--output", exported.to_str().unwrap(), id.trim()]);
    let mut found = BTreeMap::new();
    let file = fs::File::open(&exported).unwrap();
    for entry in gondola::layer::entries(file) {
        let entry = entry.unwrap();
        let Some(path) = entry.tree_path().unwrap() else { continue };
        found.insert(path.to_string(), described(&entry));
    }
    fs::remove_file(archive).unwrap();
    fs::remove_file(exported).unwrap();
    found
}

fn described(entry: &gondola::layer::ListedEntry) -> String {
    use gondola::layer::ListedKind;
    let detail = match &entry.kind {
        ListedKind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
        ListedKind::File => entry.size.to_string(),
        ListedKind::CharDevice { major, minor } | ListedKind::BlockDevice { major, minor } => {
            format!("{major} {minor}")
        }
        _ => String::new(),
    };
    let xattrs: Vec<&String> = entry.xattrs.keys().collect();
    let (letter, mode, mtime) = (entry.letter(), entry.mode & 0o7777, entry.mtime);
    format!("{letter} {mode:04o} {}:{} {mtime} {detail} {xattrs:?}", entry.uid, entry.gid)
}

/// What a view holds, in the same words.
fn seen(view: &View) -> BTreeMap<String, String> {
    let tree = view.tree(None).unwrap();
    let mut found = BTreeMap::new();
    for (path, entry) in &tree {
        let (letter, detail) = match &entry.kind {
            EntryKind::File(content) => ('-', content.size().to_string()),
            EntryKind::HardLink(_) => ('-', String::new()),
            EntryKind::Directory => ('d', String::new()),
            EntryKind::Symlink(target) => ('l', String::from_utf8_lossy(target).into_owned()),
            EntryKind::CharDevice { major, minor } => ('c', format!("{major} {minor}")),
            EntryKind::BlockDevice { major, minor } => ('b', format!("{major} {minor}")),
            EntryKind::Fifo => ('p', String::new()),
        };
        let (mode, uid, gid, mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
        let xattrs: Vec<&String> = entry.xattrs.keys().collect();
        let line = format!("{letter} {mode:04o} {uid}:{gid} {mtime} {detail} {xattrs:?}");
        found.insert(path.to_string(), line);
    }
    found
}

/// What Docker makes in every container, whatever the image has.
const DOCKERS_OWN: [&str; 9] = [
    ".dockerenv",
    "dev",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
];
/// Folders that Docker makes, or whose times it changes when it makes the others.
const CHANGED_BY_DOCKER: [&str; 3] = ["etc", "proc", "sys"];

fn compare(docker: &Docker, world: &World, base: &Image, fork: Fork, tree: &Tree) -> Rootfs {
    let expected = seen(&fork.view().unwrap());
    let ignored = |path: &str| DOCKERS_OWN.contains(&path) || CHANGED_BY_DOCKER.contains(&path);
    let mut found = exported(docker, world, with_layer(base, tree));
    found.retain(|path, _| !ignored(path));
    let expected: BTreeMap<_, _> =
        expected.into_iter().filter(|(path, _)| !ignored(path)).collect();
    for (path, line) in &expected {
        assert_eq!(found.get(path), Some(line), "{path}");
    }
    let more: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(more.is_empty(), "Docker has more: {more:?}");
    fork.keep(None).unwrap().0
}

#[test]
fn docker_sees_what_the_sandbox_saw() {
    let docker = need!(Docker::start());
    let busybox = need!(program("busybox"));
    for isolation in [Isolation::NsRoot, Isolation::InContainer] {
        let world = World::new();
        let mut entries = base(&busybox);
        entries.push(device(b'3', "srv/null", 1, 3).owner(0, 33));
        entries.push(fifo("srv/old-pipe").owner(33, 0));
        let mut capable = file("bin/ping", "x").mode(0o755);
        capable = capable.xattr("security.capability", capability());
        entries.push(capable);
        let base = image(&[&entries]);
        let rootfs = world.unpack(&base, isolation).unwrap();
        let fork = rootfs.fork().unwrap();
        let more = "$B chown -h 33:33 /etc/newlink; $B chown 33:33 /etc/new; \
            $B rm /srv/null; $B mkdir -p /a/b; $B touch -d @900 /a/b /a";
        let tree = changes_of(&fork, isolation, &format!("{STEP}\n{more}"));
        compare(&docker, &world, &base, fork, &tree);
    }
}

/// `cap_net_raw+ep`, as images hold it.
fn capability() -> Vec<u8> {
    let mut bytes = 0x0200_0001_u32.to_le_bytes().to_vec();
    bytes.extend((1_u32 << 13).to_le_bytes());
    bytes.resize(20, 0);
    bytes
}

#[test]
fn capabilities_owners_and_attributes_come_through_every_form() {
    need!(root("giving files away"));
    let entries = [
        file("ping", "x").mode(0o755).xattr("security.capability", capability()).owner(0, 9),
        file("marked", "x").xattr("user.mark", "me"),
        symlink("link", "ping").owner(7, 8),
    ];
    for isolation in [Isolation::NsRoot, Isolation::NsSubuid, Isolation::Ns, Isolation::NsCopy] {
        let world = World::new();
        let rootfs = world.layer(&entries, isolation).unwrap();
        let expected = [
            "l 0777 7:8 1000 link -> ping",
            "f 0644 0:0 1000 marked <1 bytes> user.mark",
            "f 0755 0:9 1000 ping <1 bytes> security.capability",
        ];
        assert_eq!(super::world::listing(&rootfs.view().unwrap()), expected, "{isolation}");
        let fork = rootfs.fork().unwrap();
        assert_eq!(super::world::listing(&fork.view().unwrap()), expected, "{isolation}: forked");
        let found = fork.view().unwrap().find("/ping", gondola::rootfs::Follow::Last).unwrap();
        assert_eq!(found.unwrap().entry.xattrs["security.capability"], capability(), "{isolation}");
    }
}
