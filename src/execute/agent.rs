//! `RUN --mount=type=ssh`: a socket for a step, which leads to the user's SSH agent.
//!
//! ```text
//!   step ──► socket, owned as the mount says ──► this process ──► the agent's own socket
//! ```
//! An agent answers its own user alone, and a step may run as another one: so this process passes the
//! requests on. A step can list keys and have data signed; adding, removing and locking keys is refused,
//! as BuildKit does.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use crate::engine::op::Access;
use crate::error::{Cannot as _, Result};

/// The longest message of the protocol, as in OpenSSH.
const LONGEST_MESSAGE: usize = 256 << 10;
/// Requests that change nothing: which keys are there, and sign this.
const PASSED_ON: [u8; 2] = [11, 13];
/// A request that is no part of the protocol itself.
const EXTENSION: u8 = 27;
const FAILURE: u8 = 5;
const EXTENSION_FAILURE: u8 = 28;

/// A socket that leads to an agent, as long as this lives.
pub(super) struct Agent {
    listener: UnixListener,
    folder: TempDir,
}

impl Agent {
    /// Makes a socket that leads to the agent at `agent`, for the user that `access` says.
    pub(super) fn open(agent: &Path, access: Access) -> Result<Self> {
        let action = || format!("give a step the SSH agent at {}", agent.display());
        // Without this look, an agent that is gone would be an error of the step's program, or none at all.
        drop(UnixStream::connect(agent).cannot(action)?);
        let folder = tempfile::tempdir().cannot(action)?;
        let path = folder.path().join("agent");
        // An address holds 108 bytes, and the folder may be anywhere.
        let opened = fs_err::File::open(folder.path()).cannot(action)?;
        let address = format!("/proc/self/fd/{}/agent", opened.as_raw_fd());
        let listener = UnixListener::bind(address).cannot(action)?;
        let mode = std::fs::Permissions::from_mode(access.mode.unwrap_or(0o600));
        fs_err::set_permissions(&path, mode).cannot(action)?;
        if access.uid.is_some() || access.gid.is_some() {
            // Where there is but one id, it is that of every user of the step.
            let _ = std::os::unix::fs::chown(&path, access.uid.or(Some(0)), access.gid.or(Some(0)));
        }
        let serving = listener.try_clone().cannot(action)?;
        let agent = agent.to_owned();
        thread::Builder::new().spawn(move || serve(&serving, &agent)).cannot(action)?;
        Ok(Self { listener, folder })
    }

    /// Where the socket is.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Wakes the thread that waits for connections. Those that are open end with the step.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = UnixStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
    }
}

fn serve(listener: &UnixListener, agent: &Path) {
    while let Ok((step, _)) = listener.accept() {
        let agent = agent.to_owned();
        // A connection that breaks, or gets no thread, is for the step to notice.
        let _ = thread::Builder::new().spawn(move || relay(step, &agent));
    }
}

/// Passes requests on, one after the other, until the step or the agent has enough.
fn relay(mut step: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent)?;
    while let Some(request) = read(&mut step)? {
        let answer = match request.first() {
            Some(kind) if PASSED_ON.contains(kind) => {
                write(&mut agent, &request)?;
                match read(&mut agent)? {
                    Some(answer) => answer,
                    None => return Ok(()),
                }
            }
            Some(&EXTENSION) => vec![EXTENSION_FAILURE],
            _ => vec![FAILURE],
        };
        write(&mut step, &answer)?;
    }
    Ok(())
}

/// Reads a message; `None` at the end.
fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST_MESSAGE {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

fn write(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every request with itself, once.
    fn echo(path: &Path) -> UnixListener {
        let listener = UnixListener::bind(path).unwrap();
        let serving = listener.try_clone().unwrap();
        thread::spawn(move || {
            while let Ok((mut client, _)) = serving.accept() {
                thread::spawn(move || {
                    while let Ok(Some(request)) = read(&mut client) {
                        write(&mut client, &request).unwrap();
                    }
                });
            }
        });
        listener
    }

    #[test]
    fn a_step_asks_and_signs_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own");
        let _listener = echo(&path);
        let agent = Agent::open(&path, Access { mode: Some(0o640), ..Access::default() }).unwrap();
        let socket = agent.socket();
        let mode = fs_err::metadata(&socket).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);
        let mut step = UnixStream::connect(&socket).unwrap();
        for (request, answer) in [
            (&[11][..], &[11][..]),
            (&[13, 1, 2], &[13, 1, 2]),
            (&[17, 1], &[FAILURE]),
            (&[19], &[FAILURE]),
            (&[22, 0], &[FAILURE]),
            (&[27, 0], &[EXTENSION_FAILURE]),
            (&[], &[FAILURE]),
        ] {
            write(&mut step, request).unwrap();
            assert_eq!(read(&mut step).unwrap().unwrap(), answer, "{request:?}");
        }
        step.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(read(&mut step).unwrap(), None, "a message without end is not waited for");
        drop(agent);
        assert!(UnixStream::connect(&socket).is_err());
    }

    #[test]
    fn an_agent_that_is_gone_is_told_before_the_step_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own");
        drop(UnixListener::bind(&path).unwrap());
        let error = Agent::open(&path, Access::default()).err().unwrap().to_string();
        assert!(error.contains("SSH agent"), "{error}");
    }
}
