//! One JSON object per line, for programs that watch.
//!
//! Every object has `event` and `time` (seconds since the start, to the millisecond). Fields that
//! do not apply are absent. The first object says the version of this form, which is 1: it goes up when a field or event goes
//! away or means something else. New fields and events may come without that: a reader passes over what it does not know.
//!
//! | event      | further fields |
//! |------------|----------------|
//! | `begun`    | `version` of this form; always the first |
//! | `started`  | `task` (a number), `kind` (`resolve`, `compile`, `step`, `layer`, `download`, `upload`, `export`), `name`, `total_bytes` where known |
//! | `advanced` | `task`, `bytes` so far; ten times a second and task at most |
//! | `line`     | `task`, `text`: what a task's program wrote |
//! | `finished` | `task`, `kind`, `name`, `outcome` (`done`, `skipped`, `failed`, `stopped`), `reason` of a skipped one, `bytes`, `seconds` |
//! | `explained` | with `--explain`: `version` of this event (1), `kind`, `name`, `origin` (`executed`, `store`, `registry`), `why` (a list; names and paths, and no values) |
//! | `note`     | `text` |
//! | `warning`  | `text` |
//! | `error`    | `kind` (`usage`, `not-found`, `denied`, `invalid`, `corrupt`, `changed`, `io`, `network`, `program`, `unsupported`, `interrupted`), `text`; comes last |

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Change, Ended, Ledger};
use super::{Clock, Lines, View};
use crate::error::{Error, ErrorKind};
use crate::progress::{Event, Outcome, Progress, TaskId};

/// The version of all events together.
const VERSION: u32 = 1;
/// The version of explanations: it goes up when a field means something else.
const EXPLANATIONS: u32 = 1;
const ADVANCED_EVERY: Duration = Duration::from_millis(100);

/// Shows each event as a JSON object on its own line.
pub struct Json {
    clock: Clock,
    out: Lines,
    state: Mutex<State>,
    begun: Once,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// When the last `advanced` of a task was written.
    told: BTreeMap<TaskId, Duration>,
}

#[derive(Default, Serialize)]
struct Record<'a> {
    event: &'a str,
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a [&'a str]>,
}

impl Json {
    /// Writes to `out`.
    pub fn new(clock: Clock, out: Lines) -> Self {
        Self { clock, out, state: Mutex::default(), begun: Once::new() }
    }

    fn put(&self, record: &Record<'_>) {
        // A command that has nothing to say says no version.
        self.begun.call_once(|| {
            let (event, version) = ("begun", Some(VERSION));
            self.write(&Record { event, time: record.time, version, ..Record::default() });
        });
        self.write(record);
    }

    fn write(&self, record: &Record<'_>) {
        let line = serde_json::to_string(record).expect("strings and finite numbers are JSON");
        self.out.put(&line);
    }
}

impl Progress for Json {
    fn event(&self, event: Event) {
        let now = (self.clock)();
        let time = seconds(now);
        // Held while writing: the lines of one task come in the order of its events.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { ledger, told } = &mut *state;
        match ledger.take(event, now) {
            Change::Started(id) => {
                let task = &ledger.running[&id];
                self.put(&Record {
                    event: "started",
                    time,
                    task: Some(id.0),
                    kind: Some(task.kind.as_str()),
                    name: Some(&task.name),
                    total_bytes: task.total_bytes,
                    ..Record::default()
                });
            }
            Change::Advanced(id) => {
                let due = told.get(&id).is_none_or(|last| now >= *last + ADVANCED_EVERY);
                if due {
                    told.insert(id, now);
                    let (task, bytes) = (Some(id.0), Some(ledger.running[&id].bytes));
                    self.put(&Record { event: "advanced", time, task, bytes, ..Record::default() });
                }
            }
            Change::Ended(ended) => {
                told.remove(&ended.id);
                self.put(&finished(&ended, time));
            }
            Change::Line(id, _, text) => {
                let (task, text) = (Some(id.0), Some(text.as_str()));
                self.put(&Record { event: "line", time, task, text, ..Record::default() });
            }
            Change::Explained(explanation) => {
                let why: Vec<&str> = explanation.why.iter().map(String::as_str).collect();
                self.put(&Record {
                    event: "explained",
                    time,
                    version: Some(EXPLANATIONS),
                    kind: Some(explanation.kind.as_str()),
                    name: Some(&explanation.name),
                    origin: Some(explanation.origin.as_str()),
                    why: Some(&why),
                    ..Record::default()
                });
            }
            Change::Note(text) => {
                self.put(&Record { event: "note", time, text: Some(&text), ..Record::default() });
            }
            Change::Warning(text) => {
                let text = Some(text.as_str());
                self.put(&Record { event: "warning", time, text, ..Record::default() });
            }
            Change::Nothing => {}
        }
    }
}

impl View for Json {
    fn fail(&self, error: &Error) {
        let text = error.to_string();
        self.put(&Record {
            event: "error",
            time: seconds((self.clock)()),
            kind: Some(kind_name(error.kind())),
            text: Some(&text),
            ..Record::default()
        });
    }
}

fn finished(ended: &Ended, time: f64) -> Record<'_> {
    let (outcome, reason) = match ended.outcome {
        Outcome::Done => ("done", None),
        Outcome::Skipped(why) => ("skipped", Some(why)),
        Outcome::Failed => ("failed", None),
        Outcome::Stopped => ("stopped", None),
    };
    Record {
        event: "finished",
        time,
        task: Some(ended.id.0),
        kind: Some(ended.task.kind.as_str()),
        name: Some(&ended.task.name),
        outcome: Some(outcome),
        reason,
        bytes: Some(ended.task.bytes),
        seconds: Some(seconds(ended.time())),
        ..Record::default()
    }
}

/// Seconds to the millisecond: more digits would only be noise in a log.
fn seconds(time: Duration) -> f64 {
    let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    f64::from(millis) / 1000.0
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "usage",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Denied => "denied",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Changed => "changed",
        ErrorKind::Io => "io",
        ErrorKind::Network => "network",
        ErrorKind::Program | ErrorKind::Exited(_) => "program",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Capture, HandClock};
    use super::*;
    use crate::progress::{Explanation, Origin, Reporter, TaskKind};
    use std::sync::Arc;

    #[test]
    fn each_event_is_one_object_on_one_line() {
        let (hand, capture) = (HandClock::default(), Capture::default());
        let json = Arc::new(Json::new(hand.clock(), capture.lines()));
        let reporter = Reporter::new(json.clone());
        let task = reporter.start(TaskKind::Download, "sha256:ab \"x\"\n", Some(300));
        hand.set_millis(10);
        task.advance(100);
        task.advance(50);
        hand.set_millis(110);
        task.advance(150);
        hand.set_millis(1250);
        task.done();
        reporter.start(TaskKind::Layer, "app", None).skipped("cached");
        drop(reporter.start(TaskKind::Compile, "./x", None));
        reporter.explain(Explanation {
            kind: TaskKind::Step,
            name: "[2/3] COPY a /".to_owned(),
            origin: Origin::Executed,
            why: vec!["a changed".to_owned()],
        });
        reporter.note("two\nlines");
        reporter.warn("low disk");
        json.fail(&Error::new(ErrorKind::NotFound, "find go").hint("install it"));
        let expect = r#"{"event":"begun","time":0.0,"version":1}
{"event":"started","time":0.0,"task":0,"kind":"download","name":"sha256:ab \"x\"\n","total_bytes":300}
{"event":"advanced","time":0.01,"task":0,"bytes":100}
{"event":"advanced","time":0.11,"task":0,"bytes":300}
{"event":"finished","time":1.25,"task":0,"kind":"download","name":"sha256:ab \"x\"\n","outcome":"done","bytes":300,"seconds":1.25}
{"event":"started","time":1.25,"task":1,"kind":"layer","name":"app"}
{"event":"finished","time":1.25,"task":1,"kind":"layer","name":"app","outcome":"skipped","reason":"cached","bytes":0,"seconds":0.0}
{"event":"started","time":1.25,"task":2,"kind":"compile","name":"./x"}
{"event":"finished","time":1.25,"task":2,"kind":"compile","name":"./x","outcome":"failed","bytes":0,"seconds":0.0}
{"event":"explained","time":1.25,"kind":"step","name":"[2/3] COPY a /","version":1,"origin":"executed","why":["a changed"]}
{"event":"note","time":1.25,"text":"two\nlines"}
{"event":"warning","time":1.25,"text":"low disk"}
{"event":"error","time":1.25,"kind":"not-found","text":"cannot find go; hint: install it"}
"#;
        assert_eq!(capture.text(), expect);
    }

    #[test]
    fn events_of_unknown_tasks_are_ignored() {
        let (hand, capture) = (HandClock::default(), Capture::default());
        let json = Json::new(hand.clock(), capture.lines());
        json.event(Event::Advanced { task: TaskId(7), bytes: 1 });
        json.event(Event::Finished { task: TaskId(7), outcome: Outcome::Done });
        assert_eq!(capture.text(), "");
    }
}
