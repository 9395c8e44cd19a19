//! Writing blobs: hashed on the way, renamed into place.

use std::fs::Metadata;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::file_lock::Lock;
use super::lock::Scratch;
use super::{Store, absent_as_none};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Digest, Hasher};

/// Content on its way into the store. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    scratch: Scratch,
    hasher: Option<Hashing>,
    size: u64,
}

/// A hasher that has no other output than its digest.
struct Hashing(Hasher);

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing")
    }
}

impl Ingest {
    pub(super) fn begin(store: &Store, hasher: Option<Hasher>) -> Result<Self> {
        let scratch = store.held()?.create().map_err(|error| store.cannot_write(error))?;
        Ok(Self { store: store.clone(), scratch, hasher: hasher.map(Hashing), size: 0 })
    }

    /// Puts the content in its place and answers its digest and size.
    ///
    /// Where `expected` is given and the content differs, nothing is stored and the error is
    /// [`ErrorKind::Corrupt`]. Content that is here already is replaced by the new copy.
    pub fn commit(mut self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let wanted = expected.map(|descriptor| &descriptor.digest);
        let digest = self.take_digest(wanted)?;
        let size = self.size;
        if let Some(expected) = expected {
            check(&expected.digest, expected.size, &digest, size)?;
        }
        self.place(&digest)?;
        Ok((digest, size))
    }

    /// Puts the content in its place under a digest that its writer computed.
    ///
    /// The size is compared with what was written, and so is the digest where it is known here.
    pub fn commit_as(mut self, digest: &Digest, size: u64) -> Result<()> {
        let found = match self.hasher {
            Some(_) => self.take_digest(Some(digest))?,
            None => digest.clone(),
        };
        check(digest, size, &found, self.size)?;
        self.place(digest)
    }

    /// The digest, from the bytes as they passed or else from the file.
    fn take_digest(&mut self, like: Option<&Digest>) -> Result<Digest> {
        let fresh = like.map_or_else(Hasher::new, Hasher::like);
        let wanted = like.map_or("sha256", Digest::algorithm);
        if let Some(Hashing(hasher)) = self.hasher.take() {
            let digest = hasher.finish();
            if digest.algorithm() == wanted {
                return Ok(digest);
            }
        }
        hash_again(self.scratch.file(), fresh).map_err(|error| self.store.cannot_write(error))
    }

    /// The file that is written to, for one who reads along. It keeps its content when the blob is
    /// moved to its place.
    pub fn shared_file(&mut self) -> io::Result<std::fs::File> {
        self.scratch.file().file().try_clone()
    }

    fn place(self, digest: &Digest) -> Result<()> {
        place(&self.store, self.scratch, digest)
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.scratch.file().write(bytes).map_err(|error| {
            let kind = error.kind();
            io::Error::new(kind, self.store.cannot_write(error))
        })?;
        if let Some(Hashing(hasher)) = &mut self.hasher {
            hasher.update(&bytes[..count]);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check(expected: &Digest, expected_size: u64, found: &Digest, size: u64) -> Result<()> {
    let because = if size != expected_size {
        format!("found {size} bytes, expected {expected_size}")
    } else if found != expected {
        format!("found digest {found}")
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Corrupt, format!("store blob {expected}")).because(because))
}

fn hash_again(file: &mut fs_err::File, mut hasher: Hasher) -> io::Result<Digest> {
    file.rewind()?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Stores `bytes`, unless the very same bytes are here.
pub(super) fn put(store: &Store, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    let path = store.own_blob_path(&digest);
    let same_size = |metadata: &Metadata| metadata.len() == bytes.len() as u64;
    if store.mark_used(&path)?.as_ref().is_some_and(same_size) && holds(&path, bytes) {
        return Ok(digest);
    }
    let scratch = store.held()?.scratch(bytes).map_err(|error| store.cannot_write(error))?;
    place(store, scratch, &digest)?;
    Ok(digest)
}

/// Moves finished content to its place.
fn place(store: &Store, scratch: Scratch, digest: &Digest) -> Result<()> {
    let target = store.own_blob_path(digest);
    if digest.algorithm() != "sha256" {
        store.make_folder(target.parent().expect("a blob is in its algorithm's folder"))?;
    }
    // A collector that has judged the old blob must not remove the new one.
    let placed = Lock::shared(&store.collect_lock()).and_then(|_lock| scratch.place(&target));
    placed.map_err(|error| store.cannot_write(error))
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    absent_as_none(fs_err::read(path)).is_ok_and(|found| found.as_deref() == Some(bytes))
}
