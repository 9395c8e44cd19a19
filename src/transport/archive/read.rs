//! Reading archives of either format.

use super::{Archive, docker};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Named};
use crate::oci::PlatformSet;
use crate::transport::assemble::assemble;
use crate::transport::files::Files;
use crate::transport::layout::{Layout, Wanted};
use crate::transport::select::select;

/// Reads one image, from the layout if there is one: it has everything.
pub(in crate::transport) fn read(
    archive: &Archive,
    wanted: Wanted<'_>,
    platforms: &PlatformSet,
) -> Result<Artifact> {
    let whole = match Layout::open(archive)? {
        Some(mut layout) => {
            let root = layout.find(wanted)?;
            assemble(&layout, &root, platforms)?
        }
        None => docker_images(archive)?.read(wanted)?,
    };
    select(whole, platforms, &archive.shown())
}

/// Reads every image with its names.
pub(in crate::transport) fn read_all(
    archive: &Archive,
    platforms: &PlatformSet,
) -> Result<Vec<Named>> {
    let mut all = match Layout::open(archive)? {
        Some(mut layout) => layout.read_all(platforms)?,
        None => docker_images(archive)?.read_all()?,
    };
    for named in &mut all {
        named.artifact = select(named.artifact.clone(), platforms, &archive.shown())?;
    }
    Ok(all)
}

fn docker_images(archive: &Archive) -> Result<docker::Images<'_>> {
    docker::Images::open(archive)?.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("read {}", archive.shown()))
            .because("it has neither an oci-layout nor a manifest.json")
    })
}
