//! Dockerfiles: the language, and what it makes.
//!
//! [`parse()`] gives typed instructions with spans; words stay unexpanded. [`stages`] says what the
//! target needs, and [`scope`] holds the variables while a stage is executed, step by step.

pub mod config;
pub mod convert;
pub mod diagnostic;
pub mod expand;
pub mod instruction;
pub mod lint;
pub mod mount;
pub mod parse;
pub mod ports;
pub mod scope;
pub mod source;
pub mod stages;
pub mod text;

pub use self::diagnostic::{Diagnostic, Diagnostics, Level};
pub use self::instruction::{Dockerfile, Instruction, Kind, Stage};
use self::lint::LintContext;
pub use self::parse::parse;
pub use self::scope::{Globals, Inputs, Scope};
pub use self::source::{Position, Source, Span, Word};
pub use self::stages::{Graph, Origin};

/// Checks a Dockerfile without building it: errors, and what the linter warns of, in the order
/// of the file.
pub fn check(source: &Source, lint_context: &LintContext<'_>) -> Vec<Diagnostic> {
    let (file, mut errors) = parse::parse_all(source);
    if errors.is_empty() {
        return lint::lint(&file, lint_context);
    }
    errors.extend(lint::lint_shape(&file, lint_context));
    errors.sort_by_key(|error| error.span);
    errors
}
