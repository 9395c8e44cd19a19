//! What is to be built, and with what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::context::GitSource;
use crate::engine::{OnFailure, SecretSource, SolveOptions, StepKind, Table};
use crate::layer::{Encoding, TreePath};
use crate::oci::{MediaType, Platform, Repository};
use crate::sandbox::{Limit, Network};
use crate::store::CacheScope;
use crate::transport::{self, Location};

/// Where files come from that are in no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A repository.
    Git(GitSource),
    /// An archive, which is read whole.
    Archive {
        /// The archive.
        file: PathBuf,
        /// What messages call it.
        name: String,
        /// The folder in it that is meant, where it is not all of it.
        folder: Option<String>,
    },
    /// An archive on a server, or a lone Dockerfile.
    Address(String),
    /// Nothing at all.
    Empty,
}

/// What a name of `--build-context` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// Files.
    Files(ContextSource),
    /// An image.
    Image(Location),
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// A file of this machine.
    Path(PathBuf),
    /// A path in the context: `Dockerfile` unless another one was named.
    InContext(String),
    /// Text that came in another way.
    Text(Vec<u8>),
}

/// How results of earlier builds are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// No result is used.
    pub off: bool,
    /// What says so, where that is not `--no-cache`.
    pub off_by: Option<&'static str>,
    /// Results that the store remembers count for this long; for ever where nothing is said.
    pub longest_age: Option<Duration>,
    /// Stages whose results are not used, in lower case.
    pub off_in: BTreeSet<String>,
    /// Tags of bases are looked up again.
    pub pull: bool,
    /// Where results are shared with other machines.
    pub repository: Option<CacheRepository>,
}

/// A repository that holds results of steps: what the store does not know is looked up there, and
/// what is executed is put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRepository {
    /// Where it is.
    pub repository: Repository,
    /// Whether results are put there, and not only looked up.
    pub push: bool,
    /// Results that are older count as absent.
    pub longest_age: Option<Duration>,
    /// Steps whose results are neither looked up nor put there.
    pub without: BTreeSet<StepKind>,
}

impl CacheRepository {
    /// Takes a repository for everything.
    pub fn new(repository: Repository) -> Self {
        Self { repository, push: true, longest_age: None, without: BTreeSet::new() }
    }
}

/// Which platform an image is said to be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePlatform {
    /// That of its base: none was asked for.
    OfBase,
    /// The one that was asked for, whatever its last stage is based on.
    AsRequested,
}

impl ImagePlatform {
    /// Where platforms may have been asked for.
    pub fn of<T>(asked: Option<&T>) -> Self {
        if asked.is_some() { Self::AsRequested } else { Self::OfBase }
    }
}

/// A Dockerfile, and what is said of its steps.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The Dockerfile.
    pub file: FileSource,
    /// The build context.
    pub context: ContextSource,
    /// `--build-context`: other meanings of names in `FROM` and `--from`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--target`: the stage to build, unless it is the last one.
    pub target: Option<String>,
    /// Stages that are built, too, and make no image.
    pub also: Vec<String>,
    /// `--build-arg`: values of `ARG`s.
    pub arguments: BTreeMap<String, String>,
    /// `--secret`: what steps may mount as a secret.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: sockets of agents by their names.
    pub agents: BTreeMap<String, PathBuf>,
    /// `--add-host`: lines of the steps' `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// The network of steps that do not say which.
    pub network: Network,
    /// `--ulimit`: what each process of a step may have at most.
    pub limits: Vec<Limit>,
    /// `--shm-size`: the size of the steps' `/dev/shm`, unless it is the usual one.
    pub shared_memory_bytes: Option<u64>,
    /// Whether Go's caches are mounted into steps that run Go.
    pub go_cache: bool,
    /// `SOURCE_DATE_EPOCH`: no file and no document is younger than this.
    pub epoch: Option<i64>,
    /// The present, in seconds since 1970.
    pub now: i64,
    /// The media type of manifests, which says whether images are OCI's or Docker's; that of the
    /// base where nothing is said.
    pub manifest_format: Option<MediaType>,
    /// Which layers become of what steps add.
    pub layers: LayerChoice,
    /// What comes of a step that fails.
    pub on_failure: OnFailure,
}

/// Which layers become of what steps add to the base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerChoice {
    /// Whether all of them become one.
    pub single: bool,
    /// Paths that are left out, with all that is below them.
    pub without: Vec<TreePath>,
}

/// A build of one Dockerfile.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is built.
    pub recipe: Recipe,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--annotation`: of the manifests, and of the index over several.
    pub annotations: BTreeMap<String, String>,
    /// How results of earlier builds are used.
    pub cache: CachePolicy,
    /// Whose caches steps use, where it is not the context that says so.
    pub scope: Option<CacheScope>,
    /// Whether anything is used or kept that builds share and that is not found by its content:
    /// Go's caches, caches that steps mount, results of steps that ran with Go's caches.
    pub shares_caches: bool,
    /// How layers are compressed.
    pub encoding: Encoding,
    /// Whether the image needs all of its layers on this machine: it is not only pushed.
    pub is_kept_here: bool,
    /// Which platform an image is said to be for.
    pub image_platform: ImagePlatform,
    /// Whether it is told how each step and base came to be.
    pub explain: bool,
}

/// What every build has at its disposal.
#[derive(Clone)]
pub struct Tools {
    /// The store, the registry client, and the reader of progress.
    pub transport: transport::Context,
    /// The environment variables that programs of this machine get.
    pub variables: BTreeMap<String, String>,
    /// How many things can usefully run at once.
    pub cores: usize,
}

impl Tools {
    /// The `PATH` of this machine's programs.
    pub(super) fn path(&self) -> &str {
        self.variables.get("PATH").map_or("", String::as_str)
    }

    /// The platform of this machine.
    pub(super) fn host(&self) -> &Platform {
        &self.transport.host
    }
}

impl Job {
    /// What the names in ops stand for.
    pub(super) fn table(&self, scope: CacheScope) -> Table {
        Table {
            secrets: self.recipe.secrets.clone(),
            agents: self.recipe.agents.clone(),
            scope,
            shares_caches: self.shares_caches,
            time: self.time(),
            on_failure: self.recipe.on_failure,
        }
    }

    /// How steps are looked up and packed.
    pub(super) fn solve_options(&self, tools: &Tools) -> SolveOptions {
        SolveOptions {
            transport: tools.transport.clone(),
            encoding: self.encoding,
            epoch: self.recipe.epoch,
            now: self.recipe.now,
            longest_age: self.cache.longest_age,
            cores: tools.cores,
            explain: self.explain,
        }
    }

    /// The time that is written wherever one is needed.
    pub(super) fn time(&self) -> i64 {
        self.recipe.epoch.unwrap_or(self.recipe.now)
    }

    /// The time as configurations write it.
    pub(super) fn created(&self) -> String {
        jiff::Timestamp::from_second(self.time()).unwrap_or_default().to_string()
    }
}
