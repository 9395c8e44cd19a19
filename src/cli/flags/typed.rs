//! Which arguments stand on the command line, beside what they say.

use std::collections::BTreeSet;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};

/// The arguments that stand on the command line, by their names there.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    all: BTreeSet<String>,
    /// Switches that were turned off.
    off: BTreeSet<String>,
}

impl Typed {
    fn of(matches: &ArgMatches) -> Self {
        let is_typed =
            |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let is_off = |id: &&Id| matches!(matches.try_get_one::<bool>(id.as_str()), Ok(Some(false)));
        let name = |id: &Id| id.as_str().replace('_', "-");
        Self {
            all: matches.ids().filter(is_typed).map(name).collect(),
            off: matches.ids().filter(is_off).map(name).collect(),
        }
    }

    /// Whether an argument was typed.
    pub fn has(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    /// Whether a switch was typed and turned off.
    pub fn turns_off(&self, name: &str) -> bool {
        self.has(name) && self.off.contains(name)
    }

    /// Whether an argument was typed, and is no switch that was turned off.
    pub fn asks_for(&self, name: &str) -> bool {
        self.has(name) && !self.off.contains(name)
    }
}

/// The arguments of a command, and which of them stand on the command line.
#[derive(Clone, Debug)]
pub struct Noted<A> {
    /// What they say, with defaults.
    pub args: A,
    /// Which were typed.
    pub typed: Typed,
}

impl<A: FromArgMatches> FromArgMatches for Noted<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { typed: Typed::of(matches), args: A::from_arg_matches(matches)? })
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        // Before the arguments are taken out.
        let typed = Typed::of(matches);
        Ok(Self { typed, args: A::from_arg_matches_mut(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.typed = Typed::of(matches);
        self.args.update_from_arg_matches(matches)
    }
}

impl<A: Args> Args for Noted<A> {
    fn group_id() -> Option<Id> {
        A::group_id()
    }

    fn augment_args(command: Command) -> Command {
        A::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        A::augment_args_for_update(command)
    }
}
