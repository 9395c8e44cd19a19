//! Reads the command line, and says what is wrong with one that cannot be read.

mod value;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use super::commands::Cli;
use super::flags::{foreign, switch};
use super::output::{self, ProgressMode};
use super::{USAGE, usage_code};
use crate::disk::stream::Stderr;
use crate::error::Error;
use crate::secret;

/// Reads the command and all arguments, the first of which is the program's name. Where that fails, or help was asked
/// for, everything has been said; what is left is the exit code.
pub(super) fn read(arguments: &[OsString]) -> Result<(String, Cli), ExitCode> {
    if let Some(error) = words::long_behind_one_dash(arguments) {
        return Err(say(&error, words::verb(arguments).as_deref()));
    }
    parse(arguments).map_err(|(error, arguments)| {
        let verb = words::verb(&arguments);
        let said = foreign_word(&error, verb.as_deref())
            .or_else(|| value::explain(&error))
            .or_else(|| value::explain_bytes(&error, &arguments));
        // The exit code is that of the command that was meant.
        let is_flag = error.kind() != ErrorKind::InvalidSubcommand;
        let verb = verb.or_else(|| words::first_command(&arguments).filter(|_| is_flag));
        match said {
            Some(error) => say(&error, verb.as_deref()),
            None => show(error, &arguments, verb.as_deref()),
        }
    })
}

/// What the parser makes of the arguments, or its error and the arguments that it is about.
fn parse(arguments: &[OsString]) -> Result<(String, Cli), (clap::Error, Vec<OsString>)> {
    let matches = switch::with_values(Cli::command()).try_get_matches_from(arguments);
    let read = matches.and_then(|matches| {
        let verb = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((verb, Cli::from_arg_matches(&matches)?))
    });
    read.or_else(|error| match words::with_number_joined(&error, arguments) {
        Some(joined) => parse(&joined),
        None => Err((error, arguments.to_vec())),
    })
}

/// Says what is wrong, in the usual words; answers the exit code.
fn say(error: &Error, verb: Option<&str>) -> ExitCode {
    let nothing = BTreeMap::new();
    output::view(ProgressMode::Plain, false, &nothing, output::clock()).fail(error);
    ExitCode::from(usage_code(verb))
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
        // In front of the command.
        (ErrorKind::UnknownArgument, None) => foreign::flag("", word(ContextKind::InvalidArg)?),
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
    // Those of the program itself are every command's.
    let mut all = command.get_arguments().chain(program.get_arguments());
    all.any(|argument| argument.get_long() == Some(name) && !argument.is_hide_set())
}

/// Prints the message of the parser: help and versions to stdout, mistakes to stderr. What it quotes has no
/// users and queries of addresses.
fn show(mut error: clap::Error, arguments: &[OsString], verb: Option<&str>) -> ExitCode {
    let is_missing = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_missing && let Some(help) = help(arguments) {
        let _ = Stderr.write_all(help.render().to_string().as_bytes());
        return ExitCode::from(usage_code(verb));
    }
    if error.kind() == ErrorKind::DisplayHelp {
        error = help(arguments).unwrap_or(error);
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
    let _ = if error.use_stderr() {
        let text = without_values_of_switches(&error.render().to_string());
        Stderr.write_all(text.as_bytes())
    } else {
        error.print()
    };
    let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
    ExitCode::from(if code == USAGE { usage_code(verb) } else { code })
}

/// The help that was asked for, or is shown where a command is missing, in which switches stand without a
/// value.
fn help(arguments: &[OsString]) -> Option<clap::Error> {
    let is_help = |word: &&OsString| *word == "--help" || *word == "-h";
    let short = OsString::from("-h");
    let asked = arguments.iter().find(is_help).unwrap_or(&short);
    let others = arguments.iter().filter(|word| !is_help(word));
    let program = switch::with_values(Cli::command()).ignore_errors(true);
    let matches = program.try_get_matches_from(others).ok()?;
    let mut words = vec![OsString::from("gondola")];
    let mut command = matches.subcommand();
    while let Some((name, below)) = command {
        words.push(name.into());
        command = below.subcommand();
    }
    words.push(asked.clone());
    switch::without_values(Cli::command()).try_get_matches_from(words).err()
}

/// A message in which switches stand as people write them: `--push` in the place of `--push[=<PUSH>]`.
fn without_values_of_switches(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[=<") {
        plain.push_str(before);
        rest = after.split_once(">]").map_or("", |(_, behind)| behind);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        ["gondola"].iter().chain(words).map(OsString::from).collect()
    }

    #[test]
    fn words_of_other_tools_are_answered() {
        let cases: [(&[&str], &str); 24] = [
            (&["build", "--trimpath", "."], "leave it out"),
            (&["build", "-v", "."], "--progress plain"),
            (&["build", "--race", "."], "--go-flag -race"),
            (&["run", "--umask=027", "image"], "umask 027"),
            (&["copy", "--all", "a", "oci:b"], "all platforms"),
            (&["inspect", "--raw", "a"], "--json"),
            (&["pull", "--policy=always", "a"], "--pull WHEN"),
            (&["start", "--detach-keys", "a", "b"], "leave it out"),
            (&["cache", "prune", "-f"], "leave it out"),
            (&["cache", "ls"], "gondola cache du"),
            (&["build", "--load", "."], "--output docker:"),
            (&["build", "-L", "."], "--output docker:"),
            (&["-q", "build", "--cache-from=type=gha"], "--cache-repo REPOSITORY"),
            (&["run", "--gpus", "all", "image"], "gondola doctor"),
            (&["pause", "web"], "gondola start NAME"),
            (&["-H", "unix:///x", "images"], "there is no daemon"),
            (&["--log-level", "debug", "images"], "there is no daemon"),
            (&["--tls", "images"], "there is no daemon"),
            (&["--debug", "images"], "--progress plain"),
            (&["--storage-driver", "vfs", "images"], "--store FOLDER"),
            (&["--insecure-policy", "copy", "a", "b"], "leave it out"),
            (&["--override-os", "linux", "copy", "a", "b"], "--platform"),
            (&["--insecure", "push", "a"], "--insecure-registry HOST"),
            (&["resolve", "-f", "x.yaml"], "gondola build --push"),
        ];
        for (words, expected) in cases {
            let words = arguments(words);
            let program = switch::with_values(Cli::command());
            let error = program.try_get_matches_from(&words).unwrap_err();
            let said =
                foreign_word(&error, words::verb(&words).as_deref()).map(|error| error.to_string());
            assert!(
                said.as_ref().is_some_and(|said| said.contains(expected)),
                "{words:?} {said:?}"
            );
        }
    }

    fn wrong(words: &[&str]) -> String {
        let (error, _) = parse(&arguments(words)).unwrap_err();
        let said = value::explain(&error).map(|error| error.to_string());
        said.unwrap_or_else(|| without_values_of_switches(&error.render().to_string()))
    }

    #[test]
    fn a_wrong_value_is_explained_in_the_words_of_its_flag() {
        for (words, expected) in [
            (&["build", "--push=perhaps"][..], "cannot use --push perhaps: expected true or false"),
            (&["kaniko", "--no-push=x"], "cannot use --no-push x: expected true or false"),
            (&["build", "--jobs", "x"], "cannot use --jobs x: expected a number"),
            (&["build", "--jobs=100"], "cannot use --jobs 100: expected a number from 1 to 64"),
            (&["run", "--dns=x", "y"], "cannot use --dns x: expected an IP address"),
            (&["run", "--pull=x", "y"], "cannot use --pull x: expected missing, always or never"),
            (
                &["run", "--mount=x", "y"],
                "cannot use --mount x: \"x\" is not known, expected type=KIND,…",
            ),
            (
                &["run", "--volume=x:y:z", "y"],
                "cannot use --volume x:y:z: the path in the container does not begin with /, expected \
                 [HOST:]CONTAINER[:ro]",
            ),
            (&["build", "--tag"], "cannot use --tag: a value is missing, expected NAME"),
            (&["build", "--jobs", "-1"], "cannot use --jobs -1: expected a number from 1 to 64"),
            (
                &["run", "--timeout", "-1", "y"],
                "cannot use --timeout -1: expected a number from 0 on",
            ),
            (
                &["cache", "prune", "--older-than", "-1h"],
                "cannot use --older-than -1h: expected numbers with their units, such as 90s, 1h30m or 7d",
            ),
            (
                &["build", "--provenance"],
                "cannot use --provenance: a value is missing, expected false",
            ),
            (
                &["build", "--provenance=mode=max"],
                "cannot use --provenance mode=max: no attestations are made, expected false",
            ),
            (
                &["build", "--sbom=true"],
                "cannot use --sbom true: no attestations are made, expected false",
            ),
            (
                &["build", "--ulimit=x"],
                "cannot use --ulimit x: expected NAME=SOFT[:HARD], such as nofile=1024:4096",
            ),
            (
                &["pull", "A:b"],
                "cannot use \"A:b\" as IMAGE: \"A\" has upper-case letters, a repository must not; \
                 hint: write [registry/]repository[:tag][@sha256:…]",
            ),
        ] {
            assert_eq!(wrong(words), expected);
        }
    }

    #[test]
    fn no_message_and_no_help_shows_values_of_switches() {
        for words in [
            &["build", "--push", "--bogus"][..],
            &["build", "--one-image", "--psh"],
            &["cache", "prune", "--al"],
            &["kaniko", "--no-push", "--bogus"],
            &["build", "--push=perhaps"],
        ] {
            let said = wrong(words);
            assert!(!said.contains("[=<") && !said.contains("<PUSH>"), "{said}");
        }
        for words in [
            &["build", "--help"][..],
            &["build", "--push=true", "--help"],
            &["-q=1", "cache", "prune", "--all=1", "-h"],
            &["kaniko", "--no-push=true", "--help"],
            &["--help"],
        ] {
            let help = help(&arguments(words)).unwrap();
            assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{words:?}");
            let text = help.render().to_string();
            assert!(!text.contains("[=<") && !text.contains("[default: false]"), "{text}");
            let command = words.iter().find(|word| !word.starts_with('-'));
            assert!(command.is_none_or(|name| text.contains(&format!("gondola {name}"))), "{text}");
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
