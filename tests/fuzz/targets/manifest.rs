//! Documents of registries: their bytes are kept as they came, and what is written anew has one form.

#![no_main]

use std::fmt::Debug;

use bytes::Bytes;
use gondola::oci::{Digest, Document, ImageConfig, Index, Manifest, MediaType, canonical_json};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    check::<Manifest>(MediaType::OCI_MANIFEST, data);
    check::<Index>(MediaType::OCI_INDEX, data);
    check::<ImageConfig>(MediaType::OCI_CONFIG, data);
});

fn check<T: Serialize + DeserializeOwned + Debug + PartialEq>(media_type: MediaType, data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(document) = Document::<T>::parse(media_type.clone(), bytes) else { return };
    assert_eq!(document.bytes(), data);
    assert_eq!(document.digest(), &Digest::of(data));
    assert_eq!(document.descriptor().size, data.len() as u64);
    let canonical = canonical_json(document.value());
    // No field of the formats is a fraction; one in a field that nobody knows is rounded.
    if serde_json::from_slice(&canonical).is_ok_and(|value| has_fraction(&value)) {
        return;
    }
    let again = Document::<T>::parse(media_type, canonical.clone().into());
    let again = again.unwrap_or_else(|error| panic!("{error}: {canonical:?}"));
    assert_eq!(again.value(), document.value(), "written and read again");
    assert_eq!(canonical_json(again.value()), canonical, "there is one form");
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(items) => items.iter().any(has_fraction),
        serde_json::Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}
