//! A stage as far as it was executed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Common;
use super::converted::{Converted, Spans, changes_files};
use super::failure::Failure;
use super::planned::PlannedStep;
use super::platform::{Base, PlatformBuild};
use crate::dockerfile::Scope;
use crate::dockerfile::config;
use crate::dockerfile::instruction::Instruction;
use crate::engine::files::Files;
use crate::engine::op::{Action, Input};
use crate::engine::{Inputs, Op, Place, Provider, Snapshot, Step, StepOutput};
use crate::error::Result;
use crate::oci::{ImageConfig, Platform};
use crate::secret;

/// Fields of a base's configuration that tell of how it was built, not of how it runs.
const FORGOTTEN: [&str; 4] =
    ["container", "container_config", "docker_version", "moby.buildkit.buildinfo.v1"];

/// A stage as far as it was executed.
pub(super) struct Stage<'a> {
    pub build: &'a PlatformBuild<'a>,
    pub index: usize,
    pub platform: Platform,
    pub snapshot: Snapshot,
    pub scope: Scope,
    pub config: ImageConfig,
    /// The flag that says that results of earlier builds are passed over, where one does.
    pub passed_over: Option<&'static str>,
    /// `CMD` was set in this stage.
    pub cmd_is_ours: bool,
    /// When the last step was executed, as histories write it.
    pub time: String,
    /// The number of the step being executed, of how many.
    pub number: usize,
    count: usize,
}

impl<'a> Stage<'a> {
    pub(super) async fn begin(build: &'a PlatformBuild<'a>, index: usize) -> Result<Self> {
        let job = &build.common.job;
        let node = &build.graph.nodes()[index];
        let name = node.name.clone().unwrap_or_else(|| index.to_string());
        let off_here = [name, index.to_string()].iter().any(|it| job.cache.off_in.contains(it));
        let passed_over = match (job.cache.off, off_here) {
            (true, _) => Some(job.cache.off_by.unwrap_or("--no-cache")),
            (false, true) => Some("--no-cache-filter"),
            (false, false) => None,
        };
        let platform = build.platform_of(index);
        let escape = build.common.file.directives.escape;
        let scratch = || {
            // As in BuildKit, nothing is for the target, even with a --platform.
            let mut config = ImageConfig::empty(build.inputs.target.clone());
            "/".clone_into(&mut config.config.working_dir);
            config
        };
        let (snapshot, scope, config, files) = match build.base(index) {
            Base::Scratch => (Snapshot::scratch(), None, scratch(), None),
            Base::Files(input, files) => {
                (Snapshot::scratch(), None, scratch(), Some((input, files)))
            }
            Base::Image(image) => {
                let config = inherited(image.config.value());
                (Snapshot::of_image(image), None, config, None)
            }
            Base::Stage(below) => {
                let below = build.stage(below).await?;
                let config = inherited(&below.config);
                (below.snapshot.clone(), Some(below.scope.on_stage()), config, None)
            }
        };
        let scope = scope.unwrap_or_else(|| Scope::on_image(escape, &config.config.env));
        let instructions =
            node.triggers.iter().chain(&build.common.file.stages[index].instructions);
        let count = 1 + instructions.filter(|instruction| changes_files(&instruction.kind)).count();
        let time = config.history.iter().rev().find_map(|entry| entry.created.clone());
        let time = time.filter(|_| job.recipe.epoch.is_none()).unwrap_or_else(|| job.created());
        let mut stage = Self {
            build,
            index,
            platform,
            snapshot,
            scope,
            config,
            passed_over,
            cmd_is_ours: false,
            time,
            number: 1,
            count,
        };
        if let Some(files) = files {
            stage.copy_base(files).await?;
        }
        Ok(stage)
    }

    /// Makes a folder or archive the base: everything in it is copied.
    async fn copy_base(&mut self, (input, files): (Input, Arc<dyn Files>)) -> Result<()> {
        let converted = Converted {
            action: Action::Take(input.clone()),
            files: BTreeMap::from([(input, Provider::Folder(files))]),
            variables: Vec::new(),
            alternative_note: None,
            text: "FROM a context".to_owned(),
            spans: Spans::default(),
        };
        let label = self.base_label();
        self.solve(converted, label, "FROM").await.map_err(|failure| match failure {
            Failure::Told(error) | Failure::Somewhere(error) => error,
            Failure::Here(diagnostic, kind) => self.build.common.at(diagnostic, kind),
        })
    }

    /// Has an op solved that works on the files as they are, and takes its output.
    pub(super) async fn solve(
        &mut self,
        converted: Converted,
        label: String,
        written: &str,
    ) -> Result<(), Failure> {
        let Converted { action, files, variables, alternative_note, text, spans } = converted;
        let Common { solver, planner, .. } = self.build.common;
        let (op, base, table) = (self.op(action), self.snapshot.clone(), solver.table().clone());
        let programs_follow = self.build.programs_follow(self.index);
        let inputs = Inputs { base, files, programs_follow, variables, alternative_note, table };
        let (passed_over, place) = (self.passed_over, self.place(written));
        let step = Step { op, inputs, label, passed_over, place };
        let output = match planner {
            None => Box::pin(solver.solve(step)).await.map_err(|wrong| spans.place(wrong))?,
            Some(planner) => {
                let kind = step.op.kind();
                let found = Box::pin(planner.plan(solver, step)).await;
                let found = found.map_err(|wrong| spans.place(wrong))?;
                self.build.note(
                    self.index,
                    PlannedStep::of(&found, kind, self.number, &shown_line(written)),
                );
                found.output
            }
        };
        self.add(output, text);
        Ok(())
    }

    /// Makes an op that works on the files as they are.
    fn op(&self, action: Action) -> Op {
        let job = &self.build.common.job;
        let base = self.snapshot.key.clone();
        Op { base, epoch: job.recipe.epoch, encoding: job.encoding, action }
    }

    /// Where the step is in the build.
    fn place(&self, written: &str) -> Place {
        let common = self.build.common;
        let name = &self.build.graph.nodes()[self.index].name;
        let name = name.clone().unwrap_or_else(|| self.index.to_string());
        let context = format!("{:?}", common.job.recipe.context);
        let file = common.source().name();
        let stage = [&*context, file, &name, &self.platform.to_string()].join("\0");
        Place { stage, number: self.number, written: written.to_owned() }
    }

    /// Takes a step's result, with the text that the history has of it.
    fn add(&mut self, step: Arc<StepOutput>, text: String) {
        let time = match self.build.common.job.recipe.epoch {
            Some(_) => self.build.common.job.created(),
            None => step.created.clone(),
        };
        config::note(&mut self.config, &time, text, true);
        self.time = time;
        self.snapshot = self.snapshot.with(step);
    }

    /// What messages call the step: `[build 2/5] RUN go build`. It shows what is written, with no
    /// variable's value.
    pub(super) fn label(&self, instruction: &Instruction) -> String {
        let shown = shown_line(&instruction.code);
        match self.step_words(instruction) {
            Some(words) => format!("[{words}] {shown}"),
            None => shown,
        }
    }

    /// What messages call the step that makes files the base.
    fn base_label(&self) -> String {
        let from = &self.build.common.file.stages[self.index].from.base.text;
        let shown = format!("FROM {}", secret::addresses(from));
        match self.words(None) {
            Some(words) => format!("[{words}] {shown}"),
            None => shown,
        }
    }

    /// Which platform, stage and step an instruction belongs to, as far as there are several.
    pub(super) fn step_words(&self, instruction: &Instruction) -> Option<String> {
        self.words(Some(instruction))
    }

    fn words(&self, instruction: Option<&Instruction>) -> Option<String> {
        let mut words = Vec::new();
        if self.build.common.several {
            words.push(self.build.inputs.target.to_string());
        }
        let name = &self.build.graph.nodes()[self.index].name;
        match name {
            Some(name) => words.push(name.clone()),
            None if self.build.graph.nodes().len() > 1 => {
                words.push(format!("stage-{}", self.index));
            }
            None => {}
        }
        if instruction.is_none_or(|instruction| changes_files(&instruction.kind)) {
            words.push(format!("{}/{}", self.number, self.count));
        }
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// A base's configuration as a stage begins with it. Its triggers are executed, not inherited.
fn inherited(of: &ImageConfig) -> ImageConfig {
    let mut config = of.clone();
    config::take_triggers(&mut config);
    config.extra.retain(|name, _| !FORGOTTEN.contains(&name.as_str()));
    config
}

/// The first line of an instruction as the file has it: what a variable stands for is not shown.
fn shown_line(written: &str) -> String {
    secret::addresses(written.lines().next().unwrap_or_default())
}
