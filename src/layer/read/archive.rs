//! Walking through an archive.

use std::collections::BTreeMap;
use std::io::Read;

use super::entry::{ListedEntry, ListedKind};
use super::fields::{Fault, RawHeader};
use super::{read_some, records, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::header::BLOCK;

/// What a foreign archive may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Headers of any kind: entries, and what stands before them.
    pub headers: u64,
    /// Bytes of what stands before one entry: long names, extended attributes, sparse maps.
    pub metadata: u64,
    /// Bytes of the whole archive.
    pub bytes: u64,
}

impl Default for Limits {
    /// 16 million headers, 1 MiB of metadata, 1 TiB: far above what images have.
    fn default() -> Self {
        Self { headers: 16 << 20, metadata: 1 << 20, bytes: 1 << 40 }
    }
}

/// Lists the entries of an archive, and reads it to its end, behind the end marker too.
///
/// After an error the list ends.
pub fn entries<R: Read>(archive: R) -> impl Iterator<Item = Result<ListedEntry>> {
    let mut reader = Some(ArchiveReader::new(archive, Limits::default()));
    std::iter::from_fn(move || {
        let next = reader.as_mut()?.next_entry().transpose();
        if !matches!(next, Some(Ok(_))) {
            reader = None;
        }
        next
    })
}

/// Reads an archive entry by entry.
///
/// Understands USTAR, PAX and GNU's long names and numbers; of GNU's sparse forms the names and
/// sizes. Global extended headers have no effect, and links, directories and devices no content: the same
/// as in Go's `archive/tar`, by which the engines that run images read them.
pub struct ArchiveReader<R> {
    inner: R,
    limits: Limits,
    /// Bytes read so far.
    offset: u64,
    headers: u64,
    /// Content of the current entry not read yet, and the padding behind it.
    content: u64,
    padding: u64,
    scratch: Vec<u8>,
}

/// What stands before an entry's own header.
#[derive(Default)]
struct Prelude {
    records: Vec<(String, Vec<u8>)>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// The bytes that all this took.
    size: u64,
}

impl<R: Read> ArchiveReader<R> {
    /// Starts at the beginning of an archive.
    pub fn new(archive: R, limits: Limits) -> Self {
        let scratch = Vec::new();
        Self { inner: archive, limits, offset: 0, headers: 0, content: 0, padding: 0, scratch }
    }

    /// Says at which byte of the whole archive the reader starts, for those that begin at an entry.
    #[must_use]
    pub fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The byte of the archive that is read next: right after [`Self::next_entry`], where the
    /// entry's content begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to the next entry, past the content of this one. At the end of the archive reads
    /// whatever follows, and returns `None`.
    pub fn next_entry(&mut self) -> Result<Option<ListedEntry>> {
        self.skip(self.content + self.padding)?;
        (self.content, self.padding) = (0, 0);
        let mut prelude = Prelude::default();
        loop {
            let Some(block) = self.header_block()? else {
                self.drain()?;
                return Ok(None);
            };
            let header = RawHeader::new(&block).map_err(|fault| self.broken(fault))?;
            match header.type_flag() {
                b'x' | b'g' | b'L' | b'K' => self.read_prelude(&header, &mut prelude)?,
                _ => return self.read_entry(&header, prelude).map(Some),
            }
        }
    }

    /// Reads content of the current entry, as it is stored; 0 means that it ends there.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.content).map_or(buffer.len(), |n| n.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(self.broken(TRUNCATED));
        }
        self.content -= count as u64;
        Ok(count)
    }

    /// The next header; `None` at the end, which is two empty blocks, or one, or just the end.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        self.headers += 1;
        if self.headers > self.limits.headers {
            return Err(self.broken("it has more entries than allowed"));
        }
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(second) if second != [0; BLOCK] => {
                Err(self.broken("an empty block stands between its entries"))
            }
            _ => Ok(None),
        }
    }

    fn read_prelude(&mut self, header: &RawHeader, prelude: &mut Prelude) -> Result<()> {
        let size = header.size().map_err(|fault| self.broken(fault))?;
        prelude.size = prelude.size.saturating_add(size);
        if prelude.size > self.limits.metadata {
            return Err(self.broken("what stands before an entry is longer than allowed"));
        }
        let mut body = vec![0; usize::try_from(size).expect("it is below the limit")];
        self.fill(&mut body)?;
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        match header.type_flag() {
            b'x' => prelude.records = records::parse(&body).map_err(|fault| self.broken(fault))?,
            b'L' => prelude.long_name = Some(up_to_nul(body)),
            b'K' => prelude.long_link = Some(up_to_nul(body)),
            _ => {}
        }
        Ok(())
    }

    fn read_entry(&mut self, header: &RawHeader, prelude: Prelude) -> Result<ListedEntry> {
        let metadata = prelude.size;
        let found = describe(header, prelude).map_err(|fault| self.broken(fault))?;
        if found.more_map {
            self.skip_sparse_map(metadata)?;
        }
        self.content = found.stored;
        let padded = found.stored.checked_next_multiple_of(BLOCK as u64);
        let padded = padded.filter(|padded| *padded <= i64::MAX.cast_unsigned());
        self.padding =
            padded.ok_or_else(|| self.broken("its size is beyond all files"))? - found.stored;
        Ok(found.entry)
    }

    fn skip_sparse_map(&mut self, mut metadata: u64) -> Result<()> {
        loop {
            metadata += BLOCK as u64;
            if metadata > self.limits.metadata {
                return Err(self.broken("its sparse map is longer than allowed"));
            }
            let block = self.block()?.ok_or_else(|| self.broken(TRUNCATED))?;
            if block[504] == 0 {
                return Ok(());
            }
        }
    }

    /// One block; `None` at the end of the input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let count = self.read(&mut block)?;
        if count == 0 {
            return Ok(None);
        }
        self.fill(&mut block[count..])?;
        Ok(Some(block))
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let count = self.read(buffer)?;
            if count == 0 {
                return Err(self.broken(TRUNCATED));
            }
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn skip(&mut self, mut bytes: u64) -> Result<()> {
        while bytes > 0 {
            let count = self.discard(bytes)?;
            if count == 0 {
                return Err(self.broken(TRUNCATED));
            }
            bytes -= count;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while self.discard(u64::MAX)? > 0 {}
        Ok(())
    }

    /// Reads and forgets up to `bytes`.
    fn discard(&mut self, bytes: u64) -> Result<u64> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(SCRATCH, 0);
        let wanted = usize::try_from(bytes).map_or(SCRATCH, |bytes| bytes.min(SCRATCH));
        let count = self.read(&mut scratch[..wanted]);
        self.scratch = scratch;
        count.map(|count| count as u64)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = read_some(&mut self.inner, buffer)
            .map_err(|error| unreadable("read the archive", error))?;
        self.offset += count as u64;
        if self.offset > self.limits.bytes {
            return Err(self.broken("it is longer than allowed"));
        }
        Ok(count)
    }

    fn broken(&self, fault: Fault) -> Error {
        let action = format!("read the archive near byte {}", self.offset);
        Error::new(ErrorKind::Invalid, action).because(fault)
    }
}

const TRUNCATED: Fault = "it ends in the middle of an entry";
/// How much is read at once where the bytes do not matter.
const SCRATCH: usize = 64 << 10;

struct Described {
    entry: ListedEntry,
    /// The bytes of content in the archive.
    stored: u64,
    /// Whether more of a sparse map stands between header and content.
    more_map: bool,
}

/// Puts together what a header and its prelude say.
fn describe(header: &RawHeader, prelude: Prelude) -> Result<Described, Fault> {
    let mut stored = header.size()?;
    let mut entry = ListedEntry {
        path: header.path(),
        kind: ListedKind::File,
        mode: header.mode()?,
        uid: header.uid()?,
        gid: header.gid()?,
        mtime: header.mtime()?,
        size: stored,
        sparse: false,
        xattrs: BTreeMap::new(),
    };
    let overrides = records::apply(prelude.records, &mut entry)?;
    stored = overrides.stored.unwrap_or(stored);
    if let Some(name) = prelude.long_name {
        entry.path = name;
    }
    let link = prelude.long_link.or(overrides.link).unwrap_or_else(|| header.link());
    let mut more_map = false;
    if header.type_flag() == b'S' {
        (entry.size, more_map) = header.sparse()?;
        entry.sparse = true;
    }
    entry.kind = kind(header, &entry.path, link)?;
    if !matches!(entry.kind, ListedKind::File | ListedKind::Other(_)) {
        (entry.size, entry.sparse, stored) = (0, false, 0);
    }
    Ok(Described { entry, stored, more_map })
}

fn kind(header: &RawHeader, path: &[u8], link: Vec<u8>) -> Result<ListedKind, Fault> {
    let device = || header.device();
    Ok(match header.type_flag() {
        // Before USTAR a directory was a file whose name ends in a slash.
        0 if path.ends_with(b"/") => ListedKind::Directory,
        0 | b'0' | b'7' | b'S' => ListedKind::File,
        b'1' => ListedKind::HardLink(link),
        b'2' => ListedKind::Symlink(link),
        b'3' => device().map(|(major, minor)| ListedKind::CharDevice { major, minor })?,
        b'4' => device().map(|(major, minor)| ListedKind::BlockDevice { major, minor })?,
        b'5' => ListedKind::Directory,
        b'6' => ListedKind::Fifo,
        other => ListedKind::Other(other),
    })
}

fn up_to_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::{
        Content, Encoding, Entry, EntryKind, Tree, TreePath, Whiteout, WriteOptions, sample, write,
    };

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut out = Vec::new();
        let options = WriteOptions { encoding: Encoding::None, threads: 1 };
        write(tree, &options, &|_| (), &mut out).unwrap();
        out
    }

    fn list(archive: &[u8]) -> Result<Vec<ListedEntry>> {
        entries(archive).collect()
    }

    fn fault(archive: &[u8]) -> String {
        let error = list(archive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    }

    /// An entry as the tree describes it, and as its listing does.
    fn listed(path: &TreePath, entry: &Entry) -> ListedEntry {
        let (major, minor) = match entry.kind {
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                (major.into(), minor.into())
            }
            _ => (0, 0),
        };
        let slash: &[u8] = if entry.is_directory() { b"/" } else { b"" };
        ListedEntry {
            path: [path.as_bytes(), slash].concat(),
            kind: match &entry.kind {
                EntryKind::File(_) => ListedKind::File,
                EntryKind::Directory => ListedKind::Directory,
                EntryKind::Symlink(target) => ListedKind::Symlink(target.clone()),
                EntryKind::HardLink(target) => ListedKind::HardLink(target.as_bytes().to_vec()),
                EntryKind::CharDevice { .. } => ListedKind::CharDevice { major, minor },
                EntryKind::BlockDevice { .. } => ListedKind::BlockDevice { major, minor },
                EntryKind::Fifo => ListedKind::Fifo,
            },
            mode: entry.mode,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            mtime: entry.mtime,
            size: entry.size(),
            sparse: false,
            xattrs: entry.xattrs.clone(),
        }
    }

    fn assert_round_trip(tree: &Tree) {
        let archive = archive(tree);
        let mut reader = ArchiveReader::new(&archive[..], Limits::default());
        for (path, entry) in tree {
            assert_eq!(reader.next_entry().unwrap(), Some(listed(&path, &entry)));
            let mut content = vec![0; entry.size().try_into().unwrap()];
            let mut read = 0;
            while read < content.len() {
                read += reader.read_content(&mut content[read..]).unwrap();
            }
            assert_eq!(reader.read_content(&mut [0]).unwrap(), 0);
            if let EntryKind::File(Content::Memory(bytes)) = &entry.kind {
                assert_eq!(content, bytes[..]);
            }
        }
        assert_eq!(reader.next_entry().unwrap(), None);
        assert_eq!(reader.offset, archive.len() as u64);
        // Whatever was not read is skipped.
        assert_eq!(list(&archive).unwrap().len(), tree.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read(tree in sample::any_tree()) {
            assert_round_trip(&tree);
        }

        #[test]
        fn no_archive_makes_the_reader_panic(
            tree in sample::any_tree(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
            fix_checksums: bool,
        ) {
            let mut archive = archive(&tree);
            for (place, byte) in changes {
                let place = place.index(archive.len());
                archive[place] = byte;
                let header = place / BLOCK * BLOCK;
                if fix_checksums {
                    fix_checksum((&mut archive[header..header + BLOCK]).try_into().unwrap());
                }
            }
            drop(list(&archive));
        }

        #[test]
        fn noise_is_no_archive(bytes in prop::collection::vec(any::<u8>(), 1..2000)) {
            prop_assert!(list(&bytes).is_err());
        }
    }

    fn fix_checksum(block: &mut [u8; BLOCK]) {
        let mut header = tar::Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }

    #[test]
    fn newlines_in_names_and_values_are_kept() {
        let mut tree = sample::tree();
        let mut entry = Entry::symlink("a\n6 b=c\né").modified(-7);
        entry.xattrs.insert("user.x".into(), b"\n\n9 path=x\n\0".to_vec());
        tree.insert("new\nlinesé".parse().unwrap(), entry).unwrap();
        assert_round_trip(&tree);
    }

    #[test]
    fn a_cut_archive_is_an_error_unless_cut_between_entries() {
        let mut tree = Tree::new();
        for name in ["a", "b"] {
            tree.insert(name.parse().unwrap(), Entry::file("hello", 0o644)).unwrap();
        }
        let whole = archive(&tree);
        for cut in 0..whole.len() {
            let result = list(&whole[..cut]);
            // Not all writers put an end marker.
            if cut % (2 * BLOCK) == 0 || cut == 5 * BLOCK {
                assert_eq!(result.unwrap().len(), cut.div_ceil(2 * BLOCK).min(2), "{cut}");
            } else {
                assert!(result.is_err(), "{cut}");
            }
        }
    }

    /// A header of tar's older GNU form with the given type, name and size.
    fn header(kind: u8, name: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().linkflag = [kind];
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    /// A header and its content, padded.
    fn with_content(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(kind, name, content.len() as u64).as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn names(archive: &[u8]) -> Vec<String> {
        let listed = list(archive).unwrap();
        listed.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }

    #[test]
    fn gnu_long_names_and_numbers_are_read() {
        let long = "n/".repeat(300) + "x";
        let mut builder = tar::Builder::new(Vec::new());
        let mut entry = header(b'2', "", 0);
        entry.set_uid(5_000_000);
        builder.append_link(&mut entry, &long, &long).unwrap();
        let listed = list(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(listed[0].path, long.as_bytes());
        assert_eq!(listed[0].kind, ListedKind::Symlink(long.into_bytes()));
        assert_eq!(listed[0].uid, 5_000_000);
    }

    #[test]
    fn the_last_of_several_headers_counts_and_global_ones_do_not() {
        let archive = [
            with_content(b'g', "g", b"10 path=g\n"),
            with_content(b'x', "x", b"10 path=x\n"),
            with_content(b'x', "x", b"10 path=y\n"),
            with_content(b'0', "a", b"hello"),
            with_content(b'0', "b", b""),
        ];
        assert_eq!(names(&archive.concat()), ["y", "b"]);
    }

    #[test]
    fn a_size_in_an_extended_header_wins() {
        let mut archive = with_content(b'x', "x", b"12 size=600\n");
        archive.extend_from_slice(header(b'0', "a", 3).as_bytes());
        archive.resize(archive.len() + 1024, 7);
        archive.extend(with_content(b'0', "b", b""));
        let listed = list(&archive).unwrap();
        assert_eq!((listed.len(), listed[0].size), (2, 600));
    }

    #[test]
    fn links_and_directories_have_no_content() {
        for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
            let mut archive = header(kind, "a", 600).as_bytes().to_vec();
            archive.extend(with_content(b'0', "b", b"hello"));
            let listed = list(&archive).unwrap();
            assert_eq!((listed[0].size, listed[1].size), (0, 5));
        }
        let unknown = [with_content(b'V', "a", b"hello"), with_content(0, "b/", b"")].concat();
        let listed = list(&unknown).unwrap();
        assert_eq!(listed[0].kind, ListedKind::Other(b'V'));
        assert_eq!(listed[1].kind, ListedKind::Directory);
    }

    #[test]
    fn impossible_headers_are_refused() {
        let mut negative = header(b'0', "a", 0);
        negative.as_old_mut().size = [0xff; 12];
        negative.set_cksum();
        assert!(fault(negative.as_bytes()).ends_with("its size is a negative number"));
        let mut huge = with_content(b'x', "x", b"28 size=9223372036854775807\n");
        huge.extend_from_slice(header(b'0', "a", 0).as_bytes());
        assert!(fault(&huge).ends_with("its size is beyond all files"));
        let many = header(b'x', "x", 8 << 30);
        let expected = "what stands before an entry is longer than allowed";
        assert!(fault(many.as_bytes()).ends_with(expected));
        let mut gap = vec![0; BLOCK];
        gap.extend(with_content(b'0', "a", b""));
        assert!(fault(&gap).ends_with("an empty block stands between its entries"));
        let alone = with_content(b'x', "x", b"10 path=y\n");
        assert_eq!(names(&alone), [""; 0]);
    }

    #[test]
    fn an_archive_does_not_pass_its_limits() {
        let two = [with_content(b'0', "a", b"hello"), with_content(b'0', "b", b"hello")].concat();
        let count = |limits: Limits| {
            let mut reader = ArchiveReader::new(&two[..], limits);
            let mut count = 0;
            while reader.next_entry()?.is_some() {
                count += 1;
            }
            Ok::<_, Error>(count)
        };
        assert_eq!(count(Limits { headers: 3, bytes: 2048, ..Limits::default() }).unwrap(), 2);
        assert!(count(Limits { headers: 1, ..Limits::default() }).is_err());
        assert!(count(Limits { bytes: 2047, ..Limits::default() }).is_err());
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut archive = with_content(b'0', "a", b"");
        archive.extend_from_slice(&[1; BLOCK]);
        archive.extend(with_content(b'0', "b", b""));
        let results: Vec<bool> = entries(&archive[..]).map(|entry| entry.is_ok()).collect();
        assert_eq!(results, [true, false]);
    }

    #[test]
    fn listed_paths_stand_for_places_in_the_image() {
        let place = |path: &str| {
            let mut archive = with_content(b'x', "x", record("path", path).as_bytes());
            archive.extend(with_content(b'0', "", b""));
            let place = list(&archive).unwrap()[0].tree_path();
            place.map(|place| place.map(|place| place.to_string())).map_err(drop)
        };
        for root in [".", "./", "/", "//."] {
            assert_eq!(place(root), Ok(None), "{root}");
        }
        for (path, expected) in [("./usr/bin/", "usr/bin"), ("/etc/x", "etc/x"), ("...", "...")] {
            assert_eq!(place(path), Ok(Some(expected.to_owned())), "{path}");
        }
        for bad in ["..", "../x", "a/../x", "/.."] {
            assert_eq!(place(bad), Err(()), "{bad}");
        }
    }

    fn record(key: &str, value: &str) -> String {
        let rest = format!(" {key}={value}\n");
        let length = rest.len() + 2;
        assert!((10..100).contains(&length));
        format!("{length}{rest}")
    }

    #[test]
    fn whiteouts_are_shown() {
        let archive = [
            with_content(b'0', "./a/.wh.b", b""),
            with_content(b'0', ".wh..wh..opq", b""),
            with_content(b'0', "a/b", b""),
        ];
        let listed = list(&archive.concat()).unwrap();
        let removed = Whiteout::Removed("a/b".parse().unwrap());
        assert_eq!(listed[0].whiteout(), Some(removed));
        assert_eq!(listed[1].whiteout(), Some(Whiteout::Opaque(None)));
        assert_eq!(listed[2].whiteout(), None);
    }
}
