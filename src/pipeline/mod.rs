//! From a request to published images.
//!
//! ```text
//! find Go ─► plan ─► compile, once per platform ─┐
//!               └──► look up bases ──────────────┼─► assemble, per image and platform ─► publish
//! ask registries for access ─────────────────────┘
//! ```
//! What does not wait for each other runs side by side. Nothing is published before everything is
//! built, and a registry that refuses access is heard of while the compiler still works.

mod assemble;
mod base;
mod compile;
mod dockerfile;
mod lock;
mod memory;
mod plan;
mod publish;
mod request;
mod toolchain;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use compile::{programs_folder, programs_folders};
pub use publish::{ImmutableTags, KanikoFiles, Outputs, Published};
pub use request::{
    BaseChoice, Caches, DockerfileSource, Grouping, ImageSettings, Override, Packaging, Prebuilt,
    Programs, Request, Settings, Source, Target, ToolchainChoice,
};
pub use toolchain::all_go_caches;

use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::{Artifact, Image};
use crate::oci::{Platform, Reference};
use crate::sandbox::{IsolationRequest, Launcher, Rung};
use crate::store::{CacheScope, ScopeName};
use crate::transport::Context;
use assemble::Parts;
use base::Bases;
use compile::{Compilation, Compiled};
use plan::{Plan, Unit};
use toolchain::Toolchains;

/// What every build has at its disposal.
#[derive(Clone)]
pub struct Engine {
    /// The store, the registry client, and the reader of progress.
    pub transport: Context,
    /// The environment variables that builds may look at.
    pub variables: BTreeMap<String, String>,
    /// The folder that keeps programs between runs, with a folder for each scope.
    pub programs: PathBuf,
    /// What starts sandboxes.
    pub launcher: Launcher,
    /// How many things can usefully run at once.
    pub cores: usize,
}

/// One image, for every platform that was asked for.
#[derive(Clone, Debug)]
struct Built {
    name: String,
    artifact: Artifact,
    references: Vec<Reference>,
}

/// Programs to make images of, and whose caches that uses.
struct ProgramRequest {
    programs: Programs,
    caches: Caches,
    isolation: IsolationRequest,
    /// Whose caches a Go that comes from an image uses, and whose programs are kept.
    scope: CacheScope,
}

impl ProgramRequest {
    fn new(programs: Programs, caches: Caches, isolation: IsolationRequest) -> Self {
        let scope = match &caches.scope {
            _ if !caches.are_shared => CacheScope::of_this_build(),
            Some(scope) => scope.clone(),
            None => CacheScope::of_folder(&programs.folder),
        };
        Self { programs, caches, isolation, scope }
    }
}

/// Builds every image that `request` asks for, and sends each where it says. `chosen` is how steps are
/// isolated, where that is known.
pub async fn build(
    engine: &Engine,
    request: Request,
    chosen: Option<Rung>,
) -> Result<Vec<Published>> {
    let Request { source, caches, isolation, outputs } = request;
    outputs.check()?;
    match source {
        Source::GoPackages(programs) | Source::Prebuilt(programs) => {
            let request = ProgramRequest::new(programs, caches, isolation);
            build_programs(engine, &request, &outputs).await
        }
        Source::Dockerfile(source) => {
            let tools = dockerfile::tools(engine, isolation, chosen);
            dockerfile::build(engine, &tools, (*source, caches), &outputs).await
        }
    }
}

/// Looks for problems of a Dockerfile without building it; reports each, and errs if one of them
/// would keep it from building.
pub async fn check(engine: &Engine, request: Request, chosen: Option<Rung>) -> Result<()> {
    let Request { source, caches, isolation, outputs } = request;
    match source {
        Source::Dockerfile(source) => {
            let tools = dockerfile::tools(engine, isolation, chosen);
            dockerfile::check(engine, &tools, (*source, caches), &outputs).await
        }
        Source::GoPackages(_) | Source::Prebuilt(_) => {
            Err(Error::new(ErrorKind::Usage, "check what is built")
                .because("only Dockerfiles can be checked"))
        }
    }
}

async fn build_programs(
    engine: &Engine,
    request: &ProgramRequest,
    outputs: &Outputs,
) -> Result<Vec<Published>> {
    // Without a cache even the linker starts from nothing.
    let scope = request.scope.name().filter(|_| !request.caches.off);
    let fresh = scope.is_none().then(tempfile::tempdir).transpose();
    let fresh = fresh.cannot(|| "make a folder for programs")?;
    let programs = match (&fresh, scope) {
        (Some(fresh), _) => fresh.path().to_owned(),
        (None, scope) => engine.programs.join(scope.map_or("", ScopeName::as_str)),
    };
    let engine = &Engine { programs, ..engine.clone() };
    let mut access = outputs.ask_for_access(
        engine,
        request.programs.targets.iter().flat_map(|target| &target.settings.packaging.tags),
    );
    let (mut bases, mut toolchains) = (Bases::default(), Toolchains::default());
    tokio::try_join!(
        bases.find_those_that_offer_platforms(engine, request),
        toolchains.find_for_targets(engine, request),
    )?;
    let plan = plan::make(engine, request, &bases, &toolchains).await?;
    toolchains.find_for_units(engine, request, &plan.units).await?;
    let mut compiling = compile::start(engine, &plan, &bases, &toolchains)?;
    bases.find_all(engine, &plan.units).await?;

    let Plan { units, mut workloads } = plan;
    let mut assembling = Assembly::new(engine, request, &units, bases);
    loop {
        tokio::select! {
            biased;
            Some(granted) = access.join_next() => finished(granted)?,
            Some(compiled) = compiling.join_next() => {
                let compiled = finished(compiled)?;
                assembling.start(&compiled)?;
                let Compilation { workload, platform, .. } = &compiled.compilation;
                if let (Some(index), Some(built)) = (workload, &compiled.built) {
                    workloads[*index].memory.take(platform, built);
                }
            }
            Some(image) = assembling.running.join_next() => assembling.take(finished(image)?),
            else => break,
        }
    }
    let built = assembling.finish()?;
    // Before anything is written, maybe beside the sources.
    for workload in workloads {
        workload.memory.keep(engine, request, &workload.packages);
    }
    outputs.publish(engine, &built).await
}

/// A task's result; a panic in it is passed on.
fn finished<T>(joined: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match joined {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::new(ErrorKind::Interrupted, "finish the build").caused_by(error)),
    }
}

/// The images that are being put together.
struct Assembly<'a> {
    engine: &'a Engine,
    request: &'a ProgramRequest,
    units: &'a [Unit],
    bases: Bases,
    /// Layers are made one after another, each on all cores: so the second of two equal ones is
    /// found instead of made.
    turn: Arc<Semaphore>,
    running: JoinSet<Result<(usize, Platform, Image)>>,
    done: BTreeMap<(usize, Platform), Image>,
}

impl<'a> Assembly<'a> {
    fn new(
        engine: &'a Engine,
        request: &'a ProgramRequest,
        units: &'a [Unit],
        bases: Bases,
    ) -> Self {
        let (running, done) = (JoinSet::new(), BTreeMap::new());
        Self { engine, request, units, bases, turn: Arc::new(Semaphore::new(1)), running, done }
    }

    /// Starts every image whose binaries are in `compiled`.
    fn start(&mut self, compiled: &Arc<Compiled>) -> Result<()> {
        let Compilation { units, platform, .. } = &compiled.compilation;
        for &index in units {
            let unit = &self.units[index];
            let parts = Parts {
                name: unit.name.clone(),
                platform: platform.clone(),
                base: self.bases.get(&unit.settings.base).clone(),
                binaries: compiled.binaries_of(unit)?,
                settings: unit.settings.clone(),
                origin: unit.origin.clone(),
                created: self.request.programs.created,
                folder: self.request.programs.folder.clone(),
                use_cache: !self.request.caches.off,
            };
            let (engine, turn) = (self.engine.clone(), self.turn.clone());
            let (platform, compiled) = (platform.clone(), compiled.clone());
            self.running.spawn(async move {
                let _turn = turn.acquire_owned().await.expect("the semaphore is never closed");
                let image = tokio::task::spawn_blocking(move || {
                    let image = assemble::assemble(&engine, &parts);
                    // The binaries go away with the last that needs them.
                    drop(compiled);
                    image
                });
                Ok((index, platform, finished(image.await)?))
            });
        }
        Ok(())
    }

    fn take(&mut self, (unit, platform, image): (usize, Platform, Image)) {
        self.done.insert((unit, platform), image);
    }

    /// Puts the images of each unit together, in the order in which platforms were asked for.
    fn finish(mut self) -> Result<Vec<Built>> {
        let mut all = Vec::new();
        for (index, unit) in self.units.iter().enumerate() {
            let base = self.bases.get(&unit.settings.base);
            let platforms = base
                .platforms(unit.settings.packaging.platforms.as_ref(), &self.engine.transport.host);
            let made = platforms.iter().filter_map(|p| self.done.remove(&(index, p.clone())));
            let mut images: Vec<Image> = made.collect();
            let artifact = match (images.len(), platforms.len()) {
                (0, _) => {
                    return Err(Error::new(ErrorKind::NotFound, format!("build {}", unit.name))
                        .because("the base offers no platform to build for"));
                }
                (1, 1) => Artifact::Image(images.remove(0)),
                _ => {
                    let mut annotations = base.index_annotations();
                    annotations.extend(unit.origin.iter().cloned());
                    annotations.extend(unit.settings.packaging.annotations.clone());
                    Artifact::index(images, annotations)
                }
            };
            let references = unit.references.clone();
            all.push(Built { name: unit.name.clone(), artifact, references });
        }
        Ok(all)
    }
}
