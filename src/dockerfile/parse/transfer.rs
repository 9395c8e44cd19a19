//! `COPY` and `ADD`.

use super::flags::{Flags, Takes};
use super::heredoc;
use super::statement::{Arguments, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::expand::{Expander, NoVariables};
use crate::dockerfile::instruction::{Add, Copy, Heredoc, Transfer};
use crate::dockerfile::source::Word;

pub(super) fn copy(statement: &Statement) -> Result<Copy, Diagnostic> {
    let known = [
        ("from", Takes::Value),
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("parents", Takes::Switch),
        ("exclude", Takes::Values),
    ];
    let flags = Flags::parse("COPY", &statement.flags, &known)?;
    let from = flags.value("from").filter(|from| !from.text.is_empty());
    if let Some(from) = &from {
        check_constant(from)?;
    }
    let transfer = transfer(statement, &flags)?;
    Ok(Copy { transfer, from, parents: flags.switch("parents").unwrap_or(false) })
}

pub(super) fn add(statement: &Statement) -> Result<Add, Diagnostic> {
    let known = [
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("keep-git-dir", Takes::Switch),
        ("checksum", Takes::Value),
        ("unpack", Takes::Switch),
        ("exclude", Takes::Values),
    ];
    let flags = Flags::parse("ADD", &statement.flags, &known)?;
    Ok(Add {
        transfer: transfer(statement, &flags)?,
        keep_git_dir: flags.switch("keep-git-dir"),
        checksum: flags.value("checksum"),
        unpack: flags.switch("unpack"),
    })
}

/// Where a `--from` has a variable, it could not be known which stages are needed.
fn check_constant(from: &Word) -> Result<(), Diagnostic> {
    match Expander::new('\\').expand(&from.text, &NoVariables) {
        Ok(expanded) if expanded.text == from.text => Ok(()),
        _ => Err(Diagnostic::error(from.span, "--from takes no variables")
            .label("this one would be expanded")
            .help("name the image in a stage of its own, FROM … AS name, and use the name")),
    }
}

fn transfer(statement: &Statement, flags: &Flags) -> Result<Transfer, Diagnostic> {
    let name = statement.name();
    let (words, json): (&[Word], bool) = match &statement.arguments {
        Arguments::Words(words) => (words, false),
        Arguments::Json(words) => (words, true),
        _ => (&[], false),
    };
    let (destination, sources) = match words.split_last() {
        Some((destination, sources)) if !sources.is_empty() => (destination, sources),
        _ => {
            let span = words.last().map_or(statement.keyword.span, |word| word.span);
            let message = format!("{name} needs a source and a destination");
            return Err(Diagnostic::error(span, message).label("the destination is missing"));
        }
    };
    let opened = |word: &Word| if json { None } else { heredoc::parse(&word.text) };
    if opened(destination).is_some() {
        let message = format!("the destination of {name} cannot be a heredoc");
        return Err(Diagnostic::error(destination.span, message).label("expected a path"));
    }
    let mut paths = Vec::new();
    let mut inline = Vec::new();
    for source in sources {
        match opened(source) {
            None => paths.push(source.clone()),
            Some(opened) => inline.push(body(statement, opened, source)?),
        }
    }
    Ok(Transfer {
        paths,
        inline,
        destination: destination.clone(),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        excludes: flags.values("exclude").cloned().collect(),
    })
}

/// The heredoc with its body; of two with one name, the later.
fn body(statement: &Statement, opened: Heredoc, source: &Word) -> Result<Heredoc, Diagnostic> {
    let read = statement.heredocs.iter().rfind(|read| read.name == opened.name);
    match read {
        Some(read) => Ok(Heredoc { body: read.body.clone(), span: read.span, ..opened }),
        None => Err(Diagnostic::error(source.span, "the heredoc has no body")
            .label("a quote before it is never closed")),
    }
}
