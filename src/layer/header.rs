//! Archive headers: USTAR, with PAX records for what USTAR has no room for.
//!
//! See "pax Interchange Format" in POSIX.1-2008, `pax`. A record stands only where it is needed, so
//! that common layers are plain USTAR. All bytes are part of the layer format.

use super::{Entry, EntryKind, TreePath};
use crate::error::{Error, ErrorKind, Result};

/// The unit of an archive: headers are this long, contents are padded to a multiple of it.
pub(super) const BLOCK: usize = 512;

/// The place of a field in a header: offset and length.
type Field = (usize, usize);
const NAME: Field = (0, 100);
const MODE: Field = (100, 8);
const UID: Field = (108, 8);
const GID: Field = (116, 8);
const SIZE: Field = (124, 12);
const MTIME: Field = (136, 12);
const CHECKSUM: Field = (148, 8);
const TYPE: usize = 156;
const LINK: Field = (157, 100);
const MAGIC: Field = (257, 8);
const MAJOR: Field = (329, 8);
const MINOR: Field = (337, 8);
const PREFIX: Field = (345, 155);

/// Appends the headers of `entry`, a whole number of blocks, to `out`.
pub(super) fn append(path: &TreePath, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
    let mut records = Records::default();
    let mut header = Header::new(type_flag(&entry.kind));
    let mut name = path.as_bytes().to_vec();
    if entry.is_directory() {
        name.push(b'/');
    }
    if !header.put_path(&name) {
        records.push("path", &name);
    }
    if let Some(target) = link_target(&entry.kind)
        && !header.put_text(LINK, target)
    {
        records.push("linkpath", target);
    }
    header.put_number(MODE, u64::from(entry.mode));
    for (field, key, value) in [
        (UID, "uid", u64::from(entry.uid)),
        (GID, "gid", u64::from(entry.gid)),
        (SIZE, "size", entry.size()),
    ] {
        if !header.put_number(field, value) {
            records.push(key, value.to_string().as_bytes());
        }
    }
    if !u64::try_from(entry.mtime).is_ok_and(|mtime| header.put_number(MTIME, mtime)) {
        records.push("mtime", entry.mtime.to_string().as_bytes());
    }
    put_device(&mut header, path, &entry.kind)?;
    for (key, value) in &entry.xattrs {
        records.push(&format!("SCHILY.xattr.{key}"), value);
    }
    records.append(path, out);
    out.extend_from_slice(&header.finish());
    Ok(())
}

/// The letter that stands for a kind.
pub(super) fn type_flag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(_) => b'0',
        EntryKind::HardLink(_) => b'1',
        EntryKind::Symlink(_) => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

fn link_target(kind: &EntryKind) -> Option<&[u8]> {
    match kind {
        EntryKind::Symlink(target) => Some(target),
        EntryKind::HardLink(target) => Some(target.as_bytes()),
        _ => None,
    }
}

fn put_device(header: &mut Header, path: &TreePath, kind: &EntryKind) -> Result<()> {
    let (EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor }) = kind
    else {
        return Ok(());
    };
    if header.put_number(MAJOR, (*major).into()) && header.put_number(MINOR, (*minor).into()) {
        return Ok(());
    }
    let action = format!("put device {path} into a layer");
    let why = format!("found number {major}:{minor}, expected at most 2097151:2097151");
    Err(Error::new(ErrorKind::Invalid, action).because(why))
}

/// One header block in the making.
struct Header([u8; BLOCK]);

impl Header {
    fn new(type_flag: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[TYPE] = type_flag;
        header.put_bytes(MAGIC, b"ustar\x0000");
        for field in [MODE, UID, GID, SIZE, MTIME, MAJOR, MINOR] {
            header.put_number(field, 0);
        }
        header
    }

    fn put_bytes(&mut self, (start, length): Field, bytes: &[u8]) {
        let length = bytes.len().min(length);
        self.0[start..start + length].copy_from_slice(&bytes[..length]);
    }

    /// Writes octal digits and a NUL; a number that does not fit leaves the field as it was.
    fn put_number(&mut self, (start, length): Field, value: u64) -> bool {
        let digits = length - 1;
        if digits < 21 && value >> (3 * digits) != 0 {
            return false;
        }
        for (place, byte) in self.0[start..start + digits].iter_mut().rev().enumerate() {
            *byte = b'0' + (value >> (3 * place) & 7) as u8;
        }
        true
    }

    /// Writes ASCII text. Other text leaves a readable stand-in, for readers that know no PAX.
    fn put_text(&mut self, field: Field, text: &[u8]) -> bool {
        let ascii: Vec<u8> = text.iter().map(|b| if b.is_ascii() { *b } else { b'_' }).collect();
        self.put_bytes(field, &ascii);
        text.is_ascii() && text.len() <= field.1
    }

    /// Writes a path, in two fields if one is too short for it.
    fn put_path(&mut self, path: &[u8]) -> bool {
        if !path.is_ascii() || path.len() <= NAME.1 {
            return self.put_text(NAME, path);
        }
        let Some(slash) = split(path) else { return self.put_text(NAME, path) };
        self.put_bytes(PREFIX, &path[..slash]);
        self.put_bytes(NAME, &path[slash + 1..]);
        true
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.put_bytes(CHECKSUM, b"        ");
        let sum: u64 = self.0.iter().map(|b| u64::from(*b)).sum();
        self.put_number((CHECKSUM.0, 7), sum);
        self.0[CHECKSUM.0 + 6] = 0;
        self.0
    }
}

/// The first slash that leaves a name short enough, if the prefix before it fits as well.
fn split(path: &[u8]) -> Option<usize> {
    let earliest = path.len().checked_sub(NAME.1 + 1)?;
    // The slash that ends a directory's path separates nothing.
    let slashes = path[..path.len() - 1].iter().enumerate().skip(earliest.max(1));
    let slash = slashes.into_iter().find(|(_, b)| **b == b'/')?.0;
    (slash <= PREFIX.1).then_some(slash)
}

/// PAX records in the order of their keys.
#[derive(Default)]
struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    fn push(&mut self, key: &str, value: &[u8]) {
        self.0.push((key.to_owned(), value.to_vec()));
    }

    /// Appends an extended header with all records; nothing if there are none.
    fn append(mut self, path: &TreePath, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        self.0.sort();
        let mut body = Vec::new();
        for (key, value) in &self.0 {
            append_record(key, value, &mut body);
        }
        let mut header = Header::new(b'x');
        header.put_text(NAME, &[b"PaxHeaders/", path.name()].concat());
        header.put_number(MODE, 0o644);
        assert!(
            header.put_number(SIZE, body.len() as u64),
            "records are short, their parts checked"
        );
        out.extend_from_slice(&header.finish());
        out.extend_from_slice(&body);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
}

/// Appends `<length> <key>=<value>\n`, where the length counts its own digits too.
fn append_record(key: &str, value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length += 1;
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Content;

    fn headers(path: &str, entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        append(&path.parse().unwrap(), entry, &mut out).unwrap();
        out
    }

    fn sized(size: u64) -> Entry {
        Entry::file(Content::file("large", size), 0o644)
    }

    /// The records before the header.
    fn records(headers: &[u8]) -> String {
        let body = &headers[BLOCK..headers.len() - BLOCK];
        String::from_utf8(body.to_vec()).unwrap().trim_end_matches('\0').to_owned()
    }

    #[test]
    fn records_stand_only_where_ustar_has_no_room() {
        let long = "x".repeat(100);
        let split = format!("{}/{long}", "y".repeat(155));
        let file = || Entry::file("", 0o644);
        for (path, entry) in [
            (&*long, file()),
            (&split, file()),
            ("a", Entry::symlink("t".repeat(100))),
            ("a", file().owned_by(2_097_151, 2_097_151)),
            ("a", file().modified(8_589_934_591)),
            ("a", sized((8 << 30) - 1)),
        ] {
            assert_eq!(headers(path, &entry).len(), BLOCK, "{path} {entry:?}");
        }
        let over = format!("{}/{long}", "y".repeat(156));
        for (path, entry, expected) in [
            (&*"x".repeat(101), file(), format!("111 path={}\n", "x".repeat(101))),
            (&over, file(), format!("267 path={over}\n")),
            ("é", file(), "11 path=é\n".into()),
            ("a", Entry::symlink("é"), "15 linkpath=é\n".into()),
            ("a", file().owned_by(2_097_152, 0), "15 uid=2097152\n".into()),
            ("a", file().owned_by(0, 2_097_152), "15 gid=2097152\n".into()),
            ("a", file().modified(8_589_934_592), "20 mtime=8589934592\n".into()),
            ("a", file().modified(-1), "12 mtime=-1\n".into()),
            ("a", sized(8 << 30), "19 size=8589934592\n".into()),
        ] {
            assert_eq!(records(&headers(path, &entry)), expected);
        }
    }

    #[test]
    fn records_are_sorted_and_their_header_is_plain() {
        let mut entry = sized(8 << 30).owned_by(u32::MAX, 0).modified(-1);
        entry.xattrs.insert("user.b".into(), b"2".into());
        entry.xattrs.insert("user.a".into(), b"1".into());
        let headers = headers("dir/käse", &entry);
        let expected = "25 SCHILY.xattr.user.a=1\n25 SCHILY.xattr.user.b=2\n\
            12 mtime=-1\n18 path=dir/käse\n19 size=8589934592\n18 uid=4294967295\n";
        assert_eq!(records(&headers), expected);
        let first = tar::Header::from_byte_slice(&headers[..BLOCK]);
        assert_eq!(&*first.path_bytes(), b"PaxHeaders/k__se");
        assert_eq!((first.uid().unwrap(), first.mtime().unwrap()), (0, 0));
        let own = tar::Header::from_byte_slice(&headers[headers.len() - BLOCK..]);
        assert_eq!(&*own.path_bytes(), b"dir/k__se");
        assert_eq!((own.size().unwrap(), own.uid().unwrap()), (0, 0));
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for length in (1..30).chain(80..110).chain(980..1010).chain(9980..10010) {
            let mut out = Vec::new();
            append_record("k", &vec![b'v'; length], &mut out);
            let text = String::from_utf8(out).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn a_device_number_beyond_the_field_is_refused() {
        let device = Entry::new(EntryKind::CharDevice { major: 1, minor: 2_097_152 }, 0o600);
        let error = append(&"dev/x".parse().unwrap(), &device, &mut Vec::new()).unwrap_err();
        let expected = "cannot put device dev/x into a layer: found number 1:2097152, \
            expected at most 2097151:2097151";
        assert_eq!(error.to_string(), expected);
    }
}
