//! `gondola restart`.

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::Need;
use crate::sandbox::Isolation;
use std::process::ExitCode;

use clap::Args;

use super::run::{report, shim_arguments};
use super::stop::HowArgs;
use crate::cli::session::{Session, print_lines};
use crate::container::{ContainerInfo, start_detached};
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `gondola restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Containers to restart; one that has ended is started
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    #[command(flatten)]
    how: HowArgs,
}

impl Runs for RestartArgs {
    fn need(&self, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
        Need::of_containers(&self.containers, global, environment)
    }

    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)
    }
}

/// Starts containers again, in the background; their files are as they left them.
fn run(session: &Session, args: &RestartArgs) -> Result<ExitCode> {
    let containers = session.containers()?;
    let seen: Vec<ContainerInfo> =
        args.containers.iter().map(|name| containers.find(name)).collect::<Result<_>>()?;
    if let Some(seen) = seen.iter().find(|seen| seen.config.remove && seen.status.is_alive()) {
        let name = seen.container.name();
        return Err(Error::new(ErrorKind::Usage, format!("restart container {name}"))
            .because("it was started with --rm, and is gone once it ends"));
    }
    for (seen, name) in seen.iter().zip(&args.containers) {
        args.how.stop(seen)?;
        let locked = seen.container.claim()?;
        let id = seen.container.id().as_str();
        if let Some(exit) = start_detached(&locked, &shim_arguments(session, id)?)? {
            return Ok(report(session, name, &exit, None));
        }
        print_lines([name])?;
    }
    Ok(ExitCode::SUCCESS)
}
