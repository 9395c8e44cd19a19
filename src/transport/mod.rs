//! Places that hold images, and one way to read from and write to all of them.
//!
//! ```text
//!   registry ─┐                                             ┌─► registry: mount, push, tag
//!   layout ───┼─ documents ─► assemble ─► select ─► Artifact ┼─► layout: blobs, then index.json
//!   archive ──┤   (checked)     (whole)   (platforms)        ├─► archive ─► docker: podman:
//!   store ────┘                                             └─► store: blobs, then names
//! ```
//!
//! Reading fetches documents alone: layers stay where they are until somebody needs their bytes.
//! Writing changes what others see in its last step, and a failure before leaves nothing.

mod archive;
mod assemble;
mod files;
mod layout;
mod load;
mod localize;
mod place;
mod push;
mod registry;
mod select;
mod store;
mod transfer;

pub use localize::localize;
pub use place::{Engine, Place, RefName};
pub use store::{find_in_store, read_from_store};

use std::path::PathBuf;

use archive::{Archive, Export};
use files::{Files, Folder};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use layout::{Layout, Wanted};

use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::{Artifact, BlobSource, Named};
use crate::oci::{Platform, PlatformSet, Reference};
use crate::progress::{Reporter, Task, TaskKind};
use crate::registry::Client;
use crate::store::Store;

/// What transports work with.
#[derive(Clone)]
pub struct Context {
    /// The local store.
    pub store: Store,
    /// The client for registries.
    pub client: Client,
    /// Who is told of progress.
    pub reporter: Reporter,
    /// The platform of this machine's containers.
    pub host: Platform,
    /// How many transfers run at once; at least 1.
    pub jobs: usize,
}

impl Context {
    fn jobs(&self) -> usize {
        self.jobs.max(1)
    }
}

/// Reads the one image, or index of images, that `place` names.
///
/// With all platforms an index keeps its bytes. With one the answer is its image; with several, an
/// index over those, in their order. Errs where a platform is not on offer, where a place holds
/// several images and no name was given, and with [`ErrorKind::Invalid`] or
/// [`ErrorKind::Corrupt`] where the place does not hold what it claims to.
pub async fn read(place: &Place, platforms: &PlatformSet, context: &Context) -> Result<Artifact> {
    if let Place::Registry(reference) = place {
        return registry::read(reference, platforms, context).await;
    }
    let (place, platforms, context) = (place.clone(), platforms.clone(), context.clone());
    blocking(move || read_local(&place, &platforms, &context)).await
}

/// Reads every image that `place` holds, with the names that it has there.
///
/// Where `place` names one, that is all, and its name is the one that `place` has.
pub async fn read_all(
    place: &Place,
    platforms: &PlatformSet,
    context: &Context,
) -> Result<Vec<Named>> {
    let whole = matches!(
        place,
        Place::Layout { tag: None, .. }
            | Place::OciArchive { tag: None, .. }
            | Place::DockerArchive { name: None, .. }
    );
    if !whole {
        let artifact = read(place, platforms, context).await?;
        return Ok(vec![Named {
            artifact,
            references: place.reference().cloned().into_iter().collect(),
        }]);
    }
    let (place, platforms, context) = (place.clone(), platforms.clone(), context.clone());
    blocking(move || match place {
        Place::Layout { folder, .. } => {
            let files = Folder(folder);
            let mut all = open_layout(&files)?.read_all(&platforms)?;
            for named in &mut all {
                named.artifact =
                    select::select(named.artifact.clone(), &platforms, &files.shown())?;
            }
            Ok(all)
        }
        Place::OciArchive { file, .. } | Place::DockerArchive { file, .. } => {
            archive::read_all(&Archive::open(file, &context.store)?, &platforms)
        }
        _ => unreachable!("other places name one image"),
    })
    .await
}

fn read_local(place: &Place, platforms: &PlatformSet, context: &Context) -> Result<Artifact> {
    match place {
        Place::Store(Some(name)) => store::read(name, platforms, context),
        Place::Store(None) => Err(unnamed(place, "store:NAME")),
        Place::Layout { folder, tag } => {
            let files = Folder(folder.clone());
            let mut layout = open_layout(&files)?;
            let root = layout.find(tag.as_ref().map_or(Wanted::Only, Wanted::Tag))?;
            let whole = assemble::assemble(&layout, &root, platforms)?;
            select::select(whole, platforms, &place.to_string())
        }
        Place::OciArchive { file, tag } => {
            let archive = Archive::open(file.clone(), &context.store)?;
            archive::read(&archive, tag.as_ref().map_or(Wanted::Only, Wanted::Tag), platforms)
        }
        Place::DockerArchive { file, name } => {
            let archive = Archive::open(file.clone(), &context.store)?;
            archive::read(&archive, name.as_ref().map_or(Wanted::Only, Wanted::Name), platforms)
        }
        Place::Engine { engine, .. } => {
            let program = engine.program();
            Err(Error::new(ErrorKind::Unsupported, format!("read from {place}"))
                .because(format!("images only go to {program} that way"))
                .hint(format!("run {program} save -o FILE NAME, and read docker-archive:FILE")))
        }
        Place::Registry(_) => unreachable!("registries are not local"),
    }
}

fn open_layout(files: &Folder) -> Result<Layout<'_>> {
    Layout::open(files)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("read {}", files.shown()))
            .because("it is no image layout: there is no file oci-layout in it")
    })
}

fn unnamed(place: &Place, write: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("read from {place}"))
        .because("it does not say which image")
        .hint(format!("write {write}"))
}

/// Brings images to `place`. Those that see the place see all of them at once, or none.
///
/// A name or tag that is a part of the place stands instead of the image's own names; then there
/// may be only one image.
pub async fn write(place: &Place, images: &[Named], context: &Context) -> Result<()> {
    mended(write_whole(place, images, context).await, images, context)
}

/// Pushes every image to the registry of each of its names.
///
/// Blobs go first, then manifests, then tags: an interrupted push moves no tag.
pub async fn push(images: &[Named], context: &Context) -> Result<()> {
    mended(push::push(images, context).await, images, context)
}

/// Where a failure comes from a corrupt blob of the store, the blob is taken away: the next run
/// makes or fetches it anew.
fn mended(outcome: Result<()>, images: &[Named], context: &Context) -> Result<()> {
    let Err(error) = outcome else { return Ok(()) };
    let blobs = images.iter().flat_map(|named| named.artifact.blobs());
    let mut removed = Vec::new();
    for blob in blobs {
        let digest = &blob.descriptor.digest;
        let is_stored = matches!(&blob.source, BlobSource::File(path) if *path == context.store.blob_path(digest));
        if is_stored && context.store.discard_if_corrupt(digest)? {
            removed.push(digest.to_string());
        }
    }
    if removed.is_empty() {
        return Err(error);
    }
    Err(Error::new(ErrorKind::Corrupt, format!("use the store's copy of {}", removed.join(", ")))
        .caused_by(error)
        .hint("it was removed; run the same again, and it is made or fetched anew"))
}

async fn write_whole(place: &Place, images: &[Named], context: &Context) -> Result<()> {
    for named in images {
        check_whole(&named.artifact)?;
    }
    match place {
        Place::Registry(name) => push::push(&renamed(images, Some(name))?, context).await,
        Place::Store(name) => store::write(&renamed(images, name.as_ref())?, context).await,
        Place::Layout { folder, tag } => {
            let export = local_export(images, tag.as_ref(), context).await?;
            let (folder, task) = (folder.clone(), export_task(context, place, &export));
            blocking(move || {
                layout::write(&export, &folder, &|bytes| task.advance(bytes)).map(|()| task.done())
            })
            .await
        }
        Place::OciArchive { file, tag } => {
            let export = local_export(images, tag.as_ref(), context).await?;
            write_archive(place, file.clone(), export, context).await
        }
        Place::DockerArchive { file, name } => {
            let images = renamed(images, name.as_ref())?;
            check_for_docker(&images, context)?;
            let export = local_export(&images, None, context).await?;
            write_archive(place, file.clone(), export, context).await
        }
        Place::Engine { engine, name } => {
            let export = local_export(&renamed(images, name.as_ref())?, None, context).await?;
            let task = export_task(context, place, &export);
            load::load(*engine, export, task, context).await
        }
    }
}

/// Gathers what an export needs; what is in registries is brought here first.
async fn local_export(
    images: &[Named],
    tag: Option<&RefName>,
    context: &Context,
) -> Result<Export> {
    let mut images = images.to_vec();
    localize::localize_all(&mut images, context).await?;
    Export::new(&images, tag, &context.host)
}

/// Refuses before anything is pulled.
fn check_for_docker(images: &[Named], context: &Context) -> Result<()> {
    Export::new(images, None, &context.host)?.check_for_docker()
}

async fn write_archive(
    place: &Place,
    file: PathBuf,
    export: Export,
    context: &Context,
) -> Result<()> {
    let task = export_task(context, place, &export);
    blocking(move || {
        let progress = |bytes| task.advance(bytes);
        if place::is_stream(&file) {
            archive::to_writer(&export, std::io::stdout().lock(), &progress)
                .cannot(|| "write the archive to standard output")?;
        } else {
            archive::to_file(&export, &file, &progress)?;
        }
        task.done();
        Ok(())
    })
    .await
}

fn export_task(context: &Context, place: &Place, export: &Export) -> Task {
    context.reporter.start(TaskKind::Export, place.to_string(), Some(export.size()))
}

/// The one image of `images` under another name.
fn renamed(images: &[Named], name: Option<&Reference>) -> Result<Vec<Named>> {
    let Some(name) = name else { return Ok(images.to_vec()) };
    let [only] = images else {
        return Err(Error::new(ErrorKind::Usage, format!("write {} images", images.len()))
            .because(format!("all would be called {name}"))
            .hint("leave the name in the destination away"));
    };
    Ok(vec![Named { artifact: only.artifact.clone(), references: vec![name.clone()] }])
}

/// Refuses an index that lacks some of its entries: no reader could use it whole.
fn check_whole(artifact: &Artifact) -> Result<()> {
    let Artifact::Index { document, children } = artifact else { return Ok(()) };
    for entry in &document.value().manifests {
        if !children.iter().any(|child| *child.digest() == entry.digest) {
            let missing =
                entry.platform.as_ref().map_or(entry.digest.to_string(), ToString::to_string);
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("write index {}", document.digest()),
            )
            .because(format!("its entry for {missing} was not read")));
        }
    }
    children.iter().try_for_each(check_whole)
}

/// Runs several pieces of work at once, and answers their results in the order of the work.
///
/// The first failure ends all of them.
async fn concurrently<T, W>(work: impl IntoIterator<Item = W>, at_once: usize) -> Result<Vec<T>>
where
    W: Future<Output = Result<T>>,
{
    let numbered = work.into_iter().enumerate();
    let numbered: Vec<_> = numbered
        .map(|(number, work)| async move { Ok::<_, Error>((number, work.await?)) })
        .collect();
    let mut done: Vec<(usize, T)> =
        stream::iter(numbered).buffer_unordered(at_once).try_collect().await?;
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Runs what waits for files on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.cannot(|| "finish a thread's work")?
}
