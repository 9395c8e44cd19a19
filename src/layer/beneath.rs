//! A folder that is held open, out of which no link leads.
//!
//! A process that may write to a folder can swap a file or folder in it for a symbolic link between two
//! looks at its path. So everything is found beneath the folder's own descriptor, no link is followed
//! on the way or at its end, and what was opened is asked what it is. A named pipe or a device in a
//! file's place is never waited for.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

/// How everything is opened: for reading, with no link followed, and nothing waited for.
const PLAIN: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// How a folder on the way is opened.
const FOLDER: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Room for many names at once.
const LISTING: usize = 32 << 10;
/// How often an opening is tried that the kernel could not finish because something was moved.
const TRIES: usize = 64;

/// A folder held open.
#[derive(Debug)]
pub struct HeldFolder {
    path: PathBuf,
    folder: OwnedFd,
    /// Kernels before 5.6 and old system-call filters do not have the call.
    lacks_openat2: AtomicBool,
}

/// Two of them are the same only if they are one.
impl PartialEq for HeldFolder {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for HeldFolder {}

/// What tells one state of a file from another, as far as its file system notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The number of the file system.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
    /// How many bytes it has.
    pub size: u64,
    /// When its content changed, in seconds and nanoseconds since 1970.
    pub modified: (i64, u64),
    /// When anything of it changed, in seconds and nanoseconds since 1970.
    pub changed: (i64, u64),
}

impl FileState {
    /// The state that a look at a file found.
    #[expect(clippy::unnecessary_cast, reason = "the fields have other types on other machines")]
    pub fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }

    /// The same without the times.
    #[must_use]
    pub(super) fn without_times(self) -> Self {
        Self { modified: (0, 0), changed: (0, 0), ..self }
    }

    /// Whether both are states of one file.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl HeldFolder {
    /// Opens a folder; links that its own path leads through are followed.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { path, folder, lacks_openat2: AtomicBool::new(false) })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What messages call something in it.
    pub fn display(&self, relative: &[u8]) -> PathBuf {
        if relative.is_empty() {
            self.path.clone()
        } else {
            self.path.join(OsStr::from_bytes(relative))
        }
    }

    /// Opens the folder at a path below it; an empty path is its own.
    pub fn folder(&self, relative: &[u8]) -> io::Result<Inner> {
        let relative = if relative.is_empty() { b"." } else { relative };
        let folder = self.beneath(relative, PLAIN | OFlags::DIRECTORY)?;
        // The descriptor stands for the folder, so that only a name in it is looked up.
        let prefix = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        Ok(Inner { folder, prefix })
    }

    /// Opens the regular file at a path below it.
    pub fn file(&self, relative: &[u8]) -> io::Result<File> {
        let file = self.beneath(relative, PLAIN)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(File::from(file))
    }

    fn beneath(&self, relative: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        if self.lacks_openat2.load(Ordering::Relaxed) {
            return self.step_by_step(relative, flags).map_err(io::Error::from);
        }
        let within =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.folder, relative, flags, Mode::empty(), within) {
                // Something was moved meanwhile, or a file server is called back.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.lacks_openat2.store(true, Ordering::Relaxed);
                    return self.step_by_step(relative, flags).map_err(io::Error::from);
                }
                opened => return opened.map_err(io::Error::from),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The same without the one call for it.
    fn step_by_step(&self, relative: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut parts = relative.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let mut last = parts.next().unwrap_or(b".");
        let mut at: Option<OwnedFd> = None;
        let within = |at: &Option<OwnedFd>, part: &[u8], flags| {
            if part == b".." {
                return Err(Errno::XDEV);
            }
            rustix::fs::openat(at.as_ref().unwrap_or(&self.folder), part, flags, Mode::empty())
        };
        for part in parts {
            at = Some(within(&at, last, FOLDER)?);
            last = part;
        }
        within(&at, last, flags)
    }
}

/// An opened folder in a held one, or that itself.
#[derive(Debug)]
pub struct Inner {
    folder: OwnedFd,
    /// A path that leads to the folder itself.
    prefix: PathBuf,
}

impl Inner {
    /// The names in it, sorted.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        rustix::fs::seek(&self.folder, SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(LISTING);
        // Not `Dir`, which opens the folder once more: that takes the right to look things up in it.
        let mut entries = RawDir::new(&self.folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Looks at a name in it, or at itself; `None` where nothing is.
    pub fn look(&self, name: Option<&[u8]>) -> io::Result<Option<Stat>> {
        let found = match name {
            Some(name) => rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW),
            None => rustix::fs::fstat(&self.folder),
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the symbolic link of a name leads.
    pub fn link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.folder, name, Vec::new())?.into_bytes())
    }

    /// The extended attributes of a name in it, or of itself, that `wanted` wants. Links have none.
    pub fn attributes(
        &self,
        name: Option<&[u8]>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> io::Result<Vec<(String, Vec<u8>)>> {
        let path = self.prefix.join(name.map_or(OsStr::new("."), OsStr::from_bytes));
        let mut names = [0; NAMES];
        let value = |name: &str, value: &mut [u8]| rustix::fs::lgetxattr(&path, name, value);
        match rustix::fs::llistxattr(&path, &mut names) {
            Ok(size) => values(&names[..size], wanted, value),
            // There is no /proc: what can be opened is asked itself.
            Err(Errno::NOENT) => self.attributes_of_opened(name, wanted),
            // There are none, or too many to be anything but a mistake.
            Err(_) => Ok(Vec::new()),
        }
    }

    fn attributes_of_opened(
        &self,
        name: Option<&[u8]>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> io::Result<Vec<(String, Vec<u8>)>> {
        let name = name.unwrap_or(b".");
        let Ok(file) = rustix::fs::openat(&self.folder, name, PLAIN, Mode::empty()) else {
            return Ok(Vec::new());
        };
        let mut names = [0; NAMES];
        let Ok(size) = rustix::fs::flistxattr(&file, &mut names) else { return Ok(Vec::new()) };
        values(&names[..size], wanted, |name, value| rustix::fs::fgetxattr(&file, name, value))
    }
}

/// The room for the names of a file's attributes, and for the value of one.
const NAMES: usize = 4096;
const VALUE: usize = 64 << 10;

/// The attributes of a list of names that are wanted.
fn values(
    names: &[u8],
    wanted: &dyn Fn(&str) -> bool,
    get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if !wanted(name) {
            continue;
        }
        let mut value = vec![0; VALUE];
        let size = get(name, &mut value)?;
        value.truncate(size);
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with a file and links of each sort, and a secret beside it.
    fn folder() -> (tempfile::TempDir, HeldFolder) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::write(root.join("a/b/file"), "inside").unwrap();
        fs_err::create_dir(scratch.path().join("outside")).unwrap();
        fs_err::write(scratch.path().join("outside/file"), "secret").unwrap();
        symlink("../outside", root.join("up")).unwrap();
        symlink("../outside/file", root.join("out")).unwrap();
        symlink("/", root.join("top")).unwrap();
        symlink("a", root.join("in")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), Mode::RWXU).unwrap();
        let held = HeldFolder::open(root).unwrap();
        (scratch, held)
    }

    #[test]
    fn nothing_is_opened_through_a_link_or_outside_with_and_without_openat2() {
        let (_scratch, held) = folder();
        for lacks_openat2 in [false, true] {
            held.lacks_openat2.store(lacks_openat2, Ordering::Relaxed);
            let mut text = String::new();
            held.file(b"a/b/file").unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside");
            assert_eq!(held.folder(b"a").unwrap().names().unwrap(), [b"b"]);
            assert_eq!(held.folder(b"").unwrap().names().unwrap().len(), 6);
            for path in ["out", "up/file", "in/b/file", "top/etc/passwd", "../outside/file"] {
                assert!(held.file(path.as_bytes()).is_err(), "{path}");
            }
            for path in ["up", "in", "top", "..", "a/../..", "a/b/file"] {
                assert!(held.folder(path.as_bytes()).is_err(), "{path}");
            }
            for path in ["pipe", "a", "missing"] {
                assert!(held.file(path.as_bytes()).is_err(), "{path}");
            }
        }
    }

    #[test]
    fn the_names_in_a_folder_need_the_right_to_read_it_alone() {
        let (_scratch, held) = folder();
        let inner = held.folder(b"a/b").unwrap();
        assert_eq!(inner.names().unwrap(), [b"file"]);
        assert_eq!(inner.names().unwrap(), [b"file"], "as often as they are asked for");
    }

    #[test]
    fn a_folder_that_was_swapped_for_a_link_is_not_left_through_it() {
        let (scratch, held) = folder();
        let inner = held.folder(b"a/b").unwrap();
        let root = held.path().to_owned();
        fs_err::rename(root.join("a"), scratch.path().join("moved")).unwrap();
        symlink("../outside", root.join("a")).unwrap();
        assert_eq!(inner.names().unwrap(), [b"file"]);
        assert!(held.file(b"a/file").is_err());
        // The held folder itself stays what it was.
        fs_err::rename(&root, scratch.path().join("elsewhere")).unwrap();
        symlink("outside", &root).unwrap();
        assert!(held.file(b"file").is_err());
        assert_eq!(held.folder(b"").unwrap().names().unwrap().len(), 6);
    }

    #[test]
    fn attributes_are_found_with_and_without_proc() {
        let (_scratch, held) = folder();
        let path = held.path().join("a/b/file");
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&path, "user.wanted", b"value", flags).is_err() {
            eprintln!("skipped: the file system has no attributes of users");
            return;
        }
        rustix::fs::setxattr(&path, "user.other", b"value", flags).unwrap();
        let inner = held.folder(b"a/b").unwrap();
        let wanted = |name: &str| name == "user.wanted";
        let expected = [("user.wanted".to_owned(), b"value".to_vec())];
        assert_eq!(inner.attributes(Some(b"file"), &wanted).unwrap(), expected);
        assert_eq!(inner.attributes_of_opened(Some(b"file"), &wanted).unwrap(), expected);
        assert_eq!(inner.attributes(None, &wanted).unwrap(), []);
    }
}
