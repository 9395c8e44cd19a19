//! What a client is told about the world it works in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Credentials, RetryPolicy};

/// How a [`Client`](super::Client) behaves. The default suits an anonymous user with no settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who the user is.
    pub credentials: Credentials,
    /// Hosts, `name[:port]`, that may be spoken to without verification and without TLS.
    pub insecure: Vec<String>,
    /// The environment: proxies and certificate files are named there.
    pub environment: BTreeMap<String, String>,
    /// How many blobs move at once to or from one host; at least 1.
    pub jobs: usize,
    /// Uploads go in chunks of this many bytes instead of in one piece.
    pub chunk_size: Option<u64>,
    /// When and how often a failed request is repeated.
    pub retry: RetryPolicy,
    /// How long a silent peer is waited for.
    pub timeouts: Timeouts,
}

/// How long a silent peer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes of an answer, or for the peer to take the next bytes of a body.
    pub idle: Duration,
    /// For the beginning of an answer, once the request is sent.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_mins(1),
            answer: Duration::from_mins(3),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: Credentials::anonymous(),
            insecure: Vec::new(),
            environment: BTreeMap::new(),
            jobs: 4,
            chunk_size: None,
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
        }
    }
}
