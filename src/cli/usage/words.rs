//! The words of a command line, as far as they tell what was meant where the parser cannot.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::commands::Cli;
use crate::cli::flags::spelling::{spellings, takes_value};
use crate::cli::flags::{foreign, switch};
use crate::error::Error;

/// The command that was typed, wherever global flags stand.
pub(super) fn verb(arguments: &[OsString]) -> Option<String> {
    let program = switch::with_values(Cli::command()).ignore_errors(true);
    let matches = program.try_get_matches_from(arguments).ok()?;
    matches.subcommand_name().map(str::to_owned)
}

/// The same, where a flag that there is none of stands in front of it: the first word that is a command.
pub(super) fn first_command(arguments: &[OsString]) -> Option<String> {
    let program = Cli::command();
    let found = arguments.iter().skip(1).find_map(|word| program.find_subcommand(word))?;
    Some(found.get_name().to_owned())
}

/// The flags after which a value stands, in every spelling.
fn flags_with_values(arguments: &[OsString]) -> BTreeSet<String> {
    let program = switch::with_values(Cli::command());
    let mut found = BTreeSet::new();
    let matches = program.clone().ignore_errors(true).try_get_matches_from(arguments).ok();
    let mut below = matches.as_ref().and_then(clap::ArgMatches::subcommand);
    let mut command = Some(&program);
    while let Some(level) = command {
        found.extend(level.get_arguments().filter(|flag| takes_value(flag)).flat_map(spellings));
        command = below.and_then(|(name, _)| level.find_subcommand(name));
        below = below.and_then(|(_, matches)| matches.subcommand());
    }
    found
}

/// The arguments with a value that begins with a dash and a digit behind the equals sign of its flag: the
/// parser takes `-1h` for letters.
pub(super) fn with_number_joined(
    error: &clap::Error,
    arguments: &[OsString],
) -> Option<Vec<OsString>> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_number = word.starts_with('-') && word[1..].starts_with(|c: char| c.is_ascii_digit());
    if error.kind() != ErrorKind::UnknownArgument || !is_number {
        return None;
    }
    let flags = flags_with_values(arguments);
    let is_one = |pair: &[OsString]| {
        pair[0].to_str().is_some_and(|flag| flags.contains(flag))
            && pair[1].to_str().is_some_and(|value| value.starts_with(word))
    };
    let at = arguments.windows(2).position(is_one)?;
    let mut joined = arguments.to_vec();
    let value = joined.remove(at + 1);
    joined[at].push("=");
    joined[at].push(value);
    Some(joined)
}

/// What is said of another tool's long flag behind one dash, of which the parser would read letters: `-race`
/// as `-r`, or worse, `-tags` as an image of the name `ags`.
pub(super) fn long_behind_one_dash(arguments: &[OsString]) -> Option<Error> {
    // Hardly ever is there one, and the rest takes time.
    arguments
        .iter()
        .find(|word| foreign::is_long_behind_one_dash(name(&word.to_string_lossy())))?;
    let verb = verb(arguments)?;
    let flags = flags_with_values(arguments);
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next().filter(|word| word != "--") {
        let name = name(&word);
        if foreign::is_long_behind_one_dash(name)
            && let Some(error) = foreign::flag(&verb, name)
        {
            return Some(error);
        }
        if awaits_value(&word, &flags) {
            words.next();
        }
    }
    None
}

/// A flag without its value.
fn name(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

/// Whether the next word is a value of this one.
fn awaits_value(word: &str, flags: &BTreeSet<String>) -> bool {
    if word.starts_with("--") {
        return flags.contains(word);
    }
    let Some(letters) = word.strip_prefix('-') else { return false };
    let first = letters.char_indices().find(|(_, letter)| flags.contains(&format!("-{letter}")));
    first.is_some_and(|(at, letter)| at + letter.len_utf8() == letters.len())
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
        let cases: [(&[&str], Option<&str>); 3] = [
            (&["--bogus", "run", "x"], Some("run")),
            (&["--bogus=x", "publish", "run"], Some("build")),
            (&["--bogus"], None),
        ];
        for (words, expected) in cases {
            assert_eq!(first_command(&arguments(words)).as_deref(), expected, "{words:?}");
        }
    }

    #[test]
    fn long_flags_behind_one_dash_are_answered_where_they_are_no_values() {
        let said =
            |words: &[&str]| long_behind_one_dash(&arguments(words)).map(|error| error.to_string());
        for (words, expected) in [
            (&["build", "-race", "."][..], "--go-flag -race"),
            (&["build", "-tags=x", "."], "--build-tags"),
            (&["build", "-tags", "x", "."], "--build-tags"),
            (&["-q", "build", "-t", "a", "-trimpath"], "leave it out"),
            (&["publish", "-mod=vendor"], "two dashes"),
            (&["build", "-ldflags=-s", "."], "--ldflags FLAGS"),
            (&["build", "-json", "."], "--progress json"),
        ] {
            let said = said(words);
            assert!(
                said.as_ref().is_some_and(|said| said.contains(expected)),
                "{words:?} {said:?}"
            );
        }
        for words in [
            &["build", "--go-flag", "-race", "."][..],
            &["build", "--go-flag=-race", "--ldflags", "-tags", "."],
            &["build", "-t", "-race"],
            &["build", "-qt", "-race"],
            &["build", "-tapp", "."],
            &["build", "--", "-race"],
            &["run", "image", "-race"],
        ] {
            assert_eq!(said(words), None, "{words:?}");
        }
    }

    #[test]
    fn a_value_that_begins_with_a_dash_and_a_digit_is_one() {
        let joined = |words: &[&str]| {
            let words = arguments(words);
            let program = switch::with_values(Cli::command());
            let error = program.try_get_matches_from(&words).unwrap_err();
            with_number_joined(&error, &words).map(|words| words[1..].to_vec())
        };
        for (words, expected) in [
            (&["cache", "prune", "--older-than", "-1h"][..], "--older-than=-1h"),
            (&["--jobs", "-1", "images"], "--jobs=-1"),
            (&["logs", "-n", "-1", "a"], "-n=-1"),
            (&["run", "--timeout", "-7", "image", "-1"], "--timeout=-7"),
        ] {
            let found = joined(words).unwrap();
            assert!(found.contains(&OsString::from(expected)), "{found:?}");
            assert_eq!(found.len(), words.len() - 1, "{found:?}");
        }
        for words in [&["build", "-1"][..], &["build", "--push", "-1"], &["build", "--bogus"]] {
            assert_eq!(joined(words), None, "{words:?}");
        }
    }
}
