//! Layers compressed on the way: archives of docker hold them plain, and registries would keep them so.

use std::collections::BTreeMap;

use super::fetch_blobs::fetch_blobs_of_all;
use super::watch::blocking;
use super::{Context, concurrently};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, Image, TaggedArtifact};
use crate::layer::{self, Encoding, WriteOptions, decompress};
use crate::oci::{Compression, Descriptor, Digest, Document, Index, Manifest, MediaType};
use crate::progress::TaskKind;
use crate::registry::BlobSource as _;

/// Which layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Those that are not compressed at all.
    Plain,
    /// Those that are compressed in another way, too.
    All,
}

/// Layers by the digests that they had.
type Compressed = BTreeMap<Digest, Blob>;

/// Compresses layers of images, and writes manifests that name the new ones: images get other digests,
/// and keep their configurations. What is no image stays as it is.
///
/// Errs with [`ErrorKind::Unsupported`] where the types of an image have none for `encoding`.
pub async fn compress(
    images: &mut [TaggedArtifact],
    (encoding, which): (Encoding, Compress),
    (context, threads): (&Context, usize),
) -> Result<()> {
    let is_meant = |blob: &Blob| match blob.descriptor.media_type.layer_compression() {
        None => false,
        _ if blob.descriptor.media_type.is_foreign_layer() => false,
        Some(Compression::None) => encoding != Encoding::None,
        Some(found) => which == Compress::All && found != encoding.compression(),
    };
    let of_images = |named: &TaggedArtifact| {
        let all = named.artifact.images().into_iter().flat_map(|image| image.layers.clone());
        all.filter(is_meant).collect::<Vec<_>>()
    };
    if !images.iter().any(|named| !of_images(named).is_empty()) {
        return Ok(());
    }
    fetch_blobs_of_all(images, context).await?;
    let mut layers: BTreeMap<Digest, Blob> = BTreeMap::new();
    for blob in images.iter().flat_map(of_images) {
        layers.insert(blob.descriptor.digest.clone(), blob);
    }
    // Each takes all threads, and the second begins while the first is still read.
    let work = layers.into_values().map(|blob| compress_layer(blob, encoding, context, threads));
    let compressed: Compressed = concurrently(work, 2).await?.into_iter().collect();
    for named in images {
        named.artifact = rewritten(&named.artifact, &compressed)?;
    }
    Ok(())
}

async fn compress_layer(
    blob: Blob,
    encoding: Encoding,
    context: &Context,
    threads: usize,
) -> Result<(Digest, Blob)> {
    let name = format!("{encoding} of {}", blob.descriptor.digest);
    let task = context.reporter.start(TaskKind::Layer, name, None);
    let (store, old) = (context.store.clone(), blob.descriptor.clone());
    let action = format!("compress layer {}", old.digest);
    let made = blocking(move |watch| {
        let found = old.media_type.layer_compression().unwrap_or(Compression::None);
        let mut ingest = store.ingest_unhashed()?;
        let archive = decompress(found, blob.open()?)?;
        let options = WriteOptions { encoding, threads };
        let progress = |bytes| {
            task.advance(bytes);
            watch.check()
        };
        let info = layer::compress_archive(archive, &options, &progress, &mut ingest)?;
        ingest.commit_as(&info.digest, info.size)?;
        task.done();
        let family = if old.media_type.is_docker() {
            MediaType::DOCKER_MANIFEST
        } else {
            MediaType::OCI_MANIFEST
        };
        if family.is_docker() && info.compression == Compression::Zstd {
            return Err(Error::new(ErrorKind::Unsupported, "use zstd")
                .because("the image has Docker's types, which know gzip alone")
                .hint("use --compression gzip"));
        }
        let media_type = MediaType::layer_for(&family, info.compression);
        let source = BlobLocation::File(store.blob_path(&info.digest));
        let descriptor =
            Descriptor { media_type, digest: info.digest, size: info.size, ..old.clone() };
        Ok((old.digest, Blob { descriptor, source }))
    });
    made.await.cannot(|| action)
}

/// The same artifact with other layers.
fn rewritten(artifact: &Artifact, compressed: &Compressed) -> Result<Artifact> {
    Ok(match artifact {
        Artifact::Image(image) => Artifact::Image(rewritten_image(image, compressed)),
        Artifact::Other { .. } => artifact.clone(),
        Artifact::Index { document, children } => {
            let new: Vec<Artifact> =
                children.iter().map(|child| rewritten(child, compressed)).collect::<Result<_>>()?;
            let mut index: Index = document.value().clone();
            for (old, new) in children.iter().zip(&new) {
                for entry in &mut index.manifests {
                    if entry.digest == *old.digest() {
                        entry.digest = new.digest().clone();
                        entry.size = new.descriptor().size;
                    }
                }
            }
            let document = Document::new(document.media_type().clone(), index);
            Artifact::Index { document, children: new }
        }
    })
}

fn rewritten_image(image: &Image, compressed: &Compressed) -> Image {
    let replace = |blob: &Blob| compressed.get(&blob.descriptor.digest).unwrap_or(blob).clone();
    let layers: Vec<Blob> = image.layers.iter().map(replace).collect();
    let mut manifest: Manifest = image.manifest.value().clone();
    for (written, blob) in manifest.layers.iter_mut().zip(&layers) {
        if written.digest != blob.descriptor.digest {
            let Descriptor { media_type, digest, size, .. } = blob.descriptor.clone();
            *written = Descriptor { media_type, digest, size, ..written.clone() };
        }
    }
    let manifest = Document::new(image.manifest.media_type().clone(), manifest);
    Image { manifest, config: image.config.clone(), layers }
}
