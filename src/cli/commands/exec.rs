//! `gondola exec`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::run::{report, supervisor, variables, without_terminal};
use crate::cli::session::Session;
use crate::container::{Containers, Further};
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `gondola exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The container, the program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["CONTAINER", "PROGRAM", "ARG"])]
    words: Vec<String>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable, or pass one on; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file; repeatable
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Vec<PathBuf>,
    /// The working folder, instead of the container's
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The user, instead of the container's
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
}

/// Runs a further program; answers its exit code.
pub(in crate::cli) async fn run(session: &Session, args: ExecArgs) -> Result<ExitCode> {
    let [name, program @ ..] = &args.words[..] else {
        unreachable!("at least one word is required")
    };
    if program.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("run in container {name}"))
            .because("no program was named"));
    }
    if let Some(code) = without_terminal(session, args.interactive && args.tty) {
        return Ok(code);
    }
    let seen = Containers::open(session.store()?.root())?.find(name)?;
    let further = Further {
        argv: program.to_vec(),
        env: variables(&args.env, &args.env_file, &session.environment)?,
        workdir: args.workdir,
        user: args.user,
        input: args.interactive,
        terminal: args.tty,
    };
    let exit = supervisor(session).exec(&seen, &further).await?;
    Ok(report(session, name, &exit, None))
}
