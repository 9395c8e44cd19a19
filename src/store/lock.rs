//! The lease that says "this process is at work", and what became of those that are not.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use fs_err::{File, OpenOptions};
use rustix::fs::{CWD, FlockOperation, IFlags, RenameFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use tempfile::TempDir;

use super::file_lock::Lock;
use super::tree::{delete_later, remove_tree};
use super::{Store, absent_as_none};

/// How the folders begin that hold what was removed, and have no lease.
pub(super) const TRASH: &str = "trash-";
/// The name of the locked file in a process's folder.
pub(super) const LEASE: &str = "lease";

/// Protects what a process uses from being collected, until the last clone is dropped.
///
/// A use sets the mtime of a blob to now, or to the begin of the lease where the clock was set
/// back in between. The collector keeps every blob that was used since the oldest lease began, and
/// all content that such a blob refers to. A lease lives and dies with its process: it is a lock
/// on a file.
#[derive(Clone, Debug)]
pub struct Lease(#[expect(dead_code, reason = "kept for its drop")] Arc<ProcessFolder>);

impl Lease {
    pub(super) fn new(held: Arc<ProcessFolder>) -> Self {
        Self(held)
    }
}

/// A process's folder in `work/`, with the lock that says that the process lives.
#[derive(Debug)]
pub(super) struct ProcessFolder {
    // Fields are dropped in this order: the folder goes before the lock on it.
    folder: TempDir,
    _lease: Lock,
    began: SystemTime,
    next: AtomicU64,
}

/// Has ext4 choose a place on the disk for the files of each process anew.
///
/// Else it puts those of the next process where those of the last one were, and for minutes after many files
/// were deleted it searches long among their places for each new one. Other file systems know nothing of
/// this, and need not.
fn spread(work: &Path) {
    let Ok(folder) = fs_err::File::open(work) else { return };
    if let Ok(flags) = ioctl_getflags(&folder)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
}

impl ProcessFolder {
    /// Makes a folder and locks its lease, then removes what dead processes left behind.
    pub(super) fn begin(work: &Path, collect_lock: &Path) -> io::Result<Self> {
        let held = {
            // Whoever looks for dead processes holds this lock exclusively, and so never sees a
            // folder whose lease is not locked yet.
            let _lock = Lock::shared(collect_lock)?;
            spread(work);
            let folder = tempfile::Builder::new().prefix("").rand_bytes(12).tempdir_in(work)?;
            let path = folder.path().join(LEASE);
            let lease = Lock::exclusive(&path)?;
            let began = fs_err::metadata(&path)?.modified()?;
            Self { folder, _lease: lease, began, next: AtomicU64::new(0) }
        };
        // Tidying up is a courtesy: who is busy or hindered leaves it to the next.
        if let Ok(Some(lock)) = Lock::try_exclusive(collect_lock)
            && let Ok(census) = Census::take(work)
        {
            drop(lock);
            census.bury_quickly();
        }
        Ok(held)
    }

    /// When the process began to use the store, by the clock of the file system.
    pub(super) fn began(&self) -> SystemTime {
        self.began
    }

    /// Makes a new folder that vanishes when it is dropped.
    pub(super) fn folder(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("folder-").tempdir_in(self.folder.path())
    }

    /// Makes a new file that vanishes unless it is renamed.
    pub(super) fn create(self: &Arc<Self>) -> io::Result<Scratch> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(number.to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Scratch { path: Some(path), file, held: self.clone() })
    }

    /// Makes a new folder for its owner alone.
    pub(super) fn create_folder(&self) -> io::Result<PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(number.to_string());
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Moves a folder of this process out of the way, to be deleted when there is time.
    pub(super) fn discard(&self, folder: &Path) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let own = self.folder.path();
        // Without a lease it counts as what a dead process left, if this one ends too soon.
        let name = own.file_name().unwrap_or_default().to_string_lossy();
        let trash = own.with_file_name(format!("{TRASH}{name}-{number}"));
        // What cannot be moved is removed with everything else of this process.
        if fs_err::rename(folder, &trash).is_ok() {
            delete_later(trash);
        }
    }

    /// Makes a new file that holds `bytes`.
    pub(super) fn scratch(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Scratch> {
        let mut scratch = self.create()?;
        scratch.file.write_all(bytes)?;
        Ok(scratch)
    }
}

/// An unfinished file in the folder of a running process. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Scratch {
    path: Option<PathBuf>,
    file: File,
    held: Arc<ProcessFolder>,
}

impl Scratch {
    /// The open file.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Moves the file to its place, over whatever is there, as used just now.
    ///
    /// A file in the way is exchanged for the new one and then removed. To rename over it would
    /// make ext4 and btrfs write the new content to disk there and then.
    pub(super) fn place(mut self, target: &Path) -> io::Result<()> {
        let path = self.path.as_deref().expect("set until the file is placed");
        super::touch(path, self.held.began())?;
        let rename = |flags| rustix::fs::renameat_with(CWD, path, CWD, target, flags);
        match rename(RenameFlags::NOREPLACE) {
            Ok(()) => self.path = None,
            // Now the old file is the scratch, which vanishes.
            Err(Errno::EXIST) if rename(RenameFlags::EXCHANGE).is_ok() => {}
            // A file system that knows no flags, or else the same error once more, with paths.
            Err(_) => {
                fs_err::rename(path, target)?;
                self.path = None;
            }
        }
        Ok(())
    }

    /// Syncs the file to disk and puts it in the place of `target`. After a power loss either the
    /// old file is there or the new one, whole.
    pub(super) fn replace_durably(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs_err::rename(self.path.as_deref().expect("set until the file is placed"), target)?;
        self.path = None;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now is removed with the folder.
            let _ = fs_err::remove_file(path);
        }
    }
}

impl Store {
    /// Whether the process of a folder in `work/` is at work.
    pub fn is_of_the_living(&self, folder: &Path) -> bool {
        began_if_alive(&folder.join(LEASE)).ok().flatten().is_some()
    }
}

/// Which processes are at work, and what the dead ones left.
pub(super) struct Census {
    /// When the longest-running process began.
    pub(super) oldest: Option<SystemTime>,
    /// The folders of dead processes.
    pub(super) dead: Vec<PathBuf>,
}

impl Census {
    /// The same for a place that may not be there, or in which nothing can be locked.
    pub(super) fn take_if_there(work: &Path) -> io::Result<Self> {
        let taken = absent_as_none(Self::take(work))?;
        Ok(taken.unwrap_or(Self { oldest: None, dead: Vec::new() }))
    }

    /// Looks at every process's folder. The caller holds the collector's lock exclusively.
    pub(super) fn take(work: &Path) -> io::Result<Self> {
        let mut census = Self { oldest: None, dead: Vec::new() };
        for entry in fs_err::read_dir(work)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let folder = entry.path();
            match began_if_alive(&folder.join(LEASE))? {
                Some(began) => census.oldest = census.oldest.into_iter().chain([began]).min(),
                None => census.dead.push(folder),
            }
        }
        Ok(census)
    }

    /// The same, but root file systems, which can have very many files, are deleted meanwhile.
    fn bury_quickly(self) {
        for folder in self.dead {
            let is_trash =
                |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(TRASH.as_bytes());
            if folder.file_name().is_some_and(is_trash) || holds_folders(&folder) {
                delete_later(folder);
            } else {
                let _ = remove_tree(&folder);
            }
        }
    }
}

fn holds_folders(folder: &Path) -> bool {
    let mut entries = fs_err::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}

/// When the owner of a lease began, if it lives; a lease that can be locked has no owner.
fn began_if_alive(lease: &Path) -> io::Result<Option<SystemTime>> {
    let Some(file) = absent_as_none(File::open(lease))? else { return Ok(None) };
    let locked = rustix::io::retry_on_intr(|| {
        rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockShared)
    });
    match locked {
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => Ok(Some(file.metadata()?.modified()?)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_gets_another_place_on_the_disk_where_the_file_system_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let is_spread = |name: &str| {
            let flags = ioctl_getflags(File::open(path(name)).unwrap());
            flags.is_ok_and(|flags| flags.contains(IFlags::TOPDIR))
        };
        for name in ["work", "other"] {
            fs_err::create_dir(path(name)).unwrap();
        }
        let other = File::open(path("other")).unwrap();
        let can = ioctl_getflags(&other)
            .and_then(|flags| ioctl_setflags(&other, flags | IFlags::TOPDIR))
            .is_ok();
        drop(ProcessFolder::begin(&path("work"), &path("lock")).unwrap());
        assert_eq!((is_spread("work"), is_spread("other")), (can, can));
    }
}
