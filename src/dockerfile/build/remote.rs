//! A cache in a registry: results of steps that any machine executed, for every other one.
//!
//! ```text
//!   REPOSITORY:step-<key>     an image of one layer, which is what the step added
//!     vnd.gondola.step.key               the step's key
//!     vnd.gondola.step.diff-id           the diff ID of the layer
//!     vnd.gondola.step.executed          when it was executed, in seconds since 1970
//!     org.opencontainers.image.created   the time that histories have of it
//! ```
//! All that a look-up needs is in the manifest: it is one request. The configuration is there for
//! registries that hold nothing but images. A `COPY` from a stage or an image is found under a second
//! tag as well, that of the key which is known before any file is looked at: whoever finds it has no
//! need to unpack what is copied from.
//!
//! A layer is fetched when something needs it, and used when its digest and its diff ID are right.
//! Where that fails, the build begins again without it; what was executed until then is not executed
//! again. Nothing that goes wrong with the repository ends a build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::job::{CacheRepository, Job, Tools};
use crate::blocking::blocking;
use crate::engine::{Entry, LayerRecord, StepKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, Draft, Image, Layer};
use crate::layer;
use crate::oci::{History, Manifest, Platform};
use crate::progress::TaskKind;
use crate::registry::{OnBytes, Pulled};
use crate::transport::{self, BlobProgress};

/// What tags begin with.
const TAG: &str = "step-";
/// The annotations that say what a manifest is.
const KEY: &str = "vnd.gondola.step.key";
const DIFF_ID: &str = "vnd.gondola.step.diff-id";
const EXECUTED: &str = "vnd.gondola.step.executed";
const CREATED: &str = "org.opencontainers.image.created";
/// No layer is longer when it is unpacked.
const LONGEST_ARCHIVE: u64 = 256 << 30;

impl Entry {
    /// The image that holds it.
    fn image(&self, platform: &Platform, source: BlobLocation) -> Image {
        let mut draft = Draft::scratch(platform.clone());
        let history = History {
            created: Some(self.created.clone()),
            created_by: Some(format!("gondola step {}", self.key)),
            ..History::default()
        };
        let blob = Blob { descriptor: self.layer.descriptor(), source };
        draft.push_layer(Layer { blob, diff_id: self.layer.diff_id.clone() }, history);
        draft.config().created = Some(self.created.clone());
        draft.annotate(KEY, &self.key);
        draft.annotate(DIFF_ID, self.layer.diff_id.as_str());
        draft.annotate(EXECUTED, self.executed.to_string());
        draft.annotate(CREATED, &self.created);
        draft.finish()
    }

    /// Whether it was executed longer ago than `longest`.
    fn is_older(&self, longest: Option<Duration>, now: i64) -> bool {
        let age = u64::try_from(now.saturating_sub(self.executed)).unwrap_or_default();
        longest.is_some_and(|longest| age > longest.as_secs())
    }

    /// Reads the manifest; says why it is not one of these.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        let said = |name: &str| {
            let value = manifest.annotations.get(name).cloned();
            value.ok_or_else(|| format!("its annotation {name} is missing"))
        };
        let wrong = |name: &str| format!("its annotation {name} is wrong");
        let [layer] = manifest.layers.as_slice() else {
            return Err(format!("it has {} layers, expected one", manifest.layers.len()));
        };
        if layer.media_type.layer_compression().is_none() || layer.media_type.is_foreign_layer() {
            return Err(format!("its layer is of the type {}", layer.media_type));
        }
        let created = said(CREATED)?;
        created.parse::<jiff::Timestamp>().map_err(|_| wrong(CREATED))?;
        Ok(Self {
            key: said(KEY)?,
            executed: said(EXECUTED)?.parse().map_err(|_| wrong(EXECUTED))?,
            layer: LayerRecord {
                media_type: layer.media_type.clone(),
                digest: layer.digest.clone(),
                size: layer.size,
                diff_id: said(DIFF_ID)?.parse().map_err(|_| wrong(DIFF_ID))?,
            },
            created,
        })
    }
}

/// The cache in one repository, for one build.
pub(super) struct Remote {
    place: CacheRepository,
    transport: transport::Context,
    now: i64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is looked up any more.
    unread: bool,
    /// Nothing is put there any more.
    unwritten: bool,
    /// What was found, by the key that was asked for.
    found: BTreeMap<String, Found>,
    /// Keys of steps whose layers cannot be used.
    broken: BTreeSet<String>,
    /// A step that was said to be there is not.
    failed: bool,
}

#[derive(Clone)]
struct Found {
    entry: Entry,
    manifest: Pulled,
}

impl Remote {
    /// The cache that a job uses, if it does.
    pub(super) fn of(tools: &Tools, job: &Job) -> Option<Arc<Self>> {
        let place = job.cache.repository.clone()?;
        let (transport, state) = (tools.transport.clone(), Mutex::default());
        Some(Arc::new(Self { place, transport, now: job.now, state }))
    }

    /// Whether steps of a kind are kept here.
    pub(super) fn keeps(&self, kind: StepKind) -> bool {
        !self.place.without.contains(&kind)
    }

    /// What is known of the step with a key.
    pub(super) async fn find(&self, key: &str) -> Option<Entry> {
        let entry = self.find_asked(key).await?;
        if entry.key == key {
            return Some(entry);
        }
        self.refuse(key, "it is the result of another step");
        None
    }

    /// What is known of the step that came out of a key which looks at no files.
    pub(super) async fn find_asked(&self, asked: &str) -> Option<Entry> {
        {
            let state = self.state();
            if state.unread {
                return None;
            }
            if let Some(found) = state.found.get(asked) {
                return Some(found.entry.clone());
            }
        }
        let name = self.place.repository.at_tag(&tag(asked)).ok()?;
        let manifest = match self.transport.client.find_manifest(&name).await {
            Ok(manifest) => manifest?,
            Err(error) => {
                match error.kind() {
                    ErrorKind::Corrupt | ErrorKind::Invalid => self.refuse(asked, &error),
                    _ => self.stop_reading(&error),
                }
                return None;
            }
        };
        let entry = match Entry::read(&manifest.bytes) {
            Ok(entry) => entry,
            Err(why) => {
                self.refuse(asked, why);
                return None;
            }
        };
        let mut state = self.state();
        if state.broken.contains(&entry.key) || entry.is_older(self.place.longest_age, self.now) {
            return None;
        }
        let found = Found { entry: entry.clone(), manifest };
        state.found.insert(entry.key.clone(), found.clone());
        state.found.insert(asked.to_owned(), found);
        Some(entry)
    }

    /// Brings the layer of a step into the store, and makes sure that it is what it is said to be.
    ///
    /// After an error the build begins again: see [`Remote::begins_again`].
    pub(super) async fn fetch(&self, key: &str, layer: &LayerRecord) -> Result<()> {
        let Err(error) = self.bring(key, layer).await else { return Ok(()) };
        {
            let mut state = self.state();
            state.broken.insert(key.to_owned());
            state.found.retain(|_, found| found.entry.key != key);
            state.failed = true;
        }
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::NotFound => {
                self.refuse(key, &error);
            }
            _ => self.stop_reading(&error),
        }
        Err(error)
    }

    async fn bring(&self, key: &str, layer: &LayerRecord) -> Result<()> {
        let store = self.transport.store.clone();
        let found = self.state().found.get(key).map(|found| found.entry.clone());
        let entry = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("fetch {}", layer.digest))
                .because(format!("{} has lost it", self.place.repository))
        })?;
        let source = BlobLocation::Remote(self.place.repository.clone());
        let image = entry.image(&self.transport.host, source);
        // Only the layer is brought: the configuration is in memory.
        transport::fetch_blobs(&mut Artifact::Image(image), &self.transport).await?;
        let layer = layer.clone();
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
                "its diff ID is {}, the repository says {}",
                inside.diff_id, layer.diff_id
            )))
        })
        .await
    }

    /// Whether the build must begin again because a step that was said to be there is not. Each
    /// time there is one less, so this comes to an end.
    pub(super) fn begins_again(&self) -> bool {
        std::mem::take(&mut self.state().failed)
    }

    /// Puts the result of a step there, also under the key that looks at no files.
    pub(super) async fn put(&self, entry: &Entry, asked: Option<&str>) {
        if self.is_written() {
            let put = self.try_put(entry, asked).await;
            put.unwrap_or_else(|error| self.stop_writing(&error));
        }
    }

    async fn try_put(&self, entry: &Entry, asked: Option<&str>) -> Result<()> {
        let (client, repository) = (&self.transport.client, &self.place.repository);
        let source = BlobLocation::File(self.transport.store.blob_path(&entry.layer.digest));
        let image = entry.image(&self.transport.host, source);
        let descriptor = entry.layer.descriptor();
        let transfer = BlobProgress::start(&self.transport.reporter, TaskKind::Upload, &descriptor);
        for blob in image.layers.iter().cloned().chain([image.config_blob()]) {
            let descriptor = blob.descriptor.clone();
            let is_layer = !descriptor.media_type.is_config();
            let progress: OnBytes = if is_layer { transfer.on_bytes() } else { Arc::new(|_| {}) };
            client.push_blob(repository, &descriptor, Arc::new(blob), &[], progress).await?;
        }
        let (media_type, bytes) = (image.manifest.media_type(), image.manifest.bytes());
        for key in [Some(entry.key.as_str()), asked].into_iter().flatten() {
            client.push_manifest(repository, &tag(key), media_type, bytes.clone()).await?;
        }
        transfer.done();
        Ok(())
    }

    /// Puts a result that is there also under the key that looks at no files, unless it was found so.
    pub(super) async fn put_asked(&self, key: &str, asked: &str) {
        let found = {
            let state = self.state();
            state.found.get(key).filter(|_| !state.found.contains_key(asked)).cloned()
        };
        let Some(Found { manifest, .. }) = found.filter(|_| self.is_written()) else { return };
        let media_type = &manifest.descriptor.media_type;
        let client = &self.transport.client;
        let put = client
            .push_manifest(&self.place.repository, &tag(asked), media_type, manifest.bytes)
            .await;
        put.unwrap_or_else(|error| self.stop_writing(&error));
    }

    fn is_written(&self) -> bool {
        self.place.push && !self.state().unwritten
    }

    fn refuse(&self, key: &str, why: impl std::fmt::Display) {
        let name = format!("{}:{}", self.place.repository, tag(key));
        self.transport.reporter.warn(format!("{name} is not used: {why}"));
    }

    fn stop_reading(&self, error: &Error) {
        if !std::mem::replace(&mut self.state().unread, true) {
            let repository = &self.place.repository;
            let warning = format!("no results of steps are taken from {repository}: {error}");
            self.transport.reporter.warn(warning);
        }
    }

    fn stop_writing(&self, error: &Error) {
        let mut state = self.state();
        // That the repository is out of reach was told already.
        let is_known = state.unread;
        if !std::mem::replace(&mut state.unwritten, true) && !is_known {
            let repository = &self.place.repository;
            let warning = format!("no results of steps are put into {repository}: {error}");
            self.transport.reporter.warn(warning);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tag(key: &str) -> String {
    format!("{TAG}{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};
    use bytes::Bytes;

    fn entry() -> Entry {
        Entry {
            key: "0123".to_owned(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            executed: 1_767_323_045,
            layer: LayerRecord {
                media_type: MediaType::OCI_LAYER_GZIP,
                digest: Digest::of(b"layer"),
                size: 5,
                diff_id: Digest::of(b"archive"),
            },
        }
    }

    fn manifest(of: &Entry) -> Bytes {
        let source = BlobLocation::Memory(Bytes::from_static(b"layer"));
        of.image(&"linux/amd64".parse().unwrap(), source).manifest.bytes().clone()
    }

    #[test]
    fn a_manifest_says_all_of_a_step() {
        assert_eq!(Entry::read(&manifest(&entry())), Ok(entry()));
    }

    #[test]
    fn results_grow_old_where_that_was_asked_for() {
        let hour = Some(Duration::from_hours(1));
        for (longest, now, expected) in [
            (hour, 3600, false),
            (hour, 3601, true),
            (hour, -5, false),
            (Some(Duration::ZERO), 1, true),
            (None, i64::MAX - entry().executed, false),
        ] {
            let now = entry().executed + now;
            assert_eq!(entry().is_older(longest, now), expected, "{longest:?} {now}");
        }
    }

    #[test]
    fn manifests_of_others_are_refused_with_the_reason() {
        let text = String::from_utf8(manifest(&entry()).to_vec()).unwrap();
        for (from, to, why) in [
            (KEY, "other", "its annotation vnd.gondola.step.key is missing"),
            ("1767323045", "soon", "its annotation vnd.gondola.step.executed is wrong"),
            ("2026-01-02T03:04:05Z", "now", "its annotation org.opencontainers.image.created"),
            ("layer.v1.tar+gzip", "else", "its layer is of the type"),
            ("{", "[", "it is no manifest"),
        ] {
            let error = Entry::read(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
        let none = Draft::scratch("linux/amd64".parse().unwrap()).finish();
        let error = Entry::read(none.manifest.bytes()).unwrap_err();
        assert_eq!(error, "it has 0 layers, expected one");
    }
}
