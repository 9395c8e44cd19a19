//! `gondola keep`: what `gondola run --detach` leaves running. Nobody types it.

use super::Runs;
use crate::sandbox::Rung;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Args;
use rustix::fs::{Mode, OFlags};

use super::run::supervisor;
use crate::cli::session::Session;
use crate::container::{Claimed, Containers};
use crate::error::{Cannot as _, Result};

/// Arguments of `gondola keep`.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// The container
    id: String,
}

impl Runs for KeepArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Rung>) -> Result<ExitCode> {
        session.finish(run(session, *self))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Keeps a container whose lock came as standard input.
async fn run(session: &Session, args: KeepArgs) -> Result<()> {
    let (lock, output) = take_streams().cannot(|| "keep the container")?;
    let store = session.store()?;
    let seen = Containers::open(store.root()).find(&args.id)?;
    let claimed = Claimed::handed_over(seen.container, lock)?;
    supervisor(session).keep_detached(claimed, output).await
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
