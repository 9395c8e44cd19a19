//! What a compilation takes from the record of an earlier build.

use super::folder::Sealed;
use super::{Record, Sources, StartedAt, check_sealed};
use crate::golang::programs::{KnownPrograms, Program};

/// What is known from an earlier build of what a compilation reads, and of what it gives.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub(in crate::golang) sources: Sources,
    pub(in crate::golang) since: StartedAt,
    pub(in crate::golang) programs: KnownPrograms,
    pub(in crate::golang) others: Others,
}

/// The folders of others, as they were.
#[derive(Clone, Debug)]
pub(in crate::golang) struct Others(Vec<Sealed>);

impl Others {
    /// Whether they still are as they were.
    pub(in crate::golang) fn are_unchanged(&self) -> bool {
        check_sealed(&self.0).is_ok()
    }
}

impl Recorded {
    /// What `inputs` say, which were checked after `since` with [`Record::check_before_compiling`] and not
    /// found stale, with the programs that they gave.
    pub fn new(inputs: &Record, since: StartedAt, programs: &[Program]) -> Self {
        let programs = programs.iter().map(|program| (program.place().to_owned(), program.clone()));
        let others = Others(inputs.sealed.clone());
        Self { sources: inputs.sources(), since, programs: programs.collect(), others }
    }
}
