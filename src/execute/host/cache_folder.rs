//! A folder of Go's cache on this machine: a whole one of gondola's, or a part of one that a step asked for.
//!
//! What is in the second kind is whatever steps put there, links among it: such a link would have the go
//! command, and what lets it in, write to where it leads.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// A folder of Go's cache.
pub(super) struct CacheFolder {
    /// The folder of the cache mount, which is gondola's own.
    mount: PathBuf,
    /// What of it is meant.
    part: PathBuf,
}

impl CacheFolder {
    pub(super) fn whole(folder: PathBuf) -> Self {
        Self { mount: folder, part: PathBuf::new() }
    }

    /// A part of a cache mount, by its path from there.
    pub(super) fn part(mount: PathBuf, part: &str) -> Self {
        let names = Path::new(part).components().filter(|it| matches!(it, Component::Normal(_)));
        Self { mount, part: names.collect() }
    }

    /// Makes it where it is missing. A link in its place, or on the way to it, is refused.
    pub(super) fn make(&self) -> Result<()> {
        fs_err::create_dir_all(&self.mount).cannot(|| "make a cache of Go")?;
        let mut at = self.open(CWD, &self.mount, ResolveFlags::empty())?;
        for name in &self.part {
            match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).cannot(|| "make a cache of Go"),
            }
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            at = self.open(&at, Path::new(name), beneath)?;
        }
        Ok(())
    }

    /// Where it is. No link is on the way, but for those that others than this step's may have put into the
    /// cache meanwhile: whoever opens it refuses these.
    pub(super) fn path(&self) -> Result<PathBuf> {
        let mount = fs_err::canonicalize(&self.mount).cannot(|| "find a cache of Go")?;
        Ok(if self.part.as_os_str().is_empty() { mount } else { mount.join(&self.part) })
    }

    fn open(
        &self,
        folder: impl std::os::fd::AsFd,
        path: &Path,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
                let action = format!("use {} of a cache mount for Go", self.part.display());
                Err(Error::new(ErrorKind::Invalid, action)
                    .because(format!("{} in it is no folder", path.display()))
                    .hint("take another id for the cache, or empty it: gondola cache prune --all"))
            }
            opened => opened.cannot(|| format!("open {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_a_step_put_into_a_cache_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (mount, outside) = (folder.path().join("mount"), folder.path().join("outside"));
        for folder in [&mount, &outside] {
            fs_err::create_dir(folder).unwrap();
        }
        let part = |part: &str| CacheFolder::part(mount.clone(), part);
        part("/a/../b/").make().unwrap();
        assert!(mount.join("a/b").is_dir());
        let real = fs_err::canonicalize(&mount).unwrap();
        assert_eq!(part("/a/b").path().unwrap(), real.join("a/b"));
        for (link, asked) in
            [("go-build", "go-build"), ("go-build", "go-build/x"), ("a/c", "a/c/d")]
        {
            let _ = std::os::unix::fs::symlink(&outside, mount.join(link));
            let error = part(asked).make().unwrap_err();
            assert!(error.to_string().contains("in it is no folder"), "{asked}: {error}");
        }
        assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
        // The user's own link leads to the store.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&mount, &link).unwrap();
        let whole = CacheFolder::whole(link);
        whole.make().unwrap();
        assert_eq!(whole.path().unwrap(), real);
    }
}
