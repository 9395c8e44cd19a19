//! What had to be made to mount on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Something that had to be made in the root file system to mount on. It belongs to no layer: where
/// it is still empty, the caller takes it out again and gives its folder the old time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stub {
    /// The path from the root, without a leading slash.
    pub path: PathBuf,
    /// When its folder was modified before, in seconds since 1970.
    pub parent_seconds: i64,
    /// The part of that time below a second.
    pub parent_nanoseconds: u32,
    /// Whether it was there before, and is again at the end, when the sandbox has put it back: it is no
    /// change, though the file system says that something was done to it.
    #[serde(default)]
    pub put_back: bool,
}
