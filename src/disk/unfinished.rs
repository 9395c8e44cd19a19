//! Files in the making, which get their names when they are whole.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use tempfile::TempPath;

/// How names begin that files have until they are whole.
const PREFIX: &str = ".gondola-";
/// Whether a name is one that files have until they are whole.
pub fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(PREFIX)
}

/// How often a name is made anew that somebody took for a dead process's.
const ATTEMPTS: usize = 8;

/// A file in the making, in the folder of its target. Dropped, it vanishes.
///
/// Where the file system can it has no name, and `kill -9` leaves nothing. Elsewhere, and for the
/// moment in which it replaces another file, it has one that begins with `.gondola-`, and is locked:
/// the next that makes a file in the folder removes those that nobody locks.
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    folder: PathBuf,
    name: Option<TempPath>,
}

impl Unfinished {
    /// Makes a file in `folder` with what the process's mask leaves of `mode`.
    pub fn new_in(folder: &Path, mode: u32) -> io::Result<Self> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        remove_dead(folder);
        match without_name(folder, mode) {
            Some(file) => Ok(Self { file, folder: folder.to_owned(), name: None }),
            None => Self::named(folder, mode),
        }
    }

    /// Makes a file beside `target`.
    pub fn beside(target: &Path, mode: u32) -> io::Result<Self> {
        Self::new_in(target.parent().unwrap_or(Path::new("")), mode)
    }

    fn named(folder: &Path, mode: u32) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let temporary = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
                .tempfile_in(folder)?;
            let (file, name) = temporary.into_parts();
            if lock(&file) {
                return Ok(Self { file, folder: folder.to_owned(), name: Some(name) });
            }
        }
        Err(io::Error::other("others take its files for those of a dead process"))
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, in the place of whatever has it.
    pub fn persist(self, target: &Path) -> io::Result<()> {
        let Some(name) = self.name else {
            let link = |path: &Path| {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let follow = AtFlags::SYMLINK_FOLLOW;
                rustix::fs::linkat(CWD, own, CWD, path, follow).map_err(io::Error::from)
            };
            match link(target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => return linked,
            }
            // No call puts a file without a name in the place of another.
            lock(&self.file);
            let named = tempfile::Builder::new().prefix(PREFIX).make_in(&self.folder, link)?;
            return persist(named.into_temp_path(), target);
        };
        persist(name, target)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn persist(name: TempPath, target: &Path) -> io::Result<()> {
    name.persist(target).map_err(|error| error.error)
}

/// A file that has no name yet, where the file system has such.
fn without_name(folder: &Path, mode: u32) -> Option<File> {
    // Without /proc it would never get one.
    if !Path::new("/proc/self/fd").exists() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, folder, flags, Mode::from(mode)).ok().map(File::from)
}

/// Locks a file in the making. False where somebody else did, to remove it.
fn lock(file: &File) -> bool {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => false,
        // A file system without locks: there nobody removes anything either.
        Err(_) => true,
        Ok(()) => rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0),
    }
}

/// Removes what killed processes left in a folder. What cannot be removed does no harm.
fn remove_dead(folder: &Path) {
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_ours = is_unfinished(&entry.file_name());
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(CWD, entry.path(), flags, Mode::empty()) else {
            continue;
        };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs_err::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(folder: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        for text in ["one", "two"] {
            for named in [false, true] {
                let make = || {
                    if named {
                        Unfinished::named(folder.path(), 0o600)
                    } else {
                        Unfinished::beside(&target, 0o600)
                    }
                };
                let before = listing(folder.path());
                let mut file = make().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                file.persist(&target).unwrap();
                assert_eq!(fs_err::read_to_string(&target).unwrap(), text);
                drop(make().unwrap());
                assert_eq!(listing(folder.path()), ["target"], "{before:?}");
            }
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs_err::metadata(&target).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_the_dead_left_goes_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let alive = Unfinished::named(folder.path(), 0o600).unwrap();
        let alive_name = listing(folder.path());
        // As `kill -9` leaves them.
        let dead = Unfinished::named(folder.path(), 0o600).unwrap();
        let Unfinished { name, file, .. } = dead;
        name.unwrap().keep().unwrap();
        drop(file);
        for other in ["gondola-x", ".gondola"] {
            fs_err::write(folder.path().join(other), "").unwrap();
        }
        fs_err::create_dir(folder.path().join(".gondola-folder")).unwrap();
        rustix::fs::mkfifoat(CWD, folder.path().join(".gondola-pipe"), Mode::RUSR).unwrap();
        assert_eq!(listing(folder.path()).len(), 6);
        drop(Unfinished::new_in(folder.path(), 0o600).unwrap());
        let mut expected = alive_name;
        expected.extend(
            ["gondola-x", ".gondola", ".gondola-folder", ".gondola-pipe"].map(str::to_owned),
        );
        expected.sort();
        assert_eq!(listing(folder.path()), expected);
        drop(alive);
        assert_eq!(listing(folder.path()).len(), 4);
    }
}
