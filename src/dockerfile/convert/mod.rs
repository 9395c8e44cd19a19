//! Turns instructions into ops, and has the engine solve them: stages side by side, only those that the
//! target needs, and of their steps only those whose results are not known. What executes an op, a `RUN`
//! say, is in `execute`.
//!
//! ```text
//!   parse ─► resolve bases ─► stages ──┬─► step: key ─► known? ─► its result
//!            (triggers)      (graph)   │                └─ no ──► execute ─► keep ─► pack
//!                                      └─► configuration and history            (meanwhile)
//! ```
//! A step's key is that of the files it works on, the instruction after expansion, and the digests
//! of the very files that it reads, and of nothing that differs between machines. Nothing is unpacked,
//! mounted or started for a step whose result is known, to the store or to a repository that was
//! named.

mod backend;
mod base;
mod converted;
mod copy;
mod exec;
mod failure;
mod foreign;
mod interpret;
mod job;
mod layers;
mod offline;
mod plan;
mod planned;
mod platform;
mod reads;
mod remote;
mod scope;
mod sources;
mod stage;
mod unused;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use job::{
    CachePolicy, CacheRepository, ContextSource, FileSource, ImagePlatform, Job, LayerChoice,
    NamedContext, Recipe, Tools,
};

pub use plan::plan;
pub use planned::{PlannedBase, PlannedPlatform, PlannedStage, PlannedStep};

pub use crate::engine::{SecretSource, StepKind};

use super::diagnostic::Diagnostics;
use super::instruction::Dockerfile;
use super::lint::{self, LintContext};
use super::source::Source;
use super::{Diagnostic, Level, Origin};
use crate::context::ignore::Patterns;
use crate::engine::{Backend, Execute, Materials, Planner, Solver};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::oci::Platform;
use crate::transport::Missing;
use job::NamedContext as Named;
use platform::PlatformBuild;
use remote::Remote;
use sources::Opened;
use variables::BaseVariables;

/// What a build comes to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The images, in the order of their platforms.
    pub images: Vec<Image>,
    /// What they were made of, all together.
    pub materials: Materials,
}

/// Builds a Dockerfile for each of `platforms`.
///
/// Errs with every problem of the file that can be found without executing it, each with its line;
/// then with the first step that fails.
pub async fn build(
    tools: &Tools,
    executor: Arc<dyn Execute>,
    job: Job,
    platforms: &[Platform],
) -> Result<Outcome> {
    let mut common = begin(tools, executor, job, platforms, Purpose::Build).await?;
    let mut images = execute(&common, platforms, Attempt::First).await;
    let mut changes = 0;
    while let Err(error) = &images {
        if error.kind() == ErrorKind::Changed && changes < MOST_CHANGES {
            changes += 1;
            common.tools.transport.reporter.note(begins_again(error));
            common.forget();
        } else if !common.remote.as_ref().is_some_and(|remote| remote.begins_again()) {
            break;
        }
        common.solver.executor().forget();
        common.solver = common.solver.anew();
        images = execute(&common, platforms, Attempt::Again).await;
    }
    if let Some(remote) = &common.remote {
        remote.finish().await;
    }
    common.context.save();
    for context in common.contexts.values() {
        context.save();
    }
    if images.is_err() {
        common.solver.executor().after_failure().await?;
    }
    Ok(Outcome { images: images?, materials: common.materials() })
}

/// What a build is begun for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Build,
    Plan,
}

/// Opens contexts and reads the file; errs with every problem that can be found in it.
async fn begin(
    tools: &Tools,
    executor: Arc<dyn Execute>,
    job: Job,
    platforms: &[Platform],
    purpose: Purpose,
) -> Result<Common> {
    let job = Arc::new(job);
    let (context, source) = sources::open_main(tools, &job).await?;
    let file = super::parse(&source).map_err(Diagnostics::into_error)?;
    if let Some(platform) = platforms.first() {
        warn(tools, &job, &file, &context.ignored, platform).map_err(Diagnostics::into_error)?;
    }
    let (mut contexts, mut missing) = (BTreeMap::new(), Vec::new());
    for (name, named) in &job.recipe.contexts {
        let Named::Files(source) = named else { continue };
        if let Some(absent) = offline::missing_context(tools, name, source) {
            missing.push(absent);
        } else {
            contexts.insert(name.clone(), sources::open_named(tools, name, source).await?);
        }
    }
    let remote = Remote::of(tools, &job);
    let table = Arc::new(job.table(scope::of(&job, &source).await?));
    let backend = remote.clone().map(|remote| remote as Arc<dyn Backend>);
    let solver = Solver::new(job.solve_options(tools), executor, table, backend);
    let planner = (purpose == Purpose::Plan).then(Planner::default);
    let (tools, several) = (tools.clone(), platforms.len() > 1);
    Ok(Common { solver, planner, remote, tools, job, file, context, contexts, missing, several })
}

/// How often a build begins again because files changed while they were read. What came out before
/// is known, so that only the steps that read them are executed once more.
const MOST_CHANGES: usize = 2;

/// Says in one line which file it was.
fn begins_again(error: &Error) -> String {
    let message = error.message();
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.find(|line| line.contains("changed meanwhile")).unwrap_or("a file changed");
    format!("{line}; the build begins again")
}

/// Whether a build was begun before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Again,
}

/// Executes everything once, and packs and keeps what was executed, also where something failed.
async fn execute(common: &Common, platforms: &[Platform], attempt: Attempt) -> Result<Vec<Image>> {
    let builds = prepare(common, platforms, attempt).await?;
    // What cannot be begun leaves no store behind.
    common.tools.transport.store.make_if_writable()?;
    let images = builds.iter().map(PlatformBuild::execute);
    let images = futures_util::future::try_join_all(images).await;
    common.solver.finish_packing().await;
    images
}

/// Finds out what is needed for each platform, and looks the bases up.
async fn prepare<'a>(
    common: &'a Common,
    platforms: &[Platform],
    attempt: Attempt,
) -> Result<Vec<PlatformBuild<'a>>> {
    let builds =
        platforms.iter().map(|platform| PlatformBuild::begin(common, platform, interpret::run));
    let mut builds = builds.collect::<Result<Vec<_>>>()?;
    let is_offline = common.tools.transport.client.is_offline();
    if is_offline {
        offline::check(&builds, &common.missing).await?;
    }
    futures_util::future::try_join_all(builds.iter_mut().map(PlatformBuild::find_bases)).await?;
    if is_offline {
        // Triggers of bases, and variables that these set, may name more.
        offline::check(&builds, &common.missing).await?;
    }
    if attempt == Attempt::First {
        let triggers: Vec<_> = builds.iter().flat_map(PlatformBuild::triggers).collect();
        for unused in unused::arguments(&common.job, &common.file, &triggers) {
            common.tools.transport.reporter.warn(unused);
        }
        if let Some(build) = builds.first() {
            warn_of_variables(build).map_err(Diagnostics::into_error)?;
        }
    }
    Ok(builds)
}

/// Looks for problems of a Dockerfile without building it; answers each as it is shown.
pub async fn check(tools: &Tools, job: Job, platform: &Platform) -> Result<Vec<(Level, String)>> {
    let (context, source) = sources::open_main(tools, &job).await?;
    let inputs = platform::inputs(tools, &job, platform);
    let names = job.recipe.contexts.keys().cloned().collect();
    let ignored = |path: &str| leaves_out(&context.ignored, path);
    let known = match super::parse(&source) {
        Ok(file) => variables::look_up(tools, &job, (&file, &inputs)).await,
        // Of such a file nothing is executed.
        Err(_) => BaseVariables::default(),
    };
    let environment = |base: &Origin| known.of(base);
    let lint_context = lint_context(&inputs, &names, &ignored);
    let lint_context = LintContext { environment: &environment, ..lint_context };
    let found = super::check(&source, &lint_context);
    Ok(found.iter().map(|found| (found.level, found.render(&source))).collect())
}

/// Reports what the linter warns of, but for what the variables of bases decide; errs with that where the
/// file or the command line makes errors of it. Other errors come to light when the file is executed.
fn warn(
    tools: &Tools,
    job: &Job,
    file: &Dockerfile,
    ignored: &Patterns,
    platform: &Platform,
) -> Result<(), Diagnostics> {
    let inputs = platform::inputs(tools, job, platform);
    let names = job.recipe.contexts.keys().cloned().collect();
    let ignored = |path: &str| leaves_out(ignored, path);
    let fail = |list| Err(Diagnostics { source: file.source.clone(), list });
    if let Err(wrong) = lint::options(file, &inputs) {
        return fail(vec![wrong]);
    }
    let mut found = lint::lint(file, &lint_context(&inputs, &names, &ignored));
    found.retain(|found| found.rule.is_some() && !lint::is_of_variable(found));
    report(tools, file, found)
}

/// Reports findings; errs with all of them where one is an error.
fn report(tools: &Tools, file: &Dockerfile, found: Vec<Diagnostic>) -> Result<(), Diagnostics> {
    if found.iter().any(|found| found.level == Level::Error) {
        return Err(Diagnostics { source: file.source.clone(), list: found });
    }
    for found in found {
        tools.transport.reporter.warn(found.render(&file.source));
    }
    Ok(())
}

/// Reports variables that nobody sets: not the file, not the command line, and not a base, which were
/// looked up for this.
fn warn_of_variables(build: &PlatformBuild<'_>) -> Result<(), Diagnostics> {
    let Common { tools, job, file, context, .. } = build.common;
    let names = job.recipe.contexts.keys().cloned().collect();
    let ignored = |path: &str| leaves_out(&context.ignored, path);
    let known = build.base_variables();
    let environment = |base: &Origin| known.of(base);
    let lint_context = LintContext {
        environment: &environment,
        stages: Some(build.needed()),
        ..lint_context(&build.inputs, &names, &ignored)
    };
    let found = lint::undefined_variables(file, &build.graph, &build.globals, &lint_context);
    let fail = |wrong| Diagnostics { source: file.source.clone(), list: vec![wrong] };
    report(tools, file, found.map_err(fail)?)
}

fn lint_context<'a>(
    inputs: &'a super::Inputs,
    contexts: &'a BTreeSet<String>,
    ignored: &'a dyn Fn(&str) -> bool,
) -> LintContext<'a> {
    LintContext { inputs, contexts, stages: None, environment: &|_| None, ignored }
}

/// Whether ignore rules leave out a path for certain.
fn leaves_out(ignored: &Patterns, path: &str) -> bool {
    !ignored.is_empty() && ignored.matches_path(path) && !ignored.may_bring_back_below(path)
}

/// What all platforms of a build share.
struct Common {
    solver: Solver,
    /// What plans steps in the place of having them solved, where nothing is to be executed.
    planner: Option<Planner>,
    /// Results that other machines know.
    remote: Option<Arc<Remote>>,
    tools: Tools,
    job: Arc<Job>,
    file: Dockerfile,
    context: Opened,
    contexts: BTreeMap<String, Opened>,
    /// Contexts that are not here, where no connection is opened.
    missing: Vec<Missing>,
    /// Whether messages name the platform.
    several: bool,
}

impl Common {
    fn source(&self) -> &Source {
        &self.file.source
    }

    /// What the build is made of, as far as it was solved.
    fn materials(&self) -> Materials {
        Materials { revision: self.context.revision.clone(), ..self.solver.materials() }
    }

    /// Forgets what is remembered of contexts: all of them are read again.
    fn forget(&self) {
        self.context.forget();
        self.contexts.values().for_each(Opened::forget);
    }

    /// Makes an error of a place in the file.
    fn at(&self, diagnostic: Diagnostic, kind: ErrorKind) -> Error {
        let list = vec![diagnostic];
        Diagnostics { source: self.source().clone(), list }.into_error_of(kind)
    }
}
