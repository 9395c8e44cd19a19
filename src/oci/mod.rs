//! The documents of the OCI image and distribution specifications: pure data, no input or output.
//!
//! Whatever is pulled keeps its bytes ([`Document`]); whatever is written here comes out in one
//! canonical form ([`canonical_json`]); unknown fields survive an edit.

mod config;
mod descriptor;
mod digest;
pub mod docker_hub;
mod document;
mod manifest;
mod media_type;
pub mod name_template;
mod platform;
mod reference;

pub use config::{ContainerConfig, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Digest, Hasher, VerifyingReader};
pub use document::{Document, LARGEST_DOCUMENT, canonical_json};
pub use manifest::{Index, Manifest};
pub use media_type::{Compression, MediaType};
pub use platform::{Platform, PlatformSet};
pub use reference::{Reference, Repository};

/// The keys of annotations that the image specification defines.
///
/// See [its list](https://github.com/opencontainers/image-spec/blob/main/annotations.md).
pub mod annotation {
    pub use oci_spec::image::{
        ANNOTATION_BASE_IMAGE_DIGEST, ANNOTATION_BASE_IMAGE_NAME, ANNOTATION_REF_NAME,
        ANNOTATION_REVISION, ANNOTATION_SOURCE,
    };
}
