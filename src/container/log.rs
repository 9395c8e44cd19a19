//! The log of a container: what its program wrote, when, and on which stream.
//!
//! ```text
//! log      2026-01-02T03:04:05.000000006Z stdout F a whole line
//!          2026-01-02T03:04:05.000000007Z stderr P the beginning of a line that is long
//! log.1    the part before that, once `log` had reached its size
//! ```
//!
//! This is the form that Kubernetes' runtimes write (CRI): `F` ends a line, `P` does not. Times are
//! in UTC with nine digits. A log never takes more than twice its size: older lines are lost. A
//! disk that is full costs lines, too, and never stops the program.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err::{File, OpenOptions};
use jiff::Timestamp;

use crate::error::{Cannot as _, Result};

/// The size at which a log begins anew.
const LARGEST: u64 = 8 << 20;

/// The longest part of a line.
const LONGEST_PART: usize = 16 << 10;

/// Where a program wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output, or its terminal.
    Output,
    /// Its standard error.
    Error,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Output => "stdout",
            Self::Error => "stderr",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The file that holds what came before the current one.
pub(super) fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// Writes a log; several streams share it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    largest: u64,
    file: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
}

impl Log {
    /// Goes on with a log.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::with_size(path, LARGEST)
    }

    fn with_size(path: &Path, largest: u64) -> Result<Self> {
        let action = || format!("write {}", path.display());
        let file = OpenOptions::new().create(true).append(true).open(path).cannot(action)?;
        let size = file.metadata().cannot(action)?.len();
        Ok(Self { path: path.to_owned(), largest, file: Mutex::new(Open { file, size }) })
    }

    fn append(&self, text: &[u8]) {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if open.size > 0 && open.size + text.len() as u64 > self.largest {
            self.rotate(&mut open);
        }
        // Where the log cannot be written, as on a full disk, lines are lost and the program goes on.
        if open.file.write_all(text).is_ok() {
            open.size += text.len() as u64;
        }
    }

    /// Puts the file aside and begins another one; where that fails, goes on in the old one.
    fn rotate(&self, open: &mut Open) {
        if fs_err::rename(&self.path, older(&self.path)).is_ok()
            && let Ok(file) = OpenOptions::new().create(true).append(true).open(&self.path)
        {
            *open = Open { file, size: 0 };
        }
    }
}

/// Turns what one stream gives into lines of a log.
pub(super) struct Lines {
    log: Arc<Log>,
    stream: Stream,
    clock: fn() -> Timestamp,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn new(log: Arc<Log>, stream: Stream, clock: fn() -> Timestamp) -> Self {
        Self { log, stream, clock, begun: Vec::new() }
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let now = (self.clock)();
        let mut text = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(line);
            while self.begun.len() > LONGEST_PART + 1 {
                let rest = self.begun.split_off(LONGEST_PART);
                let part = std::mem::replace(&mut self.begun, rest);
                self.write(&mut text, now, &part);
            }
            if self.begun.ends_with(b"\n") {
                let whole = std::mem::take(&mut self.begun);
                self.write(&mut text, now, &whole);
            }
        }
        if !text.is_empty() {
            self.log.append(&text);
        }
    }

    /// Writes the beginning of a line that will not be ended.
    pub(super) fn end(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            let mut text = Vec::new();
            self.write(&mut text, (self.clock)(), &begun);
            self.log.append(&text);
        }
    }

    fn write(&self, text: &mut Vec<u8>, now: Timestamp, part: &[u8]) {
        let (tag, part) = match part.strip_suffix(b"\n") {
            Some(line) => ("F", line),
            None => ("P", part),
        };
        // Writing to memory cannot fail.
        let _ = write!(text, "{now:.9} {} {tag} ", self.stream);
        text.extend_from_slice(part);
        text.push(b'\n');
    }
}

/// A line of a log, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written.
    pub time: Timestamp,
    /// Where to.
    pub stream: Stream,
    /// What was written; it ends with a line feed, or goes on in the stream's next entry.
    pub text: Vec<u8>,
}

impl Entry {
    /// Reads a line of the file; `None` where it is none of ours, as after a power loss.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Output,
            b"stderr" => Stream::Error,
            _ => return None,
        };
        let whole = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let mut text = fields.next()?.to_vec();
        if whole {
            text.push(b'\n');
        }
        Some(Self { time, stream, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Timestamp {
        "2026-01-02T03:04:05.000000006Z".parse().unwrap()
    }

    fn entries(path: &Path) -> Vec<Entry> {
        let bytes = fs_err::read(path).unwrap();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| Entry::parse(line).unwrap()).collect()
    }

    #[test]
    fn lines_of_two_streams_carry_time_and_stream_and_parts_of_lines_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Arc::new(Log::open(&path).unwrap());
        let mut output = Lines::new(log.clone(), Stream::Output, clock);
        let mut error = Lines::new(log.clone(), Stream::Error, clock);
        output.take(b"one\ntw");
        error.take(b"oh\n");
        output.take(b"o\n\n");
        output.take(b"unfinished");
        output.end();
        error.end();
        let text = fs_err::read_to_string(&path).unwrap();
        let time = "2026-01-02T03:04:05.000000006Z";
        let expect = format!(
            "{time} stdout F one\n{time} stderr F oh\n{time} stdout F two\n{time} stdout F \n\
             {time} stdout P unfinished\n"
        );
        assert_eq!(text, expect);
        assert_eq!(entries(&path)[4].text, b"unfinished");
        assert_eq!(
            entries(&path)[1],
            Entry { time: clock(), stream: Stream::Error, text: b"oh\n".to_vec() }
        );
    }

    #[test]
    fn a_long_line_is_written_in_parts_that_make_it_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Arc::new(Log::open(&path).unwrap());
        let mut output = Lines::new(log.clone(), Stream::Output, clock);
        let mut line = vec![b'x'; 3 * LONGEST_PART + 5];
        line.push(b'\n');
        for piece in line.chunks(1000) {
            output.take(piece);
        }
        let parts = entries(&path);
        assert_eq!(parts.len(), 4);
        assert_eq!(parts.into_iter().flat_map(|part| part.text).collect::<Vec<_>>(), line);
    }

    #[test]
    fn a_log_takes_no_more_than_twice_its_size_and_keeps_the_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Arc::new(Log::with_size(&path, 1000).unwrap());
        let mut output = Lines::new(log.clone(), Stream::Output, clock);
        for number in 0..1000 {
            output.take(format!("line {number}\n").as_bytes());
        }
        let kept: u64 =
            [path.clone(), older(&path)].iter().map(|p| fs_err::metadata(p).unwrap().len()).sum();
        assert!((1000..=2000).contains(&kept), "{kept}");
        assert_eq!(entries(&path).last().unwrap().text, b"line 999\n");
        let before = entries(&older(&path)).last().unwrap().text.clone();
        let first = entries(&path)[0].text.clone();
        let number = |text: Vec<u8>| -> u32 {
            String::from_utf8(text).unwrap().trim().strip_prefix("line ").unwrap().parse().unwrap()
        };
        assert_eq!(number(before) + 1, number(first));
    }

    #[test]
    fn what_is_no_entry_is_left_out() {
        for line in ["", "x", "2026-01-02T03:04:05Z stdout F", "2026-01-02T03:04:05Z other F x"] {
            assert_eq!(Entry::parse(line.as_bytes()), None, "{line}");
        }
    }
}
