//! Compiling: one `go build` per platform and set of flags, for all packages that share them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::assemble::Binary;
use super::base::Bases;
use super::memory::distinct;
use super::plan::{Plan, Programs, Unit, Workload, file_name};
use super::request::Prebuilt;
use super::toolchain::Toolchains;
use super::{BaseChoice, Engine, ToolchainChoice};
use crate::error::{Error, ErrorKind, Result};
use crate::golang::{BuildFlags, Builder, Built, Package, Toolchain};
use crate::oci::{Platform, PlatformSet};
use crate::progress::TaskKind;
use crate::store::{Store, StorePlace};

/// Packages that one `go build` compiles, and the images that wait for them.
#[derive(Clone, Debug)]
pub(super) struct Compilation {
    pub toolchain: ToolchainChoice,
    pub flags: BuildFlags,
    pub platform: Platform,
    pub packages: Vec<Package>,
    /// Indexes of the units whose binaries come from here.
    pub units: Vec<usize>,
    /// The workload that this is, where it is one.
    pub workload: Option<usize>,
}

/// The binaries of a compilation; they exist as long as this does.
pub(super) struct Compiled {
    pub compilation: Compilation,
    pub built: Option<Built>,
}

impl Compiled {
    /// The files that `unit` wants, in its order.
    pub(super) fn binaries_of(&self, unit: &Unit) -> Result<Vec<Binary>> {
        match &unit.programs {
            Programs::Packages(packages) => {
                Ok(packages.iter().map(|package| self.binary(package)).collect())
            }
            Programs::Prebuilt(prebuilt) => {
                Ok(vec![prebuilt_binary(prebuilt, &self.compilation.platform)?])
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

fn prebuilt_binary(prebuilt: &[Prebuilt], platform: &Platform) -> Result<Binary> {
    let fits = |one: &&Prebuilt| one.platform.as_ref().is_none_or(|p| p.satisfies(platform));
    let found = prebuilt.iter().find(fits).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("pack a binary for {platform}"))
            .because("none was given for this platform")
            .hint(format!("--prebuilt {platform}=FILE"))
    })?;
    let name = file_name(&found.path)?;
    Ok(Binary { name, origin: "prebuilt".to_owned(), path: found.path.clone() })
}

/// Makes the builder for `flags`.
pub(super) fn builder(engine: &Engine, toolchain: &Toolchain, flags: &BuildFlags) -> Builder {
    let out_dir = engine.programs.clone();
    let reporter = engine.transport.reporter.clone();
    Builder { toolchain: toolchain.clone(), flags: flags.clone(), out_dir, reporter }
}

/// The folder of `store` that keeps programs between runs.
pub fn programs_folder(store: &Store) -> PathBuf {
    store.place(StorePlace::Programs)
}

/// The folders of all scopes in it.
pub fn programs_folders(store: &Store) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(programs_folder(store)).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect()
}

/// Starts every compilation that the plan needs.
pub(super) fn start(
    engine: &Engine,
    plan: &Plan,
    bases: &Bases,
    toolchains: &Toolchains,
) -> Result<JoinSet<Result<Arc<Compiled>>>> {
    let mut running = JoinSet::new();
    // Several compilers at once fill the gaps that linking leaves.
    let turns = Arc::new(Semaphore::new(engine.cores.max(1)));
    for mut compilation in compilations(engine, &plan.units, bases) {
        check_platform(&compilation.platform)?;
        let compiles = |workload: &Workload| {
            workload.toolchain == compilation.toolchain
                && workload.memory.builder.flags == compilation.flags
                && workload.memory.platforms.contains(&compilation.platform)
                && distinct(&workload.packages) == compilation.packages
        };
        compilation.workload = plan.workloads.iter().position(compiles);
        if let Some(compiled) = known(engine, plan, &compilation) {
            running.spawn(std::future::ready(Ok(Arc::new(compiled))));
            continue;
        }
        let memory = compilation.workload.map(|index| &plan.workloads[index].memory);
        let recorded = memory.and_then(|memory| memory.recorded(&compilation.packages));
        let toolchain = toolchains.get(&compilation.toolchain, &compilation.flags);
        let builder = builder(engine, toolchain, &compilation.flags);
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            let Compilation { packages, platform, .. } = &compilation;
            let built = builder.compile_recorded(packages, platform, recorded.as_ref()).await?;
            Ok(Arc::new(Compiled { compilation, built: Some(built) }))
        });
    }
    Ok(running)
}

/// What needs no compiler: nothing at all, or programs that are known to be current.
fn known(engine: &Engine, plan: &Plan, compilation: &Compilation) -> Option<Compiled> {
    let compilation = compilation.clone();
    if compilation.packages.is_empty() {
        return Some(Compiled { compilation, built: None });
    }
    let memory = &plan.workloads[compilation.workload?].memory;
    let built = memory.programs(&compilation.packages, &compilation.platform)?;
    let names: Vec<&str> = compilation.packages.iter().map(Package::program_name).collect();
    let name = format!("{} for {}", names.join(", "), compilation.platform);
    engine.transport.reporter.start(TaskKind::Compile, name, None).skipped("unchanged");
    Some(Compiled { compilation, built: Some(built) })
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
fn compilations(engine: &Engine, units: &[Unit], bases: &Bases) -> Vec<Compilation> {
    let mut all: BTreeMap<(String, Platform), Compilation> = BTreeMap::new();
    for (index, unit) in units.iter().enumerate() {
        let flags = &unit.settings.go;
        let key = serde_json::to_string(flags).expect("flags have string keys only");
        let key = format!("{key} {:?}", unit.settings.toolchain);
        let wanted = unit.settings.packaging.platforms.as_ref();
        let platforms = bases.platforms(&unit.settings.base, wanted, &engine.transport.host);
        for platform in platforms {
            let group = all.entry((key.clone(), platform.clone())).or_insert_with(|| Compilation {
                toolchain: unit.settings.toolchain.clone(),
                flags: flags.clone(),
                platform,
                packages: Vec::new(),
                units: Vec::new(),
                workload: None,
            });
            group.units.push(index);
            for package in unit.programs.packages() {
                if !group.packages.contains(package) {
                    group.packages.push(package.clone());
                }
            }
        }
    }
    all.into_values().collect()
}

/// Whether the platforms to build for are known only once the base is.
pub(super) fn needs_base_for_platforms(base: &BaseChoice, wanted: Option<&PlatformSet>) -> bool {
    matches!(base, BaseChoice::Image(_)) && wanted == Some(&PlatformSet::All)
}
