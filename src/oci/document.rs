//! A parsed document together with the bytes it was parsed from.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Descriptor, Digest, MediaType};
use crate::error::{Error, ErrorKind, Result};

/// The most bytes that a manifest, index or config may have to be read anywhere. Registries must take
/// manifests of half of that.
pub const LARGEST_DOCUMENT: u64 = 8 << 20;

/// A manifest, index or config: the value, and the very bytes that its digest names.
///
/// Documents that were pulled are never written anew: their digest would change.
#[derive(Clone, Debug)]
pub struct Document<T> {
    value: T,
    bytes: Bytes,
    descriptor: Descriptor,
}

impl<T> Document<T> {
    /// The parsed value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The bytes, as pulled or as first written.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What names the bytes.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// The media type that the document was given under.
    pub fn media_type(&self) -> &MediaType {
        &self.descriptor.media_type
    }
}

impl<T: DeserializeOwned> Document<T> {
    /// Parses `bytes`, which came under the name `media_type`.
    pub fn parse(media_type: MediaType, bytes: Bytes) -> Result<Self> {
        let descriptor = Descriptor::of(media_type, &bytes);
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("read {} {}", descriptor.media_type, descriptor.digest);
            Error::new(ErrorKind::Invalid, what).caused_by(error)
        })?;
        Ok(Self { value, bytes, descriptor })
    }
}

impl<T: Serialize> Document<T> {
    /// Writes `value` in the canonical form.
    pub fn new(media_type: MediaType, value: T) -> Self {
        let bytes = Bytes::from(canonical_json(&value));
        let descriptor = Descriptor::of(media_type, &bytes);
        Self { value, bytes, descriptor }
    }
}

/// Writes a value as JSON with sorted keys, no white space and no floating-point numbers.
///
/// Equal values give equal bytes. Field order in the Rust type does not matter.
pub fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    // `serde_json::Value` keeps objects in a BTreeMap, which is what sorts the keys.
    let sorted = serde_json::to_value(value).expect("documents have string keys only");
    serde_json::to_vec(&sorted).expect("a JSON value can be written to memory")
}

/// Reads JSON `null` as the default: Go writes empty maps and lists that way.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn canonical_json_sorts_keys_at_every_depth() {
        let value: Value =
            serde_json::from_str(r#"{"b":{"z":1,"a":[{"y":1,"x":2}]},"a":null}"#).unwrap();
        let text = String::from_utf8(canonical_json(&value)).unwrap();
        assert_eq!(text, r#"{"a":null,"b":{"a":[{"x":2,"y":1}],"z":1}}"#);
    }

    #[test]
    fn a_parsed_document_keeps_its_bytes() {
        let bytes = Bytes::from_static(b"{ \"b\": 1,\n \"a\": 2 }");
        let document: Document<Value> =
            Document::parse(MediaType::OCI_CONFIG, bytes.clone()).unwrap();
        assert_eq!(document.value(), &json!({"a": 2, "b": 1}));
        assert_eq!(document.bytes(), &bytes);
        assert_eq!(document.digest(), &Digest::of(&bytes));
    }

    #[test]
    fn junk_is_an_error_that_names_the_document() {
        let error = Document::<Value>::parse(MediaType::OCI_INDEX, Bytes::from_static(b"<html>"));
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("cannot read application/vnd.oci.image.index.v1+json sha256:"),
            "{message}"
        );
    }
}
