//! A cache in a registry: one manifest for all steps.
//!
//! ```text
//!   REPOSITORY:steps          a manifest
//!     config                  application/vnd.gondola.steps.v1+json: the list of records, see
//!                             [`Records`]
//!     layers                  the layers that the records name, each once
//! ```
//! A look-up is two requests for all steps of a build together. What no record names is in no manifest,
//! so that the registry's own tidying removes it. Earlier versions had a tag for each step, `step-…`:
//! these are left alone, and count as absent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Backend, NoList, Records, is_wrong};
use crate::blocking::blocking;
use crate::engine::LayerRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, Draft, Image, Layer};
use crate::layer;
use crate::oci::{
    Descriptor, Digest, Document, History, LARGEST_DOCUMENT, Manifest, MediaType, Repository,
};
use crate::progress::TaskKind;
use crate::registry::OnBytes;
use crate::transport::{self, BlobProgress, Context};

/// The tag of the manifest.
pub const TAG: &str = "steps";
/// The media type of the list.
const LIST: &str = "application/vnd.gondola.steps.v1+json";
/// No layer is longer when it is unpacked.
const LONGEST_ARCHIVE: u64 = 256 << 30;

/// The results of steps in a repository.
pub struct RegistryCache {
    repository: Repository,
    transport: Context,
    /// The list that was read or written last, by the digest of its manifest.
    last: Mutex<Option<(Digest, Records)>>,
    is_read: AtomicBool,
}

impl RegistryCache {
    /// Uses a repository. Nothing is asked yet.
    pub fn new(repository: Repository, transport: Context) -> Self {
        Self { repository, transport, last: Mutex::default(), is_read: AtomicBool::default() }
    }

    async fn read_list(&self) -> Result<Records> {
        let name = self.repository.at_tag(TAG)?;
        let unknown = |why: String| {
            Error::new(ErrorKind::Unsupported, format!("read {name}")).because(why).hint(
                "it stays as it is: name another repository for the cache, or remove that tag",
            )
        };
        let found = self.transport.client.find_manifest(&name).await;
        // What is no manifest that anybody could read is nothing of ours either.
        let found = found
            .map_err(|error| if is_wrong(&error) { unknown(error.to_string()) } else { error })?;
        let Some(pulled) = found else { return Ok(Records::default()) };
        if let Some((digest, records)) = &*self.last()
            && *digest == pulled.descriptor.digest
        {
            return Ok(records.clone());
        }
        let wrong =
            |why: String| Error::new(ErrorKind::Invalid, format!("read {name}")).because(why);
        let manifest: Manifest = serde_json::from_slice(&pulled.bytes)
            .map_err(|error| unknown(format!("it is no manifest: {error}")))?;
        let config = manifest.config;
        if config.media_type != MediaType::new(LIST) {
            return Err(unknown(format!(
                "its configuration is {}, expected {LIST}",
                config.media_type
            )));
        }
        let bytes = self.pull(&config).await?;
        let reporter = &self.transport.reporter;
        // Each read finds the same ones.
        let is_told = self.is_read.swap(true, Ordering::Relaxed);
        let mut refuse = |key: &str, why: &str| {
            if is_told {
                return;
            }
            reporter.warn(format!("step {key} of {name} is not used: {why}"));
        };
        let records = Records::read(&bytes, &mut refuse).map_err(|why| match why {
            NoList::Broken(why) => wrong(format!("its list is none: {why}")),
            NoList::Unknown(why) => unknown(why),
        })?;
        *self.last() = Some((pulled.descriptor.digest, records.clone()));
        Ok(records)
    }

    async fn pull(&self, list: &Descriptor) -> Result<Vec<u8>> {
        let action = || format!("read {}:{TAG}", self.repository);
        if list.size > LARGEST_DOCUMENT {
            return Err(Error::new(ErrorKind::Invalid, action()).because(format!(
                "its list has {} bytes, at most {LARGEST_DOCUMENT} are taken",
                list.size
            )));
        }
        let client = &self.transport.client;
        let progress: OnBytes = Arc::new(|_| {});
        let bytes = client.pull_blob(&self.repository, list, Vec::new(), progress).await?;
        if Digest::of(&bytes) != list.digest {
            return Err(Error::new(ErrorKind::Corrupt, action())
                .because(format!("its list has another digest than {}", list.digest)));
        }
        Ok(bytes)
    }

    async fn write_list(&self, records: &Records) -> Result<()> {
        let (client, repository) = (&self.transport.client, &self.repository);
        let bytes = records.write();
        let list = Descriptor::of(MediaType::new(LIST), &bytes);
        let blob = Blob { descriptor: list.clone(), source: BlobLocation::Memory(bytes.into()) };
        client.push_blob(repository, &list, Arc::new(blob), &[], Arc::new(|_| {})).await?;
        let layers = records.layers().into_values().map(LayerRecord::descriptor).collect();
        let manifest = Manifest::new(MediaType::OCI_MANIFEST, list, layers);
        let manifest = Document::new(MediaType::OCI_MANIFEST, manifest);
        let bytes = manifest.bytes().clone();
        client.push_manifest(repository, TAG, manifest.media_type(), bytes).await?;
        *self.last() = Some((manifest.digest().clone(), records.clone()));
        Ok(())
    }

    async fn fetch_layer(&self, layer: &LayerRecord) -> Result<()> {
        let source = BlobLocation::Remote(self.repository.clone());
        let image = self.image(layer, source);
        // Only the layer is brought: the configuration is in memory.
        transport::fetch_blobs(&mut Artifact::Image(image), &self.transport).await?;
        let (layer, store) = (layer.clone(), self.transport.store.clone());
        blocking(move || {
            let action = || format!("use layer {}", layer.digest);
            let blob = store.open_blob(&layer.descriptor())?;
            let inside = layer::look_inside(blob, LONGEST_ARCHIVE, |_| Ok(()));
            // The blob has its digest, so that whoever made it made it like this.
            let inside = inside.map_err(|why| {
                Error::new(ErrorKind::Corrupt, action()).because(format!("it is no layer: {why}"))
            })?;
            if inside.diff_id == layer.diff_id {
                return Ok(());
            }
            Err(Error::new(ErrorKind::Corrupt, action()).because(format!(
                "its diff ID is {}, the list says {}",
                inside.diff_id, layer.diff_id
            )))
        })
        .await
    }

    async fn push_layer(&self, layer: &LayerRecord) -> Result<()> {
        let descriptor = layer.descriptor();
        let transfer = BlobProgress::start(&self.transport.reporter, TaskKind::Upload, &descriptor);
        let blob = layer.layer(&self.transport.store).blob;
        let (client, progress) = (&self.transport.client, transfer.on_bytes());
        client.push_blob(&self.repository, &descriptor, Arc::new(blob), &[], progress).await?;
        transfer.done();
        Ok(())
    }

    /// An image of one layer.
    fn image(&self, layer: &LayerRecord, source: BlobLocation) -> Image {
        let mut draft = Draft::scratch(self.transport.host.clone());
        let blob = Blob { descriptor: layer.descriptor(), source };
        draft.push_layer(Layer { blob, diff_id: layer.diff_id.clone() }, History::default());
        draft.finish()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(Digest, Records)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for RegistryCache {
    fn display_name(&self) -> String {
        format!("{}:{TAG}", self.repository)
    }

    fn read(&self) -> BoxFuture<'_, Result<Records>> {
        self.read_list().boxed()
    }

    fn replace<'a>(&'a self, records: &'a Records) -> BoxFuture<'a, Result<()>> {
        self.write_list(records).boxed()
    }

    fn fetch<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<()>> {
        self.fetch_layer(layer).boxed()
    }

    fn put_layer<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<()>> {
        self.push_layer(layer).boxed()
    }

    fn has_layer<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<bool>> {
        self.transport.client.has_blob(&self.repository, &layer.digest).boxed()
    }
}
