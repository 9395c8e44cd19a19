//! Looks up paths inside a root file system as a process in it would, without ever leaving it, and
//! makes what is missing.
//!
//! The image may hold a symbolic link anywhere: each is followed by hand, against the root, and
//! every step is opened with `RESOLVE_NO_SYMLINKS`. No foreign process runs in the root yet.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::{Errno, Result};

use super::stub::Stub;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What to make where nothing is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// A root file system, by its open folder.
pub(super) struct RootFolder {
    fd: OwnedFd,
    mount: u64,
    stubs: Vec<Stub>,
}

/// A place in a root file system.
pub(super) struct Spot {
    pub(super) fd: OwnedFd,
    /// The path from the root, without a leading slash, `..` or symbolic links.
    pub(super) path: PathBuf,
}

impl RootFolder {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let mount = mount_id(fd.as_fd())?;
        Ok(Self { fd, mount, stubs: Vec::new() })
    }

    /// What [`Self::ensure`] made in the root file system itself.
    pub(super) fn into_stubs(self) -> Vec<Stub> {
        self.stubs
    }

    /// What [`Self::ensure`] made until now.
    pub(super) fn stubs(&self) -> &[Stub] {
        &self.stubs
    }

    /// Opens a folder by a path that must hold no symbolic link.
    pub(super) fn folder(&self, path: &Path) -> Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a path that must hold no symbolic link, not even at its end.
    pub(super) fn look(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let fd = self.open(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?;
        match file_type(fd.as_fd())? {
            FileType::Symlink => Err(Errno::LOOP),
            _ => Ok(fd),
        }
    }

    /// Opens a path inside the root, following symbolic links inside the root, with `flags`.
    pub(super) fn open_inside(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let path = path.trim_start_matches('/');
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)
    }

    /// Follows `target` from the root and makes the folders, and at the end the file or folder,
    /// that do not exist.
    pub(super) fn ensure(&mut self, target: &str, kind: Kind) -> Result<Spot> {
        let mut pending = parts(Path::new(target).as_os_str());
        let mut path = PathBuf::new();
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == ".." {
                path.pop();
                continue;
            }
            let next = path.join(&part);
            match self.open(&next, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(fd) if file_type(fd.as_fd())? == FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let link =
                        OsString::from_vec(rustix::fs::readlinkat(&fd, "", Vec::new())?.into());
                    if link.as_bytes().starts_with(b"/") {
                        path.clear();
                    }
                    let mut rest = parts(&link);
                    rest.append(&mut pending);
                    pending = rest;
                }
                Ok(_) => path = next,
                Err(Errno::NOENT) => {
                    let kind = if pending.is_empty() { kind } else { Kind::Folder };
                    self.make(&path, &part, kind)?;
                    path = next;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Spot { fd: self.open(&path, OFlags::PATH)?, path })
    }

    fn make(&mut self, parent: &Path, name: &OsStr, kind: Kind) -> Result<()> {
        let parent_fd = self.open(parent, OFlags::PATH)?;
        let before = rustix::fs::statat(&parent_fd, "", AtFlags::EMPTY_PATH)?;
        match kind {
            Kind::Folder => rustix::fs::mkdirat(&parent_fd, name, Mode::from(0o755))?,
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(&parent_fd, name, flags, Mode::from(0o644))?);
            }
        }
        // Inside something mounted it is not the root file system's own.
        if mount_id(parent_fd.as_fd())? == self.mount {
            self.note(parent.join(name), before.st_mtime, before.st_mtime_nsec);
        }
        Ok(())
    }

    /// Remembers that `path` was made.
    pub(super) fn note(
        &mut self,
        path: PathBuf,
        parent_seconds: i64,
        parent_nanoseconds: impl TryInto<u32>,
    ) {
        let parent_nanoseconds = parent_nanoseconds.try_into().unwrap_or(0);
        self.stubs.push(Stub { path, parent_seconds, parent_nanoseconds, put_back: false });
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)
    }
}

impl AsFd for RootFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn file_type(fd: BorrowedFd<'_>) -> Result<FileType> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}

/// The parts of a path that mean something.
fn parts(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use fs_err as fs;

    fn root_at(folder: &Path) -> RootFolder {
        let fd = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        RootFolder::new(fd).unwrap()
    }

    #[test]
    fn symbolic_links_are_followed_inside_the_root_and_missing_parts_are_made_there() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("root");
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::create_dir(outer.path().join("outside")).unwrap();
        symlink("../../../outside/new", folder.join("etc/up")).unwrap();
        symlink("/run/dangling.conf", folder.join("etc/resolv.conf")).unwrap();
        symlink(outer.path().join("outside"), folder.join("absolute")).unwrap();
        let cases = [
            ("/etc/hosts", "etc/hosts"),
            ("/etc/resolv.conf", "run/dangling.conf"),
            ("/etc/up", "outside/new"),
            ("/../../x/../y", "y"),
        ];
        let mut root = root_at(&folder);
        for (target, expected) in cases {
            assert_eq!(
                root.ensure(target, Kind::File).unwrap().path,
                Path::new(expected),
                "{target}"
            );
            assert!(folder.join(expected).is_file(), "{target}");
        }
        root.ensure("/absolute/deep", Kind::Folder).unwrap();
        assert_eq!(fs::read_dir(outer.path().join("outside")).unwrap().count(), 0);
        let stubs: Vec<_> = root.into_stubs().into_iter().map(|stub| stub.path).collect();
        assert!(stubs.starts_with(&["etc/hosts".into(), "run".into(), "run/dangling.conf".into()]));
    }

    #[test]
    fn a_loop_of_links_and_a_file_in_the_way_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut root = root_at(folder.path());
        assert_eq!(root.ensure("/a/x", Kind::Folder).err(), Some(Errno::LOOP));
        assert_eq!(root.ensure("/file/x", Kind::Folder).err(), Some(Errno::NOTDIR));
        assert_eq!(root.look("a").err(), Some(Errno::LOOP));
    }
}
