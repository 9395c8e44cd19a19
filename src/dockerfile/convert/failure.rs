//! Why an instruction was not executed, and which part of it that is about.

use crate::dockerfile::Diagnostic;
use crate::dockerfile::source::Span;
use crate::error::{Error, ErrorKind, Result};

/// Why an instruction was not executed.
pub(super) enum Failure {
    /// A part of it is wrong, or could not be executed.
    Here(Diagnostic, ErrorKind),
    /// Something went wrong, nobody said where.
    Somewhere(Error),
    /// Another stage failed, and says where.
    Told(Error),
}

impl Failure {
    /// Points to a part of the instruction, unless it is known better already.
    #[must_use]
    pub(super) fn or_at(self, span: Span) -> Self {
        match self {
            Self::Somewhere(error) => Self::Here(Diagnostic::of_error(span, &error), error.kind()),
            known => known,
        }
    }
}

/// Says which part of an instruction an error is about.
pub(super) trait At<T> {
    /// Points to a span of the file.
    fn at(self, span: Span) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T> {
    fn at(self, span: Span) -> Result<T, Failure> {
        self.map_err(|error| Failure::from(error).or_at(span))
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Here(diagnostic, ErrorKind::Usage)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Somewhere(error)
    }
}
