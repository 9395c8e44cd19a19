//! What front ends know of a build before it is done, as the document has it.

use super::Outputs;
use super::documents::{
    BaseKind, KnownBy, OutputKind, PlannedBase, PlannedBaseImage, PlannedLayer, PlannedOutput,
    PlannedPlatform, PlannedStage, PlannedStep, State, StepKind,
};
use crate::dockerfile::convert;
use crate::engine::materials::BaseImage;
use crate::engine::{Fate, LayerRecord};
use crate::progress::Origin;

pub(super) fn base_image(image: BaseImage) -> PlannedBaseImage {
    PlannedBaseImage { name: image.name, digest: image.digest }
}

/// Where images with these names would go.
pub(super) fn planned_outputs(outputs: &Outputs, references: Vec<String>) -> Vec<PlannedOutput> {
    let output = |kind, to| PlannedOutput { kind, to };
    let mut all: Vec<PlannedOutput> = Vec::new();
    all.extend(outputs.places.iter().map(|place| output(OutputKind::Place, place.to_string())));
    let named = match (outputs.push, outputs.places.is_empty()) {
        (true, _) => Some(OutputKind::Push),
        (false, true) => Some(OutputKind::Store),
        (false, false) => None,
    };
    if let Some(kind) = named {
        all.extend(references.into_iter().map(|name| output(kind, name)));
    }
    let files = outputs.files().map(|path| output(OutputKind::File, path.display().to_string()));
    all.extend(files);
    all
}

/// The plan of a platform of a Dockerfile, as the document has it.
pub(super) fn of_stages(planned: convert::PlannedPlatform) -> PlannedPlatform {
    let stage = |stage: convert::PlannedStage| PlannedStage {
        index: stage.index,
        name: stage.name,
        base: base_of_stage(stage.base),
        steps: stage.steps.into_iter().map(step).collect(),
    };
    PlannedPlatform {
        platform: planned.platform.to_string(),
        stages: Some(planned.stages.into_iter().map(stage).collect()),
        base: None,
        programs: None,
    }
}

fn base_of_stage(base: convert::PlannedBase) -> PlannedBase {
    let (kind, name, digest) = match base {
        convert::PlannedBase::Scratch => (BaseKind::Scratch, None, None),
        convert::PlannedBase::Stage(name) => (BaseKind::Stage, Some(name), None),
        convert::PlannedBase::Image { name, digest } => (BaseKind::Image, Some(name), Some(digest)),
        convert::PlannedBase::Context(name) => (BaseKind::Context, Some(name), None),
    };
    PlannedBase { kind, name, digest }
}

fn step(step: convert::PlannedStep) -> PlannedStep {
    let convert::PlannedStep { kind, number, text, fate, why } = step;
    let kind = match kind {
        convert::StepKind::Run => StepKind::Run,
        convert::StepKind::Copy => StepKind::Copy,
        convert::StepKind::Other => StepKind::Other,
    };
    let (state, origin, layer) = match fate {
        Fate::Known { origin, layer } => (State::Known, known_by(origin), layer.map(planned_layer)),
        Fate::Runs => (State::Runs, None, None),
        Fate::Unknown => (State::Unknown, None, None),
    };
    PlannedStep { kind, number, text, state, origin, layer, why }
}

fn known_by(origin: Origin) -> Option<KnownBy> {
    match origin {
        Origin::Store => Some(KnownBy::Store),
        Origin::Registry => Some(KnownBy::Registry),
        Origin::Executed => None,
    }
}

fn planned_layer(layer: LayerRecord) -> PlannedLayer {
    let LayerRecord { digest, size, diff_id, .. } = layer;
    PlannedLayer { digest, size, diff_id }
}
