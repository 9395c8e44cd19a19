//! Registries as a destination: blobs, then manifests, then tags.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::assemble::check_whole;
use super::blob_progress::BlobProgress;
use super::fetch_blobs::fetch_blob;
use super::{Context, concurrently};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, TaggedArtifact};
use crate::oci::{Descriptor, Digest, Reference, Repository};
use crate::progress::TaskKind;
use crate::registry::{BlobSource, Pushed};

/// Pushes each image under its names, to the registries that they say.
pub(super) async fn push(images: &[TaggedArtifact], context: &Context) -> Result<()> {
    // A name can hardly stand for an image with a layer that was made just now: what it stands for is
    // asked while the rest of the image is sent.
    let (new, others): (Vec<_>, Vec<_>) =
        targets(images)?.into_iter().partition(|target| target.is_new(context));
    let others = outdated(others, context).await?;
    let candidates = [others.clone(), new.clone()].concat();
    let (new, ()) = tokio::try_join!(outdated(new, context), push_blobs(&candidates, context))?;
    let targets = [others, new].concat();
    push_manifests(&targets, context).await?;
    concurrently(targets.iter().map(|target| target.push_root(context)), context.jobs()).await?;
    Ok(())
}

/// One name that is pushed.
#[derive(Clone, Copy)]
struct Target<'a> {
    artifact: &'a Artifact,
    name: &'a Reference,
}

/// Every name once, of images that are whole.
fn targets(images: &[TaggedArtifact]) -> Result<Vec<Target<'_>>> {
    let (mut targets, mut seen) = (Vec::new(), BTreeSet::new());
    for named in images {
        check_whole(&named.artifact)?;
        if named.references.is_empty() {
            return Err(Error::new(ErrorKind::Usage, format!("push {}", named.artifact.digest()))
                .because("it has no name"));
        }
        for name in &named.references {
            let target = Target { artifact: &named.artifact, name };
            target.check_digest()?;
            if seen.insert((name, named.artifact.digest())) {
                targets.push(target);
            }
        }
    }
    Ok(targets)
}

/// The names that do not stand for their image yet.
async fn outdated<'a>(targets: Vec<Target<'a>>, context: &Context) -> Result<Vec<Target<'a>>> {
    let current = targets.iter().map(|target| target.is_current(context));
    let current = concurrently(current, context.jobs()).await?;
    let outdated = targets.into_iter().zip(current).filter(|(_, is_current)| !is_current);
    Ok(outdated.map(|(target, _)| target).collect())
}

impl Target<'_> {
    fn check_digest(&self) -> Result<()> {
        let digest = self.artifact.digest();
        match self.name.digest() {
            Some(wanted) if wanted != digest => {
                Err(Error::new(ErrorKind::Usage, format!("push {}", self.name))
                    .because(format!("the image's digest is {digest}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a layer of it was sent while it was made.
    fn is_new(&self, context: &Context) -> bool {
        let is_sent = |digest| context.client.is_sent_while_made(self.name.repository(), digest);
        self.artifact.blobs().iter().any(|blob| is_sent(&blob.descriptor.digest))
    }

    async fn is_current(&self, context: &Context) -> Result<bool> {
        let task = context.reporter.start(TaskKind::Resolve, self.name.to_string(), None);
        let name = self.name.without_digest().unwrap_or_else(|| self.name.clone());
        let found = context.client.tag_digest(&name).await?;
        let is_current = found.is_some_and(|found| found.digest == *self.artifact.digest());
        if is_current {
            task.skipped("exists");
        } else {
            task.done();
        }
        Ok(is_current)
    }

    /// Pushes the image's own manifest, which makes it visible.
    async fn push_root(&self, context: &Context) -> Result<()> {
        let task = context.reporter.start(TaskKind::Upload, self.name.to_string(), None);
        let selector = self.name.tag().unwrap_or(self.artifact.digest().as_str());
        let media_type = &self.artifact.descriptor().media_type;
        let bytes = self.artifact.document_bytes().clone();
        let repository = self.name.repository();
        context.client.push_manifest(repository, selector, media_type, bytes).await?;
        task.done();
        Ok(())
    }
}

/// Blobs of one digest that several repositories of a registry need.
struct BlobPush<'a> {
    blob: Blob,
    /// A repository that has the blob.
    origin: Option<Repository>,
    repositories: BTreeSet<&'a Repository>,
}

async fn push_blobs(targets: &[Target<'_>], context: &Context) -> Result<()> {
    let mut pushes: BTreeMap<(&str, Digest), BlobPush<'_>> = BTreeMap::new();
    for target in targets {
        let origins = origins(target.artifact);
        for blob in target.artifact.blobs() {
            if blob.descriptor.media_type.is_foreign_layer() {
                // Registries let manifests name these without holding them.
                continue;
            }
            let digest = blob.descriptor.digest.clone();
            let origin = origins.get(&digest).cloned();
            let push = pushes.entry((target.name.registry(), digest)).or_insert_with(|| BlobPush {
                blob,
                origin,
                repositories: BTreeSet::new(),
            });
            push.repositories.insert(target.name.repository());
        }
    }
    let mut pushes: Vec<BlobPush<'_>> = pushes.into_values().collect();
    // A large one that begins last would run on alone.
    pushes.sort_by_key(|push| std::cmp::Reverse(push.blob.descriptor.size));
    concurrently(pushes.iter().map(|push| push.send(context)), context.jobs()).await?;
    Ok(())
}

/// Where blobs came from: what is still there, and the configs of images all of whose layers are.
fn origins(artifact: &Artifact) -> BTreeMap<Digest, Repository> {
    let mut origins = BTreeMap::new();
    for blob in artifact.blobs() {
        if let Some(repository) = blob.remote() {
            origins.insert(blob.descriptor.digest.clone(), repository.clone());
        }
    }
    for image in artifact.images() {
        let repositories: BTreeSet<_> = image.layers.iter().map(Blob::remote).collect();
        if let [Some(repository)] = Vec::from_iter(repositories)[..] {
            origins.insert(image.manifest.value().config.digest.clone(), repository.clone());
        }
    }
    origins
}

impl BlobPush<'_> {
    /// Brings the blob into one repository after the other: the first upload serves the rest.
    async fn send(&self, context: &Context) -> Result<()> {
        let mut holders: Vec<Repository> = Vec::new();
        for repository in &self.repositories {
            if let Some(origin) = &self.origin
                && origin.registry() == repository.registry()
                && !holders.contains(origin)
            {
                holders.push(origin.clone());
            }
            let others = holders.iter().filter(|holder| holder != repository);
            let one = RepositoryPush {
                blob: &self.blob,
                repository,
                holders: others.cloned().collect(),
                context,
                transfer: BlobProgress::start(
                    &context.reporter,
                    TaskKind::Upload,
                    &self.blob.descriptor,
                ),
            };
            one.run().await?;
            holders.insert(0, (*repository).clone());
        }
        Ok(())
    }
}

/// A blob on its way into a repository.
struct RepositoryPush<'a> {
    blob: &'a Blob,
    repository: &'a Repository,
    /// Other repositories of the same registry that have the blob.
    holders: Vec<Repository>,
    context: &'a Context,
    transfer: BlobProgress,
}

impl RepositoryPush<'_> {
    async fn run(self) -> Result<()> {
        let pushed = match self.blob.remote() {
            None => self.push(Arc::new(self.blob.clone())).await?,
            Some(_) => match self.push_without_bytes().await? {
                Some(pushed) => pushed,
                None => self.fetch_and_push().await?,
            },
        };
        match pushed {
            Pushed::Exists => self.transfer.skipped("exists"),
            Pushed::Mounted => self.transfer.skipped("mounted"),
            Pushed::Uploaded => self.transfer.done(),
        }
        Ok(())
    }

    async fn push(&self, source: Arc<dyn BlobSource>) -> Result<Pushed> {
        let (client, descriptor) = (&self.context.client, &self.blob.descriptor);
        let progress = self.transfer.on_bytes();
        client.push_blob(self.repository, descriptor, source, &self.holders, progress).await
    }

    /// Uses what the registry has; `None` where the bytes are needed.
    async fn push_without_bytes(&self) -> Result<Option<Pushed>> {
        if self.holders.is_empty() {
            let digest = &self.blob.descriptor.digest;
            let is_there = self.context.client.has_blob(self.repository, digest).await?;
            return Ok(is_there.then_some(Pushed::Exists));
        }
        let unfetched = Arc::new(UnfetchedBlob::default());
        match self.push(unfetched.clone()).await {
            Err(_) if unfetched.was_opened() => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    async fn fetch_and_push(&self) -> Result<Pushed> {
        fetch_blob(self.blob, self.context).await?;
        let path = self.context.store.blob_path(&self.blob.descriptor.digest);
        let local = Blob { source: BlobLocation::File(path), ..self.blob.clone() };
        self.push(Arc::new(local)).await
    }
}

/// Stands for bytes that are not on this machine, and notes that they were asked for.
#[derive(Default)]
struct UnfetchedBlob(AtomicBool);

impl UnfetchedBlob {
    fn was_opened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl BlobSource for UnfetchedBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        self.0.store(true, Ordering::Release);
        Err(Error::new(ErrorKind::NotFound, "read a layer that was not fetched"))
    }
}

/// Pushes every manifest below the roots: images first, what refers to them next, then indexes.
async fn push_manifests(targets: &[Target<'_>], context: &Context) -> Result<()> {
    let mut stages: [Vec<(&Repository, Descriptor, Bytes)>; 3] = Default::default();
    let mut seen = BTreeSet::new();
    for target in targets {
        let repository = target.name.repository();
        let referrers = referrers(target.artifact);
        for (descriptor, bytes) in target.artifact.documents() {
            let is_root = descriptor.digest == *target.artifact.digest();
            if is_root || !seen.insert((repository, descriptor.digest.clone())) {
                continue;
            }
            let is_referrer = referrers.contains(&descriptor.digest);
            let stage = if descriptor.media_type.is_index() { 2 } else { usize::from(is_referrer) };
            stages[stage].push((repository, descriptor, bytes));
        }
    }
    let [images, referrers, indexes] = stages;
    for (manifests, at_once) in
        [(images, context.jobs()), (referrers, context.jobs()), (indexes, 1)]
    {
        let pushed = manifests.into_iter().map(|(repository, descriptor, bytes)| async move {
            let Descriptor { digest, media_type, .. } = &descriptor;
            context.client.push_manifest(repository, digest.as_str(), media_type, bytes).await
        });
        concurrently(pushed, at_once).await?;
    }
    Ok(())
}

/// The manifests that name another one as their subject.
fn referrers(artifact: &Artifact) -> BTreeSet<Digest> {
    let has_subject = |artifact: &&&Artifact| match artifact {
        Artifact::Image(image) => image.manifest.value().subject.is_some(),
        Artifact::Other { document, .. } => document.value().subject.is_some(),
        Artifact::Index { .. } => false,
    };
    artifact.walk().iter().filter(has_subject).map(|found| found.digest().clone()).collect()
}
