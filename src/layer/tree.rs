//! What a layer holds: a sorted map from path to entry.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;

use super::{Content, TreePath};
use crate::error::{Error, ErrorKind, Result};

/// The longest target that Linux takes for a symbolic link.
const LONGEST_TARGET: usize = 4095;
/// The longest name that Linux takes for an extended attribute.
const LONGEST_XATTR_NAME: usize = 255;
/// The longest value that Linux takes for an extended attribute.
const LONGEST_XATTR_VALUE: usize = 64 << 10;

/// A layer in the making: entries by path. Equal trees give equal archives.
///
/// Only a directory has entries below it. Directories that are not in the tree are not in the
/// archive either; [`Tree::insert_with_parents`] puts them in. Nothing is normalised here: mode,
/// owner and times are written as the entries have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}

/// One file, directory, link or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The twelve permission bits; a tree drops all others.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When it was last modified, in seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes by their full name, such as `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link and its target, taken as it is.
    Symlink(Vec<u8>),
    /// Another name of a regular file that stands before this one in the same tree.
    HardLink(TreePath),
    /// A character device.
    CharDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl Entry {
    /// Makes an entry that belongs to root and dates from the epoch.
    pub fn new(kind: EntryKind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    /// Makes a regular file.
    pub fn file(content: impl Into<Content>, mode: u32) -> Self {
        Self::new(EntryKind::File(content.into()), mode)
    }

    /// Makes a directory.
    pub fn directory(mode: u32) -> Self {
        Self::new(EntryKind::Directory, mode)
    }

    /// Makes a symbolic link with the mode that Linux gives to all of them.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::new(EntryKind::Symlink(target.into()), 0o777)
    }

    /// Makes another name of the file that `target` names and `of` describes. Both share mode,
    /// owner and times, so that unpacking the one does not change the other.
    pub fn hard_link(target: TreePath, of: &Self) -> Self {
        Self { kind: EntryKind::HardLink(target), xattrs: BTreeMap::new(), ..of.clone() }
    }

    /// Sets the owner.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    /// Sets the time of the last modification, in seconds since the epoch.
    #[must_use]
    pub fn modified(self, mtime: i64) -> Self {
        Self { mtime, ..self }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// The bytes of content that follow this entry's header.
    pub fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File(content) => content.size(),
            _ => 0,
        }
    }

    /// Why no archive can hold this entry, if so.
    fn fault(&self) -> Option<&'static str> {
        if let EntryKind::Symlink(target) = &self.kind
            && (target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0))
        {
            return Some("the link's target is empty, longer than 4095 bytes, or has a NUL byte");
        }
        let fits = |name: &str, value: &[u8]| {
            !name.is_empty()
                && name.len() <= LONGEST_XATTR_NAME
                && !name.contains(['=', '\0'])
                && value.len() <= LONGEST_XATTR_VALUE
        };
        if !self.xattrs.iter().all(|(name, value)| fits(name, value)) {
            return Some(
                "the name or value of an extended attribute is not one that archives hold",
            );
        }
        None
    }
}

impl Tree {
    /// Makes an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `entry` at `path` and returns what was there before.
    ///
    /// Errs where something other than a directory would have entries below it.
    pub fn insert(&mut self, path: TreePath, mut entry: Entry) -> Result<Option<Entry>> {
        if let Some(fault) = entry.fault() {
            return Err(refuse(&path).because(fault));
        }
        // What is above the nearest one was looked at when that came in.
        if let Some((ancestor, above)) = self.ancestors(&path).next()
            && !above.is_directory()
        {
            return Err(refuse(&path).because(format!("{ancestor} is not a directory")));
        }
        if !entry.is_directory()
            && let Some(child) = self.first_below(&path)
        {
            return Err(
                refuse(&path).because(format!("it has to be a directory, with {child} in it"))
            );
        }
        entry.mode &= 0o7777;
        Ok(self.entries.insert(path, entry))
    }

    /// Puts `entry` at `path`, with each directory above it that the tree does not have yet: mode
    /// 0755, root's, modified when `entry` was.
    pub fn insert_with_parents(&mut self, path: TreePath, entry: Entry) -> Result<Option<Entry>> {
        let mtime = entry.mtime;
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if self.entries.contains_key(&directory) {
                break;
            }
            parent = directory.parent();
            missing.push(directory);
        }
        let before = self.insert(path, entry)?;
        for directory in missing {
            self.entries.insert(directory, Entry::directory(0o755).modified(mtime));
        }
        Ok(before)
    }

    /// Removes `path` as lower layers have it. What this tree has below it goes too.
    pub fn insert_whiteout(&mut self, path: &TreePath, mtime: i64) -> Result<()> {
        self.remove(path);
        let marker = Entry::file(Bytes::new(), 0).modified(mtime);
        self.insert(path.whiteout()?, marker).map(drop)
    }

    /// Hides all that lower layers have in `directory`, or in the root.
    pub fn insert_opaque(&mut self, directory: Option<&TreePath>, mtime: i64) -> Result<()> {
        let marker = Entry::file(Bytes::new(), 0).modified(mtime);
        self.insert(TreePath::opaque(directory)?, marker).map(drop)
    }

    /// Takes out `path` and all below it; returns whether anything was there.
    pub fn remove(&mut self, path: &TreePath) -> bool {
        let gone: Vec<TreePath> = self
            .entries
            .range(path..)
            .map(|(other, _)| other)
            .take_while(|other| *other == path || other.is_below(path))
            .cloned()
            .collect();
        for path in &gone {
            self.entries.remove(path);
        }
        !gone.is_empty()
    }

    /// Reads the contents of files below `from` from below `to`: they were moved.
    pub fn relocate(&mut self, from: &Path, to: &Path) {
        for entry in self.entries.values_mut() {
            if let EntryKind::File(Content::File(file)) = &mut entry.kind {
                file.relocate(from, to);
            }
        }
    }

    /// Reads each file whose hash is not known, and lets all of them have no other content from then
    /// on: whatever reads them errs with [`ErrorKind::Changed`] where they do.
    pub fn pin(&mut self) -> Result<()> {
        for entry in self.entries.values_mut() {
            if let EntryKind::File(content @ Content::File(_)) = &mut entry.kind {
                content.pin()?;
            }
        }
        Ok(())
    }

    /// Makes nothing younger than `latest`, in seconds since 1970.
    pub fn clamp_times(&mut self, latest: i64) {
        for entry in self.entries.values_mut() {
            entry.mtime = entry.mtime.min(latest);
        }
    }

    /// The entry at `path`.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The entries in the order of the archive.
    pub fn iter(&self) -> btree_map::Iter<'_, TreePath, Entry> {
        self.entries.iter()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the tree has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all files together.
    pub fn content_size(&self) -> u64 {
        self.entries.values().map(Entry::size).sum()
    }

    /// Checks that each hard link names a regular file that an unpacker has met by then.
    pub(super) fn check_links(&self) -> Result<()> {
        for (path, entry) in &self.entries {
            let EntryKind::HardLink(target) = &entry.kind else { continue };
            let is_file = matches!(self.get(target), Some(Entry { kind: EntryKind::File(_), .. }));
            if !is_file || target > path {
                let why = format!("its target {target} is no regular file that comes before it");
                return Err(refuse(path).because(why));
            }
        }
        Ok(())
    }

    fn ancestors<'a>(&'a self, path: &TreePath) -> impl Iterator<Item = (TreePath, &'a Entry)> {
        std::iter::successors(path.parent(), TreePath::parent)
            .filter_map(|path| self.entries.get(&path).map(|entry| (path, entry)))
    }

    fn first_below(&self, path: &TreePath) -> Option<&TreePath> {
        let mut after = self.entries.range((Bound::Excluded(path), Bound::Unbounded));
        after.next().map(|(next, _)| next).filter(|next| next.is_below(path))
    }
}

impl<'a> IntoIterator for &'a Tree {
    type Item = (&'a TreePath, &'a Entry);
    type IntoIter = btree_map::Iter<'a, TreePath, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Tree {
    type Item = (TreePath, Entry);
    type IntoIter = btree_map::IntoIter<TreePath, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

fn refuse(path: &TreePath) -> Error {
    Error::new(ErrorKind::Invalid, format!("put {path} into a layer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn only_a_directory_has_entries_below_it() {
        let mut tree = Tree::new();
        tree.insert(path("a"), Entry::file("", 0o644)).unwrap();
        let error = tree.insert(path("a/b/c"), Entry::directory(0o755)).unwrap_err();
        assert_eq!(error.to_string(), "cannot put a/b/c into a layer: a is not a directory");
        tree.insert(path("d/e"), Entry::file("", 0o644)).unwrap();
        let error = tree.insert(path("d"), Entry::symlink("x")).unwrap_err();
        let expected = "cannot put d into a layer: it has to be a directory, with d/e in it";
        assert_eq!(error.to_string(), expected);
        tree.insert(path("d"), Entry::directory(0o700)).unwrap();
        assert_eq!(paths(&tree), ["a", "d", "d/e"]);
    }

    #[test]
    fn a_refused_entry_leaves_the_tree_as_it_was() {
        let mut tree = Tree::new();
        tree.insert(path("a"), Entry::file("", 0o644)).unwrap();
        let before = tree.clone();
        tree.insert_with_parents(path("b/c"), Entry::symlink("")).unwrap_err();
        tree.insert_with_parents(path("a/b/c"), Entry::symlink("x")).unwrap_err();
        assert_eq!(tree, before);
    }

    #[test]
    fn parents_are_made_where_they_are_missing() {
        let mut tree = Tree::new();
        tree.insert(path("a"), Entry::directory(0o700)).unwrap();
        tree.insert_with_parents(path("a/b/c"), Entry::file("x", 0o600).modified(7)).unwrap();
        assert_eq!(paths(&tree), ["a", "a/b", "a/b/c"]);
        assert_eq!(tree.get(&path("a")).unwrap().mode, 0o700);
        assert_eq!(tree.get(&path("a/b")).unwrap(), &Entry::directory(0o755).modified(7));
    }

    #[test]
    fn a_second_entry_replaces_the_first_and_file_types_are_no_permission_bits() {
        let mut tree = Tree::new();
        assert_eq!(tree.insert(path("a"), Entry::file("1", 0o100_644)).unwrap(), None);
        let before = tree.insert(path("a"), Entry::file("2", 0o4755)).unwrap();
        assert_eq!(before, Some(Entry::file("1", 0o644)));
        assert_eq!(tree.get(&path("a")), Some(&Entry::file("2", 0o4755)));
    }

    #[test]
    fn removing_takes_all_that_is_below_and_nothing_else() {
        let mut tree = Tree::new();
        for text in ["a", "a-b", "a/b", "a/b/c", "a0", "b"] {
            tree.insert(path(text), Entry::directory(0o755)).unwrap();
        }
        assert!(tree.remove(&path("a")));
        assert!(!tree.remove(&path("a")));
        assert_eq!(paths(&tree), ["a-b", "a0", "b"]);
        tree.insert_whiteout(&path("b"), 0).unwrap();
        tree.insert_opaque(None, 0).unwrap();
        assert_eq!(paths(&tree), [".wh..wh..opq", ".wh.b", "a-b", "a0"]);
    }

    #[test]
    fn what_no_archive_can_hold_is_refused() {
        let with_xattr = |name: &str, length| {
            let mut entry = Entry::file("", 0o644);
            entry.xattrs.insert(name.to_owned(), vec![0; length]);
            entry
        };
        let cases = [
            Entry::symlink(""),
            Entry::symlink("a\0b"),
            Entry::symlink("a".repeat(4096)),
            with_xattr("", 1),
            with_xattr("user.a=b", 1),
            with_xattr("user.a", 65537),
        ];
        for entry in cases {
            assert!(Tree::new().insert(path("a"), entry.clone()).is_err(), "{entry:?}");
        }
        Tree::new().insert(path("a"), with_xattr("user.a", 65536)).unwrap();
    }

    #[test]
    fn a_hard_link_names_a_file_that_comes_before_it() {
        let link = |target: &str| Entry::new(EntryKind::HardLink(path(target)), 0o644);
        let mut tree = Tree::new();
        tree.insert(path("b"), Entry::file("", 0o644)).unwrap();
        tree.insert(path("d"), Entry::directory(0o755)).unwrap();
        tree.insert(path("c"), link("b")).unwrap();
        tree.check_links().unwrap();
        for (place, target) in [("a", "b"), ("e", "d"), ("e", "c"), ("e", "missing"), ("e", "e")] {
            let mut tree = tree.clone();
            tree.insert(path(place), link(target)).unwrap();
            let error = tree.check_links().unwrap_err().to_string();
            assert!(error.contains(&format!("its target {target} is no regular file")), "{error}");
        }
    }
}
