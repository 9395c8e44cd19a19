//! From the file to logical lines: directives, comments and continuations.

use super::text::Text;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::instruction::Directives;
use crate::dockerfile::source::{Span, Word};

/// Walks over the file, one logical line at a time.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// The next physical line starts here.
    at: usize,
    pub(super) directives: Directives,
    directives_over: bool,
    seen: Vec<&'static str>,
    comments: Vec<Word>,
    pub(super) errors: Vec<Diagnostic>,
    /// Continuations over empty lines: where the first empty line is.
    pub(super) empty_continuations: Vec<Span>,
}

/// An instruction's text, without what heredocs add to it.
pub(super) struct LogicalLine {
    pub(super) text: Text,
    /// The comments right above.
    pub(super) comments: Vec<Word>,
    /// From its first character to its last.
    pub(super) span: Span,
}

/// A line of the file without its end.
#[derive(Clone, Copy)]
pub(super) struct Physical<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
            directives: Directives::default(),
            directives_over: false,
            seen: Vec::new(),
            comments: Vec::new(),
            errors: Vec::new(),
            empty_continuations: Vec::new(),
        }
    }

    /// The next physical line, taken.
    pub(super) fn physical(&mut self) -> Option<Physical<'a>> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let start = self.at;
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        self.at += length;
        Some(Physical { text: rest[..length].trim_end_matches(['\r', '\n']), start })
    }

    /// The text of a span.
    pub(super) fn slice(&self, span: Span) -> &'a str {
        &self.text[span.start..span.end]
    }

    /// The next logical line that is not blank.
    pub(super) fn logical(&mut self) -> Option<LogicalLine> {
        loop {
            let line = self.physical()?;
            let text = line.text.trim_start();
            let start = line.start + (line.text.len() - text.len());
            let directive = self.directive(text, start);
            if let Some(comment) = text.strip_prefix('#') {
                if !directive {
                    self.comment(comment, start + 1);
                }
                continue;
            }
            if text.is_empty() {
                continue;
            }
            let joined = self.joined(text, start);
            if joined.text.all().trim().is_empty() {
                continue;
            }
            return Some(joined);
        }
    }

    fn comment(&mut self, comment: &str, start: usize) {
        let text = comment.trim();
        if text.is_empty() {
            self.comments.clear();
            return;
        }
        let start = start + (comment.len() - comment.trim_start().len());
        self.comments.push(Word::new(text, Span::new(start, start + text.len())));
    }

    /// Joins a line with those that continue it.
    fn joined(&mut self, first: &str, start: usize) -> LogicalLine {
        let mut text = Text::default();
        let mut span = Span::new(start, start + first.trim_end().len());
        let mut first_empty = None;
        let (part, mut goes_on) = self.without_continuation(first);
        text.push(part, start);
        while goes_on {
            let Some(line) = self.physical() else { break };
            let trimmed = line.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                first_empty = first_empty.or(Some(Span::new(line.start, line.start)));
                continue;
            }
            let (part, more) = self.without_continuation(line.text);
            text.push(part, line.start);
            span.end = line.start + line.text.trim_end().len();
            goes_on = more;
        }
        self.empty_continuations.extend(first_empty);
        LogicalLine { text, comments: std::mem::take(&mut self.comments), span }
    }

    /// The line without the escape at its end, and whether there was one. An escape before it
    /// makes it an ordinary character.
    fn without_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(rest) if !rest.ends_with(escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Takes a line as a directive if it is one.
    fn directive(&mut self, line: &str, start: usize) -> bool {
        if self.directives_over {
            return false;
        }
        let Some((name, value)) = split_directive(line) else {
            self.directives_over = true;
            return false;
        };
        let span = Span::new(start, start + line.trim_end().len());
        let Some(known) = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            self.directives_over = true;
            return false;
        };
        if self.seen.contains(&known) {
            let message = format!("the directive {known} is given twice");
            self.errors.push(Diagnostic::error(span, message).label("leave one of them out"));
            return true;
        }
        self.seen.push(known);
        let offset = start + (value.as_ptr() as usize - line.as_ptr() as usize);
        let word = Word::new(value, Span::new(offset, offset + value.len()));
        match known {
            "syntax" => self.directives.syntax = Some(word),
            "check" => self.directives.check = Some(word),
            _ => match value {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                _ => {
                    let message = format!("the escape character cannot be \"{value}\"");
                    self.errors
                        .push(Diagnostic::error(word.span, message).label("expected \\ or `"));
                }
            },
        }
        true
    }
}

const KNOWN: [&str; 3] = ["syntax", "escape", "check"];

/// Takes `# name = value` apart.
fn split_directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim());
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (fits && !value.is_empty()).then_some((name, value))
}
