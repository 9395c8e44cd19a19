//! Rules about what variables come out as: executes the variables of every stage.

use crate::error::nearest;
use std::collections::{BTreeMap, BTreeSet};

use super::{At, Findings, LintContext, Rule};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::expand::{Expanded, Expander, Variables};
use crate::dockerfile::instruction::{
    Add, ArgDefinition, CommandLine, Copy, Dockerfile, From, Instruction, Kind, Pair, Run, Transfer,
};
use crate::dockerfile::mount::clean_path;
use crate::dockerfile::ports;
use crate::dockerfile::scope::{Globals, Inputs, Scope, expand};
use crate::dockerfile::source::{Span, Word};
use crate::dockerfile::stages::{Graph, Origin, parse_platform};
use crate::oci::Reference;

/// Rules about `FROM` lines.
pub(super) fn check_from(
    file: &Dockerfile,
    globals: &Globals,
    inputs: &Inputs,
    findings: &mut Findings,
) {
    let expander = Expander::new(file.directives.escape);
    let without = Inputs { arguments: BTreeMap::new(), ..inputs.clone() };
    let defaults = Globals::evaluate(file, &without).ok();
    for from in file.stages.iter().map(|stage| &stage.from) {
        let mut at = findings.at(&from.comments);
        let base = expand(expander, &from.base, globals).ok();
        undeclared(&mut at, &from.base, base.as_ref(), globals);
        if let Some(word) = &from.platform {
            let platform = expand(expander, word, globals).ok();
            undeclared(&mut at, word, platform.as_ref(), globals);
            if let Some(platform) = platform {
                platform_flag(&mut at, from, word, &platform, inputs, globals);
            }
        }
        let default =
            defaults.as_ref().and_then(|globals| expand(expander, &from.base, globals).ok());
        if let Some(default) = default.filter(|default| default.text.parse::<Reference>().is_err())
        {
            let message = format!("without --build-arg, the base is \"{}\"", default.text);
            let help = "give the ARG a default that names an image";
            at.warn(Rule::InvalidDefaultArgInFrom, from.base.span, message, help);
        }
    }
}

fn undeclared(at: &mut At<'_>, word: &Word, expanded: Option<&Expanded>, globals: &Globals) {
    for name in expanded.iter().flat_map(|expanded| &expanded.missing) {
        if globals.names().any(|known| known == name) {
            continue;
        }
        let help = match nearest(name, globals.names()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("declare it before the first FROM: ARG {name}=default"),
        };
        let message = format!("FROM uses {name}, which is not declared");
        at.warn(Rule::UndefinedArgInFrom, use_of(word, name), message, &help);
    }
}

fn platform_flag(
    at: &mut At<'_>,
    from: &From,
    word: &Word,
    platform: &Expanded,
    inputs: &Inputs,
    globals: &Globals,
) {
    let used: Vec<_> = platform.used.iter().map(String::as_str).collect();
    let target = globals.value("TARGETPLATFORM").unwrap_or_default();
    if used == ["TARGETPLATFORM"] && platform.missing.is_empty() && platform.text == target {
        let message = format!("--platform={} is what happens without it", word.text);
        at.warn(Rule::RedundantTargetPlatform, word.span, message, "leave --platform out");
    }
    if !used.is_empty() || !platform.missing.is_empty() {
        return;
    }
    let Some(parsed) = parse_platform(&platform.text, &inputs.build) else { return };
    let name = from.alias.as_ref().map(|alias| alias.name.text.to_lowercase()).unwrap_or_default();
    if !name.contains(&parsed.os) && !name.contains(&parsed.architecture) {
        let message = format!("the stage is always for {}", platform.text);
        let help = "use $BUILDPLATFORM or an ARG, or put the platform into the stage's name";
        at.warn(Rule::FromPlatformFlagConstDisallowed, word.span, message, help);
    }
}

/// Where a word uses a variable.
fn use_of(word: &Word, name: &str) -> Span {
    if word.span.end - word.span.start != word.text.len() {
        return word.span;
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let written = [format!("${name}"), format!("${{{name}")];
    let places = written.iter().flat_map(|written| word.text.match_indices(written.as_str()));
    let whole = places.map(|(start, found)| (start, start + found.len()));
    let whole = whole.filter(|(_, end)| !word.text[*end..].starts_with(is_name)).min();
    let Some((start, end)) = whole else { return word.span };
    let end = end + usize::from(word.text[end..].starts_with('}'));
    Span::new(word.span.start + start, word.span.start + end)
}

/// A stage as far as it has been executed.
#[derive(Clone)]
struct State {
    scope: Scope,
    /// Every variable of the base image is known.
    known: bool,
    absolute: bool,
    shell: bool,
}

/// Rules about the instructions of stages.
pub(super) fn check(
    file: &Dockerfile,
    graph: &Graph,
    globals: &Globals,
    lint_context: &LintContext<'_>,
    findings: &mut Findings,
) {
    let mut states: Vec<State> = Vec::new();
    for (index, (stage, node)) in file.stages.iter().zip(graph.nodes()).enumerate() {
        let mut state = match &node.base {
            Origin::Stage(below) => {
                let below = &states[*below];
                State { scope: below.scope.on_stage(), ..below.clone() }
            }
            origin => fresh(file.directives.escape, origin, lint_context),
        };
        let wanted = lint_context.stages.is_none_or(|stages| stages.contains(&index));
        if wanted && !node.replaced {
            let mut walk = Walk { state: &mut state, globals, lint_context, once: BTreeMap::new() };
            for instruction in node.triggers.iter().chain(&stage.instructions) {
                let before = findings.list.len();
                walk.step(instruction, &mut findings.at(&instruction.comments));
                let given = walk.state.scope.given_in(&instruction.code);
                for finding in findings.list.iter_mut().skip(before) {
                    *finding = finding.clone().masked(&given);
                }
            }
        }
        states.push(state);
    }
}

fn fresh(escape: char, origin: &Origin, lint_context: &LintContext<'_>) -> State {
    let environment = match origin {
        Origin::Scratch => Some(Vec::new()),
        Origin::Image(_) | Origin::Context(_) => (lint_context.environment)(origin),
        Origin::Stage(_) => None,
    };
    State {
        known: environment.is_some(),
        scope: Scope::on_image(escape, &environment.unwrap_or_default()),
        absolute: false,
        shell: false,
    }
}

struct Walk<'a> {
    state: &'a mut State,
    globals: &'a Globals,
    lint_context: &'a LintContext<'a>,
    /// Where an instruction stands that only counts once.
    once: BTreeMap<&'static str, (Span, String)>,
}

impl Walk<'_> {
    fn step(&mut self, instruction: &Instruction, at: &mut At<'_>) {
        match &instruction.kind {
            Kind::Arg(definitions) => definitions.iter().for_each(|one| self.arg(at, one)),
            Kind::Env(pairs) => {
                self.pairs(at, pairs);
                for pair in pairs {
                    secret(at, "ENV", &pair.key);
                }
                // What cannot be expanded was reported.
                self.state.scope.env(pairs).ok();
            }
            Kind::Label(pairs) => self.pairs(at, pairs),
            Kind::Copy(copy) => self.copy(at, copy),
            Kind::Add(add) => self.add(at, add),
            Kind::Run(run) => self.run(at, run),
            Kind::Workdir(path) => self.workdir(at, path),
            Kind::Expose(ports) => self.expose(at, ports),
            Kind::User(word) | Kind::StopSignal(word) => {
                self.word(at, word);
            }
            Kind::Volume(words) => words.iter().for_each(|word| {
                self.word(at, word);
            }),
            Kind::Shell(_) => self.state.shell = true,
            Kind::Cmd(command) => {
                self.signals(at, instruction, command);
                self.once("CMD", instruction, at);
            }
            Kind::Entrypoint(command) => {
                self.signals(at, instruction, command);
                self.once("ENTRYPOINT", instruction, at);
            }
            Kind::Healthcheck(_) => self.once("HEALTHCHECK", instruction, at),
            Kind::Maintainer(_) | Kind::Onbuild(_) => {}
        }
    }

    fn arg(&mut self, at: &mut At<'_>, definition: &ArgDefinition) {
        secret(at, "ARG", &definition.name);
        let inputs = self.lint_context.inputs;
        let mut definition = definition.clone();
        if !inputs.arguments.contains_key(&definition.name.text)
            && let Some(default) = &definition.default
            && self.word(at, default).is_none()
        {
            // Declared at least, so that its uses are not reported too.
            definition.default = None;
        }
        if let Err(error) = self.state.scope.arg(&[definition], self.globals, inputs) {
            at.list.push(error);
        }
    }

    /// Expands a word: reports variables that nobody has set, and why it cannot be expanded.
    fn word(&self, at: &mut At<'_>, word: &Word) -> Option<String> {
        self.expanded(at, word, self.state.scope.expand_fully(word))
    }

    fn expanded(
        &self,
        at: &mut At<'_>,
        word: &Word,
        expanded: Result<Expanded, Diagnostic>,
    ) -> Option<String> {
        let expanded = match expanded {
            Ok(expanded) => expanded,
            Err(error) => {
                // What fails here may be set by a base image that is not at hand.
                at.list.extend(Some(error).filter(|_| self.state.known));
                return None;
            }
        };
        for name in &expanded.missing {
            if self.state.scope.declares(name) {
                continue;
            }
            let names = self.state.scope.run_environment().iter().map(|(name, _)| name.as_str());
            let nearest = nearest(name, names);
            // Such a value is nowhere in a stage that does not ask for it; a base rarely has the name.
            let is_global = self.globals.names().any(|known| known == name);
            if nearest.is_none() && !is_global && !self.state.known {
                continue;
            }
            let help = match nearest {
                _ if is_global => {
                    format!("an ARG before FROM counts in FROM alone; repeat ARG {name} here")
                }
                Some(nearest) => format!("did you mean ${nearest}?"),
                None => format!("declare it above: ARG {name}"),
            };
            let message = format!("the variable {name} is not set here");
            at.warn(Rule::UndefinedVar, use_of(word, name), message, &help);
        }
        Some(expanded.text)
    }

    fn pairs(&self, at: &mut At<'_>, pairs: &[Pair]) {
        for pair in pairs {
            self.word(at, &pair.key);
            self.word(at, &pair.value);
        }
    }

    fn copy(&self, at: &mut At<'_>, copy: &Copy) {
        let paths = self.transfer(at, &copy.transfer);
        if copy.from.is_none() {
            self.ignored(at, paths);
        }
    }

    fn add(&self, at: &mut At<'_>, add: &Add) {
        let paths = self.transfer(at, &add.transfer);
        if let Some(checksum) = &add.checksum {
            self.word(at, checksum);
        }
        let remote = |path: &str| path.contains("://") || path.starts_with("git@");
        self.ignored(at, paths.into_iter().filter(|(path, _)| !remote(path)).collect());
    }

    /// Gives the expanded sources.
    fn transfer(&self, at: &mut At<'_>, transfer: &Transfer) -> Vec<(String, Span)> {
        for word in transfer.chown.iter().chain(&transfer.chmod) {
            self.word(at, word);
        }
        let paths =
            transfer.paths.iter().filter_map(|word| Some((self.word(at, word)?, word.span)));
        let paths = paths.collect();
        self.word(at, &transfer.destination);
        for heredoc in &transfer.inline {
            let word = Word::new(heredoc.content(), heredoc.span);
            self.expanded(at, &word, self.state.scope.inline_file_fully(heredoc));
        }
        paths
    }

    fn ignored(&self, at: &mut At<'_>, paths: Vec<(String, Span)>) {
        for (path, span) in paths {
            let clean = clean_path(path.trim_start_matches('/'));
            if (self.lint_context.ignored)(&clean) {
                let message = format!("{clean} is left out of the context by .dockerignore");
                at.warn(Rule::CopyIgnoredFile, span, message, "take it out of .dockerignore");
            }
        }
    }

    fn run(&self, at: &mut At<'_>, run: &Run) {
        for flag in &run.mounts {
            let mut missing = BTreeSet::new();
            let resolved = flag.resolve(&mut |text| {
                let expanded =
                    Expander::new(self.state.scope.escape()).expand(text, &self.state.scope)?;
                missing.extend(expanded.missing);
                Ok(expanded.text)
            });
            let expanded = resolved.map(|_| Expanded { missing, ..Expanded::default() });
            self.expanded(at, &flag.value, expanded);
        }
    }

    fn workdir(&mut self, at: &mut At<'_>, word: &Word) {
        let path = self.word(at, word).unwrap_or_else(|| word.text.clone());
        let from_base = !self.state.known && word.text.contains('$');
        if !self.state.absolute && !path.starts_with('/') && !from_base {
            let message = format!("the first WORKDIR is relative: \"{path}\"");
            let help = format!("where it leads, the base decides; write /{path}");
            at.warn(Rule::WorkdirRelativePath, word.span, message, &help);
        }
        self.state.absolute = true;
    }

    fn expose(&self, at: &mut At<'_>, words: &[Word]) {
        let expander = Expander::new(self.state.scope.escape());
        for word in words {
            // Like BuildKit, without a warning for variables that are not set.
            let texts = expander.words(&word.text, &self.state.scope).unwrap_or_default();
            for text in texts {
                match ports::parse(&text) {
                    Ok(port) => exposed(at, &text, word.span, &port),
                    Err(wrong) if self.state.known || !word.text.contains('$') => {
                        at.list.push(wrong.at(word.span));
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn signals(&self, at: &mut At<'_>, instruction: &Instruction, command: &CommandLine) {
        if let CommandLine::Shell(_) = command
            && !self.state.shell
        {
            let keyword = &instruction.keyword;
            let message = format!("{} runs in a shell, which passes no signals on", keyword.text);
            let help = format!("write {} [\"program\", \"argument\"], or set SHELL", keyword.text);
            at.warn(Rule::JSONArgsRecommended, keyword.span, message, &help);
        }
    }

    /// Reports the earlier of two: that is the one without effect.
    fn once(&mut self, name: &'static str, instruction: &Instruction, at: &mut At<'_>) {
        let keyword = &instruction.keyword;
        if let Some((span, earlier)) = self.once.insert(name, (keyword.span, keyword.text.clone()))
        {
            let message = format!("this {earlier} has no effect: the stage has another below");
            at.warn(Rule::MultipleInstructionsDisallowed, span, message, "keep one of them");
        }
    }
}

fn exposed(at: &mut At<'_>, text: &str, span: Span, port: &ports::PortSpec) {
    let lower = port.protocol.to_ascii_lowercase();
    if port.protocol != lower {
        let message = format!("the protocol of {text} is not in lower case");
        at.warn(Rule::ExposeProtoCasing, span, message, &format!("write {lower}"));
    }
    if port.mapped {
        let message = format!("EXPOSE takes container ports only, and finds {text}");
        let help = "ports of the host are chosen when the image runs: -p";
        at.warn(Rule::ExposeInvalidFormat, span, message, help);
    }
}

/// A name that says that its value is a secret.
fn secret(at: &mut At<'_>, keyword: &str, name: &Word) {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let has = |words: &[&str]| {
        name.text.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    if has(&SECRET) && !has(&HARMLESS) {
        let message = format!("{keyword} keeps the value of {} in the image", name.text);
        let help = "give a secret to the step that needs it: RUN --mount=type=secret";
        at.warn(Rule::SecretsUsedInArgOrEnv, name.span, message, help);
    }
}
