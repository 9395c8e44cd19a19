//! Locks on files, between processes.

use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::absent_as_none;
use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{FlockOperation, OFlags, Timespec, Timestamps, UTIME_NOW};

/// How often the file of a lock may be another one once it is locked.
const MOST_REPLACED: u32 = 1000;

/// A lock on a file, held until every copy of its descriptor is closed: it can be handed to a child,
/// and the kernel takes it away from whoever dies. Whoever holds it alone may remove the file.
///
/// Each has its own file description, so threads of one process exclude each other as well.
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl Lock {
    /// Waits until nobody holds the lock exclusively.
    pub fn shared(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockShared)
    }

    /// Waits until nobody else holds the lock.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockExclusive)
    }

    /// Takes the lock if nobody else holds it.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        none_if_held(Self::take(path, FlockOperation::NonBlockingLockExclusive))
    }

    /// Waits until nobody holds the lock exclusively, in a place that may be read-only: `None` where there
    /// is no such lock, and none can be made.
    pub fn shared_if_there(path: &Path) -> io::Result<Option<Self>> {
        match Self::shared(path) {
            Err(error) if is_read_only(&error) => {
                absent_as_none(Self::look(path, FlockOperation::LockShared))
            }
            taken => taken.map(Some),
        }
    }

    /// Whether somebody holds the lock exclusively. Those who ask do not hinder each other.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let shared = FlockOperation::NonBlockingLockShared;
        match none_if_held(Self::take(path, shared)) {
            Err(error) if is_read_only(&error) => match absent_as_none(Self::look(path, shared)) {
                Ok(_) => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                Err(error) => Err(error),
            },
            free => Ok(free?.is_none()),
        }
    }

    /// Whether somebody holds the lock in any way; not where there is none. Whoever asks for it just
    /// then may find it taken.
    pub fn is_held_at_all(path: &Path) -> io::Result<bool> {
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let looked = none_if_held(Self::look(path, exclusive));
        Ok(absent_as_none(looked)?.is_some_and(|lock| lock.is_none()))
    }

    /// Locks a file that cannot be written to.
    fn look(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?;
        Ok(Self(file))
    }

    /// Writes into the locked file who holds it.
    pub fn note(&self, text: &[u8]) -> io::Result<()> {
        rustix::fs::ftruncate(&self.0, 0)?;
        let mut file = std::fs::File::from(self.copy()?);
        file.rewind()?;
        file.write_all(text)
    }

    /// Notes the time in the locked file: its mtime is now.
    pub fn touch(&self) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        Ok(rustix::fs::futimens(&self.0, &now)?)
    }

    /// Takes over a lock that arrived as a descriptor.
    pub fn handed_over(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// A further descriptor of the same lock, to hand over.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    fn take(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag is a small number");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o600).custom_flags(no_link);
        for _ in 0..MOST_REPLACED {
            let file: OwnedFd = options.open(path)?.into_parts().0.into();
            boundary::opened(path);
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?;
            // Whoever had it may have removed the file before: then others lock the next one.
            if is_at(&file, path)? {
                return Ok(Self(file));
            }
        }
        Err(io::Error::other("the file of the lock is replaced again and again"))
    }
}

/// Whether an open file is still the one at a path.
fn is_at(file: &OwnedFd, path: &Path) -> io::Result<bool> {
    let own = rustix::fs::fstat(file)?;
    match rustix::fs::lstat(path) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn none_if_held(taken: io::Result<Lock>) -> io::Result<Option<Lock>> {
    match taken {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        taken => taken.map(Some),
    }
}

/// Between the opening of a lock's file and the locking.
mod boundary {
    use std::path::Path;

    #[cfg(test)]
    type Hook = Box<dyn FnOnce(&Path)>;

    #[cfg(test)]
    thread_local! {
        static HOOK: std::cell::RefCell<Option<Hook>> = const {
            std::cell::RefCell::new(None)
        };
    }

    /// What a test does there, once.
    #[cfg(test)]
    pub(super) fn hook(then: impl FnOnce(&Path) + 'static) {
        HOOK.with(|hook| *hook.borrow_mut() = Some(Box::new(then)));
    }

    pub(super) fn opened(path: &Path) {
        #[cfg(test)]
        if let Some(then) = HOOK.with(|hook| hook.borrow_mut().take()) {
            then(path);
        }
        let _ = path;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_file_was_removed_is_taken_at_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        boundary::hook(|path| {
            let lock = Lock::try_exclusive(path).unwrap().unwrap();
            fs_err::remove_file(path).unwrap();
            drop(lock);
        });
        let lock = Lock::exclusive(&path).unwrap();
        assert!(Lock::is_held(&path).unwrap(), "others see another lock");
        drop(lock);
        assert!(!Lock::is_held(&path).unwrap());
    }

    #[test]
    fn a_lock_lives_as_long_as_any_copy_of_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        let copy = Lock::handed_over(lock.copy().unwrap());
        drop(lock);
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        assert!(Lock::is_held(&path).unwrap());
        copy.note(b"a longer text").unwrap();
        copy.note(b"text").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"text");
        drop(copy);
        assert!(!Lock::is_held(&path).unwrap());
        let looked = Lock::shared(&path).unwrap();
        assert!(!Lock::is_held(&path).unwrap());
        assert!(Lock::is_held_at_all(&path).unwrap());
        drop(looked);
        assert!(!Lock::is_held_at_all(&path).unwrap());
        assert!(!Lock::is_held_at_all(&folder.path().join("absent")).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }
}
