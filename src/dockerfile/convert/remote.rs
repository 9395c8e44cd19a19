//! Results of steps that other machines executed, for one build: see [`crate::cache::backend`].
//!
//! The list of what they know is read once, when it is first asked for; what this build adds goes there
//! at its end. Layers go there as soon as they are packed. A layer is fetched when something needs it,
//! and used when its digest and its diff ID are right. Where that fails, the build begins again without
//! it; what was executed until then is not executed again. Nothing that goes wrong with the place ends a
//! build.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::job::{CacheRepository, Job, Tools};
use crate::cache::backend::registry::RegistryCache;
use crate::cache::backend::{Backend, Changes, Record, Records, is_unknown, is_wrong, merge};
use crate::engine::{Entry, LayerRecord, StepKind};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Reporter;

impl Entry {
    fn of(record: &Record) -> Self {
        let Record { key, created, executed, layer, made_of, .. } = record.clone();
        Self { key, created, executed, layer, made_of }
    }
}

/// The place of a cache, for one build.
pub(super) struct Remote {
    place: CacheRepository,
    backend: Box<dyn Backend>,
    reporter: Reporter,
    now: i64,
    records: OnceCell<Records>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is looked up any more.
    unread: bool,
    /// Nothing is put there any more.
    unwritten: bool,
    /// Keys of steps whose layers cannot be used.
    broken: BTreeSet<String>,
    /// What goes there at the end.
    changes: Changes,
    /// A step that was said to be there is not.
    failed: bool,
}

impl Remote {
    /// The cache that a job uses, if it does.
    pub(super) fn of(tools: &Tools, job: &Job) -> Option<Arc<Self>> {
        let place = job.cache.repository.clone()?;
        let backend = RegistryCache::new(place.repository.clone(), tools.transport.clone());
        Some(Arc::new(Self {
            place,
            backend: Box::new(backend),
            reporter: tools.transport.reporter.clone(),
            now: job.recipe.now,
            records: OnceCell::new(),
            state: Mutex::default(),
        }))
    }

    /// Whether steps of a kind are kept here.
    pub(super) fn keeps(&self, kind: StepKind) -> bool {
        !self.place.without.contains(&kind)
    }

    /// What is known of the step with a key.
    pub(super) async fn find(&self, key: &str) -> Option<Entry> {
        let record = self.records().await.get(key)?;
        self.usable(record)
    }

    /// What is known of the step that came out of a key which looks at no files.
    pub(super) async fn find_asked(&self, asked: &str) -> Option<Entry> {
        let record = self.records().await.get_asked(asked)?;
        self.usable(record)
    }

    fn usable(&self, record: &Record) -> Option<Entry> {
        let mut state = self.state();
        let is_old = is_older(record, self.place.longest_age, self.now);
        if state.unread || is_old || state.broken.contains(&record.key) {
            return None;
        }
        state.changes.add_used(record, self.now);
        Some(Entry::of(record))
    }

    /// The list, which is read at the first look.
    async fn records(&self) -> &Records {
        let read = || async {
            match self.backend.read().await {
                Ok(records) => records,
                Err(error) if is_wrong(&error) => {
                    self.refuse(&error);
                    Records::default()
                }
                Err(error) if is_unknown(&error) => {
                    self.refuse(&error);
                    // No layer is brought to a place whose list stays as it is.
                    self.state().unwritten = true;
                    Records::default()
                }
                Err(error) => {
                    self.stop_reading(&error);
                    Records::default()
                }
            }
        };
        self.records.get_or_init(read).await
    }

    /// Brings the layer of a step into the store, and makes sure that it is what it is said to be.
    ///
    /// After an error the build begins again: see [`Remote::begins_again`].
    pub(super) async fn fetch(&self, key: &str, layer: &LayerRecord) -> Result<()> {
        let Err(error) = self.backend.fetch(layer).await else { return Ok(()) };
        {
            let mut state = self.state();
            state.broken.insert(key.to_owned());
            if let Some(record) = self.records.get().and_then(|records| records.get(key)) {
                state.changes.add_broken(record);
            }
            state.failed = true;
        }
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::NotFound => {
                self.refuse(format!("step {key}: {error}"));
            }
            _ => self.stop_reading(&error),
        }
        Err(error)
    }

    /// Whether the build must begin again because a step that was said to be there is not. Each
    /// time there is one less, so this comes to an end.
    pub(super) fn begins_again(&self) -> bool {
        std::mem::take(&mut self.state().failed)
    }

    /// Puts the layer of a step there; the list has the step when the build ends, also under the key
    /// that looks at no files.
    pub(super) async fn put(&self, entry: &Entry, asked: Option<&str>) {
        if !self.is_written() {
            return;
        }
        if let Err(error) = self.backend.put_layer(&entry.layer).await {
            self.stop_writing(&error);
            return;
        }
        let Entry { key, created, executed, layer, made_of } = entry.clone();
        let asked = asked.map(str::to_owned).into_iter().collect();
        let record = Record { key, asked, created, executed, used: self.now, layer, made_of };
        self.state().changes.add_executed(record);
    }

    /// Says that a result that is there is also that of a key that looks at no files.
    pub(super) async fn put_asked(&self, key: &str, asked: &str) {
        let records = self.records().await;
        if records.get(key).is_some() && records.get_asked(asked).is_none_or(|of| of.key != key) {
            self.state().changes.add_asked(asked, key);
        }
    }

    /// Writes what the build has to add into the list.
    pub(super) async fn finish(&self) {
        let changes = std::mem::take(&mut self.state().changes);
        if changes.is_empty() || !self.is_written() {
            return;
        }
        let merged = merge(self.backend.as_ref(), changes, self.now).await;
        merged.unwrap_or_else(|error| self.stop_writing(&error));
    }

    fn is_written(&self) -> bool {
        self.place.push && !self.state().unwritten
    }

    fn refuse(&self, why: impl std::fmt::Display) {
        self.reporter.warn(format!("{} is not used: {why}", self.backend.display_name()));
    }

    fn stop_reading(&self, error: &Error) {
        if !std::mem::replace(&mut self.state().unread, true) {
            let repository = &self.place.repository;
            self.reporter.warn(format!("no results of steps are taken from {repository}: {error}"));
        }
    }

    fn stop_writing(&self, error: &Error) {
        let mut state = self.state();
        // That the repository is out of reach was told already.
        let is_known = state.unread;
        if !std::mem::replace(&mut state.unwritten, true) && !is_known {
            let repository = &self.place.repository;
            self.reporter.warn(format!("no results of steps are put into {repository}: {error}"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a step was executed longer ago than `longest`.
fn is_older(record: &Record, longest: Option<Duration>, now: i64) -> bool {
    let age = u64::try_from(now.saturating_sub(record.executed)).unwrap_or_default();
    longest.is_some_and(|longest| age > longest.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};

    #[test]
    fn results_grow_old_where_that_was_asked_for() {
        let record = Record {
            key: "0123".to_owned(),
            asked: BTreeSet::new(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            executed: 1_767_323_045,
            used: 1_767_323_045,
            layer: LayerRecord {
                media_type: MediaType::OCI_LAYER_GZIP,
                digest: Digest::of(b"layer"),
                size: 5,
                diff_id: Digest::of(b"archive"),
            },
            made_of: None,
        };
        let hour = Some(Duration::from_hours(1));
        for (longest, now, expected) in [
            (hour, 3600, false),
            (hour, 3601, true),
            (hour, -5, false),
            (Some(Duration::ZERO), 1, true),
            (None, i64::MAX - record.executed, false),
        ] {
            let now = record.executed + now;
            assert_eq!(is_older(&record, longest, now), expected, "{longest:?} {now}");
        }
    }
}
