//! The timings page: what ran when, as one HTML file that needs nothing else.
//!
//! [`Timings`] reads along while the command runs. The page has no script and loads nothing: it
//! works from an archive of build results, without a network and under any content policy.

mod analysis;
mod page;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Clock;
use super::ledger::{Change, Ended, Ledger, Running};
use crate::disk::ResultFile;
use crate::error::{Cannot, Result};
use crate::progress::{Event, Outcome, Progress};

/// What the page says of the command as a whole.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The command line as it may be shown: no secrets.
    pub command: String,
    /// gondola's version.
    pub version: String,
    /// When the command began, in seconds since 1970, where that may be told.
    pub began: Option<i64>,
}

/// Reads events along and tells afterwards what ran when.
pub struct Timings {
    clock: Clock,
    state: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    ledger: Ledger,
    ended: Vec<Ended>,
    messages: Vec<Message>,
}

/// A note or a warning.
#[derive(Clone, Debug)]
struct Message {
    at: Duration,
    is_warning: bool,
    text: String,
}

/// How a task stood when the page was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Done,
    Skipped(&'static str),
    Failed,
    Stopped,
    Running,
}

/// One task on the page.
#[derive(Clone, Debug)]
struct Row {
    task: Running,
    ended: Duration,
    standing: Standing,
}

impl Row {
    fn time(&self) -> Duration {
        self.task.age(self.ended)
    }
}

impl Timings {
    /// Begins to read; times are told by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// The page as of now. Equal events at equal times give equal pages.
    pub fn page(&self, about: &About) -> String {
        let now = (self.clock)();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        page::render(about, &state.rows(now), &state.messages, now)
    }

    /// Writes the page to `path`: all of it, or nothing. A device or pipe is written in place.
    pub fn write(&self, about: &About, path: &Path) -> Result<()> {
        let page = self.page(about);
        let action = || format!("write {}", path.display());
        let file = ResultFile::open(path).cannot(action)?;
        file.finish(page.as_bytes()).cannot(action)
    }
}

impl Collected {
    /// The tasks in the order in which they began.
    fn rows(&self, now: Duration) -> Vec<Row> {
        let ended = self.ended.iter().map(|ended| {
            let standing = match ended.outcome {
                Outcome::Done => Standing::Done,
                Outcome::Skipped(why) => Standing::Skipped(why),
                Outcome::Failed => Standing::Failed,
                Outcome::Stopped => Standing::Stopped,
            };
            (ended.id, Row { task: ended.task.clone(), ended: ended.at, standing })
        });
        let running = self.ledger.running.iter().map(|(id, task)| {
            (*id, Row { task: task.clone(), ended: now, standing: Standing::Running })
        });
        let mut rows: Vec<_> = ended.chain(running).collect();
        rows.sort_by_key(|(id, row)| (row.task.began, *id));
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

impl Progress for Timings {
    fn event(&self, event: Event) {
        let now = (self.clock)();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ledger.take(event, now) {
            Change::Ended(ended) => state.ended.push(ended),
            Change::Explained(explanation) => {
                let text = format!("explain: {}", explanation.text());
                state.messages.push(Message { at: now, is_warning: false, text });
            }
            Change::Note(text) => {
                state.messages.push(Message { at: now, is_warning: false, text });
            }
            Change::Warning(text) => {
                state.messages.push(Message { at: now, is_warning: true, text });
            }
            Change::Started(_) | Change::Advanced(_) | Change::Line(..) | Change::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::HandClock;
    use super::*;
    use crate::progress::{Explanation, Origin, Reporter, TaskKind};
    use std::sync::Arc;

    fn about() -> About {
        About {
            command: "gondola build --push -t ghcr.io/acme/shop:v1 ./cmd/...".to_owned(),
            version: "0.1.0".to_owned(),
            began: Some(1_772_000_000),
        }
    }

    /// A build with everything that a page can show.
    fn sample() -> (HandClock, Arc<Timings>) {
        let hand = HandClock::default();
        let timings = Arc::new(Timings::new(hand.clock()));
        let reporter = Reporter::new(timings.clone());
        let at = |millis| hand.set_millis(millis);
        let start = |kind, name: &str, total| reporter.start(kind, name, total);
        let base = start(TaskKind::Resolve, "gcr.io/distroless/static", None);
        at(4);
        let auth = start(TaskKind::Resolve, "ghcr.io/acme/shop", None);
        at(9);
        let arm = start(TaskKind::Compile, "./cmd/shop linux/arm64", None);
        let amd = start(TaskKind::Compile, "./cmd/shop linux/amd64", None);
        at(180);
        auth.done();
        at(240);
        base.done();
        let download = start(TaskKind::Download, "sha256:4f1c9be7d2a0", Some(2_100_000));
        at(330);
        download.advance(1_000_000);
        at(480);
        download.advance(1_100_000);
        download.done();
        reporter.note("the base offers linux/amd64 and linux/arm64");
        at(1_900);
        amd.done();
        let layer = start(TaskKind::Layer, "./cmd/shop linux/amd64", Some(31_000_000));
        at(2_080);
        layer.advance(31_000_000);
        layer.done();
        let upload = start(TaskKind::Upload, "sha256:9a0b77cc1e52", Some(14_800_000));
        start(TaskKind::Upload, "sha256:4f1c9be7d2a0", Some(2_100_000)).skipped("mounted");
        at(2_200);
        upload.advance(9_000_000);
        at(2_650);
        arm.done();
        let layer = start(TaskKind::Layer, "./cmd/shop linux/arm64", Some(30_000_000));
        layer.advance(30_000_000);
        at(2_700);
        upload.advance(5_800_000);
        upload.done();
        at(2_810);
        layer.done();
        let upload = start(TaskKind::Upload, "sha256:d00dfeed0001", Some(14_100_000));
        at(2_900);
        upload.advance(14_100_000);
        at(3_300);
        upload.done();
        drop(start(TaskKind::Export, "oci:<out> & \"more\"", None));
        reporter.warn("the disk is nearly full");
        let manifest = start(TaskKind::Upload, "ghcr.io/acme/shop:v1", Some(1_200));
        at(3_380);
        manifest.advance(1_200);
        manifest.done();
        at(3_400);
        (hand, timings)
    }

    #[test]
    fn equal_events_give_equal_pages() {
        assert_eq!(sample().1.page(&about()), sample().1.page(&about()));
    }

    #[test]
    fn a_page_stands_alone_and_escapes_what_it_shows() {
        let page = sample().1.page(&About { command: "<script>".to_owned(), ..about() });
        for absent in ["<script", "src=", "href=", "url(", "@import", "<out>"] {
            assert!(!page.contains(absent), "{absent}");
        }
        for present in [
            "oci:&lt;out&gt; &amp; &quot;more&quot;",
            "&lt;script&gt;",
            "2026-02-25 06:13:20 UTC",
            "the disk is nearly full",
            "mounted",
            "3.4s",
            "14.8 MB",
        ] {
            assert!(page.contains(present), "{present}");
        }
    }

    #[test]
    fn a_page_says_why_a_step_was_executed() {
        let (_, timings) = sample();
        Reporter::new(timings.clone()).explain(Explanation {
            kind: TaskKind::Step,
            name: "[1/2] COPY <a> /".to_owned(),
            origin: Origin::Executed,
            why: vec!["a changed".to_owned(), "b was added".to_owned()],
        });
        let text = "explain: step [1/2] COPY &lt;a&gt; /: executed: a changed; b was added";
        let page = timings.page(&about());
        assert!(page.contains(text), "{page}");
    }

    #[test]
    fn a_page_without_tasks_is_a_page() {
        let page = Timings::new(HandClock::default().clock()).page(&About::default());
        assert!(page.contains("</html>") && !page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_running_task_is_shown_up_to_now() {
        let (hand, timings) = sample();
        let reporter = Reporter::new(timings.clone());
        let task = reporter.start(TaskKind::Export, "late", None);
        hand.set_millis(9_000);
        assert!(timings.page(&about()).contains("still running"));
        drop(task);
    }

    #[test]
    fn a_page_replaces_the_one_before_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timings.html");
        let timings = sample().1;
        timings.write(&about(), &path).unwrap();
        timings.write(&about(), &path).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), timings.page(&about()));
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        let error = timings.write(&about(), &folder.path().join("no/such/x.html")).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /"), "{error}");
    }
}
