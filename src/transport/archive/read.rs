//! Reading archives of either format.

use super::{Archive, docker};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, TaggedArtifact};
use crate::oci::PlatformSet;
use crate::transport::entries::Selector;
use crate::transport::files::Files;
use crate::transport::layout::Layout;
use crate::transport::select::{select, select_each};

/// Reads one image, from the layout if there is one: it has everything.
pub(in crate::transport) fn read(
    archive: &Archive,
    wanted: Selector<'_>,
    platforms: &PlatformSet,
) -> Result<Artifact> {
    let whole = match Layout::open(archive)? {
        Some(mut layout) => layout.read(wanted, platforms)?,
        None => docker_images(archive)?.read(wanted)?,
    };
    select(whole, platforms, &archive.display())
}

/// Reads every image with its names.
pub(in crate::transport) fn read_all(
    archive: &Archive,
    platforms: &PlatformSet,
) -> Result<Vec<TaggedArtifact>> {
    let all = match Layout::open(archive)? {
        Some(mut layout) => layout.read_all(platforms)?,
        None => docker_images(archive)?.read_all()?,
    };
    select_each(all, platforms, &archive.display())
}

fn docker_images(archive: &Archive) -> Result<docker::Images<'_>> {
    docker::Images::open(archive)?.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("read {}", archive.display()))
            .because("it has neither an oci-layout nor a manifest.json")
    })
}
