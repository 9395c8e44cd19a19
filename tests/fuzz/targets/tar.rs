//! Archives as layers have them: what reads them agrees with itself, and what can be a tree again is
//! written in one way only.

#![no_main]

use std::io::Read;

use gondola::layer::{
    ArchiveReader, Encoding, Entry, EntryKind, Limits, ListedEntry, ListedKind, Tree, TreePath,
    WriteOptions, entries, look_inside, write,
};
use gondola::oci::Digest;
use libfuzzer_sys::fuzz_target;

/// Far above what the input can be, far below what would be noticed as memory.
const LIMIT: u64 = 64 << 20;

fuzz_target!(|archive: &[u8]| {
    let listed: Vec<_> = entries(archive).collect();
    assert!(listed.len() <= archive.len() / 512 + 1, "more entries than headers");
    assert!(listed.iter().rev().skip(1).all(Result::is_ok), "the list goes on behind an error");
    for entry in listed.iter().flatten() {
        let attributes: usize = entry.xattrs.values().map(Vec::len).sum();
        assert!(attributes <= archive.len(), "more attributes than input");
        // What these say is looked at where layers are unpacked; here they must only answer.
        let _ = (entry.tree_path().is_ok(), entry.whiteout(), entry.letter());
    }
    let read = read_contents(archive);
    let names = |found: &[ListedEntry]| format!("{found:?}");
    if let (Some(read), true) = (&read, listed.iter().all(Result::is_ok)) {
        let listed: Vec<ListedEntry> = listed.into_iter().flatten().collect();
        let again: Vec<ListedEntry> = read.iter().map(|(entry, _)| entry.clone()).collect();
        assert_eq!(names(&listed), names(&again), "reading contents changes what is listed");
    }
    look(archive);
    if let Some(tree) = read.and_then(tree) {
        round_trip(&tree);
    }
});

/// Reads entries with their contents, in pieces of an odd size.
fn read_contents(archive: &[u8]) -> Option<Vec<(ListedEntry, Vec<u8>)>> {
    let mut reader = ArchiveReader::new(archive, Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().ok()? {
        let mut content = Vec::new();
        let mut piece = [0; 333];
        loop {
            match reader.read_content(&mut piece).ok()? {
                0 => break,
                count => content.extend_from_slice(&piece[..count]),
            }
        }
        assert!(content.len() <= archive.len(), "more content than input");
        assert!(reader.offset() <= archive.len() as u64, "read behind the end");
        found.push((entry, content));
    }
    assert_eq!(reader.offset(), archive.len() as u64, "not read to the end");
    Some(found)
}

/// What is compressed is unpacked first; what is not must be hashed as it is.
fn look(archive: &[u8]) {
    let all = |reader: &mut (dyn Read + Send)| entries(reader).collect::<Result<Vec<_>, _>>();
    let Ok(inside) = look_inside(archive, LIMIT, all) else { return };
    assert!(inside.size <= LIMIT);
    if gondola::layer::detect(archive) == gondola::oci::Compression::None {
        assert_eq!((inside.diff_id, inside.size), (Digest::of(archive), archive.len() as u64));
    }
}

/// A tree of the entries that a tree can hold; the last of a name counts.
fn tree(read: Vec<(ListedEntry, Vec<u8>)>) -> Option<Tree> {
    let mut tree = Tree::new();
    for (listed, content) in read {
        let Some(path) = listed.tree_path().ok().flatten() else { continue };
        let narrow = |number: u64| u32::try_from(number).ok();
        let kind = match listed.kind {
            ListedKind::File if listed.sparse => continue,
            ListedKind::File => EntryKind::File(bytes::Bytes::from(content).into()),
            ListedKind::Directory => EntryKind::Directory,
            ListedKind::Symlink(target) => EntryKind::Symlink(target),
            ListedKind::HardLink(target) => match TreePath::normalized(&target) {
                Ok(target) => EntryKind::HardLink(target),
                Err(_) => continue,
            },
            ListedKind::CharDevice { major, minor } => {
                EntryKind::CharDevice { major: narrow(major)?, minor: narrow(minor)? }
            }
            ListedKind::BlockDevice { major, minor } => {
                EntryKind::BlockDevice { major: narrow(major)?, minor: narrow(minor)? }
            }
            ListedKind::Fifo => EntryKind::Fifo,
            ListedKind::Other(_) => continue,
        };
        let mut entry = Entry::new(kind, listed.mode);
        (entry.uid, entry.gid) = (narrow(listed.uid)?, narrow(listed.gid)?);
        (entry.mtime, entry.xattrs) = (listed.mtime, listed.xattrs);
        // What a tree does not take is told there.
        let _ = tree.insert(path, entry);
    }
    Some(tree)
}

/// Equal trees give equal bytes, in whatever order they were made, and these give the tree again.
fn round_trip(made: &Tree) {
    let Some(bytes) = written(made) else { return };
    let mut again = Tree::new();
    // Children first, so that every folder comes after what lies in it.
    let mut waiting: Vec<_> = made.iter().collect();
    waiting.reverse();
    waiting.sort_by_key(|(_, entry)| !entry.is_directory());
    for (path, entry) in waiting {
        again.insert(path, entry).expect("it was in a tree");
    }
    assert_eq!(written(&again).as_ref(), Some(&bytes), "equal trees, other bytes");
    let read = read_contents(&bytes).expect("what was written can be read");
    assert_eq!(read.len(), made.len(), "an entry is lost");
    let back = tree(read).expect("all numbers fit");
    assert_eq!(&back, made, "what was written is read as something else");
}

fn written(tree: &Tree) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let options = WriteOptions { encoding: Encoding::None, threads: 1 };
    write(tree, &options, &|_| (), &mut out).ok().map(|_| out)
}
