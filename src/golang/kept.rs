//! What builds with a toolchain from an image keep for each other.
//!
//! ```text
//! in-use                  locked by every build, so that nothing is removed under it;
//!                         mtime = the last build
//! toolchains/HEX/         a GOROOT; HEX stands for an image and a folder of it; never changed
//! toolchains/HEX.used     mtime = the last build with it
//! toolchains/HEX.lock     held while it is unpacked
//! build/                  GOCACHE
//! build/inside-HEX/       GOCACHE of builds inside the image that HEX stands for
//! path/                   GOPATH; modules are in path/pkg/mod
//! ```
//! A toolchain is unpacked elsewhere and renamed into place: one that is there is whole. The go
//! command itself shares its caches safely between processes.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err::{File, OpenOptions};

use crate::error::{Cannot, Result};
use crate::oci::Digest;
use crate::store::tree_bytes;

/// How often a process looks whether another one has unpacked the same toolchain.
const LOCK_INTERVAL: Duration = Duration::from_millis(15);

/// The folder for all that.
#[derive(Clone, Debug)]
pub struct Kept(PathBuf);

/// Keeps others from removing what is in use, until it is dropped.
#[derive(Debug)]
pub(super) struct InUse(#[expect(dead_code, reason = "closing the file is what unlocks")] File);

/// The bytes of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptSizes {
    /// Unpacked toolchains.
    pub toolchains: u64,
    /// Compiled packages.
    pub build: u64,
    /// Downloaded modules.
    pub modules: u64,
}

impl Kept {
    /// Uses a folder, made when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
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

    fn toolchains(&self) -> PathBuf {
        self.0.join("toolchains")
    }

    /// The place of the toolchain that `key` stands for, whether it is there or not.
    pub(super) fn toolchain(&self, key: &str) -> PathBuf {
        self.toolchains().join(&blake3::hash(key.as_bytes()).to_hex()[..32])
    }

    /// Makes the folders, and keeps what is in them until the answer is dropped.
    pub(super) fn use_now(&self) -> Result<InUse> {
        for folder in [self.toolchains(), self.build_cache(), self.modules()] {
            fs_err::create_dir_all(folder).cannot(|| "make the folders for Go builds")?;
        }
        let file = self.lock_file()?;
        file.file().set_modified(now(&file)?).cannot(|| "note the use of the Go caches")?;
        // Waits only while somebody removes things. A file system without locks does without.
        let _ = file.file().lock_shared();
        Ok(InUse(file))
    }

    fn lock_file(&self) -> Result<File> {
        open_lock(&self.0.join("in-use"))
    }

    /// Waits until no other process unpacks the same toolchain.
    ///
    /// The lock saves work and guards nothing, so a file system that has no locks does without.
    pub(super) async fn wait_for_turn(&self, toolchain: &Path) -> Result<File> {
        let lock = open_lock(&toolchain.with_extension("lock"))?;
        while let Err(TryLockError::WouldBlock) = lock.file().try_lock() {
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
        Ok(lock)
    }

    /// Adds up what is kept.
    pub fn sizes(&self) -> KeptSizes {
        KeptSizes {
            toolchains: tree_bytes(&self.toolchains()),
            build: tree_bytes(&self.build_cache()),
            modules: tree_bytes(&self.go_path()),
        }
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
        let mut freed = self.prune_toolchains(before)?;
        freed += prune_files(&self.build_cache(), before)?;
        // Modules do not tell when they were used, but the last build does.
        if is_older(&self.0.join("in-use"), before) {
            freed += tree_bytes(&self.go_path());
            remove_all(&self.go_path())?;
        }
        Ok(Some(freed))
    }

    fn prune_toolchains(&self, before: SystemTime) -> Result<u64> {
        let mut freed = 0;
        for entry in entries(&self.toolchains()) {
            let used = entry.with_extension("used");
            if entry.extension().is_none() && is_older(&used, before) {
                freed += tree_bytes(&entry);
                remove_all(&entry)?;
                // Another build may be waiting for the lock: that file stays.
                let _ = fs_err::remove_file(used);
            }
        }
        Ok(freed)
    }
}

/// Notes that a toolchain is used.
pub(super) fn mark_used(toolchain: &Path) {
    // One whose use cannot be noted is at worst removed early.
    let _ = File::create(toolchain.with_extension("used"));
}

fn open_lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.cannot(|| "open a lock of the Go caches")
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

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Removes the files that were last used before a moment; the go command notes the use of each.
fn prune_files(folder: &Path, before: SystemTime) -> Result<u64> {
    let mut freed = 0;
    for path in entries(folder) {
        let Ok(found) = fs_err::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            freed += prune_files(&path, before)?;
        } else if found.modified().is_ok_and(|modified| modified < before) {
            fs_err::remove_file(&path).cannot(|| "remove a compiled package")?;
            freed += found.len();
        }
    }
    Ok(freed)
}

/// Removes a folder, read-only folders in it included, as those of modules are.
fn remove_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for path in entries(folder) {
        if fs_err::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            let _ = fs_err::set_permissions(&path, PermissionsExt::from_mode(0o700));
            remove_all(&path)?;
        } else {
            fs_err::remove_file(&path).cannot(|| "remove what builds left")?;
        }
    }
    match fs_err::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).cannot(|| "remove what builds left")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(path: &Path, text: &str) {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    #[test]
    fn what_was_not_used_is_removed_unless_a_build_runs() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().join("go"));
        let build = kept.use_now().unwrap();
        let toolchain = kept.toolchain("image");
        write(&toolchain.join("bin/go"), "go");
        mark_used(&toolchain);
        write(&kept.build_cache().join("00/x-d"), "compiled");
        let module = kept.modules().join("example.com/x@v1.0.0");
        write(&module.join("x.go"), "package x");
        fs_err::set_permissions(&module, PermissionsExt::from_mode(0o555)).unwrap();
        let sizes = KeptSizes { toolchains: 2, build: 8, modules: 9 };
        assert_eq!(kept.sizes(), sizes);

        let used = fs_err::metadata(toolchain.with_extension("used")).unwrap().modified().unwrap();
        let later = used + Duration::from_secs(10);
        assert_eq!(kept.prune(later).unwrap(), None);
        assert_eq!(kept.sizes(), sizes);
        drop(build);
        assert_eq!(kept.prune(used - Duration::from_secs(10)).unwrap(), Some(0));
        assert_eq!(kept.sizes(), sizes);
        assert_eq!(kept.prune(later).unwrap(), Some(19));
        assert_eq!(kept.sizes(), KeptSizes::default());
    }
}
