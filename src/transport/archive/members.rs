//! What is in an archive, and where.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;

use super::unpack;
use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::BlobLocation;
use crate::layer::{self, ArchiveReader, Limits, ListedEntry, ListedKind};
use crate::oci::{Compression, Descriptor, Digest, MediaType};
use crate::store::Store;
use crate::transport::files::{Files, read_part};
use crate::transport::location::is_stream;
use crate::transport::watch::Watch;

/// More members than any archive of images has.
const MOST_MEMBERS: usize = 200_000;
/// What contents are padded to.
const BLOCK: u64 = 512;
/// How long a chain of links may be.
const LONGEST_CHAIN: usize = 16;

/// An archive whose members are known.
pub(in crate::transport) struct Archive {
    file: PathBuf,
    store: Store,
    members: BTreeMap<String, Member>,
}

/// A member of an archive.
#[derive(Clone, Debug)]
pub(super) enum Member {
    /// A part of the archive's own file.
    Slice {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        size: u64,
    },
    /// A small file of an archive that had to be unpacked.
    Held(Bytes),
    /// A large one, which is in the store under this digest, and its size.
    Stored(Digest, u64),
    /// Another member's name.
    Link(String),
}

impl Archive {
    /// Lists the members of an archive.
    ///
    /// One that is compressed, or comes through a pipe, is unpacked into `store`.
    pub(in crate::transport) fn open(file: PathBuf, store: &Store, watch: &Watch) -> Result<Self> {
        let action = || format!("read {}", file.display());
        let members = if is_stream(&file) {
            unpack::unpack(std::io::stdin(), store, watch).cannot(|| "read standard input")?
        } else {
            if file.is_dir() {
                return Err(Error::new(ErrorKind::Usage, action())
                    .because("it is a folder, not an archive")
                    .hint(format!("for an image layout write oci:{}", file.display())));
            }
            let opened = disk::open_named(&file).cannot(action)?;
            let metadata = opened.metadata().cannot(action)?;
            list_or_unpack(opened, &metadata, store, watch).cannot(action)?
        };
        Ok(Self { file, store: store.clone(), members })
    }

    /// Follows links to a member with content.
    fn resolve(&self, name: &str) -> Result<Option<&Member>> {
        let mut name = name;
        for _ in 0..LONGEST_CHAIN {
            match self.members.get(name) {
                Some(Member::Link(target)) => name = target,
                other => return Ok(other),
            }
        }
        Err(Error::new(ErrorKind::Invalid, format!("read {}", self.shown()))
            .because(format!("member {} is a link to itself", name.escape_debug())))
    }
}

impl Files for Archive {
    fn shown(&self) -> String {
        if is_stream(&self.file) {
            return "standard input".to_owned();
        }
        self.file.display().to_string()
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>> {
        let action = || format!("read {} in {}", name.escape_debug(), self.shown());
        let Some(member) = self.resolve(name)? else { return Ok(None) };
        let bytes = match member {
            Member::Slice { offset, size } => {
                read_part(&self.file, *offset, *size, limit).cannot(action)?
            }
            Member::Stored(digest, size) => {
                // The type of content does not matter for the store.
                let stored = Descriptor::new(MediaType::OCI_LAYER, digest.clone(), *size);
                self.store.read(&stored, limit).cannot(action)?
            }
            Member::Held(bytes) if bytes.len() as u64 <= limit => bytes.clone(),
            Member::Held(bytes) => {
                return Err(Error::new(ErrorKind::Invalid, action())
                    .because(format!("it has {} bytes, at most {limit} are taken", bytes.len())));
            }
            Member::Link(_) => unreachable!("links were followed"),
        };
        Ok(Some(bytes))
    }

    fn locate(&self, name: &str) -> Result<Option<(BlobLocation, u64)>> {
        Ok(self.resolve(name)?.map(|member| match member {
            Member::Slice { offset, size } => {
                (BlobLocation::Slice { path: self.file.clone(), offset: *offset }, *size)
            }
            Member::Held(bytes) => (BlobLocation::Memory(bytes.clone()), bytes.len() as u64),
            Member::Stored(digest, size) => {
                (BlobLocation::File(self.store.blob_path(digest)), *size)
            }
            Member::Link(_) => unreachable!("links were followed"),
        }))
    }
}

fn list_or_unpack(
    mut file: fs_err::File,
    metadata: &std::fs::Metadata,
    store: &Store,
    watch: &Watch,
) -> Result<BTreeMap<String, Member>> {
    if !metadata.is_file() {
        return unpack::unpack(file, store, watch);
    }
    let mut start = Vec::new();
    (&mut file).take(4).read_to_end(&mut start).cannot(|| "look at its first bytes")?;
    file.rewind().cannot(|| "look at its first bytes")?;
    match layer::detect(&start) {
        Compression::None => list(file, metadata.len()),
        _ => unpack::unpack(file, store, watch),
    }
}

/// Lists a plain archive's members without reading their contents.
fn list(mut file: fs_err::File, length: u64) -> Result<BTreeMap<String, Member>> {
    let mut members = Members::default();
    let mut position = 0;
    loop {
        // A reader of its own for each entry: to go past a content is one seek then.
        file.seek(SeekFrom::Start(position)).cannot(|| "list its members")?;
        let mut reader = ArchiveReader::new(&mut file, Limits::default()).at(position);
        let Some(entry) = reader.next_entry()? else { return members.finish() };
        let offset = reader.offset();
        let end = offset.checked_add(entry.size).filter(|end| *end <= length);
        let Some(end) = end else {
            return Err(
                of_member(ErrorKind::Corrupt, &entry).because("the archive ends before it does")
            );
        };
        if let Some(name) = members.begin(&entry)? {
            members.put(name, Member::Slice { offset, size: entry.size });
        }
        position = end.next_multiple_of(BLOCK);
    }
}

fn of_member(kind: ErrorKind, entry: &ListedEntry) -> Error {
    let name = String::from_utf8_lossy(&entry.path);
    Error::new(kind, format!("read member {}", name.escape_debug()))
}

/// Members while they are listed.
#[derive(Default)]
pub(super) struct Members {
    found: BTreeMap<String, Member>,
    count: usize,
}

impl Members {
    /// Looks at the next entry: the name of a file whose content comes next, or `None` for what
    /// has no content.
    pub(super) fn begin(&mut self, entry: &ListedEntry) -> Result<Option<String>> {
        self.count += 1;
        if self.count > MOST_MEMBERS {
            return Err(of_member(ErrorKind::Invalid, entry)
                .because(format!("there are more than {MOST_MEMBERS}")));
        }
        if entry.sparse {
            return Err(of_member(ErrorKind::Unsupported, entry).because("it is a sparse file"));
        }
        let outside = |why| of_member(ErrorKind::Invalid, entry).because(why);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = normalize("", &text(&entry.path))
            .ok_or_else(|| outside("its name leads out of the archive"))?;
        let (folder, target) = match &entry.kind {
            ListedKind::File => return Ok(Some(name)),
            ListedKind::Symlink(target) => (name.rsplit_once('/').map_or("", |(f, _)| f), target),
            ListedKind::HardLink(target) => ("", target),
            _ => return Ok(None),
        };
        let target = normalize(folder, &text(target))
            .ok_or_else(|| outside("it is a link out of the archive"))?;
        self.put(name, Member::Link(target));
        Ok(None)
    }

    /// Takes a member; a later one of the same name counts.
    pub(super) fn put(&mut self, name: String, member: Member) {
        self.found.insert(name, member);
    }

    /// Ends the list. An archive without a file holds no image.
    pub(super) fn finish(self) -> Result<BTreeMap<String, Member>> {
        if self.found.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "list its members").because("it has none"));
        }
        Ok(self.found)
    }
}

/// The path `name`, taken as relative to `folder`, without `.` and `..`; `None` where it leads out.
fn normalize(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_names_stay_inside_the_archive() {
        for (folder, name, expect) in [
            ("", "./a//b/", Some("a/b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "../../c", Some("c")),
            ("a", "../../etc/passwd", None),
            ("", "/etc/passwd", None),
            ("", "..", None),
            ("", ".", Some("")),
        ] {
            assert_eq!(normalize(folder, name).as_deref(), expect, "{folder} {name}");
        }
    }
}
