//! The documents that `gondola build` writes for other programs to read.
//!
//! | document | where | version |
//! |---|---|---|
//! | the plan | stdout of `--dry-run --json` | its field `version` |
//! | progress, with explanations | stderr of `--progress json`, one object on a line | the field `version` of the first object |
//! | the metadata | `--metadata-file` | none: the keys are docker's, which have none |
//!
//! A version is a whole number. It goes up when a field goes away or means something else; a reader that
//! knows the number can go on. New fields and new events do not move it: a reader passes over what it
//! does not know. The files of `fixtures/documents` are examples of each, and a test compares them with
//! what the program writes.
//!
//! # The plan
//!
//! A [`BuildPlan`], version [`PLAN_VERSION`]. It says what a build would do, and is written without doing
//! it:
//!
//! ```text
//! { "version": 1, "source": "dockerfile",
//!   "images": [ { "name": "app", "references": [ … ],
//!     "platforms": [ { "platform": "linux/amd64",
//!       "stages": [ { "index": 0, "name": "build", "base": { … },
//!         "steps": [ { "kind": "run", "number": 2, "text": "RUN …", "state": "runs", "why": [ … ] } ] } ] } ] } ],
//!   "bases": [ { "name": "…", "digest": "sha256:…" } ],
//!   "outputs": [ { "kind": "push", "to": "registry.example/app:latest" } ] }
//! ```
//! Of Go packages and of programs that were built elsewhere a platform has `base` and `programs` in the
//! place of `stages`.
//!
//! # Progress and explanations
//!
//! See [`crate::cli::output::json`]: the first object is `{"event":"begun","version":1,…}`, the event `explained`
//! has a version of its own.
//!
//! # The metadata
//!
//! One object for one image; for several an object with one for each, by the image's short name:
//!
//! | key | value |
//! |---|---|
//! | `containerimage.digest` | digest of the manifest or index |
//! | `containerimage.descriptor` | the descriptor of that: `mediaType`, `digest`, `size`, and what else it has |
//! | `containerimage.config.digest` | digest of the configuration; absent for an index |
//! | `image.name` | the names in full, with commas between them |
//!
//! Docker's has no `image.name` where nobody gave a name. Here every image gets one, under which the store has
//! it, and that stands there.
//!
//! Scripts read these keys of what `docker buildx build` writes, and some take every key for an image's:
//! so there is none of our own, and no version.

use serde::Serialize;

use crate::oci::Digest;

/// The version of plans.
pub const PLAN_VERSION: u32 = 1;

/// What a build would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildPlan {
    /// The version of this document: [`PLAN_VERSION`].
    pub version: u32,
    /// What images are made of.
    pub source: PlannedSource,
    /// The images, in the order in which they are asked for.
    pub images: Vec<PlannedImage>,
    /// All images that the build would use: bases, and what steps copy from. Sorted.
    pub bases: Vec<PlannedBaseImage>,
    /// Where images would go, and the files that would be written.
    pub outputs: Vec<PlannedOutput>,
}

impl BuildPlan {
    /// Whether a step that is a program would be executed for certain.
    pub(super) fn executes_programs(&self) -> bool {
        let platforms = self.images.iter().flat_map(|image| &image.platforms);
        let stages = platforms.flat_map(|platform| platform.stages.iter().flatten());
        let mut steps = stages.flat_map(|stage| &stage.steps);
        steps.any(|step| step.kind == StepKind::Run && step.state == State::Runs)
    }
}

/// What images are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedSource {
    /// A Dockerfile.
    Dockerfile,
    /// Go packages.
    GoPackages,
    /// Programs that were built elsewhere.
    Prebuilt,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedImage {
    /// Its short name; absent where only the execution of `go list` could say it, see `programs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The names that it would get, in full.
    pub references: Vec<String>,
    /// What would be done for each platform.
    pub platforms: Vec<PlannedPlatform>,
}

/// What would be done for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedPlatform {
    /// The platform, as `os/architecture[/variant]`.
    pub platform: String,
    /// Of a Dockerfile: the stages that the image needs, each below those that need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<PlannedStage>>,
    /// Otherwise: what the image stands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PlannedBase>,
    /// Otherwise: its programs; the first is the entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<PlannedProgram>>,
}

/// A stage of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedStage {
    /// Its number in the file, from zero.
    pub index: usize,
    /// Its name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it begins with.
    pub base: PlannedBase,
    /// Its steps that change files, in order.
    pub steps: Vec<PlannedStep>,
}

/// What a stage or an image begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedBase {
    /// What kind of thing it is.
    pub kind: BaseKind,
    /// Its name: an image's, a stage's (its number, where it has no name), a context's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of an image: its digest. For a Dockerfile that of the platform's manifest, otherwise that which the name
    /// stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// What kind of thing a base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseKind {
    /// Nothing.
    Scratch,
    /// The base that is built into gondola.
    Static,
    /// Another stage of the file.
    Stage,
    /// An image.
    Image,
    /// A folder or archive of `--build-context`.
    Context,
}

/// A step of a Dockerfile that changes files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// What kind of step it is.
    pub kind: StepKind,
    /// Its number in the stage, as progress shows it: the base is the first.
    pub number: usize,
    /// What the image's history would say of it.
    pub text: String,
    /// What would become of it.
    pub state: State,
    /// Who knows the result; absent where nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<KnownBy>,
    /// The layer that is the result; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<PlannedLayer>,
    /// Why it runs, or why that is not known. Names and paths, and no values; for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

/// What kind of step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// `RUN`
    Run,
    /// `COPY` and `ADD`
    Copy,
    /// `WORKDIR`, and a context as a base.
    Other,
}

/// What would become of a step or program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// The result is known: nothing is done.
    #[serde(rename = "known")]
    Known,
    /// It is executed or compiled.
    #[serde(rename = "runs")]
    Runs,
    /// That depends on what is executed before it.
    #[serde(rename = "unknown until executed")]
    Unknown,
}

/// Who knows a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// The store of this machine.
    Store,
    /// The repository of `--cache-repo`.
    Registry,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedLayer {
    /// The digest of the compressed blob.
    pub digest: Digest,
    /// The size of that, in bytes.
    pub size: u64,
    /// The digest of the archive in it.
    pub diff_id: Digest,
}

/// A program of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedProgram {
    /// Its name in the image; absent where only `go list` could say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The import path of a Go package; a pattern, where only `go list` could say what it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// The file of a program that was built elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What it is compiled with; absent where it is not compiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<PlannedToolchain>,
    /// Whether it is compiled: `known` means that it did not change since it was.
    pub state: State,
    /// Why it is compiled, or why that is not known; for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

/// What Go packages are compiled with: one of this machine has a `program`, one of an image a `digest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedToolchain {
    /// Its version, such as `go1.26.0`; absent where the image was not fetched yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The `go` of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The image's name, where it was not fetched yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// An image that a build uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PlannedBaseImage {
    /// Its name, where it has one that others know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The digest of its manifest or index.
    pub digest: Digest,
}

/// Something that a build would write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedOutput {
    /// What kind of thing it is.
    pub kind: OutputKind,
    /// Where: a name in full, a place as `--output` has it, or a path.
    pub to: String,
}

/// What kind of thing would be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// A name in the local store.
    Store,
    /// A name in its registry.
    Push,
    /// A place of `--output`.
    Place,
    /// A file that describes the images.
    File,
}
