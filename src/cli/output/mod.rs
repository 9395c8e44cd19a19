//! Readers of progress events: what a running command shows on standard error.
//!
//! | mode  | reader    | for                                             |
//! |-------|-----------|-------------------------------------------------|
//! | tty   | [`Bars`]  | people: running tasks move, finished ones stay  |
//! | plain | [`Plain`] | logs: stable lines with times, no escape codes  |
//! | json  | [`Json`]  | programs: one object per line                   |
//! | quiet | [`Quiet`] | scripts: errors and warnings only               |
//!
//! [`Timings`] reads along and writes a page afterwards; [`Fanout`] joins several readers. Nothing
//! here writes to standard output, which belongs to the result alone. A standard error that is
//! closed never fails a build: what cannot be shown is dropped.

mod bars;
pub mod human;
pub mod json;
mod ledger;
mod plain;
pub mod plan;
mod quiet;
mod timings;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;

pub use self::bars::Bars;
pub use self::json::Json;
pub use self::plain::Plain;
pub use self::quiet::Quiet;
pub use self::timings::{About, Timings};
use super::environment;
use crate::disk::stream::Stderr;
use crate::error::Error;
use crate::progress::{Event, Progress};

/// How progress is shown: the values of `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere and in continuous integration.
    #[default]
    Auto,
    /// Bars and spinners that move.
    Tty,
    /// One line per finished task, with times and sizes.
    Plain,
    /// The same with the date and the time of the day in each line, as kaniko writes it.
    #[value(skip)]
    Dated,
    /// One JSON object per event and line.
    Json,
    /// Warnings and errors only.
    Quiet,
}

impl ProgressMode {
    /// Decides what `Auto` means here. Bars need a terminal that can move its cursor: without one
    /// `Tty` becomes `Plain` too.
    #[must_use]
    pub fn decide(self, stderr_is_terminal: bool, env: &BTreeMap<String, String>) -> Self {
        let can_move = stderr_is_terminal && env.get("TERM").is_some_and(|term| term != "dumb");
        let in_ci =
            env.get("CI").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        match self {
            Self::Auto if can_move && !in_ci => Self::Tty,
            Self::Tty if can_move => Self::Tty,
            Self::Auto | Self::Tty => Self::Plain,
            other => other,
        }
    }
}

/// A reader that shows what it reads.
pub trait View: Progress {
    /// Shows why the command failed. Comes last.
    fn fail(&self, error: &Error);

    /// Takes away whatever moves, so that others can write to the terminal. Later events are
    /// shown as lines. Called on Ctrl-C and before other output; more than once is fine.
    fn close(&self) {}
}

/// Time since the command began.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A clock that starts now.
pub fn clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

/// The view for `mode` on this process's standard error.
pub fn view(
    mode: ProgressMode,
    stderr_is_terminal: bool,
    env: &BTreeMap<String, String>,
    clock: Clock,
) -> Arc<dyn View> {
    let out = Lines::new(Stderr);
    match mode.decide(stderr_is_terminal, env) {
        ProgressMode::Tty => Arc::new(Bars::on_stderr(Paint::from_env(env), clock, out)),
        ProgressMode::Json => Arc::new(Json::new(clock, out)),
        ProgressMode::Quiet => Arc::new(Quiet::new(out)),
        ProgressMode::Auto | ProgressMode::Plain => Arc::new(Plain::new(clock, out)),
        ProgressMode::Dated => Arc::new(Plain::dated(clock, environment::clock(), out)),
    }
}

/// Several readers as one; each gets every event, in the order given here.
#[derive(Clone, Default)]
pub struct Fanout(Vec<Arc<dyn Progress>>);

impl Fanout {
    /// Joins `readers`.
    pub fn new(readers: Vec<Arc<dyn Progress>>) -> Self {
        Self(readers)
    }
}

impl Progress for Fanout {
    fn event(&self, event: Event) {
        if let Some((last, others)) = self.0.split_last() {
            for reader in others {
                reader.event(event.clone());
            }
            last.event(event);
        }
    }
}

/// Where lines go: each arrives whole, whatever the number of threads.
pub struct Lines(Mutex<Box<dyn Write + Send>>);

impl Lines {
    /// Writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(out)))
    }

    /// Writes one line, or a block of them.
    fn put(&self, text: &str) {
        let mut line = String::with_capacity(text.len() + 1);
        line.push_str(text);
        line.push('\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that went away must not fail the build.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// With escape codes.
    Color,
    /// Without.
    Plain,
}

/// What a colour says.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Caution,
    Moving,
    Dim,
}

impl Paint {
    /// Follows [`NO_COLOR`](https://no-color.org): set and not empty means no colour.
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        if env.get("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            Self::Plain
        } else {
            Self::Color
        }
    }

    fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Caution => "33",
            Tone::Moving => "36",
            Tone::Dim => "2",
        };
        match self {
            Self::Color => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that a test sets by hand.
    #[derive(Clone, Default)]
    pub(super) struct HandClock(Arc<AtomicU64>);

    impl HandClock {
        pub(super) fn set_millis(&self, millis: u64) {
            self.0.store(millis, Ordering::SeqCst);
        }

        pub(super) fn clock(&self) -> Clock {
            let millis = Arc::clone(&self.0);
            Arc::new(move || Duration::from_millis(millis.load(Ordering::SeqCst)))
        }
    }

    /// A writer whose text a test reads back.
    #[derive(Clone, Default)]
    pub(super) struct Capture(Arc<Mutex<Vec<u8>>>);

    impl Capture {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        pub(super) fn lines(&self) -> Lines {
            Lines::new(self.clone())
        }
    }

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn bars_need_a_terminal_that_can_move_its_cursor_and_people_who_watch() {
        use ProgressMode::{Auto, Json, Plain, Quiet, Tty};
        for (mode, terminal, pairs, expect) in [
            (Auto, true, &[("TERM", "xterm")][..], Tty),
            (Auto, true, &[], Plain),
            (Auto, false, &[], Plain),
            (Auto, true, &[("TERM", "xterm"), ("CI", "true")], Plain),
            (Auto, true, &[("TERM", "xterm"), ("CI", "false")], Tty),
            (Auto, true, &[("TERM", "dumb")], Plain),
            (Tty, true, &[("TERM", "xterm"), ("CI", "true")], Tty),
            (Tty, false, &[], Plain),
            (Tty, true, &[("TERM", "dumb")], Plain),
            (Plain, true, &[], Plain),
            (Json, true, &[], Json),
            (Quiet, false, &[], Quiet),
        ] {
            assert_eq!(mode.decide(terminal, &env(pairs)), expect, "{mode:?} {terminal} {pairs:?}");
        }
    }

    #[test]
    fn no_color_counts_only_when_it_is_not_empty() {
        assert_eq!(Paint::from_env(&env(&[])), Paint::Color);
        assert_eq!(Paint::from_env(&env(&[("NO_COLOR", "")])), Paint::Color);
        assert_eq!(Paint::from_env(&env(&[("NO_COLOR", "1")])), Paint::Plain);
    }

    #[test]
    fn every_reader_of_a_fanout_gets_every_event() {
        let (one, two) = (Capture::default(), Capture::default());
        let hand = HandClock::default();
        let fanout = Fanout::new(vec![
            Arc::new(Plain::new(hand.clock(), one.lines())),
            Arc::new(Quiet::new(two.lines())),
        ]);
        fanout.event(Event::Warning("low disk".to_owned()));
        assert_eq!(one.text(), "warning: low disk\n");
        assert_eq!(two.text(), "warning: low disk\n");
    }

    #[test]
    fn a_closed_standard_error_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        Quiet::new(Lines::new(Closed)).event(Event::Warning("nobody listens".to_owned()));
    }
}
