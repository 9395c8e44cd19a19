//! Which images a request means, and what goes into each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Tools;
use super::build_record::Freshness;
use super::compile::Built;
use super::flags::BuildFlags;
use super::materials::Reasons;
use super::name::image_name;
use super::packages::Package;
use super::request::{
    Grouping, Override, Prebuilt, ProgramRequest, Settings, Target, ToolchainChoice,
};
use super::toolchains::Toolchains;
use super::vcs::{Checkout, Checkouts};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Platform, Reference, annotation, name_template};

/// One image to make, for all its platforms.
#[derive(Clone, Debug)]
pub struct ImagePlan {
    /// The short name, which `{name}` in a tag stands for.
    pub name: String,
    /// What its binaries are; the first is the entrypoint.
    pub binaries: Binaries,
    /// How it is built.
    pub settings: Settings,
    /// The names that it gets.
    pub references: Vec<Reference>,
    /// What its sources, or for prebuilt programs the folder, have checked out.
    pub checkout: Option<Arc<Checkout>>,
}

/// Where an image's binaries come from.
#[derive(Clone, Debug)]
pub enum Binaries {
    /// They are compiled.
    Packages(Vec<Package>),
    /// They were built elsewhere, one for each platform.
    Prebuilt(Vec<Prebuilt>),
}

/// The images to make, and what is known of earlier builds.
pub struct Plan {
    /// The images, in the order in which they were asked for.
    pub image_plans: Vec<ImagePlan>,
    /// What is compiled for them.
    pub build_groups: Vec<BuildGroup>,
}

/// Targets whose packages are compiled with the same toolchain and flags for the same platforms.
pub struct BuildGroup {
    pub(super) toolchain: ToolchainChoice,
    pub(super) freshness: Freshness,
    /// The packages of each target.
    pub(super) packages: Vec<Vec<Package>>,
    targets: Vec<usize>,
}

impl BuildGroup {
    /// Whether a build for a platform would compile nothing: the kept programs are what it would give.
    pub fn is_current(&self, packages: &[Package], platform: &Platform) -> bool {
        self.freshness.has_programs(packages, platform)
    }

    /// Why `packages` of it are compiled, where they are.
    pub fn why(&self, tools: &Tools, request: &ProgramRequest, packages: &[Package]) -> Reasons {
        self.freshness.why(&tools.transport.store, request, packages)
    }

    /// Takes note of what was compiled, or found, for a platform.
    pub fn take(&mut self, platform: &Platform, built: &Built) {
        self.freshness.take(platform, built);
    }

    /// Whether the same was built before, here: then what is compiled is new to everybody.
    pub fn was_built_before(&self) -> bool {
        self.freshness.has_record()
    }

    /// Keeps what the next build can use. Answers what stands for the sources, where that is known.
    pub fn keep(self, tools: &Tools, request: &ProgramRequest) -> Option<String> {
        self.freshness.keep(tools, request, &self.packages)
    }
}

/// Says which platforms there are to build for: the base may decide that.
pub type PlatformsOf<'a> = dyn Fn(&Settings) -> Vec<Platform> + Sync + 'a;

/// Finds the packages that `request` means, and says which image each goes into.
pub async fn make(
    tools: &Tools,
    request: &ProgramRequest,
    platforms: &PlatformsOf<'_>,
    toolchains: &Toolchains,
) -> Result<Plan> {
    let build_groups = build_groups(tools, request, platforms, toolchains).await?;
    let (mut image_plans, mut checkouts) = (Vec::new(), Checkouts::default());
    for (index, target) in request.programs.targets.iter().enumerate() {
        if !target.prebuilt.is_empty() {
            image_plans.push(prebuilt_unit(request, target, &mut checkouts)?);
        }
        for build_group in &build_groups {
            if let Some(own) = build_group.targets.iter().position(|&of| of == index) {
                image_plans.extend(compiled_units(
                    request,
                    target,
                    build_group.packages[own].clone(),
                    &mut checkouts,
                )?);
            }
        }
    }
    name_all(&mut image_plans)?;
    Ok(Plan { image_plans, build_groups })
}

/// What is the same for all targets of a workload.
#[derive(PartialEq)]
struct Common<'a> {
    toolchain: &'a ToolchainChoice,
    flags: &'a BuildFlags,
    platforms: Vec<Platform>,
}

async fn build_groups(
    tools: &Tools,
    request: &ProgramRequest,
    platforms: &PlatformsOf<'_>,
    toolchains: &Toolchains,
) -> Result<Vec<BuildGroup>> {
    let mut groups: Vec<(Common<'_>, Vec<usize>)> = Vec::new();
    for (index, target) in request.programs.targets.iter().enumerate() {
        if !target.prebuilt.is_empty() {
            continue;
        }
        let settings = &target.settings;
        let platforms = platforms(settings);
        let common = Common { toolchain: &settings.toolchain, flags: &settings.go, platforms };
        match groups.iter_mut().find(|(other, _)| *other == common) {
            Some((_, targets)) => targets.push(index),
            None => groups.push((common, vec![index])),
        }
    }
    let mut build_groups = Vec::new();
    for (Common { toolchain, flags, platforms }, targets) in groups {
        let builder = tools.builder(toolchains.get(toolchain, flags), flags);
        platforms.iter().try_for_each(|platform| builder.toolchain.check_platform(platform))?;
        let patterns =
            targets.iter().map(|&index| request.programs.targets[index].patterns.clone());
        let patterns = patterns.collect();
        let freshness = Freshness::look_up(tools, request, builder, patterns, platforms)?;
        let packages = freshness.packages(request).await?;
        let toolchain = toolchain.clone();
        build_groups.push(BuildGroup { toolchain, freshness, packages, targets });
    }
    Ok(build_groups)
}

fn compiled_units(
    request: &ProgramRequest,
    target: &Target,
    packages: Vec<Package>,
    checkouts: &mut Checkouts,
) -> Result<Vec<ImagePlan>> {
    match target.grouping {
        Grouping::Together => {
            check_names_differ(&packages)?;
            Ok(vec![image_plan(packages, target.settings.clone(), checkouts)])
        }
        Grouping::Separate => Ok(packages
            .into_iter()
            .map(|package| {
                let settings = settings_of(request, target, &package);
                image_plan(vec![package], settings, checkouts)
            })
            .collect()),
    }
}

/// A package's own settings, where it has some, else its target's.
///
/// An entry that names the package goes before one whose pattern it matches. A target that is itself
/// an entry keeps its settings: one package may be two images.
fn settings_of(request: &ProgramRequest, target: &Target, package: &Package) -> Settings {
    let fit = |entry: &Override| Fit::of(&entry.package, &request.programs.folder, package);
    let fitting = request.programs.overrides.iter().filter_map(|entry| Some((fit(entry)?, entry)));
    let own = fitting.min_by_key(|(fit, entry)| (entry.settings != target.settings, *fit));
    own.map_or_else(|| target.settings.clone(), |(_, entry)| entry.settings.clone())
}

/// How well an entry of `builds` fits a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It names the package, as an import path or as its folder.
    Named,
    /// It is a pattern such as `./cmd/...` that the package is among.
    Matched,
}

impl Fit {
    /// Compares what both come to, however the entry is spelled: `cmd/app`, `./cmd/app/`, an absolute
    /// folder, `example.com/shop/cmd/app`.
    fn of(named: &str, base: &Path, package: &Package) -> Option<Self> {
        let named = named.strip_prefix("ko://").unwrap_or(named);
        let (fixed, fit) = match named.strip_suffix("...") {
            Some(fixed) => (fixed.trim_end_matches('/'), Self::Matched),
            None => (named, Self::Named),
        };
        let is_path = |path: &str| match fit {
            Self::Named => path == fixed,
            Self::Matched => Path::new(path).starts_with(fixed) && !fixed.is_empty(),
        };
        let real = |path: &Path| fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_folder = || {
            let (folder, own) = (real(&base.join(fixed)), real(&package.folder));
            if fit == Self::Named { own == folder } else { own.starts_with(folder) }
        };
        (is_path(&package.import_path) || is_folder()).then_some(fit)
    }
}

fn image_plan(packages: Vec<Package>, settings: Settings, checkouts: &mut Checkouts) -> ImagePlan {
    let checkout = packages.first().and_then(|package| checkouts.of(&package.folder));
    let program = packages.first().map_or("app", Package::program_name);
    let name = settings.image.name.clone().unwrap_or_else(|| image_name(program));
    let binaries = Binaries::Packages(packages);
    ImagePlan { name, binaries, settings, references: Vec::new(), checkout }
}

fn prebuilt_unit(
    request: &ProgramRequest,
    target: &Target,
    checkouts: &mut Checkouts,
) -> Result<ImagePlan> {
    let first = target.prebuilt.first().map(|prebuilt| prebuilt.path.clone()).unwrap_or_default();
    let name = match &target.settings.image.name {
        Some(name) => name.clone(),
        None => image_name(&file_name(&first)?),
    };
    let binaries = Binaries::Prebuilt(target.prebuilt.clone());
    let (settings, checkout) = (target.settings.clone(), checkouts.of(&request.programs.folder));
    Ok(ImagePlan { name, binaries, settings, references: Vec::new(), checkout })
}

/// The last part of a path, as text.
pub(super) fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("pack {}", path.display()))
            .because("its name is not UTF-8, or it names no file")
    })
}

fn check_names_differ(packages: &[Package]) -> Result<()> {
    let mut seen: BTreeMap<&str, &Package> = BTreeMap::new();
    for package in packages {
        if let Some(other) = seen.insert(package.program_name(), package) {
            let (name, first) = (package.program_name(), &other.import_path);
            return Err(Error::new(ErrorKind::Usage, "put all binaries into one image")
                .because(format!("{first} and {} are both called {name}", package.import_path))
                .hint("build them as separate images, or rename one's folder"));
        }
    }
    Ok(())
}

/// Gives every image its names; two images never get the same one.
fn name_all(image_plans: &mut [ImagePlan]) -> Result<()> {
    let mut taken: BTreeMap<Reference, String> = BTreeMap::new();
    for image_plan in image_plans {
        let given = &image_plan.settings.packaging.tags;
        let own = [image_plan.name.clone()];
        let templates = if given.is_empty() { &own[..] } else { &given[..] };
        for template in templates {
            let reference = name_template::fill(template, &image_plan.name)?;
            if image_plan.references.contains(&reference) {
                continue;
            }
            if let Some(digest) = reference.digest() {
                return Err(Error::new(ErrorKind::Usage, format!("name an image {reference}"))
                    .because(format!(
                        "its digest is what comes out, it cannot be {digest} by wish"
                    )));
            }
            if let Some(other) = taken.insert(reference.clone(), image_plan.display_name()) {
                let hint = if given.is_empty() || name_template::has_placeholder(template) {
                    "give each a name of its own, in gondola.yaml or by separate builds".to_owned()
                } else {
                    format!("put {{name}} into it: {}", with_name(template))
                };
                return Err(Error::new(ErrorKind::Usage, format!("name an image {reference}"))
                    .because(format!(
                        "{other} and {} would both get that name",
                        image_plan.display_name()
                    ))
                    .hint(hint));
            }
            image_plan.references.push(reference);
        }
    }
    Ok(())
}

/// A template in which the last part of the repository is `{name}`.
fn with_name(template: &str) -> String {
    let (path, tag) = match template.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, format!(":{tag}")),
        _ => (template, String::new()),
    };
    match path.rsplit_once('/') {
        Some((parent, _)) => format!("{parent}/{{name}}{tag}"),
        None => format!("{{name}}{tag}"),
    }
}

impl ImagePlan {
    /// Annotations that say where the source came from.
    pub fn origin(&self) -> Vec<(String, String)> {
        let Some(checkout) = self.checkout.as_deref() else { return Vec::new() };
        let source = checkout.source.clone();
        let source = source.map(|url| (annotation::ANNOTATION_SOURCE.to_owned(), url));
        let revision = (annotation::ANNOTATION_REVISION.to_owned(), checkout.revision.clone());
        let revision = self.settings.image.revision.then_some(revision);
        source.into_iter().chain(revision).collect()
    }

    /// The image in messages: its first package where it has one.
    fn display_name(&self) -> String {
        let package = self.binaries.packages().first();
        package.map_or_else(|| self.name.clone(), |package| package.import_path.clone())
    }
}

impl Binaries {
    /// What is compiled.
    pub fn packages(&self) -> &[Package] {
        match self {
            Self::Packages(packages) => packages,
            Self::Prebuilt(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fits_what_it_resolves_to() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs_err::create_dir_all(base.join("cmd/server/sub")).unwrap();
        std::os::unix::fs::symlink("cmd", base.join("link")).unwrap();
        let package = Package {
            import_path: "example.com/shop/cmd/server".to_owned(),
            folder: base.join("cmd/server"),
            workdir: base.to_owned(),
            module: Some("example.com/shop".to_owned()),
            files: Vec::new(),
        };
        let absolute = base.join("cmd/server").display().to_string();
        let (named, matched) = (Some(Fit::Named), Some(Fit::Matched));
        for (text, expect) in [
            ("cmd/server", named),
            ("./cmd/server", named),
            ("cmd/server/", named),
            ("./cmd/../cmd/server/.", named),
            ("link/server", named),
            (&*absolute, named),
            ("example.com/shop/cmd/server", named),
            ("ko://example.com/shop/cmd/server", named),
            ("ko://./cmd/server", named),
            ("./...", matched),
            ("...", matched),
            ("cmd/...", matched),
            ("./cmd/server/...", matched),
            ("example.com/shop/...", matched),
            ("server", None),
            ("./cmd", None),
            ("./cmd/server/sub", None),
            ("cmd/serv...", None),
            ("cmd/server/sub/...", None),
            ("example.com/shop", None),
            ("example.com/shopping/...", None),
            ("./elsewhere", None),
        ] {
            assert_eq!(Fit::of(text, base, &package), expect, "{text}");
        }
    }

    #[test]
    fn a_template_is_completed_at_its_last_part() {
        for (template, expect) in [
            ("ghcr.io/me/app:v1", "ghcr.io/me/{name}:v1"),
            ("localhost:5000/app", "localhost:5000/{name}"),
            ("app", "{name}"),
            ("app:v1", "{name}:v1"),
        ] {
            assert_eq!(with_name(template), expect);
        }
    }
}
