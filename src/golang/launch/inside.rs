//! `go` in the root file system of its image, with the image's C compiler and git.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::confined::{spec, start, text};
use super::{CREDENTIALS, Call, Launch, Phase, Running};
use crate::error::Result;
use crate::golang::scope::source_folders;
use crate::rootfs::{Fork, Rootfs};
use crate::sandbox::{Access, Isolation, Launcher, Mount};

/// Where ssh looks for keys, whatever `HOME` says.
const SSH: &str = "/root/.ssh";

/// Starts processes in a sandbox. What they need of this machine is where it is here, too, so that
/// paths mean the same on both sides.
pub(in crate::golang) struct Inside {
    pub launcher: Launcher,
    pub isolation: Isolation,
    pub rootfs: Rootfs,
    /// The one copy for all processes, on isolations that have no overlays: nothing of it is kept.
    pub copy: Option<Arc<Fork>>,
    /// Written by every process: GOCACHE, and the temporary folder.
    pub scratch: Vec<PathBuf>,
    /// Where modules are; written where they are fetched.
    pub modules: PathBuf,
    /// The user's own home folder.
    pub home: Option<PathBuf>,
    /// Further files that fetching needs, such as certificates.
    pub for_fetching: Vec<PathBuf>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

impl Launch for Inside {
    fn start(&self, call: &Call<'_>) -> Result<Running> {
        // Two overlays cannot share what is written to them, and nothing of it is kept.
        let fork = match &self.copy {
            Some(copy) => copy.clone(),
            None => Arc::new(self.rootfs.fork()?),
        };
        let mut spec = spec(call, fork.root())?;
        spec.mounts = self.mounts(call)?;
        start(&self.launcher, spec, self.isolation, fork)
    }
}

impl Inside {
    fn mounts(&self, call: &Call<'_>) -> Result<Vec<Mount>> {
        let mut shown: Vec<(PathBuf, Access)> = Vec::new();
        shown.extend(source_folders(call.dir).into_iter().map(|folder| (folder, call.sources)));
        shown.extend(self.scratch.iter().map(|folder| (folder.clone(), Access::ReadWrite)));
        shown.push((call.out_dir.to_owned(), Access::ReadWrite));
        let mut mounts = Vec::new();
        match call.phase {
            Phase::Build => shown.push((self.modules.clone(), Access::ReadOnly)),
            Phase::Fetch => {
                shown.push((self.modules.clone(), Access::ReadWrite));
                let further = self.for_fetching.iter().cloned();
                let of_home = |home: &PathBuf| CREDENTIALS.map(|name| home.join(name));
                let further = further.chain(self.home.iter().flat_map(of_home));
                shown.extend(further.map(|path| (path, Access::ReadOnly)));
                if let Some(home) = &self.home {
                    mounts.extend(bind(&home.join(".ssh"), Path::new(SSH), Access::ReadOnly)?);
                }
            }
        }
        for (path, access) in shown {
            mounts.extend(bind(&path, &path, access)?);
        }
        Ok(mounts)
    }
}

/// A mount of what is there.
fn bind(source: &Path, target: &Path, access: Access) -> Result<Option<Mount>> {
    let Ok(source) = fs_err::canonicalize(source) else { return Ok(None) };
    Ok(Some(Mount::Bind { source, subpath: None, target: text(target)?, access }))
}
