//! Flags: the grammars of their values, each once, with docker's rules; and words that other tools have.
//!
//! What each flag does, by what is built or run, stands in one table: [`rows`]; words that other tools have and
//! gondola has not, in [`foreign`].
//!
//! | flag | written as | here |
//! |---|---|---|
//! | `--secret` | `id=NAME[,type=file\|env][,src=FILE][,env=VARIABLE]` | [`secret`] |
//! | `--ssh` | `NAME[=SOCKET]` | [`ssh`] |
//! | `--label`, `--env`, `--build-arg` and the like | `NAME=VALUE`, `NAME` | [`pair`] |
//! | `--add-host` | `NAME:IP`, `NAME=IP` | [`host`] |
//! | a context, `--build-context` | a folder, an archive, an address, a repository | [`context`] |
//! | `--platform` | `linux/amd64,linux/arm64`, `all` | [`crate::oci::PlatformSet`] |
//! | `--output` | `KIND:PATH` | [`crate::transport::Location`] |
//! | sizes, durations, switches | `64m`, `1h30m`, `true` | [`crate::literal`] |

pub(super) mod context;
pub(super) mod foreign;
pub(super) mod host;
pub(super) mod pair;
pub(super) mod platform;
pub(super) mod registry;
pub(super) mod rows;
pub(super) mod secret;
pub(super) mod ssh;
pub(super) mod switch;
pub(super) mod table;
pub(super) mod typed;

use crate::error::{Error, ErrorKind};

/// Refuses a flag's value.
fn refuse(flag: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, format!("use {flag}")).because(reason)
}

/// The fields of a value that docker reads as a line of CSV: commas separate them, and quotes keep a
/// comma inside one.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// The field that a quote has begun, and what follows the one that ends it. Two quotes stand for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_a_line_of_csv() {
        let cases: [(&str, Option<&[&str]>); 8] = [
            ("a", Some(&["a"])),
            ("", Some(&[""])),
            ("a=1,b", Some(&["a=1", "b"])),
            ("a,,b,", Some(&["a", "", "b", ""])),
            (r#"id=a,"src=b,c""#, Some(&["id=a", "src=b,c"])),
            (r#""a""b",c"#, Some(&["a\"b", "c"])),
            (r#""a"#, None),
            (r#""a"b"#, None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|fields| fields.iter().map(|f| (*f).to_owned()).collect());
            assert_eq!(fields(text), expected, "{text}");
        }
    }
}
