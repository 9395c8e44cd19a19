//! Warnings and errors, nothing else.

use super::{Lines, View, human};
use crate::error::Error;
use crate::progress::{Event, Progress};

/// Shows warnings and errors only.
pub struct Quiet {
    out: Lines,
}

impl Quiet {
    /// Writes to `out`.
    pub fn new(out: Lines) -> Self {
        Self { out }
    }
}

impl Progress for Quiet {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.out.put(&format!("warning: {}", human::block(&text)));
        }
    }
}

impl View for Quiet {
    fn fail(&self, error: &Error) {
        self.out.put(&format!("error: {}", human::block(&error.to_string())));
    }
}
