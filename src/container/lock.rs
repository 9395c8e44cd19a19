//! Locks on files: what tells a running container from one that has ended.

use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// A lock on a file, held until every copy of its descriptor is closed: it can be handed to a
/// child, and the kernel takes it away from whoever dies.
#[derive(Debug)]
pub(super) struct Lock(OwnedFd);

impl Lock {
    /// Waits until nobody holds the lock exclusively.
    pub(super) fn shared(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockShared)
    }

    /// Waits until nobody else holds the lock.
    pub(super) fn exclusive(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockExclusive)
    }

    /// Takes the lock if nobody else holds it.
    pub(super) fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        match Self::take(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody holds the lock exclusively. Those who ask do not hinder each other.
    pub(super) fn is_held(path: &Path) -> io::Result<bool> {
        match Self::take(path, FlockOperation::NonBlockingLockShared) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Writes into the locked file who holds it.
    pub(super) fn note(&self, text: &[u8]) -> io::Result<()> {
        rustix::fs::ftruncate(&self.0, 0)?;
        let mut file = std::fs::File::from(self.copy()?);
        file.rewind()?;
        file.write_all(text)
    }

    /// Takes over a lock that arrived as a descriptor.
    pub(super) fn handed_over(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// A further descriptor of the same lock, to hand over.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    fn take(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(CWD, path, flags, Mode::from(0o600))?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        }
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        drop(looked);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }
}
