//! A blob that is being made.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use crate::oci::Digest;

/// How far a blob has come that is being made.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    /// How many bytes are there.
    pub bytes: u64,
    /// What they are, once all are there.
    pub digest: Option<Digest>,
}

/// A blob that is being made in a file. Where `growth` ends without a digest, there is no blob.
#[derive(Clone, Debug)]
pub struct GrowingBlob {
    /// What is written to; it is read from its start, wherever its own position is.
    pub file: Arc<File>,
    /// How far it has come.
    pub growth: watch::Receiver<Growth>,
}
