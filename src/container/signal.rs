//! Signals by the names that people and images give them.

use std::fmt;
use std::str::FromStr;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::process::Handle;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and the last real-time signal that programs may use.
const REAL_TIME: (i32, i32) = (34, 64);

/// The signal that asks a program to end: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopSignal(i32);

impl Default for StopSignal {
    fn default() -> Self {
        Self(15)
    }
}

impl StopSignal {
    /// Its number on Linux.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The one that no program survives.
    pub(super) fn kill() -> Self {
        Self(9)
    }

    /// Sends it to a process.
    pub(super) fn send(self, to: &Handle) -> Result<()> {
        let action = || format!("send {self}");
        match Signal::from_named_raw(self.0) {
            Some(signal) => to.signal(signal).cannot(action),
            None => Err(Error::new(ErrorKind::Unsupported, action())
                .because("real-time signals reach a program from its own terminal alone")
                .hint("choose another one with --stop-signal")),
        }
    }
}

impl FromStr for StopSignal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = |base: i32, rest: &str| {
            let offset: i32 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
            Some(base + offset)
        };
        let number = match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => Some(*number),
            None if name.starts_with("RTMIN") => real_time(REAL_TIME.0, &name["RTMIN".len()..]),
            None if name.starts_with("RTMAX") => real_time(REAL_TIME.1, &name["RTMAX".len()..]),
            None => name.parse().ok(),
        };
        number.filter(|number| (1..=REAL_TIME.1).contains(number)).map(Self).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("use signal \"{}\"", text.escape_debug()))
                .because("there is none of that name")
                .hint("write SIGTERM, SIGINT, SIGQUIT, SIGUSR1, … or a number")
        })
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_docker_reads_them() {
        for (text, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(text.parse::<StopSignal>().unwrap().number(), number, "{text}");
        }
        for bad in ["", "SIGNOPE", "0", "65", "-1", "RTMIN+x"] {
            assert!(bad.parse::<StopSignal>().is_err(), "{bad}");
        }
        assert_eq!(StopSignal::default().to_string(), "SIGTERM");
    }
}
