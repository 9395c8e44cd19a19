//! Runs a process to its end, and passes on what it writes.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::thread;

use super::Chosen;
use crate::engine::Run;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::sandbox::{Child, Exit, Spec, Streams};

/// How many of its last lines a failed command is quoted with.
const QUOTED_LINES: usize = 20;
/// A line that never ends is cut here.
const LONGEST_LINE: u64 = 64 << 10;

/// A process that came to its end.
pub(super) struct Ended {
    pub child: Child,
    pub exit: Exit,
    /// The last lines that it wrote.
    pub last: VecDeque<String>,
}

/// Runs a process to its end, or until the run ends; passes on each line that it writes.
pub(super) fn attend(
    chosen: &Chosen,
    spec: &Spec,
    run: &Run,
    say: impl FnMut(&str) + Send + 'static,
) -> Result<Ended> {
    let action = || "run a step";
    // One pipe for both, so that what is written stays in its order.
    let (end, output) = std::io::pipe().cannot(action)?;
    let error = output.try_clone().cannot(action)?;
    let null = Streams::null()?;
    let streams = Streams { input: null.input, output: output.into(), error: error.into() };
    let mut child = chosen.launcher.spawn(spec, chosen.isolation, streams)?;
    let signaller = child.signaller();
    run.cancel.on_cancel(move || signaller.signal(libc::SIGKILL));
    let reader = thread::Builder::new().spawn(move || tell(end, say)).cannot(action)?;
    let exit = child.wait()?;
    let last = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    run.cancel.check()?;
    Ok(Ended { child, exit, last })
}

/// How a program failed.
pub(super) fn failure(program: &str, exit: &Exit, last: &VecDeque<String>) -> Error {
    let how = match exit {
        Exit::Code(code) => format!("it ended with exit code {code}"),
        Exit::Signal(number) => format!("it was killed by signal {number}"),
        Exit::NotFound(what) => what.clone(),
        Exit::NotExecutable(why) => format!("it cannot be executed: {why}"),
        Exit::TimedOut => "its time was over".to_owned(),
    };
    let action = match exit {
        Exit::NotFound(_) | Exit::NotExecutable(_) => format!("run {program}"),
        _ => "execute the step".to_owned(),
    };
    let lines: Vec<&str> = last.iter().map(String::as_str).collect();
    let quoted = if lines.is_empty() {
        how
    } else {
        format!("{how}, and said last:\n  {}", lines.join("\n  "))
    };
    let kind = match exit {
        Exit::Code(code) => ErrorKind::Exited(*code),
        _ => ErrorKind::Program,
    };
    Error::new(kind, action).because(quoted)
}

/// Passes on what a command writes, line by line; gives the last lines.
fn tell(stream: impl Read, mut say: impl FnMut(&str)) -> VecDeque<String> {
    let mut reader = BufReader::new(stream);
    let mut last = VecDeque::new();
    loop {
        let mut line = Vec::new();
        // What cannot be read any more has ended.
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if !read.is_ok_and(|count| count > 0) {
            return last;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        // A progress bar redraws its line: only what it shows last is told.
        let text = text.rsplit('\r').next().unwrap_or_default().to_owned();
        say(&text);
        if last.len() == QUOTED_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}
