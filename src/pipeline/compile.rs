//! Compiling: one `go build` per platform and set of flags, for all packages that share them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::assemble::Binary;
use super::base::Bases;
use super::freshness::Freshness;
use super::freshness::distinct;
use super::plan::{BuildGroup, ImagePlan, Plan, Programs, file_name};
use super::request::Prebuilt;
use super::toolchain::Toolchains;
use super::{BuildContext, ToolchainChoice};
use crate::error::{Error, ErrorKind, Result};
use crate::golang::{BuildFlags, Built, Package};
use crate::oci::Platform;
use crate::progress::{Explanation, Origin, TaskKind};

/// Packages that one `go build` compiles, and the images that wait for them.
#[derive(Clone, Debug)]
pub(super) struct GoBuild {
    pub toolchain: ToolchainChoice,
    pub flags: BuildFlags,
    pub platform: Platform,
    pub packages: Vec<Package>,
    /// Indexes of the units whose binaries come from here.
    pub image_plans: Vec<usize>,
    /// The workload that this is, where it is one.
    pub build_group: Option<usize>,
}

/// The binaries of a compilation; they exist as long as this does.
pub(super) struct Compiled {
    pub go_build: GoBuild,
    pub built: Option<Built>,
}

impl Compiled {
    /// The files that `image_plan` wants, in its order.
    pub(super) fn binaries_of(&self, image_plan: &ImagePlan) -> Result<Vec<Binary>> {
        match &image_plan.programs {
            Programs::Packages(packages) => {
                Ok(packages.iter().map(|package| self.binary(package)).collect())
            }
            Programs::Prebuilt(prebuilt) => {
                Ok(vec![prebuilt_binary(prebuilt, &self.go_build.platform)?])
            }
        }
    }

    fn binary(&self, package: &Package) -> Binary {
        let built = self.built.as_ref().expect("a unit of packages has a compilation");
        let is_it = |binary: &&crate::golang::Binary| binary.package.folder == package.folder;
        let binary = built.binaries.iter().find(is_it).expect("every package was compiled");
        Binary {
            name: package.program_name().to_owned(),
            origin: package.import_path.clone(),
            path: binary.path.clone(),
        }
    }
}

pub(super) fn prebuilt_binary(prebuilt: &[Prebuilt], platform: &Platform) -> Result<Binary> {
    let fits = |one: &&Prebuilt| one.platform.as_ref().is_none_or(|p| p.satisfies(platform));
    let found = prebuilt.iter().find(fits).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("pack a binary for {platform}"))
            .because("none was given for this platform")
            .hint(format!("--prebuilt {platform}=FILE"))
    })?;
    let name = file_name(&found.path)?;
    Ok(Binary { name, origin: "prebuilt".to_owned(), path: found.path.clone() })
}

/// Starts every compilation that the plan needs.
pub(super) fn start(
    context: &BuildContext,
    plan: &Plan,
    bases: &Bases,
    toolchains: &Toolchains,
    explain: bool,
) -> Result<JoinSet<Result<Arc<Compiled>>>> {
    let mut running = JoinSet::new();
    // Several compilers at once fill the gaps that linking leaves.
    let turns = Arc::new(Semaphore::new(context.cores.max(1)));
    for go_build in go_builds(context, plan, bases)? {
        let freshness = go_build.build_group.map(|index| &plan.build_groups[index].freshness);
        if let Some(compiled) = known(context, plan, &go_build) {
            if explain {
                explanation(context, &go_build, Origin::Store, vec!["unchanged".to_owned()]);
            }
            running.spawn(std::future::ready(Ok(Arc::new(compiled))));
            continue;
        }
        if explain {
            let why = freshness.map(Freshness::why).unwrap_or_default();
            explanation(context, &go_build, Origin::Executed, why);
        }
        let recorded = freshness.and_then(|freshness| freshness.recorded(&go_build.packages));
        let toolchain = toolchains.get(&go_build.toolchain, &go_build.flags);
        let builder = context.builder(toolchain, &go_build.flags);
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            let GoBuild { packages, platform, .. } = &go_build;
            let built = builder.compile_recorded(packages, platform, recorded.as_ref()).await?;
            Ok(Arc::new(Compiled { go_build, built: Some(built) }))
        });
    }
    Ok(running)
}

/// Tells how the programs of a compilation came to be.
fn explanation(context: &BuildContext, go_build: &GoBuild, origin: Origin, why: Vec<String>) {
    if go_build.packages.is_empty() {
        return;
    }
    let names: Vec<&str> = go_build.packages.iter().map(Package::program_name).collect();
    let name = format!("{} for {}", names.join(", "), go_build.platform);
    let kind = TaskKind::Compile;
    context.transport.reporter.explain(Explanation { kind, name, origin, why });
}

/// What needs no compiler: nothing at all, or programs that are known to be current.
fn known(context: &BuildContext, plan: &Plan, go_build: &GoBuild) -> Option<Compiled> {
    let go_build = go_build.clone();
    if go_build.packages.is_empty() {
        return Some(Compiled { go_build, built: None });
    }
    let freshness = &plan.build_groups[go_build.build_group?].freshness;
    let built = freshness.programs(&go_build.packages, &go_build.platform)?;
    let names: Vec<&str> = go_build.packages.iter().map(Package::program_name).collect();
    let name = format!("{} for {}", names.join(", "), go_build.platform);
    context.transport.reporter.start(TaskKind::Compile, name, None).skipped("unchanged");
    Some(Compiled { go_build, built: Some(built) })
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
pub(super) fn go_builds(
    context: &BuildContext,
    plan: &Plan,
    bases: &Bases,
) -> Result<Vec<GoBuild>> {
    let mut all = grouped(context, &plan.image_plans, bases);
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

fn grouped(context: &BuildContext, image_plans: &[ImagePlan], bases: &Bases) -> Vec<GoBuild> {
    let mut all: BTreeMap<(String, Platform), GoBuild> = BTreeMap::new();
    for (index, image_plan) in image_plans.iter().enumerate() {
        let flags = &image_plan.settings.go;
        let key = serde_json::to_string(flags).expect("flags have string keys only");
        let key = format!("{key} {:?}", image_plan.settings.toolchain);
        let wanted = image_plan.settings.packaging.platforms.as_ref();
        let platforms = bases.platforms(&image_plan.settings.base, wanted, &context.transport.host);
        for platform in platforms {
            let group = all.entry((key.clone(), platform.clone())).or_insert_with(|| GoBuild {
                toolchain: image_plan.settings.toolchain.clone(),
                flags: flags.clone(),
                platform,
                packages: Vec::new(),
                image_plans: Vec::new(),
                build_group: None,
            });
            group.image_plans.push(index);
            for package in image_plan.programs.packages() {
                if !group.packages.contains(package) {
                    group.packages.push(package.clone());
                }
            }
        }
    }
    all.into_values().collect()
}
