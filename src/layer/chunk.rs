//! Some entries that follow each other, packed: see [`super::packed`].

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::Arc;

use super::content::FileLocation;
use super::{Content, ContentHash, Entry, EntryKind, FileContent, FileState, HeldFolder, TreePath};

/// How many entries a chunk has.
pub(super) const MOST_ROWS: usize = 256;
/// More text than those have.
const MOST_TEXT: usize = 4 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    /// In the order of paths.
    pub(super) rows: Vec<Row>,
    pub(super) text: Vec<u8>,
    pub(super) rare: Vec<Entry>,
}

/// Where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder that is held open, where they are in one, and the number of their file system.
    holder: Option<(Arc<HeldFolder>, u64)>,
    /// What their paths begin with.
    head: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) mtime: i64,
    pub(super) size: u64,
    inode: u64,
    /// The hash of a file, or else when it was changed.
    known: [u8; 32],
    uid: u32,
    gid: u32,
    /// Where its path begins in the text. Behind that stands where a link leads.
    start: u32,
    /// Of a file the number of its place; of a rare entry its own.
    pub(super) place: u32,
    length: u16,
    /// Of a file, how many bytes its path and its place's have in common at their ends; of a link, how
    /// long the path is where it leads.
    extra: u16,
    mode: u16,
    pub(super) kind: RowKind,
    is_pinned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    Directory,
    File,
    Symlink,
    HardLink,
    Rare,
}

impl Chunk {
    /// An empty chunk for what follows this one, with as much room: pieces of memory of one size take each
    /// other's places.
    pub(super) fn next(&self) -> Self {
        let rows = Vec::with_capacity(MOST_ROWS);
        Self { rows, text: Vec::with_capacity(self.text.len()), rare: Vec::new() }
    }

    pub(super) fn path(&self, row: usize) -> &[u8] {
        self.text_of(&self.rows[row])
    }

    pub(super) fn is_directory(&self, row: &Row) -> bool {
        match row.kind {
            RowKind::Directory => true,
            RowKind::Rare => self.rare[row.place as usize].is_directory(),
            RowKind::File | RowKind::Symlink | RowKind::HardLink => false,
        }
    }

    pub(super) fn text_of(&self, row: &Row) -> &[u8] {
        &self.text[row.start as usize..][..row.length.into()]
    }

    /// Where a link leads.
    fn target(&self, row: &Row) -> &[u8] {
        &self.text[row.start as usize + usize::from(row.length)..][..row.extra.into()]
    }

    /// Takes the text and what is rare of an entry; the row itself is not in its place yet.
    pub(super) fn row(&mut self, path: &[u8], entry: Entry, places: &mut Vec<Place>) -> Row {
        self.tidy();
        let start = u32::try_from(self.text.len()).expect("a chunk has few paths, and short ones");
        let length = u16::try_from(path.len()).expect("paths are short");
        let mode = u16::try_from(entry.mode & 0o7777).expect("these are twelve bits");
        let Entry { uid, gid, mtime, .. } = entry;
        let (size, inode, known, place, extra) = (0, 0, [0; 32], 0, 0);
        let (kind, is_pinned) = (RowKind::Directory, false);
        let mut row = Row {
            mtime,
            size,
            inode,
            known,
            uid,
            gid,
            start,
            place,
            length,
            extra,
            mode,
            kind,
            is_pinned,
        };
        self.text.extend_from_slice(path);
        let is_common = entry.xattrs.is_empty() && entry.mode & !0o7777 == 0;
        match &entry.kind {
            EntryKind::Directory if is_common => {}
            EntryKind::File(Content::File(file))
                if is_common && let Some(packed) = FileRow::of(path, file, places) =>
            {
                row.take_file(&packed);
            }
            EntryKind::Symlink(target) if is_common && target.len() <= u16::MAX.into() => {
                self.lead(&mut row, RowKind::Symlink, target);
            }
            EntryKind::HardLink(target) if is_common => {
                self.lead(&mut row, RowKind::HardLink, target.as_bytes());
            }
            _ => {
                row.kind = RowKind::Rare;
                row.place = u32::try_from(self.rare.len()).expect("a chunk has few entries");
                self.rare.push(entry);
            }
        }
        row
    }

    fn lead(&mut self, row: &mut Row, kind: RowKind, target: &[u8]) {
        row.kind = kind;
        row.extra = u16::try_from(target.len()).expect("it was looked at");
        self.text.extend_from_slice(target);
    }

    /// Puts the entry of a row together.
    pub(super) fn entry(&self, row: &Row, places: &[Place]) -> Entry {
        let kind = match row.kind {
            RowKind::Directory => EntryKind::Directory,
            RowKind::File => EntryKind::File(Content::File(self.file(row, places))),
            RowKind::Symlink => EntryKind::Symlink(self.target(row).to_vec()),
            RowKind::HardLink => EntryKind::HardLink(TreePath::checked(self.target(row))),
            RowKind::Rare => return self.rare[row.place as usize].clone(),
        };
        Entry::new(kind, row.mode.into()).owned_by(row.uid, row.gid).modified(row.mtime)
    }

    pub(super) fn file(&self, row: &Row, places: &[Place]) -> FileContent {
        let Place { holder, head } = &places[row.place as usize];
        let path = self.text_of(row);
        let path = [head, &path[path.len() - usize::from(row.extra)..]].concat();
        let place = match holder {
            Some((folder, device)) => {
                let (modified, changed) = row.times();
                let (device, inode, size) = (*device, row.inode, row.size);
                let seen = FileState { device, inode, size, modified, changed };
                FileLocation::Beneath { folder: folder.clone(), relative: path.into(), seen }
            }
            None => FileLocation::Path(OsString::from_vec(path).into()),
        };
        FileContent { place, size: row.size, hash: row.is_pinned.then_some(row.known) }
    }

    /// The files that have no hash yet.
    pub(super) fn unpinned(&self, places: &[Place], into: &mut Vec<(TreePath, Entry)>) {
        for row in self.rows.iter().filter(|row| self.is_unpinned(row)) {
            into.push((TreePath::checked(self.text_of(row)), self.entry(row, places)));
        }
    }

    fn is_unpinned(&self, row: &Row) -> bool {
        match row.kind {
            RowKind::File => !row.is_pinned,
            RowKind::Rare => is_unpinned(&self.rare[row.place as usize]),
            RowKind::Directory | RowKind::Symlink | RowKind::HardLink => false,
        }
    }

    pub(super) fn pin(&mut self, hashes: &mut impl Iterator<Item = ContentHash>) {
        for row in &mut self.rows {
            match row.kind {
                RowKind::File if !row.is_pinned => {
                    let Some(hash) = hashes.next() else { return };
                    (row.known, row.is_pinned) = (hash, true);
                }
                RowKind::Rare => {
                    let entry = &mut self.rare[row.place as usize];
                    if is_unpinned(entry)
                        && let EntryKind::File(content) = &mut entry.kind
                    {
                        let Some(hash) = hashes.next() else { return };
                        content.pin_as(hash);
                    }
                }
                _ => {}
            }
        }
    }

    /// Lets go of what no row stands for any more, where that is much.
    fn tidy(&mut self) {
        if self.text.len() > MOST_TEXT || self.rare.len() > 2 * MOST_ROWS {
            *self = std::mem::take(self).split(MOST_ROWS).0;
        }
    }

    /// Two chunks: one of so many rows, and one of the others.
    pub(super) fn split(self, half: usize) -> (Self, Self) {
        let (mut first, mut second) = (Self::default(), Self::default());
        let mut rare: Vec<Option<Entry>> = self.rare.into_iter().map(Some).collect();
        for (number, mut row) in self.rows.into_iter().enumerate() {
            let chunk = if number < half { &mut first } else { &mut second };
            let leads = matches!(row.kind, RowKind::Symlink | RowKind::HardLink);
            let target = if leads { usize::from(row.extra) } else { 0 };
            let text = &self.text[row.start as usize..][..usize::from(row.length) + target];
            row.start = u32::try_from(chunk.text.len()).expect("it is shorter than the whole");
            chunk.text.extend_from_slice(text);
            if row.kind == RowKind::Rare {
                let entry = rare[row.place as usize].take().expect("each row has its own");
                row.place = u32::try_from(chunk.rare.len()).expect("they are fewer than before");
                chunk.rare.push(entry);
            }
            chunk.rows.push(row);
        }
        (first, second)
    }
}

fn is_unpinned(entry: &Entry) -> bool {
    matches!(&entry.kind, EntryKind::File(Content::File(file)) if file.pinned().is_none())
}

/// How many bytes two paths end with that are the same.
fn common_end(one: &[u8], other: &[u8]) -> usize {
    let shorter = one.len().min(other.len());
    if one[one.len() - shorter..] == other[other.len() - shorter..] {
        return shorter;
    }
    let (mut one, mut other) = (one.iter().rev(), other.iter().rev());
    let mut same = 0;
    while one.next() == other.next() {
        same += 1;
    }
    same
}

/// What a row says of a file.
pub(super) struct FileRow {
    size: u64,
    inode: u64,
    known: [u8; 32],
    is_pinned: bool,
    place: u32,
    common: u16,
}

impl FileRow {
    /// What stands for a file in the row of a path; none where a row has no room for it.
    pub(super) fn of(path: &[u8], file: &FileContent, places: &mut Vec<Place>) -> Option<Self> {
        let (source, seen) = match &file.place {
            FileLocation::Path(path) => (path.as_os_str().as_bytes(), None),
            FileLocation::Beneath { relative, seen, folder } => (&**relative, Some((folder, seen))),
        };
        let mut known = [0; 32];
        if let Some(hash) = &file.hash {
            known = *hash;
        } else if let Some((_, seen)) = seen {
            known = packed_times(seen)?;
        }
        if seen.is_some_and(|(_, seen)| seen.size != file.size) {
            return None;
        }
        let common = common_end(path, source);
        let head = &source[..source.len() - common];
        Some(Self {
            size: file.size,
            inode: seen.map_or(0, |(_, seen)| seen.inode),
            known,
            is_pinned: file.hash.is_some(),
            place: place(places, seen.map(|(folder, seen)| (folder, seen.device)), head)?,
            common: u16::try_from(common).ok()?,
        })
    }
}

impl Row {
    pub(super) fn take_file(&mut self, file: &FileRow) {
        self.kind = RowKind::File;
        (self.size, self.inode, self.known) = (file.size, file.inode, file.known);
        (self.is_pinned, self.place, self.extra) = (file.is_pinned, file.place, file.common);
    }

    /// When a file was modified and changed, in seconds and nanoseconds; nothing of one that is pinned.
    fn times(&self) -> ((i64, u64), (i64, u64)) {
        if self.is_pinned {
            return ((0, 0), (0, 0));
        }
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.known[at..at + 8]);
            i64::from_le_bytes(bytes)
        };
        let nanoseconds = number(16).cast_unsigned();
        ((number(0), nanoseconds & u64::from(u32::MAX)), (number(8), nanoseconds >> 32))
    }
}

/// The times of a file in the room of its hash; none where they are no times.
fn packed_times(seen: &FileState) -> Option<[u8; 32]> {
    let ((modified, fraction), (changed, other)) = (seen.modified, seen.changed);
    let (fraction, other) = (u32::try_from(fraction).ok()?, u32::try_from(other).ok()?);
    let mut packed = [0; 32];
    packed[..8].copy_from_slice(&modified.to_le_bytes());
    packed[8..16].copy_from_slice(&changed.to_le_bytes());
    packed[16..20].copy_from_slice(&fraction.to_le_bytes());
    packed[20..24].copy_from_slice(&other.to_le_bytes());
    Some(packed)
}

/// How many of the last places are looked at for one that is there already: files of one source come
/// together.
const LAST_PLACES: usize = 4;

/// The number of a place.
fn place(
    places: &mut Vec<Place>,
    holder: Option<(&Arc<HeldFolder>, u64)>,
    head: &[u8],
) -> Option<u32> {
    let same = |place: &Place| {
        let same_holder = match (&place.holder, holder) {
            (None, None) => true,
            (Some((one, device)), Some((other, number))) => {
                Arc::ptr_eq(one, other) && *device == number
            }
            _ => false,
        };
        same_holder && *place.head == *head
    };
    let first = places.len().saturating_sub(LAST_PLACES);
    let number = places[first..].iter().position(same).map(|number| first + number);
    let number = number.unwrap_or_else(|| {
        let holder = holder.map(|(folder, device)| (folder.clone(), device));
        places.push(Place { holder, head: head.into() });
        places.len() - 1
    });
    u32::try_from(number).ok()
}
