//! How a `go` process is started: the one thing in which toolchains differ once they are found.

mod confined;
mod host;
mod inside;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
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

/// The folders that a build of the modules around `dir` reads sources from: its workspace or module,
/// and those that replace others or belong to the workspace.
pub(super) fn source_folders(dir: &Path) -> Vec<PathBuf> {
    use super::freshness::{replacing_folders, used_folders};
    use super::packages::{Scope, absolute};
    let root = Scope { dir, workspaces: true }.module_of(dir).unwrap_or_else(|| dir.to_owned());
    let mut folders = vec![root];
    if folders[0] != dir {
        folders.push(dir.to_owned());
    }
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        // A file that cannot be read is for the go command to complain about.
        let read = |name| fs_err::read_to_string(folder.join(name)).unwrap_or_default();
        let (module, workspace) = (read("go.mod"), read("go.work"));
        let further = used_folders(&workspace).into_iter();
        let further =
            further.chain(replacing_folders(&workspace)).chain(replacing_folders(&module));
        for path in further.map(|path| absolute(&folder, &path)) {
            if !folders.contains(&path) {
                folders.push(path);
            }
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_workspace_and_whatever_replaces_modules() {
        let base = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = base.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        write("w/go.work", "go 1.26\nuse ./a\nuse ../b\n");
        write("w/a/go.mod", "module a\nreplace x => ../../c\nreplace y => example.com/y v1.0.0\n");
        write("b/go.mod", "module b\n");
        write("c/go.mod", "module c\nreplace b => ../b\n");
        write("lone/main.go", "");
        let of = |dir: &str| -> Vec<String> {
            let found = source_folders(&base.path().join(dir)).into_iter();
            found.map(|f| f.strip_prefix(base.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(of("w/a"), ["w", "w/a", "b", "c"]);
        assert_eq!(of("c"), ["c", "b"]);
        assert_eq!(of("lone"), ["lone"]);
    }
}
