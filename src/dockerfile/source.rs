//! The text of a Dockerfile, and places in it.

use std::sync::Arc;

/// A range of bytes of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Span {
    /// Makes a span of bytes.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds this one and another.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A piece of the file: its text with continuation lines joined, and where it stands.
///
/// The text is as written: quotes, escapes and variables are for [`expand`](super::expand).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// What is written.
    pub text: String,
    /// Where it is written.
    pub span: Span,
}

impl Word {
    /// Makes a word.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A place for people: both numbers start at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// The text of a Dockerfile with the name that messages call it by. Clones share the text.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// The first byte of every line.
    lines: Arc<[usize]>,
}

impl Source {
    /// Takes text that is known to be UTF-8.
    pub fn new(name: &str, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(starts.map(|(offset, _)| offset + 1)).collect();
        Self { name: name.into(), text: text.into(), lines }
    }

    /// The name that messages call the file by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; what lies outside of the file is left out.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end.min(self.text.len())).unwrap_or_default()
    }

    /// How many lines there are.
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Where a byte stands.
    pub fn position(&self, offset: usize) -> Position {
        let index = self.line_index(offset);
        let line = &self.text[self.lines[index]..];
        let within = offset.saturating_sub(self.lines[index]);
        let column = line.char_indices().take_while(|(at, _)| *at < within).count();
        Position { line: index + 1, column: column + 1 }
    }

    /// A line without its end, by its number from one.
    pub fn line(&self, number: usize) -> &str {
        let Some(start) = number.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return "";
        };
        let end = self.lines.get(number).copied().unwrap_or(self.text.len());
        self.text[*start..end].trim_end_matches(['\n', '\r'])
    }

    /// The first byte of a line, by its number from one.
    pub fn line_start(&self, number: usize) -> usize {
        self.lines.get(number.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    fn line_index(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The line that a byte is in, without its end.
    pub(super) fn line_at(&self, offset: usize) -> &str {
        self.line(self.line_index(offset) + 1)
    }
}
