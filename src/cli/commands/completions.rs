//! `gondola completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::session::print;
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `gondola completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell; the script goes to stdout
    shell: Shell,
}

pub(in crate::cli) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gondola", &mut script);
    let script = String::from_utf8(script).map_err(|error| {
        Error::new(ErrorKind::Invalid, "write the completion script").caused_by(error)
    })?;
    print(&script)
}
