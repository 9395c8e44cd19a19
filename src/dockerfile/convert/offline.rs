//! What a Dockerfile needs of others and is not here, for all platforms together, where no connection is
//! opened: told at once, before anything is executed.

use std::collections::BTreeSet;

use super::base;
use super::job::{ContextSource, Job, NamedContext, Tools};
use super::platform::PlatformBuild;
use crate::context::GitSource;
use crate::context::download;
use crate::dockerfile::instruction::{Add, Kind};
use crate::dockerfile::{Origin, Scope};
use crate::error::Result;
use crate::oci::{Platform, PlatformSet, Reference};
use crate::secret;
use crate::transport::{Location, Missing, check_missing};

/// What cannot be done, in errors.
const ACTION: &str = "build without a network";

/// Errs where something is missing that the stages which are needed name; `contexts` are those that could not be
/// opened.
pub(super) async fn check(builds: &[PlatformBuild<'_>], contexts: &[Missing]) -> Result<()> {
    let Some(first) = builds.first() else { return Ok(()) };
    let Tools { transport, .. } = &first.common.tools;
    let mut images: Vec<(&str, &Reference, Vec<Platform>)> = Vec::new();
    let mut addresses = Vec::new();
    for build in builds {
        let needed = build.all_needed()?;
        for (role, name, platform) in missing_images(build, &needed).await {
            match images.iter_mut().find(|(_, known, _)| *known == name) {
                Some((.., platforms)) if platforms.contains(&platform) => {}
                Some((.., platforms)) => platforms.push(platform),
                None => images.push((role, name, vec![platform])),
            }
        }
        addresses.extend(missing_addresses(build, &needed));
    }
    let images = images.into_iter().map(|(role, name, platforms)| {
        Missing::image(role, name, &PlatformSet::Listed(platforms), &transport.host)
    });
    check_missing(ACTION, images.chain(contexts.iter().cloned()).chain(addresses).collect())
}

/// The images that stages are based on, copy from or mount, and that are not here.
async fn missing_images<'a>(
    build: &'a PlatformBuild<'_>,
    needed: &BTreeSet<usize>,
) -> Vec<(&'static str, &'a Reference, Platform)> {
    let (tools, job) = (&build.common.tools, &build.common.job);
    let mut missing = Vec::new();
    for &stage in needed {
        let node = &build.graph.nodes()[stage];
        let platform = build.platform_of(stage);
        let used = node.origins().map(|origin| ("the image", origin));
        for (role, origin) in std::iter::once(("the base", &node.base)).chain(used) {
            let Some(name) = image_named_by(job, origin) else { continue };
            if !base::is_here(tools, job, name, &platform).await {
                missing.push((role, name, platform.clone()));
            }
        }
    }
    missing
}

/// The image of a registry that an origin is.
fn image_named_by<'a>(job: &'a Job, origin: &'a Origin) -> Option<&'a Reference> {
    match origin {
        Origin::Image(name) => Some(name),
        Origin::Context(context) => match job.recipe.contexts.get(context)? {
            NamedContext::Image(Location::Registry(name)) => Some(name),
            _ => None,
        },
        Origin::Scratch | Origin::Stage(_) => None,
    }
}

/// What `ADD` fetches in the stages that are needed, as far as variables of the file and the command line say it.
fn missing_addresses(build: &PlatformBuild<'_>, needed: &BTreeSet<usize>) -> Vec<Missing> {
    let file = &build.common.file;
    let mut scopes: Vec<Option<Scope>> = Vec::new();
    let mut missing = Vec::new();
    for (index, node) in build.graph.nodes().iter().enumerate() {
        if !needed.contains(&index) {
            scopes.push(None);
            continue;
        }
        let below = match &node.base {
            Origin::Stage(below) => {
                scopes.get(*below).and_then(Option::as_ref).map(Scope::on_stage)
            }
            _ => None,
        };
        let environment = build.environment_of(index);
        let mut scope =
            below.unwrap_or_else(|| Scope::on_image(file.directives.escape, &environment));
        for instruction in node.triggers.iter().chain(&file.stages[index].instructions) {
            // What cannot be expanded is told when the file is executed.
            match &instruction.kind {
                Kind::Arg(definitions) => {
                    drop(scope.arg(definitions, &build.globals, &build.inputs));
                }
                Kind::Env(pairs) => drop(scope.env(pairs)),
                Kind::Add(add) if !node.replaced => missing.extend(of_add(build, &scope, add)),
                _ => {}
            }
        }
        scopes.push(Some(scope));
    }
    missing
}

fn of_add(build: &PlatformBuild<'_>, scope: &Scope, add: &Add) -> Vec<Missing> {
    let transport = &build.common.tools.transport;
    let sources = add.transfer.paths.iter();
    let missing = sources.filter_map(|word| {
        let source = scope.expand(word).ok()?;
        if let Some(git) = GitSource::parse(&source) {
            return Some(of_repository("the repository", &git));
        }
        let is_missing = download::is_remote(&source) && !download::is_here(transport, &source);
        // A value from the command line is not shown.
        let is_given = !scope.given_in(&word.text).is_empty();
        let shown = if is_given { word.text.clone() } else { secret::address(&source) };
        is_missing.then(|| of_address("the address", &shown))
    });
    missing.collect()
}

fn of_repository(role: &str, git: &GitSource) -> Missing {
    let fetch = "git clone it, and name the folder in its place".to_owned();
    Missing { what: format!("{role} {}", git.display_name()), fetch }
}

fn of_address(role: &str, shown: &str) -> Missing {
    Missing {
        what: format!("{role} {shown}"),
        fetch: "gondola build, without --offline".to_owned(),
    }
}

/// What is missing of a context, where no connection is opened.
pub(super) fn missing_context(
    tools: &Tools,
    name: &str,
    source: &ContextSource,
) -> Option<Missing> {
    if !tools.transport.client.is_offline() {
        return None;
    }
    let role = format!("the context {name}, which is");
    match source {
        ContextSource::Git(git) => Some(of_repository(&role, git)),
        ContextSource::Address(url) if !download::is_here(&tools.transport, url) => {
            Some(of_address(&role, &secret::address(url)))
        }
        _ => None,
    }
}
