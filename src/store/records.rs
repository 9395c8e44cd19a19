//! Records: small facts that save work, found by a key.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Store, StorePlace, absent_as_none};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::canonical_json;

#[derive(Serialize, Deserialize)]
struct Record<T> {
    /// The hash of the key, as in the file's name: a key may hold what is not to be read here.
    key: String,
    /// The store's form for which it was written; the first is not noted.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    format: u32,
    value: T,
}

fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_first(format: &u32) -> bool {
    *format == first()
}

impl Store {
    /// The record of this kind and key. One that is broken, or of another form, counts as absent.
    ///
    /// A kind is a word of lower-case letters, digits and dashes; a key is any text. Marks the
    /// record as used, but not the blobs that it mentions: ask [`Store::has`] for those.
    pub fn get_record<T: DeserializeOwned>(&self, kind: &str, key: &str) -> Option<T> {
        self.own_record(kind, key).or_else(|| self.below()?.get_record(kind, key))
    }

    fn own_record<T: DeserializeOwned>(&self, kind: &str, key: &str) -> Option<T> {
        let path = self.record_path(kind, key).filter(|_| self.is_in_our_format())?;
        let bytes = absent_as_none(fs_err::read(&path)).ok()??;
        let record: Record<T> = serde_json::from_slice(&bytes).ok()?;
        // Earlier versions kept the key itself.
        let is_for_key = record.key == hash(key) || record.key == key;
        if !is_for_key || record.format != self.0.ours {
            return None;
        }
        // A record whose use cannot be noted is at worst pruned early.
        let _ = self.mark_used(&path);
        Some(record.value)
    }

    /// Keeps a record, in the place of an earlier one of this kind and key. A store of an older form
    /// keeps its own.
    pub fn put_record<T: Serialize>(&self, kind: &str, key: &str, value: &T) -> Result<()> {
        let path = self.record_path(kind, key).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("keep a record of kind \"{kind}\""))
                .because("expected lower-case letters, digits and dashes")
        })?;
        let held = self.held()?;
        if !self.is_in_our_format() {
            return Ok(());
        }
        let record = Record { key: hash(key), format: self.0.ours, value };
        self.make_folder(path.parent().expect("a record is in its kind's folder"))?;
        let scratch = held.scratch(&canonical_json(&record));
        // A collector that has judged the old record must not remove the new one.
        let _lock = self.keep_collector_out()?;
        scratch.and_then(|s| s.place(&path)).map_err(|error| self.cannot_write(error))
    }

    /// The value of the record at a path below the store's folder, whatever its kind and key are. Does
    /// not mark it as used.
    pub fn record_value(&self, path: &Path) -> Option<serde_json::Value> {
        let bytes = fs_err::read(self.root().join(path)).ok()?;
        let record: Record<serde_json::Value> = serde_json::from_slice(&bytes).ok()?;
        Some(record.value)
    }

    fn record_path(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if kind.is_empty() || !kind.bytes().all(word) {
            return None;
        }
        let name = format!("{}.json", hash(key));
        Some(self.place(StorePlace::Records).join(kind).join(name))
    }
}

fn hash(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}
