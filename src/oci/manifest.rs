//! Image manifests and indexes, OCI's and Docker's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Descriptor, MediaType};

/// An image manifest: one config, and layers from the bottom up.
///
/// See the [manifest specification][spec]; Docker's schema 2 has the same shape.
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/manifest.md
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type; Docker demands it, old OCI manifests lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of artifact, where the manifest is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, the base's first.
    #[serde(default, deserialize_with = "super::document::null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// An image index or Docker manifest list: one entry per platform, or per referrer.
///
/// See the [index specification][spec].
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/image-index.md
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of artifact, where the index is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The entries, in their given order.
    #[serde(default, deserialize_with = "super::document::null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Manifest {
    /// Makes a manifest of the family (OCI or Docker) of `media_type`.
    pub fn new(media_type: MediaType, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

impl Index {
    /// Makes an OCI index of the given entries.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OCI_INDEX),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}
