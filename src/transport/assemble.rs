//! From documents to artifacts, wherever the documents are.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, Image};
use crate::oci::{
    Descriptor, Document, Hasher, ImageConfig, Index, LARGEST_DOCUMENT, Manifest, MediaType,
    Platform, PlatformSet,
};

/// How many indexes may stand above an image.
pub(super) const DEEPEST: usize = 8;
/// How many documents an artifact may have, counting one that is listed twice as two.
const MOST_DOCUMENTS: usize = 4096;

/// A place that holds documents and blobs by their descriptors. What it gives is not trusted.
pub(super) trait Contents {
    /// The bytes of a manifest, index or config.
    fn document(&self, descriptor: &Descriptor) -> Result<Bytes>;

    /// Where the bytes of a blob are. Errs where the blob is missing.
    fn source(&self, descriptor: &Descriptor) -> Result<BlobLocation>;
}

/// Reads the artifact that `root` names, leaving out what is known to be for other platforms.
pub(super) fn assemble(
    contents: &dyn Contents,
    root: &Descriptor,
    wanted: &PlatformSet,
) -> Result<Artifact> {
    Assembly { contents, wanted, left: MOST_DOCUMENTS }.artifact(root, DEEPEST)
}

/// Whether an entry of an index may lead to something that is wanted.
pub(super) fn may_be_wanted(entry: &Descriptor, wanted: &PlatformSet) -> bool {
    match (wanted, &entry.platform) {
        (PlatformSet::All, _) | (_, None) => true,
        (PlatformSet::Listed(listed), Some(platform)) => {
            !platform.is_unknown() && listed.iter().any(|want| platform.satisfies(want))
        }
    }
}

/// Whether a manifest that stands in an index as `entry` is an image's.
///
/// Attestations and signatures use the config type of images as well. What tells them apart is
/// that none of their layers is an archive.
pub(super) fn is_image(entry: &Descriptor, manifest: &Manifest) -> bool {
    let known = |layer: &Descriptor| layer.media_type.layer_compression().is_some();
    manifest.config.media_type.is_config()
        && manifest.artifact_type.is_none()
        && !entry.platform.as_ref().is_some_and(Platform::is_unknown)
        && (manifest.layers.is_empty() || manifest.layers.iter().any(known))
}

/// Finds out whether a document is an index or a manifest: the entry's word, then its own.
pub(super) fn document_type(entry: &Descriptor, bytes: &[u8]) -> Result<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<MediaType>,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes)
        .map_err(|error| invalid(entry).because(format!("it is no JSON object: {error}")))?;
    let listed = &entry.media_type;
    let is_known = |found: &&MediaType| found.is_index() || found.is_manifest();
    if let (Some(own), true) = (&shape.media_type, is_known(&listed))
        && own != listed
    {
        return Err(invalid(entry).because(format!("it calls itself {own}, its entry {listed}")));
    }
    if let Some(said) =
        [Some(listed), shape.media_type.as_ref()].into_iter().flatten().find(is_known)
    {
        return Ok(said.clone());
    }
    match shape {
        Shape { manifests: Some(_), layers: None, .. } => Ok(MediaType::OCI_INDEX),
        Shape { manifests: None, layers: Some(_), config: Some(_), .. } => {
            Ok(MediaType::OCI_MANIFEST)
        }
        _ => Err(Error::new(ErrorKind::Unsupported, format!("read {}", entry.digest))
            .because(format!("its type is {listed}, expected a manifest or an index"))),
    }
}

/// Checks that `bytes` are what `descriptor` names.
pub(super) fn verify(descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let corrupt = Error::new(ErrorKind::Corrupt, format!("read {}", descriptor.digest));
    if bytes.len() as u64 != descriptor.size {
        return Err(corrupt.because(format!(
            "found {} bytes, expected {}",
            bytes.len(),
            descriptor.size
        )));
    }
    let mut hasher = Hasher::like(&descriptor.digest);
    hasher.update(bytes);
    let found = hasher.finish();
    if found != descriptor.digest {
        return Err(corrupt.because(format!("found digest {found}")));
    }
    Ok(())
}

/// Refuses an index that lacks some of its entries: no reader could use it whole.
pub(super) fn check_whole(artifact: &Artifact) -> Result<()> {
    let Artifact::Index { document, children } = artifact else { return Ok(()) };
    for entry in &document.value().manifests {
        if !children.iter().any(|child| *child.digest() == entry.digest) {
            let what =
                entry.platform.as_ref().map_or(entry.digest.to_string(), Platform::to_string);
            let action = format!("write index {}", document.digest());
            return Err(Error::new(ErrorKind::Invalid, action)
                .because(format!("its entry for {what} was not read")));
        }
    }
    children.iter().try_for_each(check_whole)
}

fn invalid(entry: &Descriptor) -> Error {
    Error::new(ErrorKind::Invalid, format!("read {}", entry.digest))
}

struct Assembly<'a> {
    contents: &'a dyn Contents,
    wanted: &'a PlatformSet,
    left: usize,
}

impl Assembly<'_> {
    fn artifact(&mut self, entry: &Descriptor, depth: usize) -> Result<Artifact> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            invalid(entry).because(format!("it is one of more than {MOST_DOCUMENTS} documents"))
        })?;
        let bytes = self.document(entry)?;
        if entry.digest.algorithm() != "sha256" {
            return Err(Error::new(ErrorKind::Unsupported, format!("read {}", entry.digest))
                .because("manifests are known by their SHA-256 digest alone"));
        }
        let media_type = document_type(entry, &bytes)?;
        if media_type.is_index() {
            return self.index(Document::parse(media_type, bytes)?, depth);
        }
        let document: Document<Manifest> = Document::parse(media_type, bytes)?;
        if is_image(entry, document.value()) {
            return self.image(document).map(Artifact::Image);
        }
        let manifest = document.value();
        let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
        let blobs = parts.map(|part| self.blob(part)).collect::<Result<_>>()?;
        Ok(Artifact::Other { document, blobs })
    }

    fn index(&mut self, document: Document<Index>, depth: usize) -> Result<Artifact> {
        if depth == 0 {
            return Err(invalid(document.descriptor())
                .because(format!("it stands below more than {DEEPEST} other indexes")));
        }
        let mut children = Vec::new();
        for entry in &document.value().manifests {
            if may_be_wanted(entry, self.wanted) {
                children.push(self.artifact(entry, depth - 1)?);
            }
        }
        Ok(Artifact::Index { document, children })
    }

    fn image(&self, manifest: Document<Manifest>) -> Result<Image> {
        let described = &manifest.value().config;
        let config: Document<ImageConfig> =
            Document::parse(described.media_type.clone(), self.document(described)?)?;
        let (layers, wanted) =
            (manifest.value().layers.len(), config.value().rootfs.diff_ids.len());
        if layers < wanted {
            return Err(invalid(manifest.descriptor())
                .because(format!("it has {layers} layers, its config names {wanted}")));
        }
        let layers = manifest.value().layers.iter().map(|layer| self.blob(layer));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Image { manifest, config, layers })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        if descriptor.size > LARGEST_DOCUMENT {
            return Err(invalid(descriptor).because(format!(
                "the document has {} bytes, at most {LARGEST_DOCUMENT} are taken",
                descriptor.size
            )));
        }
        let bytes = self.contents.document(descriptor)?;
        verify(descriptor, &bytes)?;
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let source = self.contents.source(descriptor)?;
        Ok(Blob { descriptor: descriptor.clone(), source })
    }
}
