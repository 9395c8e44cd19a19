//! The tasks that run at a moment, folded from events.

use std::collections::BTreeMap;
use std::time::Duration;

use super::human;
use crate::progress::{Event, Explanation, Outcome, TaskId, TaskKind};

/// A task that has begun. Times count from the start of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub kind: TaskKind,
    pub name: String,
    pub total_bytes: Option<u64>,
    pub bytes: u64,
    pub began: Duration,
    /// When the first bytes came.
    pub moved: Option<Duration>,
}

impl Running {
    /// How long the task runs already.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.began)
    }

    /// `compile ./cmd/app linux/amd64`, safe to show.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind.as_str(), human::line(&self.name))
    }

    /// What stands before a line of the task's program: `[build 2/5]`, or the whole title.
    fn label(&self) -> String {
        match self.name.split_once("] ") {
            Some((label, _)) if label.starts_with('[') => format!("{}]", human::line(label)),
            _ => self.title(),
        }
    }
}

/// A task that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub id: TaskId,
    pub task: Running,
    /// When it ended, from the start of the command.
    pub at: Duration,
    pub outcome: Outcome,
}

impl Ended {
    /// How long the task ran.
    pub fn time(&self) -> Duration {
        self.task.age(self.at)
    }
}

/// What an event means to a view.
pub(super) enum Change {
    Started(TaskId),
    Advanced(TaskId),
    Ended(Ended),
    /// A program of a task wrote a line: the task, what names it, and the line.
    Line(TaskId, String, String),
    Explained(Explanation),
    Note(String),
    Warning(String),
    /// An event of a task that never started or ended already.
    Nothing,
}

/// The running tasks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub running: BTreeMap<TaskId, Running>,
}

impl Ledger {
    /// Takes one event that happened at `now`.
    pub fn take(&mut self, event: Event, now: Duration) -> Change {
        match event {
            Event::Started { task, kind, name, total_bytes } => {
                let running =
                    Running { kind, name, total_bytes, bytes: 0, began: now, moved: None };
                self.running.insert(task, running);
                Change::Started(task)
            }
            Event::Advanced { task, bytes } => match self.running.get_mut(&task) {
                Some(running) => {
                    running.bytes = running.bytes.saturating_add(bytes);
                    running.moved.get_or_insert(now);
                    Change::Advanced(task)
                }
                None => Change::Nothing,
            },
            Event::Line { task, text } => match self.running.get(&task) {
                Some(running) => Change::Line(task, running.label(), text),
                None => Change::Nothing,
            },
            Event::Finished { task: id, outcome } => match self.running.remove(&id) {
                Some(task) => Change::Ended(Ended { id, task, at: now, outcome }),
                None => Change::Nothing,
            },
            Event::Explained(explanation) => Change::Explained(explanation),
            Event::Note(text) => Change::Note(text),
            Event::Warning(text) => Change::Warning(text),
            Event::TerminalGiven => Change::Nothing,
        }
    }
}
