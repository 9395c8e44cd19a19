//! What goes into a layout or an archive.

use std::collections::BTreeMap;

use super::RefName;
use super::docker_item::Item;
use super::entries::{blob_name, name_of, named_entries};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, Image, TaggedArtifact};
use crate::oci::{Compression, Descriptor, Digest, Platform};

/// Everything that a layout or archive will hold.
#[derive(Debug)]
pub(super) struct Export {
    /// What `index.json` lists.
    pub entries: Vec<Descriptor>,
    /// Whether the place said what its entry is called; then no other may be called so.
    pub named_by_place: bool,
    /// What `manifest.json` lists.
    pub(super) items: Vec<Item>,
    /// Manifests, configs and layers.
    pub blobs: BTreeMap<Digest, Blob>,
}

impl Export {
    /// Gathers what `images` need; every blob must be local.
    pub(super) fn new(
        images: &[TaggedArtifact],
        tag: Option<&RefName>,
        host: &Platform,
    ) -> Result<Self> {
        let mut export = Self {
            entries: Vec::new(),
            named_by_place: tag.is_some(),
            items: Vec::new(),
            blobs: BTreeMap::new(),
        };
        if let (Some(tag), [_, _, ..]) = (tag, images) {
            return Err(Error::new(ErrorKind::Usage, format!("write {} images", images.len()))
                .because(format!("all would be called {tag}"))
                .hint("leave the tag after the path away"));
        }
        for named in images {
            let entries = named_entries(named, tag)?;
            if let Some(image) = image_for_host(&named.artifact, host) {
                export.put_item(image, &entries);
            }
            export.entries.extend(entries);
            for (descriptor, bytes) in named.artifact.documents() {
                let digest = descriptor.digest.clone();
                export.blobs.insert(digest, Blob::in_memory(descriptor, bytes));
            }
            for blob in named.artifact.blobs() {
                export.blobs.entry(blob.descriptor.digest.clone()).or_insert(blob);
            }
        }
        Ok(export)
    }

    /// Lists an image for docker; one that several artifacts hold is listed once, with all names.
    fn put_item(&mut self, image: &Image, entries: &[Descriptor]) {
        let manifest = image.manifest.value();
        let config = blob_name(&manifest.config);
        let layers: Vec<String> = manifest.layers.iter().map(blob_name).collect();
        let names = entries.iter().filter_map(name_of).filter(|name| name.tag().is_some());
        let names = names.map(|name| name.to_string());
        match self.items.iter_mut().find(|item| item.config == config && item.layers == layers) {
            Some(item) => item.repo_tags.extend(names),
            None => self.items.push(Item { config, repo_tags: names.collect(), layers }),
        }
    }

    /// The bytes of all blobs.
    pub(super) fn size(&self) -> u64 {
        self.blobs.values().map(|blob| blob.descriptor.size).sum()
    }

    /// Refuses what docker cannot load.
    pub(super) fn check_for_docker(&self) -> Result<()> {
        if self.items.is_empty() {
            return Err(not_for_docker().because("nothing of it is an image"));
        }
        if self.has_zstd_layer() { Err(zstd_for_docker()) } else { Ok(()) }
    }

    /// Whether a layer is compressed with zstd.
    pub(super) fn has_zstd_layer(&self) -> bool {
        let mut types = self.blobs.values().map(|blob| &blob.descriptor.media_type);
        types.any(|media_type| media_type.layer_compression() == Some(Compression::Zstd))
    }
}

fn not_for_docker() -> Error {
    Error::new(ErrorKind::Unsupported, "write an archive for docker")
}

/// That docker's archives have no zstd layers.
pub(super) fn zstd_for_docker() -> Error {
    not_for_docker()
        .because("it has a zstd layer, which docker before 23 cannot load")
        .hint("build with --compression gzip, or write oci-archive: instead")
}

/// Docker's classic store takes one image under a name: the host's, or else the first.
fn image_for_host<'a>(artifact: &'a Artifact, host: &Platform) -> Option<&'a Image> {
    artifact.image_for(host).or_else(|| artifact.images().into_iter().next())
}
