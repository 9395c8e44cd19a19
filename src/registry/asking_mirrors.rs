//! Mirrors under way: they are asked for a short time, and one that does not answer is not asked again.

use std::future::Future;

use super::client::Client;
use super::failure::{Cause, Failure, NetworkError, Outcome};
use crate::oci::Repository;

impl Client {
    /// What a mirror has; nothing where it has not what is asked for, or cannot be reached. For what it
    /// takes there is a short limit: the registry itself comes after it.
    pub(super) async fn ask_mirror<T>(
        &self,
        mirror: &Repository,
        asking: impl Future<Output = Outcome<T>>,
    ) -> Option<T> {
        if self.passes_by(mirror) {
            return None;
        }
        let failure = match self.answer_of_mirror(mirror, asking).await {
            Ok(found) => return Some(found),
            Err(failure) => failure,
        };
        self.mirror_failed(mirror, failure);
        None
    }

    /// The same, for what goes on after the answer began.
    pub(super) async fn answer_of_mirror<T>(
        &self,
        mirror: &Repository,
        asking: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        let limit = self.options().timeouts.mirror;
        let late = || {
            let host = mirror.registry().to_owned();
            let request = "the first request".to_owned();
            Failure::Network(Box::new(NetworkError { host, request, cause: Cause::TimedOut }))
        };
        tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| Err(late()))
    }

    /// Whether a mirror is not asked any more.
    pub(super) fn passes_by(&self, mirror: &Repository) -> bool {
        self.unreachable().has(mirror.registry())
    }

    /// Takes note of why a mirror gave nothing. One that was not reached is told of once.
    pub(super) fn mirror_failed(&self, mirror: &Repository, failure: Failure) {
        let Failure::Network(breakdown) = &failure else { return };
        // A connection that broke may hold the next time, and nobody was asked without a network.
        if matches!(breakdown.cause, Cause::Broken(_) | Cause::Offline) {
            return;
        }
        let host = mirror.registry();
        if self.unreachable().add(host) {
            let error = failure.into_error(format!("ask {host}"));
            let (reporter, why) = (&self.options().reporter, error.message());
            reporter.warn(format!("the mirror {host} is not asked again in this run: {why}"));
        }
    }
}
