//! Warnings: what BuildKit's linter warns of, by its names for the rules.
//!
//! `shape` looks at the file as it is written; `values` executes the variables of each stage
//! and looks at what comes out. The rules are described at
//! <https://docs.docker.com/reference/build-checks/>.

mod options;
mod shape;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use self::options::Options;
use super::diagnostic::{Diagnostic, Level};
use super::instruction::Dockerfile;
use super::scope::{Globals, Inputs};
use super::source::{Span, Word};
use super::stages::{EMPTY_BASE, Graph, Origin};

macro_rules! rules {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// A rule of the linter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $($(#[$documentation])* $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name that `# check=skip=` takes.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

rules! {
    /// Keywords are written in one case, upper or lower.
    ConsistentInstructionCasing,
    /// A file that is copied is not one that `.dockerignore` leaves out.
    CopyIgnoredFile,
    /// No two stages have one name.
    DuplicateStageName,
    /// `EXPOSE` has no addresses and host ports.
    ExposeInvalidFormat,
    /// Protocols of `EXPOSE` are in lower case.
    ExposeProtoCasing,
    /// `AS` is written in the case of its `FROM`.
    FromAsCasing,
    /// `FROM --platform` is no constant, unless the stage's name says so.
    FromPlatformFlagConstDisallowed,
    /// Without any `--build-arg`, `FROM` still names an image.
    InvalidDefaultArgInFrom,
    /// A comment above `ARG` or `FROM` describes it (experimental).
    InvalidDefinitionDescription,
    /// `CMD` and `ENTRYPOINT` are in JSON form, so that signals arrive.
    JSONArgsRecommended,
    /// `ENV` and `LABEL` have an equals sign.
    LegacyKeyValueFormat,
    /// A label names the author, not `MAINTAINER`.
    MaintainerDeprecated,
    /// A stage has one `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.
    MultipleInstructionsDisallowed,
    /// Continued lines have no empty lines in between.
    NoEmptyContinuation,
    /// `--platform=$TARGETPLATFORM` is what happens anyway.
    RedundantTargetPlatform,
    /// No stage is called `scratch` or `context`.
    ReservedStageName,
    /// Secrets are mounted, not put into `ARG` or `ENV`.
    SecretsUsedInArgOrEnv,
    /// Names of stages are in lower case.
    StageNameCasing,
    /// `FROM` uses declared arguments.
    UndefinedArgInFrom,
    /// Variables are declared before they are used.
    UndefinedVar,
    /// The first `WORKDIR` is absolute.
    WorkdirRelativePath,
}

impl Rule {
    fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}

/// What the rules need to know besides the file.
#[derive(Clone, Copy)]
pub struct LintContext<'a> {
    /// The command line.
    pub inputs: &'a Inputs,
    /// The names of `--build-context`.
    pub contexts: &'a BTreeSet<String>,
    /// Only these stages matter, by index; without it, all.
    pub stages: Option<&'a [usize]>,
    /// The variables that a stage has from a base outside of the file, if they are known.
    pub environment: &'a dyn Fn(&Origin) -> Option<Vec<String>>,
    /// Tells whether ignore rules leave out a cleaned path of the context (`.` is all of it) for
    /// certain: rules with exceptions leave nothing out for certain.
    pub ignored: &'a dyn Fn(&str) -> bool,
}

/// Collects findings.
struct Findings {
    options: Options,
    list: Vec<Diagnostic>,
}

impl Findings {
    /// The options that hold at an instruction.
    fn at(&mut self, comments: &[Word]) -> At<'_> {
        let options = self.options.for_comments(comments.iter().map(Word::as_str));
        At { options, list: &mut self.list }
    }
}

/// Collects findings about one instruction.
struct At<'a> {
    options: Options,
    list: &'a mut Vec<Diagnostic>,
}

impl At<'_> {
    fn warn(&mut self, rule: Rule, span: Span, message: impl Into<String>, help: &str) {
        if self.options.checks(rule) {
            let warning = Diagnostic::warning(rule.name(), span, message);
            self.list.push(if help.is_empty() { warning } else { warning.help(help) });
        }
    }
}

/// Checks a file. With `error=true` every finding is an error.
///
/// Errors of stages, variables and ports that only show when they are evaluated are given too.
pub fn lint(file: &Dockerfile, lint_context: &LintContext<'_>) -> Vec<Diagnostic> {
    let mut findings = match begin(file, lint_context) {
        Ok(findings) => findings,
        Err(error) => return vec![error],
    };
    shape::check(file, &mut findings);
    let globals = match Globals::evaluate(file, lint_context.inputs) {
        Ok(globals) => globals,
        Err(errors) => {
            findings.list.extend(errors.list);
            return finish(findings);
        }
    };
    values::check_from(file, &globals, lint_context.inputs, &mut findings);
    match Graph::build(file, &globals, lint_context.inputs, lint_context.contexts) {
        Ok(graph) => {
            if lint_context.stages.is_none() {
                findings.list.extend(graph.wrong_origins().cloned());
            }
            values::check(file, &graph, &globals, lint_context, &mut findings);
        }
        Err(errors) => {
            // That a base without --build-arg is nothing was said.
            let warned: Vec<Span> = findings
                .list
                .iter()
                .filter(|found| found.rule == Some(Rule::InvalidDefaultArgInFrom.name()))
                .map(|found| found.span)
                .collect();
            let is_said =
                |error: &Diagnostic| error.message == EMPTY_BASE && warned.contains(&error.span);
            findings.list.extend(errors.list.into_iter().filter(|error| !is_said(error)));
        }
    }
    finish(findings)
}

/// The findings of [`Rule::UndefinedVar`] alone, of a file that has no errors: these take the variables of its bases,
/// which are looked up long after all else was found.
pub(super) fn undefined_variables(
    file: &Dockerfile,
    graph: &Graph,
    globals: &Globals,
    lint_context: &LintContext<'_>,
) -> Result<Vec<Diagnostic>, Diagnostic> {
    let mut findings = begin(file, lint_context)?;
    values::check(file, graph, globals, lint_context, &mut findings);
    findings.list.retain(is_of_variable);
    Ok(finish(findings))
}

/// Whether a finding is that a variable is not set.
pub(super) fn is_of_variable(found: &Diagnostic) -> bool {
    found.rule == Some(Rule::UndefinedVar.name())
}

/// Checks what can be checked of a file that has errors.
pub(super) fn lint_shape(file: &Dockerfile, lint_context: &LintContext<'_>) -> Vec<Diagnostic> {
    let mut findings = match begin(file, lint_context) {
        Ok(findings) => findings,
        Err(error) => return vec![error],
    };
    shape::check(file, &mut findings);
    finish(findings)
}

fn begin(file: &Dockerfile, lint_context: &LintContext<'_>) -> Result<Findings, Diagnostic> {
    Ok(Findings { options: options(file, lint_context.inputs)?, list: Vec::new() })
}

/// What the command line asks of the linter, else the file itself.
pub(super) fn options(file: &Dockerfile, inputs: &Inputs) -> Result<Options, Diagnostic> {
    let given = inputs.arguments.get("BUILDKIT_DOCKERFILE_CHECK");
    let directive = file.directives.check.as_ref();
    let span = directive.map(|word| word.span).unwrap_or_default();
    // As BuildKit does: what follows a space is a remark.
    let written = directive.and_then(|word| word.text.split(' ').next());
    let text = given.map(String::as_str).or(written).unwrap_or_default();
    Options::parse(text).map_err(|message| {
        Diagnostic::error(span, message).label("expected skip=RULE,…;error=true")
    })
}

fn finish(findings: Findings) -> Vec<Diagnostic> {
    let Findings { options, mut list } = findings;
    if options.error {
        for finding in &mut list {
            finding.level = Level::Error;
        }
    }
    list.sort_by_key(|finding| finding.span);
    list.dedup();
    list
}
