//! What an image holds, as it is remembered: so that its layers are read once for that, and not in each build.
//!
//! Records of the kind `listing`, by the diff IDs of the layers. Where the content of a file is, is a layer's
//! number and the number of an entry in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layer::{Content, Entry, EntryKind, Tree, TreePath};
use crate::oci::Digest;
use crate::store::Store;

/// The kind of the records.
const KIND: &str = "listing";

/// Where the contents of a layer's files will be.
pub(super) struct Places<'a> {
    /// The folder that they are all in.
    pub folder: &'a Path,
    /// The layer's number.
    pub number: usize,
}

impl Places<'_> {
    /// Where the content of an entry will be.
    pub(super) fn of(&self, entry: u64) -> PathBuf {
        self.folder.join(format!("{}-{entry}", self.number))
    }

    /// The layer and the entry of a place in a folder.
    pub(super) fn number_of(path: &Path, folder: &Path) -> Option<(usize, u64)> {
        let name = path.strip_prefix(folder).ok()?.to_str()?;
        let (layer, entry) = name.split_once('-')?;
        Some((layer.parse().ok()?, entry.parse().ok()?))
    }
}

/// What an image holds.
#[derive(Serialize, Deserialize)]
struct Record {
    root: Row,
    files: Vec<(String, Row)>,
}

/// An entry.
#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(rename = "k")]
    kind: Kind,
    #[serde(rename = "m")]
    mode: u32,
    #[serde(rename = "o")]
    owner: (u32, u32),
    #[serde(rename = "t")]
    mtime: i64,
    #[serde(rename = "x", default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    /// A file with nothing in it.
    #[serde(rename = "e")]
    Empty,
    /// A file: its layer, its entry there, its size.
    #[serde(rename = "f")]
    File(usize, u64, u64),
    #[serde(rename = "d")]
    Directory,
    #[serde(rename = "l")]
    Symlink(String),
    #[serde(rename = "h")]
    HardLink(String),
    #[serde(rename = "c")]
    CharDevice(u32, u32),
    #[serde(rename = "b")]
    BlockDevice(u32, u32),
    #[serde(rename = "p")]
    Fifo,
}

/// What layers with these diff IDs hold together, and the root itself, if that was listed before. Contents will be
/// in the folder `scratch`.
pub(super) fn recall(store: &Store, diff_ids: &[Digest], scratch: &Path) -> Option<(Tree, Entry)> {
    let record: Record = store.get_record(KIND, &key(diff_ids))?;
    let mut tree = Tree::new();
    for (path, row) in record.files {
        tree.insert(TreePath::new(path.as_str()).ok()?, row.into_entry(scratch)?).ok()?;
    }
    Some((tree, record.root.into_entry(scratch)?))
}

/// Remembers what layers hold. What has names that are no text is not remembered.
pub(super) fn remember(
    store: &Store,
    diff_ids: &[Digest],
    (tree, root): (&Tree, &Entry),
    scratch: &Path,
) -> Result<()> {
    let rows = tree.iter().map(|(path, entry)| {
        let path = std::str::from_utf8(path.as_bytes()).ok()?;
        Some((path.to_owned(), Row::of(&entry, scratch)?))
    });
    let (Some(files), Some(root)) = (rows.collect(), Row::of(root, scratch)) else { return Ok(()) };
    store.put_record(KIND, &key(diff_ids), &Record { root, files })
}

fn key(diff_ids: &[Digest]) -> String {
    let all: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
    blake3::hash(all.join("\n").as_bytes()).to_hex().to_string()
}

impl Row {
    fn of(entry: &Entry, scratch: &Path) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let kind = match &entry.kind {
            EntryKind::File(Content::Memory(bytes)) if bytes.is_empty() => Kind::Empty,
            EntryKind::File(Content::Memory(_)) => return None,
            EntryKind::File(Content::File(file)) => {
                let (layer, number) = Places::number_of(&file.path(), scratch)?;
                Kind::File(layer, number, entry.size())
            }
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink(target) => Kind::Symlink(text(target)?),
            EntryKind::HardLink(target) => Kind::HardLink(text(target.as_bytes())?),
            EntryKind::CharDevice { major, minor } => Kind::CharDevice(*major, *minor),
            EntryKind::BlockDevice { major, minor } => Kind::BlockDevice(*major, *minor),
            EntryKind::Fifo => Kind::Fifo,
        };
        let Entry { mode, uid, gid, mtime, ref xattrs, .. } = *entry;
        Some(Self { kind, mode, owner: (uid, gid), mtime, xattrs: xattrs.clone() })
    }

    fn into_entry(self, scratch: &Path) -> Option<Entry> {
        let Self { kind, mode, owner: (uid, gid), mtime, xattrs } = self;
        let kind = match kind {
            Kind::Empty => EntryKind::File(Content::Memory(Bytes::new())),
            Kind::File(layer, number, size) => {
                let place = Places { folder: scratch, number: layer }.of(number);
                EntryKind::File(Content::file(place, size))
            }
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink(target) => EntryKind::Symlink(target.into_bytes()),
            Kind::HardLink(target) => EntryKind::HardLink(TreePath::new(target.as_str()).ok()?),
            Kind::CharDevice(major, minor) => EntryKind::CharDevice { major, minor },
            Kind::BlockDevice(major, minor) => EntryKind::BlockDevice { major, minor },
            Kind::Fifo => EntryKind::Fifo,
        };
        Some(Entry { kind, mode, uid, gid, mtime, xattrs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let (one, other) = (Path::new("/one"), Path::new("/other"));
        let tree = |scratch: &Path| {
            let path = |text: &str| TreePath::new(text).unwrap();
            let place = Places { folder: scratch, number: 2 }.of(7);
            let mut tree = Tree::new();
            let mut all = [
                ("d", EntryKind::Directory),
                ("d/a", EntryKind::File(Content::file(place, 9))),
                ("d/b", EntryKind::HardLink(path("d/a"))),
                ("d/c", EntryKind::Symlink(b"../x".to_vec())),
                ("d/e", EntryKind::File(Content::Memory(Bytes::new()))),
                ("d/f", EntryKind::Fifo),
                ("d/g", EntryKind::CharDevice { major: 1, minor: 3 }),
                ("d/h", EntryKind::BlockDevice { major: 8, minor: 0 }),
            ]
            .map(|(name, kind)| (path(name), Entry::new(kind, 0o4755).owned_by(5, 6).modified(-7)));
            all[1].1.xattrs.insert("security.capability".to_owned(), vec![1, 255]);
            for (path, entry) in all {
                tree.insert(path, entry).unwrap();
            }
            tree
        };
        let root = Entry::directory(0o711).owned_by(1, 2);
        let ids = [Digest::of(b"a"), Digest::of(b"b")];
        assert!(recall(&store, &ids, other).is_none());
        remember(&store, &ids, (&tree(one), &root), one).unwrap();
        assert_eq!(recall(&store, &ids, other), Some((tree(other), root.clone())));
        assert!(recall(&store, &ids[..1], other).is_none());
        // A name that is no text, and a content that is elsewhere.
        let mut odd = Tree::new();
        odd.insert(TreePath::new(b"\xff").unwrap(), Entry::directory(0o755)).unwrap();
        for tree in [&odd, &tree(other)] {
            remember(&store, &ids[..1], (tree, &root), one).unwrap();
            assert!(recall(&store, &ids[..1], other).is_none());
        }
    }
}
