//! Ends containers from another process.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::entry::{Container, ContainerInfo, Status};
use super::process::{Handle, Process};
use super::signal::StopSignal;
use super::state::Running;
use super::watch::Watch;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// How long the kernel may take to end what was killed.
const LAST_MOMENT: Duration = Duration::from_secs(10);

impl Container {
    /// Asks the program to end, and kills it when `patience` is over; without one it waits for
    /// ever. One that does not run is left as it is.
    pub fn stop(&self, signal: StopSignal, patience: Option<Duration>) -> Result<()> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut asked = false;
        while let Some((seen, running)) = self.running()? {
            let supervisor = seen.supervisor.and_then(Process::open);
            let Some(program) = running.first.open() else {
                // It has ended, and its supervisor is about to write that down.
                self.await_end(supervisor.as_ref(), Some(LAST_MOMENT))?;
                continue;
            };
            if !asked {
                signal.send(&program).cannot(|| format!("stop container {}", self.name()))?;
                asked = true;
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if !self.await_end(supervisor.as_ref(), left)? {
                let killed = program.signal(Signal::KILL);
                killed.cannot(|| format!("kill container {}", self.name()))?;
                self.await_end(supervisor.as_ref(), Some(LAST_MOMENT))?;
            }
        }
        Ok(())
    }

    /// Kills the program and all that it started.
    pub fn kill(&self) -> Result<()> {
        self.stop(StopSignal::kill(), Some(LAST_MOMENT))
    }

    /// The container while its program runs; `None` once it does not.
    fn running(&self) -> Result<Option<(ContainerInfo, Running)>> {
        let deadline = Instant::now() + LAST_MOMENT;
        loop {
            let watch = Watch::new(self.folder());
            let Some(seen) = self.look()? else { return Ok(None) };
            let supervisor = match &seen.status {
                Status::Running(running) => return Ok(Some((seen.clone(), running.clone()))),
                Status::Starting => seen.supervisor.and_then(Process::open),
                _ => return Ok(None),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!("wait for container {}", self.name()),
                )
                .because("it neither starts nor ends"));
            }
            // Removed in between, its folder cannot be watched.
            let Ok(watch) = watch else { continue };
            let waited = watch.wait(supervisor.as_ref(), Some(left));
            waited.cannot(|| format!("wait for container {}", self.name()))?;
        }
    }

    fn await_end(&self, process: Option<&Handle>, limit: Option<Duration>) -> Result<bool> {
        let Some(process) = process else { return Ok(true) };
        process.wait(limit).cannot(|| format!("wait for container {}", self.name()))
    }
}
