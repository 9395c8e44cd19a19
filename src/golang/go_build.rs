//! Compiling: one `go build` per platform and set of flags, for all packages that share them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Tools;
use super::build_record::distinct;
use super::compile::Built;
use super::flags::BuildFlags;
use super::packages::Package;
use super::plan::{Binaries, BuildGroup, ImagePlan, Plan, PlatformsOf, file_name};
use super::request::{Prebuilt, ProgramRequest, ToolchainChoice};
use super::toolchains::Toolchains;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Content;
use crate::oci::Platform;
use crate::progress::{Explanation, Origin, TaskKind};

/// Packages that one `go build` compiles, and the images that wait for them.
#[derive(Clone, Debug)]
pub struct GoBuild {
    /// What it is compiled for.
    pub platform: Platform,
    /// Indexes of the plans of images whose binaries come from here.
    pub image_plans: Vec<usize>,
    /// The index of the build group that this is of, where it is of one.
    pub build_group: Option<usize>,
    /// What is compiled.
    pub packages: Vec<Package>,
    toolchain: ToolchainChoice,
    flags: BuildFlags,
}

/// A program, and the name that it gets in an image.
#[derive(Clone, Debug)]
pub struct ImageBinary {
    /// The file name in the image.
    pub name: String,
    /// What it was made from, for the history: an import path or `prebuilt`.
    pub origin: String,
    /// The file on this machine.
    pub path: PathBuf,
    /// Its content, pinned, where that is known without reading it.
    pub content: Option<Content>,
}

/// The binaries of a compilation; they exist as long as this does.
pub struct Compiled {
    /// What was compiled.
    pub go_build: GoBuild,
    /// What that gave; nothing where all programs were built elsewhere.
    pub built: Option<Built>,
    /// Whether `go` was asked.
    pub was_compiled: bool,
    /// Which of the programs is of which package.
    by_package: BTreeMap<Package, usize>,
}

impl Compiled {
    fn found(go_build: GoBuild, built: Option<Built>) -> Self {
        let binaries = built.iter().flat_map(|built| &built.binaries).enumerate();
        let by_package = binaries.map(|(index, binary)| (binary.package.clone(), index)).collect();
        Self { go_build, built, was_compiled: false, by_package }
    }

    fn made(go_build: GoBuild, built: Built) -> Self {
        Self { was_compiled: true, ..Self::found(go_build, Some(built)) }
    }

    /// The files that `image_plan` wants, in its order.
    pub fn binaries_of(&self, image_plan: &ImagePlan) -> Result<Vec<ImageBinary>> {
        match &image_plan.binaries {
            Binaries::Packages(packages) => {
                Ok(packages.iter().map(|package| self.binary(package)).collect())
            }
            Binaries::Prebuilt(prebuilt) => {
                Ok(vec![prebuilt_binary(prebuilt, &self.go_build.platform)?])
            }
        }
    }

    fn binary(&self, package: &Package) -> ImageBinary {
        let built = self.built.as_ref().expect("a unit of packages has a compilation");
        let index = self.by_package.get(package).expect("every package was compiled");
        let binary = &built.binaries[*index];
        ImageBinary {
            name: package.program_name().to_owned(),
            origin: package.import_path.clone(),
            path: binary.path.clone(),
            content: binary.contents.map(|contents| {
                let mut content = Content::file(&binary.path, binary.size);
                content.pin_as(contents);
                content
            }),
        }
    }
}

/// The prebuilt program for a platform.
pub fn prebuilt_binary(prebuilt: &[Prebuilt], platform: &Platform) -> Result<ImageBinary> {
    let fits = |one: &&Prebuilt| one.platform.as_ref().is_none_or(|p| p.satisfies(platform));
    let found = prebuilt.iter().find(fits).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("pack a binary for {platform}"))
            .because("none was given for this platform")
            .hint(format!("--prebuilt {platform}=FILE"))
    })?;
    let name = file_name(&found.path)?;
    Ok(ImageBinary { name, origin: "prebuilt".to_owned(), path: found.path.clone(), content: None })
}

/// What a plan needs, by how it comes to be.
pub struct Sorted {
    known: Vec<Compiled>,
    unknown: Vec<GoBuild>,
}

impl Sorted {
    /// Whether anything is compiled.
    pub fn is_compiled(&self) -> bool {
        !self.unknown.is_empty()
    }
}

/// Finds out what of a plan must be compiled.
pub fn sort(tools: &Tools, plan: &Plan, platforms: &PlatformsOf<'_>) -> Result<Sorted> {
    let mut sorted = Sorted { known: Vec::new(), unknown: Vec::new() };
    for go_build in go_builds(plan, platforms)? {
        match known(tools, plan, &go_build) {
            Some(compiled) => sorted.known.push(compiled),
            None => sorted.unknown.push(go_build),
        }
    }
    Ok(sorted)
}

/// Starts every compilation that the plan needs.
pub fn start(
    tools: &Tools,
    plan: &Plan,
    Sorted { known, unknown }: Sorted,
    toolchains: &Toolchains,
    request: &ProgramRequest,
) -> JoinSet<Result<Arc<Compiled>>> {
    let (mut running, explain) = (JoinSet::new(), request.caches.explain);
    for compiled in known {
        if explain {
            let go_build = &compiled.go_build;
            explain_each(tools, go_build, Origin::Store, |_| vec!["unchanged".to_owned()]);
        }
        running.spawn(std::future::ready(Ok(Arc::new(compiled))));
    }
    // Several compilers at once fill the gaps that linking leaves.
    let turns = Arc::new(Semaphore::new(tools.cores.max(1)));
    for go_build in unknown {
        let freshness = go_build.build_group.map(|index| &plan.build_groups[index].freshness);
        if explain {
            let store = &tools.transport.store;
            let why = freshness.map(|it| it.why(store, request, &go_build.packages));
            let why = |package: &Package| why.as_ref().map(|why| why.of(package));
            let why = |package: &Package| why(package).unwrap_or_default();
            explain_each(tools, &go_build, Origin::Executed, why);
        }
        let recorded = freshness
            .and_then(|freshness| freshness.recorded(&go_build.packages, &go_build.platform));
        let toolchain = toolchains.get(&go_build.toolchain, &go_build.flags);
        let builder = tools.builder(toolchain, &go_build.flags);
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            let GoBuild { packages, platform, .. } = &go_build;
            let built = builder.compile_recorded(packages, platform, recorded.as_ref()).await?;
            Ok(Arc::new(Compiled::made(go_build, built)))
        });
    }
    running
}

/// Tells how each program of a compilation came to be.
fn explain_each(
    tools: &Tools,
    go_build: &GoBuild,
    origin: Origin,
    why: impl Fn(&Package) -> Vec<String>,
) {
    for package in &go_build.packages {
        let name = format!("{} for {}", package.program_name(), go_build.platform);
        let (kind, why) = (TaskKind::Compile, why(package));
        tools.transport.reporter.explain(Explanation { kind, name, origin, why });
    }
}

/// What needs no compiler: nothing at all, or programs that are known to be current.
fn known(tools: &Tools, plan: &Plan, go_build: &GoBuild) -> Option<Compiled> {
    let go_build = go_build.clone();
    if go_build.packages.is_empty() {
        return Some(Compiled::found(go_build, None));
    }
    let freshness = &plan.build_groups[go_build.build_group?].freshness;
    let built = freshness.programs(&go_build.packages, &go_build.platform)?;
    let names: Vec<&str> = go_build.packages.iter().map(Package::program_name).collect();
    let name = format!("{} for {}", names.join(", "), go_build.platform);
    tools.transport.reporter.start(TaskKind::Compile, name, None).skipped("unchanged");
    Some(Compiled::found(go_build, Some(built)))
}

fn check_platform(platform: &Platform) -> Result<()> {
    if platform.os != "windows" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("build for {platform}"))
        .because("images for Windows keep their files under another root")
        .hint("choose a linux platform"))
}

/// Groups what is compiled with the same toolchain and flags for the same platform.
pub fn go_builds(plan: &Plan, platforms: &PlatformsOf<'_>) -> Result<Vec<GoBuild>> {
    let mut all = grouped(&plan.image_plans, platforms);
    for go_build in &mut all {
        check_platform(&go_build.platform)?;
        let compiles = |build_group: &BuildGroup| {
            build_group.toolchain == go_build.toolchain
                && build_group.freshness.builder.flags == go_build.flags
                && build_group.freshness.platforms.contains(&go_build.platform)
                && distinct(&build_group.packages) == go_build.packages
        };
        go_build.build_group = plan.build_groups.iter().position(compiles);
    }
    Ok(all)
}

fn grouped(image_plans: &[ImagePlan], platforms: &PlatformsOf<'_>) -> Vec<GoBuild> {
    let mut all: BTreeMap<(String, Platform), GoBuild> = BTreeMap::new();
    let mut seen: BTreeSet<(&Package, (String, Platform))> = BTreeSet::new();
    for (index, image_plan) in image_plans.iter().enumerate() {
        let flags = &image_plan.settings.go;
        let key = serde_json::to_string(flags).expect("flags have string keys only");
        let key = format!("{key} {:?}", image_plan.settings.toolchain);
        for platform in platforms(&image_plan.settings) {
            let group_key = (key.clone(), platform.clone());
            let group = all.entry(group_key.clone()).or_insert_with(|| GoBuild {
                toolchain: image_plan.settings.toolchain.clone(),
                flags: flags.clone(),
                platform,
                packages: Vec::new(),
                image_plans: Vec::new(),
                build_group: None,
            });
            group.image_plans.push(index);
            for package in image_plan.binaries.packages() {
                if seen.insert((package, group_key.clone())) {
                    group.packages.push(package.clone());
                }
            }
        }
    }
    all.into_values().collect()
}
