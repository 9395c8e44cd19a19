//! What a build is asked for, after the command line and the configuration file are read.

use std::collections::BTreeSet;

use super::publish::Outputs;
use crate::dockerfile::convert::{CacheRepository, Recipe};
use crate::layer::Encoding;
use crate::sandbox::IsolationRequest;

// What a request is made of can be named beside it.
pub use crate::cache::Caches;
pub use crate::golang::request::{
    BaseChoice, Grouping, ImageSettings, Override, Prebuilt, Programs, Settings, Target,
    ToolchainChoice,
};
pub use crate::image::Packaging;

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

impl Source {
    /// How the layers of its images are compressed.
    pub(super) fn encodings(&self) -> Vec<Encoding> {
        match self {
            Self::GoPackages(programs) | Self::Prebuilt(programs) => {
                let targets = programs.targets.iter().map(|target| &target.settings);
                let overrides = programs.overrides.iter().map(|entry| &entry.settings);
                targets.chain(overrides).map(|settings| settings.packaging.encoding).collect()
            }
            Self::Dockerfile(source) => vec![source.packaging.encoding],
        }
    }
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
