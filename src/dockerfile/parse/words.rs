//! Splitting a line's arguments into words.

use super::text::{Slice, is_blank};
use crate::dockerfile::source::Word;

/// Words between white space; quotes mean nothing.
pub(super) fn blank_separated(mut rest: Slice<'_>) -> Vec<Word> {
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (first, next) = rest.split_blank();
        words.push(first.word());
        match next {
            Some(next) => rest = next,
            None => break,
        }
    }
    words.retain(|word| !word.text.is_empty() && !word.text.chars().all(is_blank));
    words
}

enum Phase {
    Spaces,
    Word,
    Quote(char),
}

/// Words between white space outside quotes. Quotes and escapes stay in the words; an escape at
/// the very end is dropped.
pub(super) fn quoted(rest: Slice<'_>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut phase = Phase::Spaces;
    let mut start = 0;
    let mut text = String::new();
    let mut chars = rest.as_str().char_indices();
    while let Some((at, c)) = chars.next() {
        if matches!(phase, Phase::Spaces) {
            if c.is_whitespace() {
                continue;
            }
            phase = Phase::Word;
            start = at;
        }
        match phase {
            Phase::Word if c.is_whitespace() => {
                words.push(Word::new(std::mem::take(&mut text), rest.sub(start..at).span()));
                phase = Phase::Spaces;
                continue;
            }
            Phase::Word if c == '\'' || c == '"' => phase = Phase::Quote(c),
            Phase::Quote(quote) if c == quote => phase = Phase::Word,
            _ => {}
        }
        let escapes = c == escape && !matches!(phase, Phase::Quote('\''));
        match escapes.then(|| chars.next()) {
            Some(None) => break,
            Some(Some((_, next))) => text.extend([c, next]),
            None => text.push(c),
        }
    }
    if !matches!(phase, Phase::Spaces) && !text.is_empty() {
        words.push(Word::new(text, rest.sub(start..rest.len()).span()));
    }
    words
}

/// Takes the flags off the front: words that start with `--`, up to the first that does not, or
/// to `--` itself. Quotes and escapes of flags are undone.
pub(super) fn flags(rest: Slice<'_>, escape: char) -> (Vec<Word>, Slice<'_>) {
    let mut words = Vec::new();
    let source = rest.as_str();
    let mut at = 0;
    loop {
        at += source[at..].len() - source[at..].trim_start().len();
        if !source[at..].starts_with("--") {
            return (words, rest.sub(at..source.len()));
        }
        let (text, length) = flag(&source[at..], escape);
        let end = at + length;
        if text == "--" {
            return (words, rest.sub(end..source.len()));
        }
        words.push(Word::new(text, rest.sub(at..end).span()));
        at = end;
    }
}

/// One flag, and how many bytes it takes.
fn flag(source: &str, escape: char) -> (String, usize) {
    let mut text = String::new();
    let mut quote = None;
    let mut chars = source.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (text, at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => text.extend(chars.next().map(|(_, next)| next)),
            _ => text.push(c),
        }
    }
    (text, source.len())
}

/// What the JSON form of arguments turned out to be.
pub(super) enum Json {
    /// An array of strings.
    Words(Vec<Word>),
    /// An array, but something in it is no string.
    NotStrings,
    /// No array: the other form is meant.
    No,
}

/// Tries the JSON form.
pub(super) fn json(rest: Slice<'_>) -> Json {
    let text = rest.as_str().trim_start();
    if !text.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Json::No };
    let strings: Option<Vec<_>> = values.iter().map(serde_json::Value::as_str).collect();
    let Some(strings) = strings else { return Json::NotStrings };
    let spans = string_ranges(rest.as_str());
    let words = strings.into_iter().zip(spans);
    Json::Words(words.map(|(text, range)| Word::new(text, rest.sub(range).span())).collect())
}

/// Where the strings of a valid array of strings stand, quotes included.
fn string_ranges(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut open = None;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (byte, open) {
            (b'"', None) => open = Some(at),
            (b'"', Some(start)) => {
                ranges.push(start..at + 1);
                open = None;
            }
            (b'\\', Some(_)) => {
                bytes.next();
            }
            _ => {}
        }
    }
    ranges
}
