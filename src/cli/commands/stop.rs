//! `gondola stop`.

use super::Runs;
use crate::sandbox::Isolation;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::session::{Session, print_lines};
use crate::container::{ContainerInfo, StopSignal};
use crate::error::Result;

/// Arguments of `gondola stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Containers to stop
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    #[command(flatten)]
    how: HowArgs,
}

/// How a program is ended.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Seconds to wait before killing the container; -1 for ever
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// Signal to send instead of the container's stop signal
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<StopSignal>,
}

impl HowArgs {
    /// Ends a container.
    pub(in crate::cli) fn stop(&self, seen: &ContainerInfo) -> Result<()> {
        let patience = match self.time {
            Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
            None => seen.config.stop_timeout,
        };
        seen.container.stop(self.signal.unwrap_or(seen.config.stop_signal), patience)
    }
}

impl Runs for StopArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(session: &Session, args: &StopArgs) -> Result<()> {
    let containers = session.containers()?;
    // A name that is wrong is told before anything is stopped.
    let seen: Vec<ContainerInfo> =
        args.containers.iter().map(|name| containers.find(name)).collect::<Result<_>>()?;
    for (seen, name) in seen.iter().zip(&args.containers) {
        args.how.stop(seen)?;
        print_lines([name])?;
    }
    Ok(())
}
