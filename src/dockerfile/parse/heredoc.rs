//! Heredocs: `<<NAME` words of a line, and the bodies below it.

use super::lines::Lines;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::expand::{Expander, NoVariables};
use crate::dockerfile::instruction::Heredoc;
use crate::dockerfile::source::Span;

/// The heredocs that a line opens, without bodies.
///
/// A line whose quotes do not match opens none: it is for the shell to complain.
pub(super) fn opened(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let lexer = Expander::new('\\').keeping_quotes().keeping_escapes().keeping_unset();
    let words = lexer.words(line, &NoVariables).unwrap_or_default();
    words.iter().filter_map(|word| parse(word)).collect()
}

/// Parses a word as a heredoc: `<<NAME`, `<<-NAME`, `3<<"NAME"`.
pub(super) fn parse(word: &str) -> Option<Heredoc> {
    let (descriptor, rest) = word.split_once("<<")?;
    if !descriptor.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let strip_tabs = rest.starts_with('-');
    let name = rest.strip_prefix('-').unwrap_or(rest).trim_start();
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let lexer = Expander::new('\\').keeping_unset();
    let plain = lexer.words(name, &NoVariables).ok()?;
    let quoted = lexer.keeping_quotes().words(name, &NoVariables).ok()?;
    let ([plain], [quoted]) = (plain.as_slice(), quoted.as_slice()) else { return None };
    let count = |word: &str| word.matches(['\'', '"']).count();
    Some(Heredoc {
        name: plain.clone(),
        descriptor: descriptor.parse().unwrap_or_default(),
        expand: count(plain) == count(quoted),
        strip_tabs,
        body: String::new(),
        span: Span::default(),
    })
}

/// Reads the bodies of the heredocs that a line opened. `line` is where the line stands.
pub(super) fn read_bodies(
    lines: &mut Lines<'_>,
    heredocs: &mut [Heredoc],
    line: Span,
) -> Result<Span, Diagnostic> {
    let mut whole = line;
    for heredoc in heredocs {
        let mut start = None;
        loop {
            let Some(physical) = lines.physical() else {
                let name = &heredoc.name;
                return Err(Diagnostic::error(line, format!("the heredoc {name} is never ended"))
                    .help(format!("end it with a line that has {name} alone")));
            };
            let begin = *start.get_or_insert(physical.start);
            let mut candidate = physical.text;
            if heredoc.strip_tabs {
                candidate = candidate.trim_start_matches('\t');
            }
            if candidate == heredoc.name {
                heredoc.span = Span::new(begin, physical.start);
                lines.slice(heredoc.span).clone_into(&mut heredoc.body);
                whole.end = physical.start + physical.text.len();
                break;
            }
        }
    }
    Ok(whole)
}
