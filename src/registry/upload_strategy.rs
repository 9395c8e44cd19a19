//! The ways of sending a blob, and which one a registry was found to take.

use std::sync::atomic::{AtomicU8, Ordering};

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// One PUT.
    Whole,
    /// One PATCH, and a PUT without body.
    Streamed,
    /// One PATCH after the other, and a PUT without body.
    Chunked,
}

/// The way that a registry was found to take.
#[derive(Default)]
pub(super) struct KnownWay(AtomicU8);

impl KnownWay {
    pub(super) fn get(&self) -> Way {
        match self.0.load(Ordering::Relaxed) {
            0 => Way::Whole,
            1 => Way::Streamed,
            _ => Way::Chunked,
        }
    }

    pub(super) fn set(&self, way: Way) {
        self.0.fetch_max(way as u8, Ordering::Relaxed);
    }
}
