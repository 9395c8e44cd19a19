//! From logical lines to statements: keyword, flags and arguments in the form that the keyword
//! takes them, not yet checked against what the instruction allows.

use super::heredoc;
use super::lines::{Lines, LogicalLine};
use super::text::Slice;
use super::words::{self, Json};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{Heredoc, Pair};
use crate::dockerfile::source::{Span, Word};

/// A statement of the file.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The keyword as written.
    pub keyword: Word,
    /// Flags without quotes: `--name=value`.
    pub flags: Vec<Word>,
    /// The arguments.
    pub arguments: Arguments,
    /// The heredocs that its line opens, with their bodies.
    pub heredocs: Vec<Heredoc>,
    /// The line with its continuations joined.
    pub code: String,
    /// The line, with the bodies of its heredocs.
    pub span: Span,
    /// The comments right above.
    pub comments: Vec<Word>,
}

/// Arguments in the form that a keyword takes them.
#[derive(Clone, Debug)]
pub enum Arguments {
    /// None were written.
    None,
    /// All of it as one text.
    Text(Word),
    /// Words.
    Words(Vec<Word>),
    /// The JSON form.
    Json(Vec<Word>),
    /// Keys with values.
    Pairs(Vec<Pair>),
    /// `HEALTHCHECK`: the type, and its command.
    Health(Word, Box<Arguments>),
    /// `ONBUILD`: a statement.
    Nested(Box<Statement>),
}

/// Every keyword, in upper case.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Levels of `ONBUILD` that are read: the second is already an error.
const DEEPEST_NESTING: usize = 4;

impl Statement {
    /// The keyword in upper case.
    pub fn name(&self) -> String {
        self.keyword.text.to_ascii_uppercase()
    }

    fn takes_heredocs(&self) -> bool {
        match &self.arguments {
            Arguments::Json(_) => false,
            Arguments::Nested(nested) => {
                matches!(nested.name().as_str(), "ADD" | "COPY" | "RUN")
                    && !matches!(nested.arguments, Arguments::Json(_))
            }
            _ => matches!(self.name().as_str(), "ADD" | "COPY" | "RUN"),
        }
    }
}

/// The next statement of the file; `None` at its end.
pub(super) fn next(lines: &mut Lines<'_>) -> Option<Result<Statement, Diagnostic>> {
    let line = lines.logical()?;
    Some(read(lines, line))
}

fn read(lines: &mut Lines<'_>, line: LogicalLine) -> Result<Statement, Diagnostic> {
    let whole = line.text.all();
    let parsed = split(whole, lines.directives.escape, 0);
    let takes_heredocs = match &parsed {
        Ok(statement) => statement.takes_heredocs(),
        // A line that is wrong still owns the heredocs below it.
        Err(_) => true,
    };
    let mut heredocs = if takes_heredocs { heredoc::opened(whole.as_str()) } else { Vec::new() };
    let span = heredoc::read_bodies(lines, &mut heredocs, line.span)?;
    let mut statement = parsed?;
    if let Arguments::Nested(nested) = &mut statement.arguments {
        nested.heredocs.clone_from(&heredocs);
    }
    statement.heredocs = heredocs;
    statement.span = span;
    statement.comments = line.comments;
    Ok(statement)
}

/// Splits a line into keyword, flags and arguments.
fn split(line: Slice<'_>, escape: char, depth: usize) -> Result<Statement, Diagnostic> {
    let line = line.trim();
    let (keyword, rest) = line.split_blank();
    let (flags, arguments) = match rest {
        Some(rest) => words::flags(rest, escape),
        None => (Vec::new(), line.sub(line.len()..line.len())),
    };
    let keyword = keyword.word();
    let arguments = arguments.trim();
    let arguments = match keyword.text.to_ascii_uppercase().as_str() {
        "ONBUILD" if arguments.is_empty() => Arguments::None,
        "ONBUILD" if depth == DEEPEST_NESTING => Arguments::Text(arguments.word()),
        "ONBUILD" => Arguments::Nested(Box::new(split(arguments, escape, depth + 1)?)),
        name => in_form(name, arguments, escape)?,
    };
    Ok(Statement {
        keyword,
        flags,
        arguments,
        heredocs: Vec::new(),
        code: line.as_str().to_owned(),
        span: line.span(),
        comments: Vec::new(),
    })
}

fn in_form(name: &str, rest: Slice<'_>, escape: char) -> Result<Arguments, Diagnostic> {
    if rest.is_empty() {
        return Ok(Arguments::None);
    }
    match name {
        "ADD" | "COPY" | "VOLUME" => json_or(rest, words::blank_separated),
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => json_or_text(rest),
        "EXPOSE" | "FROM" => Ok(Arguments::Words(words::blank_separated(rest))),
        "ARG" => Ok(Arguments::Words(words::quoted(rest, escape))),
        "ENV" | "LABEL" => pairs(name, rest, escape),
        "HEALTHCHECK" => health(rest),
        _ => Ok(Arguments::Text(rest.word())),
    }
}

fn not_strings(rest: Slice<'_>) -> Diagnostic {
    Diagnostic::error(rest.span(), "the JSON form takes strings only")
        .label("every element has to stand in double quotes")
}

fn json_or(rest: Slice<'_>, or: fn(Slice<'_>) -> Vec<Word>) -> Result<Arguments, Diagnostic> {
    match words::json(rest) {
        Json::Words(words) => Ok(Arguments::Json(words)),
        Json::NotStrings => Err(not_strings(rest)),
        Json::No => Ok(Arguments::Words(or(rest))),
    }
}

fn json_or_text(rest: Slice<'_>) -> Result<Arguments, Diagnostic> {
    if rest.is_empty() {
        return Ok(Arguments::None);
    }
    match words::json(rest) {
        Json::Words(words) => Ok(Arguments::Json(words)),
        Json::NotStrings => Err(not_strings(rest)),
        Json::No => Ok(Arguments::Text(rest.word())),
    }
}

fn health(rest: Slice<'_>) -> Result<Arguments, Diagnostic> {
    let text = rest.as_str();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let command = rest.sub(end..rest.len()).trim();
    Ok(Arguments::Health(rest.sub(0..end).word(), Box::new(json_or_text(command)?)))
}

/// `name=value …`, or the legacy form `name value` if the first word has no `=`.
fn pairs(instruction: &str, rest: Slice<'_>, escape: char) -> Result<Arguments, Diagnostic> {
    let words = words::quoted(rest, escape);
    let Some(first) = words.first() else { return Ok(Arguments::None) };
    if !first.text.contains('=') {
        let (key, value) = rest.split_blank();
        let Some(value) = value else {
            let message = format!("{instruction} needs a name and a value");
            return Err(Diagnostic::error(rest.span(), message).label("expected name=value"));
        };
        let pair = Pair { key: key.word(), value: value.word(), legacy: true };
        return Ok(Arguments::Pairs(vec![pair]));
    }
    let pairs: Result<_, _> = words.into_iter().map(|word| pair(instruction, &word)).collect();
    Ok(Arguments::Pairs(pairs?))
}

fn pair(instruction: &str, word: &Word) -> Result<Pair, Diagnostic> {
    let no_value = || {
        let message = format!("a word of {instruction} has no '='");
        Diagnostic::error(word.span, message)
            .label("expected name=value")
            .help("put a value with spaces in double quotes; comments need a line of their own")
    };
    let (key, value) = split_pair(word).ok_or_else(no_value)?;
    Ok(Pair { key, value, legacy: false })
}

/// Splits a word at its first `=`.
pub(super) fn split_pair(word: &Word) -> Option<(Word, Word)> {
    let (key, value) = word.text.split_once('=')?;
    let span = word.span;
    // A word that spans several lines is not as long as its place in the file.
    let same = span.end - span.start == word.text.len();
    let middle = if same { span.start + key.len() } else { span.end };
    let value_start = if same { middle + 1 } else { span.start };
    let key = Word::new(key, Span::new(span.start, middle));
    Some((key, Word::new(value, Span::new(value_start, span.end))))
}
