//! What lives as long as a toolchain of an image is used.

use super::kept::{InUse, Kept};

/// What lives as long as a toolchain is used.
#[derive(Debug)]
pub(super) struct Session {
    pub temporary: tempfile::TempDir,
    pub _in_use: InUse,
    pub _kept: Kept,
}
