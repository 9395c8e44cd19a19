//! The ways of sending a blob, and which one a registry was found to take.

use std::sync::atomic::{AtomicU8, Ordering};

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UploadStrategy {
    /// One PUT.
    Whole,
    /// One PATCH, and a PUT without body.
    Streamed,
    /// One PATCH after the other, and a PUT without body.
    Chunked,
}

/// The way that a registry was found to take.
#[derive(Default)]
pub(super) struct KnownStrategy(AtomicU8);

impl KnownStrategy {
    pub(super) fn get(&self) -> UploadStrategy {
        match self.0.load(Ordering::Relaxed) {
            0 => UploadStrategy::Whole,
            1 => UploadStrategy::Streamed,
            _ => UploadStrategy::Chunked,
        }
    }

    pub(super) fn set(&self, strategy: UploadStrategy) {
        self.0.fetch_max(strategy as u8, Ordering::Relaxed);
    }
}
