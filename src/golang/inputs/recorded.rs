//! What a compilation takes from the record of an earlier build.

use super::{Inputs, Moment, Sources};

/// What is known from an earlier build of what a compilation reads.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub(in crate::golang) sources: Sources,
    pub(in crate::golang) since: Moment,
}

impl Recorded {
    /// What `inputs` say, which were [`Inputs::check`]ed after `since` and not found stale.
    pub fn new(inputs: &Inputs, since: Moment) -> Self {
        Self { sources: inputs.sources(), since }
    }
}
