//! Mirrors that are not asked any more.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Mirrors that could not be reached in this run, by host.
#[derive(Default)]
pub(super) struct Unreachable(Mutex<BTreeSet<String>>);

impl Unreachable {
    pub(super) fn has(&self, host: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    /// Takes note of one; whether that is news.
    pub(super) fn add(&self, host: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned())
    }
}
