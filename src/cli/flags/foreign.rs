//! Words that people know from other tools and that gondola does not have: each is answered with what to
//! do here, and not with whatever flag is spelled nearly like it.

mod build;
mod commands;
mod containers;
mod kaniko;
mod others;
#[cfg(test)]
mod walk;

use commands::{COMMANDS, SUBCOMMANDS};

use crate::error::{Error, ErrorKind};

/// Words that all want the same answer.
struct Words {
    /// Where they stand: behind one of these commands, of which an empty one is the program's own place, in
    /// front of them; anywhere, where there is none.
    behind: &'static [&'static str],
    /// The words, between spaces.
    all: &'static str,
    /// Why there is none of them.
    why: &'static str,
    /// What to do here.
    instead: &'static str,
}

const fn words(
    behind: &'static [&'static str],
    all: &'static str,
    why: &'static str,
    instead: &'static str,
) -> Words {
    Words { behind, all, why, instead }
}

/// The error for a flag of `command` that is not gondola's, if it is another tool's.
pub fn flag(command: &str, word: &str) -> Option<Error> {
    let fits = |words: &&Words| words.behind.is_empty() || words.behind.contains(&command);
    answer(flags().filter(fits), word, format!("use {word}"))
}

/// Whether a word is the name of a flag behind one dash that has more than one letter, as Go's tools have them.
pub fn is_long_behind_one_dash(word: &str) -> bool {
    let is_one = word.len() > 2 && word.starts_with('-') && !word.starts_with("--");
    is_one && flags().any(|words| words.all.split(' ').any(|known| known == word))
}

/// The error for a command that is not gondola's, if it is another tool's.
pub fn command(word: &str) -> Option<Error> {
    answer(COMMANDS.iter(), word, format!("run \"gondola {word}\""))
}

/// The same for a word behind a command that has commands of its own.
pub fn subcommand(command: &str, word: &str) -> Option<Error> {
    let fits = |words: &&Words| words.behind.contains(&command);
    answer(SUBCOMMANDS.iter().filter(fits), word, format!("run \"gondola {command} {word}\""))
}

/// The flags of all tables.
fn flags() -> impl Iterator<Item = &'static Words> {
    [build::FLAGS, containers::FLAGS, kaniko::FLAGS, others::FLAGS].into_iter().flatten()
}

fn answer(
    mut table: impl Iterator<Item = &'static Words>,
    word: &str,
    action: String,
) -> Option<Error> {
    let found = table.find(|words| words.all.split(' ').any(|known| known == word))?;
    Some(Error::new(ErrorKind::Usage, action).because(found.why).hint(found.instead))
}

const BUILD: &[&str] = &["build"];
const RUN: &[&str] = &["run"];
const PROGRAMS: &[&str] = &["run", "exec"];
const LISTS: &[&str] = &["ps", "images", "stats", "inspect", "version", "logs"];

const NO_DAEMON: &str = "no daemon watches over containers";
const NO_RIGHTS: &str = "a container never has more rights than the user who started it";
const NO_GROUPS: &str = "containers are in no control group of their own";
const NAMES: &str = "--tag says all names of an image";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Command, CommandFactory as _};

    use super::*;
    use crate::cli::commands::Cli;

    fn program() -> Command {
        let mut program = Cli::command();
        program.build();
        program
    }

    /// Every spelling of every flag of a command.
    pub(super) fn flags_of(command: &Command) -> BTreeSet<String> {
        let mut flags = BTreeSet::new();
        for argument in command.get_arguments() {
            let long = argument.get_long_and_visible_aliases().into_iter().flatten();
            let hidden = argument.get_all_aliases().into_iter().flatten();
            flags.extend(long.chain(hidden).map(|name| format!("--{name}")));
            flags.extend(
                argument.get_all_short_aliases().into_iter().flatten().map(|c| format!("-{c}")),
            );
            flags.extend(argument.get_short().map(|c| format!("-{c}")));
        }
        flags
    }

    #[test]
    fn no_word_is_one_of_ours() {
        let program = program();
        for entry in flags() {
            for command in program.get_subcommands() {
                if !entry.behind.is_empty() && !entry.behind.contains(&command.get_name()) {
                    continue;
                }
                // What is said of all commands is about others' own flags.
                if command.get_name() == "kaniko" && entry.behind.is_empty() {
                    continue;
                }
                let own = flags_of(command);
                let found = entry.all.split(' ').find(|word| own.contains(*word));
                assert_eq!(found, None, "gondola {} has it", command.get_name());
            }
        }
        let own: BTreeSet<&str> = program
            .get_subcommands()
            .flat_map(|command| [command.get_name()].into_iter().chain(command.get_all_aliases()))
            .collect();
        for word in COMMANDS.iter().flat_map(|entry| entry.all.split(' ')) {
            assert!(!own.contains(word), "{word}");
        }
    }

    #[test]
    fn each_word_has_one_answer() {
        for name in program().get_subcommands().map(Command::get_name) {
            let mut seen = BTreeSet::new();
            let behind = |entry: &&Words| entry.behind.is_empty() || entry.behind.contains(&name);
            for word in flags().filter(behind).flat_map(|entry| entry.all.split(' ')) {
                assert!(word.starts_with('-') && seen.insert(word), "{name} {word}");
            }
        }
        let mut seen = BTreeSet::new();
        for word in COMMANDS.iter().flat_map(|entry| entry.all.split(' ')) {
            assert!(seen.insert(word), "{word}");
        }
    }

    #[test]
    fn answers_name_commands_and_flags_that_there_are() {
        let program = program();
        let below = program.get_subcommands().flat_map(Command::get_subcommands);
        let all: BTreeSet<String> =
            program.get_subcommands().chain(below).flat_map(flags_of).collect();
        let commands: BTreeSet<&str> = program.get_subcommands().map(Command::get_name).collect();
        // Of systemd-run, jq and COPY, which are not ours.
        let others = ["--scope", "--from=STAGE", "--mount=type=bind", "-p", "--version"];
        for entry in flags().chain(COMMANDS).chain(SUBCOMMANDS) {
            let words: Vec<&str> = entry.instead.split([' ', ',', ';', '"']).collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "gondola") {
                let known = commands.contains(pair[1]) || pair[1].starts_with("--");
                assert!(known, "gondola {}: {}", pair[1], entry.instead);
            }
            for word in words.iter().filter(|word| word.starts_with('-') && !word.starts_with("-N"))
            {
                let own = all.contains(*word) || *word == "--help" || others.contains(word);
                let foreign = ["-it", "-l", "-c", "-m", "-race", "-NAME=VALUE"].contains(word);
                assert!(own || foreign, "{word}: {}", entry.instead);
            }
        }
    }
}
