//! The caller's terminal while a program has it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};

use crate::error::{Cannot as _, Result};
use crate::sandbox::WindowSize;

/// The size of a terminal that is shown nowhere.
const UNSEEN: WindowSize = WindowSize { rows: 24, columns: 80 };

/// The size of the terminal that this process has, if it has one.
pub(super) fn current_size() -> WindowSize {
    let sizes = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let size = sizes.into_iter().find_map(|fd| tcgetwinsize(fd).ok());
    let size = size.map(|size| WindowSize { rows: size.ws_row, columns: size.ws_col });
    size.filter(|size| size.rows > 0 && size.columns > 0).unwrap_or(UNSEEN)
}

/// Gives a program's terminal the size of this process's.
pub(super) fn resize(controller: impl AsFd) -> io::Result<()> {
    let WindowSize { rows, columns } = current_size();
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(controller, size)?)
}

/// Whether this process can give a terminal to a program that reads.
pub(super) fn input_is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// A terminal in raw mode until this is dropped, or until this program panics.
pub(super) struct RawMode(Arc<Mutex<Option<Before>>>);

struct Before {
    terminal: OwnedFd,
    modes: Termios,
}

impl RawMode {
    /// Passes every key through: nothing is echoed, Ctrl-C is a byte. What was typed before stays.
    pub(super) fn enter(terminal: BorrowedFd<'_>) -> Result<Self> {
        let action = || "set the terminal to raw mode";
        let terminal = terminal.try_clone_to_owned().cannot(action)?;
        let modes = tcgetattr(&terminal).cannot(action)?;
        let mut raw = modes.clone();
        raw.make_raw();
        let before = Arc::new(Mutex::new(Some(Before { terminal, modes })));
        restore_on_panic(before.clone());
        let guard = Self(before);
        if let Some(before) = &*guard.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tcsetattr(&before.terminal, OptionalActions::Now, &raw).cannot(action)?;
        }
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore(&self.0);
    }
}

/// Where a panic ends the program at once, nothing is dropped.
fn restore_on_panic(before: Arc<Mutex<Option<Before>>>) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore(&before);
        print(panic);
    }));
}

fn restore(before: &Mutex<Option<Before>>) {
    let before = before.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Before { terminal, modes }) = before {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&terminal, OptionalActions::Drain, &modes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::LocalModes;

    #[test]
    fn a_terminal_gets_its_modes_back_when_the_guard_goes_and_on_a_panic() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let terminal = ioctl_tiocgptpeer(&controller, flags).unwrap();
        let echoes = || tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echoes());
        let raw = RawMode::enter(terminal.as_fd()).unwrap();
        assert!(!echoes());
        drop(raw);
        assert!(echoes());
        let raw = RawMode::enter(terminal.as_fd()).unwrap();
        assert!(!echoes());
        assert!(std::panic::catch_unwind(|| panic!("expected by this test")).is_err());
        // Though the guard still lives.
        assert!(echoes());
        drop(raw);
    }
}
