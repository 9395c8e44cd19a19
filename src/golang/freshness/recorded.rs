//! What a compilation takes from the record of an earlier build.

use super::{Record, Sources, StartedAt};

/// What is known from an earlier build of what a compilation reads.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub(in crate::golang) sources: Sources,
    pub(in crate::golang) since: StartedAt,
}

impl Recorded {
    /// What `inputs` say, which were [`Record::check`]ed after `since` and not found stale.
    pub fn new(inputs: &Record, since: StartedAt) -> Self {
        Self { sources: inputs.sources(), since }
    }
}
