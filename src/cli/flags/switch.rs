//! Switches that take a value where somebody gives them one: `--push`, `--push=false`; and flags that are
//! there twice, of which the last counts, as in docker.

use clap::builder::Resettable;
use clap::{Arg, ArgAction, Command};

use crate::literal::boolean;

/// Has every switch of the program take the values that docker's do. Behind an equals sign only: what
/// follows a switch is no value of it.
///
/// Help and completions show switches without a value, so they are made without this, and with
/// [`without_values`].
pub fn with_values(command: Command) -> Command {
    let command = command.mut_args(|argument| match argument.get_action() {
        ArgAction::SetTrue => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(boolean),
        _ => argument,
    });
    command.args_override_self(true).mut_subcommands(with_values)
}

/// Has the switches that always take values, as those of kaniko do, stand without one.
pub fn without_values(command: Command) -> Command {
    let is_switch = |argument: &Arg| {
        argument.is_require_equals_set()
            && argument.get_num_args().is_some_and(|count| count.min_values() == 0)
    };
    let command = command.mut_args(|argument| {
        if !is_switch(&argument) {
            return argument;
        }
        argument
            .action(ArgAction::SetTrue)
            .num_args(0)
            .require_equals(false)
            .default_missing_value(Resettable::Reset)
    });
    command.mut_subcommands(without_values)
}
