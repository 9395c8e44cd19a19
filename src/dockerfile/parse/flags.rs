//! The flags of an instruction.

use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::source::{Span, Word};
use crate::error::nearest;

/// What an instruction's flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or `true` or `false`.
    Switch,
    /// One value.
    Value,
    /// A value each time it is given.
    Values,
}

/// An instruction's flags, checked against those it has.
pub(super) struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Checks flags as written.
    pub(super) fn parse(
        instruction: &str,
        words: &[Word],
        known: &[(&'static str, Takes)],
    ) -> Result<Self, Diagnostic> {
        let mut given: Vec<(&'static str, Word)> = Vec::new();
        for word in words {
            let (name, value) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.text.as_str(), None),
            };
            let name = name.trim_start_matches("--");
            let Some((known_name, takes)) = known.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(instruction, name, word.span, known));
            };
            if *takes != Takes::Values && given.iter().any(|(given, _)| given == known_name) {
                let message = format!("--{name} is given twice");
                return Err(Diagnostic::error(word.span, message).label("leave one of them out"));
            }
            given.push((*known_name, value_of(word, value, *takes)?));
        }
        Ok(Self { given })
    }

    /// The value of a flag that is given once.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).next().cloned()
    }

    /// The values of a flag, in order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &Word> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value)
    }

    /// A switch, if it is given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.values(name).next().map(|value| value.text != "false")
    }
}

fn unknown(
    instruction: &str,
    name: &str,
    span: Span,
    known: &[(&'static str, Takes)],
) -> Diagnostic {
    let error = Diagnostic::error(span, format!("{instruction} has no flag --{name}"));
    let names: Vec<_> = known.iter().map(|(known, _)| *known).collect();
    match nearest(name, names.iter().copied()) {
        Some(nearest) => error.label(format!("did you mean --{nearest}?")),
        None if names.is_empty() => error.label(format!("{instruction} has no flags")),
        None => error.label(format!("{instruction} has --{}", names.join(", --"))),
    }
}

/// The value with its place; of a switch, `true` or `false`.
fn value_of(word: &Word, value: Option<&str>, takes: Takes) -> Result<Word, Diagnostic> {
    let missing = || {
        Diagnostic::error(word.span, format!("{} has no value", word.text.trim_end_matches('=')))
    };
    let Some(value) = value else {
        return match takes {
            Takes::Switch => Ok(Word::new("true", word.span)),
            _ => Err(missing().label("expected =value right after it")),
        };
    };
    // Quotes and continuations make the flag's text shorter than its place.
    let exact = word.span.end - word.span.start == word.text.len();
    let start = if exact { word.span.end - value.len() } else { word.span.start };
    let span = Span::new(start, word.span.end);
    if takes == Takes::Switch {
        return match value.to_ascii_lowercase().as_str() {
            "" => Err(missing().label("expected true or false")),
            text @ ("true" | "false") => Ok(Word::new(text, span)),
            _ => Err(Diagnostic::error(span, format!("\"{value}\" is no value for this flag"))
                .label("expected true or false")),
        };
    }
    Ok(Word::new(value, span))
}
