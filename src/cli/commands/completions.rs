//! `gondola completions`.

use super::{Cli, Runs};
use crate::cli::session::Session;
use crate::sandbox::Isolation;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::process::ExitCode;

use crate::cli::session::print;
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `gondola completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell that the script is for
    shell: Shell,
}

impl Runs for CompletionsArgs {
    fn run(self: Box<Self>, _: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(&self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gondola", &mut script);
    let script = String::from_utf8(script).map_err(|error| {
        Error::new(ErrorKind::Invalid, "write the completion script").caused_by(error)
    })?;
    print(&script)
}
