//! `gondola exec`.

use super::Runs;
use crate::sandbox::Isolation;
use std::process::ExitCode;

use clap::Args;

use super::run::{report, supervisor};
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::Need;
use crate::cli::process::{ProcessArgs, check_terminal};
use crate::cli::session::Session;
use crate::container::ExecRequest;
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `gondola exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Container, program to run in it, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["CONTAINER", "PROGRAM", "ARG"])]
    words: Vec<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

impl Runs for ExecArgs {
    fn need(&self, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
        let name = self.words.first().map_or("", String::as_str);
        Need::to_join(name, global, environment)
    }

    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.finish(run(session, *self))
    }
}

/// Runs a further program; answers its exit code.
async fn run(session: &Session, args: ExecArgs) -> Result<ExitCode> {
    let [name, program @ ..] = &args.words[..] else {
        unreachable!("at least one word is required")
    };
    if program.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("run in container {name}"))
            .because("no program was named"));
    }
    check_terminal(session, args.process.interactive, args.process.tty);
    let seen = session.containers()?.find(name)?;
    let process = args.process;
    let request = ExecRequest {
        argv: program.to_vec(),
        env: process.variables(&session.environment)?,
        workdir: process.workdir,
        user: process.user,
        input: process.interactive,
        terminal: process.tty,
    };
    let exit = supervisor(session).exec(&seen, &request).await?;
    Ok(report(session, name, &exit, None))
}
