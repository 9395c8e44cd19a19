//! Image layouts, in a folder or as the members of an archive.
//!
//! ```text
//! DIR/
//!   oci-layout              {"imageLayoutVersion":"1.0.0"}
//!   index.json              one descriptor per name
//!   blobs/sha256/<hex>      manifests, configs, layers
//! ```
//!
//! A descriptor in `index.json` has its name in two annotations: `org.opencontainers.image.ref.name`
//! is the tag, and `io.containerd.image.name` the name in full.
//!
//! See the [image layout specification][spec].
//!
//! [spec]: https://github.com/opencontainers/image-spec/blob/main/image-layout.md

mod read;
mod write;

pub(super) use read::Layout;
pub(super) use write::{check_folder, write};

use serde::{Deserialize, Serialize};

use crate::oci::canonical_json;

/// The only version of the specification.
const VERSION: &str = "1.0.0";

#[derive(Serialize, Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// The contents of `oci-layout`.
pub(super) fn layout_file() -> Vec<u8> {
    canonical_json(&LayoutFile { version: VERSION.to_owned() })
}
