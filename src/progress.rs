//! What a running job tells its watcher: a closed set of events, and the handle that emits them.
//!
//! The library draws nothing. The terminal, plain and JSON views and the timings page are
//! readers of [`Event`], and live in `cli`.

mod differences;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use self::differences::{Nearness, changes, nearest};
use crate::secret;

/// Names one task among all tasks of a [`Reporter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// What kind of work a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    /// Finding out what a name stands for: a base image, a tag, a set of packages.
    Resolve,
    /// A compiler at work.
    Compile,
    /// A step of a Dockerfile.
    Step,
    /// Making a layer: archiving, compressing, hashing.
    Layer,
    /// A blob or document coming from a registry.
    Download,
    /// A blob or document going to a registry.
    Upload,
    /// Writing an archive or layout, or feeding another engine's `load`.
    Export,
}

impl TaskKind {
    /// The name used in plain and JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Compile => "compile",
            Self::Step => "step",
            Self::Layer => "layer",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Export => "export",
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The work was done.
    Done,
    /// The work was not needed; says why, such as `cached`, `exists` or `mounted`.
    Skipped(&'static str),
    /// The task was dropped before it was finished.
    Failed,
    /// The work was given up, because nobody needs it any more: something else failed.
    Stopped,
}

/// How something that a build needs came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was made just now.
    Executed,
    /// It was found in the store.
    Store,
    /// It was found in a registry.
    Registry,
}

impl Origin {
    /// The name used in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Store => "store",
            Self::Registry => "registry",
        }
    }
}

/// How something came to be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What kind of work it is.
    pub kind: TaskKind,
    /// What it is about. Of what is compiled together each has its own.
    pub name: String,
    /// How it came to be.
    pub origin: Origin,
    /// Why, where there is more to say. Names and paths, and no values.
    pub why: Vec<String>,
}

impl Explanation {
    /// As people read it, in one line.
    pub fn text(&self) -> String {
        let came = match self.origin {
            Origin::Executed => "executed",
            Origin::Store => "found in the store",
            Origin::Registry => "found in the registry",
        };
        let what = format!("{} {}: {came}", self.kind.as_str(), self.name);
        if self.why.is_empty() { what } else { format!("{what}: {}", self.why.join("; ")) }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task began.
    Started {
        /// The task that the later events of this work name.
        task: TaskId,
        /// What kind of work it is.
        kind: TaskKind,
        /// What it works on, for people.
        name: String,
        /// The bytes it will handle, where known.
        total_bytes: Option<u64>,
    },
    /// A task handled more bytes; a negative count is never sent.
    Advanced {
        /// The task.
        task: TaskId,
        /// Bytes since the last event of this task.
        bytes: u64,
    },
    /// A program that a task runs wrote a line.
    Line {
        /// The task.
        task: TaskId,
        /// The line, without its end.
        text: String,
    },
    /// A task ended.
    Finished {
        /// The task.
        task: TaskId,
        /// How it ended.
        outcome: Outcome,
    },
    /// How something came to be, where that was asked for.
    Explained(Explanation),
    /// Something to read that belongs to no task.
    Note(String),
    /// Something is not as it should be, and the work goes on.
    Warning(String),
    /// Somebody else writes to the terminal from now on: what moves there goes away.
    TerminalGiven,
}

/// A reader of events. Called from many threads; it must not block for long.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// A reader that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}

/// The handle through which work reports. Clones report to the same reader.
#[derive(Clone)]
pub struct Reporter {
    reader: Arc<dyn Progress>,
    next: Arc<AtomicU64>,
}

impl Reporter {
    /// Makes a handle that reports to `reader`.
    pub fn new(reader: Arc<dyn Progress>) -> Self {
        Self { reader, next: Arc::default() }
    }

    /// Makes a handle whose events go nowhere.
    pub fn silent() -> Self {
        Self::new(Arc::new(Silent))
    }

    /// Starts a task; dropping the returned [`Task`] unfinished reports it as failed.
    pub fn start(&self, kind: TaskKind, name: impl Into<String>, total_bytes: Option<u64>) -> Task {
        let task = TaskId(self.next.fetch_add(1, Ordering::Relaxed));
        self.reader.event(Event::Started { task, kind, name: name.into(), total_bytes });
        Task { reporter: self.clone(), id: task, open: true, stopped: AtomicBool::new(false) }
    }

    /// Reports how something came to be.
    pub fn explain(&self, explanation: Explanation) {
        self.reader.event(Event::Explained(explanation));
    }

    /// Reports something to read.
    pub fn note(&self, text: impl Into<String>) {
        self.reader.event(Event::Note(secret::users(&text.into()).into_owned()));
    }

    /// Reports something that is not as it should be.
    pub fn warn(&self, text: impl Into<String>) {
        self.reader.event(Event::Warning(secret::users(&text.into()).into_owned()));
    }

    /// Gives the terminal to somebody else.
    pub fn give_terminal(&self) {
        self.reader.event(Event::TerminalGiven);
    }
}

/// A running piece of work.
pub struct Task {
    reporter: Reporter,
    id: TaskId,
    open: bool,
    stopped: AtomicBool,
}

impl Task {
    /// Reports that `bytes` more were handled.
    pub fn advance(&self, bytes: u64) {
        self.reporter.reader.event(Event::Advanced { task: self.id, bytes });
    }

    /// Passes on a line that the task's program wrote.
    pub fn line(&self, text: &str) {
        self.reporter.reader.event(Event::Line { task: self.id, text: text.to_owned() });
    }

    /// Takes note that the work is given up: unless it is finished nevertheless, the task ends as
    /// stopped, and not as failed.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Ends the task: the work was done.
    pub fn done(self) {
        self.finish(Outcome::Done);
    }

    /// Ends the task: the work was not needed, for the reason given.
    pub fn skipped(self, why: &'static str) {
        self.finish(Outcome::Skipped(why));
    }

    fn finish(mut self, outcome: Outcome) {
        self.open = false;
        self.reporter.reader.event(Event::Finished { task: self.id, outcome });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.open {
            let stopped = self.stopped.load(Ordering::Relaxed);
            let outcome = if stopped { Outcome::Stopped } else { Outcome::Failed };
            self.reporter.reader.event(Event::Finished { task: self.id, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<Event>>);

    impl Progress for Recorder {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn a_dropped_task_is_reported_as_failed_and_a_finished_one_is_not() {
        let recorder = Arc::new(Recorder::default());
        let reporter = Reporter::new(recorder.clone());
        drop(reporter.start(TaskKind::Layer, "app", None));
        reporter.start(TaskKind::Layer, "lib", None).skipped("cached");
        let events = recorder.0.lock().unwrap();
        assert_eq!(events[1], Event::Finished { task: TaskId(0), outcome: Outcome::Failed });
        let cached = Outcome::Skipped("cached");
        assert_eq!(events[3], Event::Finished { task: TaskId(1), outcome: cached });
        assert_eq!(events.len(), 4);
    }
}
