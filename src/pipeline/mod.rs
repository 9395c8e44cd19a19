//! From a request to published images.
//!
//! ```text
//! find Go ─► plan ─► compile, once per platform ─┐
//!               └──► look up bases ──────────────┼─► assemble, per image and platform ─► publish
//! ask registries for access ─────────────────────┘
//! ```
//! Parts that do not need each other run side by side. Nothing is published before everything is built,
//! and the error of a registry that refuses access comes while the compiler still works.

mod assemble;
mod base;
mod compile;
mod dockerfile;
pub mod documents;
mod dry_run;
mod freshness;
mod lock;
mod materials;
mod plan;
mod planned;
mod publish;
mod request;
mod toolchain;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use dry_run::plan as dry_run;
pub use publish::{ImmutableTags, KanikoFiles, Outputs, Published};
pub use request::{
    BaseChoice, Caches, DockerfileSource, Grouping, ImageSettings, Override, Packaging, Prebuilt,
    Programs, Request, Settings, Source, Target, ToolchainChoice,
};

use crate::blocking::joined;
use crate::engine::Materials;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::golang::{BuildFlags, Builder, Toolchain};
use crate::image::{Artifact, Image};
use crate::oci::{Platform, Reference};
use crate::sandbox::{Isolation, IsolationRequest, Launcher};
use crate::store::{CacheScope, ScopeName};
use crate::transport::Context;
use assemble::Parts;
use base::Bases;
use compile::{Compiled, GoBuild};
use materials::materials;
use plan::{ImagePlan, Plan};
use toolchain::Toolchains;

/// What every build has at its disposal.
#[derive(Clone)]
pub struct BuildContext {
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

impl BuildContext {
    /// What runs `go build` with these flags.
    fn builder(&self, toolchain: &Toolchain, flags: &BuildFlags) -> Builder {
        let (out_dir, reporter) = (self.programs.clone(), self.transport.reporter.clone());
        Builder { toolchain: toolchain.clone(), flags: flags.clone(), out_dir, reporter }
    }
}

/// One image, for every platform that was asked for.
#[derive(Clone, Debug)]
struct Built {
    name: String,
    artifact: Artifact,
    references: Vec<Reference>,
    /// What it was made of.
    materials: Materials,
}

/// Programs to make images of, and whose caches that uses.
struct ProgramRequest {
    programs: Programs,
    caches: Caches,
    isolation: IsolationRequest,
    /// Whose caches a Go that comes from an image uses, and whose programs are kept.
    scope: CacheScope,
    /// Whether nothing is fetched, compiled or written: it is only said what would be.
    is_dry_run: bool,
}

impl ProgramRequest {
    fn new(programs: Programs, caches: Caches, isolation: IsolationRequest) -> Self {
        let scope = match &caches.scope {
            _ if !caches.are_shared => CacheScope::of_this_build(),
            Some(scope) => scope.clone(),
            None => CacheScope::of_folder(&programs.folder),
        };
        Self { programs, caches, isolation, scope, is_dry_run: false }
    }
}

/// Builds every image that `request` asks for, and sends each where it says. `chosen` is how steps are
/// isolated, where that is known.
pub async fn build(
    context: &BuildContext,
    request: Request,
    chosen: Option<Isolation>,
) -> Result<Vec<Published>> {
    let Request { source, caches, isolation, outputs } = request;
    outputs.check()?;
    match source {
        Source::GoPackages(programs) | Source::Prebuilt(programs) => {
            let request = ProgramRequest::new(programs, caches, isolation);
            build_programs(context, &request, &outputs).await
        }
        Source::Dockerfile(source) => {
            let executor = dockerfile::executor(context, isolation, chosen);
            dockerfile::build(context, executor, (*source, caches), &outputs).await
        }
    }
}

/// Looks for problems of a Dockerfile without building it; reports each, and errs if one of them
/// would keep it from building.
pub async fn check(context: &BuildContext, request: Request) -> Result<()> {
    match request.source {
        Source::Dockerfile(source) => {
            dockerfile::check(context, (*source, request.caches), &request.outputs).await
        }
        Source::GoPackages(_) | Source::Prebuilt(_) => {
            Err(Error::new(ErrorKind::Usage, "check what is built")
                .because("only Dockerfiles can be checked"))
        }
    }
}

async fn build_programs(
    context: &BuildContext,
    request: &ProgramRequest,
    outputs: &Outputs,
) -> Result<Vec<Published>> {
    // Without a cache even the linker starts from nothing.
    let scope = request.scope.name().filter(|_| !request.caches.off);
    let fresh = scope.is_none().then(tempfile::tempdir).transpose();
    let fresh = fresh.cannot(|| "make a folder for programs")?;
    let programs = match (&fresh, scope) {
        (Some(fresh), _) => fresh.path().to_owned(),
        (None, scope) => context.programs.join(scope.map_or("", ScopeName::as_str)),
    };
    let context = &BuildContext { programs, ..context.clone() };
    let mut access = outputs.ask_for_access(
        context,
        request.programs.targets.iter().flat_map(|target| &target.settings.packaging.tags),
    );
    let (mut bases, mut toolchains) = (Bases::default(), Toolchains::default());
    tokio::try_join!(
        bases.find_those_that_offer_platforms(context, request),
        toolchains.find_for_targets(context, request),
    )?;
    let plan = plan::make(context, request, &bases, &toolchains).await?;
    for image_plan in &plan.image_plans {
        outputs.check_name(&image_plan.name, &image_plan.settings.packaging.tags)?;
    }
    let compiled =
        plan.image_plans.iter().filter(|image_plan| !image_plan.programs.packages().is_empty());
    toolchains.find(context, request, compiled.map(|image_plan| &image_plan.settings)).await?;
    let mut compiling =
        compile::start(context, &plan, &bases, &toolchains, request.caches.explain)?;
    bases.find(context, plan.image_plans.iter().map(|image_plan| &image_plan.settings)).await?;
    if request.caches.explain {
        bases.explain(context);
    }

    let Plan { image_plans, mut build_groups } = plan;
    let mut assembling = Assembly::new(context, request, &image_plans, bases);
    loop {
        tokio::select! {
            biased;
            Some(granted) = access.join_next() => joined(granted)?,
            Some(compiled) = compiling.join_next() => {
                let compiled = joined(compiled)?;
                assembling.start(&compiled)?;
                let GoBuild { build_group, platform, .. } = &compiled.go_build;
                if let (Some(index), Some(built)) = (build_group, &compiled.built) {
                    build_groups[*index].freshness.take(platform, built);
                }
            }
            Some(image) = assembling.running.join_next() => assembling.take(joined(image)?),
            else => break,
        }
    }
    let built = assembling.finish(&toolchains)?;
    if scope.is_some() {
        crate::cache::programs::write_about(&context.programs, &request.scope);
    }
    // Before anything is written, maybe beside the sources.
    for build_group in build_groups {
        build_group.freshness.keep(context, request, &build_group.packages);
    }
    outputs.publish(context, &built).await
}

/// The images that are being put together.
struct Assembly<'a> {
    context: &'a BuildContext,
    request: &'a ProgramRequest,
    image_plans: &'a [ImagePlan],
    bases: Bases,
    /// Layers are made one after another, each on all cores: so the second of two equal ones is
    /// found instead of made.
    turn: Arc<Semaphore>,
    running: JoinSet<Result<(usize, Platform, Image)>>,
    done: BTreeMap<(usize, Platform), Image>,
}

impl<'a> Assembly<'a> {
    fn new(
        context: &'a BuildContext,
        request: &'a ProgramRequest,
        image_plans: &'a [ImagePlan],
        bases: Bases,
    ) -> Self {
        let (running, done) = (JoinSet::new(), BTreeMap::new());
        Self {
            context,
            request,
            image_plans,
            bases,
            turn: Arc::new(Semaphore::new(1)),
            running,
            done,
        }
    }

    /// Starts every image whose binaries are in `compiled`.
    fn start(&mut self, compiled: &Arc<Compiled>) -> Result<()> {
        let GoBuild { image_plans, platform, .. } = &compiled.go_build;
        for &index in image_plans {
            let image_plan = &self.image_plans[index];
            let parts = Parts {
                name: image_plan.name.clone(),
                platform: platform.clone(),
                base: self.bases.get(&image_plan.settings.base).clone(),
                binaries: compiled.binaries_of(image_plan)?,
                settings: image_plan.settings.clone(),
                origin: image_plan.origin.clone(),
                created: self.request.programs.created,
                folder: self.request.programs.folder.clone(),
                use_cache: !self.request.caches.off,
            };
            let (context, turn) = (self.context.clone(), self.turn.clone());
            let (platform, compiled) = (platform.clone(), compiled.clone());
            self.running.spawn(async move {
                let _turn = turn.acquire_owned().await.expect("the semaphore is never closed");
                let image = tokio::task::spawn_blocking(move || {
                    let image = assemble::assemble(&context, &parts);
                    // The binaries go away with the last that needs them.
                    drop(compiled);
                    image
                });
                Ok((index, platform, joined(image.await)?))
            });
        }
        Ok(())
    }

    fn take(&mut self, (image_plan, platform, image): (usize, Platform, Image)) {
        self.done.insert((image_plan, platform), image);
    }

    /// Puts the images of each unit together, in the order in which platforms were asked for.
    fn finish(mut self, toolchains: &Toolchains) -> Result<Vec<Built>> {
        let mut all = Vec::new();
        for (index, image_plan) in self.image_plans.iter().enumerate() {
            let base = self.bases.get(&image_plan.settings.base);
            let platforms = base.platforms(
                image_plan.settings.packaging.platforms.as_ref(),
                &self.context.transport.host,
            );
            let made = platforms.iter().filter_map(|p| self.done.remove(&(index, p.clone())));
            let mut images: Vec<Image> = made.collect();
            let artifact = match (images.len(), platforms.len()) {
                (0, _) => {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("build {}", image_plan.name),
                    )
                    .because("the base offers no platform to build for"));
                }
                (1, 1) => Artifact::Image(images.remove(0)),
                _ => {
                    let mut annotations = base.index_annotations();
                    annotations.extend(image_plan.origin.iter().cloned());
                    annotations.extend(image_plan.settings.packaging.annotations.clone());
                    Artifact::index(images, annotations)
                }
            };
            let references = image_plan.references.clone();
            let materials = materials(image_plan, base, toolchains);
            all.push(Built { name: image_plan.name.clone(), artifact, references, materials });
        }
        Ok(all)
    }
}
