//! Bars and spinners on a terminal: running tasks at the bottom, finished ones above them.
//!
//! ```text
//! ✓ compile ./cmd/app linux/amd64 1.2s
//! - upload sha256:4f1c exists
//! ⠹ upload   sha256:9a0b                    ━━━━━━━━╸─────────  12.3/40.1 MB  30.8 MB/s
//! ⠹ compile  ./cmd/app linux/arm64                                                2.1s
//!   and 7 more
//! ```
//!
//! Events only note what happened; one thread draws, ten times a second, so that work never waits
//! for a terminal. The cursor is never hidden, and after [`View::close`] it stands on an empty line
//! below what stays.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ledger::{Change, Ended, Ledger, Running};
use super::plain::size_and_rate;
use super::{Clock, Lines, Paint, Tone, View, human};
use crate::error::Error;
use crate::progress::{Event, Outcome, Progress};

const FRAME: Duration = Duration::from_millis(100);
/// Tasks that end sooner are never drawn as running: they would only flicker.
const WORTH_DRAWING: Duration = Duration::from_millis(150);
const MOST_TASKS: usize = 12;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// Narrower terminals get no bar, and the narrowest no numbers.
const WIDTH_FOR_BAR: usize = 72;
const WIDTH_FOR_NUMBERS: usize = 40;

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines on the screen.
    pub rows: usize,
}

/// Shows running tasks in place and finished ones as lines that stay.
pub struct Bars {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    clock: Clock,
    paint: Paint,
    size: Box<dyn Fn() -> Size + Send + Sync>,
    /// Where lines go once the bars are gone.
    out: Lines,
    state: Mutex<State>,
    closed: Condvar,
}

struct State {
    ledger: Ledger,
    /// Holds all moving lines as one message; it takes care of the cursor.
    area: ProgressBar,
    /// Lines that stay and wait for the next frame.
    waiting: Vec<String>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The drawer draws.
    Open,
    /// The drawer ends; what is left is drawn once more.
    Closing,
    /// Nothing moves, and lines go out at once.
    Closed,
}

impl Bars {
    /// Draws on this process's standard error; `out` gets what comes after [`View::close`].
    pub fn on_stderr(paint: Paint, clock: Clock, out: Lines) -> Self {
        Self::new(ProgressDrawTarget::stderr(), Box::new(stderr_size), paint, clock, out)
    }

    /// Draws on `target`, whose size `size` tells before each frame.
    pub fn new(
        target: ProgressDrawTarget,
        size: Box<dyn Fn() -> Size + Send + Sync>,
        paint: Paint,
        clock: Clock,
        out: Lines,
    ) -> Self {
        let area = ProgressBar::with_draw_target(None, target);
        area.set_style(ProgressStyle::with_template("{msg}").expect("the template is well formed"));
        let ledger = Ledger::default();
        let state = Mutex::new(State { ledger, area, waiting: Vec::new(), stage: Stage::Open });
        let shared = Arc::new(Shared { clock, paint, size, out, state, closed: Condvar::new() });
        let drawn = Arc::clone(&shared);
        // Without a thread nothing moves, and finished tasks still show.
        let drawer = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || drawn.draw_until_closed())
            .ok();
        Self { shared, drawer: Mutex::new(drawer) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw_until_closed(&self) {
        let mut state = self.state();
        while state.stage == Stage::Open {
            let waited = self.closed.wait_timeout(state, FRAME);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.stage == Stage::Open {
                state = self.draw(state);
            }
        }
    }

    /// Draws a frame; the lock is given back meanwhile.
    fn draw<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let lines = frame(&state.ledger, (self.size)(), (self.clock)(), self.paint);
        let (moving, staying) = (lines.join("\n"), std::mem::take(&mut state.waiting));
        let area = state.area.clone();
        drop(state);
        if area.message() != moving {
            area.set_message(moving);
        }
        if !staying.is_empty() {
            area.println(staying.join("\n"));
        }
        self.state()
    }

    /// Shows a line that stays, above what moves.
    fn put(&self, state: &mut State, line: String) {
        if state.stage == Stage::Closed {
            self.out.put(&line);
        } else {
            state.waiting.push(line);
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        if event == Event::TerminalGiven {
            return self.close();
        }
        let Shared { clock, paint, .. } = &*self.shared;
        let mut state = self.shared.state();
        match state.ledger.take(event, clock()) {
            Change::Ended(ended) => self.shared.put(&mut state, ended_line(&ended, *paint)),
            Change::Line(_, label, text) => {
                let label = paint.tone(Tone::Dim, &label);
                self.shared.put(&mut state, format!("{label} {}", human::line(&text)));
            }
            Change::Explained(explanation) => {
                let text = format!("explain: {}", human::line(&explanation.text()));
                self.shared.put(&mut state, text);
            }
            Change::Note(text) => self.shared.put(&mut state, human::block(&text).into_owned()),
            Change::Warning(text) => {
                let label = paint.tone(Tone::Caution, "warning:");
                self.shared.put(&mut state, format!("{label} {}", human::block(&text)));
            }
            Change::Started(_) | Change::Advanced(_) | Change::Nothing => {}
        }
    }
}

impl View for Bars {
    fn fail(&self, error: &Error) {
        self.close();
        let label = self.shared.paint.tone(Tone::Bad, "error:");
        self.shared.out.put(&format!("{label} {}", human::block(&error.to_string())));
    }

    fn close(&self) {
        let mut state = self.shared.state();
        if state.stage != Stage::Open {
            return;
        }
        state.stage = Stage::Closing;
        drop(state);
        self.shared.closed.notify_all();
        let drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawer) = drawer {
            // A drawer that panicked draws no more, which is what is wanted.
            let _ = drawer.join();
        }
        let mut state = self.shared.draw(self.shared.state());
        state.area.finish_and_clear();
        state.stage = Stage::Closed;
        for line in std::mem::take(&mut state.waiting) {
            self.shared.out.put(&line);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.close();
    }
}

/// The moving lines at `now`, fitted to the terminal.
fn frame(ledger: &Ledger, size: Size, now: Duration, paint: Paint) -> Vec<String> {
    let shown = |task: &&Running| task.age(now) >= WORTH_DRAWING;
    let tasks: Vec<&Running> = ledger.running.values().filter(shown).collect();
    let room = size.rows.saturating_sub(3).clamp(1, MOST_TASKS);
    let mut lines: Vec<String> =
        tasks.iter().take(room).map(|task| running_line(task, size.columns, now, paint)).collect();
    if tasks.len() > room {
        let more = fit(&format!("  and {} more", tasks.len() - room), size.columns);
        lines.push(paint.tone(Tone::Dim, more.trim_end()));
    }
    lines
}

fn running_line(task: &Running, columns: usize, now: Duration, paint: Paint) -> String {
    let age = task.age(now);
    let spinner = SPINNER[usize::try_from(now.as_millis() / 100).unwrap_or(0) % SPINNER.len()];
    let tail = if columns < WIDTH_FOR_NUMBERS { String::new() } else { numbers(task, now) };
    let bar = match task.total_bytes {
        Some(total) if columns >= WIDTH_FOR_BAR && total > 0 => bar(task.bytes, total, 18),
        _ => String::new(),
    };
    let tail = if tail.is_empty() { human::duration(age) } else { tail };
    let gap = if bar.is_empty() { 1 } else { 2 };
    // The last column stays free: some terminals wrap when it is filled.
    let used = width(&bar) + width(&tail) + 2 + gap + usize::from(!bar.is_empty());
    let head = format!("{:<8} {}", task.kind.as_str(), human::line(&task.name));
    let head = fit(&head, columns.saturating_sub(used + 1));
    let spinner = paint.tone(Tone::Moving, &spinner.to_string());
    let bar = if bar.is_empty() { bar } else { format!(" {}", paint.tone(Tone::Moving, &bar)) };
    format!("{spinner} {head}{bar}{}{}", " ".repeat(gap), paint.tone(Tone::Dim, &tail))
}

/// `12.3 MB of 40.1 MB  30.8 MB/s`, right-aligned so that it does not jump; empty without bytes.
fn numbers(task: &Running, now: Duration) -> String {
    let done = human::bytes(task.bytes);
    let sizes = match task.total_bytes {
        Some(total) if total > 0 => format!("{done} of {}", human::bytes(total)),
        _ if task.bytes > 0 => done,
        _ => return String::new(),
    };
    let moving = task.moved.map_or(Duration::ZERO, |moved| now.saturating_sub(moved));
    let rate = human::rate(task.bytes, moving).unwrap_or_default();
    format!("{sizes:>18} {rate:>9}")
}

fn bar(done: u64, total: u64, cells: usize) -> String {
    let halves = u128::from(done.min(total)) * (cells as u128) * 2 / u128::from(total);
    let halves = usize::try_from(halves).expect("twice the cells at most");
    let (full, half) = (halves / 2, halves % 2);
    let rest = cells - full - half;
    format!("{}{}{}", "━".repeat(full), "╸".repeat(half), "─".repeat(rest))
}

fn ended_line(ended: &Ended, paint: Paint) -> String {
    let title = ended.task.title();
    match ended.outcome {
        Outcome::Done => {
            let time = format!("{}{}", human::duration(ended.time()), size_and_rate(ended));
            format!("{} {title} {}", paint.tone(Tone::Good, "✓"), paint.tone(Tone::Dim, &time))
        }
        Outcome::Skipped(why) => paint.tone(Tone::Dim, &format!("- {title} {why}")),
        Outcome::Stopped => paint.tone(Tone::Dim, &format!("- {title} stopped")),
        Outcome::Failed => {
            let time = human::duration(ended.time());
            format!("{} {title} {}", paint.tone(Tone::Bad, "✗"), paint.tone(Tone::Dim, &time))
        }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text` in exactly `columns`: cut with an ellipsis, or padded.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        format!("{text:<columns$}")
    } else {
        let kept = text.chars().take(columns.saturating_sub(1));
        kept.chain((columns > 0).then_some('…')).collect()
    }
}

fn stderr_size() -> Size {
    let measured = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    let or = |measured: Option<u16>, fallback| match measured {
        Some(0) | None => fallback,
        Some(some) => usize::from(some),
    };
    Size {
        columns: or(measured.map(|size| size.ws_col), 80),
        rows: or(measured.map(|size| size.ws_row), 24),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Capture, HandClock};
    use super::*;
    use crate::error::ErrorKind;
    use crate::progress::{Reporter, TaskKind};
    use indicatif::TermLike;
    use std::io::Write;

    /// Writes what a terminal would get.
    #[derive(Clone)]
    struct Terminal(Capture);

    impl std::fmt::Debug for Terminal {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Terminal")
        }
    }

    impl Terminal {
        fn send(&self, text: &str) -> std::io::Result<()> {
            self.0.clone().write_all(text.as_bytes())
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
            if n == 0 { Ok(()) } else { self.send(&format!("<up {n}>")) }
        }
        fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
            if n == 0 { Ok(()) } else { self.send(&format!("<down {n}>")) }
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.send(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.send(text)
        }
        fn clear_line(&self) -> std::io::Result<()> {
            self.send("<clear>")
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn ledger(tasks: &[(TaskKind, &str, Option<u64>, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (id, (kind, name, total_bytes, bytes)) in (0..).zip(tasks) {
            let task = crate::progress::TaskId(id);
            let (kind, name, total_bytes) = (*kind, (*name).to_owned(), *total_bytes);
            ledger.take(Event::Started { task, kind, name, total_bytes }, Duration::ZERO);
            if *bytes > 0 {
                ledger.take(Event::Advanced { task, bytes: *bytes }, Duration::ZERO);
            }
        }
        ledger
    }

    fn draw(ledger: &Ledger, columns: usize, rows: usize) -> Vec<String> {
        frame(ledger, Size { columns, rows }, Duration::from_secs(1), Paint::Plain)
    }

    #[test]
    fn a_line_shows_what_fits_the_terminal() {
        let tasks = ledger(&[
            (TaskKind::Upload, "sha256:9a0b", Some(40_100_000), 12_300_000),
            (TaskKind::Compile, "./cmd/app linux/arm64", None, 0),
        ]);
        assert_eq!(
            draw(&tasks, 80, 24),
            [
                "⠋ upload   sha256:9a0b         ━━━━━╸────────────  12.3 MB of 40.1 MB 12.3 MB/s",
                "⠋ compile  ./cmd/app linux/arm64                                           1.0s",
            ]
        );
        assert_eq!(
            draw(&tasks, 50, 24),
            [
                "⠋ upload   sha256:9… 12.3 MB of 40.1 MB 12.3 MB/s",
                "⠋ compile  ./cmd/app linux/arm64             1.0s"
            ]
        );
        assert_eq!(draw(&tasks, 24, 24), ["⠋ upload   sha256… 1.0s", "⠋ compile  ./cmd/… 1.0s"]);
    }

    #[test]
    fn no_line_is_as_wide_as_its_terminal() {
        let name = "x".repeat(300);
        let tasks = ledger(&[(TaskKind::Download, &name, Some(u64::MAX), 1 << 60)]);
        for columns in 12..200 {
            let line = &draw(&tasks, columns, 24)[0];
            assert!(width(line) < columns, "{columns}: {line}");
        }
        for columns in 0..12 {
            draw(&tasks, columns, 24);
        }
    }

    #[test]
    fn many_tasks_collapse_into_a_count() {
        let tasks = ledger(&[(TaskKind::Compile, "a", None, 0); 30]);
        let lines = draw(&tasks, 80, 24);
        assert_eq!(lines.len(), MOST_TASKS + 1);
        assert_eq!(lines[MOST_TASKS], "  and 18 more");
        assert_eq!(draw(&tasks, 80, 6).len(), 4);
        assert_eq!(draw(&tasks, 80, 0).len(), 2);
    }

    #[test]
    fn a_task_is_not_drawn_before_it_is_worth_it() {
        let tasks = ledger(&[(TaskKind::Compile, "a", None, 0)]);
        let size = Size { columns: 80, rows: 24 };
        assert_eq!(frame(&tasks, size, Duration::from_millis(149), Paint::Plain), [""; 0]);
        assert_eq!(frame(&tasks, size, Duration::from_millis(150), Paint::Plain).len(), 1);
    }

    #[test]
    fn color_codes_come_only_when_asked_for() {
        let tasks = ledger(&[(TaskKind::Upload, "a", Some(10), 5)]);
        let size = Size { columns: 80, rows: 24 };
        let second = Duration::from_secs(1);
        assert!(!frame(&tasks, size, second, Paint::Plain)[0].contains('\u{1b}'));
        assert!(frame(&tasks, size, second, Paint::Color)[0].contains("\u{1b}[36m"));
    }

    #[test]
    fn finished_tasks_stay_and_closing_clears_what_moves() {
        let (hand, capture) = (HandClock::default(), Capture::default());
        let after = Capture::default();
        let target = ProgressDrawTarget::term_like(Box::new(Terminal(capture.clone())));
        let size = Box::new(|| Size { columns: 80, rows: 24 });
        let bars = Arc::new(Bars::new(target, size, Paint::Plain, hand.clock(), after.lines()));
        let reporter = Reporter::new(bars.clone());
        let compile = reporter.start(TaskKind::Compile, "./cmd/app", None);
        let slow = reporter.start(TaskKind::Download, "base", None);
        hand.set_millis(1200);
        compile.done();
        reporter.start(TaskKind::Layer, "app", None).skipped("cached");
        reporter.warn("low disk");
        bars.fail(&Error::new(ErrorKind::NotFound, "find go"));
        bars.close();
        drop(slow);
        let shown = capture.text();
        for line in ["✓ compile ./cmd/app 1.2s", "- layer app cached", "warning: low disk"] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        let moving = shown.rfind("download base").unwrap();
        assert!(shown[moving..].contains("<clear>"), "{shown}");
        assert_eq!(after.text(), "error: cannot find go\n✗ download base 1.2s\n");
    }
}
