//! What is published: one image, or an index and everything below it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Blob, BlobLocation, Image};
use crate::oci::{Descriptor, Digest, Document, Index, Manifest, Platform, Reference};

/// An image, an index over several, or another manifest that travels with them.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "artifacts are few, and made once")]
pub enum Artifact {
    /// One image.
    Image(Image),
    /// Several artifacts under one digest.
    Index {
        /// The index.
        document: Document<Index>,
        /// Its entries in the index's order; a partial copy may lack some.
        children: Vec<Artifact>,
    },
    /// A manifest that is no image, such as an attestation.
    Other {
        /// The manifest.
        document: Document<Manifest>,
        /// Its config and layers.
        blobs: Vec<Blob>,
    },
}

/// An artifact and the names that it gets.
#[derive(Clone, Debug)]
pub struct TaggedArtifact {
    /// What is published.
    pub artifact: Artifact,
    /// Under which names; may be empty where a place needs none.
    pub references: Vec<Reference>,
}

impl Artifact {
    /// Makes an index over `images`, in their order, each entry with its platform. As in
    /// [`Draft::annotate`](super::Draft::annotate), an annotation with an empty value is none.
    pub fn index(images: Vec<Image>, annotations: BTreeMap<String, String>) -> Self {
        let entries = images.iter().map(|image| {
            let mut entry = image.manifest.descriptor().clone();
            entry.platform = Some(image.platform().clone());
            entry
        });
        let mut index = Index::new(entries.collect());
        index.annotations = annotations;
        index.annotations.retain(|_, value| !value.is_empty());
        let document = Document::new(crate::oci::MediaType::OCI_INDEX, index);
        let children = images.into_iter().map(Self::Image).collect();
        Self::Index { document, children }
    }

    /// What names the artifact.
    pub fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Image(image) => image.manifest.descriptor(),
            Self::Index { document, .. } => document.descriptor(),
            Self::Other { document, .. } => document.descriptor(),
        }
    }

    /// The digest that the artifact is pinned by.
    pub fn digest(&self) -> &Digest {
        &self.descriptor().digest
    }

    /// The manifest's or index's bytes.
    pub fn document_bytes(&self) -> &Bytes {
        match self {
            Self::Image(image) => image.manifest.bytes(),
            Self::Index { document, .. } => document.bytes(),
            Self::Other { document, .. } => document.bytes(),
        }
    }

    /// The images, depth first, in index order.
    pub fn images(&self) -> Vec<&Image> {
        self.walk().into_iter().filter_map(Self::as_image).collect()
    }

    /// The image, where this is one.
    pub fn as_image(&self) -> Option<&Image> {
        match self {
            Self::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The image for `wanted`, the first in index order.
    pub fn image_for(&self, wanted: &Platform) -> Option<&Image> {
        self.images().into_iter().find(|image| image.platform().satisfies(wanted))
    }

    /// This artifact and everything below it, parents before children.
    pub fn walk(&self) -> Vec<&Artifact> {
        let mut all = vec![self];
        if let Self::Index { children, .. } = self {
            all.extend(children.iter().flat_map(Self::walk));
        }
        all
    }

    /// The manifests and indexes, children before parents: the order in which they are pushed.
    pub fn documents(&self) -> Vec<(Descriptor, Bytes)> {
        let mut seen = BTreeSet::new();
        let walked = self.walk().into_iter().rev();
        let all = walked.map(|a| (a.descriptor().clone(), a.document_bytes().clone()));
        all.filter(|(descriptor, _)| seen.insert(descriptor.digest.clone())).collect()
    }

    /// Configs and layers, each digest once.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut seen = BTreeSet::new();
        let all = self.walk().into_iter().flat_map(|artifact| match artifact {
            Self::Image(image) => {
                let config = std::iter::once(image.config_blob());
                config.chain(image.layers.iter().cloned()).collect()
            }
            Self::Index { .. } => Vec::new(),
            Self::Other { blobs, .. } => blobs.clone(),
        });
        all.filter(|blob| seen.insert(blob.descriptor.digest.clone())).collect()
    }

    /// The same artifact with every blob's source replaced by what `choose` answers.
    pub fn map_sources(&mut self, choose: &impl Fn(&Blob) -> Option<BlobLocation>) {
        match self {
            Self::Image(image) => remap(&mut image.layers, choose),
            Self::Index { children, .. } => {
                for child in children {
                    child.map_sources(choose);
                }
            }
            Self::Other { blobs, .. } => remap(blobs, choose),
        }
    }
}

fn remap(blobs: &mut [Blob], choose: &impl Fn(&Blob) -> Option<BlobLocation>) {
    for blob in blobs {
        if let Some(source) = choose(blob) {
            blob.source = source;
        }
    }
}
