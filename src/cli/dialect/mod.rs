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
pub mod run;

use std::ffi::OsString;
use std::path::Path;

/// A program whose command line is understood where gondola is called like it.
struct Program {
    /// The name of its file.
    name: &'static str,
    /// The command that takes its arguments.
    command: &'static str,
    /// Its own commands that gondola has, too.
    shared: &'static [&'static str],
}

const PROGRAMS: [Program; 1] =
    [Program { name: "executor", command: "kaniko", shared: &["version", "login"] }];

/// The arguments with the command in its place, where the name of the program says which it is.
pub fn arguments(mut typed: Vec<OsString>) -> Vec<OsString> {
    let name = typed.first().map(Path::new).and_then(Path::file_name);
    let program = PROGRAMS.iter().find(|program| name.is_some_and(|name| name == program.name));
    if let Some(program) = program
        && typed.get(1).is_none_or(|first| first != program.command)
    {
        typed.insert(1, OsString::from(program.command));
    }
    // What both programs have is gondola's own.
    let is_shared = |program: &Program| {
        let first = typed.get(2).and_then(|word| word.to_str());
        typed.get(1).is_some_and(|word| word == program.command)
            && first.is_some_and(|word| program.shared.contains(&word))
    };
    if PROGRAMS.iter().any(is_shared) {
        typed.remove(1);
    }
    if typed.is_empty() {
        typed.push(OsString::from("gondola"));
    }
    typed
}

#[cfg(test)]
mod tests;
