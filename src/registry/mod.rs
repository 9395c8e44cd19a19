//! The client for registries that speak the [OCI distribution protocol][spec].
//!
//! ```text
//!   manifest  pull ─ mirrors  push ─ upload  presence  listing  referrers     what callers ask for
//!       │            │     └ early (while it is made)  │         │
//!       └────────────┴────────────┴────────────┴──────────┴─────────┘
//!                            exchange ─ auth ─ challenge, token, credentials  who asks
//!                                └─────────┤
//!                                       sender ─ retry, location             one request until it is answered
//!                                          └─ response, payload, waiting
//!                                      connections ─ tls, proxy              one HTTP client per way to a host
//! ```
//!
//! A client is lazy: it asks nothing that is not needed, there is no ping, and a connection
//! (or the set-up of TLS) is made with the first request that wants it. Everything goes over
//! HTTP/1.1, with no cookies, no transport compression and no automatic redirects. Messages hold
//! neither credentials nor the query part of an address.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md

mod asking_mirrors;
mod auth;
mod challenge;
mod client;
mod client_certificate;
mod connections;
mod container_proxies;
mod credentials;
mod docker_config;
mod download;
mod early;
mod exceptions;
mod exchange;
mod failure;
mod folder;
mod growing;
mod helper;
mod host_name;
mod host_variables;
mod identity;
mod known_blobs;
mod listing;
mod location;
pub mod login;
mod manifest;
mod mirrors;
mod options;
mod payload;
mod pem;
mod presence;
mod proxy;
mod pull;
mod push;
mod referrers;
mod request;
mod response;
mod retry;
mod scopes;
mod sender;
#[cfg(test)]
mod testing;
mod tls;
mod token;
mod unreachable;
mod upload;
mod upload_strategy;
mod waiting;

pub use client::Client;
pub use client_certificate::check_client_certificate;
pub use container_proxies::container_proxies;
pub use credentials::Credentials;
pub use download::Downloaded;
pub use growing::{GrowingBlob, Growth};
pub use identity::Login;
pub use manifest::{FoundManifest, Pulled};
pub use mirrors::{MirrorRule, Mirrors};
pub use options::{Options, Timeouts};
pub use push::Pushed;
pub use retry::RetryPolicy;
pub use tls::check_authority;
/// A password or token.
pub type Secret = crate::secret::Secret;

use std::io::Read;
use std::sync::Arc;

use crate::error::Result;

/// Bytes that can be read from the start as often as a request must be repeated.
pub trait BlobSource: Send + Sync {
    /// Opens the bytes from the start.
    fn open(&self) -> Result<Box<dyn Read + Send>>;
}

/// Is called with the number of each further bytes that were moved. Bytes that are moved twice count once.
pub type OnBytes = Arc<dyn Fn(u64) + Send + Sync>;

/// What a client wants to do in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Read manifests and blobs.
    Pull,
    /// Read and write them.
    Push,
}
