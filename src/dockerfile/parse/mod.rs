//! The parser: lines, statements, typed instructions.
//!
//! `lines` joins continuations and drops comments, `statement` splits a line into keyword,
//! flags and arguments and reads its heredocs, `typed` checks them against what the instruction
//! allows. Errors of one statement do not hide those of the next.

mod flags;
mod heredoc;
mod lines;
pub mod statement;
mod text;
mod transfer;
mod typed;
mod words;

#[cfg(test)]
mod tests;

use self::lines::Lines;
use self::statement::Statement;
use self::typed::Typed;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::instruction::{Directives, Dockerfile, GlobalArg, Instruction, Kind, Stage};
use super::source::{Source, Span};

/// Parses a Dockerfile; on failure, every error that was found.
pub fn parse(source: &Source) -> Result<Dockerfile, Diagnostics> {
    let (file, errors) = parse_all(source);
    if errors.is_empty() { Ok(file) } else { Err(in_order(source, errors)) }
}

/// Parses what can be parsed of a file: the linter looks at that too.
pub(super) fn parse_all(source: &Source) -> (Dockerfile, Vec<Diagnostic>) {
    let mut file = Parser::new(source);
    let mut lines = Lines::new(source.text());
    while let Some(statement) = statement::next(&mut lines) {
        match statement.and_then(typed::typed) {
            Ok(typed) => file.add(typed),
            Err(error) => file.wrong(error),
        }
    }
    file.finish(lines)
}

/// Splits a file into statements without checking what the instructions allow.
pub fn statements(source: &Source) -> Result<(Directives, Vec<Statement>), Diagnostics> {
    let mut lines = Lines::new(source.text());
    let mut found = Vec::new();
    let mut errors = Vec::new();
    while let Some(statement) = statement::next(&mut lines) {
        match statement {
            Ok(statement) => found.push(statement),
            Err(error) => errors.push(error),
        }
    }
    errors.append(&mut lines.errors);
    if errors.is_empty() {
        return Ok((lines.directives, found));
    }
    Err(in_order(source, errors))
}

/// Parses a trigger that a base image's `ONBUILD` left in its config.
pub fn trigger(name: &str, text: &str) -> Result<Instruction, Diagnostics> {
    let source = Source::new(name, text);
    let failed = |error| Diagnostics { source: source.clone(), list: vec![error] };
    let (_, mut statements) = statements(&source)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        let span = Span::new(0, text.len());
        return Err(failed(Diagnostic::error(span, "a trigger has to be one instruction")));
    };
    match typed::typed(statement).map_err(failed)? {
        Typed::Instruction(instruction) if !matches!(instruction.kind, Kind::Onbuild(_)) => {
            Ok(instruction)
        }
        _ => Err(failed(Diagnostic::error(
            Span::new(0, text.len()),
            "a trigger cannot be FROM or ONBUILD",
        ))),
    }
}

fn in_order(source: &Source, mut list: Vec<Diagnostic>) -> Diagnostics {
    list.sort_by_key(|error| error.span);
    Diagnostics { source: source.clone(), list }
}

/// Sorts statements into global arguments and stages.
struct Parser<'a> {
    source: &'a Source,
    globals: Vec<GlobalArg>,
    stages: Vec<Stage>,
    errors: Vec<Diagnostic>,
    /// An instruction before the first `FROM` was already complained about.
    astray: bool,
}

impl<'a> Parser<'a> {
    fn new(source: &'a Source) -> Self {
        Self { source, globals: Vec::new(), stages: Vec::new(), errors: Vec::new(), astray: false }
    }

    fn wrong(&mut self, error: Diagnostic) {
        self.errors.push(error);
    }

    fn add(&mut self, typed: Typed) {
        let instruction = match typed {
            Typed::From(from) => {
                self.stages.push(Stage { from, instructions: Vec::new() });
                return;
            }
            Typed::Instruction(instruction) => instruction,
        };
        if let Some(stage) = self.stages.last_mut() {
            stage.instructions.push(instruction);
            return;
        }
        let Instruction { span, keyword, comments, kind, .. } = instruction;
        match kind {
            Kind::Arg(definitions) => {
                self.globals.push(GlobalArg { span, keyword, comments, definitions });
            }
            _ if self.astray || !self.errors.is_empty() => {}
            _ => {
                self.astray = true;
                let message = format!("{} stands before the first FROM", keyword.text);
                self.wrong(
                    Diagnostic::error(keyword.span, message).label("only ARG may stand here"),
                );
            }
        }
    }

    fn finish(mut self, lines: Lines<'_>) -> (Dockerfile, Vec<Diagnostic>) {
        self.errors.extend(lines.errors);
        if self.stages.is_empty() && self.errors.is_empty() {
            let end = Span::new(self.source.text().len(), self.source.text().len());
            let error = Diagnostic::error(end, "the file has no FROM");
            self.errors.push(error.label("expected FROM and the name of an image"));
        }
        let file = Dockerfile {
            source: self.source.clone(),
            directives: lines.directives,
            globals: self.globals,
            stages: self.stages,
            empty_continuations: lines.empty_continuations,
        };
        (file, self.errors)
    }
}
