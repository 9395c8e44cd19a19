//! What `docker save` writes of an image into an archive's `manifest.json`.

use serde::{Deserialize, Deserializer, Serialize};

/// An image in `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// The member that is the config.
    pub config: String,
    /// The names, each with a tag.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub repo_tags: Vec<String>,
    /// The members that are the layers, the base's first.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub layers: Vec<String>,
}

/// Docker writes an image without names or layers with `null`.
fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
