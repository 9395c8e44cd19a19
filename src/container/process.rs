//! Processes that are named in a file: a process id alone may by now be somebody else's.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, told from a later one of the same id by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// Its id, as its own machine or container counts.
    pub(super) pid: i32,
    /// When it began, in the kernel's ticks since the machine did.
    pub(super) began: u64,
}

impl Process {
    /// The process that has this id now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, began: Stat::read(pid)?.began })
    }

    /// This process.
    pub(super) fn own() -> Option<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// A handle on the process, as long as it lives.
    pub(super) fn open(self) -> Option<Handle> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at once the handle is there, which keeps the id from being given to another.
        (Self::of(self.pid) == Some(self)).then_some(Handle(handle))
    }
}

/// A process that cannot be mistaken for another one.
#[derive(Debug)]
pub(super) struct Handle(OwnedFd);

impl Handle {
    /// Sends a signal; to a process that has ended, nothing happens.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Err(Errno::SRCH) => Ok(()),
            result => result.map_err(io::Error::from),
        }
    }

    /// Waits until the process has ended, at most so long. Returns whether it has.
    pub(super) fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        let end = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The descriptor, readable once the process has ended.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: i32,
    /// Time on a processor, in the kernel's ticks.
    pub(super) busy: u64,
    pub(super) threads: u64,
    /// When it began, in the kernel's ticks.
    pub(super) began: u64,
    pub(super) resident_pages: u64,
    /// Whether it has ended and only waits to be collected.
    pub(super) zombie: bool,
}

impl Stat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        // The name, in brackets, may hold anything; the third field follows it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            busy: number(14)? + number(15)?,
            threads: number(20)?,
            began: number(22)?,
            resident_pages: number(24)?,
            zombie: matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let text = "7 (a) b) ) S 1 7 7 0 -1 4194560 1 0 0 0 11 12 0 0 20 0 3 0 4242 9 55 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.parent, stat.busy, stat.threads), (1, 23, 3));
        assert_eq!((stat.began, stat.resident_pages, stat.zombie), (4242, 55, false));
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[test]
    fn an_id_that_was_given_to_another_process_opens_nothing() {
        let own = Process::own().unwrap();
        assert!(own.open().is_some());
        assert!(Process { began: own.began + 1, ..own }.open().is_none());
        assert!(!own.open().unwrap().wait(Some(Duration::ZERO)).unwrap());
    }
}
