//! One run of the `go` program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::error::{Cannot, Error, ErrorKind, Result};

/// `go list -deps` of the largest programs prints some tens of megabytes.
const STDOUT_LIMIT: u64 = 1 << 30;

/// Of the complaints of a broken build, the first ones matter.
const STDERR_LIMIT: usize = 256 * 1024;

/// What `go` printed, and whether it was content.
pub(super) struct Output {
    pub success: bool,
    pub stdout: Vec<u8>,
    /// Without the lines that tell of progress.
    pub stderr: String,
}

/// Runs `go` in a folder with exactly the given environment.
///
/// Lines that tell of progress, such as downloads, go to `progress` as they come. If the future is
/// dropped, `go` is interrupted and removes its temporary files.
pub(super) async fn run(
    go: &Path,
    dir: &Path,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
    mut progress: impl FnMut(&str),
) -> Result<Output> {
    let action = || format!("run {} in {}", go.display(), dir.display());
    let mut command = Command::new(go);
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(environment)
        // Paths come back in terms of this folder even where it is behind a symbolic link.
        .env("PWD", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Interrupting(command.spawn().map_err(|error| cannot_start(go, dir, error))?);
    let stdout = child.0.stdout.take().expect("stdout is piped");
    let stderr = child.0.stderr.take().expect("stderr is piped");
    let read_stdout = async {
        let mut bytes = Vec::new();
        stdout.take(STDOUT_LIMIT).read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let read_stderr = async {
        let mut kept = String::new();
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Some(line) = lines.next_segment().await? {
            let line = String::from_utf8_lossy(&line);
            if is_progress(&line) {
                progress(line.trim_end());
            } else if kept.len() + line.len() < STDERR_LIMIT {
                kept.push_str(line.trim_end());
                kept.push('\n');
            }
        }
        Ok(kept)
    };
    let (stdout, stderr) = tokio::try_join!(read_stdout, read_stderr).cannot(action)?;
    let status = child.0.wait().await.cannot(action)?;
    let mut stderr = stderr.trim_end().to_owned();
    if !status.success() && stderr.is_empty() {
        stderr = format!("go ended with {status}");
    }
    Ok(Output { success: status.success(), stdout, stderr })
}

fn cannot_start(go: &Path, dir: &Path, error: std::io::Error) -> Error {
    let action = format!("run {} in {}", go.display(), dir.display());
    if dir.is_dir() {
        return Error::new(ErrorKind::Io, action).caused_by(error);
    }
    Error::new(ErrorKind::NotFound, action).because("there is no such folder")
}

/// Whether a line of the go command only says what it is doing.
fn is_progress(line: &str) -> bool {
    let verbs = ["downloading ", "finding ", "extracting ", "found "];
    line.strip_prefix("go: ").is_some_and(|rest| verbs.iter().any(|verb| rest.starts_with(verb)))
}

/// A child that is interrupted when it is dropped before its end.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_are_progress_and_complaints_are_not() {
        assert!(is_progress("go: downloading example.com/x v1.0.0"));
        assert!(!is_progress("go: example.com/x@v1.0.0: not found"));
        assert!(!is_progress("./main.go:3:2: undefined: x"));
    }
}
