//! Trees for this module's tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Entry, EntryKind, Tree, TreePath};

/// Text that compresses about as well as programs do; the same at each call.
pub(super) fn text(length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] =
        ["func ", "return ", "nil\n", "\tif err != nil {\n", "}\n", "x", "=", "0"];
    let mut state = 1u32;
    let mut text = Vec::with_capacity(length + 64);
    while text.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [word, letter, ..] = state.to_be_bytes();
        text.extend_from_slice(WORDS[usize::from(word >> 5)].as_bytes());
        text.push(letter);
    }
    text.truncate(length);
    text
}

/// A tree that has something of everything, and content longer than one compressed piece.
pub(super) fn tree() -> Tree {
    let mut tree = Tree::new();
    let mut put = |path: &str, entry: Entry| {
        tree.insert_with_parents(path.parse().unwrap(), entry).unwrap();
    };
    put("app/server", Entry::file(text(1_500_000), 0o755));
    put("app/again", Entry::symlink("server"));
    put("etc/passwd", Entry::file("root:x:0:0::/:/bin/sh\n", 0o644).modified(1_700_000_000));
    put("etc/shadow", Entry::new(EntryKind::HardLink("etc/passwd".parse().unwrap()), 0o644));
    put("dev/null", Entry::new(EntryKind::CharDevice { major: 1, minor: 3 }, 0o666));
    put("dev/sda", Entry::new(EntryKind::BlockDevice { major: 8, minor: 0 }, 0o660));
    put("run/pipe", Entry::new(EntryKind::Fifo, 0o600).owned_by(65532, 65532));
    put("tmp", Entry::directory(0o1777));
    put("home/käse/名前", Entry::file("", 0o600).owned_by(4_000_000_000, 3_000_000).modified(-1));
    let mut capable = Entry::file("ping", 0o755);
    capable.xattrs.insert("security.capability".into(), vec![1, 0, 0, 2, 0, 32, 0, 0]);
    put("bin/ping", capable);
    put(&format!("{0}/{0}/{0}", "long".repeat(20)), Entry::symlink("../".repeat(60)));
    tree.insert_whiteout(&"usr/old".parse().unwrap(), 0).unwrap();
    tree.insert_opaque(Some(&"var/cache".parse().unwrap()), 0).unwrap();
    tree
}

/// Why trees for the `tar` crate have no newlines.
const NO_NEWLINE: &str = "the tar crate takes a newline in a record for its end";

/// Any path: short and long parts, text and other bytes.
fn any_path() -> impl Strategy<Value = TreePath> {
    let part = prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => "[a-z]{60,120}".prop_map(String::into_bytes),
        1 => "[ä-ü名前 ]{1,30}".prop_map(String::into_bytes),
        1 => prop::collection::vec(0x80u8.., 1..9),
    ];
    prop::collection::vec(part, 1..6).prop_filter_map("a path in its shortest form", |parts| {
        TreePath::new(parts.join(&b'/')).ok()
    })
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    let target = prop_oneof!["[a-z/.]{1,20}", "[a-z]{90,120}", "[ä-ü]{1,60}"];
    let number = prop_oneof![0u32..300, Just(2_097_151)];
    let numbers = (number.clone(), number);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1500).prop_map(|bytes| EntryKind::File(bytes.into())),
        Just(EntryKind::Directory),
        target.prop_map(|target| EntryKind::Symlink(target.into_bytes())),
        numbers.clone().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        numbers.prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
        Just(EntryKind::Fifo),
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let id = || prop_oneof![0u32..70_000, Just(2_097_151), Just(2_097_152), any::<u32>()];
    let mtime =
        prop_oneof![0i64..2_000_000_000, Just(8_589_934_591), Just(8_589_934_592), -99i64..0];
    let value = prop::collection::vec(any::<u8>().prop_filter(NO_NEWLINE, |b| *b != b'\n'), 0..120);
    let xattrs = prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => prop::collection::btree_map("user\\.[a-zä]{1,9}", value, 1..3),
    ];
    (any_kind(), 0u32..0o10000, id(), id(), mtime, xattrs).prop_map(
        |(kind, mode, uid, gid, mtime, xattrs)| Entry { kind, mode, uid, gid, mtime, xattrs },
    )
}

/// Any tree, with a hard link to each file that leaves room for one.
pub(super) fn any_tree() -> impl Strategy<Value = Tree> {
    prop::collection::vec((any_path(), any_entry()), 0..12).prop_map(|entries| {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            // Entries that contradict those before them are left out.
            drop(tree.insert(path, entry));
        }
        for (path, entry) in tree.clone() {
            let link = TreePath::new([path.as_bytes(), b"~"].concat());
            if let (EntryKind::File(_), Ok(link)) = (&entry.kind, link) {
                let kind = EntryKind::HardLink(path);
                tree.insert(link, Entry::new(kind, entry.mode)).unwrap();
            }
        }
        tree
    })
}
