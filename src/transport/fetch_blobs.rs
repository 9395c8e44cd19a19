//! Bringing blobs from registries into the store.

use std::collections::BTreeMap;

use super::blob_progress::BlobProgress;
use super::watch::blocking;
use super::{Context, concurrently};
use crate::error::Result;
use crate::image::{Artifact, Blob, BlobLocation, TaggedArtifact};
use crate::oci::Digest;
use crate::progress::TaskKind;

/// Brings every blob of `artifact` that is in a registry into the store.
///
/// Several at once, each digest once, and none that is there already.
pub async fn fetch_blobs(artifact: &mut Artifact, context: &Context) -> Result<()> {
    fetch_each(artifact.blobs(), context).await?;
    artifact.map_sources(&|blob| stored(blob, context));
    Ok(())
}

/// [`fetch_blobs`] for several artifacts, which may share blobs.
pub(super) async fn fetch_blobs_of_all(
    images: &mut [TaggedArtifact],
    context: &Context,
) -> Result<()> {
    fetch_each(images.iter().flat_map(|named| named.artifact.blobs()), context).await?;
    for named in images {
        named.artifact.map_sources(&|blob| stored(blob, context));
    }
    Ok(())
}

fn stored(blob: &Blob, context: &Context) -> Option<BlobLocation> {
    blob.remote()?;
    Some(BlobLocation::File(context.store.blob_path(&blob.descriptor.digest)))
}

async fn fetch_each(blobs: impl IntoIterator<Item = Blob>, context: &Context) -> Result<()> {
    let remote = blobs.into_iter().filter(|blob| blob.remote().is_some());
    let distinct: BTreeMap<Digest, Blob> =
        remote.map(|blob| (blob.descriptor.digest.clone(), blob)).collect();
    let mut blobs: Vec<Blob> = distinct.into_values().collect();
    // A large one that begins last would run on alone.
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.descriptor.size));
    concurrently(blobs.iter().map(|blob| fetch_blob(blob, context)), context.jobs()).await?;
    Ok(())
}

/// Brings one blob into the store. A local one stays where it is.
pub(super) async fn fetch_blob(blob: &Blob, context: &Context) -> Result<()> {
    let Some(repository) = blob.remote() else { return Ok(()) };
    let (store, descriptor) = (&context.store, &blob.descriptor);
    let transfer = BlobProgress::start(&context.reporter, TaskKind::Download, descriptor);
    if store.holds(descriptor)? {
        transfer.skipped("exists");
        return Ok(());
    }
    let (sink, progress) = (store.ingest()?, transfer.on_bytes());
    let ingest = context.client.pull_blob(repository, descriptor, sink, progress).await?;
    let expected = descriptor.clone();
    blocking(move |_| ingest.commit(Some(&expected))).await?;
    transfer.done();
    Ok(())
}
