//! What is said of a value that a flag does not take.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::net::AddrParseError;
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, ErrorKind as Kind};

use crate::error::{Error, ErrorKind};
use crate::secret;

/// The error for a wrong value, or for one that is absent, in the words of its flag.
pub(super) fn explain(error: &clap::Error) -> Option<Error> {
    if !matches!(error.kind(), Kind::ValueValidation | Kind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let argument = Argument::of(text(ContextKind::InvalidArg)?);
    let value = secret::addresses(text(ContextKind::InvalidValue).unwrap_or_default());
    if value.is_empty() && error.source().is_none() {
        let why = format!("a value is missing, expected {}", argument.grammar);
        return Some(Error::new(ErrorKind::Usage, argument.action("")).because(why));
    }
    let (why, hint) = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(all)) => (format!("expected {}", listed(all)), None),
        _ => reason(error.source()?, &value, &argument),
    };
    let explained = Error::new(ErrorKind::Usage, argument.action(&value)).because(why);
    Some(match hint {
        Some(hint) => explained.hint(hint),
        None => explained,
    })
}

/// The error for an argument that must be text and is none, where one of them can be it.
pub(super) fn explain_bytes(error: &clap::Error, arguments: &[OsString]) -> Option<Error> {
    let is_no_text = |word: &&OsString| word.to_str().is_none();
    let word = arguments.iter().find(is_no_text).filter(|_| error.kind() == Kind::InvalidUtf8)?;
    let shown = secret::addresses(&word.to_string_lossy());
    Some(
        Error::new(ErrorKind::Usage, format!("use \"{}\"", shown.escape_debug()))
            .because("it is not UTF-8, expected text"),
    )
}

/// An argument, as the parser writes it: `--tag <NAME>`, `--push[=<PUSH>]`, `[NAME]...`.
struct Argument<'a> {
    flag: Option<&'a str>,
    grammar: &'a str,
}

impl<'a> Argument<'a> {
    fn of(text: &'a str) -> Self {
        let flag = text.starts_with('-').then(|| text.split([' ', '[', '=']).next());
        let flag = flag.flatten();
        let rest = text.strip_prefix(flag.unwrap_or_default()).unwrap_or(text).trim_start();
        if rest.starts_with("[=<") {
            return Self { flag, grammar: "true or false" };
        }
        let bare = rest.trim_end_matches("...");
        let bare = bare.strip_prefix('<').and_then(|bare| bare.strip_suffix('>')).unwrap_or(bare);
        let grammar = match flag {
            Some(_) => bare,
            None => bare.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(bare),
        };
        Self { flag, grammar }
    }

    fn action(&self, value: &str) -> String {
        let value = value.escape_debug();
        match self.flag {
            Some(flag) => format!("use {flag} {value}").trim_end().to_owned(),
            None => format!("use \"{value}\" as {}", self.grammar),
        }
    }
}

/// Why a value is none, and the next move. What only says once more which value it is, is left out.
fn reason(
    source: &(dyn StdError + 'static),
    value: &str,
    argument: &Argument<'_>,
) -> (String, Option<String>) {
    if let Some(error) = source.downcast_ref::<Error>() {
        let message = error.message();
        let why = match message.split_once(&format!("\"{value}\": ")) {
            Some((before, why)) if before.starts_with("cannot ") => why.to_owned(),
            _ => message,
        };
        return match error.next_move() {
            Some(hint) => (why, Some(hint.to_owned())),
            None => (with_grammar(why, argument), None),
        };
    }
    let why = if source.is::<ParseIntError>() && value.starts_with('-') {
        "expected a number from 0 on".to_owned()
    } else if source.is::<ParseIntError>() {
        "expected a number".to_owned()
    } else if source.is::<AddrParseError>() {
        "expected an IP address".to_owned()
    } else {
        in_range(&source.to_string()).unwrap_or_else(|| source.to_string())
    };
    (with_grammar(why, argument), None)
}

/// What a value must look like, where the reason does not say it.
fn with_grammar(why: String, argument: &Argument<'_>) -> String {
    let is_said = why.contains("expected") || why.contains(argument.grammar);
    if is_said { why } else { format!("{why}, expected {}", argument.grammar) }
}

/// `100 is not in 1..=64`, as the parser says it.
fn in_range(text: &str) -> Option<String> {
    let (_, range) = text.split_once(" is not in ")?;
    let (first, last) = range.split_once("..=").or_else(|| range.split_once(".."))?;
    Some(match last {
        "" => format!("expected a number from {first} on"),
        _ => format!("expected a number from {first} to {last}"),
    })
}

/// `a, b or c`.
fn listed(all: &[String]) -> String {
    match all {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => all.concat(),
    }
}
