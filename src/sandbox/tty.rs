//! Terminals: a fresh one for the program, and the caller's own in raw mode meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use serde::{Deserialize, Serialize};

use super::error::{At as _, Attempt, Stage};
use crate::error::{Cannot as _, Result};

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The size of a terminal; `None` if `fd` is none.
pub fn window_size(fd: impl AsFd) -> Option<WindowSize> {
    let size = tcgetwinsize(fd).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

pub(super) fn set_window_size(terminal: impl AsFd, size: WindowSize) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size)
}

/// Both sides of a fresh terminal.
pub(super) struct Pair {
    pub(super) controller: OwnedFd,
    pub(super) terminal: OwnedFd,
}

/// Opens a terminal of the `/dev/pts` in force here, so that its name means something inside.
pub(super) fn open_pair(size: WindowSize) -> Attempt<Pair> {
    let action = || "open a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controller = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())
        .or_else(|_| rustix::fs::open("/dev/ptmx", flags, Mode::empty()))
        .at(Stage::Terminal, action)?;
    rustix::pty::unlockpt(&controller).at(Stage::Terminal, action)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal =
        rustix::pty::ioctl_tiocgptpeer(&controller, flags).at(Stage::Terminal, action)?;
    set_window_size(&terminal, size).at(Stage::Terminal, action)?;
    Ok(Pair { controller, terminal })
}

/// A terminal in raw mode, until this is dropped.
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Passes every key through: nothing is echoed, Ctrl-C is a byte.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self> {
        let action = || "set the terminal to raw mode";
        let terminal = terminal.try_clone_to_owned().cannot(action)?;
        let before = tcgetattr(&terminal).cannot(action)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Flush, &raw).cannot(action)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Copies keys to a sandbox's terminal and its output back, until the program closes it.
///
/// Blocks; the end of `input` ends only that direction.
pub fn relay(controller: impl AsFd, input: impl AsFd, output: impl AsFd) -> Result<()> {
    let action = || "relay the terminal";
    let mut reading = true;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let readable = PollFlags::IN;
        let mut watched = vec![PollFd::new(&controller, readable)];
        if reading {
            watched.push(PollFd::new(&input, readable));
        }
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error)).cannot(action),
        }
        let ready: Vec<_> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] && copy(&controller, &output, &mut buffer).cannot(action)? == 0 {
            return Ok(());
        }
        if ready.get(1) == Some(&true)
            && copy(&input, &controller, &mut buffer).cannot(action)? == 0
        {
            reading = false;
        }
    }
}

/// Copies what one read gives. A terminal whose other side is closed says EIO, which is its end.
fn copy(from: impl AsFd, to: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let count = loop {
        match rustix::io::read(&from, &mut *buffer) {
            Ok(count) => break count,
            Err(Errno::INTR) => {}
            Err(Errno::IO) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    };
    let mut rest = &buffer[..count];
    while !rest.is_empty() {
        match rustix::io::write(&to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::IO) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}
