//! `go` as a plain process of this machine.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{Call, Launch, Running};
use crate::error::{Cannot, Error, ErrorKind, Result};

/// Starts plain processes, which see what the user sees.
#[derive(Debug)]
pub(in crate::golang) struct Host;

impl Launch for Host {
    fn start(&self, call: &Call<'_>) -> Result<Running> {
        let mut command = Command::new(call.go);
        command
            .args(call.arguments)
            .current_dir(call.dir)
            .env_clear()
            .envs(&call.environment)
            // Paths come back in terms of this folder even where it is behind a symbolic link.
            .env("PWD", call.dir)
            .stdin(input(call)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Interrupting(command.spawn().map_err(|error| cannot_start(call, error))?);
        let stdout = Box::new(child.0.stdout.take().expect("stdout is piped"));
        let stderr = Box::new(child.0.stderr.take().expect("stderr is piped"));
        let end = Box::pin(async move {
            let status = child.0.wait().await.cannot(|| "wait for go")?;
            Ok((!status.success()).then(|| status.to_string()))
        });
        Ok(Running { stdout, stderr, end })
    }
}

/// Nothing to read. A process inherits no other file than its input and outputs, so that is what
/// holds the lock: `go` reads no input, and does not pass it on.
fn input(call: &Call<'_>) -> Result<Stdio> {
    let Some(lock) = call.lock else { return Ok(Stdio::null()) };
    Ok(lock.try_clone().cannot(|| "hand a lock to go")?.into())
}

fn cannot_start(call: &Call<'_>, error: std::io::Error) -> Error {
    let action = format!("run {} in {}", call.go.display(), call.dir.display());
    if call.dir.is_dir() {
        return Error::new(ErrorKind::Io, action).caused_by(error);
    }
    Error::new(ErrorKind::NotFound, action).because("there is no such folder")
}

/// A child that is interrupted when it is dropped before its end: then it removes its temporary
/// files.
struct Interrupting(Child);

impl Drop for Interrupting {
    fn drop(&mut self) {
        // An identifier is only known until the child is waited for, so it is still ours.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::INT);
        }
    }
}
