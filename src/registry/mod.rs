//! The client for registries that speak the OCI distribution protocol.

use std::io::Read;

use crate::error::Result;

/// Bytes that can be read from the start as often as a request must be repeated.
pub trait Reopen: Send + Sync {
    /// Opens the bytes from the start.
    fn open(&self) -> Result<Box<dyn Read + Send>>;
}
