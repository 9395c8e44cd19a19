//! Reading blobs: never to the end of the wrong content, and broken ones do not stay.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use fs_err::File;

use super::file_lock::Lock;
use super::{Store, absent_as_none};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::{Descriptor, Digest, VerifyingReader};

const READ_AGAIN: &str = "run the command again: what is missing is fetched or made anew";

/// Reads one blob, and fails with [`io::ErrorKind::InvalidData`] instead of ending on the wrong
/// content. A blob found broken is removed from the store.
pub struct BlobReader {
    inner: VerifyingReader<File>,
    store: Store,
    digest: Digest,
}

impl BlobReader {
    pub(super) fn open(store: &Store, descriptor: &Descriptor) -> Result<Self> {
        let Descriptor { digest, size, .. } = descriptor;
        let Some(found) = store.has(digest)? else {
            return Err(not_found(store, digest));
        };
        if found != *size {
            return Err(wrong_size(store, descriptor, found));
        }
        let action = || format!("open blob {digest}");
        let file = File::open(store.blob_path(digest)).cannot(action)?;
        let inner = VerifyingReader::new(file, digest.clone(), *size);
        Ok(Self { inner, store: store.clone(), digest: digest.clone() })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                // The reader's error is told; a blob that cannot be removed is found again.
                let _ = self.store.discard_if_corrupt(&self.digest);
            }
        })
    }
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BlobReader").field(&self.digest).finish()
    }
}

impl Store {
    /// Reads the blob, and removes it if its content is not what its digest names.
    ///
    /// For whoever read the file at [`Store::blob_path`] and found it wrong: with the blob gone,
    /// the next run fetches or makes it anew. Answers whether it was removed.
    pub fn discard_if_corrupt(&self, digest: &Digest) -> Result<bool> {
        let path = self.own_blob_path(digest);
        let action = || format!("check blob {digest}");
        let Some(file) = absent_as_none(File::open(&path)).cannot(action)? else {
            return Ok(false);
        };
        let judged = file.metadata().cannot(action)?;
        if is_intact(file, judged.len(), digest).cannot(action)? {
            return Ok(false);
        }
        // Somebody may have stored it anew meanwhile: only the very file that was read goes.
        let removed = Lock::exclusive(&self.collect_lock()).and_then(|_lock| {
            let there = absent_as_none(fs_err::metadata(&path))?;
            let same = |m: &std::fs::Metadata| (m.dev(), m.ino()) == (judged.dev(), judged.ino());
            let found = there.as_ref().is_some_and(same);
            if found { fs_err::remove_file(&path).map(|()| true) } else { Ok(false) }
        });
        removed.map_err(|error| self.cannot_write(error))
    }
}

/// Whether `file` holds the content that `digest` names. Errs only where reading is refused.
pub(super) fn is_intact(file: File, size: u64, digest: &Digest) -> io::Result<bool> {
    let mut reader = VerifyingReader::new(file, digest.clone(), size);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a blob into memory.
pub(super) fn whole(store: &Store, descriptor: &Descriptor, limit: u64) -> Result<Bytes> {
    let Descriptor { digest, size, .. } = descriptor;
    let action = || format!("read blob {digest}");
    if *size > limit {
        return Err(Error::new(ErrorKind::Invalid, action())
            .because(format!("it has {size} bytes, at most {limit} are taken")));
    }
    let mut reader = store.open_blob(descriptor)?;
    let capacity = usize::try_from(*size).expect("limits are far below the size of memory");
    let mut bytes = Vec::with_capacity(capacity);
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes.into()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Error::new(ErrorKind::Corrupt, action()).caused_by(error).hint(READ_AGAIN))
        }
        Err(error) => Err(Error::new(ErrorKind::Io, action()).caused_by(error)),
    }
}

fn not_found(store: &Store, digest: &Digest) -> Error {
    Error::new(ErrorKind::NotFound, format!("read blob {digest}"))
        .because(format!("it is not in the store {}", store.display()))
        .hint(READ_AGAIN)
}

/// Either the blob is broken, and is removed, or the descriptor is wrong.
fn wrong_size(store: &Store, descriptor: &Descriptor, found: u64) -> Error {
    let Descriptor { digest, size, .. } = descriptor;
    let what = format!("read blob {digest}");
    match store.discard_if_corrupt(digest) {
        Ok(false) => Error::new(ErrorKind::Invalid, what)
            .because(format!("the blob has {found} bytes, but its descriptor says {size}")),
        _ => Error::new(ErrorKind::Corrupt, what)
            .because(format!("found {found} bytes, expected {size}"))
            .hint(READ_AGAIN),
    }
}
