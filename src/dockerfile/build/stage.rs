//! Executes a stage, instruction by instruction.

use std::sync::Arc;

use super::job::StepKind;
use super::platform::{Base, PlatformBuild};
use super::shop::{Origin, Wanted};
use super::{run, transfer};
use crate::blocking::blocking;
use crate::dockerfile::config::{self, Health};
use crate::dockerfile::copy::{self, Destination, Selection};
use crate::dockerfile::files::Files;
use crate::dockerfile::instruction::{CommandLine, Healthcheck, Instruction, Kind};
use crate::dockerfile::source::Span;
use crate::dockerfile::stages as graph;
use crate::dockerfile::{Diagnostic, Scope, scope};
use crate::engine::{Executed, Key, Snapshot, StepOutput};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{ImageConfig, Platform};
use crate::progress::TaskKind;
use crate::secret;

/// Fields of a base's configuration that tell of how it was built, not of how it runs.
const FORGOTTEN: [&str; 4] =
    ["container", "container_config", "docker_version", "moby.buildkit.buildinfo.v1"];

/// Shorter values are no secrets in an error of `RUN`, which has an exit code and other numbers.
const LEAST_GIVEN: usize = 4;

/// What a stage is when all of it was executed.
pub(super) struct StageEnd {
    pub snapshot: Snapshot,
    pub scope: Scope,
    pub config: ImageConfig,
}

/// A stage as far as it was executed.
pub(super) struct Stage<'a> {
    pub build: &'a PlatformBuild<'a>,
    pub index: usize,
    pub platform: Platform,
    pub snapshot: Snapshot,
    pub scope: Scope,
    pub config: ImageConfig,
    /// Whether results of earlier builds may be used.
    pub use_cache: bool,
    /// `CMD` was set in this stage.
    cmd_is_ours: bool,
    /// When the last step was executed, as histories write it.
    time: String,
    /// The number of the step being executed, of how many.
    number: usize,
    count: usize,
}

/// Executes a stage whole.
pub(super) async fn run(build: &PlatformBuild<'_>, index: usize) -> Result<StageEnd> {
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

impl<'a> Stage<'a> {
    async fn begin(build: &'a PlatformBuild<'a>, index: usize) -> Result<Self> {
        let job = &build.common.job;
        let node = &build.graph.nodes()[index];
        let name = node.name.clone().unwrap_or_else(|| index.to_string());
        let off_here = [name, index.to_string()].iter().any(|it| job.cache.off_in.contains(it));
        let use_cache = !job.cache.off && !off_here;
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
            Base::Files(files) => (Snapshot::scratch(), None, scratch(), Some(files)),
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
        let time = time.filter(|_| job.epoch.is_none()).unwrap_or_else(|| job.created());
        let mut stage = Self {
            build,
            index,
            platform,
            snapshot,
            scope,
            config,
            use_cache,
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
    async fn copy_base(&mut self, files: Arc<dyn Files>) -> Result<()> {
        let everything = Selection { sources: vec!["/".to_owned()], ..Selection::default() };
        let time = self.build.common.job.time();
        let (tree, digest) = blocking(move || {
            let mut selected = copy::select(files.as_ref(), &everything)?;
            let digest = copy::digest(files.as_ref(), &mut selected)?;
            let nothing = crate::dockerfile::files::TreeFiles::default();
            let destination = Destination {
                path: "/",
                files: &nothing,
                owner: None,
                chmod: None,
                link: false,
                time,
            };
            Ok((copy::place(&selected, &destination)?, digest))
        })
        .await?;
        let key = self.key("context").text(digest.as_bytes()).finish();
        let made = || async { Ok(Executed::of(tree)) };
        let wanted = self.wanted(key, StepKind::Other);
        let (step, _) = self.build.common.shop.step(&wanted, made).await?;
        self.add(step, "FROM a context".to_owned());
        Ok(())
    }

    /// Executes an instruction; `from` is the base's name where an image brought it.
    async fn execute(&mut self, instruction: &Instruction, from: Option<Span>) -> Result<()> {
        if changes_files(&instruction.kind) {
            self.number += 1;
        }
        let executed = Box::pin(self.execute_kind(instruction)).await;
        executed.map_err(|failure| self.told(failure, instruction, from))
    }

    /// Makes the error that is shown, with the lines that it is about: the instruction's, or those
    /// of the `FROM` that brought it.
    fn told(&self, failure: Failure, instruction: &Instruction, from: Option<Span>) -> Error {
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
            Kind::Run(run) => run::execute(self, instruction, run).await,
            Kind::Copy(copy) => Box::pin(transfer::copy(self, instruction, copy)).await,
            Kind::Add(add) => transfer::add(self, instruction, add).await,
            Kind::Workdir(word) => {
                let path = self.scope.expand(word)?;
                self.scope.note_setting(word);
                self.workdir(instruction, &path).await
            }
            _ => self.configure(&instruction.kind),
        }
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
        let key = self.key("workdir").text(&folder).text(&user).finish();
        let shop = &self.build.common.shop;
        let (snapshot, time) = (self.snapshot.clone(), self.build.common.job.time());
        let task =
            shop.tools.transport.reporter.start(TaskKind::Step, self.label(instruction), None);
        let execute = || async move {
            let files = shop.files(&snapshot).await?;
            blocking(move || {
                let owner = copy::owner(&user, files.as_ref())?;
                let tree = copy::make_folder(&folder, files.as_ref(), owner, time)?;
                Ok(Executed::of(tree))
            })
            .await
        };
        let (step, origin) = shop.step(&self.wanted(key, StepKind::Other), execute).await?;
        ended(task, origin);
        self.add(step, text);
        Ok(())
    }

    /// A step of this stage, as it is asked for.
    pub(super) fn wanted(&self, key: String, kind: StepKind) -> Wanted {
        let on_cached = self.snapshot.has_cached();
        Wanted { key, asked: None, kind, use_cache: self.use_cache, on_cached }
    }

    /// Takes a step's result, with the text that the history has of it.
    pub(super) fn add(&mut self, step: Arc<StepOutput>, text: String) {
        let time = match self.build.common.job.epoch {
            Some(_) => self.build.common.job.created(),
            None => step.created.clone(),
        };
        config::note(&mut self.config, &time, text, true);
        self.time = time;
        self.snapshot = self.snapshot.with(step);
    }

    /// Starts the key of a step on the files as they are.
    pub(super) fn key(&self, kind: &str) -> Key {
        let epoch = self.build.common.job.epoch.map(|epoch| epoch.to_string());
        let encoding = self.build.common.job.encoding.to_string();
        Key::new(kind).text(&self.snapshot.key).optional(epoch).text(encoding)
    }

    /// What messages call the step: `[build 2/5] RUN go build`. It shows what is written, with no
    /// variable's value.
    pub(super) fn label(&self, instruction: &Instruction) -> String {
        let shown = secret::addresses(instruction.code.lines().next().unwrap_or_default());
        match self.step_words(instruction) {
            Some(words) => format!("[{words}] {shown}"),
            None => shown,
        }
    }

    /// Which platform, stage and step an instruction belongs to, as far as there are several.
    fn step_words(&self, instruction: &Instruction) -> Option<String> {
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
        if changes_files(&instruction.kind) {
            words.push(format!("{}/{}", self.number, self.count));
        }
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// Why an instruction was not executed.
pub(super) enum Failure {
    /// A part of it is wrong, or could not be executed.
    Here(Diagnostic, ErrorKind),
    /// Something went wrong, and the place in the file is not known.
    Somewhere(Error),
    /// Another stage failed, and its error names the place.
    Told(Error),
}

impl Failure {
    /// Points to a part of the instruction, unless it is known better already.
    #[must_use]
    pub(super) fn or_at(self, span: Span) -> Self {
        match self {
            Self::Somewhere(error) => Self::Here(Diagnostic::of_error(span, &error), error.kind()),
            known => known,
        }
    }
}

/// Says which part of an instruction an error is about.
pub(super) trait At<T> {
    /// Points to a span of the file.
    fn at(self, span: Span) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T> {
    fn at(self, span: Span) -> Result<T, Failure> {
        self.map_err(|error| Failure::from(error).or_at(span))
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Here(diagnostic, ErrorKind::Usage)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Somewhere(error)
    }
}

/// Ends a step's task as its result came to be.
pub(super) fn ended(task: crate::progress::Task, origin: Origin) {
    match origin {
        Origin::Cached => task.skipped("cached"),
        Origin::Elsewhere => task.skipped("cached in the registry"),
        Origin::Executed => task.done(),
    }
}

/// Whether an instruction makes a layer.
pub(super) fn changes_files(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// A base's configuration as a stage begins with it. Its triggers are executed, not inherited.
fn inherited(of: &ImageConfig) -> ImageConfig {
    let mut config = of.clone();
    config::take_triggers(&mut config);
    config.extra.retain(|name, _| !FORGOTTEN.contains(&name.as_str()));
    config
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
