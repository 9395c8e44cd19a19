//! What is known of the build of a Dockerfile before it is executed.

use crate::engine::{self, Fate, StepKind};
use crate::oci::{Digest, Platform};

/// The build of one platform.
#[derive(Clone, Debug)]
pub struct PlannedPlatform {
    /// The platform.
    pub platform: Platform,
    /// The stages that the image needs, each below those that need it.
    pub stages: Vec<PlannedStage>,
}

/// A stage.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Its number in the file, from zero.
    pub index: usize,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What it begins with.
    pub base: PlannedBase,
    /// Its steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// What a stage begins with.
#[derive(Clone, Debug)]
pub enum PlannedBase {
    /// Nothing.
    Scratch,
    /// Another stage, by its name or number.
    Stage(String),
    /// An image.
    Image {
        /// As the file names it, where it has values from the command line, else in full.
        name: String,
        /// Its manifest.
        digest: Digest,
    },
    /// A folder or archive of `--build-context`, by its name.
    Context(String),
}

/// A step.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// What kind of step it is.
    pub kind: StepKind,
    /// Its number in the stage; the base is the first.
    pub number: usize,
    /// Its first line as the file has it: what variables stand for is not shown.
    pub text: String,
    /// What would become of it.
    pub fate: Fate,
    /// Why.
    pub why: Vec<String>,
}

impl PlannedStep {
    pub(super) fn of(
        planned: &engine::PlannedStep,
        kind: StepKind,
        number: usize,
        text: &str,
    ) -> Self {
        let (fate, why) = (planned.fate.clone(), planned.why.clone());
        Self { kind, number, text: text.to_owned(), fate, why }
    }
}
