//! What lives as long as a toolchain of an image is used.

use crate::cache::gocache::{GoCache, InUse};

/// What lives as long as a toolchain is used.
#[derive(Debug)]
pub(super) struct Session {
    pub temporary: tempfile::TempDir,
    pub _in_use: InUse,
    pub _go_cache: GoCache,
}
