//! A content's hash as text, for serde.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use super::ContentHash;

/// Writes a hash as hexadecimal text.
pub fn serialize<S: Serializer>(hash: &ContentHash, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&blake3::Hash::from_bytes(*hash).to_hex())
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<ContentHash, D::Error> {
    let text = String::deserialize(from)?;
    blake3::Hash::from_hex(text).map(Into::into).map_err(D::Error::custom)
}
