//! The bytes of a Dockerfile as text.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::{Source, Span};

/// Takes the bytes of a file. Comments may be in any encoding: there, each byte that is not
/// UTF-8 is read as `?`; elsewhere it is an error.
pub fn read(name: &str, bytes: &[u8]) -> Result<Source, Diagnostics> {
    let mut rest = bytes;
    let mut text = String::with_capacity(bytes.len());
    let mut foreign = Vec::new();
    while let Err(error) = std::str::from_utf8(rest) {
        let (good, bad) = rest.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(good).expect("checked up to here"));
        foreign.push(text.len());
        text.push('?');
        rest = &bad[1..];
    }
    text.push_str(std::str::from_utf8(rest).expect("checked by the loop"));
    let source = Source::new(name, &text);
    let list: Vec<_> = foreign
        .into_iter()
        .filter(|offset| !source.line_at(*offset).trim_start().starts_with('#'))
        .take(1)
        .map(|offset| {
            Diagnostic::error(Span::new(offset, offset + 1), "the file is not UTF-8 text")
                .label("this byte belongs to no character")
        })
        .collect();
    if list.is_empty() { Ok(source) } else { Err(Diagnostics { source, list }) }
}
