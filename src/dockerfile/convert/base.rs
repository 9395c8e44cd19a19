//! Bases: images that stages begin with, or copy from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::{Job, Tools};
use crate::dockerfile::config;
use crate::dockerfile::diagnostic::Diagnostics;
use crate::dockerfile::instruction::Instruction;
use crate::dockerfile::parse;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Blob, BlobLocation, Image};
use crate::oci::{
    Descriptor, Document, ImageConfig, LARGEST_DOCUMENT, Manifest, Platform, PlatformSet,
    Reference, Repository,
};
use crate::progress::{Explanation, Origin, TaskKind};
use crate::transport::{self, Location};

/// The kind of the store's records that say what a name stood for when it was looked up.
const RECORDS: &str = "base";

/// What a name stood for on one platform.
#[derive(Serialize, Deserialize)]
struct Record {
    manifest: Descriptor,
    /// The name, for people. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Finds an image by its name.
///
/// An image of that name in the local store is used as it is, and so is one that was looked up
/// before; `--pull` asks the registry. With the name goes what messages call it.
pub(super) async fn find(
    tools: &Tools,
    job: &Job,
    (name, shown): (&Reference, &str),
    platform: &Platform,
) -> Result<Arc<Image>> {
    let store = &tools.transport.store;
    let key = format!("{name} {platform}");
    if !job.cache.pull || tools.transport.client.is_offline() {
        if let Some(image) = in_store(tools, name, platform).await? {
            explain(tools, job, shown, &image, (Origin::Store, "an image has this name here"));
            return Ok(Arc::new(image));
        }
        if let Some(image) = looked_up(tools, &key, name.repository())? {
            explain(tools, job, shown, &image, (Origin::Store, "it was looked up before"));
            return Ok(Arc::new(image));
        }
    }
    let before = store.get_record::<Record>(RECORDS, &key).filter(|_| job.explain);
    let image = read(tools, &Location::Registry(name.clone()), &shown, platform).await?;
    store.put(image.manifest.bytes())?;
    store.put(image.config.bytes())?;
    let manifest = image.manifest.descriptor().clone();
    let why = match before {
        Some(before) if before.manifest.digest != manifest.digest => {
            format!("it moved from {}", before.manifest.digest)
        }
        Some(_) => "it was looked up again".to_owned(),
        None => "it is looked up for the first time".to_owned(),
    };
    explain(tools, job, shown, &image, (Origin::Registry, &why));
    let record = Record { manifest, name: Some(name.familiar()) };
    store.put_record(RECORDS, &key, &record)?;
    Ok(Arc::new(image))
}

/// Whether an image, with its layers, can be had without a network.
pub(super) async fn is_here(tools: &Tools, job: &Job, name: &Reference, of: &Platform) -> bool {
    let Ok(image) = find(tools, job, (name, &name.to_string()), of).await else { return false };
    let store = &tools.transport.store;
    image
        .layers
        .iter()
        .all(|layer| layer.remote().is_none() || store.holds(&layer.descriptor).unwrap_or(false))
}

/// The instructions that a base wants to be executed first.
pub(super) fn triggers(image: &Image) -> Result<Vec<Instruction>> {
    let mut config = image.config.value().clone();
    let texts = config::take_triggers(&mut config);
    let parsed = texts
        .iter()
        .map(|text| parse::trigger("ONBUILD of the base", text).map_err(Diagnostics::into_error));
    parsed.collect()
}

/// Tells how a base was found, where that was asked for.
fn explain(tools: &Tools, job: &Job, shown: &str, image: &Image, (origin, why): (Origin, &str)) {
    if job.explain {
        let name = format!("{shown}, which is {}", image.manifest.digest());
        let (kind, why) = (TaskKind::Resolve, vec![why.to_owned()]);
        tools.transport.reporter.explain(Explanation { kind, name, origin, why });
    }
}

/// Reads an image from a place that was named on the command line.
pub(super) async fn read_place(
    tools: &Tools,
    job: &Job,
    place: &Location,
    platform: &Platform,
) -> Result<Arc<Image>> {
    if let Location::Registry(name) = place {
        return find(tools, job, (name, &name.to_string()), platform).await;
    }
    read(tools, place, place, platform).await.map(Arc::new)
}

async fn read(
    tools: &Tools,
    place: &Location,
    shown: &impl std::fmt::Display,
    platform: &Platform,
) -> Result<Image> {
    let task = tools.transport.reporter.start(TaskKind::Resolve, shown.to_string(), None);
    let wanted = PlatformSet::Listed(vec![platform.clone()]);
    let artifact = transport::read(place, &wanted, &tools.transport).await?;
    let image = artifact.image_for(platform).or_else(|| artifact.as_image()).cloned();
    let image = image.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("use {shown}"))
            .because(format!("it has no image for {platform}"))
    })?;
    refuse_windows(&image, shown)?;
    task.done();
    Ok(image)
}

fn refuse_windows(image: &Image, shown: &impl std::fmt::Display) -> Result<()> {
    if image.platform().os != "windows" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("build on {shown}"))
        .because("it is an image for Windows, whose steps only Windows can execute")
        .hint("choose a linux base, or --platform linux/amd64"))
}

/// An image of the local store, all of whose blobs are there.
async fn in_store(tools: &Tools, name: &Reference, platform: &Platform) -> Result<Option<Image>> {
    if tools.transport.store.resolve(name)?.is_none() {
        return Ok(None);
    }
    let wanted = PlatformSet::Listed(vec![platform.clone()]);
    let place = Location::Store(Some(name.clone()));
    // An image for other platforms, or one that lost a blob, is not what is meant.
    let Ok(artifact) = transport::read(&place, &wanted, &tools.transport).await else {
        return Ok(None);
    };
    Ok(artifact.image_for(platform).cloned())
}

/// What an earlier build found, if its documents are still here; its layers are in `repository`.
fn looked_up(tools: &Tools, key: &str, repository: &Repository) -> Result<Option<Image>> {
    let store = &tools.transport.store;
    let Some(record) = store.get_record::<Record>(RECORDS, key) else { return Ok(None) };
    if !store.holds(&record.manifest)? {
        return Ok(None);
    }
    let bytes = store.read(&record.manifest, LARGEST_DOCUMENT)?;
    let manifest: Document<Manifest> = Document::parse(record.manifest.media_type.clone(), bytes)?;
    let config = manifest.value().config.clone();
    if !store.holds(&config)? {
        return Ok(None);
    }
    let bytes = store.read(&config, LARGEST_DOCUMENT)?;
    let config: Document<ImageConfig> = Document::parse(config.media_type, bytes)?;
    let layers = manifest.value().layers.iter().map(|descriptor| {
        let source = if store.holds(descriptor)? {
            BlobLocation::File(store.blob_path(&descriptor.digest))
        } else {
            BlobLocation::Remote(repository.clone())
        };
        Ok(Blob { descriptor: descriptor.clone(), source })
    });
    let layers = layers.collect::<Result<_>>()?;
    Ok(Some(Image { manifest, config, layers }))
}
