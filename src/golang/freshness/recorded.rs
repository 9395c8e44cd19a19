//! What a compilation takes from the record of an earlier build.

use super::{Record, Sources, StartedAt};
use crate::golang::programs::{KnownPrograms, Program};

/// What is known from an earlier build of what a compilation reads, and of what it gives.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub(in crate::golang) sources: Sources,
    pub(in crate::golang) since: StartedAt,
    pub(in crate::golang) programs: KnownPrograms,
}

impl Recorded {
    /// What `inputs` say, which were [`Record::check`]ed after `since` and not found stale, with the
    /// programs that they gave.
    pub fn new(inputs: &Record, since: StartedAt, programs: &[Program]) -> Self {
        let programs = programs.iter().map(|program| (program.place().to_owned(), program.clone()));
        Self { sources: inputs.sources(), since, programs: programs.collect() }
    }
}
