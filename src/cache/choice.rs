//! What a build uses of earlier ones.

use std::time::Duration;

use crate::store::CacheScope;

/// What is used of earlier builds, and kept for later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Caches {
    /// Whether results of earlier builds are passed over.
    pub off: bool,
    /// What says so, where that is not `--no-cache`.
    pub off_by: Option<&'static str>,
    /// Results of steps that the store remembers count for this long; for ever where nothing is said.
    pub longest_age: Option<Duration>,
    /// Whether tags are looked up again: those of bases, and those that the lock file has.
    pub pull: bool,
    /// Whether it is told how each step, package and base came to be.
    pub explain: bool,
    /// Whose caches are used, where it is not the folder that says so.
    pub scope: Option<CacheScope>,
    /// Whether anything is used or kept that builds share and that is not found by its content, such as
    /// the caches of Go.
    pub are_shared: bool,
}
