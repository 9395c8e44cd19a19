//! Records: small facts that save work, found by a key.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Store, absent_as_none};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::canonical_json;

#[derive(Serialize, Deserialize)]
struct Record<T> {
    /// Kept in full: the file's name is its hash.
    key: String,
    value: T,
}

impl Store {
    /// The record of this kind and key. One that is broken counts as absent.
    ///
    /// A kind is a word of lower-case letters, digits and dashes; a key is any text. Marks the
    /// record as used, but not the blobs that it mentions: ask [`Store::has`] for those.
    pub fn get_record<T: DeserializeOwned>(&self, kind: &str, key: &str) -> Option<T> {
        let path = self.record_path(kind, key)?;
        let bytes = absent_as_none(fs_err::read(&path)).ok()??;
        let record: Record<T> = serde_json::from_slice(&bytes).ok()?;
        if record.key != key {
            return None;
        }
        // A record whose use cannot be noted is at worst pruned early.
        let _ = self.mark_used(&path);
        Some(record.value)
    }

    /// Keeps a record, in the place of an earlier one of this kind and key.
    pub fn put_record<T: Serialize>(&self, kind: &str, key: &str, value: &T) -> Result<()> {
        let path = self.record_path(kind, key).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("keep a record of kind \"{kind}\""))
                .because("expected lower-case letters, digits and dashes")
        })?;
        let record = Record { key: key.to_owned(), value };
        self.make_folder(path.parent().expect("a record is in its kind's folder"))?;
        let scratch = self.held()?.scratch(&canonical_json(&record));
        // A collector that has judged the old record must not remove the new one.
        let _lock = self.keep_collector_out()?;
        scratch.and_then(|s| s.place(&path)).map_err(|error| self.cannot_write(error))
    }

    fn record_path(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if kind.is_empty() || !kind.bytes().all(word) {
            return None;
        }
        let name = format!("{}.json", blake3::hash(key.as_bytes()).to_hex());
        Some(self.own("records").join(kind).join(name))
    }
}
