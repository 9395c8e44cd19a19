//! The documents of the OCI image and distribution specifications: pure data, no input or output.
//!
//! Whatever is pulled keeps its bytes ([`Document`]); whatever is written here comes out in one
//! canonical form ([`canonical_json`]); unknown fields survive an edit.

mod config;
mod descriptor;
mod digest;
mod document;
mod manifest;
mod media_type;
mod platform;
mod reference;

pub use config::{ContainerConfig, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Digest, Hasher, VerifyingReader};
pub use document::{Document, canonical_json};
pub use manifest::{Index, Manifest};
pub use media_type::{Compression, MediaType};
pub use oci_spec::image as annotation;
pub use platform::{Platform, PlatformSet};
pub use reference::{Reference, Repository};
