//! The command lines that are understood: gondola's own, and those of other programs. Each has its
//! arguments, a table that says what each flag does, and a reader that makes a
//! [`Request`](crate::pipeline::Request) of what was typed.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "help texts put into brackets what may be left out"
)]

pub mod gondola;
mod input;
pub mod kaniko;
mod program;
pub mod run;

pub use program::arguments;

#[cfg(test)]
mod tests;
