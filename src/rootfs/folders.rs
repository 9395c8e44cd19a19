//! Opens the folders of a layer in the making, and never anything outside.
//!
//! The layer may hold a symbolic link anywhere, and later entries may lie behind it: each is followed
//! inside the layer, as for a process whose root directory the layer is. No other process changes the
//! layer meanwhile.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::{OwnerStorage, marks};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;
/// How many folders stay open: archives name what is in one folder together.
const KEPT_OPEN: usize = 8;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Told the real path of each folder that is made.
type OnMade<'a> = dyn FnMut(&[u8]) + 'a;

/// The folders of one layer.
pub(super) struct Folders {
    storage: OwnerStorage,
    root: Rc<OwnedFd>,
    /// By the path that an entry gives, the last used last.
    open: VecDeque<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Folders {
    /// Opens the layer's own folder.
    pub(super) fn new(root: &std::path::Path, storage: OwnerStorage) -> Result<Self> {
        let root = rustix::fs::openat(CWD, root, FOLDER, Mode::empty())?;
        Ok(Self { storage, root: Rc::new(root), open: VecDeque::new() })
    }

    /// The layer's own folder.
    pub(super) fn root(&self) -> Rc<OwnedFd> {
        self.root.clone()
    }

    /// Opens a folder that is there. An empty path is the root's.
    pub(super) fn get(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(place) = self.open.iter().rposition(|(known, _)| known == path) {
            return Ok(self.open[place].1.clone());
        }
        let folder = self.open_inside(path)?;
        self.remember(path, &folder);
        Ok(folder)
    }

    /// Opens a folder, and makes what is missing or hidden on the way to it; tells the real path of
    /// each folder that it made.
    pub(super) fn ensure(&mut self, path: &[u8], made: &mut OnMade<'_>) -> Result<Rc<OwnedFd>> {
        match self.get(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            result => return result,
        }
        let folder = self.walk(path, Some(made))?;
        self.remember(path, &folder);
        Ok(folder)
    }

    /// Notes that the folder at `path` is open.
    pub(super) fn remember(&mut self, path: &[u8], folder: &Rc<OwnedFd>) {
        if self.open.len() == KEPT_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((path.to_vec(), folder.clone()));
    }

    /// Forgets every open folder: a folder or link was replaced.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    fn open_inside(&self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, FOLDER, Mode::empty(), inside) {
                // Somewhere on the machine something was renamed or mounted meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Neither gVisor nor old filters of system calls know the call.
                Err(Errno::NOSYS | Errno::PERM) => return self.walk(path, None),
                result => return result.map(Rc::new),
            }
        }
    }

    /// Follows a path part by part; makes what is missing or hidden where `made` is to hear of it.
    fn walk(&self, path: &[u8], mut made: Option<&mut OnMade<'_>>) -> Result<Rc<OwnedFd>> {
        let mut pending = parts(path);
        let (mut real, mut folder) = (Vec::new(), self.root.clone());
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == b".." {
                let end = real.iter().rposition(|b| *b == b'/').unwrap_or(0);
                real.truncate(end);
                folder = self.reopen(&real)?;
                continue;
            }
            let stat = marks::look(&*folder, &part)?;
            let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
            if kind == Some(FileType::Symlink) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&*folder, part.as_slice(), Vec::new())?;
                let target = target.as_bytes();
                if target.first() == Some(&b'/') {
                    (real, folder) = (Vec::new(), self.root.clone());
                }
                let mut rest = parts(target);
                rest.append(&mut pending);
                pending = rest;
                continue;
            }
            if !real.is_empty() {
                real.push(b'/');
            }
            real.extend(&part);
            let hides = match stat {
                Some(stat) if made.is_some() => {
                    marks::is_whiteout_at(&*folder, &part, &stat, self.storage)?
                }
                _ => false,
            };
            if hides {
                rustix::fs::unlinkat(&*folder, part.as_slice(), AtFlags::empty())?;
            }
            if hides || kind.is_none() {
                let made = made.as_mut().ok_or(Errno::NOENT)?;
                rustix::fs::mkdirat(&*folder, part.as_slice(), Mode::from(0o755))?;
                made(&real);
            }
            let flags = FOLDER | OFlags::NOFOLLOW;
            folder = Rc::new(rustix::fs::openat(&*folder, part.as_slice(), flags, Mode::empty())?);
            if hides {
                // What the name hid stays hidden.
                marks::set_opaque(&*folder, self.storage)?;
            }
        }
        Ok(folder)
    }

    fn reopen(&self, real: &[u8]) -> Result<Rc<OwnedFd>> {
        if real.is_empty() { Ok(self.root.clone()) } else { self.open_inside(real) }
    }
}

impl std::os::fd::AsFd for Folders {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// The parts of a path that mean something.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn paths_lead_to_the_same_folders_with_and_without_the_kernels_help() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("layer");
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::create_dir(outer.path().join("outside")).unwrap();
        fs_err::write(root.join("file"), "").unwrap();
        for (target, link) in [
            ("b", "a/in"),
            ("/a", "absolute"),
            ("../../../outside", "a/out"),
            ("../../a/b", "up"),
            ("loop", "loop"),
            ("file", "to-file"),
            ("nowhere", "dangling"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let folders = Folders::new(&root, OwnerStorage::Recorded).unwrap();
        let inode = |opened: Result<Rc<OwnedFd>>| {
            let file = std::fs::File::from(opened?.try_clone().unwrap());
            Ok::<_, Errno>(file.metadata().unwrap().ino())
        };
        for (path, expected) in [
            ("a/b", Ok("a/b")),
            ("a/in", Ok("a/b")),
            ("a/in/..", Ok("a")),
            ("absolute/b", Ok("a/b")),
            ("up", Ok("a/b")),
            ("a/../..", Ok("")),
            ("a/out", Err(Errno::NOENT)),
            ("missing", Err(Errno::NOENT)),
            ("dangling", Err(Errno::NOENT)),
            ("file", Err(Errno::NOTDIR)),
            ("file/x", Err(Errno::NOTDIR)),
            ("to-file", Err(Errno::NOTDIR)),
            ("loop", Err(Errno::LOOP)),
        ] {
            let expected = expected.map(|real| fs_err::metadata(root.join(real)).unwrap().ino());
            assert_eq!(inode(folders.open_inside(path.as_bytes())), expected, "{path}");
            assert_eq!(inode(folders.walk(path.as_bytes(), None)), expected, "{path}");
        }
    }
}
