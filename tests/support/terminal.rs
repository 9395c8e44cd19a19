//! A terminal with a program on it, for tests that press keys.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};

use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

/// A terminal, and the program on it.
pub struct Terminal {
    controller: File,
    child: Child,
}

impl Terminal {
    /// Starts a command on a fresh terminal. Its environment is what was set for it, and no more.
    pub fn start(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let terminal = ioctl_tiocgptpeer(&controller, flags).unwrap();
        // A session with this terminal, as a shell's.
        let mut leader = Command::new("setsid");
        leader.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let set = |(name, value): (_, Option<_>)| Some((name, value?));
        leader.env_clear().envs(command.get_envs().filter_map(set));
        if let Some(folder) = command.get_current_dir() {
            leader.current_dir(folder);
        }
        let side = || terminal.try_clone().unwrap();
        leader.stdin(side()).stdout(side()).stderr(side());
        let child = leader.spawn().unwrap();
        // With it gone here, reading ends when the program's side does.
        drop((terminal, leader));
        let terminal = Self { controller: controller.into(), child };
        terminal.resize(33, 101);
        terminal
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.controller, size).unwrap();
    }

    /// Reads until the output has a word.
    pub fn read_to(&mut self, word: &str) -> String {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.contains(word) {
            let read = self.controller.read_exact(&mut byte);
            read.unwrap_or_else(|error| panic!("{error} instead of {word:?} after {seen}"));
            seen.push(char::from(byte[0]));
        }
        seen
    }

    pub fn type_in(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    /// The program that has the terminal.
    pub fn foreground(&self) -> Pid {
        tcgetpgrp(&self.controller).unwrap()
    }

    pub fn echoes(&self) -> bool {
        tcgetattr(&self.controller).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Reads all that comes until the program has ended: its output and its exit code.
    pub fn finish(mut self) -> (String, Option<i32>) {
        let mut bytes = Vec::new();
        // A terminal whose other side is closed says EIO, which is its end.
        let _ = self.controller.read_to_end(&mut bytes);
        (String::from_utf8_lossy(&bytes).into_owned(), self.code())
    }

    pub fn code(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(self.echoes(), "the terminal has its modes back");
        code
    }
}
