//! What a build is asked for, after the command line and the configuration file are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::golang::{Asset, BuildFlags};
use crate::layer::Encoding;
use crate::oci::{Platform, PlatformSet};
use crate::sandbox::IsolationRequest;
use crate::store::CacheScope;
use crate::transport::Location;

/// A build: what to make images of, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The folder that package patterns and files are relative to.
    pub folder: PathBuf,
    /// What to make images of.
    pub targets: Vec<Target>,
    /// Settings of single packages, which win over their target's.
    pub overrides: Vec<Override>,
    /// Seconds since 1970 that every file and config carries.
    pub created: i64,
    /// Whether results of earlier builds may be used.
    pub use_cache: bool,
    /// Whether tags are looked up that the lock file has.
    pub pull: bool,
    /// How a Go that comes from an image is isolated.
    pub isolation: IsolationRequest,
    /// Whose caches a Go that comes from an image uses, and whose programs are kept.
    pub scope: CacheScope,
    /// Whether this machine's Go may be used, which shares its caches among all builds of the user.
    pub shares_caches: bool,
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
    /// The platforms; `None` means the machine's own.
    pub platforms: Option<PlatformSet>,
    /// The names that images get; `{name}` stands for the image's short name.
    pub tags: Vec<String>,
    /// How new layers are compressed.
    pub encoding: Encoding,
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
    /// Labels in the config.
    pub labels: BTreeMap<String, String>,
    /// Annotations on manifests and the index.
    pub annotations: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    pub stop_signal: Option<String>,
    /// Files and folders to put into the image.
    pub assets: Vec<Asset>,
}
