//! The format of `docker save`: a `manifest.json` that names configs and layers.

use std::io::Read;

use super::Archive;
use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, Image, TaggedArtifact};
use crate::layer;
use crate::oci::{
    Compression, Descriptor, Digest, Document, Hasher, ImageConfig, LARGEST_DOCUMENT, Manifest,
    MediaType, Reference,
};
use crate::transport::docker_item::Item;
use crate::transport::entries::{Selector, claimed_digest};
use crate::transport::files::Files;

const LARGEST_MANIFEST: u64 = 64 << 20;

/// The images of an archive in docker's format.
pub(super) struct Images<'a> {
    archive: &'a Archive,
    items: Vec<Item>,
}

impl<'a> Images<'a> {
    /// Reads `manifest.json`; `None` where there is none.
    pub(super) fn open(archive: &'a Archive) -> Result<Option<Self>> {
        let Some(bytes) = archive.read("manifest.json", LARGEST_MANIFEST)? else { return Ok(None) };
        let items = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("read {}", archive.display()))
                .because(format!("its manifest.json is broken: {error}"))
        })?;
        Ok(Some(Self { archive, items }))
    }

    /// Reads the image that is wanted.
    pub(super) fn read(&self, wanted: Selector<'_>) -> Result<Artifact> {
        let found: Vec<&Item> = self.items.iter().filter(|item| item.is(wanted)).collect();
        match found[..] {
            [only] => self.image(only),
            [] => Err(Error::new(ErrorKind::NotFound, format!("find {}", display(wanted)))
                .because(format!("{} holds {}", self.archive.display(), self.names()))),
            _ => Err(Error::new(ErrorKind::Usage, format!("read {}", self.archive.display()))
                .because(format!("it holds several images: {}", self.names()))
                .hint("write one of the names after the path and a colon")),
        }
    }

    /// Reads every image with its names.
    pub(super) fn read_all(&self) -> Result<Vec<TaggedArtifact>> {
        let read = |item: &Item| {
            Ok(TaggedArtifact { artifact: self.image(item)?, references: item.names() })
        };
        self.items.iter().map(read).collect()
    }

    fn names(&self) -> String {
        let tags: Vec<String> = self.items.iter().flat_map(|item| item.repo_tags.clone()).collect();
        if tags.is_empty() {
            return "no names".to_owned();
        }
        tags.join(", ").escape_debug().to_string()
    }

    /// Makes a manifest for what has none. Many readers of layouts take OCI types alone.
    fn image(&self, item: &Item) -> Result<Artifact> {
        let action = || format!("read an image of {}", self.archive.display());
        let bytes = self.archive.read(&item.config, LARGEST_DOCUMENT)?;
        let bytes = bytes.ok_or_else(|| self.missing(&item.config))?;
        let config: Document<ImageConfig> =
            Document::parse(MediaType::OCI_CONFIG, bytes).cannot(action)?;
        let members = &item.layers;
        let diff_ids = &config.value().rootfs.diff_ids;
        if members.len() != diff_ids.len() {
            return Err(Error::new(ErrorKind::Invalid, action()).because(format!(
                "it has {} layers, but its config names {}",
                members.len(),
                diff_ids.len()
            )));
        }
        let layers =
            members.iter().zip(diff_ids).map(|(member, diff_id)| self.layer(member, diff_id));
        let layers = layers.collect::<Result<Vec<Blob>>>()?;
        let described = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let family = MediaType::OCI_MANIFEST;
        let manifest = Manifest::new(family.clone(), config.descriptor().clone(), described);
        Ok(Artifact::Image(Image { manifest: Document::new(family, manifest), config, layers }))
    }

    fn layer(&self, member: &str, diff_id: &Digest) -> Result<Blob> {
        let found = self.archive.locate(member)?;
        let (source, size) = found.ok_or_else(|| self.missing(member))?;
        let action = || format!("read {} in {}", member.escape_debug(), self.archive.display());
        let mut start = Vec::new();
        content(&source, size).and_then(|r| r.take(4).read_to_end(&mut start)).cannot(action)?;
        let compression = layer::detect(&start);
        let digest = match (compression, claimed_digest(member), &source) {
            // Whoever reads the layer compares it with its digest, so a claim is enough.
            (Compression::None, _, _) => diff_id.clone(),
            (_, Some(claimed), _) => claimed,
            _ => digest_of(content(&source, size).cannot(action)?).cannot(action)?,
        };
        let media_type = MediaType::layer_for(&MediaType::OCI_MANIFEST, compression);
        Ok(Blob { descriptor: Descriptor::new(media_type, digest, size), source })
    }

    fn missing(&self, member: &str) -> Error {
        let what = format!("read {} in {}", member.escape_debug(), self.archive.display());
        Error::new(ErrorKind::NotFound, what).because("the archive has no such member")
    }
}

impl Item {
    fn is(&self, wanted: Selector<'_>) -> bool {
        let tags = &self.repo_tags;
        match wanted {
            Selector::Only => true,
            Selector::Tag(tag) => {
                let is_tag =
                    |name: &String| name.rsplit_once(':').is_some_and(|(_, t)| t == tag.as_str());
                tags.iter().any(|name| name == tag.as_str() || is_tag(name))
            }
            Selector::Name(name) => self.names().contains(name) || tags.contains(&name.to_string()),
        }
    }

    fn names(&self) -> Vec<Reference> {
        let tags = &self.repo_tags;
        tags.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

fn display(wanted: Selector<'_>) -> String {
    match wanted {
        Selector::Only => "an image".to_owned(),
        Selector::Tag(tag) => tag.to_string(),
        Selector::Name(name) => name.to_string(),
    }
}

/// The bytes of a member, not verified.
fn content(source: &BlobLocation, size: u64) -> std::io::Result<Box<dyn Read + Send>> {
    use std::io::{Cursor, Seek, SeekFrom};
    Ok(match source {
        BlobLocation::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
        BlobLocation::File(path) => Box::new(disk::open_listed(path)?),
        BlobLocation::Slice { path, offset } => {
            let mut file = disk::open_listed(path)?;
            file.seek(SeekFrom::Start(*offset))?;
            Box::new(file.take(size))
        }
        BlobLocation::Remote(_) => return Err(std::io::Error::other("archives are local")),
    })
}

fn digest_of(mut content: impl Read) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
