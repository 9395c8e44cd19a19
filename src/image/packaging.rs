//! What is said of an image, whatever it is made of.

use std::collections::BTreeMap;

use crate::layer::Encoding;
use crate::oci::PlatformSet;

/// What is said of an image, whatever it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packaging {
    /// The platforms; `None` means the machine's own.
    pub platforms: Option<PlatformSet>,
    /// The names that images get; `{name}` stands for the image's short name.
    pub tags: Vec<String>,
    /// How new layers are compressed.
    pub encoding: Encoding,
    /// Labels in the config.
    pub labels: BTreeMap<String, String>,
    /// Annotations on manifests and the index.
    pub annotations: BTreeMap<String, String>,
}
