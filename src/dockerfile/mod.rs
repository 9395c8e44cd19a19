//! Dockerfiles: the language, and what it makes.
//!
//! [`parse`] gives typed instructions with spans; words stay unexpanded. [`expand`] is what
//! variables, quotes and escapes mean.

pub mod context;
pub mod copy;
pub mod diagnostic;
pub mod expand;
pub mod files;
mod glob;
pub mod ignore;
pub mod instruction;
pub mod parse;
pub mod source;

pub use self::diagnostic::{Diagnostic, Level};
pub use self::instruction::{Dockerfile, Instruction, Kind, Stage};
pub use self::parse::parse;
pub use self::source::{Diagnostics, Position, Source, Span, Word};
