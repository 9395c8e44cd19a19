//! Lines for logs, without escape codes.
//!
//! ```text
//! [1.2s] compile ./cmd/app linux/amd64: done in 1.2s
//! [1.3s] upload sha256:4f1c…: done in 0.4s, 12.3 MB, 30.8 MB/s
//! [1.3s] layer app: skipped, cached
//! [5.0s] download golang:1.27: running for 5.0s, 40.1 MB of 254 MB
//! [6.1s] compile ./cmd/bad linux/amd64: failed after 0.2s
//! explain: step [2/3] COPY a /: executed: a changed
//! note: …
//! warning: …
//! error: cannot …
//! ```
//!
//! The time in brackets counts from the start. A task that ends soon gets one line; one that takes
//! long gets a line after 5 seconds and then every 30, so that a log shows what it waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ledger::{Change, Ended, Ledger};
use super::{Clock, Lines, View, human};
use crate::error::Error;
use crate::progress::{Event, Outcome, Progress, TaskId};

const FIRST_SIGN: Duration = Duration::from_secs(5);
const NEXT_SIGN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shows one line per finished task, and a sign of life of long ones.
pub struct Plain {
    shared: Arc<Shared>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    clock: Clock,
    /// When the command began, where lines carry the time of the day.
    began: Option<jiff::Timestamp>,
    out: Lines,
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// When a task's next sign of life is due.
    due: BTreeMap<TaskId, Duration>,
    closed: bool,
}

impl Plain {
    /// Writes to `out`.
    pub fn new(clock: Clock, out: Lines) -> Self {
        Self::with(clock, None, out)
    }

    /// The same with the date and the time of the day in each line; the command began then.
    pub fn dated(clock: Clock, began: jiff::Timestamp, out: Lines) -> Self {
        Self::with(clock, Some(began), out)
    }

    fn with(clock: Clock, began: Option<jiff::Timestamp>, out: Lines) -> Self {
        let (state, closed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { clock, began, out, state, closed });
        let inner = Arc::clone(&shared);
        // Without a thread there are no signs of life, and nothing else is lost.
        let watcher = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || inner.watch())
            .ok();
        Self { shared, watcher: Mutex::new(watcher) }
    }
}

impl Shared {
    /// What stands in front of a line.
    fn stamp(&self, now: Duration) -> String {
        match self.began.map(|began| began.saturating_add(now)) {
            Some(Ok(time)) => format!("{time:.0} "),
            Some(Err(_)) | None => stamp(now),
        }
    }

    /// Writes a line with its time.
    fn put(&self, now: Duration, line: &str) {
        self.out.put(&format!("{}{line}", self.stamp(now)));
    }

    /// Writes a line that has none where times count from the start.
    fn say(&self, now: Duration, line: &str) {
        match self.began {
            Some(_) => self.put(now, line),
            None => self.out.put(line),
        }
    }

    fn watch(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed {
            let waited = self.closed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let now = (self.clock)();
            for line in state.signs_of_life(now) {
                self.put(now, &line);
            }
        }
    }
}

impl State {
    /// The lines about tasks that run for long; each becomes due again later.
    fn signs_of_life(&mut self, now: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, due) in &mut self.due {
            if now < *due {
                continue;
            }
            *due = now + NEXT_SIGN;
            let task = &self.ledger.running[id];
            let age = human::duration(task.age(now));
            let bytes = match (task.bytes, task.total_bytes) {
                (0, _) => String::new(),
                (some, None) => format!(", {}", human::bytes(some)),
                (some, Some(all)) => format!(", {} of {}", human::bytes(some), human::bytes(all)),
            };
            lines.push(format!("{}: running for {age}{bytes}", task.title()));
        }
        lines
    }
}

impl Progress for Plain {
    fn event(&self, event: Event) {
        let now = (self.shared.clock)();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ledger.take(event, now) {
            Change::Started(id) => {
                state.due.insert(id, now + FIRST_SIGN);
            }
            Change::Ended(ended) => {
                state.due.remove(&ended.id);
                self.shared.put(now, &ended_line(&ended));
            }
            Change::Line(_, label, text) => {
                self.shared.put(now, &format!("{label} {}", human::line(&text)));
            }
            Change::Explained(explanation) => {
                let text = explanation.text();
                self.shared.say(now, &format!("explain: {}", human::line(&text)));
            }
            Change::Note(text) => {
                self.shared.say(now, &format!("note: {}", human::block(&text)));
            }
            Change::Warning(text) => {
                self.shared.say(now, &format!("warning: {}", human::block(&text)));
            }
            Change::Advanced(_) | Change::Nothing => {}
        }
    }
}

impl View for Plain {
    fn fail(&self, error: &Error) {
        self.close();
        let now = (self.shared.clock)();
        self.shared.say(now, &format!("error: {}", human::block(&error.to_string())));
    }

    fn close(&self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.closed.notify_all();
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            // A watcher that panicked has nothing more to say.
            let _ = watcher.join();
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.close();
    }
}

fn stamp(now: Duration) -> String {
    format!("[{}] ", human::duration(now))
}

fn ended_line(ended: &Ended) -> String {
    let title = ended.task.title();
    let time = human::duration(ended.time());
    match ended.outcome {
        Outcome::Done => format!("{title}: done in {time}{}", size_and_rate(ended)),
        Outcome::Skipped(why) => format!("{title}: skipped, {why}"),
        Outcome::Failed => format!("{title}: failed after {time}"),
        Outcome::Stopped => format!("{title}: stopped after {time}"),
    }
}

/// `, 12.3 MB, 30.8 MB/s` of a task that handled bytes.
pub(super) fn size_and_rate(ended: &Ended) -> String {
    match (ended.task.bytes, human::rate(ended.task.bytes, ended.time())) {
        (0, _) => String::new(),
        (some, None) => format!(", {}", human::bytes(some)),
        (some, Some(rate)) => format!(", {}, {rate}", human::bytes(some)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Capture, HandClock};
    use super::*;
    use crate::error::ErrorKind;
    use crate::progress::{Reporter, TaskKind};

    #[test]
    fn a_finished_task_is_one_line_with_time_and_bytes() {
        let (hand, capture) = (HandClock::default(), Capture::default());
        let plain = Arc::new(Plain::new(hand.clock(), capture.lines()));
        let reporter = Reporter::new(plain.clone());
        let compile = reporter.start(TaskKind::Compile, "./cmd/app linux/amd64", None);
        hand.set_millis(1200);
        compile.done();
        let upload = reporter.start(TaskKind::Upload, "sha256:4f1c", Some(12_300_000));
        upload.advance(12_300_000);
        hand.set_millis(1600);
        upload.done();
        reporter.start(TaskKind::Layer, "app", None).skipped("cached");
        drop(reporter.start(TaskKind::Compile, "\u{1b}[31mbad", None));
        reporter.note("read\nme\n");
        reporter.warn("low disk");
        plain.fail(&Error::new(ErrorKind::NotFound, "find go"));
        let expect = "\
[1.2s] compile ./cmd/app linux/amd64: done in 1.2s
[1.6s] upload sha256:4f1c: done in 400ms, 12.3 MB, 30.8 MB/s
[1.6s] layer app: skipped, cached
[1.6s] compile \u{fffd}[31mbad: failed after 0ms
note: read\nme
warning: low disk
error: cannot find go
";
        assert_eq!(capture.text(), expect);
    }

    #[test]
    fn a_long_task_gives_a_sign_of_life_after_five_seconds_and_then_each_thirty() {
        let mut state = State::default();
        let started = Event::Started {
            task: TaskId(1),
            kind: TaskKind::Download,
            name: "golang".to_owned(),
            total_bytes: Some(254_000_000),
        };
        state.ledger.take(started, Duration::ZERO);
        state.ledger.take(Event::Advanced { task: TaskId(1), bytes: 40_100_000 }, Duration::ZERO);
        state.due.insert(TaskId(1), FIRST_SIGN);
        let mut at = |seconds| state.signs_of_life(Duration::from_secs(seconds));
        assert_eq!(at(4), [""; 0]);
        assert_eq!(at(5), ["download golang: running for 5.0s, 40.1 MB of 254 MB"]);
        assert_eq!(at(34), [""; 0]);
        assert_eq!(at(36).len(), 1);
    }
}
