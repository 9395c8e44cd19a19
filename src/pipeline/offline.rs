//! What a build of Go programs without a network lacks.

use std::path::Path;

use super::{BaseChoice, BuildContext};
use crate::error::Result;
use crate::golang::plan::Plan;
use crate::golang::request::{ProgramRequest, Settings};
use crate::golang::{Modules, Toolchains, Tools, missing_modules, plan};
use crate::oci::PlatformSet;
use crate::transport::{self, Location, Missing};

/// What the build does, in errors.
const ACTION: &str = "build without a network";

/// Looks for all that is not here: bases, the toolchain, modules. Does nothing where there is a network.
pub(super) async fn check(
    context: &BuildContext,
    tools: &Tools,
    request: &ProgramRequest,
) -> Result<()> {
    if !context.transport.client.is_offline() {
        return Ok(());
    }
    let mut missing = missing_bases(context, request).await;
    let mut toolchains = Toolchains::default();
    toolchains.find_for_targets(tools, request).await?;
    let absent: Vec<Missing> =
        toolchains.all_absent().map(|place| toolchain(context, place)).collect();
    let platforms = |settings: &Settings| match &settings.packaging.platforms {
        Some(PlatformSet::Listed(listed)) => listed.clone(),
        _ => vec![context.transport.host.clone()],
    };
    let is_absent = !absent.is_empty();
    missing.extend(absent);
    // What the files name may be wanted by other packages: the go command has the last word, where it is.
    if let Some(modules) = modules(tools, request, &toolchains) {
        let is_lacking = is_absent || {
            let plan = plan::make(tools, request, &platforms, &toolchains).await;
            !finds_all(tools, &plan, &toolchains).await
        };
        if is_lacking {
            missing.push(modules);
        }
    }
    transport::check_missing(ACTION, missing)
}

/// Whether the go command finds all that the packages of a plan are made of.
async fn finds_all(tools: &Tools, plan: &Result<Plan>, toolchains: &Toolchains) -> bool {
    let (Ok(plan), Some(toolchain)) = (plan, toolchains.first()) else { return false };
    for image_plan in &plan.image_plans {
        let builder = tools.builder(toolchain, &image_plan.settings.go);
        for package in image_plan.binaries.packages() {
            let names = [package.import_path.clone()];
            let found = builder.finds_all(&package.workdir, &names, &tools.transport.host).await;
            if !found.unwrap_or(false) {
                return false;
            }
        }
    }
    true
}

async fn missing_bases(context: &BuildContext, request: &ProgramRequest) -> Vec<Missing> {
    let overrides = request.programs.overrides.iter().map(|entry| &entry.settings);
    let all = request.programs.targets.iter().map(|target| &target.settings).chain(overrides);
    let host = &context.transport.host;
    let mut missing = Vec::new();
    for settings in all {
        let BaseChoice::Image(place @ Location::Registry(name)) = &settings.base else { continue };
        let of_host = || PlatformSet::Listed(vec![host.clone()]);
        let platforms = settings.packaging.platforms.clone().unwrap_or_else(of_host);
        let lacking = Missing::image("the base", name, &platforms, host);
        if !missing.contains(&lacking)
            && !transport::is_here(place, &platforms, &context.transport).await
        {
            missing.push(lacking);
        }
    }
    missing
}

fn toolchain(context: &BuildContext, place: &Location) -> Missing {
    let host = &context.transport.host;
    match place {
        Location::Registry(name) => {
            Missing::image("Go of", name, &PlatformSet::Listed(vec![host.clone()]), host)
        }
        other => Missing { what: format!("Go of {other}"), fetch: "gondola build".to_owned() },
    }
}

/// The modules that are wanted, as far as files tell.
fn modules(tools: &Tools, request: &ProgramRequest, toolchains: &Toolchains) -> Option<Missing> {
    let compiled = request.programs.targets.iter().filter(|target| target.prebuilt.is_empty());
    let patterns: Vec<String> = compiled.flat_map(|target| target.patterns.clone()).collect();
    let workspace = tools.variables.get("GOWORK").map(String::as_str).filter(|it| !it.is_empty());
    let folder = Modules::of(&request.programs.folder, &patterns, workspace).ok()?.folder;
    let toolchain = toolchains.first();
    let cache = match toolchain {
        Some(toolchain) => toolchain.modules_folder()?,
        None => tools.modules_folder().ok()??,
    };
    let missing = missing_modules(&folder, &cache);
    if missing.is_empty() {
        return None;
    }
    let fetch = match toolchain {
        Some(toolchain) if toolchain.image().is_none() => fetch_by_go(&folder),
        _ => "gondola build, without --offline".to_owned(),
    };
    let word = if missing.len() == 1 { "the module" } else { "the modules" };
    Some(Missing { what: format!("{word} {}", missing.join(", ")), fetch })
}

fn fetch_by_go(folder: &Path) -> String {
    format!("go -C {} mod download", folder.display())
}
