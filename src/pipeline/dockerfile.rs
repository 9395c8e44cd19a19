//! Dockerfiles as a front end: one image for each platform, published as those of Go packages are.

use super::{Built, Caches, DockerfileSource, Engine, Outputs, Published};
use crate::dockerfile::build::{self, CachePolicy, Job, StatedPlatform, Tools};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Artifact;
use crate::oci::{Platform, PlatformSet, Reference};
use crate::sandbox::{Chooser, Files, IsolationRequest, Needs, Rung};

/// Builds a Dockerfile, and sends the image where `outputs` say.
pub(super) async fn build(
    engine: &Engine,
    tools: &Tools,
    (source, caches): (DockerfileSource, Caches),
    outputs: &Outputs,
) -> Result<Vec<Published>> {
    let references = references(&source)?;
    let platforms = platforms(engine, source.packaging.platforms.as_ref())?;
    let mut access = outputs.ask_for_access(engine, &source.packaging.tags);
    let (name, annotations) = (source.name.clone(), source.packaging.annotations.clone());
    let building = build::build(tools, job(source, caches, outputs), &platforms);
    tokio::pin!(building);
    let images = loop {
        tokio::select! {
            biased;
            Some(granted) = access.join_next() => super::finished(granted)?,
            images = &mut building => break images?,
        }
    };
    while let Some(granted) = access.join_next().await {
        super::finished(granted)?;
    }
    let artifact = match <[_; 1]>::try_from(images) {
        Ok([only]) => Artifact::Image(only),
        Err(several) => Artifact::index(several, annotations),
    };
    outputs.publish(engine, &[Built { name, artifact, references }]).await
}

/// Looks for problems of a Dockerfile without building it.
pub(super) async fn check(
    engine: &Engine,
    tools: &Tools,
    (source, caches): (DockerfileSource, Caches),
    outputs: &Outputs,
) -> Result<()> {
    let platforms = platforms(engine, source.packaging.platforms.as_ref())?;
    let platform = platforms.first().unwrap_or(&engine.transport.host);
    let found = build::check(tools, job(source, caches, outputs), platform).await?;
    let is_error = |(level, _): &&(crate::dockerfile::Level, String)| {
        *level == crate::dockerfile::Level::Error
    };
    let errors: Vec<&str> = found.iter().filter(is_error).map(|(_, text)| text.as_str()).collect();
    for (_, text) in found.iter().filter(|found| !is_error(found)) {
        engine.transport.reporter.warn(text);
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
        file: source.file,
        context: source.context,
        contexts: source.contexts,
        target: source.target,
        arguments: source.arguments,
        secrets: source.secrets,
        agents: source.agents,
        labels: packaging.labels,
        annotations: packaging.annotations,
        hosts: source.hosts,
        network: source.network,
        limits: source.limits,
        shared_memory_bytes: source.shared_memory_bytes,
        cache: CachePolicy {
            off: caches.off,
            off_in: source.execute_in,
            pull: caches.pull,
            repository: source.cache,
        },
        go_cache: source.go_cache,
        scope: caches.scope,
        shares_caches: caches.are_shared,
        mirrors: source.mirrors,
        epoch: source.epoch,
        now: source.now,
        encoding: packaging.encoding,
        family: source.manifest_format,
        is_kept_here: !outputs.push || !outputs.places.is_empty(),
        stated: StatedPlatform::of(packaging.platforms.as_ref()),
        shell_on_failure: source.shell_on_failure,
    }
}

/// What steps are executed with. `chosen` is how they are isolated, where that is known.
pub(super) fn tools(engine: &Engine, request: IsolationRequest, chosen: Option<Rung>) -> Tools {
    let isolation = Chooser {
        launcher: engine.launcher.clone(),
        folder: engine.transport.store.root().to_owned(),
        request,
        needs: Needs::new(Files::OwnRoot).with_owners(),
        decided: chosen,
    };
    Tools {
        transport: engine.transport.clone(),
        isolation,
        variables: engine.variables.clone(),
        cores: engine.cores,
    }
}

/// The platforms as BuildKit writes them. A list names none twice.
fn platforms(engine: &Engine, wanted: Option<&PlatformSet>) -> Result<Vec<Platform>> {
    match wanted {
        None => Ok(vec![engine.transport.host.normalized()]),
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
        let reference: Reference = template.replace("{name}", &source.name).parse()?;
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
