//! Instructions as ops, and where their parts are written.

use std::collections::BTreeMap;

use super::failure::Failure;
use crate::dockerfile::instruction::Kind;
use crate::dockerfile::source::Span;
use crate::engine::op::{Action, Input};
use crate::engine::{OpError, Part, Provider};

/// An instruction as an op, and what the file knows of it beside that.
pub(super) struct Converted {
    /// What it does.
    pub action: Action,
    /// The files that it reads.
    pub files: BTreeMap<Input, Provider>,
    /// Variables that change no result.
    pub variables: Vec<(String, String)>,
    /// What is said once where the op's alternative is taken.
    pub alternative_note: Option<String>,
    /// What the history says.
    pub text: String,
    /// Where its parts are written.
    pub spans: Spans,
}

/// Where the parts of an op are written.
#[derive(Default)]
pub(super) struct Spans {
    pub sources: Vec<Span>,
    pub mounts: Vec<Span>,
    pub excludes: Span,
    pub destination: Span,
    pub owner: Span,
    pub mode: Span,
}

impl Spans {
    /// Points an error to the part of the instruction that it is about.
    pub(super) fn place(&self, wrong: OpError) -> Failure {
        let failure = Failure::from(wrong.error);
        let span = match wrong.part {
            Part::Whole => return failure,
            Part::Source(number) => self.sources.get(number).copied().unwrap_or_default(),
            Part::Mount(number) => self.mounts.get(number).copied().unwrap_or_default(),
            Part::Excludes => self.excludes,
            Part::Destination => self.destination,
            Part::Owner => self.owner,
            Part::Mode => self.mode,
        };
        failure.or_at(span)
    }
}

/// Whether an instruction makes a layer.
pub(super) fn changes_files(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}
