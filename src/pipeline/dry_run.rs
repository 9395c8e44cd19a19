//! What a build would do, without doing it: nothing is executed, compiled, fetched for good or written.
//!
//! Registries are asked for bases and for access, and `go` for the packages that patterns mean. What that
//! has to be written for goes into a folder that vanishes: the store of the run must be one over the
//! user's own ([`Store::over`](crate::store::Store::over)).

use std::path::Path;

use super::base::{Base, Bases};
use super::compatibility;
use super::documents::{
    BaseKind, BuildPlan, PLAN_VERSION, PlannedBase, PlannedImage, PlannedPlatform, PlannedProgram,
    PlannedSource, PlannedToolchain, State,
};
use super::planned::{base_image, planned_outputs};
use super::request::{Request, Source};
use super::{BuildContext, Outputs, dockerfile};
use crate::blocking::joined;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::golang::go_build::{self, GoBuild, prebuilt_binary};
use crate::golang::plan::{self, Binaries, BuildGroup, ImagePlan, Plan};
use crate::golang::request::{Prebuilt, ProgramRequest, Settings, Target};
use crate::golang::{Package, Toolchain, Toolchains, Tools, display_name};
use crate::oci::{Platform, Reference, name_template};
use crate::sandbox::Preference;
use crate::transport::Location;

/// What is said of packages that no `go` was asked for.
const NOT_FETCHED: &str = "the Go that says which packages there are was not fetched yet";

/// Says what a build would do.
///
/// Errs where the build would before it executes or compiles anything.
pub async fn plan(context: &BuildContext, request: Request) -> Result<BuildPlan> {
    let Request { source, caches, isolation, outputs } = request;
    outputs.check_compression(&source.encodings())?;
    outputs.look()?;
    match source {
        Source::Dockerfile(source) => {
            let executor = dockerfile::executor(context, isolation, None);
            let plan = dockerfile::plan(context, executor, (*source, caches), &outputs).await?;
            // Whether layers can be stacked is a matter of the store's own file system.
            let is_stacked =
                matches!(isolation.preference, Preference::Only(it) if it.has_overlay());
            if plan.executes_programs() && !is_stacked {
                // What is tried leaves nothing behind.
                let scratch = tempfile::tempdir().cannot(|| "make a folder for a sandbox")?;
                let launcher = context.launcher.clone().forgetful();
                let folder = scratch.path().to_owned();
                dockerfile::try_isolation(launcher, folder, isolation).await?;
            }
            Ok(plan)
        }
        Source::GoPackages(programs) => {
            let request = ProgramRequest::new(programs, caches, isolation);
            of_programs(context, request, &outputs, PlannedSource::GoPackages).await
        }
        Source::Prebuilt(programs) => {
            let request = ProgramRequest::new(programs, caches, isolation);
            of_programs(context, request, &outputs, PlannedSource::Prebuilt).await
        }
    }
}

async fn of_programs(
    context: &BuildContext,
    request: ProgramRequest,
    outputs: &Outputs,
    source: PlannedSource,
) -> Result<BuildPlan> {
    let scratch = tempfile::tempdir().cannot(|| "make a folder for what go writes")?;
    let tools = &context.go_tools(scratch.path().join("out"));
    let mut request = ProgramRequest { is_dry_run: true, ..request };
    let tags = request.programs.targets.iter().flat_map(|t| &t.settings.packaging.tags);
    let mut access = outputs.ask_for_access(context, tags);
    let (mut bases, mut toolchains) = (Bases::default(), Toolchains::default());
    bases.find_those_that_offer_platforms(context, &request).await?;
    toolchains.find_for_targets(tools, &request).await?;
    toolchains.write_below(scratch.path())?;
    // Of the others nobody can say which packages they mean.
    let targets = std::mem::take(&mut request.programs.targets);
    let is_here = |target: &Target| toolchains.absent(&target.settings).is_none();
    let (here, absent): (Vec<_>, Vec<_>) = targets.into_iter().partition(is_here);
    request.programs.targets = here;
    let platforms = |settings: &Settings| bases.platforms(settings, &context.transport.host);
    let plan = plan::make(tools, &request, &platforms, &toolchains).await?;
    for image_plan in &plan.image_plans {
        outputs.check_name(&image_plan.name, &image_plan.settings.packaging.tags)?;
    }
    let compiled = plan.image_plans.iter().filter(|it| !it.binaries.packages().is_empty());
    toolchains.find(tools, &request, compiled.map(|it| &it.settings)).await?;
    let settings = plan.image_plans.iter().map(|it| &it.settings);
    bases.find(context, settings.chain(absent.iter().map(|target| &target.settings))).await?;
    while let Some(granted) = access.join_next().await {
        joined(granted)?;
    }
    let (request, bases_found, found) = (&request, &bases, &toolchains);
    let parts =
        Parts { context, tools, request, bases: bases_found, toolchains: found, plan: &plan };
    let mut images = parts.images()?;
    images.extend(absent.iter().map(|target| parts.unlisted(target)).collect::<Result<Vec<_>>>()?);
    let references = images.iter().flat_map(|image| image.references.iter().cloned());
    let outputs = planned_outputs(outputs, references.collect());
    let bases = bases.images().map(base_image).collect();
    Ok(BuildPlan { version: PLAN_VERSION, source, images, bases, outputs })
}

/// What is known when everything was looked up.
struct Parts<'a> {
    context: &'a BuildContext,
    tools: &'a Tools,
    request: &'a ProgramRequest,
    bases: &'a Bases,
    toolchains: &'a Toolchains,
    plan: &'a Plan,
}

impl Parts<'_> {
    fn images(&self) -> Result<Vec<PlannedImage>> {
        let go_builds = go_build::go_builds(self.plan, &|settings| self.platforms(settings))?;
        let image = |(index, image_plan): (usize, &ImagePlan)| {
            let of_it = go_builds.iter().filter(|go_build| go_build.image_plans.contains(&index));
            let of_it: Vec<&GoBuild> = of_it.collect();
            let platform = |platform: &Platform| {
                let go_build = of_it.iter().find(|it| it.platform == *platform);
                let programs = match (&image_plan.binaries, go_build) {
                    (Binaries::Prebuilt(prebuilt), _) => {
                        vec![self.of_prebuilt(prebuilt, platform)?]
                    }
                    (Binaries::Packages(packages), Some(go_build)) => {
                        self.of_packages(packages, go_build, image_plan)
                    }
                    (Binaries::Packages(_), None) => Vec::new(),
                };
                self.platform(&image_plan.settings, platform, programs)
            };
            let platforms = self.platforms(&image_plan.settings);
            if platforms.is_empty() {
                return Err(Error::new(ErrorKind::NotFound, format!("build {}", image_plan.name))
                    .because("the base offers no platform to build for"));
            }
            Ok(PlannedImage {
                name: Some(image_plan.name.clone()),
                references: image_plan.references.iter().map(Reference::to_string).collect(),
                platforms: platforms.iter().map(platform).collect::<Result<_>>()?,
            })
        };
        self.plan.image_plans.iter().enumerate().map(image).collect()
    }

    /// What is known of a target whose packages are not.
    fn unlisted(&self, target: &Target) -> Result<PlannedImage> {
        let settings = &target.settings;
        let toolchain = self.toolchains.absent(settings).map(absent_toolchain);
        let program = |pattern: &String| PlannedProgram {
            name: None,
            package: Some(pattern.clone()),
            file: None,
            toolchain: toolchain.clone(),
            state: State::Unknown,
            why: vec![NOT_FETCHED.to_owned()],
        };
        let own = [".".to_owned()];
        let patterns = if target.patterns.is_empty() { &own[..] } else { &target.patterns };
        let programs: Vec<PlannedProgram> = patterns.iter().map(program).collect();
        let platforms = self.platforms(settings);
        let platforms =
            platforms.iter().map(|platform| self.platform(settings, platform, programs.clone()));
        let name = &settings.image.name;
        let named = settings.packaging.tags.iter().filter_map(|tag| match name {
            Some(name) => Some(name_template::fill(tag, name)),
            None if name_template::has_placeholder(tag) => None,
            None => Some(name_template::fill(tag, "")),
        });
        let references = named.map(|name| Ok(name?.to_string()));
        Ok(PlannedImage {
            name: name.clone(),
            references: references.collect::<Result<_>>()?,
            platforms: platforms.collect::<Result<_>>()?,
        })
    }

    fn platforms(&self, settings: &Settings) -> Vec<Platform> {
        self.bases.platforms(settings, &self.context.transport.host)
    }

    fn platform(
        &self,
        settings: &Settings,
        platform: &Platform,
        programs: Vec<PlannedProgram>,
    ) -> Result<PlannedPlatform> {
        let base = self.bases.get(&settings.base);
        let digest = base.manifest_for(platform)?.cloned();
        let (kind, name) = match base {
            Base::Static => (BaseKind::Static, None),
            Base::Scratch => (BaseKind::Scratch, None),
            Base::Found(_) => (BaseKind::Image, base.image().and_then(|image| image.name)),
        };
        Ok(PlannedPlatform {
            platform: platform.to_string(),
            stages: None,
            base: Some(PlannedBase { kind, name, digest }),
            programs: Some(programs),
        })
    }

    fn of_packages(
        &self,
        packages: &[Package],
        go_build: &GoBuild,
        image_plan: &ImagePlan,
    ) -> Vec<PlannedProgram> {
        let settings = &image_plan.settings;
        let absent = self.toolchains.absent(settings);
        let group = go_build.build_group.map(|index| &self.plan.build_groups[index]);
        let is_current =
            group.is_some_and(|group| group.is_current(&go_build.packages, &go_build.platform));
        let why = |group: &BuildGroup| group.why(self.tools, self.request, &go_build.packages);
        let (state, why) = match (absent, group) {
            (Some(_), _) => (State::Unknown, None),
            _ if is_current => (State::Known, None),
            (None, group) => (State::Runs, group.map(why)),
        };
        let why = |package: &Package| match state {
            State::Unknown => vec![NOT_FETCHED.to_owned()],
            _ => why.as_ref().map(|why| why.of(package)).unwrap_or_default(),
        };
        let found = || planned_toolchain(self.toolchains.get(&settings.toolchain, &settings.go));
        let toolchain = absent.map_or_else(found, absent_toolchain);
        let program = |package: &Package| PlannedProgram {
            name: Some(package.program_name().to_owned()),
            package: Some(package.import_path.clone()),
            file: None,
            toolchain: Some(toolchain.clone()),
            state,
            why: why(package),
        };
        packages.iter().map(program).collect()
    }

    fn of_prebuilt(&self, prebuilt: &[Prebuilt], platform: &Platform) -> Result<PlannedProgram> {
        let binary = prebuilt_binary(prebuilt, platform)?;
        let path: &Path = &binary.path;
        compatibility::look_at(self.context, &binary, platform)?;
        Ok(PlannedProgram {
            name: Some(binary.name),
            package: None,
            file: Some(path.display().to_string()),
            toolchain: None,
            state: State::Known,
            why: Vec::new(),
        })
    }
}

fn planned_toolchain(found: &Toolchain) -> PlannedToolchain {
    let program = || found.program().display().to_string();
    PlannedToolchain {
        version: Some(found.version().to_owned()),
        program: found.image().is_none().then(program),
        image: None,
        digest: found.image().cloned(),
    }
}

fn absent_toolchain(place: &Location) -> PlannedToolchain {
    let digest = place.reference().and_then(Reference::digest).cloned();
    PlannedToolchain { version: None, program: None, image: Some(display_name(place)), digest }
}
