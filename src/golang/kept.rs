//! What builds with a toolchain from an image keep for each other: a folder like this for each scope.
//!
//! Flags, C code and the image itself, all of which a project chooses, run code that may write there,
//! and `go` does not check modules that are unpacked already. So neither the compiled standard library
//! nor modules are shared between scopes, which costs each scope its first build.
//!
//! ```text
//! in-use                  locked by every build, so that nothing is removed under it;
//!                         mtime = the last build
//! build/                  GOCACHE
//! build/inside-HEX/       GOCACHE of builds inside the image that HEX stands for
//! build/**/gondola/        see `gocache`
//! path/                   GOPATH; modules are in path/pkg/mod
//! ```
//! The go command itself shares its caches safely between processes. The toolchains themselves are
//! among what the store has unpacked, see `rootfs`.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fs_err::{File, OpenOptions};

use super::gocache;
use crate::error::{Cannot, Result};
use crate::oci::Digest;
use crate::store::{ScratchFolder, remove_tree, tree_bytes};

/// The file that every build locks.
const IN_USE: &str = "in-use";

/// The folder for all that.
#[derive(Clone, Debug)]
pub struct Kept(
    PathBuf,
    #[expect(dead_code, reason = "kept for its drop")] Option<Arc<ScratchFolder>>,
);

/// Keeps others from removing what is in use, until it is dropped.
#[derive(Debug)]
pub(super) struct InUse(#[expect(dead_code, reason = "closing the file is what unlocks")] File);

/// The bytes of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptSizes {
    /// Compiled packages.
    pub build: u64,
    /// Downloaded modules.
    pub modules: u64,
}

impl Kept {
    /// Uses a folder, made when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into(), None)
    }

    /// Uses a folder that goes with the build.
    pub fn of_this_build(folder: ScratchFolder) -> Self {
        Self(folder.path().join("go"), Some(Arc::new(folder)))
    }

    /// Those of all scopes in a folder.
    pub fn all(folder: &Path) -> Vec<Self> {
        let used = entries(folder).into_iter().filter(|path| path.join(IN_USE).is_file());
        used.map(Self::new).collect()
    }

    pub(super) fn build_cache(&self) -> PathBuf {
        self.0.join("build")
    }

    /// The cache of builds for which all of an image counts, made where it is not there.
    pub(super) fn build_cache_of(&self, image: &Digest) -> Result<PathBuf> {
        let folder = self.build_cache().join(format!("inside-{}", &image.hex()[..32]));
        fs_err::create_dir_all(&folder).cannot(|| "make the folders for Go builds")?;
        Ok(folder)
    }

    pub(super) fn go_path(&self) -> PathBuf {
        self.0.join("path")
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.0.join("path/pkg/mod")
    }

    /// Makes the folders, and keeps what is in them until the answer is dropped.
    pub(super) fn use_now(&self) -> Result<InUse> {
        for folder in [self.build_cache(), self.modules()] {
            fs_err::create_dir_all(folder).cannot(|| "make the folders for Go builds")?;
        }
        let file = self.lock_file()?;
        file.file().set_modified(now(&file)?).cannot(|| "note the use of the Go caches")?;
        // Waits only while caches are removed. On a file system without locks there is none.
        let _ = file.file().lock_shared();
        Ok(InUse(file))
    }

    fn lock_file(&self) -> Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(self.0.join(IN_USE));
        file.cannot(|| "open a lock of the Go caches")
    }

    /// Adds up what is kept.
    pub fn sizes(&self) -> KeptSizes {
        KeptSizes { build: tree_bytes(&self.build_cache()), modules: tree_bytes(&self.go_path()) }
    }

    /// Removes what was last used before a moment; answers how many bytes that were, or nothing
    /// where a build uses it just now.
    pub fn prune(&self, before: SystemTime) -> Result<Option<u64>> {
        if !self.0.exists() {
            return Ok(Some(0));
        }
        let lock = self.lock_file()?;
        if let Err(TryLockError::WouldBlock) = lock.file().try_lock() {
            return Ok(None);
        }
        // Modules do not tell when they were used, but the last build does.
        let is_old = is_older(&self.0.join(IN_USE), before);
        let mut freed = 0;
        if is_own(&self.build_cache()) && !is_old {
            freed += prune_files(&self.build_cache(), before)?;
        }
        for folder in [self.build_cache(), self.go_path()] {
            if is_old && is_own(&folder) {
                freed += tree_bytes(&folder);
                remove_tree(&folder).cannot(|| "remove Go caches")?;
            }
        }
        Ok(Some(freed))
    }
}

/// The present by the clock of the file system.
fn now(file: &File) -> Result<SystemTime> {
    let probe = tempfile::tempfile_in(file.path().parent().expect("a lock is in a folder"));
    let modified = probe.and_then(|probe| probe.metadata()?.modified());
    modified.cannot(|| "learn the time of the file system")
}

/// Whether a file was last modified before a moment, or is not there.
fn is_older(path: &Path, before: SystemTime) -> bool {
    let modified = fs_err::metadata(path).and_then(|found| found.modified());
    modified.map_or(true, |modified| modified < before)
}

/// Whether a cache is gondola's own folder. One behind a symbolic link belongs to another program, which
/// may use it just now and does not know this lock.
fn is_own(folder: &Path) -> bool {
    fs_err::symlink_metadata(folder).is_ok_and(|found| found.is_dir())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Removes the files that were last used before a moment; the go command notes the use of each.
fn prune_files(folder: &Path, before: SystemTime) -> Result<u64> {
    let mut freed = 0;
    for path in entries(folder) {
        let Ok(found) = fs_err::symlink_metadata(&path) else { continue };
        if path.file_name().is_some_and(|name| name == gocache::OWN) {
            // What a killed build left there says what may be wrong with the rest.
            continue;
        }
        if found.is_dir() {
            freed += prune_files(&path, before)?;
        } else if found.modified().is_ok_and(|modified| modified < before) {
            fs_err::remove_file(&path).cannot(|| "remove a compiled package")?;
            freed += found.len();
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn write(path: &Path, text: &str) {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    #[test]
    fn what_was_not_used_is_removed_unless_a_build_runs() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().join("go"));
        let build = kept.use_now().unwrap();
        write(&kept.build_cache().join("00/x-d"), "compiled");
        let module = kept.modules().join("example.com/x@v1.0.0");
        write(&module.join("x.go"), "package x");
        fs_err::set_permissions(&module, PermissionsExt::from_mode(0o555)).unwrap();
        let sizes = KeptSizes { build: 8, modules: 9 };
        assert_eq!(kept.sizes(), sizes);

        let used = fs_err::metadata(kept.0.join(IN_USE)).unwrap().modified().unwrap();
        let later = used + Duration::from_secs(10);
        assert_eq!(kept.prune(later).unwrap(), None);
        assert_eq!(kept.sizes(), sizes);
        drop(build);
        assert_eq!(kept.prune(used - Duration::from_secs(10)).unwrap(), Some(0));
        assert_eq!(kept.sizes(), sizes);
        assert_eq!(kept.prune(later).unwrap(), Some(17));
        assert_eq!(kept.sizes(), KeptSizes::default());
    }

    #[test]
    fn caches_behind_links_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().join("go"));
        drop(kept.use_now().unwrap());
        let others = [(kept.build_cache(), "build-x"), (kept.go_path(), "path-x")];
        for (link, name) in &others {
            let elsewhere = folder.path().join(name);
            fs_err::rename(link, &elsewhere).unwrap();
            write(&elsewhere.join("00/x-d"), "compiled");
            std::os::unix::fs::symlink(&elsewhere, link).unwrap();
        }
        let used = fs_err::metadata(kept.0.join(IN_USE)).unwrap().modified().unwrap();
        assert_eq!(kept.prune(used + Duration::from_secs(10)).unwrap(), Some(0));
        for (link, _) in &others {
            assert_eq!(fs_err::read(link.join("00/x-d")).unwrap(), b"compiled");
        }
    }
}
