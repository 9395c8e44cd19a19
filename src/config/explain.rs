//! What is wrong with a file, in words for the person who wrote it.

use serde_saphyr::Error as YamlError;

use crate::error::{Error, ErrorKind};

const TOO_MUCH: &str = "it is larger or nested deeper than a configuration can be";

/// The keys of the sections, for a key that stands one level too high.
pub(super) const SECTIONS: [(&str, &[&str]); 2] = [
    (
        "go",
        &[
            "toolchain",
            "image",
            "flags",
            "ldflags",
            "gcflags",
            "asmflags",
            "tags",
            "env",
            "cgo",
            "vcs-stamp",
            "mod",
        ],
    ),
    (
        "image",
        &[
            "entrypoint",
            "cmd",
            "env",
            "user",
            "workdir",
            "ports",
            "labels",
            "annotations",
            "revision",
            "stop-signal",
            "volumes",
            "add",
        ],
    ),
];

/// Turns a parser's error into `cannot read FILE:LINE:COLUMN: …`.
pub(super) fn explain(error: &YamlError, file: &str) -> Error {
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{file}:{}:{}", at.line(), at.column()),
        _ => file.to_owned(),
    };
    let error = innermost(error);
    let found = Error::new(ErrorKind::Usage, format!("read {place}")).because(reason(error));
    match hint(error) {
        Some(hint) => found.hint(hint),
        None => found,
    }
}

/// The error itself: at an alias, what is wrong with the value that it stands for.
fn innermost(error: &YamlError) -> &YamlError {
    match error.without_snippet() {
        YamlError::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

fn reason(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, .. } => format!("unknown key {}", show(field)),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            format!("found {}, expected {}", show(variant), alternatives(expected))
        }
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {} is there twice", show(key))
        }
        YamlError::DuplicateMappingKey { key: None, .. } => "a key is there twice".to_owned(),
        YamlError::SerdeInvalidType { unexpected, expected, .. } => {
            format!("found {unexpected}, expected {expected}")
        }
        YamlError::Message { msg, .. } => msg.clone(),
        YamlError::Unexpected { expected, .. } => match *expected {
            "mapping start" => "expected keys and values".to_owned(),
            "sequence start" => "expected a list".to_owned(),
            "string scalar" => "expected a text".to_owned(),
            other => format!("expected {other}"),
        },
        YamlError::InvalidBooleanStrict { .. } => "expected true or false".to_owned(),
        YamlError::NullIntoString { .. } => {
            "expected a text; write \"\" for an empty one".to_owned()
        }
        YamlError::MultipleDocuments { .. } => {
            "expected one document, found a second one".to_owned()
        }
        YamlError::UnknownAnchor { .. } => "no anchor has this name".to_owned(),
        YamlError::ExternalMessage { msg, .. } if msg.contains("recursion limit") => {
            TOO_MUCH.to_owned()
        }
        YamlError::ExternalMessage { msg, .. } => format!("this is not YAML: {msg}"),
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. } => TOO_MUCH.to_owned(),
        other => {
            let text = other.to_string();
            let place = text.rfind(" at line ").unwrap_or(text.len());
            text[..place].to_owned()
        }
    }
}

fn hint(error: &YamlError) -> Option<String> {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => Some(hint_for_key(field, expected)),
        YamlError::SerdeInvalidType { unexpected, .. }
            if unexpected.starts_with("floating point") || unexpected.starts_with("boolean") =>
        {
            Some("put it in quotes".to_owned())
        }
        _ => None,
    }
}

/// The nearest key, the section that has the key, or all keys.
fn hint_for_key(key: &str, known: &[&str]) -> String {
    let in_section = |(_, keys): &&(&str, &[&str])| keys.contains(&plain(key).as_str());
    let sections = SECTIONS.iter().filter(|(name, _)| known.contains(name));
    let owner = sections.filter(in_section).map(|(name, _)| *name).next();
    match (nearest(key, known), owner) {
        (Some(near), _) => format!("did you mean \"{near}\"?"),
        (None, Some(section)) => {
            format!("write \"{}\" below \"{section}\"", plain(key))
        }
        (None, None) => format!("the keys here are {}", known.join(", ")),
    }
}

fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let key = plain(key);
    let distance = |known: &str| strsim::damerau_levenshtein(&key, known);
    let near = known.iter().min_by_key(|known| distance(known))?;
    let allowed = (near.len() / 3).clamp(1, 3);
    (distance(near) <= allowed).then_some(near)
}

/// `stopSignal` and `stop_signal` as this file would write them: `stop-signal`.
fn plain(key: &str) -> String {
    let mut plain = String::new();
    for c in key.chars().take(64) {
        if c.is_ascii_uppercase() && !plain.is_empty() && !plain.ends_with('-') {
            plain.push('-');
        }
        plain.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    plain
}

fn alternatives(texts: &[&str]) -> String {
    match texts {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn show(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("\"{}\"", short.escape_debug())
}
