//! Media types of OCI and Docker documents and layers.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type, such as `application/vnd.oci.image.manifest.v1+json`.
///
/// Any text is a valid value: what an unknown type means is for its reader to decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// gzip, RFC 1952, in one or more members.
    Gzip,
    /// Zstandard, RFC 8878, in one or more frames.
    Zstd,
}

impl MediaType {
    /// The OCI image manifest.
    pub const OCI_MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// The OCI image index.
    pub const OCI_INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// The OCI image configuration.
    pub const OCI_CONFIG: Self = Self::known("application/vnd.oci.image.config.v1+json");
    /// An uncompressed OCI layer.
    pub const OCI_LAYER: Self = Self::known("application/vnd.oci.image.layer.v1.tar");
    /// A gzip OCI layer.
    pub const OCI_LAYER_GZIP: Self = Self::known("application/vnd.oci.image.layer.v1.tar+gzip");
    /// A Zstandard OCI layer.
    pub const OCI_LAYER_ZSTD: Self = Self::known("application/vnd.oci.image.layer.v1.tar+zstd");
    /// The empty JSON document `{}`.
    pub const OCI_EMPTY: Self = Self::known("application/vnd.oci.empty.v1+json");
    /// Docker's image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: Self =
        Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker's manifest list.
    pub const DOCKER_INDEX: Self =
        Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: Self = Self::known("application/vnd.docker.container.image.v1+json");
    /// Docker's uncompressed layer.
    pub const DOCKER_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar");
    /// Docker's gzip layer.
    pub const DOCKER_LAYER_GZIP: Self =
        Self::known("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// Docker's Zstandard layer.
    pub const DOCKER_LAYER_ZSTD: Self =
        Self::known("application/vnd.docker.image.rootfs.diff.tar.zstd");

    const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Takes a media type as found, without parameters (`; charset=utf-8`) and in lower case.
    pub fn new(text: &str) -> Self {
        let name = text.split(';').next().unwrap_or_default().trim();
        Self(Cow::Owned(name.to_ascii_lowercase()))
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an OCI index or a Docker manifest list.
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_INDEX
    }

    /// Whether this is an OCI or Docker image manifest.
    pub fn is_manifest(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// Whether this is an OCI or Docker image configuration.
    pub fn is_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// Whether this belongs to Docker's family of types rather than to OCI's.
    pub fn is_docker(&self) -> bool {
        self.0.starts_with("application/vnd.docker.")
    }

    /// How the layer of this type is compressed; `None` where this is no layer type we know.
    ///
    /// Foreign ("non-distributable") layers count as layers of their compression.
    pub fn layer_compression(&self) -> Option<Compression> {
        let name: &str = &self.0;
        let suffix = name
            .strip_prefix("application/vnd.oci.image.layer.v1.tar")
            .or_else(|| {
                name.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1.tar")
            })
            .or_else(|| name.strip_prefix("application/vnd.docker.image.rootfs.diff.tar"))
            .or_else(|| {
                name.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff.tar")
            })?;
        match suffix {
            "" => Some(Compression::None),
            "+gzip" | ".gzip" => Some(Compression::Gzip),
            "+zstd" | ".zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Whether registries may refuse to hold this layer (Windows base layers, say).
    pub fn is_foreign_layer(&self) -> bool {
        self.0.contains(".nondistributable.") || self.0.contains(".foreign.")
    }

    /// The layer type for `compression` in the family (OCI or Docker) that `manifest` belongs to.
    pub fn layer_for(manifest: &MediaType, compression: Compression) -> Self {
        match (manifest.is_docker(), compression) {
            (false, Compression::None) => Self::OCI_LAYER,
            (false, Compression::Gzip) => Self::OCI_LAYER_GZIP,
            (false, Compression::Zstd) => Self::OCI_LAYER_ZSTD,
            (true, Compression::None) => Self::DOCKER_LAYER,
            (true, Compression::Gzip) => Self::DOCKER_LAYER_GZIP,
            (true, Compression::Zstd) => Self::DOCKER_LAYER_ZSTD,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_the_specification() {
        use oci_spec::image::MediaType as Spec;
        for (ours, theirs) in [
            (MediaType::OCI_MANIFEST, Spec::ImageManifest),
            (MediaType::OCI_INDEX, Spec::ImageIndex),
            (MediaType::OCI_CONFIG, Spec::ImageConfig),
            (MediaType::OCI_LAYER, Spec::ImageLayer),
            (MediaType::OCI_LAYER_GZIP, Spec::ImageLayerGzip),
            (MediaType::OCI_LAYER_ZSTD, Spec::ImageLayerZstd),
            (MediaType::OCI_EMPTY, Spec::EmptyJSON),
        ] {
            assert_eq!(ours.as_str(), theirs.to_string());
        }
    }

    #[test]
    fn parameters_and_case_do_not_matter() {
        let found = MediaType::new("Application/vnd.oci.image.index.v1+JSON; charset=utf-8");
        assert_eq!(found, MediaType::OCI_INDEX);
    }

    #[test]
    fn layer_types_round_trip_through_their_compression() {
        for family in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let layer = MediaType::layer_for(&family, compression);
                assert_eq!(layer.layer_compression(), Some(compression));
                assert_eq!(layer.is_docker(), family.is_docker());
            }
        }
        assert_eq!(MediaType::OCI_CONFIG.layer_compression(), None);
    }
}
