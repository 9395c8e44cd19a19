//! Messages that point into the file, as a compiler's do.
//!
//! ```text
//! Dockerfile:3:1: error: unknown instruction COPPY
//!   |
//! 3 | COPPY . .
//!   | ^^^^^ did you mean COPY?
//! ```

use std::fmt::Write as _;

use super::source::{Source, Span};
use crate::error::{Error, ErrorKind, printable};
use crate::secret;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The file does not build.
    Error,
    /// The file builds, but probably not to what was meant.
    Warning,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One message about a place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// The linter's rule that asks for it.
    pub rule: Option<&'static str>,
    /// What is wrong: lower case, no period. Lines after the first are shown below the place: what a
    /// program wrote.
    pub message: String,
    /// What it is about.
    pub span: Span,
    /// What stands beside the caret: what was expected there.
    pub label: Option<String>,
    /// What would be right.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Level::Error, None, span, message.into())
    }

    /// Makes a warning of one of the linter's rules.
    pub fn warning(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, Some(rule), span, message.into())
    }

    fn new(level: Level, rule: Option<&'static str>, span: Span, message: String) -> Self {
        Self { level, rule, message, span, label: None, help: None }
    }

    /// Makes an error of one that came up when the place was executed. Its hint says what would be
    /// right.
    pub fn of_error(span: Span, error: &Error) -> Self {
        let diagnostic = Self::error(span, error.message());
        match error.next_move() {
            Some(hint) if hint.starts_with("did you mean ") => diagnostic.label(hint),
            Some(hint) => diagnostic.help(hint),
            None => diagnostic,
        }
    }

    /// Says beside the caret what was expected.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Leaves out what the message quotes of values.
    #[must_use]
    pub fn masked(self, values: &[&str]) -> Self {
        if values.is_empty() {
            return self;
        }
        let mask = |text: String| secret::mask(&text, values.iter().copied());
        Self {
            message: mask(self.message),
            label: self.label.map(mask),
            help: self.help.map(mask),
            ..self
        }
    }

    /// The message with the line it is about, in plain text, without a final newline.
    pub fn render(&self, source: &Source) -> String {
        printable(&self.compose(source)).into_owned()
    }

    fn compose(&self, source: &Source) -> String {
        let at = source.position(self.span.start);
        let mut text = format!("{}:{}:{}: ", source.name(), at.line, at.column);
        let mut message = self.message.lines();
        let _ = write!(text, "{}: {}", self.level.as_str(), message.next().unwrap_or_default());
        if let Some(rule) = self.rule {
            let _ = write!(text, " [{rule}]");
        }
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        let line = Shown::of(source.line(at.line), self.span, source.line_start(at.line));
        let _ = write!(text, "\n{margin} |\n{number} | {}\n{margin} | {}", line.text, line.carets);
        if let Some(label) = &self.label {
            let _ = write!(text, " {label}");
        }
        for more in message {
            let _ = write!(text, "\n{margin} = {more}");
        }
        if let Some(help) = &self.help {
            let _ = write!(text, "\n{margin} = help: {help}");
        }
        text
    }
}

/// A line as it is shown: tabs are one space wide, addresses have neither user nor query, and a very
/// long line is cut around the span.
struct Shown {
    text: String,
    carets: String,
}

/// Characters of a line that are shown at most.
const SHOWN_WIDTH: usize = 160;
/// Characters shown before the span when a line is cut.
const SHOWN_BEFORE: usize = 40;

impl Shown {
    fn of(line: &str, span: Span, line_start: usize) -> Self {
        let from = span.start.saturating_sub(line_start).min(line.len());
        let to = span.end.saturating_sub(line_start).clamp(from, line.len());
        let line = visible(line);
        let count = |within: std::ops::Range<usize>| {
            line.iter().filter(|(at, _)| within.contains(at)).count()
        };
        let (before, marked) = (count(0..from), count(from..to).max(1));
        let skipped =
            if line.len() > SHOWN_WIDTH { before.saturating_sub(SHOWN_BEFORE) } else { 0 };
        let text = line.iter().skip(skipped).take(SHOWN_WIDTH).map(|(_, c)| *c);
        let text: String = text.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let indent = before - skipped;
        let carets = marked.min(SHOWN_WIDTH - indent.min(SHOWN_WIDTH - 1));
        Self {
            text: text.trim_end().to_owned(),
            carets: format!("{}{}", " ".repeat(indent), "^".repeat(carets)),
        }
    }
}

/// The characters of a line that are shown, each with where it stands.
fn visible(line: &str) -> Vec<(usize, char)> {
    let mut shown = Vec::with_capacity(line.len());
    let mut from = 0;
    for part in secret::hidden_parts(line) {
        shown.extend(line[from..part.start].char_indices().map(|(at, c)| (from + at, c)));
        shown.extend(secret::HIDDEN.chars().map(|c| (part.start, c)));
        from = part.end;
    }
    shown.extend(line[from..].char_indices().map(|(at, c)| (from + at, c)));
    shown
}

/// What is wrong with one file.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// The file that the spans point into.
    pub source: Source,
    /// What was found, in the order of the file.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Every message with its line, an empty line between them.
    pub fn render(&self) -> String {
        let parts: Vec<_> = self.list.iter().map(|one| one.render(&self.source)).collect();
        parts.join("\n\n")
    }

    /// Makes the error that commands end with: every message, one below the other.
    pub fn into_error(self) -> Error {
        self.into_error_of(ErrorKind::Usage)
    }

    /// The same for problems that only came up when the file was executed.
    pub fn into_error_of(self, kind: ErrorKind) -> Error {
        let action = match kind {
            ErrorKind::Usage => format!("use {}", self.source.name()),
            _ => format!("build {}", self.source.name()),
        };
        Error::new(kind, action).because(format!("\n{}", self.render()))
    }

    /// Tells whether the file cannot be built.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.level == Level::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_file_steers_the_terminal() {
        let source = Source::new("Docker\x1bfile", "FROM \x1b]0;x\x07\n");
        let shown = Diagnostic::error(Span::new(5, 11), "no image \x1b]0;x\x07").label("\x1b[1m");
        let shown = shown.help("\u{9b}1m").render(&source);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert!(shown.contains("no image \\u{1b}]0;x\\u{7}"), "{shown}");
    }

    #[test]
    fn a_message_shows_its_line_with_carets_and_what_would_be_right() {
        let source = Source::new("build/Dockerfile", "FROM a\n\tCOPPY ä b\n");
        let diagnostic = Diagnostic::error(Span::new(8, 13), "there is no instruction COPPY")
            .label("did you mean COPY?")
            .help("see the reference");
        assert_eq!(
            diagnostic.render(&source),
            "build/Dockerfile:2:2: error: there is no instruction COPPY\n\
             \x20 |\n\
             2 |  COPPY ä b\n\
             \x20 |  ^^^^^ did you mean COPY?\n\
             \x20 = help: see the reference"
        );
        let warning = Diagnostic::warning("SomeRule", Span::new(14, 16), "odd");
        assert_eq!(
            warning.render(&source),
            "build/Dockerfile:2:8: warning: odd [SomeRule]\n  |\n2 |  COPPY ä b\n  |        ^"
        );
    }

    #[test]
    fn places_outside_of_lines_are_shown_as_well_as_can_be() {
        let source = Source::new("D", "FROM a");
        for (start, end) in [(6, 6), (9, 20), (5, 90), (0, 0)] {
            let shown = Diagnostic::error(Span::new(start, end), "x").render(&source);
            assert_eq!(shown.lines().count(), 4, "{shown}");
        }
        let text = format!("{}COPPY{}", "x".repeat(5_000), "y".repeat(5_000));
        let shown =
            Diagnostic::error(Span::new(5_000, 5_005), "x").render(&Source::new("D", &text));
        assert!(shown.len() < 500, "{shown}");
        assert!(shown.contains("xCOPPYy") && shown.contains(" ^^^^^"), "{shown}");
    }

    #[test]
    fn addresses_in_lines_have_neither_user_nor_query_and_carets_stay_right() {
        let source = Source::new("D", "ADD https://u:p@h/a?sig=x missing /b\n");
        let shown = Diagnostic::error(Span::new(26, 33), "no such file").render(&source);
        let expected = "D:1:27: error: no such file\n  |\n\
                        1 | ADD https://…@h/a?… missing /b\n  |                     ^^^^^^^";
        assert_eq!(shown, expected);
    }

    #[test]
    fn several_messages_make_one_error() {
        let source = Source::new("D", "A\nB\n");
        let list = vec![
            Diagnostic::error(Span::new(0, 1), "one"),
            Diagnostic::error(Span::new(2, 3), "two"),
        ];
        let error = Diagnostics { source, list }.into_error();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(
            error.to_string(),
            "cannot use D:\nD:1:1: error: one\n  |\n1 | A\n  | ^\n\nD:2:1: error: two\n  |\n2 | B\n  | ^"
        );
    }
}
