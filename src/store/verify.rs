//! The full scan: is every blob what its name says?

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::collect::{Amount, Blob, blobs};
use super::read::is_intact;
use super::{Store, absent_as_none};
use crate::error::{Cannot, Result};
use crate::oci::{Descriptor, Digest};

/// What a full scan of the store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// The blobs that were read.
    pub scanned: Amount,
    /// Blobs whose content is not what their digest names, sorted.
    pub corrupt: Vec<Digest>,
    /// Entries of `index.json` whose content is not here, with their annotations.
    pub missing: Vec<Descriptor>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.corrupt.is_empty() && self.missing.is_empty()
    }
}

impl Store {
    /// Reads every blob and compares it with its digest. Changes nothing.
    ///
    /// Layers that are still in a registry are not missing: an image needs them when it is run.
    pub fn verify(&self) -> Result<Verification> {
        let missing = self.missing()?;
        let blobs = blobs(self).cannot(|| format!("scan the store {}", self.display()))?;
        let mut found = self.scan(&blobs)?;
        found.corrupt.sort();
        found.missing = missing;
        Ok(found)
    }

    /// The entries of `index.json` whose content is not here.
    fn missing(&self) -> Result<Vec<Descriptor>> {
        // The content of a name that is removed right now must not be collected until it was seen.
        let _lock = self.keep_collector_out()?;
        let mut entries = self.index()?.manifests;
        entries.retain(|entry| !self.blob_path(&entry.digest).exists());
        Ok(entries)
    }

    /// Hashes the blobs on as many threads as there are processors.
    fn scan(&self, blobs: &[Blob]) -> Result<Verification> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Ok(Verification::default()));
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = self.scan_one(blob);
                let mut found = found.lock().expect("no code panics while it holds the result");
                match (&mut *found, outcome) {
                    (Ok(sum), Ok(Some(true))) => sum.scanned.add(blob.bytes),
                    (Ok(sum), Ok(Some(false))) => {
                        sum.scanned.add(blob.bytes);
                        sum.corrupt.push(blob.digest.clone());
                    }
                    (found @ Ok(_), Err(error)) => *found = Err(error),
                    _ => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
                // Where the system gives no more threads, those that are there do it.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        found.into_inner().expect("no code panics while it holds the result")
    }

    /// Whether the blob is intact; `None` where it was removed meanwhile.
    fn scan_one(&self, blob: &Blob) -> Result<Option<bool>> {
        let action = || format!("check blob {}", blob.digest);
        let path = self.blob_path(&blob.digest);
        let Some(file) = absent_as_none(fs_err::File::open(path)).cannot(action)? else {
            return Ok(None);
        };
        let size = file.metadata().cannot(action)?.len();
        is_intact(file, size, &blob.digest).cannot(action).map(Some)
    }
}
