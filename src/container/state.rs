//! What a container's folder says about how it is.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ports::Published;
use super::process::Process;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// What was last written of a container. That it runs counts only while its lock is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum State {
    /// It never ran.
    Created,
    /// Its program was started.
    Running(Running),
    /// Its program has ended.
    Exited(Exited),
}

/// A program that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The first process of the sandbox, to which signals go.
    pub(super) first: Process,
    /// When it was started.
    pub started: Timestamp,
    /// The ports of the host that lead to it.
    #[serde(default)]
    pub ports: Vec<Published>,
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// What `gondola run` ended with.
    pub code: u8,
    /// When it was started.
    pub started: Timestamp,
    /// When it had ended.
    pub finished: Timestamp,
}

impl State {
    /// Reads what was last written.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let action = || format!("read {}", path.display());
        let bytes = fs_err::read(path).cannot(action)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(ErrorKind::Invalid, action()).caused_by(error))
    }

    /// Replaces what was written: a reader finds the old or the new, whole.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        replace(path, &serde_json::to_vec(self).expect("a state is plain data"))
    }
}

/// Writes a file whole or not at all. Only one process at a time writes in a container's folder.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let action = || format!("write {}", path.display());
    let unfinished = path.with_extension("new");
    let mut file = {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        let mut options = fs_err::OpenOptions::new();
        // For the owner alone: a configuration holds the variables of a program.
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&unfinished).cannot(action)?
    };
    std::io::Write::write_all(&mut file, bytes).cannot(action)?;
    drop(file);
    fs_err::rename(&unfinished, path).cannot(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back_as_it_was_written_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        State::Created.write(&path).unwrap();
        let process = Process { pid: 7, began: 42 };
        let started = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
        let running = Running { first: process, started, ports: Vec::new() };
        for state in [
            State::Running(running),
            State::Exited(Exited { code: 137, started, finished: started }),
        ] {
            state.write(&path).unwrap();
            assert_eq!(State::read(&path).unwrap(), state);
        }
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        fs_err::write(&path, "{").unwrap();
        assert_eq!(State::read(&path).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
