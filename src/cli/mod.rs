//! The command line: what was typed, what it means, and what is shown.
//!
//! stdout carries results alone; progress, notes and errors go to stderr. Exit codes: 0 done,
//! 1 failed, 2 wrong usage, 130 interrupted. `run` and `exec` end with the program's own code, and
//! with 125 for a failure of ours, 126 and 127 for a program that cannot be executed or is not there.

mod args;
mod commands;
mod dialect;
mod environment;
mod flags;
mod id_range;
mod limits;
pub mod output;
mod passing_store;
mod process;
mod proxies;
mod sandbox;
mod session;
mod usage;

use std::process::ExitCode;

use commands::{Cli, ends_with_program};
use environment::Environment;
use id_range::Entered;
use output::ProgressMode;
use passing_store::PassingStore;
use session::Session;

use crate::container::NOT_STARTED;
use crate::error::{Error, ErrorKind};

/// The exit code of a run that failed.
const FAILED: u8 = 1;
/// The exit code of wrong usage, which is also clap's.
const USAGE: u8 = 2;
/// The exit code after Ctrl-C or SIGTERM, as shells have it.
const INTERRUPTED: u8 = 130;

/// Runs the program with the arguments and environment of this process.
pub fn main() -> ExitCode {
    let arguments = dialect::arguments(environment::arguments());
    let (verb, Cli { mut global, command }) = match usage::read(&arguments) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let command = command.into_runs();
    let is_consistent = global.check();
    global.progress = command.progress(global.progress);
    let environment = match Environment::of_this_process(&arguments) {
        Ok(environment) => environment,
        Err(error) => {
            let nothing = std::collections::BTreeMap::new();
            output::view(ProgressMode::Plain, false, &nothing, output::clock()).fail(&error);
            return ExitCode::from(exit_code(&error));
        }
    };
    let passing = is_consistent
        .and_then(|()| PassingStore::make(command.without_store(), &mut global, &environment));
    let (passing, entered) = match passing {
        Ok(passing) => {
            let need = command.need(&global, &environment);
            (passing, need.and_then(|need| id_range::enter(&need, &global, &environment)))
        }
        Err(error) => (None, Err(error)),
    };
    let mut session = Session::new(verb, global, environment, passing);
    let outcome = entered.and_then(|entered| match entered {
        Entered::Left(code) => Ok(code),
        Entered::Here(isolation) => command.run(&session, isolation),
        Entered::Lacking(error) => {
            session.lacks = Some(error);
            command.run(&session, None)
        }
    });
    session.view.close();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let error = session.explain(limits::explain(error));
            session.view.fail(&error);
            // Any other code may be the program's.
            let ours = ends_with_program(&session.verb) && error.kind() != ErrorKind::Interrupted;
            ExitCode::from(if ours { NOT_STARTED } else { exit_code(&error) })
        }
    }
}

/// The exit code of wrong usage: of what runs programs, others may be the program's.
fn usage_code(verb: Option<&str>) -> u8 {
    match verb {
        Some(verb) if ends_with_program(verb) => NOT_STARTED,
        _ => USAGE,
    }
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage => USAGE,
        ErrorKind::Interrupted => INTERRUPTED,
        _ => FAILED,
    }
}
