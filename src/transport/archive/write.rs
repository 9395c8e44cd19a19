//! Writing archives.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::disk::Unfinished;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::Blob;
use crate::oci::{Index, canonical_json};
use crate::registry::BlobSource;
use crate::transport::Progress;
use crate::transport::entries::blob_name;
use crate::transport::export::Export;
use crate::transport::layout::layout_file;

/// How much is read and written at once.
const PIECE: usize = 256 << 10;
const BLOCK: usize = 512;

/// Writes an archive beside `file` and moves it there when it is whole.
///
/// What is no regular file, such as a pipe, is written to as it is.
pub(in crate::transport) fn to_file(
    export: &Export,
    file: &Path,
    progress: Progress<'_>,
) -> Result<()> {
    let action = || format!("write {}", file.display());
    let target = match target(file)? {
        Target::File(target) => target,
        Target::Other => {
            let opened = fs_err::OpenOptions::new().write(true).open(file).cannot(action)?;
            return to_writer(export, opened, progress).cannot(action);
        }
    };
    let unfinished = Unfinished::beside(&target, 0o666).cannot(action)?;
    to_writer(export, unfinished.file(), progress).cannot(action)?;
    progress(0)?;
    unfinished.persist(&target).cannot(action)
}

/// Finds out whether an archive can be written there, as far as that can be told before.
pub(in crate::transport) fn check_file(file: &Path) -> Result<()> {
    target(file).map(drop)
}

/// Where an archive goes.
enum Target {
    /// A file, which is replaced.
    File(PathBuf),
    /// A pipe or a device, which is written to.
    Other,
}

fn target(file: &Path) -> Result<Target> {
    let action = || format!("write {}", file.display());
    let refuse = |why: &str| Error::new(ErrorKind::Usage, action()).because(why);
    match fs_err::metadata(file) {
        Ok(metadata) if metadata.is_dir() => Err(refuse("it is a folder")
            .hint(format!("for an image layout write oci:{}", file.display()))),
        Ok(metadata) if !metadata.is_file() => Ok(Target::Other),
        // A link stays, and what it leads to is replaced.
        Ok(_) => fs_err::canonicalize(file).cannot(action).map(Target::File),
        Err(_) if !folder_of(file).is_dir() => Err(refuse("its folder does not exist")),
        Err(_) => Ok(Target::File(file.to_owned())),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// Writes an archive. `progress` is told the bytes of blobs.
pub(in crate::transport) fn to_writer(
    export: &Export,
    out: impl Write,
    progress: Progress<'_>,
) -> Result<()> {
    let mut writer =
        Writer { out: BufWriter::with_capacity(PIECE, out), buffer: vec![0; PIECE], progress };
    // Blobs are in the order of their digests, and "blobs" is the first of all names.
    for blob in export.blobs.values() {
        writer.blob(blob).cannot(|| format!("write blob {}", blob.descriptor.digest))?;
    }
    let index = canonical_json(&Index::new(export.entries.clone()));
    writer.bytes("index.json", &index)?;
    if !export.items.is_empty() {
        writer.bytes("manifest.json", &canonical_json(&export.items))?;
    }
    writer.bytes("oci-layout", &layout_file())?;
    writer.finish()
}

struct Writer<'a, W: Write> {
    out: BufWriter<W>,
    buffer: Vec<u8>,
    progress: Progress<'a>,
}

impl<W: Write> Writer<'_, W> {
    fn blob(&mut self, blob: &Blob) -> Result<()> {
        let size = blob.descriptor.size;
        self.header(&blob_name(&blob.descriptor), size)?;
        let mut content = blob.open()?;
        loop {
            // The last read checks the digest and the size, so that no wrong archive is finished.
            let count = content.read(&mut self.buffer).cannot(|| "read its content")?;
            if count == 0 {
                return self.pad(size);
            }
            self.out.write_all(&self.buffer[..count]).cannot(|| "write its content")?;
            (self.progress)(count as u64)?;
        }
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let action = || format!("write {name}");
        self.header(name, bytes.len() as u64).cannot(action)?;
        self.out.write_all(bytes).cannot(action)?;
        self.pad(bytes.len() as u64)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<()> {
        let header = header(tar::EntryType::Regular, name, size);
        if let Some(header) = header {
            return self.out.write_all(header.as_bytes()).cannot(|| "write a header");
        }
        // The names of SHA-512 blobs do not fit: they go into an extended header.
        let record = record("path", name);
        let extended =
            header_of_own(tar::EntryType::XHeader, "PaxHeaders/blob", record.len() as u64);
        self.out.write_all(extended.as_bytes()).cannot(|| "write a header")?;
        self.out.write_all(record.as_bytes()).cannot(|| "write a header")?;
        self.pad(record.len() as u64)?;
        let plain = header_of_own(tar::EntryType::Regular, "blobs/sha512", size);
        self.out.write_all(plain.as_bytes()).cannot(|| "write a header")
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let count = size.next_multiple_of(BLOCK as u64) - size;
        let count = usize::try_from(count).expect("less than a block");
        self.out.write_all(&[0; BLOCK][..count]).cannot(|| "write padding")
    }

    fn finish(mut self) -> Result<()> {
        let ended = self.out.write_all(&[0; 2 * BLOCK]).and_then(|()| self.out.flush());
        ended.cannot(|| "write the end")
    }
}

/// The header of a member; `None` where the name is too long for it.
fn header(kind: tar::EntryType, name: &str, size: u64) -> Option<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).ok()?;
    // A size of 8 GiB or more is written in base 256, which every reader of archives takes.
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(kind);
    header.set_cksum();
    Some(header)
}

/// The header of a member whose name is written in this file.
fn header_of_own(kind: tar::EntryType, name: &str, size: u64) -> tar::Header {
    header(kind, name, size).expect("the name is short")
}

/// The record `<length> <key>=<value>\n` of an extended header; the length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::oci::{Descriptor, MediaType};

    #[test]
    fn a_size_that_octal_digits_have_no_room_for_is_read_back() {
        for size in [0, 8 * 1024 * 1024 * 1024 - 1, 8 * 1024 * 1024 * 1024, 1 << 50] {
            let written = header_of_own(tar::EntryType::Regular, "blobs/sha256/x", size);
            assert_eq!(
                tar::Header::from_byte_slice(written.as_bytes()).entry_size().unwrap(),
                size
            );
        }
    }

    #[test]
    fn a_record_counts_itself() {
        for (value, expect) in [("x", "9 path=x\n"), ("xx", "11 path=xx\n")] {
            assert_eq!(record("path", value), expect);
        }
        for length in 80..120 {
            let record = record("path", &"x".repeat(length));
            assert!(record.starts_with(&format!("{} ", record.len())), "{record}");
        }
    }

    #[test]
    fn a_blob_with_a_long_digest_gets_its_name() {
        let digest = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                      47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let digest = format!("sha512:{digest}").parse().expect("the digest of nothing");
        let blob = Blob::in_memory(Descriptor::new(MediaType::OCI_LAYER, digest, 0), Bytes::new());
        let name = blob_name(&blob.descriptor);
        let blobs = BTreeMap::from([(blob.descriptor.digest.clone(), blob)]);
        let (entries, items) = (Vec::new(), Vec::new());
        let export = Export { entries, items, blobs, named_by_place: false };
        let mut bytes = Vec::new();
        to_writer(&export, &mut bytes, &|_| Ok(())).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned());
        assert_eq!(names.collect::<Vec<_>>()[0], Path::new(&name));
    }
}
