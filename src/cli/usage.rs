//! Reads the command line, and says what is wrong with one that cannot be read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use super::commands::Cli;
use super::flags::{foreign, switch};
use super::output::{self, ProgressMode};
use super::{USAGE, usage_code};
use crate::error::Error;
use crate::secret;

/// Reads the command and all arguments, the first of which is the program's name. Where that fails, or help was asked
/// for, everything has been said; what is left is the exit code.
pub(super) fn read(arguments: &[OsString]) -> Result<(String, Cli), ExitCode> {
    let program = switch::with_values(Cli::command());
    let matches = program.try_get_matches_from(arguments);
    let read = matches.and_then(|matches| {
        let verb = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((verb, Cli::from_arg_matches(&matches)?))
    });
    read.map_err(|error| {
        let verb = verb(arguments);
        match foreign_word(&error, verb.as_deref()) {
            Some(error) => {
                let nothing = BTreeMap::new();
                output::view(ProgressMode::Plain, false, &nothing, output::clock()).fail(&error);
                ExitCode::from(usage_code(verb.as_deref()))
            }
            None => show(error, arguments, verb.as_deref()),
        }
    })
}

/// The command that was typed, wherever global flags stand.
fn verb(arguments: &[OsString]) -> Option<String> {
    let program = switch::with_values(Cli::command()).ignore_errors(true);
    let matches = program.try_get_matches_from(arguments).ok()?;
    matches.subcommand_name().map(str::to_owned)
}

/// What is said about a word that another tool has.
fn foreign_word(error: &clap::Error, verb: Option<&str>) -> Option<Error> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    match (error.kind(), verb) {
        (ErrorKind::UnknownArgument, Some(verb)) => {
            foreign::flag(verb, word(ContextKind::InvalidArg)?)
        }
        (ErrorKind::InvalidSubcommand, None) => {
            foreign::command(word(ContextKind::InvalidSubcommand)?)
        }
        (ErrorKind::InvalidSubcommand, Some(verb)) => {
            foreign::subcommand(verb, word(ContextKind::InvalidSubcommand)?)
        }
        _ => None,
    }
}

/// Whether the help of a command has a flag.
fn is_shown(flag: &str, verb: Option<&str>) -> bool {
    let program = Cli::command();
    let command = verb.and_then(|verb| program.find_subcommand(verb)).unwrap_or(&program);
    let name = flag.trim_start_matches('-').split(['=', ' ', '[']).next().unwrap_or_default();
    let mut own = command.get_arguments();
    own.any(|argument| argument.get_long() == Some(name) && !argument.is_hide_set())
}

/// Lets clap print its message: help and versions to stdout, mistakes to stderr. What it quotes has no
/// users and queries of addresses.
fn show(mut error: clap::Error, arguments: &[OsString], verb: Option<&str>) -> ExitCode {
    if error.kind() == ErrorKind::DisplayHelp
        && let Err(plain) = Cli::command().try_get_matches_from(arguments)
        && plain.kind() == ErrorKind::DisplayHelp
    {
        error = plain;
    }
    // "To pass it as a value" is good advice for programs that take such values, and none for these; of
    // flags that are spelled nearly like it, the parser names hidden ones, too.
    error.remove(ContextKind::Suggested);
    if let Some(ContextValue::String(near)) = error.get(ContextKind::SuggestedArg)
        && !is_shown(near, verb)
    {
        error.remove(ContextKind::SuggestedArg);
    }
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        if let Some(ContextValue::String(quoted)) = error.get(kind) {
            let shown = ContextValue::String(secret::addresses(quoted));
            error.insert(kind, shown);
        }
    }
    // A closed pipe is no reason to fail: whoever reads has read enough.
    let _ = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
    ExitCode::from(if code == USAGE { usage_code(verb) } else { code })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        ["gondola"].iter().chain(words).map(OsString::from).collect()
    }

    #[test]
    fn a_command_is_found_behind_global_flags() {
        let cases: [(&[&str], Option<&str>); 8] = [
            (&["run", "--bogus"], Some("run")),
            (&["-q", "run", "--bogus"], Some("run")),
            (&["--store", "exec", "run", "--bogus"], Some("run")),
            (&["--store=x", "--jobs", "2", "exec", "--bogus"], Some("exec")),
            (&["build", "--load"], Some("build")),
            (&["build", "--push=perhaps"], Some("build")),
            (&["frobnicate"], None),
            (&["--bogus"], None),
        ];
        for (words, expected) in cases {
            assert_eq!(verb(&arguments(words)).as_deref(), expected, "{words:?}");
        }
    }

    #[test]
    fn words_of_other_tools_are_answered() {
        let cases: [(&[&str], &str); 8] = [
            (&["cache", "prune", "-f"], "leave it out"),
            (&["cache", "ls"], "gondola cache du"),
            (&["build", "--load", "."], "--output docker:"),
            (&["build", "-L", "."], "--output docker:"),
            (&["-q", "build", "--cache-from=type=gha"], "--cache-repo REPOSITORY"),
            (&["run", "--gpus", "all", "image"], "gondola doctor"),
            (&["pause", "web"], "gondola start NAME"),
            (&["resolve", "-f", "x.yaml"], "gondola build --push"),
        ];
        for (words, expected) in cases {
            let words = arguments(words);
            let program = switch::with_values(Cli::command());
            let error = program.try_get_matches_from(&words).unwrap_err();
            let said = foreign_word(&error, verb(&words).as_deref()).map(|error| error.to_string());
            assert!(
                said.as_ref().is_some_and(|said| said.contains(expected)),
                "{words:?} {said:?}"
            );
        }
    }

    #[test]
    fn a_switch_takes_a_value_behind_an_equals_sign() {
        let read = |words: &[&str]| {
            let program = switch::with_values(Cli::command());
            let matches = program.try_get_matches_from(arguments(words));
            matches.map(|matches| matches.subcommand().unwrap().1.get_flag("push"))
        };
        for (words, expected) in [
            (&["build"][..], false),
            (&["build", "--push"], true),
            (&["build", "--push", "."], true),
            (&["build", "--push=true"], true),
            (&["build", "--push=1", "."], true),
            (&["build", "--push=false"], false),
        ] {
            assert_eq!(read(words).unwrap(), expected, "{words:?}");
        }
        assert!(read(&["build", "--push=perhaps"]).is_err());
    }
}
