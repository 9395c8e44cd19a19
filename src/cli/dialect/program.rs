//! What the name says that the program was called by.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use clap::Args as _;

use crate::cli::args::GlobalArgs;
use crate::cli::flags::spelling::{spellings, takes_value};

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
    let called = PROGRAMS.iter().find(|program| name.is_some_and(|name| name == program.name));
    let command = behind_global_flags(&typed, 1);
    if let Some(program) = called
        && typed.get(command).is_none_or(|first| first != program.command)
    {
        typed.insert(1, OsString::from(program.command));
    }
    let command = behind_global_flags(&typed, 1);
    if let Some(program) =
        PROGRAMS.iter().find(|it| typed.get(command).is_some_and(|w| w == it.command))
    {
        let first = behind_global_flags(&typed, command + 1);
        match typed.get(first).and_then(|word| word.to_str()) {
            Some("help") => typed[first] = OsString::from("--help"),
            // What both programs have is gondola's own.
            Some(word) if program.shared.contains(&word) => drop(typed.remove(command)),
            _ => {}
        }
    }
    if typed.is_empty() {
        typed.push(OsString::from("gondola"));
    }
    typed
}

/// The first word from `at` on that is none of the flags that all commands have, nor a value of one.
fn behind_global_flags(typed: &[OsString], mut at: usize) -> usize {
    let is_flag = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-'));
    if !typed.get(at).is_some_and(is_flag) {
        return at;
    }
    let program = GlobalArgs::augment_args(clap::Command::new("gondola"));
    let known = |with_value: bool| -> BTreeSet<String> {
        let flags = program.get_arguments().filter(|flag| takes_value(flag) == with_value);
        flags.flat_map(spellings).collect()
    };
    let (switches, with_values) = (known(false), known(true));
    while let Some(word) = typed.get(at).and_then(|word| word.to_str()) {
        let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        at += match value {
            _ if switches.contains(name) => 1,
            Some(_) if with_values.contains(name) => 1,
            None if with_values.contains(name) => 2,
            _ => break,
        };
    }
    at.min(typed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_called_executor_takes_kanikos_flags() {
        let cases: [(&[&str], &[&str]); 15] = [
            (&["/kaniko/executor", "--no-push"], &["/kaniko/executor", "kaniko", "--no-push"]),
            (&["executor"], &["executor", "kaniko"]),
            (&["executor", "version"], &["executor", "version"]),
            (&["executor", "login", "r"], &["executor", "login", "r"]),
            (&["executor", "push", "a"], &["executor", "kaniko", "push", "a"]),
            (&["gondola", "kaniko", "login", "r"], &["gondola", "login", "r"]),
            (&["executor", "-q", "version"], &["executor", "-q", "version"]),
            (&["executor", "help"], &["executor", "kaniko", "--help"]),
            (&["executor", "-d", "version"], &["executor", "kaniko", "-d", "version"]),
            (&["executor", "-q", "-d", "r"], &["executor", "kaniko", "-q", "-d", "r"]),
            (
                &["gondola", "-q", "--store", "kaniko", "kaniko", "login", "r"],
                &["gondola", "-q", "--store", "kaniko", "login", "r"],
            ),
            (
                &["gondola", "--store=x", "kaniko", "--offline", "version"],
                &["gondola", "--store=x", "--offline", "version"],
            ),
            (&["gondola", "build"], &["gondola", "build"]),
            (&["gondola", "-q"], &["gondola", "-q"]),
            (&[], &["gondola"]),
        ];
        for (given, expected) in cases {
            assert_eq!(arguments(given.iter().map(OsString::from).collect()), expected);
        }
    }
}
