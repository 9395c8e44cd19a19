//! One run of the `go` program.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::launch::{Call, Launch};
use crate::error::{Cannot, Result};
use crate::secret;

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

/// Runs `go` with exactly the environment of the call.
///
/// Lines that tell of progress, such as downloads, go to `progress` as they come. If the future is
/// dropped, `go` is ended.
pub(super) async fn run(
    launch: &dyn Launch,
    call: &Call<'_>,
    mut progress: impl FnMut(&str),
) -> Result<Output> {
    let action = || format!("run {} in {}", call.go.display(), call.dir.display());
    let running = launch.start(call)?;
    let read_stdout = async {
        let mut bytes = Vec::new();
        running.stdout.take(STDOUT_LIMIT).read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let read_stderr = async {
        let mut kept = String::new();
        let mut lines = BufReader::new(running.stderr).split(b'\n');
        while let Some(line) = lines.next_segment().await? {
            let line = secret::addresses(&String::from_utf8_lossy(&line));
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
    let failure = running.end.await.cannot(action)?;
    let mut stderr = stderr.trim_end().to_owned();
    if let Some(how) = &failure
        && stderr.is_empty()
    {
        stderr = format!("go ended with {how}");
    }
    Ok(Output { success: failure.is_none(), stdout, stderr })
}

/// Whether a line of the go command only says what it is doing.
fn is_progress(line: &str) -> bool {
    let verbs = ["downloading ", "finding ", "extracting ", "found "];
    line.strip_prefix("go: ").is_some_and(|rest| verbs.iter().any(|verb| rest.starts_with(verb)))
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
