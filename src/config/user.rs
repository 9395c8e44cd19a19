//! The user's own configuration: what holds for all projects on a machine.
//!
//! ```yaml
//! store:
//!   keep: 20GB          # after each build the least recently used goes until all caches fit
//! ```

use serde::{Deserialize, Deserializer};

use super::values;
use crate::literal;

/// A user's configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UserConfig {
    /// `store`: what is kept.
    pub store: StoreConfig,
}

/// The section `store`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StoreConfig {
    /// `keep`: how many bytes the caches may have after a build; nothing is removed by itself without it.
    #[serde(deserialize_with = "size")]
    pub keep: Option<u64>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = values::text(deserializer)?;
    let size = text.map(|text| literal::size(&text)).transpose();
    size.map_err(serde::de::Error::custom)
}
