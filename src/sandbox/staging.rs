//! The view of a process where nothing can be mounted, as root in a container without `CAP_SYS_ADMIN`:
//! what is mounted elsewhere is put into the root file system itself while the program runs, and taken
//! out again after it.
//!
//! ```text
//!   FOLDER/fs/etc/hosts   ── set aside ──►  FOLDER/aside-…/0      and put back at the end
//!   FOLDER/fs/dev         ◄── made, copied or moved here ──       and removed at the end
//! ```
//!
//! The helper does both, from outside of the changed root: it outlives the program, and no path is
//! followed through a link that the program left. A helper that is killed leaves what it put there; the
//! caller's folder is one that the next process removes. Secrets are not among it: see
//! [`super::memory_file`].
//!
//! Absent on purpose: folders of the host that somebody else uses meanwhile. A copy of them would be
//! another one, and to move them would take them away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    Uid, makedev,
};
use rustix::io::Errno;

use super::error::{At as _, Attempt, Fault, Stage};
use super::kernel_path::{DEVICES, Devices};
use super::memory_file::{MemoryFile, Rights};
use super::mounts::{DEVICE_LINKS, network_texts};
use super::path::{Kind, RootFolder, Spot};
use super::protocol::Job;
use super::spec::{Access, Mount, Root, Spec};
use super::stub::Stub;

/// A tick of the kernel's clock takes ten milliseconds at most; more, where the clock was set.
const LONGEST_TICK: u32 = 20;

/// What was put into a root file system, until it is taken out.
pub(super) struct Staging {
    root: RootFolder,
    /// The folder of what was there before. On the same file system as the root, and outside of it.
    aside: PathBuf,
    staged: Vec<Staged>,
    /// Secrets, of which nothing is in the root file system but stand-ins.
    memory: Vec<MemoryFile>,
    devices: Devices,
    /// Folders that are empty again at the end if the program leaves nothing in them.
    made: Vec<PathBuf>,
    /// The times of folders, before anything was put into them and after all was.
    times: BTreeMap<PathBuf, (Time, Time)>,
    /// Folders in which something was made.
    holders: BTreeSet<PathBuf>,
    seen_stubs: usize,
}

/// Something in the root file system that is not its own.
struct Staged {
    path: PathBuf,
    /// The number under which that is set aside what was at this path before.
    aside: Option<usize>,
    /// Where it came from and belongs.
    from: Option<PathBuf>,
}

type Time = (i64, i64);

impl Staging {
    /// Puts everything into place that the job's program is to find.
    pub(super) fn put(job: &Job) -> Attempt<Self> {
        let action = || "prepare the root file system";
        let Root::Folder(folder) = &job.spec.root else {
            let reason = format!("the sandbox {} needs a plain folder", job.isolation);
            return Err(Fault::new(Stage::Request, action(), reason));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty());
        let opened = opened.at(Stage::Mounts, || format!("open {}", folder.display()))?;
        // Not removed when this goes: process 1 has a copy of it.
        let aside = tempfile::Builder::new().prefix(".gondola-aside-").tempdir_in(beside(folder));
        let aside = aside.at(Stage::Mounts, action)?.keep();
        let mut staging = Self {
            root: RootFolder::new(opened).at(Stage::Mounts, action)?,
            aside,
            staged: Vec::new(),
            memory: Vec::new(),
            devices: Devices::Made,
            made: Vec::new(),
            times: BTreeMap::new(),
            holders: BTreeSet::new(),
            seen_stubs: 0,
        };
        match staging.put_all(job) {
            Ok(()) => Ok(staging),
            Err(error) => {
                // The first failure says more than those of clearing up after it.
                let _ = staging.take_out();
                Err(error)
            }
        }
    }

    fn put_all(&mut self, job: &Job) -> Attempt<()> {
        self.put_kernel_folders()?;
        // The name of the machine is the container's, and cannot be another one.
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for (target, text) in network_texts(&Spec { hostname, ..job.spec.clone() }) {
            self.put_file(target, text.as_bytes())?;
        }
        let mut mounts: Vec<&Mount> = job.spec.mounts.iter().collect();
        mounts.sort_by_key(|mount| Path::new(mount.target()).components().count());
        for mount in mounts {
            self.put_mount(mount)?;
        }
        self.note_times_after()?;
        self.wait_for_later().at(Stage::Mounts, || "look at the clock of the file system")
    }

    /// `/dev`, and folders for `/proc` and `/sys` that nothing stays in.
    fn put_kernel_folders(&mut self) -> Attempt<()> {
        let action = || "make /dev";
        for name in ["proc", "sys"] {
            drop(self.put_folder(name, 0o555)?);
        }
        let devices = self.put_folder("dev", 0o755)?;
        for (name, major, minor) in DEVICES {
            let made = make_device(&devices, name, (major, minor));
            if !made.at(Stage::Mounts, || format!("make /dev/{name}"))? {
                self.devices = Devices::Answered;
            }
        }
        for (name, target) in DEVICE_LINKS {
            rustix::fs::symlinkat(target, &devices, name).at(Stage::Mounts, action)?;
        }
        for (name, mode) in [("shm", 0o1777), ("mqueue", 0o1777), ("pts", 0o755)] {
            drop(make_folder(&devices, name, mode).at(Stage::Mounts, action)?);
        }
        // A file system without devices makes them, and refuses to open them.
        let null = rustix::fs::openat(&devices, "null", OFlags::WRONLY, Mode::empty());
        if null.is_err() {
            self.devices = Devices::Answered;
        }
        Ok(())
    }

    fn put_mount(&mut self, mount: &Mount) -> Attempt<()> {
        let target = mount.target();
        let action = || format!("put something in place at {target}");
        if !target.starts_with('/') {
            let reason = "the target is not an absolute path";
            return Err(Fault::new(Stage::Request, format!("mount {target:?}"), reason));
        }
        match mount {
            Mount::Tmpfs { mode, .. } => self.put_folder(target, *mode).map(drop),
            Mount::Secret { content, mode, uid, gid, .. } => {
                let rights = Rights { mode: *mode, uid: *uid, gid: *gid };
                let (parent, name) = self.clear(target, Kind::File)?;
                let file = MemoryFile::new((&parent, &name), content.reveal(), rights);
                self.memory.push(file.at(Stage::Mounts, action)?);
                Ok(())
            }
            Mount::Own { source, access, .. } => {
                let (parent, name) = self.clear(target, Kind::Folder)?;
                match access {
                    Access::ReadWrite => {
                        let moved = rustix::fs::renameat(CWD, source, &parent, &name);
                        moved.at(Stage::Mounts, || format!("move {}", source.display()))?;
                        self.staged.last_mut().expect("clear notes it").from = Some(source.clone());
                        Ok(())
                    }
                    Access::ReadOnly => copy(CWD, source, &parent, &name).at(Stage::Mounts, action),
                }
            }
            Mount::Bind { source, subpath: None, access: Access::ReadOnly, .. } => {
                let (parent, name) = self.clear(target, Kind::Folder)?;
                copy(CWD, source, &parent, &name).at(Stage::Mounts, action)
            }
            Mount::Bind { source, subpath: None, .. } if is_socket(source) => {
                let (parent, name) = self.clear(target, Kind::File)?;
                let linked = rustix::fs::linkat(CWD, source, &parent, &name, AtFlags::empty());
                linked.at(Stage::Mounts, action)
            }
            Mount::Bind { .. } | Mount::Overlay { .. } => {
                let reason = "nothing can be mounted here, and a copy would not be the same";
                Err(Fault::new(Stage::Request, format!("mount at {target}"), reason))
            }
        }
    }

    fn put_folder(&mut self, target: &str, mode: u32) -> Attempt<OwnedFd> {
        let (parent, name) = self.clear(target, Kind::Folder)?;
        make_folder(&parent, &name, mode).at(Stage::Mounts, || format!("make {target}"))
    }

    fn put_file(&mut self, target: &str, content: &[u8]) -> Attempt<()> {
        let action = || format!("write {target}");
        let (parent, name) = self.clear(target, Kind::File)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(file.at(Stage::Mounts, action)?);
        file.write_all(content).at(Stage::Mounts, action)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).at(Stage::Mounts, action)
    }

    /// Makes room at a path: what is there is set aside. Answers the folder and the name in it.
    fn clear(&mut self, target: &str, kind: Kind) -> Attempt<(OwnedFd, PathBuf)> {
        let action = || format!("make room at {target}");
        let Spot { path, .. } = self.root.ensure(target, kind).at(Stage::Mounts, action)?;
        let Some(name) = path.file_name().map(PathBuf::from) else {
            let reason = "it is the root itself";
            return Err(Fault::new(Stage::Request, action(), reason));
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let was_made = self.note_stubs(&path);
        let parent = self.root.folder(&folder).at(Stage::Mounts, action)?;
        self.note_time(&folder, &parent).at(Stage::Mounts, action)?;
        let aside = if was_made {
            remove(&parent, &name).at(Stage::Mounts, action)?;
            None
        } else {
            let number = self.staged.len();
            let place = self.aside.join(number.to_string());
            rustix::fs::renameat(&parent, &name, CWD, &place).at(Stage::Mounts, action)?;
            Some(number)
        };
        self.staged.push(Staged { path, aside, from: None });
        Ok((parent, name))
    }

    /// Takes note of folders that were made on the way to a path. Answers whether the path's end was.
    fn note_stubs(&mut self, path: &Path) -> bool {
        let fresh = &self.root.stubs()[self.seen_stubs..];
        self.seen_stubs += fresh.len();
        let mut was_made = false;
        for stub in fresh {
            let parent = stub.path.parent().unwrap_or(Path::new("")).to_owned();
            if is_within(&self.staged, &parent) {
                was_made |= stub.path == path;
                continue;
            }
            let before = (stub.parent_seconds, i64::from(stub.parent_nanoseconds));
            self.holders.insert(parent.clone());
            self.times.entry(parent).or_insert((before, before));
            if stub.path == path { was_made = true } else { self.made.push(stub.path.clone()) }
        }
        was_made
    }

    fn note_time(&mut self, folder: &Path, fd: &OwnedFd) -> rustix::io::Result<()> {
        if is_within(&self.staged, folder) {
            return Ok(());
        }
        let time = time_of(&rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?);
        self.times.entry(folder.to_owned()).or_insert((time, time));
        Ok(())
    }

    fn note_times_after(&mut self) -> Attempt<()> {
        let action = || "remember the times of folders";
        for (folder, times) in &mut self.times {
            let fd = self.root.folder(folder).at(Stage::Mounts, action)?;
            let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH);
            times.1 = time_of(&stat.at(Stage::Mounts, action)?);
        }
        Ok(())
    }

    /// Waits until what a program does gets a later time than what was made for it: within a tick of the
    /// kernel's clock nobody could tell which is which.
    fn wait_for_later(&self) -> io::Result<()> {
        let newest = self.times.values().map(|(_, after)| *after).max();
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        for _ in 0..LONGEST_TICK {
            rustix::fs::utimensat(CWD, &self.aside, &now, AtFlags::empty())?;
            if Some(time_of(&rustix::fs::stat(&self.aside)?)) > newest {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What was in the root file system, and is there again at the end as it was.
    pub(super) fn put_back(&self) -> Vec<Stub> {
        let aside = self.staged.iter().filter(|staged| staged.aside.is_some());
        let stub = |staged: &Staged| Stub {
            path: staged.path.clone(),
            parent_seconds: 0,
            parent_nanoseconds: 0,
            put_back: true,
        };
        aside.map(stub).collect()
    }

    /// The root file system.
    pub(super) fn root(&self) -> &RootFolder {
        &self.root
    }

    /// The files in memory, for whoever opens them in a program's place.
    pub(super) fn memory_files(&self) -> io::Result<Vec<MemoryFile>> {
        self.memory.iter().map(MemoryFile::try_clone).collect()
    }

    /// Where the usual devices are.
    pub(super) fn devices(&self) -> Devices {
        self.devices
    }

    /// Makes do without anybody who answers: what is in memory goes to the disk.
    pub(super) fn stand_alone(&self) -> Attempt<()> {
        if self.devices == Devices::Answered {
            let reason = "this needs the capability MKNOD, and a file system that has devices; or system \
                          calls that nobody else answers already";
            return Err(Fault::new(Stage::Mounts, "make /dev/null", reason));
        }
        let written = self.memory.iter().try_for_each(MemoryFile::spill);
        written.at(Stage::Mounts, || "write a secret")
    }

    /// Takes everything out again, and puts back what was there. Whatever can be is, also after a failure.
    pub(super) fn take_out(mut self) -> Attempt<()> {
        let mut outcome = Ok(());
        let times = self.times_to_keep();
        for staged in std::mem::take(&mut self.staged).into_iter().rev() {
            let action = || format!("take /{} out of the root file system", staged.path.display());
            let taken = self.take_one(&staged).at(Stage::Mounts, action);
            outcome = outcome.and(taken);
        }
        let aside = self.aside.parent().map(|beside| open_folder(CWD, beside));
        if let (Some(Ok(beside)), Some(name)) = (aside, self.aside.file_name()) {
            // It is the caller's to remove in the end.
            let _ = remove(&beside, Path::new(name));
        }
        for path in self.made.iter().rev() {
            let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name());
            // What the program left in it keeps it.
            if let (Ok(parent), Some(name)) = (self.root.folder(parent), name) {
                let _ = rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
            }
        }
        for (folder, time) in times {
            if let Ok(fd) = self.root.folder(&folder) {
                let _ = set_time(&fd, time);
            }
        }
        outcome
    }

    /// The times that folders get in the end: those from before, or what the program gave.
    fn times_to_keep(&self) -> BTreeMap<PathBuf, Time> {
        let mut kept = BTreeMap::new();
        for (folder, (before, after)) in &self.times {
            // A folder that the program removed has no time.
            if let Ok(fd) = self.root.folder(folder)
                && let Ok(stat) = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)
            {
                let found = time_of(&stat);
                let written = found != *after || self.has_later(folder, &fd, *after);
                kept.insert(folder.clone(), if written { found } else { *before });
            }
        }
        kept
    }

    /// Whether the program wrote to a file of a folder in which something had to be made. Where that is
    /// mounted on, the folder counts as changed then, too.
    fn has_later(&self, folder: &Path, fd: &OwnedFd, after: Time) -> bool {
        let is_ours = |name: &Path| {
            let path = folder.join(name);
            self.staged.iter().any(|staged| staged.path == path)
        };
        let is_later = |name: &Path| {
            let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| {
                let time = (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
                FileType::from_raw_mode(stat.st_mode) != FileType::Directory && time > after
            })
        };
        self.holders.contains(folder)
            && names(fd).is_ok_and(|all| all.iter().any(|name| !is_ours(name) && is_later(name)))
    }

    fn take_one(&self, staged: &Staged) -> rustix::io::Result<()> {
        let folder = staged.path.parent().unwrap_or(Path::new(""));
        let parent = match self.root.folder(folder) {
            // It went with the folder that it was in; what was aside belongs there no more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            found => found?,
        };
        let name = Path::new(staged.path.file_name().unwrap_or_default());
        match &staged.from {
            Some(from) => match rustix::fs::renameat(&parent, name, CWD, from) {
                // The program removed it: its owner makes a new one.
                Err(Errno::NOENT) => {}
                moved => moved?,
            },
            None => remove(&parent, name)?,
        }
        match staged.aside {
            Some(number) => {
                let place = self.aside.join(number.to_string());
                rustix::fs::renameat(CWD, place, &parent, name)
            }
            None => Ok(()),
        }
    }
}

/// Whether a folder is, or is in, one that was put into the root file system: it goes as a whole.
fn is_within(staged: &[Staged], folder: &Path) -> bool {
    staged.iter().any(|staged| folder.starts_with(&staged.path))
}

/// A folder to set things aside in: the one that the root is in, but where that is another file system.
fn beside(root: &Path) -> &Path {
    // A name without a folder is in the working one.
    let parent = root.parent().unwrap_or(root);
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let device = |path| rustix::fs::stat(path).map(|stat| stat.st_dev).ok();
    if device(parent) == device(root) { parent } else { root }
}

fn time_of(stat: &Stat) -> Time {
    (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn set_time(file: impl AsFd, (seconds, nanoseconds): Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ },
    };
    rustix::fs::futimens(file, &times)
}

/// Makes a device that everybody may use, or a file in its place. Answers whether it is a device.
fn make_device(
    folder: &OwnedFd,
    name: &str,
    (major, minor): (u32, u32),
) -> rustix::io::Result<bool> {
    let rights = Mode::from_raw_mode(0o666);
    let put = |kind, device| rustix::fs::mknodat(folder, name, kind, rights, device);
    let outcome = put(FileType::CharacterDevice, makedev(major, minor));
    let is_device = outcome != Err(Errno::PERM);
    if is_device { outcome } else { put(FileType::RegularFile, 0) }?;
    // Apart from making it, so that the umask takes nothing away.
    rustix::fs::chmodat(folder, name, rights, AtFlags::empty())?;
    Ok(is_device)
}

fn make_folder(parent: &OwnedFd, name: impl AsRef<Path>, mode: u32) -> rustix::io::Result<OwnedFd> {
    let (name, mode) = (name.as_ref(), Mode::from_raw_mode(mode));
    rustix::fs::mkdirat(parent, name, mode)?;
    let folder = open_folder(parent, name)?;
    rustix::fs::fchmod(&folder, mode)?;
    Ok(folder)
}

fn open_folder(parent: impl AsFd, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_socket(path: &Path) -> bool {
    rustix::fs::lstat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// Removes a file, or a folder with all that is in it.
fn remove(parent: &OwnedFd, name: &Path) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        removed => return removed,
    }
    let folder = open_folder(parent, name)?;
    for name in names(&folder)? {
        remove(&folder, &name)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
        }
    }
    Ok(names)
}

/// Copies a file, or a folder with all that is in it, with owners, modes and times.
fn copy(from: impl AsFd, source: &Path, parent: &OwnedFd, name: &Path) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(&from, source, AtFlags::SYMLINK_NOFOLLOW)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let (source, target) = (open_folder(&from, source)?, make_folder(parent, name, 0o700)?);
            for name in names(&source)? {
                copy(&source, &name, &target, &name)?;
            }
            rustix::fs::fchown(&target, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&target, mode)?;
            set_time(&target, time_of(&stat))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = rustix::fs::openat(&from, source, flags, Mode::empty())?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let target = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
            let (mut source, mut target) =
                (std::fs::File::from(source), std::fs::File::from(target));
            io::copy(&mut source, &mut target)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            rustix::fs::fchown(&target, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&target, mode)?;
            set_time(&target, time_of(&stat))
        }
        FileType::Symlink => {
            let to = rustix::fs::readlinkat(&from, source, Vec::new())?;
            rustix::fs::symlinkat(to, parent, name)?;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        }
        // Nothing else is in what is shown to a step.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    use fs_err as fs;

    /// Every entry below a folder: its path, mode, size, time and what a link leads to.
    fn listing(folder: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(path) = pending.pop() {
            let found = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(folder).unwrap().display();
            let (size, time) =
                if found.is_dir() { (0, found.mtime_nsec()) } else { (found.len(), 0) };
            lines.push(format!("{name} {:o} {size} {time}", found.mode()));
            if found.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        lines.sort();
        lines
    }

    #[test]
    fn a_copy_is_as_the_original_and_all_of_it_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("a/b")).unwrap();
        fs::write(source.join("a/b/file"), "text").unwrap();
        std::os::unix::fs::symlink("b/file", source.join("a/link")).unwrap();
        let parent = open_folder(CWD, folder.path()).unwrap();
        copy(CWD, &source, &parent, Path::new("target")).unwrap();
        assert_eq!(listing(&folder.path().join("target")), listing(&source));
        remove(&parent, Path::new("target")).unwrap();
        remove(&parent, Path::new("target")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
