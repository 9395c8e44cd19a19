//! What a build is asked for, after the command line and the configuration file are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::publish::Outputs;
use crate::dockerfile::convert::{CacheRepository, Recipe};
use crate::golang::{Asset, BuildFlags};
use crate::layer::Encoding;
use crate::oci::{Platform, PlatformSet};
use crate::sandbox::IsolationRequest;
use crate::store::CacheScope;
use crate::transport::Location;

/// A build: what to make images of, what is used of earlier builds, and what becomes of the images.
///
/// Every dialect of the command line ends in one of these.
#[derive(Clone, Debug)]
pub struct Request {
    /// What images are made of.
    pub source: Source,
    /// What is used of earlier builds, and kept for later ones.
    pub caches: Caches,
    /// How steps, and a Go that comes from an image, are isolated.
    pub isolation: IsolationRequest,
    /// What becomes of the images.
    pub outputs: Outputs,
}

/// What images are made of.
#[derive(Clone, Debug)]
pub enum Source {
    /// Go packages, which are compiled.
    GoPackages(Programs),
    /// Programs that were built elsewhere.
    Prebuilt(Programs),
    /// A Dockerfile.
    Dockerfile(Box<DockerfileSource>),
}

/// What is used of earlier builds, and kept for later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Caches {
    /// Whether results of earlier builds are passed over.
    pub off: bool,
    /// Whether tags are looked up again: those of bases, and those that the lock file has.
    pub pull: bool,
    /// Whether it is told how each step, package and base came to be.
    pub explain: bool,
    /// Whose caches are used, where it is not the folder that says so.
    pub scope: Option<CacheScope>,
    /// Whether anything is used or kept that builds share and that is not found by its content, such as
    /// the caches of Go.
    pub are_shared: bool,
}

/// What is said of an image, whatever it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packaging {
    /// The platforms; `None` means the machine's own.
    pub platforms: Option<PlatformSet>,
    /// The names that images get; `{name}` stands for the image's short name.
    pub tags: Vec<String>,
    /// How new layers are compressed.
    pub encoding: Encoding,
    /// Labels in the config.
    pub labels: BTreeMap<String, String>,
    /// Annotations on manifests and the index.
    pub annotations: BTreeMap<String, String>,
}

/// Programs to make images of.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder that package patterns and files are relative to.
    pub folder: PathBuf,
    /// What to make images of.
    pub targets: Vec<Target>,
    /// Settings of single packages, which win over their target's.
    pub overrides: Vec<Override>,
    /// Seconds since 1970 that every file and config carries.
    pub created: i64,
}

/// A Dockerfile to build.
#[derive(Clone, Debug)]
pub struct DockerfileSource {
    /// What is built.
    pub recipe: Recipe,
    /// Stages whose steps are executed in any case, in lower case.
    pub execute_in: BTreeSet<String>,
    /// Where results of steps are shared with other machines.
    pub cache: Option<CacheRepository>,
    /// The image's short name.
    pub name: String,
    /// What the image is like.
    pub packaging: Packaging,
}

/// Some packages that are built with the same settings.
#[derive(Clone, Debug)]
pub struct Target {
    /// Import paths, folders or patterns such as `./cmd/...`.
    pub patterns: Vec<String>,
    /// Programs built elsewhere, instead of packages.
    pub prebuilt: Vec<Prebuilt>,
    /// Whether the packages share an image.
    pub grouping: Grouping,
    /// How they are built.
    pub settings: Settings,
}

/// Whether several packages become several images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One image for each package.
    Separate,
    /// One image for all; the first package's binary is the entrypoint.
    Together,
}

/// A program that was built elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prebuilt {
    /// Where it runs; `None` means the machine's own platform.
    pub platform: Option<Platform>,
    /// The file.
    pub path: PathBuf,
}

/// Settings of one package.
#[derive(Clone, Debug)]
pub struct Override {
    /// The package: an import path, a folder, or a pattern of these.
    pub package: String,
    /// Its settings.
    pub settings: Settings,
}

/// How images are built.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What the image stands on.
    pub base: BaseChoice,
    /// What images are like.
    pub packaging: Packaging,
    /// What packages are compiled with.
    pub toolchain: ToolchainChoice,
    /// How packages are compiled.
    pub go: BuildFlags,
    /// What the image holds beside its binaries, and how it runs.
    pub image: ImageSettings,
}

/// What packages are compiled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolchainChoice {
    /// The `go` on `PATH` where it is new enough for `go.mod`, else that of an image.
    Auto {
        /// The image; `{version}` stands for what `go.mod` asks for. The official one if not given.
        image: Option<String>,
    },
    /// The `go` on `PATH`.
    Host,
    /// A `go` program.
    Program(PathBuf),
    /// The Go of an image from anywhere.
    Image(Location),
}

/// What an image stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseChoice {
    /// The built-in base: certificates, time zones, users, `/tmp`.
    Static,
    /// Nothing.
    Scratch,
    /// An image from anywhere.
    Image(Location),
}

/// What an image holds beside its binaries, and how it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSettings {
    /// The image's short name, instead of its first binary's.
    pub name: Option<String>,
    /// Instead of the binary's path.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    pub cmd: Option<Vec<String>>,
    /// Variables on top of the base's.
    pub env: BTreeMap<String, String>,
    /// Instead of the base's user.
    pub user: Option<String>,
    /// Instead of the base's working folder.
    pub workdir: Option<String>,
    /// Ports such as `8080` or `53/udp`.
    pub ports: Vec<String>,
    /// Folders that hold data of their own.
    pub volumes: Vec<String>,
    /// The signal that asks the program to end.
    pub stop_signal: Option<String>,
    /// Files and folders to put into the image.
    pub assets: Vec<Asset>,
}
