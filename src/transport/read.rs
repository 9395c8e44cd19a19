//! Reading from any place.

use super::archive::{self, Archive};
use super::entries::Selector;
use super::files::{Files, Folder};
use super::layout::Layout;
use super::watch::{Watch, blocking};
use super::{Context, Location, registry, select, store};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, TaggedArtifact};
use crate::oci::PlatformSet;

/// Reads the one image, or index of images, that `place` names.
///
/// With all platforms an index keeps its bytes. With one the answer is its image; with several, an
/// index over those, in their order. Errs where a platform is not on offer, where a place holds
/// several images and no name was given, and with [`ErrorKind::Invalid`] or
/// [`ErrorKind::Corrupt`] where the place does not hold what it claims to.
pub async fn read(
    place: &Location,
    platforms: &PlatformSet,
    context: &Context,
) -> Result<Artifact> {
    if let Location::Registry(reference) = place {
        return registry::read(reference, platforms, context).await;
    }
    let (place, platforms, context) = (place.clone(), platforms.clone(), context.clone());
    blocking(move |watch| read_local(&place, &platforms, &context, watch)).await
}

/// Reads every image that `place` holds, with the names that it has there.
///
/// Where `place` names one, that is all, and its name is the one that `place` has.
pub async fn read_all(
    place: &Location,
    platforms: &PlatformSet,
    context: &Context,
) -> Result<Vec<TaggedArtifact>> {
    let (layout, archive) = match place {
        Location::Layout { folder, tag: None } => (Some(folder.clone()), None),
        Location::OciArchive { file, tag: None } | Location::DockerArchive { file, name: None } => {
            (None, Some(file.clone()))
        }
        _ => {
            let references = place.reference().cloned().into_iter().collect();
            let artifact = read(place, platforms, context).await?;
            return Ok(vec![TaggedArtifact { artifact, references }]);
        }
    };
    let (platforms, store) = (platforms.clone(), context.store.clone());
    blocking(move |watch| match (layout, archive) {
        (Some(folder), _) => read_all_of_layout(&Folder(folder), &platforms),
        (_, Some(file)) => archive::read_all(&Archive::open(file, &store, watch)?, &platforms),
        (None, None) => unreachable!("one of both was found above"),
    })
    .await
}

fn read_all_of_layout(folder: &Folder, platforms: &PlatformSet) -> Result<Vec<TaggedArtifact>> {
    let images = open_layout(folder)?.read_all(platforms)?;
    select::select_each(images, platforms, &folder.display())
}

fn read_local(
    place: &Location,
    platforms: &PlatformSet,
    context: &Context,
    watch: &Watch,
) -> Result<Artifact> {
    match place {
        Location::Store(Some(name)) => store::read(name, platforms, context),
        Location::Layout { folder, tag } => {
            let folder = Folder(folder.clone());
            let mut layout = open_layout(&folder)?;
            let whole =
                layout.read(tag.as_ref().map_or(Selector::Only, Selector::Tag), platforms)?;
            select::select(whole, platforms, &place.to_string())
        }
        Location::OciArchive { file, tag } => {
            let archive = Archive::open(file.clone(), &context.store, watch)?;
            archive::read(&archive, tag.as_ref().map_or(Selector::Only, Selector::Tag), platforms)
        }
        Location::DockerArchive { file, name } => {
            let archive = Archive::open(file.clone(), &context.store, watch)?;
            archive::read(&archive, name.as_ref().map_or(Selector::Only, Selector::Name), platforms)
        }
        Location::Store(None) => Err(Error::new(ErrorKind::Usage, "read from the local store")
            .because("it was not said which image")
            .hint("write store:NAME")),
        Location::Engine { engine, .. } => {
            let program = engine.program();
            Err(Error::new(ErrorKind::Unsupported, format!("read from {place}"))
                .because(format!("images only go to {program} that way"))
                .hint(format!("run {program} save -o FILE NAME, and read docker-archive:FILE")))
        }
        Location::Registry(_) => unreachable!("registries are not local"),
    }
}

fn open_layout(folder: &Folder) -> Result<Layout<'_>> {
    Layout::open(folder)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("read {}", folder.display()))
            .because("it is no image layout: there is no file oci-layout in it")
    })
}
