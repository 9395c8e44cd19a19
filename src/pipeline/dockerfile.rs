//! Dockerfiles as a front end: one image for each platform, published as those of Go packages are.

use super::{BuildContext, Built, Outputs, Published};
use std::sync::Arc;

use crate::dockerfile::build::{self, Job, Tools};
use crate::error::{Error, ErrorKind, Result};
use crate::execute::{self, Executor};
use crate::image::Artifact;
use crate::oci::{Platform, PlatformSet, Reference};
use crate::sandbox::Chooser;

/// A build of a Dockerfile: what to make, for which platforms, under which names.
#[derive(Clone, Debug)]
pub struct DockerfileRequest {
    /// What to make.
    pub job: Job,
    /// The platforms; `None` means the machine's own.
    pub platforms: Option<PlatformSet>,
    /// The image's short name, which `{name}` in a tag stands for.
    pub name: String,
    /// The names that the image gets; its short name where there is none.
    pub tags: Vec<String>,
}

/// Builds a Dockerfile, and sends the image where `outputs` say.
pub async fn build_dockerfile(
    context: &BuildContext,
    isolation: Chooser,
    request: DockerfileRequest,
    outputs: &Outputs,
) -> Result<Vec<Published>> {
    outputs.check()?;
    let references = references(&request)?;
    let platforms = platforms(context, request.platforms.as_ref())?;
    let mut access = outputs.ask_for_access(context, &request.tags);
    let (tools, executor) = (tools(context), Arc::new(executor(context, isolation)));
    let annotations = request.job.annotations.clone();
    let building = build::build(&tools, executor, request.job, &platforms);
    tokio::pin!(building);
    let images = loop {
        tokio::select! {
            biased;
            Some(granted) = access.join_next() => crate::blocking::joined(granted)?,
            images = &mut building => break images?,
        }
    };
    while let Some(granted) = access.join_next().await {
        crate::blocking::joined(granted)?;
    }
    let artifact = match <[_; 1]>::try_from(images) {
        Ok([only]) => Artifact::Image(only),
        Err(several) => Artifact::index(several, annotations),
    };
    outputs.publish(context, &[Built { name: request.name, artifact, references }]).await
}

/// Looks for problems of a Dockerfile without building it; reports each, and errs if one of them
/// would keep it from building.
pub async fn check_dockerfile(context: &BuildContext, request: DockerfileRequest) -> Result<()> {
    let platforms = platforms(context, request.platforms.as_ref())?;
    let tools = tools(context);
    let platform = platforms.first().unwrap_or(&context.transport.host);
    let found = build::check(&tools, request.job, platform).await?;
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

/// What executes the steps of a build.
fn executor(context: &BuildContext, isolation: Chooser) -> Executor {
    Executor::new(execute::Tools {
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

fn references(request: &DockerfileRequest) -> Result<Vec<Reference>> {
    let own = [request.name.clone()];
    let given = if request.tags.is_empty() { &own[..] } else { &request.tags[..] };
    let mut references: Vec<Reference> = Vec::new();
    for template in given {
        let reference: Reference = template.replace("{name}", &request.name).parse()?;
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
