//! The graph of stages: what each is based on, what it copies and mounts from, and which of them
//! a target needs.
//!
//! A stage can only use stages above it, so the graph has no cycles and the order of the file is
//! an order of execution.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, nearest};
use super::expand::{Expanded, Expander};
use super::instruction::{Dockerfile, From, Instruction, Kind};
use super::scope::{Globals, Inputs, expand};
use super::source::{Diagnostics, Source, Span, Word};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Platform, Reference};

/// Where files come from, or what a stage is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing at all.
    Scratch,
    /// A stage above, by its index.
    Stage(usize),
    /// A named context, by the name that it was given with.
    Context(String),
    /// An image.
    Image(Reference),
}

/// A stage in the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name in lower case.
    pub name: Option<String>,
    /// What `FROM` names. If a named context has the stage's own name, it takes the place of the
    /// whole stage: then this is that context, and [`Node::replaced`] is set.
    pub base: Origin,
    /// A named context takes the place of this stage: its instructions are not executed.
    pub replaced: bool,
    /// `--platform`; without it, the base's own or the target's.
    pub platform: Option<Platform>,
    /// The triggers that the stage below left with `ONBUILD`: executed before the stage's own
    /// instructions.
    pub triggers: Vec<Instruction>,
    /// What the instructions copy and mount from, in their order.
    uses: Vec<Use>,
}

/// A `from` of an instruction.
#[derive(Clone, Debug)]
struct Use {
    name: String,
    origin: std::result::Result<Origin, Diagnostic>,
}

/// The stages of a file.
#[derive(Clone, Debug)]
pub struct Graph {
    source: Source,
    nodes: Vec<Node>,
    /// The names of all stages in lower case, known before their nodes are.
    names: Vec<Option<String>>,
    contexts: BTreeSet<String>,
}

impl Graph {
    /// Builds the graph. `contexts` are the names of `--build-context`.
    ///
    /// Errs for bases and platforms that cannot be, in every stage; a `--from` that cannot be is
    /// an error only where the stage is needed, as it is for BuildKit.
    pub fn build(
        file: &Dockerfile,
        globals: &Globals,
        inputs: &Inputs,
        contexts: &BTreeSet<String>,
    ) -> std::result::Result<Self, Diagnostics> {
        let names = file.stages.iter().map(|stage| lower_name(&stage.from)).collect();
        let source = file.source.clone();
        let mut graph = Self { source, nodes: Vec::new(), names, contexts: contexts.clone() };
        let mut errors = Vec::new();
        let reader = FromReader { escape: file.directives.escape, globals, build: &inputs.build };
        for (index, stage) in file.stages.iter().enumerate() {
            match graph.node(&stage.from, &reader) {
                Ok(node) => graph.nodes.push(node),
                Err(error) => {
                    errors.push(error);
                    graph.nodes.push(Node::unusable(&stage.from));
                }
            }
            let base = graph.nodes[index].base.clone();
            if let (Origin::Stage(below), false) = (base, graph.nodes[index].replaced) {
                graph.nodes[index].triggers = triggers(&file.stages[below].instructions);
            }
        }
        for (index, stage) in file.stages.iter().enumerate() {
            let node = &graph.nodes[index];
            let instructions = node.triggers.iter().chain(&stage.instructions);
            let mut uses = Vec::new();
            for (name, span) in instructions.flat_map(origins) {
                let origin = graph.origin(index, &name, span);
                uses.push(Use { name, origin });
            }
            graph.nodes[index].uses = uses;
        }
        if errors.is_empty() {
            return Ok(graph);
        }
        Err(Diagnostics { source: file.source.clone(), list: errors })
    }

    /// The stages, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The stage that `--target` names, or the last one.
    pub fn target(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(self.nodes.len() - 1);
        };
        let lower = name.to_lowercase();
        if let Some(index) = self.nodes.iter().rposition(|node| node.name.as_ref() == Some(&lower))
        {
            return Ok(index);
        }
        if let Some(index) = name.parse().ok().filter(|index| *index < self.nodes.len()) {
            return Ok(index);
        }
        let names: Vec<_> = self.nodes.iter().filter_map(|node| node.name.as_deref()).collect();
        let error = Error::new(ErrorKind::Usage, format!("build the target {name}"));
        let error = error.because(format!("{} has no stage of that name", self.source.name()));
        Err(match nearest(name, names.iter().copied()) {
            Some(nearest) => error.hint(format!("did you mean {nearest}?")),
            None if names.is_empty() => {
                error.hint("none of its stages has a name: leave --target out")
            }
            None => error.hint(format!("its stages are {}", names.join(", "))),
        })
    }

    /// The stages that a target needs, itself included, in an order of execution.
    ///
    /// Errs if one of them copies or mounts from something that cannot be.
    pub fn needed(&self, target: usize) -> std::result::Result<Vec<usize>, Diagnostics> {
        let mut needed = BTreeSet::new();
        let mut errors = Vec::new();
        let mut waiting = vec![target];
        while let Some(index) = waiting.pop() {
            if !needed.insert(index) {
                continue;
            }
            let node = &self.nodes[index];
            if let Origin::Stage(below) = node.base {
                waiting.push(below);
            }
            for each in node.uses.iter().filter(|_| !node.replaced) {
                match &each.origin {
                    Ok(Origin::Stage(other)) => waiting.push(*other),
                    Ok(_) => {}
                    Err(error) => errors.push(error.clone()),
                }
            }
        }
        if errors.is_empty() {
            return Ok(needed.into_iter().collect());
        }
        errors.sort_by_key(|error| error.span);
        errors.dedup();
        Err(Diagnostics { source: self.source.clone(), list: errors })
    }

    /// Every `--from` of every stage that cannot be, for the linter.
    pub fn wrong_origins(&self) -> impl Iterator<Item = &Diagnostic> {
        let uses = self.nodes.iter().filter(|node| !node.replaced).flat_map(|node| &node.uses);
        uses.filter_map(|each| each.origin.as_ref().err())
    }

    /// What a `--from` in a stage, or in a trigger that an image brought into it, means.
    pub fn from(&self, stage: usize, name: &str) -> std::result::Result<Origin, Diagnostic> {
        let known = self.nodes[stage].uses.iter().find(|each| each.name == name);
        match known {
            Some(known) => known.origin.clone(),
            None => self.origin(stage, name, Span::default()),
        }
    }

    /// Adds the triggers that a stage's base image brings. They are executed first, and what
    /// they copy from is needed too: ask [`Graph::needed`] again.
    pub fn add_triggers(&mut self, stage: usize, triggers: Vec<Instruction>) {
        for (name, span) in triggers.iter().flat_map(origins) {
            let origin = self.origin(stage, &name, span);
            self.nodes[stage].uses.push(Use { name, origin });
        }
        self.nodes[stage].triggers.splice(0..0, triggers);
    }

    fn node(&self, from: &From, reader: &FromReader<'_>) -> std::result::Result<Node, Diagnostic> {
        let name = lower_name(from);
        let platform = reader.platform(from)?;
        let base = reader.base(from)?;
        let context = name.as_deref().and_then(|name| self.context(name));
        let replaced = context.is_some();
        let base = match context {
            Some(context) => Origin::Context(context),
            None => self.base(&base, from.base.span)?,
        };
        Ok(Node { name, base, replaced, platform, triggers: Vec::new(), uses: Vec::new() })
    }

    /// What the expanded name of a `FROM` line means: a stage above, else a context or an image.
    fn base(&self, name: &str, span: Span) -> std::result::Result<Origin, Diagnostic> {
        let lower = name.to_lowercase();
        match self.nodes.iter().rposition(|node| node.name.as_ref() == Some(&lower)) {
            Some(index) => Ok(Origin::Stage(index)),
            None => self.outside(name, span),
        }
    }

    /// What the name means when it is no stage.
    fn outside(&self, name: &str, span: Span) -> std::result::Result<Origin, Diagnostic> {
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        if let Some(context) = self.context(name) {
            return Ok(Origin::Context(context));
        }
        match name.parse::<Reference>() {
            Ok(reference) => Ok(Origin::Image(reference)),
            Err(_) => Err(Diagnostic::error(span, format!("\"{name}\" is no name of an image"))
                .label("expected a stage above, or [registry/]repository[:tag][@digest]")),
        }
    }

    fn context(&self, name: &str) -> Option<String> {
        let canonical = context_name(name);
        let reserved =
            ["scratch", "context"].iter().any(|name| canonical.eq_ignore_ascii_case(name));
        let found = self.contexts.iter().find(|known| context_name(known) == canonical);
        found.filter(|_| !reserved).cloned()
    }

    /// What a `from` in a stage means.
    fn origin(
        &self,
        stage: usize,
        name: &str,
        span: Span,
    ) -> std::result::Result<Origin, Diagnostic> {
        let lower = name.to_lowercase();
        let above = &self.nodes[..stage];
        if let Some(index) = above.iter().rposition(|node| node.name.as_ref() == Some(&lower)) {
            return Ok(Origin::Stage(index));
        }
        let all = self.names.len();
        let below = self.names.iter().rposition(|known| known.as_ref() == Some(&lower));
        match (below, name.parse::<i64>()) {
            (Some(index), _) if index == stage => {
                Err(Diagnostic::error(span, format!("the stage {name} cannot copy from itself")))
            }
            (Some(_), _) => Err(Diagnostic::error(span, format!("the stage {name} comes later"))
                .label("only stages above this one can be used")),
            (None, Ok(index)) => match usize::try_from(index) {
                Ok(index) if index < stage => Ok(Origin::Stage(index)),
                Ok(index) if index < all => {
                    Err(Diagnostic::error(span, format!("stage {index} is not above this one"))
                        .label("only stages above this one can be used"))
                }
                _ => Err(Diagnostic::error(span, format!("there is no stage {index}"))
                    .label(format!("the file has {all}, counted from 0"))),
            },
            (None, Err(_)) => self.outside(name, span),
        }
    }
}

impl Node {
    /// Stands for a stage whose `FROM` is wrong while the rest is looked at.
    fn unusable(from: &From) -> Self {
        Self {
            name: lower_name(from),
            base: Origin::Scratch,
            replaced: false,
            platform: None,
            triggers: Vec::new(),
            uses: Vec::new(),
        }
    }
}

fn lower_name(from: &From) -> Option<String> {
    from.alias.as_ref().map(|alias| alias.name.text.to_lowercase())
}

/// Reads `FROM` lines with the global arguments.
struct FromReader<'a> {
    escape: char,
    globals: &'a Globals,
    build: &'a Platform,
}

impl FromReader<'_> {
    fn expand(&self, word: &Word) -> std::result::Result<Expanded, Diagnostic> {
        expand(Expander::new(self.escape), word, self.globals)
    }

    fn base(&self, from: &From) -> std::result::Result<String, Diagnostic> {
        let expanded = self.expand(&from.base)?;
        if !expanded.text.is_empty() {
            return Ok(expanded.text);
        }
        Err(self.blank(&from.base, &expanded, "the base's name is empty"))
    }

    fn platform(&self, from: &From) -> std::result::Result<Option<Platform>, Diagnostic> {
        let Some(word) = from.platform.as_ref().filter(|word| !word.text.is_empty()) else {
            return Ok(None);
        };
        let expanded = self.expand(word)?;
        if expanded.text.is_empty() {
            return Err(self.blank(word, &expanded, "the platform is empty"));
        }
        parse_platform(&expanded.text, self.build).map(Some).ok_or_else(|| {
            let message = format!("\"{}\" is no platform", expanded.text);
            self.blank(word, &expanded, &message)
        })
    }

    /// An error about a word that probably is wrong because a variable is not set.
    fn blank(&self, word: &Word, expanded: &Expanded, message: &str) -> Diagnostic {
        let error = Diagnostic::error(word.span, message);
        let Some(missing) = expanded.missing.first() else { return error };
        let declared = self.globals.names().any(|name| name == missing);
        match nearest(missing, self.globals.names()).filter(|name| name != missing) {
            _ if declared => error
                .label(format!("{missing} has no value"))
                .help(format!("give one: --build-arg {missing}=…, or ARG {missing}=default")),
            Some(nearest) => error.label(format!("did you mean {nearest}?")),
            None => error
                .label(format!("{missing} is not declared"))
                .help(format!("declare it before the first FROM: ARG {missing}=default")),
        }
    }
}

/// A platform as `FROM --platform` takes it: either part may be missing.
pub(super) fn parse_platform(text: &str, build: &Platform) -> Option<Platform> {
    const SYSTEMS: [&str; 6] = ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd"];
    if text.contains('/') {
        return text.parse().ok();
    }
    if text == "local" {
        return Some(build.clone());
    }
    if SYSTEMS.contains(&text.to_ascii_lowercase().as_str()) {
        return format!("{text}/{}", build.architecture).parse().ok();
    }
    format!("{}/{text}", build.os).parse().ok()
}

/// What an instruction copies or mounts from, by the names that it uses.
fn origins(instruction: &Instruction) -> Vec<(String, Span)> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(|word| (word.text.clone(), word.span)).collect(),
        Kind::Run(run) => {
            let named =
                |flag: &super::parse::mount::MountFlag| Some((flag.from.clone()?, flag.value.span));
            run.mounts.iter().filter_map(named).collect()
        }
        _ => Vec::new(),
    }
}

fn triggers(instructions: &[Instruction]) -> Vec<Instruction> {
    let triggers = instructions.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Onbuild(onbuild) => Some(onbuild.instruction.as_ref().clone()),
        _ => None,
    });
    triggers.collect()
}

/// Names that mean the same context: `docker.io/library/alpine:latest` is `alpine`.
fn context_name(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}
