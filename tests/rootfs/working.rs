//! Steps in working trees: they give what steps on fresh copies give, and a tree is what its layers say
//! whatever was done to it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use gondola::layer::{Entry, EntryKind, Tree};
use gondola::rootfs::{Fork, Rootfs};
use gondola::sandbox::{Isolation, Root};
use rustix::fs::XattrFlags;

use super::archive::{Raw, file, folder, hard_link, symlink};
use super::support::{need, root};
use super::world::{World, line, list};

const ISOLATION: Isolation = Isolation::InContainer;

/// A base with something to change, and so large that a tree of it is worth more than a copy.
fn base() -> Vec<Raw> {
    let large = "x".repeat(1 << 20);
    vec![
        folder("./").mtime(500),
        file("large", &large),
        folder("etc").mtime(500),
        file("etc/passwd", "root:x:0:0::/:/bin/sh\n").mtime(500),
        folder("etc/conf.d").mtime(500),
        file("etc/conf.d/a", "a"),
        file("etc/conf.d/b", "b"),
        folder("srv").owner(33, 33).mode(0o750).mtime(500),
        file("srv/data", "data").owner(33, 33).mode(0o640),
        symlink("srv/link", "data").owner(33, 33),
        folder("tree/x").mtime(500),
        file("tree/x/y", "1"),
        file("tree/z", "1"),
        hard_link("tree/z2", "tree/z"),
        hard_link("tree/x/z3", "tree/z"),
    ]
}

/// What steps do, one after the other.
const STEPS: [&str; 18] = [
    "echo new > etc/new; touch -d @700 etc/new; rm etc/conf.d/a; ln etc/new etc/new2; mkfifo srv/pipe",
    "touch -d @900 etc/passwd",
    // As long as before, and as old.
    "printf DATA > srv/data; touch -d @1000 srv/data; chmod 4711 srv/data",
    "rm -r tree/x; mkdir tree/x; echo 2 > tree/x/n",
    "rm -r etc/conf.d; echo file > etc/conf.d",
    "mv tree/z tree/renamed",
    "echo more >> tree/z2",
    "mv srv moved",
    "rm -r tree; ln -s moved tree",
    "chown 7:8 etc/passwd moved; chown 3:4 etc; chmod 700 etc",
    "rm etc/new2; cp etc/passwd etc/new2; rm etc/new; ln etc/new2 etc/new",
    "touch -d @500 etc; true",
    "rm tree; mkdir -p tree/back; echo back > tree/back/z",
    "rm -r etc",
    "mkdir etc; echo again > etc/passwd; mknod null c 1 3; rm moved/pipe",
    "chown 3:4 .; chmod 711 .; touch -d @800 .",
    "rm etc/passwd; echo again > etc/passwd",
    "true",
];

fn root_of(fork: &Fork) -> PathBuf {
    match fork.root() {
        Root::Folder(folder) => folder,
        other => panic!("no folder: {other:?}"),
    }
}

fn run(fork: &Fork, script: &str) {
    let run = Command::new("sh").args(["-ec", script]).current_dir(root_of(fork)).output().unwrap();
    assert!(run.status.success(), "{script}: {run:?}");
}

/// The lines of a tree with what is in its files, and `T` for times that a step gave by its clock.
fn lines(tree: &Tree) -> Vec<String> {
    let lines = tree.iter().map(|(path, mut entry)| {
        let recent = entry.mtime > 1_000_000;
        entry.mtime = if recent { 0 } else { entry.mtime };
        format!("{} {}", line(&path.to_string(), &entry), text(&entry))
    });
    lines.collect()
}

fn text(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::File(content) if content.size() < 1000 => {
            String::from_utf8(content.bytes().unwrap().to_vec()).unwrap()
        }
        _ => String::new(),
    }
}

/// Everything that a root file system has.
fn all(rootfs: &Rootfs) -> Vec<String> {
    lines(&rootfs.view().unwrap().tree(None).unwrap())
}

/// Everything that a fork has, and what its root is like.
fn all_of(fork: &Fork) -> Vec<String> {
    let view = fork.view().unwrap();
    let root = view.find("/", gondola::rootfs::Follow::Last).unwrap().unwrap().entry;
    let mut lines = lines(&view.tree(None).unwrap());
    lines.push(line("/", &Entry { mtime: 0, ..root }));
    lines
}

/// The same, made by a fork that is a copy.
fn all_of_copy(rootfs: &Rootfs) -> Vec<String> {
    all_of(&rootfs.fork().unwrap())
}

/// The number and change time of a file.
fn file_of(path: &Path) -> (u64, i64, i64) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.ino(), found.ctime(), found.ctime_nsec())
}

/// The numbers and change times of all files below a folder that are no folders.
fn numbers(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let (mut found, mut pending) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), file_of(&path));
        }
    }
    found
}

/// The folders of the trees that nobody uses.
fn trees(world: &World) -> Vec<PathBuf> {
    let folder = world.store.root().join("gondola/rootfs/working");
    if !folder.exists() {
        return Vec::new();
    }
    list(&folder).into_iter().map(|name| folder.join(name).join("fs")).collect()
}

/// A step in a working tree: what it changed, and what is there after it.
fn step(rootfs: &Rootfs, script: &str) -> (Vec<String>, Rootfs) {
    keep(rootfs.fork_in_place().unwrap(), script)
}

fn keep(fork: Fork, script: &str) -> (Vec<String>, Rootfs) {
    run(&fork, script);
    let changes = fork.changes(&[]).unwrap();
    let told = lines(&changes);
    (told, fork.keep(Some(&changes)).unwrap().0)
}

#[test]
fn steps_in_a_working_tree_give_what_steps_on_copies_give() {
    need!(root("owners"));
    let world = World::new();
    let mut copied = vec![world.layer(&base(), ISOLATION).unwrap()];
    let mut in_place = copied.clone();
    let mut large = None;
    for (number, script) in STEPS.iter().enumerate() {
        let (expected, next) = keep(copied[number].fork().unwrap(), script);
        copied.push(next);
        let (told, next) = step(&in_place[number], script);
        in_place.push(next);
        assert_eq!(told, expected, "{script}");
        assert_eq!(all(&in_place[number + 1]), all(&copied[number + 1]), "{script}");
        let [tree] = &trees(&world)[..] else { panic!("{:?}", trees(&world)) };
        let found = file_of(&tree.join("large"));
        assert_eq!(*large.get_or_insert(found), found, "{script}: it was written again");
    }
    // From each point to others, in an order that goes to and fro.
    for number in 0..STEPS.len() * 4 {
        let at = (number * 7 + number / STEPS.len()) % in_place.len();
        let fork = in_place[at].fork_in_place().unwrap();
        assert_eq!(all_of(&fork), all_of_copy(&copied[at]), "after {at} steps");
        assert_eq!(large, Some(file_of(&root_of(&fork).join("large"))), "after {at} steps");
        let (told, _) = keep(fork, "mkdir -p etc; echo branch > etc/passwd; rm -rf tree");
        let copy = copied[at].fork().unwrap();
        let (expected, _) = keep(copy, "mkdir -p etc; echo branch > etc/passwd; rm -rf tree");
        assert_eq!(told, expected, "after {at} steps");
    }
}

#[test]
fn a_second_step_copies_no_file_that_did_not_change() {
    need!(root("owners"));
    let world = World::new();
    let rootfs = world.layer(&base(), ISOLATION).unwrap();
    let source = |text: &str| {
        let mut tree = Tree::new();
        let file = Entry::file(text.to_owned(), 0o644);
        tree.insert_with_parents("src/main".parse().unwrap(), file).unwrap();
        rootfs.with(&tree).unwrap().0
    };
    let (_, first) = step(&source("one"), "cat src/main >out; echo 1 >>etc/passwd");
    let before = numbers(&trees(&world)[0]);
    let fork = source("two").fork_in_place().unwrap();
    let now = numbers(&root_of(&fork));
    let written: Vec<_> =
        now.iter().filter(|(path, number)| before.get(*path) != Some(number)).collect();
    let written: Vec<_> = written.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(written, ["etc/passwd", "src/main"]);
    let (told, second) = keep(fork, "cat src/main >out");
    assert_eq!(told.len(), 1, "{told:?}");
    let read = |rootfs: &Rootfs| rootfs.view().unwrap().read("out", 9).unwrap().unwrap();
    assert_eq!((read(&first), read(&second)), (b"one".to_vec(), b"two".to_vec()));
    // A layer has what changed alone.
    assert!(!second.layers().last().unwrap().join("large").exists());
}

#[test]
fn a_tree_that_somebody_else_touched_is_mended_and_links_lead_nowhere() {
    need!(root("owners"));
    let world = World::new();
    let rootfs = world.layer(&base(), ISOLATION).unwrap();
    let (_, rootfs) = step(&rootfs, "echo 1 >one; mkdir -p deep/er; echo 2 >deep/er/two");
    rootfs.fork_in_place().unwrap().give_up();
    let outside = world.outside();
    let outside = outside.display();
    for touch in [
        "printf DATA >srv/data; touch -d @1000 srv/data",
        "rm -r deep; ln -s OUTSIDE deep; rm -r etc; ln -s OUTSIDE etc",
        "rm one; mkdir one; echo x >one/x; echo more >new; mkfifo pipe",
        "rm tree/z2; echo 1 >tree/z2; touch -d @1000 tree/z2",
        "chmod 777 deep . etc/passwd; chown 5:5 srv",
        "rm -r srv tree",
        "mv etc/conf.d deep/conf.d",
        "ln tree/z further",
    ] {
        let tree = trees(&world).remove(0);
        let large = file_of(&tree.join("large"));
        let touch = touch.replace("OUTSIDE", &outside.to_string());
        let sh = Command::new("sh").args(["-ec", &touch]).current_dir(&tree).status().unwrap();
        assert!(sh.success(), "{touch}");
        let fork = rootfs.fork_in_place().unwrap();
        assert_eq!(all_of(&fork), all_of_copy(&rootfs), "{touch}");
        assert_eq!(file_of(&root_of(&fork).join("large")), large, "{touch}: it is another tree");
        fork.give_up();
        world.is_untouched();
    }
    // A source of the layers that differ may lie behind a link, too.
    let (_, next) = step(&rootfs, "mkdir -p deep/kept; echo 3 >deep/kept/file");
    next.fork_in_place().unwrap().give_up();
    let tree = trees(&world).remove(0);
    fs::remove_dir_all(tree.join("deep")).unwrap();
    std::os::unix::fs::symlink(world.outside(), tree.join("deep")).unwrap();
    let fork = rootfs.fork_in_place().unwrap();
    assert_eq!(all_of(&fork), all_of_copy(&rootfs));
    world.is_untouched();
}

#[test]
fn a_broken_tree_is_not_used() {
    need!(root("owners"));
    let world = World::new();
    let rootfs = world.layer(&base(), ISOLATION).unwrap();
    for breaks in [
        "rm ../record",
        "echo nonsense >../record",
        "echo other >../chain",
        "rm ../chain",
        "rm -r ../fs",
        "rm -r ../fs; ln -s OUTSIDE ../fs",
        "touch ../fs.owners",
    ] {
        rootfs.fork_in_place().unwrap().give_up();
        let tree = trees(&world).remove(0);
        let script = breaks.replace("OUTSIDE", world.outside().to_str().unwrap());
        let sh = Command::new("sh").args(["-ec", &script]).current_dir(&tree).status().unwrap();
        assert!(sh.success(), "{breaks}");
        let fork = rootfs.fork_in_place().unwrap();
        assert_eq!(all_of(&fork), all_of_copy(&rootfs), "{breaks}");
        world.is_untouched();
        drop(fork);
        fs::remove_dir_all(world.store.root().join("gondola/rootfs/working")).unwrap();
    }
}

#[test]
fn attributes_that_a_step_gave_are_gone_with_it() {
    need!(root("owners"));
    let world = World::new();
    let rootfs = world.layer(&base(), ISOLATION).unwrap();
    // Everybody may read what is made in the folder: version 2, and owner, group and others.
    let list: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[4, 0, 7, 0, 255, 255, 255, 255],
        &[32, 0, 7, 0, 255, 255, 255, 255],
    ]
    .concat();
    let fork = rootfs.fork_in_place().unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(root_of(&fork).join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("etc/conf.d", "user.mark", b"1");
    set("etc/conf.d/a", "user.mark", b"1");
    set("srv", "system.posix_acl_default", &list);
    set("srv", "user.overlay.opaque", b"y");
    set("srv/data", "system.posix_acl_access", &list);
    set("", "system.posix_acl_default", &list);
    let changes = fork.changes(&[]).unwrap();
    let paths: Vec<_> = changes.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(paths, ["etc", "etc/conf.d", "etc/conf.d/a", "srv", "srv/data"]);
    let (next, _) = fork.keep(Some(&changes)).unwrap();
    for rootfs in [&next, &rootfs, &next] {
        let fork = rootfs.fork_in_place().unwrap();
        assert_eq!(all_of(&fork), all_of_copy(rootfs));
        let folder = root_of(&fork);
        for (path, name) in [
            ("srv", "system.posix_acl_default"),
            ("srv", "user.overlay.opaque"),
            ("srv/data", "system.posix_acl_access"),
            ("", "system.posix_acl_default"),
        ] {
            assert!(rustix::fs::getxattr(folder.join(path), name, &mut [0; 64]).is_err(), "{name}");
        }
        fork.give_up();
    }
    assert_eq!(trees(&world).len(), 1);
}

#[test]
fn each_user_has_a_tree_and_what_is_dropped_is_gone() {
    need!(root("owners"));
    let world = World::new();
    let rootfs = world.layer(&base(), ISOLATION).unwrap();
    let forks = [rootfs.fork_in_place().unwrap(), rootfs.fork_in_place().unwrap()];
    assert_ne!(root_of(&forks[0]), root_of(&forks[1]));
    assert_eq!(trees(&world).len(), 0);
    let [one, two] = forks;
    let (told, _) = keep(one, "echo 1 >one");
    let (other, _) = keep(two, "echo 2 >two");
    assert_eq!((told.len(), other.len()), (1, 1), "{told:?} {other:?}");
    assert_eq!(trees(&world).len(), 2);
    drop(rootfs.fork_in_place().unwrap());
    assert_eq!(trees(&world).len(), 1);
    // A base that has nothing in common with it has a tree of its own, and few of them stay.
    for number in 0..6 {
        let text = format!("{number}{}", "y".repeat(1 << 16));
        let other = world.layer(&[file("other", &text)], ISOLATION).unwrap();
        other.fork_in_place().unwrap().give_up();
        assert_eq!(trees(&world).len(), (2 + number).min(4));
    }
}

#[test]
fn a_tree_is_pruned_like_other_caches_but_not_while_it_is_used() {
    need!(root("owners"));
    let world = World::new();
    let rootfs = world.layer(&base(), ISOLATION).unwrap();
    let fork = rootfs.fork_in_place().unwrap();
    let prune = || {
        let mut collector = world.store.collect().unwrap();
        for item in world.store.survey().unwrap().items() {
            if item.standing != gondola::store::Standing::InUse {
                collector.remove(&item.path).unwrap();
            }
        }
        collector.finish();
    };
    prune();
    let (told, rootfs) = keep(fork, "echo 1 >one");
    assert_eq!(told.len(), 1);
    prune();
    assert_eq!(trees(&world).len(), 1, "this process used it");
    let item = world.store.survey().unwrap().items().into_iter();
    let mut item = item.filter(|item| item.path.starts_with("gondola/rootfs/working"));
    assert!(item.next().unwrap().bytes >= 1 << 20);
    drop(rootfs);
}
