//! Writes a tree into a fork, over what its lower layers have.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timestamps};
use rustix::io::Errno;

use super::attributes::{Attributes, Keeper, OWNERS, Target};
use super::folders::Folders;
use super::view::View;
use super::{OwnerStorage, copy, marks};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, EntryKind, Tree, TreePath, Whiteout};
use crate::sandbox::owner::{Device, DeviceKind};
use crate::store::remove_tree;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Writes `tree` into `files`: the upper folder over `lower`, or a copy of everything.
pub(super) fn apply(
    tree: &Tree,
    files: &Path,
    storage: OwnerStorage,
    lower: Option<&View>,
) -> Result<()> {
    let mut writer = Applying {
        files,
        storage,
        lower,
        folders: Folders::new(files, storage).cannot(|| "open a root file system")?,
        keeper: Keeper::new(files, storage),
        times: BTreeMap::new(),
        modes: BTreeMap::new(),
        removed: 0,
    };
    let regular = tree.iter().filter(|(_, entry)| matches!(entry.kind, EntryKind::File(_)));
    if regular.count() < MANY {
        writer.write_all(tree, None)?;
    } else {
        copy::with_copiers(files, storage, |tasks| writer.write_all(tree, Some(tasks)))?;
    }
    writer.finish()
}

/// So many files are filled by several threads.
const MANY: usize = 32;

struct Applying<'a> {
    files: &'a Path,
    storage: OwnerStorage,
    lower: Option<&'a View>,
    folders: Folders,
    keeper: Keeper,
    /// What folders get at the end: writing into them changes it.
    times: BTreeMap<Vec<u8>, Timestamps>,
    modes: BTreeMap<Vec<u8>, u32>,
    removed: u64,
}

impl Applying<'_> {
    /// Writes everything but what folders get at the end. Where there are `tasks`, the contents of files
    /// are passed on to them.
    fn write_all(&mut self, tree: &Tree, tasks: Option<&copy::Tasks>) -> Result<()> {
        for (path, entry) in tree {
            self.write(&path, &entry, tasks).cannot(|| format!("write /{path}"))?;
        }
        Ok(())
    }

    fn write(&mut self, path: &TreePath, entry: &Entry, tasks: Option<&copy::Tasks>) -> Result<()> {
        let parent = path.parent();
        let parent = parent.as_ref().map_or(&b""[..], TreePath::as_bytes);
        let folder = self.folder(parent)?;
        match path.as_whiteout() {
            Some(Whiteout::Opaque(_)) => return self.hide_all(&folder, parent),
            Some(Whiteout::Removed(path)) => return self.hide(&folder, &path),
            None => {}
        }
        let attributes = Attributes::of_entry(entry);
        let name = path.name();
        if entry.is_directory() {
            return self.write_folder(&folder, path, &attributes);
        }
        self.remove(&folder, name)?;
        let device = match &entry.kind {
            EntryKind::CharDevice { major, minor } => {
                Device { kind: DeviceKind::Character, major: *major, minor: *minor }
            }
            EntryKind::BlockDevice { major, minor } => {
                Device { kind: DeviceKind::Block, major: *major, minor: *minor }
            }
            EntryKind::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), &*folder, name).cannot(|| "make it")?;
                return self.keeper.set_unopened(&*folder, path.as_bytes(), &attributes, true);
            }
            EntryKind::Fifo => {
                let mode = Mode::from(0o600);
                rustix::fs::mkfifoat(&*folder, name, mode).cannot(|| "make it")?;
                return self.keeper.set_unopened(&*folder, path.as_bytes(), &attributes, false);
            }
            EntryKind::HardLink(target) => return self.link(&folder, name, target),
            EntryKind::File(content) => {
                let file = create(&folder, name)?;
                if let Some(tasks) = tasks {
                    let (path, entry) = (path.as_bytes().to_vec(), entry.clone());
                    return copy::pass_on(tasks, copy::Task { file, path, entry });
                }
                copy::fill(&file, content)?;
                return self.describe(&file, path, &attributes);
            }
            EntryKind::Directory => unreachable!("folders were written above"),
        };
        self.write_device(&folder, path, &attributes, device)
    }

    fn write_device(
        &mut self,
        folder: &Rc<OwnedFd>,
        path: &TreePath,
        attributes: &Attributes<'_>,
        device: Device,
    ) -> Result<()> {
        let kind = match device.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        match rustix::fs::mknodat(&**folder, path.name(), kind, Mode::from(0o600), number) {
            Err(Errno::PERM) => {
                let file = create(folder, path.name())?;
                let attributes = Attributes { device: Some(device), ..attributes.clone() };
                self.describe(&file, path, &attributes)
            }
            result => {
                result.cannot(|| "make it")?;
                self.keeper.set_unopened(&**folder, path.as_bytes(), attributes, false)
            }
        }
    }

    fn describe(
        &mut self,
        file: &File,
        path: &TreePath,
        attributes: &Attributes<'_>,
    ) -> Result<()> {
        self.keeper.set(file, path.as_bytes(), attributes, Target::File)?;
        rustix::fs::futimens(file, &attributes.times()).cannot(|| "set its time")
    }

    fn write_folder(
        &mut self,
        parent: &Rc<OwnedFd>,
        path: &TreePath,
        attributes: &Attributes<'_>,
    ) -> Result<()> {
        let name = path.name();
        let there = marks::look(&**parent, name).cannot(|| "look at it")?;
        let is_there = there.as_ref().is_some_and(is_folder);
        if !is_there {
            // What lower layers have there was hidden already, or is hidden by a file here.
            let hides = there.is_some() && self.lower_folder(path.as_bytes())?.is_some();
            self.remove(parent, name)?;
            rustix::fs::mkdirat(&**parent, name, Mode::from(OWNERS)).cannot(|| "make it")?;
            if hides {
                let made = rustix::fs::openat(&**parent, name, FOLDER, Mode::empty());
                let made = made.cannot(|| "open it")?;
                marks::set_opaque(made, self.storage).map_err(marks::unmarked)?;
            }
        }
        let folder = rustix::fs::openat(&**parent, name, FOLDER, Mode::empty());
        let folder = Rc::new(folder.cannot(|| "open it")?);
        self.keeper.set(&*folder, path.as_bytes(), attributes, Target::OpenFolder)?;
        self.times.insert(path.as_bytes().to_vec(), attributes.times());
        self.modes.insert(path.as_bytes().to_vec(), attributes.mode);
        self.folders.remember(path.as_bytes(), &folder);
        Ok(())
    }

    fn link(&self, folder: &Rc<OwnedFd>, name: &[u8], target: &TreePath) -> Result<()> {
        let parent = target.parent();
        let from = Folders::new(self.files, self.storage)
            .and_then(|mut folders| folders.get(parent.as_ref().map_or(b"", TreePath::as_bytes)));
        let linked = from.and_then(|from| {
            rustix::fs::linkat(&*from, target.name(), &**folder, name, AtFlags::empty())
        });
        linked.cannot(|| format!("link it to /{target}"))
    }

    /// Hides a name, and what the fork has there.
    fn hide(&mut self, folder: &Rc<OwnedFd>, path: &TreePath) -> Result<()> {
        self.remove(folder, path.name())?;
        let Some(lower) = self.lower else { return Ok(()) };
        if lower.node(path.as_bytes())?.is_none() {
            return Ok(());
        }
        let root = self.folders.root();
        marks::make_whiteout(&**folder, path.name(), &*root, self.storage).map_err(marks::unmarked)
    }

    /// Empties a folder, and hides what lower layers have in it.
    fn hide_all(&mut self, folder: &Rc<OwnedFd>, path: &[u8]) -> Result<()> {
        let listed = rustix::fs::Dir::read_from(&**folder).cannot(|| "list its folder")?;
        for entry in listed {
            let entry = entry.cannot(|| "list its folder")?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.remove(folder, name)?;
            }
        }
        let Some(lower) = self.lower else { return Ok(()) };
        if !path.is_empty() {
            return marks::set_opaque(&**folder, self.storage).map_err(marks::unmarked);
        }
        // The mark has no effect on a root, so each name is hidden by itself.
        if let Some(root) = lower.node(b"")? {
            for (name, _) in super::view::nodes_in(&root)? {
                let top = self.folders.root();
                marks::make_whiteout(&**folder, &name, &*top, self.storage)
                    .map_err(marks::unmarked)?;
            }
        }
        Ok(())
    }

    /// Opens a folder of the fork; one of a lower layer gets its place in the upper folder first.
    fn folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        let found = match self.folders.get(path) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => self.copy_up(path)?,
            Err(error) => return Err(error).cannot(|| "open its folder"),
        };
        if !self.times.contains_key(path) {
            let stat = rustix::fs::fstat(&*found).cannot(|| "look at its folder")?;
            self.times.insert(path.to_vec(), times_of(&stat));
        }
        Ok(found)
    }

    fn copy_up(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        let path = TreePath::new(path)?;
        let above = path.parent();
        let parent = self.folder(above.as_ref().map_or(b"", TreePath::as_bytes))?;
        let action = || format!("make its folder /{path}");
        let refused = || Error::new(ErrorKind::Invalid, action()).because("it is no folder");
        let here = marks::look(&*parent, path.name()).cannot(action)?;
        let hides = match here {
            None => false,
            Some(stat) => {
                let name = path.name();
                let hides = marks::is_whiteout_at(&*parent, name, &stat, self.storage);
                if !hides.cannot(action)? {
                    return Err(refused());
                }
                self.remove(&parent, name)?;
                true
            }
        };
        let stands = match self.lower {
            Some(lower) if !hides => lower.node(path.as_bytes())?,
            _ => None,
        };
        if stands.as_ref().is_some_and(|node| !node.is_folder()) {
            return Err(refused());
        }
        let (lower, times) = match stands {
            Some(node) => (node.entry()?, times_of(&node.stat)),
            None => (None, super::seconds(0)),
        };
        let entry = lower.unwrap_or_else(|| Entry::directory(0o755));
        rustix::fs::mkdirat(&*parent, path.name(), Mode::from(OWNERS)).cannot(action)?;
        let folder = rustix::fs::openat(&*parent, path.name(), FOLDER, Mode::empty());
        let folder = Rc::new(folder.cannot(action)?);
        if hides {
            marks::set_opaque(&*folder, self.storage).map_err(marks::unmarked)?;
        }
        self.keeper.set(
            &*folder,
            path.as_bytes(),
            &Attributes::of_entry(&entry),
            Target::OpenFolder,
        )?;
        self.times.insert(path.as_bytes().to_vec(), times);
        self.modes.insert(path.as_bytes().to_vec(), entry.mode);
        self.folders.remember(path.as_bytes(), &folder);
        Ok(folder)
    }

    fn lower_folder(&self, path: &[u8]) -> Result<Option<super::view::Node>> {
        let Some(lower) = self.lower else { return Ok(None) };
        Ok(lower.node(path)?.filter(super::view::Node::is_folder))
    }

    /// Removes what the fork itself has in a place.
    fn remove(&mut self, folder: &Rc<OwnedFd>, name: &[u8]) -> Result<()> {
        let action = || "remove what was there before";
        match rustix::fs::unlinkat(&**folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error).cannot(action),
        }
        self.folders.forget();
        let beside = self.files.with_extension(format!("removed-{}", self.removed));
        self.removed += 1;
        rustix::fs::renameat(&**folder, name, rustix::fs::CWD, &beside).cannot(action)?;
        remove_tree(&beside).cannot(action)
    }

    fn finish(mut self) -> Result<()> {
        let action = || "finish the folders of a root file system";
        self.folders.forget();
        for (path, times) in &self.times {
            match self.folders.get(path) {
                Ok(folder) => rustix::fs::futimens(&*folder, times).cannot(action)?,
                // Something of the tree has replaced it.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error).cannot(action),
            }
        }
        self.folders.forget();
        for (path, mode) in self.modes.iter().rev().filter(|(_, mode)| *mode & OWNERS != OWNERS) {
            let folder = self.folders.get(path).cannot(action)?;
            self.keeper.close(&*folder, *mode).cannot(action)?;
        }
        Ok(())
    }
}

fn create(folder: &Rc<OwnedFd>, name: &[u8]) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&**folder, name, flags, Mode::from(0o600));
    file.cannot(|| "make it").map(File::from)
}

fn times_of(stat: &Stat) -> Timestamps {
    let mut times = super::seconds(stat.st_mtime);
    times.last_modification.tv_nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    times
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
