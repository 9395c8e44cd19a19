//! Writing to any place.

use std::path::PathBuf;

use super::archive;
use super::evict_corrupt::evict_corrupt;
use super::export::{Export, zstd_for_docker};
use super::location::is_stream;
use super::push::push as push_images;
use super::watch::{Watch, blocking};
use super::{Context, Location, RefName, assemble, fetch_blobs, layout, load, store};
use crate::disk::stream::Stdout;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::TaggedArtifact;
use crate::oci::{Compression, Reference};
use crate::progress::{Task, TaskKind};

/// Brings images to `place`. Those that see the place see all of them at once, or none.
///
/// A name or tag that is a part of the place stands instead of the image's own names; then there
/// may be only one image.
pub async fn write(place: &Location, images: &[TaggedArtifact], context: &Context) -> Result<()> {
    evict_corrupt(write_to(place, images, context).await, images, context)
}

/// Pushes each image under its names, to the registries that they say.
///
/// A tag that already stands for the image costs one request, and nothing else is sent for it.
/// Layers that the target has are neither downloaded nor sent; those that another repository of the
/// same registry has are mounted. Tags move last, when everything else is in place: an interrupted
/// push moves none.
pub async fn push(images: &[TaggedArtifact], context: &Context) -> Result<()> {
    evict_corrupt(push_images(images, context).await, images, context)
}

/// Finds out before there is an image whether `place` could take one, as far as that can be told.
pub fn check(place: &Location) -> Result<()> {
    match place {
        Location::Layout { folder, .. } => layout::check_folder(folder)
            .cannot(|| format!("write the image layout {}", folder.display())),
        Location::OciArchive { file, .. } | Location::DockerArchive { file, .. }
            if !is_stream(file) =>
        {
            archive::check_file(file)
        }
        _ => Ok(()),
    }
}

/// Finds out before there is an image whether `place` takes layers that are compressed so.
pub fn check_compression(place: &Location, compression: Compression) -> Result<()> {
    match (place, compression) {
        (Location::DockerArchive { .. }, Compression::Zstd) => Err(zstd_for_docker()),
        _ => Ok(()),
    }
}

async fn write_to(place: &Location, images: &[TaggedArtifact], context: &Context) -> Result<()> {
    images.iter().try_for_each(|named| assemble::check_whole(&named.artifact))?;
    match place {
        Location::Registry(name) => push_images(&renamed(images, Some(name))?, context).await,
        Location::Store(name) => store::write(&renamed(images, name.as_ref())?, context).await,
        Location::Layout { folder, tag } => {
            note_docker_types(images, context);
            let export = local_export(images, tag.as_ref(), context).await?;
            let (folder, task) = (folder.clone(), start(context, place, &export));
            blocking(move |watch| {
                layout::write(&export, &folder, &|bytes| step(&task, watch, bytes))?;
                task.done();
                Ok(())
            })
            .await
        }
        Location::OciArchive { file, tag } => {
            let export = local_export(images, tag.as_ref(), context).await?;
            write_archive(place, file.clone(), export, context).await
        }
        Location::DockerArchive { file, name } => {
            let images = renamed(images, name.as_ref())?;
            // Before anything is pulled.
            Export::new(&images, None, &context.host)?.check_for_docker()?;
            let export = local_export(&images, None, context).await?;
            write_archive(place, file.clone(), export, context).await
        }
        Location::Engine { engine, name } => {
            let export = local_export(&renamed(images, name.as_ref())?, None, context).await?;
            let task = start(context, place, &export);
            load::load(*engine, export, task, context).await
        }
    }
}

/// Says of images that not every reader of a layout takes.
fn note_docker_types(images: &[TaggedArtifact], context: &Context) {
    let is_docker = |named: &TaggedArtifact| named.artifact.descriptor().media_type.is_docker();
    if images.iter().any(is_docker) {
        context.reporter.note(
            "the image has Docker's types: skopeo and umoci do not find it in a layout by its tag; \
             docker-archive: is read by all, and a base with OCI's types makes an OCI image",
        );
    }
}

/// Gathers what an export needs; what is in registries is brought here first.
async fn local_export(
    images: &[TaggedArtifact],
    tag: Option<&RefName>,
    context: &Context,
) -> Result<Export> {
    // A wrong tag is noticed before anything is pulled.
    Export::new(images, tag, &context.host)?;
    let mut images = images.to_vec();
    fetch_blobs::fetch_blobs_of_all(&mut images, context).await?;
    Export::new(&images, tag, &context.host)
}

async fn write_archive(
    place: &Location,
    file: PathBuf,
    export: Export,
    context: &Context,
) -> Result<()> {
    let task = start(context, place, &export);
    blocking(move |watch| {
        let progress = |bytes| step(&task, watch, bytes);
        if is_stream(&file) {
            archive::to_writer(&export, Stdout, &progress)
                .cannot(|| "write the archive to standard output")?;
        } else {
            archive::to_file(&export, &file, &progress)?;
        }
        task.done();
        Ok(())
    })
    .await
}

fn start(context: &Context, place: &Location, export: &Export) -> Task {
    context.reporter.start(TaskKind::Export, place.to_string(), Some(export.size()))
}

/// Counts bytes that were written, and ends the work whose caller is gone.
fn step(task: &Task, watch: &Watch, bytes: u64) -> Result<()> {
    task.advance(bytes);
    watch.check()
}

/// The one image of `images` under another name.
fn renamed(images: &[TaggedArtifact], name: Option<&Reference>) -> Result<Vec<TaggedArtifact>> {
    let Some(name) = name else { return Ok(images.to_vec()) };
    let [only] = images else {
        return Err(Error::new(ErrorKind::Usage, format!("write {} images", images.len()))
            .because(format!("all would be called {name}"))
            .hint("leave the name in the destination away"));
    };
    Ok(vec![TaggedArtifact { artifact: only.artifact.clone(), references: vec![name.clone()] }])
}
