//! Opens archives: plain ones in place, others unpacked.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;

use super::members::{Member, Members, of_member};
use super::unpack;
use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::BlobLocation;
use crate::layer::{self, ArchiveReader, Limits};
use crate::oci::{Compression, Descriptor, MediaType};
use crate::store::Store;
use crate::transport::files::{Files, read_part};
use crate::transport::location::is_stream;
use crate::transport::watch::Watch;

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
        Err(Error::new(ErrorKind::Invalid, format!("read {}", self.display()))
            .because(format!("member {} is a link to itself", name.escape_debug())))
    }
}

impl Files for Archive {
    fn display(&self) -> String {
        if is_stream(&self.file) {
            return "standard input".to_owned();
        }
        self.file.display().to_string()
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>> {
        let action = || format!("read {} in {}", name.escape_debug(), self.display());
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
            Member::InMemory(bytes) if bytes.len() as u64 <= limit => bytes.clone(),
            Member::InMemory(bytes) => {
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
            Member::InMemory(bytes) => (BlobLocation::Memory(bytes.clone()), bytes.len() as u64),
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
    (&mut file).take(unpack::LOOK).read_to_end(&mut start).cannot(|| "look at its first bytes")?;
    unpack::check_compression(&start)?;
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
