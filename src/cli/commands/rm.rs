//! `gondola rm`.

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::Need;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::session::{Session, print_lines};
use crate::container::ContainerInfo;
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `gondola rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Containers to remove
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Kill running containers, and ignore missing ones
    #[arg(short, long)]
    force: bool,
    /// Has no effect: volumes are always removed with their container
    #[arg(short, long)]
    volumes: bool,
}

impl Runs for RmArgs {
    fn need(&self, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
        Need::of_containers(&self.containers, global, environment)
    }

    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(session: &Session, args: &RmArgs) -> Result<()> {
    let containers = session.containers()?;
    containers.sweep();
    let mut found = Vec::new();
    for name in &args.containers {
        match containers.find(name) {
            Ok(seen) => found.push((name, seen)),
            Err(error) if args.force && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if let Some((name, _)) = found.iter().find(|(_, seen)| seen.status.is_alive() && !args.force) {
        return Err(Error::new(ErrorKind::Denied, format!("remove container {name}"))
            .because("it is running")
            .hint(format!("gondola stop {name}, or gondola rm -f {name}")));
    }
    for (name, seen) in found {
        remove(&seen)?;
        print_lines([name])?;
    }
    Ok(())
}

fn remove(seen: &ContainerInfo) -> Result<()> {
    seen.container.kill()?;
    match seen.container.claim() {
        Ok(locked) => locked.remove(),
        // One that was started with --rm removes itself.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
