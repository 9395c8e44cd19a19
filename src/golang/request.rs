//! What is asked of a build of Go packages, after the command line and the configuration file are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::assets::Asset;
use super::flags::BuildFlags;
use crate::cache::Caches;
use crate::image::Packaging;
use crate::oci::Platform;
use crate::sandbox::IsolationRequest;
use crate::store::CacheScope;
use crate::transport::Location;

/// Programs to make images of, and whose caches that uses.
#[derive(Clone)]
pub struct ProgramRequest {
    /// What images are made of.
    pub programs: Programs,
    /// What is used of earlier builds, and kept for later ones.
    pub caches: Caches,
    /// How a Go that comes from an image is isolated.
    pub isolation: IsolationRequest,
    /// Whose caches a Go that comes from an image uses, and whose programs are kept.
    pub scope: CacheScope,
    /// Whether nothing is fetched, compiled or written: it is only said what would be.
    pub is_dry_run: bool,
}

impl ProgramRequest {
    /// What is asked, with the caches of the folder where no others are named.
    pub fn new(programs: Programs, caches: Caches, isolation: IsolationRequest) -> Self {
        let scope = match &caches.scope {
            _ if !caches.are_shared => CacheScope::of_this_build(),
            Some(scope) => scope.clone(),
            None => CacheScope::of_folder(&programs.folder),
        };
        Self { programs, caches, isolation, scope, is_dry_run: false }
    }
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
    /// Ports such as `8080/tcp` or `53/udp`.
    pub ports: Vec<String>,
    /// Folders that hold data of their own.
    pub volumes: Vec<String>,
    /// The signal that asks the program to end.
    pub stop_signal: Option<String>,
    /// Whether an annotation names the commit that is checked out. Every commit then changes the digest.
    pub revision: bool,
    /// Files and folders to put into the image.
    pub assets: Vec<Asset>,
}
