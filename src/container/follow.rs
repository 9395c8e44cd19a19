//! Reads a log from another process, while it is written and put aside.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err::File;
use jiff::Timestamp;

use super::entry::Container;
use super::log::{Entry, older};
use super::process::Process;
use super::watch::Watch;
use crate::error::{Cannot as _, Result};

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Go on until the container ends.
    pub follow: bool,
    /// The last so many lines alone.
    pub tail: Option<usize>,
    /// What was written at this time or later.
    pub since: Option<Timestamp>,
    /// What was written before this time.
    pub until: Option<Timestamp>,
}

impl Selection {
    fn takes(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
    }
}

/// Hands out the wanted part of a container's log, in its order. Blocks while it follows; an error
/// of `show` ends it.
pub fn read_log(
    container: &Container,
    wanted: &Selection,
    show: &mut dyn FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    let action = || format!("read the log of container {}", container.name());
    let path = container.log_path();
    // Before the first look, so that nothing is missed after it.
    let watch = Watch::new(container.folder()).cannot(action)?;
    let (earlier, current) = open_both(&path).cannot(action)?;
    let mut current = current.map(Tail::new);
    let mut entries = Vec::new();
    for file in earlier.map(Tail::new).iter_mut().chain(current.as_mut()) {
        file.read(&mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
    }
    entries.retain(|entry| wanted.takes(entry));
    let first = wanted.tail.map_or(0, |lines| beginning_of_last(&entries, lines));
    for entry in &entries[first..] {
        show(entry)?;
    }
    drop(entries);
    if !wanted.follow {
        return Ok(());
    }
    let mut show_new = |entry: Entry| if wanted.takes(&entry) { show(&entry) } else { Ok(()) };
    loop {
        // Before reading: what is written before the end is in the log by the end.
        let seen = container.look()?.filter(|seen| seen.status.is_alive());
        if let Some(file) = &mut current {
            file.read(&mut show_new)?;
        }
        if let Some(mut next) = current_file(&path, current.as_ref()).cannot(action)? {
            if let Some(file) = &mut current {
                // What came between the reading above and the exchange of files.
                file.read(&mut show_new)?;
            }
            next.read(&mut show_new)?;
            current = Some(next);
        }
        let Some(seen) = seen else { return Ok(()) };
        let supervisor = seen.supervisor.and_then(Process::open);
        watch.wait(supervisor.as_ref(), None).cannot(action)?;
    }
}

/// Where the last `lines` lines begin. A line may be several entries.
fn beginning_of_last(entries: &[Entry], lines: usize) -> usize {
    let mut left = lines;
    for (index, entry) in entries.iter().enumerate().rev() {
        let begins_before = entry.text.ends_with(b"\n") || index + 1 == entries.len();
        if begins_before {
            if left == 0 {
                return index + 1;
            }
            left -= 1;
        }
    }
    0
}

/// Opens the file that was put aside and the current one, none of them twice.
fn open_both(path: &Path) -> std::io::Result<(Option<File>, Option<File>)> {
    loop {
        let earlier = open(&older(path))?;
        let current = open(path)?;
        let now = open(&older(path))?;
        if inode(earlier.as_ref())? == inode(now.as_ref())? {
            return Ok((earlier, current));
        }
    }
}

fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(file: Option<&File>) -> std::io::Result<Option<u64>> {
    file.map(|file| Ok(file.metadata()?.ino())).transpose()
}

/// The file that is written now, if it is another one than the one that is read.
fn current_file(path: &Path, reading: Option<&Tail>) -> std::io::Result<Option<Tail>> {
    let file = open(path)?;
    let same = inode(file.as_ref())? == reading.map(|tail| tail.inode);
    Ok(file.filter(|_| !same).map(Tail::new))
}

/// A file whose end is not yet written.
struct Tail {
    file: BufReader<File>,
    inode: u64,
    /// A line of which the end has not come.
    begun: Vec<u8>,
}

impl Tail {
    fn new(file: File) -> Self {
        let inode = inode(Some(&file)).ok().flatten().unwrap_or(0);
        Self { file: BufReader::new(file), inode, begun: Vec::new() }
    }

    /// Hands out the entries that were written since the last call.
    fn read(&mut self, take: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        loop {
            // A line is never longer than its longest part and its head; more is not ours.
            let mut bounded = (&mut self.file).take(LONGEST_LINE);
            let read = bounded.read_until(b'\n', &mut self.begun).cannot(|| "read the log")?;
            if read == 0 {
                return Ok(());
            }
            let whole = self.begun.ends_with(b"\n");
            if whole || self.begun.len() as u64 >= LONGEST_LINE {
                let line = std::mem::take(&mut self.begun);
                if let Some(entry) = Entry::parse(line.strip_suffix(b"\n").unwrap_or(&line)) {
                    take(entry)?;
                }
            }
        }
    }
}

const LONGEST_LINE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::log::Stream;

    fn entry(text: &str) -> Entry {
        let time = "2026-01-02T03:04:05Z".parse().unwrap();
        Entry { time, stream: Stream::Output, text: text.as_bytes().to_vec() }
    }

    #[test]
    fn the_last_lines_are_counted_by_their_ends() {
        let entries = [entry("a\n"), entry("b"), entry("b\n"), entry("c\n"), entry("d")];
        for (lines, expect) in [(0, 5), (1, 4), (2, 3), (3, 1), (4, 0), (9, 0)] {
            assert_eq!(beginning_of_last(&entries, lines), expect, "{lines}");
        }
        assert_eq!(beginning_of_last(&[], 3), 0);
    }

    #[test]
    fn half_a_line_is_read_once_its_end_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = {
            fs_err::write(&path, "2026-01-02T03:04:05Z stdout F on").unwrap();
            Tail::new(File::open(&path).unwrap())
        };
        let mut seen = Vec::new();
        let mut read = |tail: &mut Tail| {
            let mut new = Vec::new();
            tail.read(&mut |entry| {
                new.push(entry);
                Ok(())
            })
            .unwrap();
            seen.extend(new.clone());
            new.len()
        };
        assert_eq!(read(&mut tail), 0);
        let mut file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"e\nrubbish\n").unwrap();
        assert_eq!(read(&mut tail), 1);
        assert_eq!(seen[0].text, b"one\n");
    }
}
