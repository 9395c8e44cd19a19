//! How a program in a sandbox ended.

use serde::{Deserialize, Serialize};

/// How a program in a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
    /// It was not found; says what was looked for.
    NotFound(String),
    /// It is there but could not be executed; says why.
    NotExecutable(String),
    /// It was killed when its time was over.
    TimedOut,
}

impl Exit {
    /// The exit code that `docker run` gives: the program's own, 128 and the signal, 126 or 127.
    /// Running out of time gives 124, as `timeout` does.
    pub fn code(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
            Self::TimedOut => 124,
        }
    }

    /// Whether the program did what it should.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}
