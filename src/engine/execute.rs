//! What reads inputs and executes ops: implemented beside sandboxes, and handed in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::cancel::CancelToken;
use super::files::Files;
use super::op::{Input, Op};
use super::output::Executed;
use super::read_file::ReadFile;
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::progress::Task;
use crate::store::CacheScope;

/// What the names in all ops of a build stand for, besides files. It is never written anywhere.
#[derive(Clone)]
pub struct Table {
    /// Secrets, by their ids.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of agents, by their ids.
    pub agents: BTreeMap<String, PathBuf>,
    /// Whose caches steps use.
    pub scope: CacheScope,
    /// Whether caches may be used that builds share by the names that they give them.
    pub shares_caches: bool,
    /// The time that is written wherever one is needed, in seconds since 1970.
    pub time: i64,
    /// What comes of a step that fails.
    pub on_failure: OnFailure,
}

/// What comes of a step that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The build ends, with this as the user's next move.
    End(Option<&'static str>),
    /// The build ends in a shell where the step failed.
    Shell,
}

/// What a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of a file.
    File(PathBuf),
    /// The value of a variable, which was read from the environment.
    Value(String),
}

impl SecretSource {
    /// The most bytes that a file of a secret may have, as in BuildKit.
    pub const LONGEST: u64 = 500 << 10;
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// Files that an op reads.
#[derive(Clone)]
pub enum Provider {
    /// A folder: only its files say what it is.
    Folder(Arc<dyn Files>),
    /// What steps or an image left: its key says what it is.
    Snapshot(Snapshot),
}

/// What the names in one op stand for.
#[derive(Clone)]
pub struct Inputs {
    /// The files that it works on.
    pub base: Snapshot,
    /// The files that it reads.
    pub files: BTreeMap<Input, Provider>,
    /// Whether a program may be executed on the files that come of it, so that a root file system is worth
    /// making.
    pub programs_follow: bool,
    /// Variables that a program gets unless the op sets them: they change no result.
    pub variables: Vec<(String, String)>,
    /// What people are told, once, where a program got the variable of [`super::op::Alternative`].
    pub alternative_note: Option<String>,
    /// The rest.
    pub table: Arc<Table>,
}

impl Inputs {
    /// The files of a name. Each name in an op has some.
    pub fn get(&self, input: &Input) -> Result<&Provider> {
        self.files.get(input).ok_or_else(|| {
            Error::new(crate::error::ErrorKind::Invalid, "execute a step")
                .because(format!("nobody said what {input:?} is"))
        })
    }

    /// Whether anything that the op works on or reads came of a cache.
    pub fn have_cached(&self) -> bool {
        let read = self.files.values().filter_map(|provider| match provider {
            Provider::Snapshot(snapshot) => Some(snapshot),
            Provider::Folder(_) => None,
        });
        read.chain([&self.base]).any(Snapshot::has_cached)
    }
}

/// The part of an op that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole.
    Whole,
    /// A source, by its place in the list.
    Source(usize),
    /// What is left out.
    Excludes,
    /// The destination.
    Destination,
    /// The owner.
    Owner,
    /// The permissions.
    Mode,
    /// A mount, by its place in the list.
    Mount(usize),
}

/// Why an op was not executed.
#[derive(Debug)]
pub struct OpError {
    /// What is wrong.
    pub error: Error,
    /// Which part of the op it is about.
    pub part: Part,
    /// Steps below that left something in a cache which is not there any more: where their results
    /// were found and not made, this may have failed for that.
    pub lost: Vec<String>,
}

impl From<Error> for OpError {
    fn from(error: Error) -> Self {
        Self { error, part: Part::Whole, lost: Vec::new() }
    }
}

/// Says which part of an op an error is about.
pub trait InPart<T> {
    /// Names the part.
    fn in_part(self, part: Part) -> Result<T, OpError>;
}

impl<T> InPart<T> for Result<T> {
    fn in_part(self, part: Part) -> Result<T, OpError> {
        self.map_err(|error| OpError { part, ..OpError::from(error) })
    }
}

/// How an op that is executed is known outside.
pub struct Run {
    /// The step's key.
    pub key: String,
    /// What takes the lines that a program writes.
    pub task: Arc<Task>,
    /// Whether it is to end.
    pub cancel: CancelToken,
}

/// Reads inputs and executes ops, for one build.
pub trait Execute: Send + Sync {
    /// Reads the files that only their contents name.
    fn prepare(
        &self,
        op: Arc<Op>,
        inputs: Inputs,
    ) -> BoxFuture<'_, Result<Box<dyn Prepared>, OpError>>;

    /// Gets ready to work on files before somebody needs them. Errors come again when somebody does.
    fn warm_up<'a>(&'a self, files: &'a Snapshot) -> BoxFuture<'a, ()>;

    /// Takes note that programs may be executed on files: whoever only looks at them shares what is made for
    /// that.
    fn expect_programs_on(&self, files: &Snapshot);

    /// Takes note that an image will be kept here whose base this is: its layers are stored as they
    /// come, and not fetched a second time.
    fn store_layers_of(&self, base: &Image);

    /// Forgets the files that were made so far and the step that failed: another attempt begins.
    fn forget(&self);

    /// Gives the user what was asked for after a failure.
    fn after_failure(&self) -> BoxFuture<'_, Result<()>>;
}

/// An op whose inputs were read.
pub trait Prepared: Send + Sync {
    /// The digests of what was read, in the order in which the op names it.
    fn digests(&self) -> Vec<Vec<u8>>;

    /// The files that were read, for explanations; none where they are more than `most`.
    fn files(&self, most: usize) -> Option<Vec<ReadFile>>;

    /// Whether the files that it works on ask for the variable of [`super::op::Alternative`]. Equal keys
    /// give equal answers.
    fn wants_alternative(&self) -> BoxFuture<'_, Result<bool, OpError>> {
        async { Ok(false) }.boxed()
    }

    /// Executes it on the very files that were read.
    fn execute(self: Box<Self>, run: Run) -> BoxFuture<'static, Result<Executed, OpError>>;
}
