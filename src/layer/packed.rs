//! Entries by path, in a form that takes few bytes and few pieces of memory.
//!
//! ```text
//! entries ─► chunks ─► rows   what an entry is, in the order of paths; 80 bytes each
//!        │         ├─► text   paths, and where links lead
//!        │         └─► rare   whole entries: devices, content in memory, extended attributes
//!        └─► places           where files are: all but the end that is the end of the entry's path, too
//! ```
//! An entry is put together when it is asked for. Chunks are full where entries come in their order.

use super::chunk::{Chunk, FileRow, MOST_ROWS, Place, RowKind};
use super::path::order;
use super::{Content, ContentHash, Entry, EntryKind, FileContent, TreePath};

/// Gives the hashes of the contents of files, in their order.
pub type FindHashes<'a, E> = dyn FnMut(&[(TreePath, Entry)]) -> Result<Vec<ContentHash>, E> + 'a;

/// Entries by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    chunks: Vec<Chunk>,
    places: Vec<Place>,
    len: usize,
}

/// The place of an entry, or the one where it would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    chunk: usize,
    row: usize,
}

impl Entries {
    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where `path` is, or would be.
    pub(super) fn find(&self, path: &[u8]) -> Result<Position, Position> {
        // Entries mostly come in their order.
        if let Some(last) = self.chunks.last()
            && order(last.path(last.rows.len() - 1), path).is_lt()
        {
            return Err(Position { chunk: self.chunks.len() - 1, row: last.rows.len() });
        }
        let after = self.chunks.partition_point(|chunk| order(chunk.path(0), path).is_le());
        let Some(chunk) = after.checked_sub(1) else { return Err(Position { chunk: 0, row: 0 }) };
        let own = &self.chunks[chunk];
        let row = own.rows.binary_search_by(|row| order(own.text_of(row), path));
        match row {
            Ok(row) => Ok(Position { chunk, row }),
            Err(row) => Err(Position { chunk, row }),
        }
    }

    /// The first place of which `is_before` does not hold; it holds of all before that and of none
    /// behind it.
    pub(super) fn seek(&self, is_before: impl Fn(&[u8]) -> bool) -> Position {
        let after = self.chunks.partition_point(|chunk| is_before(chunk.path(0)));
        let Some(chunk) = after.checked_sub(1) else { return Position { chunk: 0, row: 0 } };
        let own = &self.chunks[chunk];
        Position { chunk, row: own.rows.partition_point(|row| is_before(own.text_of(row))) }
    }

    /// The path at a place; none at the end.
    pub(super) fn path_at(&self, at: Position) -> Option<&[u8]> {
        let Position { chunk, row } = self.settled(at);
        self.chunks.get(chunk).map(|chunk| chunk.path(row))
    }

    /// The path before a place; none at the beginning.
    pub(super) fn path_before(&self, at: Position) -> Option<&[u8]> {
        let before = match at.row.checked_sub(1) {
            Some(row) => return self.chunks.get(at.chunk).map(|chunk| chunk.path(row)),
            None => self.chunks.get(at.chunk.checked_sub(1)?)?,
        };
        Some(before.path(before.rows.len() - 1))
    }

    /// The entry at a place; none at the end.
    pub(super) fn entry_at(&self, at: Position) -> Option<Entry> {
        let Position { chunk, row } = self.settled(at);
        let chunk = self.chunks.get(chunk)?;
        Some(chunk.entry(&chunk.rows[row], &self.places))
    }

    /// Whether a directory is at a place.
    pub(super) fn is_directory_at(&self, at: Position) -> bool {
        let chunk = &self.chunks[at.chunk];
        chunk.is_directory(&chunk.rows[at.row])
    }

    /// The place behind another one.
    pub(super) fn next(&self, at: Position) -> Position {
        let at = self.settled(at);
        Position { row: at.row + 1, ..at }
    }

    /// A place behind the last row of a chunk is the first one of the next.
    fn settled(&self, at: Position) -> Position {
        match self.chunks.get(at.chunk) {
            Some(chunk) if at.row >= chunk.rows.len() => Position { chunk: at.chunk + 1, row: 0 },
            _ => at,
        }
    }

    /// Puts an entry at a place that [`Self::find`] gave for its path; answers the one that was there.
    pub(super) fn put(
        &mut self,
        found: Result<Position, Position>,
        path: &TreePath,
        entry: Entry,
    ) -> Option<Entry> {
        match found {
            Ok(at) => {
                let before = self.entry_at(at);
                let Position { chunk, row } = at;
                let new = self.chunks[chunk].row(path.as_bytes(), entry, &mut self.places);
                self.chunks[chunk].rows[row] = new;
                before
            }
            Err(at) => {
                let Position { chunk, row } = self.room(at, path.as_bytes());
                let new = self.chunks[chunk].row(path.as_bytes(), entry, &mut self.places);
                self.chunks[chunk].rows.insert(row, new);
                self.len += 1;
                None
            }
        }
    }

    /// Makes room for one row more.
    fn room(&mut self, at: Position, path: &[u8]) -> Position {
        let is_last = at.chunk + 1 == self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(at.chunk) else {
            self.chunks.push(Chunk::default());
            return Position { chunk: self.chunks.len() - 1, row: 0 };
        };
        if chunk.rows.len() < MOST_ROWS {
            return at;
        }
        if is_last && at.row == MOST_ROWS {
            chunk.text.shrink_to_fit();
            let next = chunk.next();
            self.chunks.push(next);
            return Position { chunk: at.chunk + 1, row: 0 };
        }
        let (first, second) = std::mem::take(chunk).split(MOST_ROWS / 2);
        *chunk = first;
        self.chunks.insert(at.chunk + 1, second);
        self.find(path).unwrap_or_else(|at| at)
    }

    /// Takes out what is from one place up to another.
    pub(super) fn remove(&mut self, from: Position, to: Position) {
        let before = self.len;
        let Some(end) = self.chunks.len().checked_sub(1) else { return };
        for number in from.chunk..=to.chunk.min(end) {
            let rows = &mut self.chunks[number].rows;
            let first = if number == from.chunk { from.row.min(rows.len()) } else { 0 };
            let last = if number == to.chunk { to.row.min(rows.len()) } else { rows.len() };
            self.len -= rows.drain(first..last.max(first)).count();
        }
        if self.len < before {
            self.chunks.retain(|chunk| !chunk.rows.is_empty());
        }
    }

    /// The entries from a place on.
    pub(super) fn iter(&self, at: Position) -> Iter<'_> {
        Iter { entries: self, at }
    }

    /// Changes the time of each entry.
    pub(super) fn change_times(&mut self, change: impl Fn(i64) -> i64) {
        for chunk in &mut self.chunks {
            for row in &mut chunk.rows {
                row.mtime = change(row.mtime);
            }
            for entry in &mut chunk.rare {
                entry.mtime = change(entry.mtime);
            }
        }
    }

    /// Changes the content of each file that is on disk.
    pub(super) fn change_files(&mut self, change: impl Fn(&mut FileContent)) {
        for chunk in &mut self.chunks {
            let mut rows = std::mem::take(&mut chunk.rows);
            for row in &mut rows {
                if row.kind != RowKind::File {
                    continue;
                }
                let mut file = chunk.file(row, &self.places);
                change(&mut file);
                let path = chunk.text_of(row);
                let packed = FileRow::of(path, &file, &mut self.places);
                row.take_file(&packed.expect("it was in this form"));
            }
            chunk.rows = rows;
            for entry in &mut chunk.rare {
                if let EntryKind::File(Content::File(file)) = &mut entry.kind {
                    change(file);
                }
            }
        }
    }

    /// Pins the files that are not: `find` gives the hashes of some of them, in their order.
    pub(super) fn pin<E>(&mut self, at_once: usize, find: &mut FindHashes<'_, E>) -> Result<(), E> {
        let mut first = 0;
        while first < self.chunks.len() {
            let (mut last, mut files) = (first, Vec::new());
            while last < self.chunks.len() && files.len() < at_once {
                self.chunks[last].unpinned(&self.places, &mut files);
                last += 1;
            }
            if !files.is_empty() {
                let hashes = find(&files)?;
                let mut hashes = hashes.into_iter();
                for chunk in &mut self.chunks[first..last] {
                    chunk.pin(&mut hashes);
                }
            }
            first = last;
        }
        Ok(())
    }

    /// The number of directories.
    pub(super) fn count_directories(&self) -> usize {
        let chunks = self.chunks.iter();
        let count = |chunk: &Chunk| chunk.rows.iter().filter(|row| chunk.is_directory(row)).count();
        chunks.map(count).sum()
    }

    /// The bytes of all files together.
    pub(super) fn content_size(&self) -> u64 {
        let sizes = self.chunks.iter().flat_map(|chunk| {
            let rare = chunk.rows.iter().filter(|row| row.kind == RowKind::Rare);
            let rare = rare.map(|row| chunk.rare[row.place as usize].size());
            chunk.rows.iter().map(|row| row.size).chain(rare)
        });
        sizes.sum()
    }

    /// Each hard link, with the path that it leads to.
    pub(super) fn hard_links(&self) -> impl Iterator<Item = (&[u8], TreePath)> {
        self.chunks.iter().flat_map(move |chunk| {
            chunk.rows.iter().filter_map(|row| match row.kind {
                RowKind::HardLink | RowKind::Rare => match chunk.entry(row, &self.places).kind {
                    EntryKind::HardLink(target) => Some((chunk.text_of(row), target)),
                    _ => None,
                },
                _ => None,
            })
        })
    }
}

/// Entries in their order, each put together as it comes.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    entries: &'a Entries,
    at: Position,
}

impl Iterator for Iter<'_> {
    type Item = (TreePath, Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let path = TreePath::checked(self.entries.path_at(self.at)?);
        let entry = self.entries.entry_at(self.at)?;
        self.at = self.entries.next(self.at);
        Some((path, entry))
    }
}

/// Entries in their order. The memory of those that came is given back.
#[derive(Debug)]
pub struct IntoIter {
    places: Vec<Place>,
    chunks: std::vec::IntoIter<Chunk>,
    current: Chunk,
    row: usize,
}

impl Iterator for IntoIter {
    type Item = (TreePath, Entry);

    fn next(&mut self) -> Option<Self::Item> {
        while self.row >= self.current.rows.len() {
            (self.current, self.row) = (self.chunks.next()?, 0);
        }
        let row = &self.current.rows[self.row];
        self.row += 1;
        let path = TreePath::checked(self.current.text_of(row));
        let entry = if row.kind == RowKind::Rare {
            let taken = &mut self.current.rare[row.place as usize];
            std::mem::replace(taken, Entry::directory(0))
        } else {
            self.current.entry(row, &self.places)
        };
        Some((path, entry))
    }
}

impl IntoIterator for Entries {
    type Item = (TreePath, Entry);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        let Self { chunks, places, .. } = self;
        IntoIter { places, chunks: chunks.into_iter(), current: Chunk::default(), row: 0 }
    }
}

impl Position {
    /// The first place.
    pub(super) const START: Self = Self { chunk: 0, row: 0 };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::layer::{FileState, HeldFolder};

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    /// A file of a folder that is held open, without a look at it.
    fn held(folder: &Arc<HeldFolder>, relative: &str, number: u64) -> Entry {
        use crate::layer::content::FileLocation;
        let time = (i64::try_from(number).unwrap() - 5, number % 1_000_000_000);
        let (device, inode, size) = (number % 3, number, 2 * number);
        let seen = FileState { device, inode, size, modified: time, changed: (time.0, 7) };
        let relative = relative.as_bytes().into();
        let place = FileLocation::Beneath { folder: folder.clone(), relative, seen };
        Entry::file(Content::File(FileContent { place, size, hash: None }), 0o644)
    }

    /// One of each kind of entries, by a number.
    fn entry(folder: &Arc<HeldFolder>, path: &TreePath, number: u64) -> Entry {
        let text = path.to_string();
        let base = match number % 9 {
            0 => Entry::directory(0o755),
            1 => Entry::symlink(format!("../{number}")),
            2 => Entry::new(EntryKind::HardLink(path.clone()), 0o600),
            3 => Entry::file(format!("{number}"), 0o644),
            4 => Entry::file(Content::file(format!("/else/where/{text}"), number), 0o644),
            5 => held(folder, &format!("src/{text}"), number),
            6 => held(folder, &format!("other/{number}"), number),
            7 => {
                let mut entry = held(folder, &text, number);
                entry.xattrs.insert("user.a".to_owned(), vec![1]);
                entry
            }
            _ => Entry::new(EntryKind::CharDevice { major: 1, minor: 2 }, 0o600),
        };
        let id = u32::try_from(number % 70_000).unwrap();
        base.owned_by(id, id + 1).modified(-i64::try_from(number).unwrap())
    }

    fn put(entries: &mut Entries, path: &TreePath, entry: Entry) -> Option<Entry> {
        entries.put(entries.find(path.as_bytes()), path, entry)
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<crate::layer::chunk::Row>(), 80);
    }

    #[test]
    fn entries_in_their_order_fill_chunks() {
        let mut entries = Entries::default();
        for number in 0..10 * MOST_ROWS {
            put(&mut entries, &path(&format!("{number:06}")), Entry::directory(0o755));
        }
        assert_eq!(entries.chunks.len(), 10);
        let places: Vec<_> = entries.chunks.iter().map(|chunk| chunk.rows.len()).collect();
        assert!(places.iter().all(|rows| *rows == MOST_ROWS), "{places:?}");
    }

    #[test]
    fn an_entry_that_is_replaced_again_and_again_takes_no_room() {
        let mut entries = Entries::default();
        for number in 0..100_000 {
            put(&mut entries, &path("a"), Entry::file(format!("{number}"), 0o644));
        }
        let chunk = &entries.chunks[0];
        assert!(chunk.rare.len() <= 2 * MOST_ROWS + 1, "{}", chunk.rare.len());
        assert_eq!(entries.entry_at(Position::START), Some(Entry::file("99999", 0o644)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn what_is_packed_is_what_a_map_has(
            steps in prop::collection::vec((0u64..900, 0u64..100_000, 0u32..12), 1..1500)
        ) {
            let here = Arc::new(HeldFolder::open("/").unwrap());
            let (mut entries, mut map) = (Entries::default(), BTreeMap::new());
            for (name, number, what) in steps {
                let path = path(&format!("d{}/{}{name}", name % 7, if name % 50 == 0 { ".wh." } else { "" }));
                let found = entries.find(path.as_bytes());
                match (what, found) {
                    (0, Ok(at)) => {
                        entries.remove(at, entries.next(at));
                        map.remove(&path);
                    }
                    (1, Ok(_)) => {
                        let before = entries.len();
                        let end = entries.seek(|other| order(other, path.as_bytes()).is_le());
                        entries.remove(Position::START, end);
                        map = map.split_off(&path);
                        map.remove(&path);
                        prop_assert!(entries.len() < before);
                    }
                    _ => {
                        let entry = entry(&here, &path, number);
                        prop_assert_eq!(put(&mut entries, &path, entry.clone()), map.insert(path, entry));
                    }
                }
            }
            prop_assert_eq!(entries.len(), map.len());
            let all: Vec<_> = entries.iter(Position::START).collect();
            let expected: Vec<_> = map.clone().into_iter().collect();
            prop_assert_eq!(&all, &expected);
            prop_assert_eq!(&entries.clone().into_iter().collect::<Vec<_>>(), &expected);
            for (path, entry) in &map {
                let found = entries.find(path.as_bytes());
                let found = entries.entry_at(found.unwrap());
                prop_assert_eq!(found.as_ref(), Some(entry));
            }
            // Whatever changes all of them.
            let sizes: u64 = map.values().map(Entry::size).sum();
            prop_assert_eq!(entries.content_size(), sizes);
            let directories = map.values().filter(|entry| entry.is_directory()).count();
            prop_assert_eq!(entries.count_directories(), directories);
            let (from, to) = (Path::new("/else"), Path::new("/moved/to"));
            entries.change_times(|time| time.min(-50_000));
            entries.change_files(|file| file.relocate(from, to));
            let hash = |path: &TreePath| *blake3::hash(path.as_bytes()).as_bytes();
            let mut seen = 0;
            let pinned: Result<(), ()> = entries.pin(100, &mut |files| {
                seen += files.len();
                Ok(files.iter().map(|(path, _)| hash(path)).collect())
            });
            pinned.unwrap();
            for (path, entry) in &mut map {
                entry.mtime = entry.mtime.min(-50_000);
                if let EntryKind::File(content) = &mut entry.kind {
                    if let Content::File(file) = content {
                        file.relocate(from, to);
                        seen -= 1;
                    }
                    content.pin_as(hash(path));
                }
            }
            prop_assert_eq!(seen, 0);
            prop_assert_eq!(entries.iter(Position::START).collect::<Vec<_>>(), map.into_iter().collect::<Vec<_>>());
        }
    }
}
