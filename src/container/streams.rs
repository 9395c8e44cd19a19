//! The standard streams of a program: through pipes or a terminal, to the standard streams of this
//! process and to the log.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::log::{Lines, Log, Stream};
use super::terminal::{RawMode, input_is_terminal};
use crate::disk::stream::write_all;
use crate::error::{Cannot as _, Result};
use crate::sandbox::{Child, Streams};

/// Where a program's output goes, beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The standard streams of this process show it, and its input is this process's.
    Foreground,
    /// The standard streams of this process show it; its input, where it has one, stays open.
    Output,
    /// The log alone has it.
    Detached,
}

impl Attachment {
    fn output(self, stream: Stream) -> Option<BorrowedFd<'static>> {
        match (self, stream) {
            (Self::Detached, _) => None,
            (Self::Foreground | Self::Output, Stream::Output) => Some(rustix::stdio::stdout()),
            (Self::Foreground | Self::Output, Stream::Error) => Some(rustix::stdio::stderr()),
        }
    }
}

/// This side of a program's streams, before it is started.
pub(super) struct ProgramStreams {
    input: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
}

/// Which streams a program gets, and who is at their other ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    pub(super) attachment: Attachment,
    /// Whether its standard input stays open.
    pub(super) input: bool,
    /// Whether it has a terminal.
    pub(super) terminal: bool,
}

/// What a stream needs to be recorded.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) log: Arc<Log>,
    pub(super) clock: fn() -> Timestamp,
}

impl Recorder {
    fn lines(&self, stream: Stream) -> Lines {
        Lines::new(self.log.clone(), stream, self.clock)
    }
}

impl ProgramStreams {
    /// Makes the streams that a program gets, and this side of them. One with a terminal needs none.
    pub(super) fn new(wanted: StreamOptions) -> Result<(Streams, Self)> {
        let action = || "connect the program's streams";
        let mut streams = Streams::null()?;
        let mut ours = Self { input: None, outputs: Vec::new() };
        if wanted.terminal {
            return Ok((streams, ours));
        }
        if wanted.input {
            let (reader, writer) = io::pipe().cannot(action)?;
            (streams.input, ours.input) = (reader.into(), Some(writer.into()));
        }
        let (reader, writer) = io::pipe().cannot(action)?;
        streams.output = writer.into();
        ours.outputs.push((Stream::Output, reader.into()));
        let (reader, writer) = io::pipe().cannot(action)?;
        streams.error = writer.into();
        ours.outputs.push((Stream::Error, reader.into()));
        Ok((streams, ours))
    }

    /// Starts to carry what the program of `child` reads and writes.
    pub(super) fn connect(
        mut self,
        child: &Child,
        wanted: StreamOptions,
        recorder: Option<&Recorder>,
    ) -> Result<Copiers> {
        let attachment = wanted.attachment;
        let action = || "connect the program's terminal";
        let mut raw = None;
        if let Some(terminal) = child.terminal() {
            let copy = || terminal.try_clone_to_owned().cannot(action);
            self.outputs.push((Stream::Output, copy()?));
            self.input = Some(copy()?);
            // Where input comes from a file or a pipe, only the program's side is a terminal.
            if attachment == Attachment::Foreground && wanted.input && input_is_terminal() {
                raw = Some(RawMode::enter(rustix::stdio::stdin())?);
            }
        }
        let outputs = self.outputs.into_iter().map(|(stream, from)| {
            let to = attachment.output(stream);
            let lines = recorder.map(|recorder| recorder.lines(stream));
            let carry = move || carry_output(&from, to, lines);
            std::thread::Builder::new().spawn(carry).cannot(|| "carry the program's output")
        });
        let outputs = outputs.collect::<Result<_>>()?;
        let mut held_input = self.input;
        if attachment == Attachment::Foreground
            && wanted.input
            && let Some(to) = held_input.take()
        {
            // Never waited for: it ends with the input, or with this process.
            let end = wanted.terminal.then_some(END_OF_TRANSMISSION);
            let carry = move || carry_input(&to, end);
            std::thread::Builder::new().spawn(carry).cannot(|| "carry the program's input")?;
        }
        Ok(Copiers { outputs, _held_input: held_input, _raw: raw })
    }
}

/// What carries a running program's streams.
pub(super) struct Copiers {
    outputs: Vec<JoinHandle<()>>,
    /// Of a program in the background, whose input has no end.
    _held_input: Option<OwnedFd>,
    _raw: Option<RawMode>,
}

impl Copiers {
    /// Waits until all that the program wrote has arrived. Gives the terminal back.
    pub(super) fn finish(self) {
        for output in self.outputs {
            // A thread that panicked has said so itself.
            let _ = output.join();
        }
    }
}

fn carry_output(from: &OwnedFd, mut to: Option<BorrowedFd<'static>>, mut lines: Option<Lines>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match rustix::io::read(from, &mut buffer[..]) {
            Err(Errno::INTR) => continue,
            // A terminal whose other side is closed says EIO, which is its end.
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if let Some(fd) = to {
            match write_all(fd, &buffer[..count]) {
                Ok(()) => {}
                // The reader has closed its end: the program gets the same error.
                Err(Errno::PIPE) => break,
                Err(_) => to = None,
            }
        }
        if let Some(lines) = &mut lines {
            lines.take(&buffer[..count]);
        }
    }
    if let Some(lines) = &mut lines {
        lines.end();
    }
}

/// The key that ends a terminal's input.
const END_OF_TRANSMISSION: u8 = 4;

/// Carries this process's input, and says its end by `end`: a terminal cannot be closed for reading.
fn carry_input(to: &OwnedFd, end: Option<u8>) {
    let mut buffer = vec![0; 64 << 10];
    let mut within_line = false;
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
            Ok(0) => {
                // Within a line the first one ends the line alone.
                let times = if within_line { 2 } else { 1 };
                let end: Vec<u8> = end.into_iter().cycle().take(times).collect();
                // A program that has ended reads nothing.
                let _ = write_all(to.as_fd(), &end);
                return;
            }
            Ok(count) if write_all(to.as_fd(), &buffer[..count]).is_ok() => {
                within_line = buffer[count - 1] != b'\n';
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_one(rustix::stdio::stdin(), PollFlags::IN),
            _ => return,
        }
    }
}

fn await_one(fd: BorrowedFd<'_>, what: PollFlags) {
    // What fails here fails again where it is reported.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, what)], None);
}
