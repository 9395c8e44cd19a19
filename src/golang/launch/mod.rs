//! How a `go` process is started: the one thing in which toolchains differ once they are found.

mod confined;
mod host;
mod inside;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::pin::Pin;

use tokio::io::AsyncRead;

use crate::error::Result;
use crate::sandbox::Access;

pub(super) use confined::Confined;
pub(super) use host::Host;
pub(super) use inside::Inside;

/// Where a user keeps what git and the go command need to be let in.
const CREDENTIALS: [&str; 6] =
    [".netrc", ".gitconfig", ".git-credentials", ".config/git", ".config/go", ".ssh"];

/// What a `go` process may use beside files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The network and the user's credentials, to fetch modules. No code of a module runs.
    Fetch,
    /// Neither.
    Build,
}

/// A `go` process to start.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub go: &'a Path,
    /// The folder that it starts in.
    pub dir: &'a Path,
    pub arguments: &'a [String],
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    pub phase: Phase,
    /// The folder that programs are written to.
    pub out_dir: &'a Path,
    /// Whether `go.mod` may be updated.
    pub sources: Access,
    /// A locked file. It stays locked for as long as the process lives, even where gondola is killed
    /// and the process is not.
    pub lock: Option<&'a File>,
}

/// Starts `go` processes.
pub(super) trait Launch: fmt::Debug + Send + Sync {
    /// Starts one. What is wrong may be told by [`Running::end`] alone.
    fn start(&self, call: &Call<'_>) -> Result<Running>;
}

/// The part of a process that can be read from.
pub(super) type Output = Box<dyn AsyncRead + Send + Unpin>;

/// A started process. Dropped before its end, it is ended.
pub(super) struct Running {
    pub stdout: Output,
    pub stderr: Output,
    /// Waits for the end; answers how it ended, for people, where that was no success.
    pub end: Pin<Box<dyn Future<Output = Result<Option<String>>> + Send>>,
}
