//! What a client knows to be in which repository, and what it is pushing now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::growing::Growth;
use crate::oci::{Digest, Repository};

/// How many repositories a blob is asked to be mounted from before it is sent.
const MOST_MOUNTS: usize = 3;

/// What this client knows to be in which repository, and what it is pushing now.
#[derive(Default)]
pub(super) struct KnownBlobs {
    repositories: Mutex<BTreeMap<Digest, BTreeSet<Repository>>>,
    /// One lock for each registry and digest: whoever pushes it holds it, so that the next one can
    /// have it mounted.
    in_flight: Mutex<BTreeMap<(String, Digest), Flight>>,
    /// Blobs that are sent while they are made.
    early: Mutex<Vec<Early>>,
}

/// A blob that is sent to a repository while it is made.
struct Early {
    repository: Repository,
    growth: watch::Receiver<Growth>,
    /// Turns to true when the sending has ended, in whichever way.
    end: watch::Receiver<bool>,
}

impl Early {
    fn is_of(&self, repository: &Repository, digest: &Digest) -> bool {
        self.repository == *repository && self.growth.borrow().digest.as_ref() == Some(digest)
    }
}

type Flight = Arc<tokio::sync::Mutex<()>>;

impl KnownBlobs {
    fn repositories(&self) -> MutexGuard<'_, BTreeMap<Digest, BTreeSet<Repository>>> {
        self.repositories.lock().expect("no holder of this lock panics")
    }

    pub(super) fn add(&self, repository: &Repository, digest: &Digest) {
        self.repositories().entry(digest.clone()).or_default().insert(repository.clone());
    }

    pub(super) fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        self.repositories().get(digest).is_some_and(|all| all.contains(repository))
    }

    /// Where `repository` may have a blob from: other repositories of its registry.
    pub(super) fn sources(
        &self,
        repository: &Repository,
        digest: &Digest,
        named: &[Repository],
    ) -> Vec<Repository> {
        let known = self.repositories().get(digest).cloned().unwrap_or_default();
        let mut sources: Vec<Repository> = Vec::new();
        for source in named.iter().cloned().chain(known) {
            let usable = source.registry() == repository.registry() && source != *repository;
            if usable && !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources.truncate(MOST_MOUNTS);
        sources
    }

    pub(super) fn note_early(
        &self,
        repository: Repository,
        growth: watch::Receiver<Growth>,
        end: watch::Receiver<bool>,
    ) {
        self.early().push(Early { repository, growth, end });
    }

    /// Whether a blob was made, and began to be sent meanwhile.
    pub(super) fn is_early(&self, repository: &Repository, digest: &Digest) -> bool {
        self.early().iter().any(|early| early.is_of(repository, digest))
    }

    /// Waits for the end of what was begun while the blob was made; answers whether it is there now for
    /// that.
    pub(super) async fn early_has_ended(&self, repository: &Repository, digest: &Digest) -> bool {
        let is_it = |early: &&Early| early.is_of(repository, digest);
        let end = self.early().iter().find(is_it).map(|early| early.end.clone());
        let Some(mut end) = end else { return false };
        // A sender that is gone has ended, too.
        let _ = end.wait_for(|ended| *ended).await;
        self.early().retain(|early| !early.is_of(repository, digest));
        self.has(repository, digest)
    }

    /// Waits for the end of all that was begun while it was made.
    pub(super) async fn end_early(&self) {
        let all = std::mem::take(&mut *self.early());
        for mut early in all {
            // A sender that is gone has ended, too.
            let _ = early.end.wait_for(|ended| *ended).await;
        }
    }

    fn early(&self) -> MutexGuard<'_, Vec<Early>> {
        self.early.lock().expect("no holder of this lock panics")
    }

    pub(super) fn flight(&self, repository: &Repository, digest: &Digest) -> Flight {
        let key = (repository.registry().to_owned(), digest.clone());
        let mut in_flight = self.in_flight.lock().expect("no holder of this lock panics");
        in_flight.entry(key).or_default().clone()
    }
}
