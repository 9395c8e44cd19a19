//! What a layer holds: a sorted map from path to entry.

use std::path::Path;

use bytes::Bytes;

use super::packed::{Entries, FindHashes, IntoIter, Iter, Position};
use super::path::{order, parent_of};
use super::{Entry, EntryKind, TreePath};
use crate::error::{Error, ErrorKind, Result};

/// How many files are looked at together to be pinned.
const PINNED_AT_ONCE: usize = 4096;

/// A layer in the making: entries by path. Equal trees give equal archives.
///
/// Only a directory has entries below it. Directories that are not in the tree are not in the
/// archive either; [`Tree::insert_with_parents`] puts them in. Nothing is normalised here: mode,
/// owner and times are written as the entries have them.
///
/// Millions of files fit: an entry takes about 80 bytes and its path, and is put together when it is
/// asked for.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: Entries,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Tree {}

impl Tree {
    /// Makes an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `entry` at `path` and returns what was there before.
    ///
    /// Errs where something other than a directory would have entries below it.
    #[expect(clippy::needless_pass_by_value, reason = "what a map takes is given to it")]
    pub fn insert(&mut self, path: TreePath, mut entry: Entry) -> Result<Option<Entry>> {
        if let Some(fault) = entry.fault() {
            return Err(refuse(&path).because(fault));
        }
        let found = self.entries.find(path.as_bytes());
        if !self.has_sibling_before(&path, found) {
            // What is above the nearest one was looked at when that came in.
            if let Some((ancestor, false)) = self.nearest_ancestor(&path) {
                let ancestor = TreePath::checked(ancestor);
                return Err(refuse(&path).because(format!("{ancestor} is not a directory")));
            }
        }
        if !entry.is_directory()
            && let Some(child) = self.first_below(&path, found)
        {
            return Err(
                refuse(&path).because(format!("it has to be a directory, with {child} in it"))
            );
        }
        entry.mode &= 0o7777;
        Ok(self.entries.put(found, &path, entry))
    }

    /// Puts `entry` at `path`, with each directory above it that the tree does not have yet: mode
    /// 0755, root's, modified when `entry` was.
    pub fn insert_with_parents(&mut self, path: TreePath, entry: Entry) -> Result<Option<Entry>> {
        let mtime = entry.mtime;
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if self.contains(&directory) {
                break;
            }
            parent = directory.parent();
            missing.push(directory);
        }
        let before = self.insert(path, entry)?;
        for directory in missing {
            let found = self.entries.find(directory.as_bytes());
            self.entries.put(found, &directory, Entry::directory(0o755).modified(mtime));
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
        let from = self.entries.find(path.as_bytes()).unwrap_or_else(|at| at);
        let to = self.behind(path);
        let before = self.len();
        self.entries.remove(from, to);
        self.len() < before
    }

    /// Reads the contents of files below `from` from below `to`: they were moved.
    pub fn relocate(&mut self, from: &Path, to: &Path) {
        self.entries.change_files(|file| file.relocate(from, to));
    }

    /// Reads each file whose hash is not known, and lets all of them have no other content from then
    /// on: whatever reads them errs with [`ErrorKind::Changed`] where they do.
    pub fn pin(&mut self) -> Result<()> {
        self.pin_by(&mut |files| files.iter().map(|(_, entry)| entry.content_hash()).collect())
    }

    /// The same with hashes that `find` gives, of some thousand files at once, in their order.
    pub fn pin_by(&mut self, find: &mut FindHashes<'_, Error>) -> Result<()> {
        self.entries.pin(PINNED_AT_ONCE, find)
    }

    /// Makes nothing younger than `latest`, in seconds since 1970.
    pub fn clamp_times(&mut self, latest: i64) {
        self.entries.change_times(|mtime| mtime.min(latest));
    }

    /// The entry at `path`.
    pub fn get(&self, path: &TreePath) -> Option<Entry> {
        self.entries.entry_at(self.entries.find(path.as_bytes()).ok()?)
    }

    /// Whether there is an entry at `path`.
    pub fn contains(&self, path: &TreePath) -> bool {
        self.entries.find(path.as_bytes()).is_ok()
    }

    /// Whether the entry at `path` is a directory; `None` where there is none.
    pub fn is_directory(&self, path: &TreePath) -> Option<bool> {
        let found = self.entries.find(path.as_bytes()).ok()?;
        Some(self.entries.is_directory_at(found))
    }

    /// Whether something that is no directory stands above `path`.
    pub fn is_below_file(&self, path: &TreePath) -> bool {
        let found = self.entries.find(path.as_bytes());
        !self.has_sibling_before(path, found)
            && matches!(self.nearest_ancestor(path), Some((_, false)))
    }

    /// The entries in the order of the archive.
    pub fn iter(&self) -> Iter<'_> {
        self.entries.iter(Position::START)
    }

    /// The paths right in `directory`, or in the root, that have an entry.
    pub fn children(&self, directory: Option<&TreePath>) -> impl Iterator<Item = TreePath> {
        let mut at = match directory {
            Some(directory) => match self.entries.find(directory.as_bytes()) {
                Ok(found) => self.entries.next(found),
                Err(next) => next,
            },
            None => Position::START,
        };
        let directory = directory.cloned();
        std::iter::from_fn(move || {
            loop {
                let path = self.entries.path_at(at)?;
                let inside = match &directory {
                    Some(directory) => within(path, directory.as_bytes())?,
                    None => path,
                };
                let name = inside.iter().position(|b| *b == b'/').unwrap_or(inside.len());
                let child = TreePath::checked(&path[..path.len() - inside.len() + name]);
                let is_there = name == inside.len();
                at = self.entries.next(at);
                let has_more = |next: &[u8]| within(next, child.as_bytes()).is_some();
                if self.entries.path_at(at).is_some_and(has_more) {
                    at = self.behind(&child);
                }
                if is_there {
                    return Some(child);
                }
            }
        })
    }

    /// Each hard link, with the path that it leads to.
    pub fn hard_links(&self) -> impl Iterator<Item = (TreePath, TreePath)> {
        self.entries.hard_links().map(|(path, target)| (TreePath::checked(path), target))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of directories.
    pub fn count_directories(&self) -> usize {
        self.entries.count_directories()
    }

    /// Whether the tree has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all files together.
    pub fn content_size(&self) -> u64 {
        self.entries.content_size()
    }

    /// Checks that each hard link names a regular file that an unpacker has met by then.
    pub(super) fn check_links(&self) -> Result<()> {
        for (path, target) in self.hard_links() {
            let is_file = matches!(self.get(&target), Some(Entry { kind: EntryKind::File(_), .. }));
            if !is_file || target > path {
                let why = format!("its target {target} is no regular file that comes before it");
                return Err(refuse(&path).because(why));
            }
        }
        Ok(())
    }

    /// Whether the entry before a place is in the directory that `path` is in: then what is above was
    /// looked at.
    fn has_sibling_before(&self, path: &TreePath, found: Result<Position, Position>) -> bool {
        let Err(at) = found else { return true };
        let parent = parent_of(path.as_bytes());
        let Some(before) = self.entries.path_before(at) else { return false };
        let name = if parent.is_empty() { Some(before) } else { within(before, parent) };
        name.is_some_and(|name| !name.contains(&b'/'))
    }

    /// The nearest entry above `path`, and whether it is a directory.
    fn nearest_ancestor<'a>(&self, path: &'a TreePath) -> Option<(&'a [u8], bool)> {
        let mut above = parent_of(path.as_bytes());
        while !above.is_empty() {
            if let Ok(found) = self.entries.find(above) {
                return Some((above, self.entries.is_directory_at(found)));
            }
            above = parent_of(above);
        }
        None
    }

    fn first_below(&self, path: &TreePath, found: Result<Position, Position>) -> Option<TreePath> {
        let next = found.map_or_else(|at| at, |at| self.entries.next(at));
        let next = self.entries.path_at(next)?;
        within(next, path.as_bytes()).map(|_| TreePath::checked(next))
    }

    /// The place behind a path and all below it.
    fn behind(&self, path: &TreePath) -> Position {
        let path = path.as_bytes();
        self.entries.seek(|other| order(other, path).is_le() || within(other, path).is_some())
    }
}

/// What is left of a path in a directory.
fn within<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(directory)?.strip_prefix(b"/")
}

impl<'a> IntoIterator for &'a Tree {
    type Item = (TreePath, Entry);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Tree {
    type Item = (TreePath, Entry);
    type IntoIter = IntoIter;

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
        assert_eq!(tree.get(&path("a/b")).unwrap(), Entry::directory(0o755).modified(7));
    }

    #[test]
    fn a_second_entry_replaces_the_first_and_file_types_are_no_permission_bits() {
        let mut tree = Tree::new();
        assert_eq!(tree.insert(path("a"), Entry::file("1", 0o100_644)).unwrap(), None);
        let before = tree.insert(path("a"), Entry::file("2", 0o4755)).unwrap();
        assert_eq!(before, Some(Entry::file("1", 0o644)));
        assert_eq!(tree.get(&path("a")), Some(Entry::file("2", 0o4755)));
    }

    #[test]
    fn removing_takes_all_that_is_below_and_nothing_else() {
        let mut tree = Tree::new();
        for text in ["a", "a-b", "a/b", "a/b/c", "a0", "b"] {
            tree.insert(path(text), Entry::directory(0o755)).unwrap();
        }
        assert!(tree.remove(&path("a")));
        assert!(!tree.remove(&path("a")));
        assert!(!Tree::new().remove(&path("a")));
        assert_eq!(paths(&tree), ["a-b", "a0", "b"]);
        tree.insert_whiteout(&path("b"), 0).unwrap();
        tree.insert_opaque(None, 0).unwrap();
        assert_eq!(paths(&tree), [".wh..wh..opq", ".wh.b", "a-b", "a0"]);
    }

    #[test]
    fn the_children_of_a_directory_are_those_right_in_it() {
        let mut tree = Tree::new();
        for text in ["a", "a-b", "a/b", "a/b/c", "a/b/d", "a/e", "a0", "x/y/z", "x/y/zz", "x/z"] {
            tree.insert(path(text), Entry::directory(0o755)).unwrap();
        }
        tree.insert_whiteout(&path("a/c"), 0).unwrap();
        let of = |directory: Option<&str>| {
            let directory = directory.map(path);
            tree.children(directory.as_ref()).map(|path| path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(None), ["a", "a-b", "a0"]);
        assert_eq!(of(Some("a")), ["a/.wh.c", "a/b", "a/e"]);
        assert_eq!(of(Some("a/b")), ["a/b/c", "a/b/d"]);
        assert_eq!(of(Some("x")), ["x/z"], "nothing says what x/y is");
        assert_eq!(of(Some("x/y")), ["x/y/z", "x/y/zz"]);
        for none in ["a/e", "b", "a/b/c/d"] {
            assert!(of(Some(none)).is_empty(), "{none}");
        }
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
