//! Text that was joined from several lines and still knows where each byte came from.

use std::ops::Range;

use crate::dockerfile::source::{Span, Word};

/// A logical line.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    text: String,
    /// Offsets here, and the offsets of the file that the bytes from there on stand at.
    pieces: Vec<(usize, usize)>,
}

impl Text {
    pub(super) fn push(&mut self, part: &str, offset: usize) {
        self.pieces.push((self.text.len(), offset));
        self.text.push_str(part);
    }

    pub(super) fn all(&self) -> Slice<'_> {
        Slice { whole: self, start: 0, end: self.text.len() }
    }

    fn offset(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|(here, _)| *here <= at);
        match next.checked_sub(1).map(|index| self.pieces[index]) {
            Some((here, there)) => there + (at - here),
            None => 0,
        }
    }

    fn span(&self, range: &Range<usize>) -> Span {
        let start = self.offset(range.start);
        let end = if range.is_empty() { start } else { self.offset(range.end - 1) + 1 };
        Span::new(start, end.max(start))
    }
}

/// A part of a [`Text`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    whole: &'a Text,
    start: usize,
    end: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn as_str(&self) -> &'a str {
        &self.whole.text[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// A part of this part.
    pub(super) fn sub(&self, range: Range<usize>) -> Self {
        Self { whole: self.whole, start: self.start + range.start, end: self.start + range.end }
    }

    pub(super) fn trim(&self) -> Self {
        let text = self.as_str();
        let start = text.len() - text.trim_start().len();
        self.sub(start..start.max(text.trim_end().len()))
    }

    pub(super) fn span(&self) -> Span {
        self.whole.span(&(self.start..self.end))
    }

    pub(super) fn word(&self) -> Word {
        Word::new(self.as_str(), self.span())
    }

    /// The parts before and after the first white space, as Dockerfiles split: no-break spaces
    /// and the like are none.
    pub(super) fn split_blank(&self) -> (Self, Option<Self>) {
        let text = self.as_str();
        let Some(at) = text.find(is_blank) else { return (*self, None) };
        let rest = &text[at..];
        let next = at + rest.len() - rest.trim_start_matches(is_blank).len();
        (self.sub(0..at), Some(self.sub(next..text.len())))
    }
}

/// What separates words that have no quotes.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}
