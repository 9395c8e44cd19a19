//! The graph of stages: what each is based on, what it copies and mounts from, and which of them
//! a target needs.
//!
//! A stage can only use stages above it, so the graph has no cycles and the order of the file is
//! an order of execution.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::expand::{Expanded, Expander};
use super::instruction::{Dockerfile, From, Instruction, Kind};
use super::scope::{Globals, Inputs, expand};
use super::source::{Source, Span, Word};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::oci::{Platform, Reference, docker_hub};

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

/// What is wrong with a base that comes out as nothing.
pub(super) const EMPTY_BASE: &str = "the base's name is empty";

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
                    errors.push(error.masked(&reader.given(&stage.from)));
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
        match name.filter(|name| !name.is_empty()) {
            Some(name) => self.named(name, "--target", &format!("build the target {name}")),
            None => Ok(self.nodes.len() - 1),
        }
    }

    /// The stage that `option` of the command line names, for doing something.
    pub fn named(&self, name: &str, option: &str, action: &str) -> Result<usize> {
        let lower = name.to_lowercase();
        if let Some(index) = self.nodes.iter().rposition(|node| node.name.as_ref() == Some(&lower))
        {
            return Ok(index);
        }
        if let Some(index) = name.parse().ok().filter(|index| *index < self.nodes.len()) {
            return Ok(index);
        }
        let names: Vec<_> = self.nodes.iter().filter_map(|node| node.name.as_deref()).collect();
        let error = Error::new(ErrorKind::Usage, action);
        let error = error.because(format!("{} has no stage of that name", self.source.name()));
        Err(match nearest(name, names.iter().copied()) {
            Some(nearest) => error.hint(format!("did you mean {nearest}?")),
            None if names.is_empty() => {
                error.hint(format!("none of its stages has a name: leave {option} out"))
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
    pub fn from(
        &self,
        stage: usize,
        name: &str,
        span: Span,
    ) -> std::result::Result<Origin, Diagnostic> {
        let known = self.nodes[stage].uses.iter().find(|each| each.name == name);
        match known {
            Some(known) => known.origin.clone(),
            None => self.origin(stage, name, span),
        }
    }

    /// Adds the triggers that a stage's base image brings. They are executed first, and what
    /// they copy from is needed too: ask [`Graph::needed`] again. What is wrong with them is told
    /// of `from`, the name of the base.
    pub fn add_triggers(&mut self, stage: usize, from: Span, triggers: Vec<Instruction>) {
        for (name, _) in triggers.iter().flat_map(origins) {
            let origin = self.origin(stage, &name, from);
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
    /// What it copies and mounts from beside its base.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.uses.iter().filter_map(|each| each.origin.as_ref().ok())
    }

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

    /// Values from the command line that a `FROM` line is made of.
    fn given(&self, from: &From) -> Vec<&str> {
        let words = [Some(&from.base), from.platform.as_ref()].into_iter().flatten();
        words.flat_map(|word| self.globals.given_in(&word.text)).collect()
    }

    fn base(&self, from: &From) -> std::result::Result<String, Diagnostic> {
        let expanded = self.expand(&from.base)?;
        if !expanded.text.is_empty() {
            return Ok(expanded.text);
        }
        Err(self.blank(&from.base, &expanded, EMPTY_BASE))
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

/// A platform as `FROM --platform` takes it: `local` is that of this machine.
pub(super) fn parse_platform(text: &str, build: &Platform) -> Option<Platform> {
    let platform = if text == "local" { build.clone() } else { text.parse().ok()? };
    Some(platform.normalized())
}

/// What an instruction copies or mounts from, by the names that it uses.
fn origins(instruction: &Instruction) -> Vec<(String, Span)> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(|word| (word.text.clone(), word.span)).collect(),
        Kind::Run(run) => {
            let named =
                |flag: &super::mount::MountFlag| Some((flag.from.clone()?, flag.value.span));
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
    let name = docker_hub::without(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn built(text: &str, contexts: &[&str]) -> std::result::Result<(Dockerfile, Graph), String> {
        let file = parse(&Source::new("Dockerfile", text)).map_err(|errors| errors.render())?;
        let inputs = Inputs::native("linux/amd64".parse().unwrap());
        let globals = Globals::evaluate(&file, &inputs).map_err(|errors| errors.render())?;
        let contexts = contexts.iter().map(|name| (*name).to_owned()).collect();
        let graph = Graph::build(&file, &globals, &inputs, &contexts);
        graph.map(|graph| (file, graph)).map_err(|errors| errors.render())
    }

    fn graph(text: &str) -> Graph {
        built(text, &[]).unwrap().1
    }

    fn image(name: &str) -> Origin {
        Origin::Image(name.parse().unwrap())
    }

    fn needed(graph: &Graph, target: Option<&str>) -> Vec<usize> {
        graph.needed(graph.target(target).unwrap()).unwrap()
    }

    const FILE: &str = "ARG V=1\n\
        FROM golang:$V AS Build\nRUN x\n\
        FROM build AS tests\nRUN y\n\
        FROM alpine AS tools\nRUN --mount=from=busybox,target=/b z\n\
        FROM scratch\nCOPY --from=BUILD /a /\nCOPY --from=2 /t /\nCOPY --from=docker.io/library/nginx:1 /n /\n";

    #[test]
    fn a_target_needs_what_it_is_based_on_and_copies_from() {
        let graph = graph(FILE);
        let bases: Vec<_> = graph.nodes().iter().map(|node| node.base.clone()).collect();
        assert_eq!(bases, [image("golang:1"), Origin::Stage(0), image("alpine"), Origin::Scratch]);
        assert_eq!(needed(&graph, None), [0, 2, 3]);
        assert_eq!(needed(&graph, Some("TESTS")), [0, 1]);
        assert_eq!(needed(&graph, Some("0")), [0]);
        assert_eq!(graph.from(3, "BUILD", Span::default()).unwrap(), Origin::Stage(0));
        assert_eq!(graph.from(3, "2", Span::default()).unwrap(), Origin::Stage(2));
        assert_eq!(graph.from(2, "busybox", Span::default()).unwrap(), image("busybox"));
        assert_eq!(
            graph.from(3, "docker.io/library/nginx:1", Span::default()).unwrap(),
            image("nginx:1")
        );
    }

    #[test]
    fn a_target_that_is_not_there_is_named_with_the_nearest() {
        let error = graph(FILE).target(Some("tets")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot build the target tets: Dockerfile has no stage of that name; hint: did you mean tests?"
        );
        let error = graph("FROM a").target(Some("x")).unwrap_err();
        assert!(error.to_string().contains("leave --target out"), "{error}");
    }

    #[test]
    fn a_stage_cannot_use_itself_or_what_comes_later() {
        let cases = [
            ("FROM a AS x\nCOPY --from=x a b", "2:13: error: the stage x cannot copy from itself"),
            (
                "FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nCOPY --from=x a b",
                "2:13: error: the stage y comes later",
            ),
            ("FROM a\nCOPY --from=0 a b", "2:13: error: stage 0 is not above this one"),
            ("FROM a\nCOPY --from=7 a b", "2:13: error: there is no stage 7"),
            ("FROM a\nCOPY --from=-1 a b", "2:13: error: there is no stage -1"),
            ("FROM a\nCOPY --from=A:B:C a b", "2:13: error: \"A:B:C\" is no name of an image"),
            (
                "FROM a\nRUN --mount=from=y,target=/x z\nFROM b AS y\nCOPY --from=0 a b",
                "2:13: error: the stage y comes later",
            ),
        ];
        for (text, expected) in cases {
            let graph = graph(text);
            let error = graph.needed(graph.target(None).unwrap()).unwrap_err().render();
            assert!(error.starts_with(&format!("Dockerfile:{expected}\n")), "{error}");
        }
        let unneeded = graph("FROM a\nCOPY --from=y a b\nFROM b AS y");
        assert_eq!(needed(&unneeded, None), [1]);
        assert_eq!(unneeded.wrong_origins().count(), 1);
    }

    #[test]
    fn the_nearest_stage_above_is_meant_when_names_repeat() {
        let graph = graph("FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x a b");
        assert_eq!(graph.nodes()[2].base, Origin::Stage(1));
        assert_eq!(needed(&graph, Some("x")), [1]);
        let image_of_own_name = built("FROM debian AS debian\nFROM debian", &[]).unwrap().1;
        assert_eq!(image_of_own_name.nodes()[0].base, image("debian"));
        assert_eq!(image_of_own_name.nodes()[1].base, Origin::Stage(0));
    }

    #[test]
    fn named_contexts_take_the_place_of_images_and_stages() {
        let text = "FROM alpine:latest AS x\nCOPY --from=missing a b\nFROM x AS y\nFROM z\nCOPY --from=files /f /\n";
        let contexts = ["docker.io/library/alpine", "x", "files", "scratch"];
        let (_, graph) = built(text, &contexts).unwrap();
        assert!(graph.nodes()[0].replaced);
        assert_eq!(graph.nodes()[0].base, Origin::Context("x".to_owned()));
        assert_eq!(
            graph.from(2, "files", Span::default()).unwrap(),
            Origin::Context("files".to_owned())
        );
        let (_, graph) = built("FROM alpine\nFROM scratch", &contexts).unwrap();
        let alpine = Origin::Context("docker.io/library/alpine".to_owned());
        assert_eq!(graph.nodes()[0].base, alpine);
        assert_eq!(graph.nodes()[1].base, Origin::Scratch);
    }

    #[test]
    fn wrong_from_lines_say_which_argument_is_missing() {
        let cases = [
            ("FROM $X", "1:6: error: the base's name is empty", "X is not declared"),
            ("ARG X\nFROM $X", "2:6: error: the base's name is empty", "X has no value"),
            (
                "ARG BASE=a\nFROM $BSAE",
                "2:6: error: the base's name is empty",
                "did you mean BASE?",
            ),
            (
                "FROM --platform=$BUILDPLATFROM a",
                "1:17: error: the platform is empty",
                "did you mean BUILDPLATFORM?",
            ),
            ("FROM --platform=linux//x a", "1:17: error: \"linux//x\" is no platform", "^"),
            ("FROM UPPER", "1:6: error: \"UPPER\" is no name of an image", "^"),
            ("FROM ${X", "1:6: error: the closing '}' is missing", "^"),
        ];
        for (text, message, label) in cases {
            let error = built(text, &[]).unwrap_err();
            assert!(error.starts_with(&format!("Dockerfile:{message}\n")), "{error}");
            assert!(error.contains(label), "{error}");
        }
    }

    #[test]
    fn platforms_may_leave_a_part_out() {
        let platform = |text: &str| {
            let graph = graph(&format!("FROM --platform={text} a"));
            graph.nodes()[0].platform.as_ref().map(ToString::to_string)
        };
        assert_eq!(platform("linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(platform("arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(platform("$TARGETPLATFORM").as_deref(), Some("linux/amd64"));
        assert_eq!(platform("linux").as_deref(), Some("linux/amd64"));
    }

    #[test]
    fn triggers_of_the_stage_below_come_first_and_bring_their_sources() {
        let text = "FROM a AS tools\nFROM b AS base\nONBUILD COPY --from=tools x y\nRUN z\n\
                    FROM base AS app\nRUN w\nFROM app\n";
        let mut graph = graph(text);
        assert_eq!(graph.nodes()[2].triggers.len(), 1);
        assert!(graph.nodes()[3].triggers.is_empty());
        assert_eq!(needed(&graph, Some("app")), [0, 1, 2]);
        assert_eq!(needed(&graph, Some("base")), [1]);
        let brought =
            crate::dockerfile::parse::trigger("ONBUILD of b", "COPY --from=tools /q /").unwrap();
        graph.add_triggers(1, Span::default(), vec![brought]);
        assert_eq!(needed(&graph, Some("base")), [0, 1]);
        let later =
            crate::dockerfile::parse::trigger("ONBUILD of a", "COPY --from=app /q /").unwrap();
        graph.add_triggers(0, Span::default(), vec![later]);
        assert!(graph.needed(0).is_err());
    }
}
