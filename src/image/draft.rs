//! An image in the making: a base, layers on top, edits of its config.

use std::collections::BTreeMap;

use super::{Blob, BlobLocation, Image};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{
    Compression, ContainerConfig, Descriptor, Digest, Document, History, ImageConfig, Manifest,
    MediaType, Platform,
};

/// A finished layer: the stored blob, and what the config must know of it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The compressed archive. Its media type is put right for the image's family.
    pub blob: Blob,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
}

/// An image in the making. Everything of the base that is not edited stays as it was.
#[derive(Clone, Debug)]
pub struct Draft {
    family: MediaType,
    config: ImageConfig,
    layers: Vec<Blob>,
    annotations: BTreeMap<String, String>,
}

impl Draft {
    /// Starts without a base.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            family: MediaType::OCI_MANIFEST,
            config: ImageConfig::empty(platform),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Starts from `base`: its layers, config and manifest family (OCI or Docker).
    ///
    /// The base's manifest annotations describe the base and are not inherited.
    pub fn from_base(base: &Image) -> Self {
        Self {
            family: base.manifest.media_type().clone(),
            config: base.config.value().clone(),
            layers: base.layers.clone(),
            annotations: BTreeMap::new(),
        }
    }

    /// Puts a layer on top, with the history entry that says who made it and why.
    pub fn push_layer(&mut self, layer: Layer, history: History) {
        let mut blob = layer.blob;
        if let Some(compression) = blob.descriptor.media_type.layer_compression() {
            blob.descriptor.media_type = MediaType::layer_for(&self.family, compression);
        }
        self.layers.push(blob);
        self.config.rootfs.diff_ids.push(layer.diff_id);
        self.config.history.push(History { empty_layer: false, ..history });
    }

    /// The layers that it has, the lowest first.
    pub fn layers(&self) -> &[Blob] {
        &self.layers
    }

    /// The same in the family (OCI or Docker) that a manifest's media type belongs to.
    ///
    /// Errs with [`ErrorKind::Unsupported`] where Docker's family does not know how a layer is
    /// compressed.
    pub fn in_family(mut self, family: MediaType) -> Result<Self> {
        if family.is_docker()
            && let Some(blob) = self.zstd_layer()
        {
            return Err(Error::new(ErrorKind::Unsupported, "write an image of docker's format")
                .because(format!("its layer {} is zstd's", blob.descriptor.digest))
                .hint("write an OCI image"));
        }
        self.retype(family);
        Ok(self)
    }

    /// How a container of the image runs.
    pub fn container(&mut self) -> &mut ContainerConfig {
        &mut self.config.config
    }

    /// The whole configuration.
    pub fn config(&mut self) -> &mut ImageConfig {
        &mut self.config
    }

    /// Adds an annotation to the manifest; an empty value takes away the one that is there.
    pub fn annotate(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        if value.is_empty() {
            self.annotations.remove(&key);
        } else {
            self.annotations.insert(key, value);
        }
    }

    /// Gives the image and its layers the types of a family.
    fn retype(&mut self, family: MediaType) {
        for blob in &mut self.layers {
            let media_type = &blob.descriptor.media_type;
            if let Some(compression) = media_type.layer_compression()
                && !media_type.is_foreign_layer()
            {
                blob.descriptor.media_type = MediaType::layer_for(&family, compression);
            }
        }
        self.family = family;
    }

    /// The first layer that Docker's family has no type for.
    fn zstd_layer(&self) -> Option<&Blob> {
        self.layers
            .iter()
            .find(|blob| blob.descriptor.media_type.layer_compression() == Some(Compression::Zstd))
    }

    /// Writes the config and the manifest.
    ///
    /// An image of Docker's family that got a zstd layer becomes OCI's: Docker's has no type for
    /// that, and readers refuse the manifest or pass over the layer.
    pub fn finish(mut self) -> Image {
        if self.family.is_docker() && self.zstd_layer().is_some() {
            self.retype(MediaType::OCI_MANIFEST);
        }
        let (config_type, annotations) = if self.family.is_docker() {
            // Docker's schema has no annotations; tools that know them read them all the same.
            (MediaType::DOCKER_CONFIG, self.annotations)
        } else {
            (MediaType::OCI_CONFIG, self.annotations)
        };
        let config = Document::new(config_type, self.config);
        let layers = self.layers.iter().map(|blob| described(&blob.descriptor)).collect();
        let mut manifest = Manifest::new(self.family, config.descriptor().clone(), layers);
        manifest.annotations.extend(annotations);
        let family = manifest.media_type.clone().expect("set by Manifest::new");
        Image { manifest: Document::new(family, manifest), config, layers: self.layers }
    }
}

/// A base layer's descriptor as it stands in the new manifest: nothing but what names it.
fn described(descriptor: &Descriptor) -> Descriptor {
    Descriptor { platform: None, ..descriptor.clone() }
}

impl From<(Descriptor, std::path::PathBuf)> for Blob {
    fn from((descriptor, path): (Descriptor, std::path::PathBuf)) -> Self {
        Self { descriptor, source: BlobLocation::File(path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn layer(bytes: &'static [u8]) -> Layer {
        let descriptor = Descriptor::of(MediaType::OCI_LAYER_GZIP, bytes);
        let blob = Blob::in_memory(descriptor, Bytes::from_static(bytes));
        Layer { blob, diff_id: Digest::of(bytes) }
    }

    fn draft(family: MediaType) -> Draft {
        let mut draft = Draft::scratch("linux/amd64".parse().unwrap());
        draft.family = family;
        draft.push_layer(layer(b"base"), History::default());
        draft
    }

    #[test]
    fn layers_take_the_family_of_the_base() {
        for family in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
            let base = draft(family.clone()).finish();
            let mut child = Draft::from_base(&base);
            child.push_layer(layer(b"app"), History::default());
            let image = child.finish();
            assert_eq!(image.manifest.media_type(), &family);
            let docker: Vec<bool> =
                image.layers.iter().map(|l| l.descriptor.media_type.is_docker()).collect();
            assert_eq!(docker, [family.is_docker(); 2]);
            assert_eq!(image.manifest.value().layers.len(), 2);
            assert_eq!(image.config.value().rootfs.diff_ids.len(), 2);
        }
    }

    #[test]
    fn a_draft_changes_its_family_whole() {
        let (oci, docker) = (MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST);
        for (from, to) in [(&oci, &docker), (&docker, &oci), (&oci, &oci)] {
            let changed = draft(from.clone()).in_family(to.clone()).unwrap().finish();
            assert_eq!(changed.manifest.bytes(), draft(to.clone()).finish().manifest.bytes());
        }
        let mut zstd = layer(b"zstd");
        zstd.blob.descriptor.media_type = MediaType::OCI_LAYER_ZSTD;
        let mut with_zstd = draft(oci.clone());
        with_zstd.push_layer(zstd, History::default());
        assert!(with_zstd.clone().in_family(oci).is_ok());
        let error = with_zstd.in_family(docker).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn an_image_of_dockers_family_becomes_ocis_with_its_first_zstd_layer() {
        let docker = MediaType::DOCKER_MANIFEST;
        let mut zstd = layer(b"zstd");
        zstd.blob.descriptor.media_type = MediaType::OCI_LAYER_ZSTD;
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let mut windows = layer(b"windows");
        windows.blob.descriptor.media_type = MediaType::new(foreign);
        let mut base = draft(docker);
        base.layers.push(windows.blob);
        let mut child = Draft::from_base(&base.finish());
        child.push_layer(zstd, History::default());
        let image = child.finish();
        assert_eq!(image.manifest.media_type(), &MediaType::OCI_MANIFEST);
        assert_eq!(image.manifest.value().media_type, Some(MediaType::OCI_MANIFEST));
        assert_eq!(image.manifest.value().config.media_type, MediaType::OCI_CONFIG);
        let written = image.manifest.value().layers.iter().map(|layer| layer.media_type.clone());
        let expect =
            [MediaType::OCI_LAYER_GZIP, MediaType::new(foreign), MediaType::OCI_LAYER_ZSTD];
        assert_eq!(written.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn equal_drafts_have_equal_digests() {
        let digest = || draft(MediaType::OCI_MANIFEST).finish().manifest.digest().clone();
        assert_eq!(digest(), digest());
    }
}
