//! What a build of a Dockerfile would do, stage by stage, without executing a step.

use std::sync::Arc;

use super::job::{Job, Tools};
use super::planned::{PlannedBase, PlannedPlatform, PlannedStage};
use super::platform::{Base, PlatformBuild};
use super::{Attempt, Purpose, begin, prepare};
use crate::dockerfile::Origin;
use crate::engine::{Execute, Materials};
use crate::error::Result;
use crate::oci::Platform;
use crate::secret;

/// Says what [`super::build()`] would do, for each of `platforms`, and of which images. Contexts are read, and
/// bases looked up; nothing is executed.
///
/// Errs with every problem that a build would meet before its first step is executed.
pub async fn plan(
    tools: &Tools,
    executor: Arc<dyn Execute>,
    job: Job,
    platforms: &[Platform],
) -> Result<(Vec<PlannedPlatform>, Materials)> {
    let common = begin(tools, executor, job, platforms, Purpose::Plan).await?;
    let builds = prepare(&common, platforms, Attempt::First).await?;
    let mut planned = Vec::new();
    for (build, platform) in builds.iter().zip(platforms) {
        // One after the other: which of two equal steps runs is the same each time.
        for &stage in build.needed() {
            build.stage(stage).await?;
        }
        let stages = build.needed().iter().map(|&stage| planned_stage(build, stage)).collect();
        planned.push(PlannedPlatform { platform: platform.clone(), stages });
    }
    Ok((planned, common.materials()))
}

fn planned_stage(build: &PlatformBuild<'_>, index: usize) -> PlannedStage {
    let node = &build.graph.nodes()[index];
    let base = match build.base(index) {
        Base::Scratch => PlannedBase::Scratch,
        Base::Stage(below) => {
            let name = build.graph.nodes()[below].name.clone();
            PlannedBase::Stage(name.unwrap_or_else(|| below.to_string()))
        }
        Base::Image(image) => PlannedBase::Image {
            name: base_name(build, index),
            digest: image.manifest.digest().clone(),
        },
        Base::Files(..) => PlannedBase::Context(base_name(build, index)),
    };
    PlannedStage { index, name: node.name.clone(), base, steps: build.planned(index) }
}

/// What a stage's base is called: as it is written where that holds values from the command line.
fn base_name(build: &PlatformBuild<'_>, index: usize) -> String {
    let written = &build.common.file.stages[index].from.base.text;
    match &build.graph.nodes()[index].base {
        Origin::Image(name) if build.globals.given_in(written).is_empty() => name.familiar(),
        Origin::Context(name) => name.clone(),
        _ => secret::addresses(written),
    }
}
