//! Signals by the names that people and images give them.

use std::fmt;
use std::str::FromStr;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::process::Handle;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::literal;

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
        literal::signal(text).map(Self).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("use signal \"{}\"", text.escape_debug()))
                .because("there is none of that name")
                .hint("write SIGTERM, SIGINT, SIGQUIT, SIGUSR1, … or a number")
        })
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match literal::signal_name(self.0) {
            Some(name) => write!(f, "SIG{name}"),
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
