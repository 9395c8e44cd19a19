//! Go programs as a front end: an image of each, published as those of Dockerfiles are.
//!
//! ```text
//! find Go ─► plan ─► compile, once per platform ─┐
//!               └──► look up bases ──────────────┼─► assemble, per image and platform ─► publish
//! ask registries for access ─────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::assemble::{self, Parts, SharedLayers};
use super::base::Bases;
use super::compatibility;
use super::early_push::EarlyPush;
use super::materials::MaterialsSource;
use super::offline;
use super::{BuildContext, Built, Outputs, Published};
use crate::blocking::{blocking, joined};
use crate::cache;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::golang::go_build::{self, Compiled, GoBuild};
use crate::golang::plan::{self, BuildGroup, ImagePlan, Plan};
use crate::golang::request::{ProgramRequest, Settings};
use crate::golang::{Asset, Toolchains, Tools};
use crate::image::{Artifact, Image};
use crate::layer::Tree;
use crate::oci::Platform;
use crate::store::ScopeName;

/// Compiles what `request` names where it must be, and sends an image of each program where `outputs` say.
pub(super) async fn build(
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
    let tools = &context.go_tools(programs);
    offline::check(context, tools, request).await?;
    let mut access = outputs.ask_for_access(
        context,
        request.programs.targets.iter().flat_map(|target| &target.settings.packaging.tags),
    );
    let (mut bases, mut toolchains) = (Bases::default(), Toolchains::default());
    tokio::try_join!(
        bases.find_those_that_offer_platforms(context, request),
        toolchains.find_for_targets(tools, request),
    )?;
    let platforms = |settings: &Settings| bases.platforms(settings, &context.transport.host);
    let plan = plan::make(tools, request, &platforms, &toolchains).await?;
    for image_plan in &plan.image_plans {
        outputs.check_name(&image_plan.name, &image_plan.settings.packaging.tags)?;
    }
    let sorted = go_build::sort(tools, &plan, &platforms)?;
    if sorted.is_compiled() {
        // Else the layer that has them is what comes first.
        check_added_files(request, &plan).await?;
    }
    let compiled =
        plan.image_plans.iter().filter(|image_plan| !image_plan.binaries.packages().is_empty());
    toolchains.find(tools, request, compiled.map(|image_plan| &image_plan.settings)).await?;
    let mut compiling = go_build::start(tools, &plan, sorted, &toolchains, request);
    bases.find(context, plan.image_plans.iter().map(|image_plan| &image_plan.settings)).await?;
    if request.caches.explain {
        bases.explain(context);
    }
    bases.note(context);

    let Plan { image_plans, build_groups } = plan;
    let mut groups = Groups { build_groups, of_images: BTreeMap::new() };
    let mut assembling = Assembly::new(context, (request, outputs), &image_plans, bases);
    loop {
        tokio::select! {
            biased;
            Some(granted) = access.join_next() => joined(granted)?,
            Some(compiled) = compiling.join_next() => {
                let compiled = joined(compiled)?;
                assembling.start(&compiled, groups.are_programs_new(&compiled))?;
                groups.take(&compiled);
            }
            Some(image) = assembling.running.join_next() => assembling.take(joined(image)?),
            else => break,
        }
    }
    let built = assembling.finish(&toolchains)?;
    if scope.is_some() {
        cache::programs::write_about(&tools.programs, &request.scope);
    }
    let keeping = groups.keep(tools.clone(), request.clone(), &built);
    if outputs.writes_files() {
        // These may be beside the sources, and must not look like a change of them.
        keeping.await?;
        return outputs.publish(context, &built).await;
    }
    let (published, kept) = tokio::join!(outputs.publish(context, &built), keeping);
    published.and_then(|published| kept.map(|()| published))
}

/// The build groups, and the images that each has programs in.
struct Groups {
    build_groups: Vec<BuildGroup>,
    /// Indexes of groups by those of images.
    of_images: BTreeMap<usize, usize>,
}

impl Groups {
    /// Whether programs were built before, here, and are others now.
    fn are_programs_new(&self, compiled: &Compiled) -> bool {
        let group = compiled.go_build.build_group.map(|index| &self.build_groups[index]);
        compiled.was_compiled && group.is_some_and(BuildGroup::was_built_before)
    }

    /// Takes note of what was compiled, or found.
    fn take(&mut self, compiled: &Compiled) {
        let GoBuild { build_group, platform, image_plans, .. } = &compiled.go_build;
        let Some(group) = *build_group else { return };
        self.of_images.extend(image_plans.iter().map(|&image| (image, group)));
        if let Some(built) = &compiled.built {
            self.build_groups[group].take(platform, built);
        }
    }

    /// Keeps what the next build can use, and tells the images what their sources are.
    async fn keep(self, tools: Tools, request: ProgramRequest, built: &[Built]) -> Result<()> {
        let Self { build_groups, of_images } = self;
        let keep = move |group: BuildGroup| group.keep(&tools, &request);
        let kept =
            spawn_blocking(move || Ok(build_groups.into_iter().map(keep).collect::<Vec<_>>()));
        let sources = joined(kept.await)?;
        for (image, group) in of_images {
            built[image].materials.set_sources(sources[group].clone());
        }
        Ok(())
    }
}

/// Finds out before anything is compiled whether all files that are added can be.
async fn check_added_files(request: &ProgramRequest, plan: &Plan) -> Result<()> {
    let mut assets: Vec<Asset> = Vec::new();
    for asset in plan.image_plans.iter().flat_map(|image_plan| &image_plan.settings.image.assets) {
        if !assets.contains(asset) {
            assets.push(asset.clone());
        }
    }
    let (folder, created) = (request.programs.folder.clone(), request.programs.created);
    blocking(move || {
        let look = |asset: &Asset| asset.add_to(&mut Tree::new(), &folder, created);
        assets.iter().try_for_each(look)
    })
    .await
}

/// The images that are being put together.
struct Assembly<'a> {
    context: &'a BuildContext,
    request: &'a ProgramRequest,
    outputs: &'a Outputs,
    image_plans: &'a [ImagePlan],
    bases: Bases,
    /// Layers are made one after another, each on all cores: so the second of two equal ones is
    /// found instead of made.
    turn: Arc<Semaphore>,
    shared: Arc<SharedLayers>,
    running: JoinSet<Result<(usize, Platform, Image)>>,
    done: BTreeMap<(usize, Platform), Image>,
}

impl<'a> Assembly<'a> {
    fn new(
        context: &'a BuildContext,
        (request, outputs): (&'a ProgramRequest, &'a Outputs),
        image_plans: &'a [ImagePlan],
        bases: Bases,
    ) -> Self {
        let (shared, running, done) = Default::default();
        Self {
            context,
            request,
            outputs,
            image_plans,
            bases,
            turn: Arc::new(Semaphore::new(1)),
            shared,
            running,
            done,
        }
    }

    /// Starts every image whose binaries are in `compiled`. Where these are new, no registry has them.
    fn start(&mut self, compiled: &Arc<Compiled>, is_new: bool) -> Result<()> {
        let GoBuild { image_plans, platform, .. } = &compiled.go_build;
        for &index in image_plans {
            let image_plan = &self.image_plans[index];
            let names = &image_plan.references;
            let early_push = || EarlyPush::new(self.context, self.outputs, names);
            let parts = Parts {
                name: image_plan.name.clone(),
                platform: platform.clone(),
                base: self.bases.get(&image_plan.settings.base).clone(),
                binaries: compiled.binaries_of(image_plan)?,
                settings: image_plan.settings.clone(),
                origin: image_plan.origin(),
                created: self.request.programs.created,
                folder: self.request.programs.folder.clone(),
                use_cache: !self.request.caches.off,
                early_push: is_new.then(early_push).flatten(),
                was_compiled: compiled.was_compiled,
            };
            let (context, turn) = (self.context.clone(), self.turn.clone());
            let shared = self.shared.clone();
            let (platform, compiled) = (platform.clone(), compiled.clone());
            self.running.spawn(async move {
                compatibility::check(&context, &parts).await?;
                let _turn = turn.acquire_owned().await.expect("the semaphore is never closed");
                let image = spawn_blocking(move || {
                    let image = assemble::assemble(&context, &parts, &shared);
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
                    annotations.extend(image_plan.origin());
                    annotations.extend(image_plan.settings.packaging.annotations.clone());
                    Artifact::index(images, annotations)
                }
            };
            let references = image_plan.references.clone();
            let materials = MaterialsSource::of(image_plan, base, toolchains);
            all.push(Built { name: image_plan.name.clone(), artifact, references, materials });
        }
        Ok(all)
    }
}
