//! Dockerfiles: the language, and what it makes.
//!
//! [`parse`] gives typed instructions with spans; words stay unexpanded. [`stages`] says what the
//! target needs, and [`scope`] holds the variables while a stage is executed, step by step.

pub mod context;
pub mod copy;
pub mod diagnostic;
pub mod expand;
pub mod files;
mod glob;
pub mod ignore;
pub mod instruction;
pub mod parse;
pub mod ports;
pub mod scope;
pub mod source;
pub mod stages;

pub use self::diagnostic::{Diagnostic, Level};
pub use self::instruction::{Dockerfile, Instruction, Kind, Stage};
pub use self::parse::parse;
pub use self::scope::{Globals, Inputs, Scope};
pub use self::source::{Diagnostics, Position, Source, Span, Word};
pub use self::stages::{Graph, Origin};
