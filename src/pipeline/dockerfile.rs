//! Dockerfiles as a front end: one image for each platform, published as those of Go packages are.

use std::path::PathBuf;
use std::sync::Arc;

use super::documents::{BuildPlan, PLAN_VERSION, PlannedImage, PlannedSource};
use super::materials::MaterialsSource;
use super::planned;
use super::{BuildContext, Built, Caches, DockerfileSource, Outputs, Published};
use crate::blocking::blocking;
use crate::dockerfile::convert::{
    self, CachePolicy, ContextSource, ImagePlatform, Job, Outcome, Tools,
};
use crate::engine::Materials;
use crate::error::{Error, ErrorKind, Result};
use crate::execute::{self, LocalExecutor};
use crate::image::Artifact;
use crate::oci::{Platform, PlatformSet, Reference, name_template};
use crate::progress::Reporter;
use crate::sandbox::{Chooser, Files, Isolation, IsolationRequest, Launcher, Needs, Preference};
use crate::transport::Context;

/// Builds a Dockerfile, and sends the image where `outputs` say.
pub(super) async fn build(
    context: &BuildContext,
    executor: LocalExecutor,
    (source, caches): (DockerfileSource, Caches),
    outputs: &Outputs,
) -> Result<Vec<Published>> {
    outputs.check_name(&source.name, &source.packaging.tags)?;
    let references = references(&source)?;
    let platforms = platforms(context, source.packaging.platforms.as_ref())?;
    let mut access = outputs.ask_for_access(context, &source.packaging.tags);
    let (name, annotations) = (source.name.clone(), source.packaging.annotations.clone());
    let revision = match &source.recipe.context {
        ContextSource::Folder(folder) => super::materials::revision(folder),
        _ => None,
    };
    let (tools, job) = (tools(context), job(source, caches, outputs));
    let building = convert::build(&tools, Arc::new(executor), job, &platforms);
    tokio::pin!(building);
    let Outcome { images, materials } = loop {
        tokio::select! {
            biased;
            Some(granted) = access.join_next() => crate::blocking::joined(granted)?,
            outcome = &mut building => break outcome?,
        }
    };
    while let Some(granted) = access.join_next().await {
        crate::blocking::joined(granted)?;
    }
    let artifact = match <[_; 1]>::try_from(images) {
        Ok([only]) => Artifact::Image(only),
        Err(several) => Artifact::index(several, annotations),
    };
    let revision = revision.or(materials.revision.clone());
    let materials = MaterialsSource::Known(Materials { revision, ..materials });
    outputs.publish(context, &[Built { name, artifact, references, materials }]).await
}

/// Says what [`build()`] would do.
pub(super) async fn plan(
    context: &BuildContext,
    executor: LocalExecutor,
    (source, caches): (DockerfileSource, Caches),
    outputs: &Outputs,
) -> Result<BuildPlan> {
    outputs.check_name(&source.name, &source.packaging.tags)?;
    let references: Vec<String> = references(&source)?.iter().map(Reference::to_string).collect();
    let platforms = platforms(context, source.packaging.platforms.as_ref())?;
    let mut access = outputs.ask_for_access(context, &source.packaging.tags);
    let (name, tools) = (source.name.clone(), tools(context));
    let job = job(source, caches, outputs);
    let (stages, materials) = convert::plan(&tools, Arc::new(executor), job, &platforms).await?;
    while let Some(granted) = access.join_next().await {
        crate::blocking::joined(granted)?;
    }
    let image = PlannedImage {
        name: Some(name),
        references: references.clone(),
        platforms: stages.into_iter().map(planned::of_stages).collect(),
    };
    Ok(BuildPlan {
        version: PLAN_VERSION,
        source: PlannedSource::Dockerfile,
        images: vec![image],
        bases: materials.bases.into_iter().map(planned::base_image).collect(),
        outputs: planned::planned_outputs(outputs, references),
    })
}

/// Looks for problems of a Dockerfile without building it.
pub(super) async fn check(
    context: &BuildContext,
    (source, caches): (DockerfileSource, Caches),
    outputs: &Outputs,
) -> Result<()> {
    let platforms = platforms(context, source.packaging.platforms.as_ref())?;
    let tools = tools(context);
    let platform = platforms.first().unwrap_or(&context.transport.host);
    let found = convert::check(&tools, job(source, caches, outputs), platform).await?;
    let is_error = |(level, _): &&(crate::dockerfile::Level, String)| {
        *level == crate::dockerfile::Level::Error
    };
    let errors: Vec<&str> = found.iter().filter(is_error).map(|(_, text)| text.as_str()).collect();
    for (_, text) in found.iter().filter(|found| !is_error(found)) {
        context.transport.reporter.warn(text);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "build the file").because(errors.join("\n\n")))
}

/// What the front end is asked for.
fn job(source: DockerfileSource, caches: Caches, outputs: &Outputs) -> Job {
    let packaging = source.packaging;
    Job {
        recipe: source.recipe,
        labels: packaging.labels,
        annotations: packaging.annotations,
        cache: CachePolicy {
            off: caches.off,
            off_by: caches.off_by,
            longest_age: caches.longest_age,
            off_in: source.execute_in,
            pull: caches.pull,
            repository: source.cache,
        },
        scope: caches.scope,
        shares_caches: caches.are_shared,
        encoding: packaging.encoding,
        is_kept_here: !outputs.push || !outputs.places.is_empty(),
        image_platform: ImagePlatform::of(packaging.platforms.as_ref()),
        explain: caches.explain,
    }
}

/// Errs where the isolation that was asked for does not work and a program is executed: before anything
/// else is. Nothing needs a sandbox where all results are known.
pub(super) async fn check_isolation(
    context: &BuildContext,
    (request, chosen): (IsolationRequest, Option<Isolation>),
    (source, caches): (&DockerfileSource, &Caches),
    outputs: &Outputs,
) -> Result<()> {
    if chosen.is_some() {
        return Ok(());
    }
    let folder = context.transport.store.root().to_owned();
    let tried = try_isolation(context.launcher.clone(), folder, request).await;
    let Err(error) = tried else { return Ok(()) };
    let transport = Context { reporter: Reporter::silent(), ..context.transport.clone() };
    let quiet = BuildContext { transport, ..context.clone() };
    let executor = executor(&quiet, request, None);
    let asked = (source.clone(), caches.clone());
    let plan = plan(&quiet, executor, asked, outputs).await?;
    if plan.executes_programs() { Err(error) } else { Ok(()) }
}

/// Tries the isolation that was asked for by name. There is nothing to try about the host's own files.
pub(super) async fn try_isolation(
    launcher: Launcher,
    folder: PathBuf,
    request: IsolationRequest,
) -> Result<()> {
    match request.preference {
        Preference::Only(isolation) if isolation != Isolation::Toolchain => {}
        _ => return Ok(()),
    }
    let chooser = Chooser { launcher, folder, request, needs: needs(), decided: None };
    blocking(move || chooser.choose()).await.map(drop)
}

/// What steps need of their isolation.
fn needs() -> Needs {
    Needs::new(Files::OwnRoot).with_owners()
}

/// What executes the steps of a build. `chosen` is how they are isolated, where that is known.
pub(super) fn executor(
    context: &BuildContext,
    request: IsolationRequest,
    chosen: Option<Isolation>,
) -> LocalExecutor {
    let isolation = Chooser {
        launcher: context.launcher.clone(),
        folder: context.transport.store.root().to_owned(),
        request,
        needs: needs(),
        decided: chosen,
    };
    LocalExecutor::new(execute::Tools {
        transport: context.transport.clone(),
        isolation,
        variables: context.variables.clone(),
        cores: context.cores,
    })
}

fn tools(context: &BuildContext) -> Tools {
    Tools {
        transport: context.transport.clone(),
        variables: context.variables.clone(),
        cores: context.cores,
    }
}

/// The platforms as BuildKit writes them. A list names none twice.
fn platforms(context: &BuildContext, wanted: Option<&PlatformSet>) -> Result<Vec<Platform>> {
    match wanted {
        None => Ok(vec![context.transport.host.normalized()]),
        Some(PlatformSet::Listed(listed)) => {
            let windows = listed.iter().find(|platform| platform.os == "windows");
            match windows {
                None => Ok(listed.iter().map(Platform::normalized).collect()),
                Some(windows) => {
                    Err(Error::new(ErrorKind::Unsupported, format!("build for {windows}"))
                        .because("steps of Windows images can only be executed on Windows")
                        .hint("choose a linux platform"))
                }
            }
        }
        Some(PlatformSet::All) => Err(Error::new(ErrorKind::Usage, "build for all platforms")
            .because("a Dockerfile has several bases, and none of them says which those are")
            .hint("write them out: --platform linux/amd64,linux/arm64")),
    }
}

fn references(source: &DockerfileSource) -> Result<Vec<Reference>> {
    let (own, tags) = ([source.name.clone()], &source.packaging.tags);
    let given = if tags.is_empty() { &own[..] } else { &tags[..] };
    let mut references: Vec<Reference> = Vec::new();
    for template in given {
        let reference = name_template::fill(template, &source.name)?;
        if let Some(digest) = reference.digest() {
            return Err(Error::new(ErrorKind::Usage, format!("name an image {reference}"))
                .because(format!("its digest is what comes out, it cannot be {digest} by wish")));
        }
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    Ok(references)
}
