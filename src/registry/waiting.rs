//! Says who is waited for, where that takes long: a server that accepts and never answers looks like a
//! program that hangs.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::progress::Reporter;

/// So long after a line the next one about the same host may follow.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// What is told of long waits.
pub(super) struct Waiting {
    reporter: Reporter,
    /// Waits that are shorter are not spoken of.
    patience: Duration,
    /// When each host was last spoken of. Many requests wait for the same host.
    told: Mutex<BTreeMap<String, Instant>>,
}

impl Waiting {
    pub(super) fn new(reporter: Reporter, patience: Duration) -> Self {
        Self { reporter, patience, told: Mutex::default() }
    }

    /// How long to wait until there may be something to tell, after a silence of `quiet`.
    pub(super) fn next_look(&self, quiet: Duration) -> Duration {
        if quiet < self.patience { self.patience.saturating_sub(quiet) } else { BETWEEN_LINES }
    }

    /// Tells of a host that has been silent for `quiet`.
    pub(super) fn tell(&self, host: &str, request: &str, quiet: Duration) {
        if quiet >= self.patience && self.may_tell(host) {
            let seconds = quiet.as_secs().max(1);
            self.reporter
                .note(format!("waiting for {host}: no answer to {request} for {seconds} s"));
        }
    }

    /// Waits for `limit` at most, and tells of it where it takes long.
    pub(super) async fn within<F: Future>(
        &self,
        limit: Duration,
        (host, request): (&str, &str),
        work: F,
    ) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        let mut quiet = Duration::ZERO;
        while quiet < limit {
            let step = self.next_look(quiet).min(limit.saturating_sub(quiet));
            if let Ok(output) = tokio::time::timeout(step, &mut work).await {
                return Some(output);
            }
            quiet += step;
            self.tell(host, request, quiet);
        }
        None
    }

    /// Tells of a pause that a server asked for.
    pub(super) fn tell_pause(&self, failure: &Failure, pause: Duration) {
        let Failure::Refused(refusal) = failure else { return };
        if pause >= self.patience && self.may_tell(&refusal.host) {
            let (host, status) = (&refusal.host, refusal.status.as_u16());
            let seconds = pause.as_secs();
            self.reporter.note(format!(
                "waiting for {host}: it answered {status} and asks for a pause, {seconds} s"
            ));
        }
    }

    fn may_tell(&self, host: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.get(host).is_some_and(|last| now.duration_since(*last) < BETWEEN_LINES) {
            return false;
        }
        told.insert(host.to_owned(), now);
        true
    }
}
