//! Images and what is published of them, wherever their bytes are.
//!
//! An [`Image`] is a manifest, a config and layers; its [`Blob`]s may be in memory, in a file, or
//! still in a registry. An [`Artifact`] is one image or an index over several.

mod artifact;
mod blob;
mod draft;
mod packaging;
pub mod program;
pub mod static_base;

pub use artifact::{Artifact, TaggedArtifact};
pub use blob::{Blob, BlobLocation};
pub use draft::{Draft, Layer};
pub use packaging::Packaging;

use crate::oci::{Document, ImageConfig, Manifest, Platform};

/// The number of the form of manifests and configurations. It goes up whenever an equal program with equal
/// settings gives others. The first named the commit that was checked out.
pub const FORMAT: u32 = 2;

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest; its digest is the image's.
    pub manifest: Document<Manifest>,
    /// The configuration that the manifest names.
    pub config: Document<ImageConfig>,
    /// The layers that the manifest names, in its order.
    pub layers: Vec<Blob>,
}

impl Image {
    /// Where the image runs.
    pub fn platform(&self) -> &Platform {
        &self.config.value().platform
    }

    /// The config as a blob like the layers.
    pub fn config_blob(&self) -> Blob {
        let source = BlobLocation::Memory(self.config.bytes().clone());
        Blob { descriptor: self.manifest.value().config.clone(), source }
    }
}
