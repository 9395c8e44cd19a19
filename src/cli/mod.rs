//! The command line: what was typed, what it means, and what is shown.
//!
//! stdout carries results alone; progress, notes and errors go to stderr. Exit codes: 0 done,
//! 1 failed, 2 wrong usage, 130 interrupted.

mod args;
mod commands;
mod environment;
pub mod output;
mod session;
mod settings;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
use environment::Environment;
use output::ProgressMode;
use session::Session;

use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::Launcher;

/// The exit code of a run that failed.
const FAILED: u8 = 1;
/// The exit code of wrong usage, which is also clap's.
const USAGE: u8 = 2;
/// The exit code after Ctrl-C or SIGTERM, as shells have it.
const INTERRUPTED: u8 = 130;

/// How long threads are waited for at the end. When all went well, there are none.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Runs the program with the arguments and environment of this process.
pub fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return show_usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return show_usage(&error),
    };
    let environment = match Environment::of_this_process() {
        Ok(environment) => environment,
        Err(error) => {
            let nothing = std::collections::BTreeMap::new();
            output::view(ProgressMode::Plain, false, &nothing, output::clock()).fail(&error);
            return ExitCode::from(exit_code(&error));
        }
    };
    let session = Session::new(cli.global, environment);
    if cli.command.needs_id_range() {
        match enter_id_range(&session) {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(error) => {
                session.view.fail(&error);
                return ExitCode::from(exit_code(&error));
            }
        }
    }
    let outcome = run(&session, cli.command);
    session.view.close();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            session.view.fail(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Makes sure that this process holds a range of ids; else it was run again as one that does, and
/// its exit code is the answer.
fn enter_id_range(session: &Session) -> Result<Option<ExitCode>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let path = session.environment.get("PATH").unwrap_or_default();
    Launcher::new(path).enter_id_range(&arguments)
}

/// Lets clap print its message: help and versions to stdout, mistakes to stderr.
fn show_usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to fail: whoever reads has read enough.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage => USAGE,
        ErrorKind::Interrupted => INTERRUPTED,
        _ => FAILED,
    }
}

fn run(session: &Session, command: Command) -> Result<()> {
    let verb = command.verb();
    // These need neither store nor network.
    match command {
        Command::Completions(args) => commands::completions::run(&args),
        Command::Version(args) => commands::version::run(&args),
        Command::Doctor(args) => commands::doctor::run(session, &args),
        command => {
            let runtime = session::runtime()?;
            let work = dispatch(session, command);
            let outcome = runtime.block_on(session::until_interrupted(verb, work));
            // After an interruption, what still writes a file has a moment to take it away.
            runtime.shutdown_timeout(LAST_MOMENT);
            outcome
        }
    }
}

async fn dispatch(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Build(args) => commands::build::run(session, *args).await,
        Command::Push(args) => commands::push::run(session, args).await,
        Command::Pull(args) => commands::pull::run(session, args).await,
        Command::Copy(args) => commands::copy::run(session, args).await,
        Command::Tag(args) => commands::tag::run(session, &args),
        Command::Images(args) => commands::images::run(session, &args),
        Command::Rmi(args) => commands::rmi::run(session, &args),
        Command::Inspect(args) => commands::inspect::run(session, args).await,
        Command::Login(args) => commands::login::run(session, args).await,
        Command::Logout(args) => commands::logout::run(session, args).await,
        Command::Cache(args) => commands::cache::run(session, &args),
        Command::Completions(_) | Command::Version(_) | Command::Doctor(_) => {
            unreachable!("run without a runtime")
        }
    }
}
