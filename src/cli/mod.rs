//! The command line: what was typed, what it means, and what is shown.
//!
//! stdout carries results alone; progress, notes and errors go to stderr. Exit codes: 0 done,
//! 1 failed, 2 wrong usage, 130 interrupted. `run` and `exec` end with the program's own code, and
//! with 125 for a failure of ours, 126 and 127 for a program that cannot be executed or is not there.

mod args;
mod commands;
mod dockerfile;
mod environment;
mod flags;
mod id_range;
pub mod kaniko;
mod limits;
pub mod output;
mod passing_store;
mod process;
mod proxies;
mod sandbox;
mod session;
mod settings;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use args::Command;
use environment::Environment;
use id_range::Entered;
use output::ProgressMode;
use passing_store::PassingStore;
use session::Session;

use crate::container::NOT_STARTED;
use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::Rung;

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
    let mut cli = match usage::read(&environment::arguments()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if let Command::Kaniko(args) = &cli.command {
        cli.global.progress = kaniko::progress(args, cli.global.progress);
    }
    let environment = match Environment::of_this_process() {
        Ok(environment) => environment,
        Err(error) => {
            let nothing = std::collections::BTreeMap::new();
            output::view(ProgressMode::Plain, false, &nothing, output::clock()).fail(&error);
            return ExitCode::from(exit_code(&error));
        }
    };
    let runs_programs = matches!(cli.command, Command::Run(_) | Command::Exec(_));
    let (passing, entered) = match PassingStore::make(&cli.command, &mut cli.global, &environment) {
        Ok(passing) => (passing, id_range::enter(&cli.command, &cli.global, &environment)),
        Err(error) => (None, Err(error)),
    };
    let session = Session::new(cli.global, environment, passing);
    let outcome = entered.and_then(|entered| match entered {
        Entered::Left(code) => Ok(code),
        Entered::Here(rung) => run(&session, cli.command, rung),
    });
    session.view.close();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let error = limits::explain(error);
            session.view.fail(&error);
            // Any other code may be the program's.
            let ours = runs_programs && error.kind() != ErrorKind::Interrupted;
            ExitCode::from(if ours { NOT_STARTED } else { exit_code(&error) })
        }
    }
}

/// The exit code of wrong usage: of what runs programs, others may be the program's.
fn usage_code(verb: Option<&str>) -> u8 {
    match verb {
        Some("run" | "exec") => NOT_STARTED,
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

/// Runs a command; answers the exit code.
fn run(session: &Session, command: Command, rung: Option<Rung>) -> Result<ExitCode> {
    let verb = command.verb();
    let done = |()| ExitCode::SUCCESS;
    match command {
        // These need neither store nor network.
        Command::Completions(args) => commands::completions::run(&args).map(done),
        Command::Version(args) => commands::version::run(&args).map(done),
        // These wait for processes of their own.
        Command::Doctor(args) => commands::doctor::run(session, &args).map(done),
        Command::Ps(args) => commands::ps::run(session, &args).map(done),
        Command::Logs(args) => commands::logs::run(session, &args).map(done),
        Command::Stop(args) => commands::stop::run(session, &args).map(done),
        Command::Restart(args) => commands::restart::run(session, &args),
        Command::Rm(args) => commands::rm::run(session, &args).map(done),
        Command::Stats(args) => commands::stats::run(session, &args).map(done),
        Command::Build(args) => {
            let work = commands::build::run(session, *args, rung);
            finish(session::until_interrupted(session, verb, work)).map(done)
        }
        Command::Pull(args) => {
            let work = commands::pull::run(session, args, rung);
            finish(session::until_interrupted(session, verb, work)).map(done)
        }
        Command::Kaniko(args) => {
            let work = commands::kaniko::run(session, *args, rung);
            finish(session::until_interrupted(session, verb, work)).map(done)
        }
        // These pass signals on.
        Command::Run(args) => {
            let rung = rung.expect("chosen before anything else");
            finish(commands::run::run(session, *args, rung))
        }
        Command::Exec(args) => finish(commands::exec::run(session, args)),
        Command::Shim(args) => finish(commands::shim::run(session, args)).map(done),
        command => {
            finish(session::until_interrupted(session, verb, dispatch(session, command))).map(done)
        }
    }
}

/// Waits for work on a runtime of its own.
fn finish<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = session::runtime()?;
    let outcome = runtime.block_on(work);
    // After an interruption, what still writes a file has a moment to take it away.
    runtime.shutdown_timeout(LAST_MOMENT);
    outcome
}

async fn dispatch(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Push(args) => commands::push::run(session, args).await,
        Command::Copy(args) => commands::copy::run(session, args).await,
        Command::Tag(args) => commands::tag::run(session, &args),
        Command::Images(args) => commands::images::run(session, &args),
        Command::Rmi(args) => commands::rmi::run(session, &args),
        Command::Inspect(args) => commands::inspect::run(session, args).await,
        Command::Login(args) => commands::login::run(session, args).await,
        Command::Logout(args) => commands::logout::run(session, args).await,
        Command::Cache(args) => commands::cache::run(session, &args),
        _ => unreachable!("run on its own"),
    }
}
