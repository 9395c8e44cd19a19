//! `gondola shim`: what `gondola run --detach` leaves running. Nobody types it.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Args;
use rustix::fs::{Mode, OFlags};

use super::Runs;
use super::run::supervisor;
use crate::cli::session::Session;
use crate::container::LockedContainer;
use crate::error::{Cannot as _, Result};
use crate::sandbox::Isolation;

/// Arguments of `gondola shim`.
#[derive(Debug, Args)]
pub struct ShimArgs {
    /// The container
    id: String,
}

impl Runs for ShimArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.finish(run(session, *self))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Keeps a container whose lock came as standard input.
async fn run(session: &Session, args: ShimArgs) -> Result<()> {
    let (lock, output) = take_streams().cannot(|| "keep the container")?;
    let seen = session.containers()?.find(&args.id)?;
    let locked = LockedContainer::handed_over(seen.container, lock)?;
    supervisor(session).run_detached(locked, output).await
}

/// Takes the lock and the way to the caller out of the standard streams, so that no further process
/// inherits them.
fn take_streams() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let lock = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((lock, output))
}
