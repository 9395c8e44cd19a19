//! Copies the merged files of layers into one folder, for isolations that have no overlays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Keeper, OWNERS, Target};
use super::view::{Node, walk};
use super::{OwnerStorage, as_path};
use crate::error::{Cannot as _, Error, Result};
use crate::layer::{Content, Entry, EntryKind, FileContent};
use crate::sandbox::owner::{Device, DeviceKind};

/// How many threads copy contents.
const COPIERS: usize = 2;
/// How many files wait for them.
const WAITING: usize = 64;

/// How files get their contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// As those of a copy.
    Copied,
    /// As further names of the originals where that works: these must not be changed any more.
    Linked,
}

/// A file that has its name already, and gets its content and attributes.
pub(super) struct Task {
    pub(super) file: File,
    pub(super) path: Vec<u8>,
    pub(super) entry: Entry,
}

/// Files for the threads that fill them.
pub(super) type Tasks = SyncSender<Task>;

/// Does `work`, and has the files that it passes on filled by other threads meanwhile.
pub(super) fn with_copiers<T>(
    target: &Path,
    storage: OwnerStorage,
    work: impl FnOnce(&Tasks) -> Result<T>,
) -> Result<T> {
    let (sender, tasks) = sync_channel::<Task>(WAITING);
    let tasks = Arc::new(Mutex::new(tasks));
    thread::scope(|scope| {
        let mut copiers = Vec::new();
        for _ in 0..COPIERS {
            let tasks = tasks.clone();
            let work = move || copy_contents(&tasks, target, storage);
            match thread::Builder::new().spawn_scoped(scope, work) {
                Ok(copier) => copiers.push(copier),
                // The threads that there are do it alone where the system gives no more.
                Err(_) if !copiers.is_empty() => break,
                Err(error) => return Err(error).cannot(|| "start a thread that copies"),
            }
        }
        // The copiers alone hold the receiver: when the last of them is gone, sending fails.
        drop(tasks);
        let done = work(&sender);
        drop(sender);
        for copier in copiers {
            copier.join().expect("a copier does not panic")?;
        }
        done
    })
}

/// Passes a file on. When no copier is left, one of them has an error to tell.
pub(super) fn pass_on(tasks: &Tasks, task: Task) -> Result<()> {
    tasks.send(task).map_err(|_| Error::new(crate::error::ErrorKind::Io, "copy files"))
}

/// Copies a folder of merged layers and everything in it to `target`, which is made; answers how many bytes
/// there are.
pub(super) fn copy(
    from: &Node,
    target: &Path,
    storage: OwnerStorage,
    contents: Contents,
) -> Result<u64> {
    let mut copying = Walker {
        target,
        contents,
        skipped: if from.path.is_empty() { 0 } else { from.path.len() + 1 },
        keeper: Keeper::new(target, storage),
        folders: Vec::new(),
        links: BTreeMap::new(),
        bytes: 0,
    };
    with_copiers(target, storage, |tasks| {
        copying.make_top(from)?;
        walk(from, &mut |node| match copying.make(node)? {
            Some(task) => pass_on(tasks, task),
            None => Ok(()),
        })
    })?;
    copying.finish()?;
    Ok(copying.bytes)
}

fn copy_contents(
    tasks: &Mutex<Receiver<Task>>,
    target: &Path,
    storage: OwnerStorage,
) -> Result<()> {
    let mut keeper = Keeper::new(target, storage);
    loop {
        let task = tasks.lock().expect("no copier panics while it waits").recv();
        let Ok(Task { file, path, entry }) = task else { return Ok(()) };
        if let EntryKind::File(content) = &entry.kind {
            fill(&file, content)?;
        }
        let attributes = Attributes::of_entry(&entry);
        keeper.set(&file, &path, &attributes, Target::File)?;
        rustix::fs::futimens(&file, &attributes.times()).cannot(|| "set the time of a copy")?;
    }
}

/// Gives an empty file its content: shared with the original where the file system can do that.
pub(super) fn fill(file: &File, content: &Content) -> Result<()> {
    match content {
        Content::Memory(bytes) => {
            let mut file = file;
            file.write_all(bytes).cannot(|| "write a file")
        }
        Content::File(content) => {
            let mut original = content.open()?;
            if rustix::fs::ioctl_ficlone(file, original.file()).is_ok() {
                return check_clone(file, content);
            }
            let mut file = file;
            original.for_each(|bytes| file.write_all(bytes).cannot(|| "write a file"))
        }
    }
}

/// Makes sure that a clone is what was wanted: the original may have changed meanwhile, the clone
/// does not.
fn check_clone(file: &File, content: &FileContent) -> Result<()> {
    if content.pinned().is_none() {
        return Ok(());
    }
    let action = || "read a clone";
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).cannot(action)?;
    content.check(hasher.finalize().as_bytes())
}

struct Walker<'a> {
    target: &'a Path,
    contents: Contents,
    /// How many bytes of a path in the view come before the path in the copy.
    skipped: usize,
    keeper: Keeper,
    /// Folders get their modes and times at the end: writing into them changes these.
    folders: Vec<(Vec<u8>, u32, i64)>,
    links: BTreeMap<(u64, u64), PathBuf>,
    bytes: u64,
}

impl Walker<'_> {
    fn make_top(&mut self, from: &Node) -> Result<()> {
        if let Some(entry) = from.entry()? {
            self.make_folder(Vec::new(), &entry)?;
        }
        Ok(())
    }

    /// Makes what is at a spot; a file comes back to be filled.
    fn make(&mut self, node: &Node) -> Result<Option<Task>> {
        let Some(entry) = node.entry()? else { return Ok(None) };
        let path = node.path[self.skipped..].to_vec();
        let place = self.target.join(as_path(&path));
        let action = || format!("make {}", place.display());
        let attributes = Attributes::of_entry(&entry);
        let device = match &entry.kind {
            EntryKind::Directory => {
                self.make_folder(path, &entry)?;
                return Ok(None);
            }
            EntryKind::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), CWD, &place).cannot(action)?;
                self.describe(&place, &path, &attributes, true)?;
                return Ok(None);
            }
            EntryKind::Fifo => {
                rustix::fs::mkfifoat(CWD, &place, Mode::from(0o600)).cannot(action)?;
                self.describe(&place, &path, &attributes, false)?;
                return Ok(None);
            }
            EntryKind::CharDevice { major, minor } => {
                Some(Device { kind: DeviceKind::Character, major: *major, minor: *minor })
            }
            EntryKind::BlockDevice { major, minor } => {
                Some(Device { kind: DeviceKind::Block, major: *major, minor: *minor })
            }
            EntryKind::File(_) | EntryKind::HardLink(_) => None,
        };
        let identity = (node.stat.st_dev, node.stat.st_ino);
        if device.is_none() && node.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                fs_err::hard_link(first, &place).cannot(action)?;
                return Ok(None);
            }
            self.links.insert(identity, place.clone());
        }
        if let Some(device) = device {
            return self.make_device(&place, &path, &attributes, device).map(|()| None);
        }
        self.bytes += entry.size();
        if self.contents == Contents::Linked
            && let EntryKind::File(Content::File(original)) = &entry.kind
            && fs_err::hard_link(original.path(), &place).is_ok()
        {
            return Ok(None);
        }
        Ok(Some(Task { file: create(&place).cannot(action)?, path, entry }))
    }

    fn make_device(
        &mut self,
        place: &Path,
        path: &[u8],
        attributes: &Attributes<'_>,
        device: Device,
    ) -> Result<()> {
        let action = || format!("make {}", place.display());
        let kind = match device.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        match rustix::fs::mknodat(CWD, place, kind, Mode::from(0o600), number) {
            Ok(()) => self.describe(place, path, attributes, false),
            Err(Errno::PERM) => {
                let file = create(place).cannot(action)?;
                let attributes = Attributes { device: Some(device), ..attributes.clone() };
                self.keeper.set(&file, path, &attributes, Target::File)?;
                rustix::fs::futimens(&file, &attributes.times()).cannot(action)
            }
            Err(error) => Err(error).cannot(action),
        }
    }

    fn describe(
        &mut self,
        place: &Path,
        path: &[u8],
        attributes: &Attributes<'_>,
        is_link: bool,
    ) -> Result<()> {
        let parent = place.parent().expect("a copy is in a folder");
        let parent = fs_err::File::open(parent).cannot(|| "open a folder of a copy")?;
        self.keeper.set_unopened(parent.file().as_fd(), path, attributes, is_link)
    }

    fn make_folder(&mut self, path: Vec<u8>, entry: &Entry) -> Result<()> {
        let place = self.target.join(as_path(&path));
        let action = || format!("make {}", place.display());
        rustix::fs::mkdirat(CWD, &place, Mode::from(OWNERS)).cannot(action)?;
        let folder = fs_err::File::open(&place).cannot(action)?;
        self.keeper.set(&folder, &path, &Attributes::of_entry(entry), Target::OpenFolder)?;
        self.folders.push((path, entry.mode, entry.mtime));
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        for (path, mode, mtime) in self.folders.iter().rev() {
            let place = self.target.join(as_path(path));
            let action = || format!("finish {}", place.display());
            let folder = fs_err::File::open(&place).cannot(action)?;
            rustix::fs::futimens(&folder, &super::seconds(*mtime)).cannot(action)?;
            if mode & OWNERS != OWNERS {
                self.keeper.close(&folder, *mode).cannot(action)?;
            }
        }
        Ok(())
    }
}

fn create(place: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, place, flags, Mode::from(0o600)).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::layer::boundary::{Boundary, hooked};

    #[test]
    fn copiers_that_have_failed_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry::file(Content::file(folder.path().join("missing"), 5), 0o644);
        let passed = with_copiers(folder.path(), OwnerStorage::Recorded, |tasks| {
            for number in 0..1000 {
                let path = number.to_string().into_bytes();
                let file = create(&folder.path().join(as_path(&path))).unwrap();
                pass_on(tasks, Task { file, path, entry: entry.clone() })?;
            }
            Ok(())
        });
        let error = passed.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }

    #[test]
    fn a_copy_has_the_bytes_that_were_wanted_or_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (old, new) = (vec![b'o'; 1 << 20], vec![b'n'; 1 << 20]);
        for edit in [Boundary::Hashed, Boundary::Opened, Boundary::FirstBlock] {
            fs_err::write(&path, &old).unwrap();
            let mut content = Content::from_file(&path).unwrap();
            content.pin().unwrap();
            let copy = create(&folder.path().join(format!("{edit:?}"))).unwrap();
            let (target, bytes) = (path.clone(), new.clone());
            let hook = move |at, _: &FileContent| {
                if at == edit {
                    fs_err::write(&target, &bytes).unwrap();
                }
            };
            if edit == Boundary::Hashed {
                fs_err::write(&path, &new).unwrap();
            }
            let filled = hooked(hook, || fill(&copy, &content));
            // A clone is made at once, and no block is read before it.
            let cloned = filled.is_ok() && edit == Boundary::FirstBlock;
            if cloned {
                assert_eq!(fs_err::read(folder.path().join("FirstBlock")).unwrap(), old);
            } else {
                assert_eq!(filled.unwrap_err().kind(), ErrorKind::Changed, "{edit:?}");
            }
            fs_err::write(&path, &old).unwrap();
            let copy = create(&folder.path().join(format!("{edit:?} again"))).unwrap();
            fill(&copy, &content).unwrap();
            assert_eq!(fs_err::read(folder.path().join(format!("{edit:?} again"))).unwrap(), old);
        }
    }
}
