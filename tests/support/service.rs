//! A server program that runs for as long as a test needs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::need::{Missing, Need};

const START: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_secs(15);

/// A running program; everything that it prints is kept. It ends when this is dropped.
pub struct Service {
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    text: Mutex<Printed>,
    changed: Condvar,
}

#[derive(Default)]
struct Printed {
    text: String,
    ended: bool,
}

impl Service {
    /// Starts a program and waits until `ready` finds what it looks for in the output.
    pub fn start<T>(mut command: Command, ready: impl Fn(&str) -> Option<T>) -> Need<(Self, T)> {
        // One pipe for both keeps what is printed in its order.
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .map_err(|error| Missing::because(format!("{name} does not start: {error}")))?;
        // The pipe ends with the program only where nobody else holds its other end.
        drop(command);
        let output = Arc::new(Output::default());
        keep(reader, &output);
        let service = Self { child, output };
        match service.wait(START, ready) {
            Some(found) => Ok((service, found)),
            None => Err(Missing::because(format!(
                "{name} does not start:\n{}",
                last_lines(&service.printed(), 12)
            ))),
        }
    }

    /// Everything printed until now.
    pub fn printed(&self) -> String {
        self.output.text.lock().unwrap().text.clone()
    }

    /// Waits until `look` finds something in the output; `None` when the program ended before.
    pub fn wait<T>(&self, limit: Duration, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut printed = self.output.text.lock().unwrap();
        loop {
            if let Some(found) = look(&printed.text) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if printed.ended || left.is_zero() {
                return None;
            }
            printed = self.output.changed.wait_timeout(printed, left).unwrap().0;
        }
    }

    /// Ends the program as `kill` does and waits for its end; one that lingers is killed.
    fn stop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let end = Instant::now() + STOP;
        let _ = kill_process(pid, Signal::TERM);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Copies what the program prints into its output, line by line, on a thread of its own.
fn keep(stream: impl Read + Send + 'static, output: &Arc<Output>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            output.text.lock().unwrap().text.push_str(&String::from_utf8_lossy(&line));
            output.changed.notify_all();
            line.clear();
        }
        output.text.lock().unwrap().ended = true;
        output.changed.notify_all();
    });
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
