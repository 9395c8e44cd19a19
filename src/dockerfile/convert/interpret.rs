//! Executes a stage, instruction by instruction.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::converted::{Converted, Spans, changes_files};
use super::failure::Failure;
use super::platform::{PlatformBuild, StageEnd};
use super::stage::Stage;
use super::{copy, exec};
use crate::dockerfile::config::{self, Health};
use crate::dockerfile::instruction::{CommandLine, Healthcheck, Instruction, Kind};
use crate::dockerfile::source::Span;
use crate::dockerfile::stages as graph;
use crate::dockerfile::{Diagnostic, scope};
use crate::engine::op::Action;
use crate::error::{Error, Result};
use crate::oci::ImageConfig;
use crate::secret;

/// Shorter values are no secrets in an error of `RUN`, which has an exit code and other numbers.
const LEAST_GIVEN: usize = 4;

/// Executes a stage whole.
pub(super) fn run<'a>(
    build: &'a PlatformBuild<'a>,
    index: usize,
) -> BoxFuture<'a, Result<StageEnd>> {
    run_stage(build, index).boxed()
}

async fn run_stage(build: &PlatformBuild<'_>, index: usize) -> Result<StageEnd> {
    let mut stage = Stage::begin(build, index).await?;
    let node = &build.graph.nodes()[index];
    if !node.replaced {
        let written = &build.common.file.stages[index];
        // Triggers of a stage are written above in the same file.
        let is_ours = matches!(node.base, graph::Origin::Stage(_));
        let from = (!is_ours).then_some(written.from.base.span);
        for trigger in &node.triggers {
            stage.execute(trigger, from).await?;
        }
        for instruction in &written.instructions {
            stage.execute(instruction, None).await?;
        }
    }
    stage.config.config.env = stage.scope.image_environment();
    Ok(StageEnd { snapshot: stage.snapshot, scope: stage.scope, config: stage.config })
}

impl Stage<'_> {
    /// Executes an instruction; `from` is the base's name where an image brought it.
    async fn execute(&mut self, instruction: &Instruction, from: Option<Span>) -> Result<()> {
        if changes_files(&instruction.kind) {
            self.number += 1;
        }
        let executed = Box::pin(self.execute_kind(instruction)).await;
        executed.map_err(|failure| self.reported(failure, instruction, from))
    }

    /// Makes the error that is shown, with the lines that it is about: the instruction's, or those
    /// of the `FROM` that brought it.
    fn reported(&self, failure: Failure, instruction: &Instruction, from: Option<Span>) -> Error {
        let common = self.build.common;
        let whole = from.unwrap_or_else(|| instruction.first_line(common.source()));
        let (mut diagnostic, kind) = match failure {
            Failure::Told(error) => return error,
            Failure::Here(diagnostic, kind) => (diagnostic, kind),
            Failure::Somewhere(error) => (Diagnostic::of_error(whole, &error), error.kind()),
        };
        diagnostic = diagnostic.masked(&self.given(instruction));
        if from.is_some() {
            diagnostic.span = whole;
            let code = instruction.code.lines().next().unwrap_or_default();
            let code = secret::addresses(code);
            diagnostic.message = format!("ONBUILD {code}: {}", diagnostic.message);
        }
        if let Some(words) = self.step_words(instruction) {
            diagnostic.message = format!("[{words}] {}", diagnostic.message);
        }
        common.at(diagnostic, kind)
    }

    /// Values from the command line that an error of an instruction may quote.
    fn given(&self, instruction: &Instruction) -> Vec<&str> {
        let mut given = match &instruction.kind {
            // A shell expands the rest, and what programs say is theirs.
            Kind::Run(run) => {
                let mounts = run.mounts.iter();
                mounts.flat_map(|mount| self.scope.given_in(&mount.value.text)).collect()
            }
            _ => self.scope.given_in(&instruction.code),
        };
        let from = self.build.common.file.stages.get(self.index).map(|stage| &stage.from.base.text);
        given.extend(from.into_iter().flat_map(|text| self.build.globals.given_in(text)));
        given.extend(self.scope.given_settings());
        given.retain(|value| {
            value.len() >= LEAST_GIVEN || !matches!(instruction.kind, Kind::Run(_))
        });
        given
    }

    async fn execute_kind(&mut self, instruction: &Instruction) -> Result<(), Failure> {
        match &instruction.kind {
            Kind::Run(run) => {
                let converted = exec::exec(self, run).await?;
                self.step(instruction, converted).await?;
                self.build.note_program(self.index);
                Ok(())
            }
            Kind::Copy(copy) => {
                let converted = copy::copy(self, copy).await?;
                self.step(instruction, converted).await
            }
            Kind::Add(add) => {
                let converted = copy::add(self, add).await?;
                self.step(instruction, converted).await
            }
            Kind::Workdir(word) => {
                let path = self.scope.expand(word)?;
                self.scope.note_setting(word);
                self.workdir(instruction, &path).await
            }
            _ => self.configure(&instruction.kind),
        }
    }

    /// Has the op of an instruction solved, and takes its output.
    async fn step(
        &mut self,
        instruction: &Instruction,
        converted: Converted,
    ) -> Result<(), Failure> {
        let label = self.label(instruction);
        self.solve(converted, label, &instruction.code).await
    }

    /// Instructions that change no file.
    fn configure(&mut self, kind: &Kind) -> Result<(), Failure> {
        let config = &mut self.config;
        let text = match kind {
            Kind::Arg(definitions) => {
                let (globals, inputs) = (&self.build.globals, &self.build.inputs);
                let applied = self.scope.arg(definitions, globals, inputs)?;
                let shown = applied.iter().map(|(name, value)| match value {
                    Some(value) => format!("{name}={}", scope::shown_value(name, value)),
                    None => name.clone(),
                });
                format!("ARG {}", shown.collect::<Vec<_>>().join(" "))
            }
            Kind::Env(pairs) => {
                let pairs = self.scope.env(pairs)?;
                config::env(&pairs)
            }
            Kind::Label(pairs) => config::label(config, &self.scope.pairs(pairs)?),
            Kind::Cmd(command) => {
                self.cmd_is_ours = true;
                let command = words(config, command);
                config::cmd(config, command)
            }
            Kind::Entrypoint(command) => {
                let command = words(config, command);
                config::entrypoint(config, command, self.cmd_is_ours)
            }
            Kind::Expose(ports) => config::expose(config, &self.scope.ports(ports)?),
            Kind::Healthcheck(check) => {
                let health = health(check);
                config::healthcheck(config, &health)
            }
            Kind::Maintainer(name) => config::maintainer(config, name.text.clone()),
            Kind::Onbuild(onbuild) => {
                config::onbuild(config, &onbuild.trigger);
                return Ok(());
            }
            Kind::Shell(words) => {
                let words: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
                config::shell(config, &words)
            }
            Kind::StopSignal(signal) => config::stop_signal(config, self.scope.expand(signal)?)?,
            Kind::User(user) => {
                self.scope.note_setting(user);
                config::user(config, self.scope.expand(user)?)
            }
            Kind::Volume(folders) => config::volume(config, &self.scope.expand_all(folders)?)?,
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => {
                unreachable!("they change files")
            }
        };
        let time = self.time.clone();
        config::note(&mut self.config, &time, text, false);
        Ok(())
    }

    async fn workdir(&mut self, instruction: &Instruction, path: &str) -> Result<(), Failure> {
        let text = config::workdir(&mut self.config, path);
        let folder = self.config.config.working_dir.clone();
        if folder == "/" {
            let time = self.time.clone();
            config::note(&mut self.config, &time, text, false);
            return Ok(());
        }
        let user = self.config.config.user.clone();
        let converted = Converted {
            action: Action::MakeFolder { path: folder, user },
            files: BTreeMap::new(),
            variables: Vec::new(),
            alternative_note: None,
            text,
            spans: Spans::default(),
        };
        self.step(instruction, converted).await
    }
}

fn words(config: &ImageConfig, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Shell(text) => config::in_shell(&config.config, &text.text),
        CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
    }
}

fn health(check: &Healthcheck) -> Health {
    let Healthcheck::Command { command, timing } = check else {
        return Health { test: vec!["NONE".to_owned()], ..Health::default() };
    };
    let (kind, words) = match command {
        CommandLine::Shell(text) => ("CMD-SHELL", vec![text.text.clone()]),
        CommandLine::Exec(words) => ("CMD", words.iter().map(|word| word.text.clone()).collect()),
    };
    let test = std::iter::once(kind.to_owned()).chain(words).collect();
    Health {
        test,
        interval: timing.interval,
        timeout: timing.timeout,
        start_period: timing.start_period,
        start_interval: timing.start_interval,
        retries: timing.retries,
    }
}
