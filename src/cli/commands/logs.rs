//! `gondola logs`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::environment;
use crate::cli::session::Session;
use crate::container::{Entry, Selection, Stream, read_log};
use crate::disk::stream::{Stderr, Stdout};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::literal;

/// Arguments of `gondola logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Container to show
    container: String,
    /// Follow the output until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to show from the end of the logs, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Show output since a time, such as 10m or 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show output until a time, such as 10m or 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
}

impl Runs for LogsArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(session: &Session, args: &LogsArgs) -> Result<()> {
    let now = environment::clock();
    let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
    let wanted = Selection {
        follow: args.follow,
        tail: tail(&args.tail)?,
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let seen = session.containers()?.find(&args.container)?;
    let mut shown = Shown { timestamps: args.timestamps, begun: [false; 2] };
    let outcome = read_log(&seen.container, &wanted, &mut |entry| shown.write(entry));
    match outcome {
        // A reader that went away has read enough.
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        outcome => outcome,
    }
}

/// What was shown so far.
struct Shown {
    timestamps: bool,
    /// Of each stream, whether a line was begun.
    begun: [bool; 2],
}

impl Shown {
    /// Writes an entry to the stream that it came from.
    fn write(&mut self, entry: &Entry) -> Result<()> {
        let (index, written) = match entry.stream {
            Stream::Output => (0, self.write_to(0, entry, Stdout)),
            Stream::Error => (1, self.write_to(1, entry, Stderr)),
        };
        self.begun[index] = !entry.text.ends_with(b"\n");
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(Error::new(ErrorKind::Interrupted, "show the log").caused_by(error))
            }
            written => written.cannot(|| "show the log"),
        }
    }

    fn write_to(
        &self,
        stream: usize,
        entry: &Entry,
        out: impl std::io::Write,
    ) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(out);
        if self.timestamps && !self.begun[stream] {
            write!(out, "{:.9} ", entry.time)?;
        }
        out.write_all(&entry.text)?;
        out.flush()
    }
}

fn tail(text: &str) -> Result<Option<usize>> {
    if text == "all" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Error::new(ErrorKind::Usage, format!("show the last \"{}\" lines", text.escape_debug()))
            .because("expected a number, or all")
    })
}

/// A time: a length before now, a date and time, or seconds since 1970.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp> {
    let wrong = || {
        Error::new(ErrorKind::Usage, format!("use time \"{}\"", text.escape_debug()))
            .because("it is none")
            .hint("write 10m, 2h30m, 2026-01-02T03:04:05Z, or seconds since 1970")
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let time = SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        return Timestamp::from_duration(time).map_err(|_| wrong());
    }
    let length = literal::duration(text).map_err(|_| wrong())?;
    now.checked_sub(length).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_lengths_dates_or_seconds() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (text, expect) in [
            ("10m", "2026-01-02T02:54:05Z"),
            ("1h30m", "2026-01-02T01:34:05Z"),
            ("1d", "2026-01-01T03:04:05Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
            ("1767225600", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap().to_string(), expect, "{text}");
        }
        assert!(moment("soon", now).is_err());
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("3").unwrap(), Some(3));
        assert!(tail("-1").is_err());
    }
}
