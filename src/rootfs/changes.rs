//! What was written to a fork, as a tree.
//!
//! In an overlay the upper folder has it, in the kernel's form. A copy is compared with what it was, see
//! [`super::record`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat, Timespec, Timestamps, UTIME_OMIT};

use super::inspect::LayerDir;
use super::record::{Snapshot, is_folder, join, nanoseconds};
use super::view::{Links, View};
use super::{LINKED, OwnerStorage, as_path, marks};
use crate::error::{Cannot as _, Error, Result};
use crate::layer::{Entry, EntryKind, Tree, TreePath};
use crate::sandbox::owner::{Owner, SideTable};
use crate::sandbox::{Isolation, Stub};

/// Two times that one system call set may differ by a tick of the clock.
const TICK_NANOSECONDS: i128 = 20_000_000;

/// The files of a fork over what they were made from.
pub(super) struct Diff {
    layer_dir: LayerDir,
    lower: View,
}

impl Diff {
    pub(super) fn new(layer_dir: LayerDir, lower: View) -> Self {
        Self { layer_dir, lower }
    }

    /// Takes out what was made to mount on and is still empty.
    pub(super) fn remove_stubs(&self, stubs: &[Stub], isolation: Isolation) -> Result<()> {
        let mut parents: Vec<Parent> = Vec::new();
        // Looked at before anything goes: removing what is inside a stub changes the stub's time.
        let stubs = stubs.iter().rev().filter(|stub| !stub.put_back);
        let looked: Vec<_> = stubs.map(|stub| (stub, self.look_at(stub))).collect();
        // What is inside another stub comes after it.
        for (stub, stats) in looked {
            let Some(stats) = stats else { continue };
            self.remove_stub(stub, stats, &mut parents)
                .cannot(|| format!("remove {}, which was mounted on", stub.path.display()))?;
        }
        // The outermost last: their times change when what is in them goes.
        parents.sort_by(|a, b| b.path.cmp(&a.path));
        for parent in parents {
            self.restore(&parent).cannot(|| "restore the time of a folder")?;
            if isolation.has_overlay() {
                self.forget_unchanged(&parent.path)?;
            }
        }
        Ok(())
    }

    /// A stub and the folder that it is in, unless it is gone.
    fn look_at(&self, stub: &Stub) -> Option<(Stat, Stat)> {
        let stat = rustix::fs::lstat(self.layer_dir.folder.join(&stub.path)).ok()?;
        let folder = stub.path.parent().unwrap_or(Path::new(""));
        Some((stat, rustix::fs::lstat(self.layer_dir.folder.join(folder)).ok()?))
    }

    fn remove_stub(
        &self,
        stub: &Stub,
        (stat, holder): (Stat, Stat),
        parents: &mut Vec<Parent>,
    ) -> io::Result<()> {
        let (path, file) =
            (stub.path.as_os_str().as_bytes(), self.layer_dir.folder.join(&stub.path));
        let folder = stub.path.parent().unwrap_or(Path::new("")).to_owned();
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rustix::fs::rmdir(&file).is_ok(),
            FileType::RegularFile if stat.st_size == 0 => {
                let is_stub = !self.layer_dir.hides(path, &stat).map_err(io::Error::other)?;
                is_stub && rustix::fs::unlink(&file).is_ok()
            }
            FileType::Symlink => is_ours(&file)? && rustix::fs::unlink(&file).is_ok(),
            FileType::CharacterDevice if !marks::is_whiteout_device(&stat) => {
                rustix::fs::unlink(&file).is_ok()
            }
            _ => false,
        };
        if !removed {
            return Ok(());
        }
        let made = nanoseconds(stat.st_mtime, stat.st_mtime_nsec);
        let found = nanoseconds(holder.st_mtime, holder.st_mtime_nsec);
        let before = nanoseconds(stub.parent_seconds, u64::from(stub.parent_nanoseconds));
        match parents.iter_mut().find(|parent| parent.path == folder) {
            Some(parent) => {
                parent.last_stub = parent.last_stub.max(made);
                parent.before = parent.before.min(before);
            }
            None => parents.push(Parent { path: folder, found, last_stub: made, before }),
        }
        Ok(())
    }

    /// Gives a folder the time that it had before the stubs, or the later one that the step gave it.
    fn restore(&self, parent: &Parent) -> io::Result<()> {
        let file = self.layer_dir.folder.join(&parent.path);
        // It was a stub itself, and is gone.
        if fs_err::symlink_metadata(&file).is_err() {
            return Ok(());
        }
        let late = parent.found > parent.last_stub + TICK_NANOSECONDS;
        let written = late || self.has_later(parent)?;
        let time = if written { parent.found } else { parent.before };
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: i64::try_from(time.div_euclid(1_000_000_000)).unwrap_or(0),
                tv_nsec: i64::try_from(time.rem_euclid(1_000_000_000)).unwrap_or(0),
            },
        };
        rustix::fs::utimensat(CWD, &file, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Whether a folder has something that was touched after the last stub was made in it.
    fn has_later(&self, parent: &Parent) -> io::Result<bool> {
        let path = parent.path.as_os_str().as_bytes();
        for name in self.layer_dir.names(path).map_err(io::Error::other)? {
            let stat = self.layer_dir.look(&join(path, &name)).map_err(io::Error::other)?;
            let touched = |stat: &Stat| nanoseconds(stat.st_ctime, stat.st_ctime_nsec);
            // Folders change when stubs are removed from them.
            if stat.is_some_and(|stat| !is_folder(&stat) && touched(&stat) > parent.last_stub) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes folders from the upper one that came there with a stub alone.
    fn forget_unchanged(&self, path: &Path) -> Result<()> {
        let mut path = path.to_owned();
        while !path.as_os_str().is_empty() {
            let bytes = path.as_os_str().as_bytes();
            let Some(stat) = self.layer_dir.look(bytes)? else { return Ok(()) };
            let upper = self.layer_dir.entry(bytes, &stat)?;
            let lower = self.lower.node(bytes)?.map(|node| node.entry()).transpose()?.flatten();
            if upper != lower
                || upper.is_none_or(|entry| !entry.is_directory())
                || self.layer_dir.is_opaque(bytes)?
                || rustix::fs::rmdir(self.layer_dir.at(bytes)).is_err()
            {
                return Ok(());
            }
            let parent = path.parent().unwrap_or(Path::new("")).to_owned();
            // Removing it changed the time of the folder that it was in.
            if let Some(node) = self.lower.node(parent.as_os_str().as_bytes())? {
                let there = self.layer_dir.look(parent.as_os_str().as_bytes())?;
                if there.is_some() && !parent.as_os_str().is_empty() {
                    let times = super::seconds(node.stat.st_mtime);
                    let place = self.layer_dir.folder.join(&parent);
                    rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)
                        .cannot(|| "restore the time of a folder")?;
                }
            }
            path = parent;
        }
        Ok(())
    }

    /// What the upper folder of an overlay holds.
    pub(super) fn of_upper(&self) -> Result<Tree> {
        let (mut tree, mut links) = (Tree::new(), Links::default());
        let mut pending = vec![Vec::new()];
        while let Some(folder) = pending.pop() {
            for name in self.layer_dir.names(&folder)? {
                let bytes = join(&folder, &name);
                let Some(stat) = self.layer_dir.look(&bytes)? else { continue };
                let path = TreePath::new(bytes)?;
                // Several whiteouts may be one file.
                if self.layer_dir.hides(path.as_bytes(), &stat)? {
                    tree.insert_whiteout(&path, stat.st_mtime)?;
                    continue;
                }
                let Some(entry) = self.entry(&path, &stat)? else { continue };
                let is_folder = entry.is_directory();
                tree.insert(path.clone(), links.entry(&path, entry, &stat))?;
                if is_folder {
                    if self.layer_dir.is_opaque(path.as_bytes())? && self.covers_folder(&path)? {
                        tree.insert_opaque(Some(&path), stat.st_mtime)?;
                    }
                    pending.push(path.as_bytes().to_vec());
                }
            }
        }
        in_order(tree)
    }

    /// Whether lower layers have a folder at a path.
    fn covers_folder(&self, path: &TreePath) -> Result<bool> {
        Ok(self.lower.node(path.as_bytes())?.is_some_and(|node| node.is_folder()))
    }

    fn entry(&self, path: &TreePath, stat: &Stat) -> Result<Option<Entry>> {
        let Some(mut entry) = self.layer_dir.entry(path.as_bytes(), stat)? else { return Ok(None) };
        // The kernel copies a link up without the owner that is recorded of it.
        if let EntryKind::Symlink(target) = &entry.kind
            && self.layer_dir.storage == OwnerStorage::Recorded
            && self.layer_dir.owners.get(as_path(path.as_bytes())).is_none()
            && let Some(node) = self.lower.node(path.as_bytes())?
            && let Some(lower) = node.entry()?
            && matches!(&lower.kind, EntryKind::Symlink(other) if other == target)
        {
            (entry.uid, entry.gid) = (lower.uid, lower.gid);
        }
        Ok(Some(entry))
    }

    /// How a copy differs from what it was, and everything that was touched in it, also where that left
    /// no difference.
    pub(super) fn of_copy(
        &self,
        snapshot: &Snapshot,
        stubs: &[Stub],
    ) -> Result<(Tree, Vec<Vec<u8>>)> {
        let (mut tree, mut links) = (Tree::new(), Links::default());
        let mut touched = Vec::new();
        let fresh = snapshot.later_owners(&self.layer_dir.folder)?;
        let put_back = stubs.iter().filter(|stub| stub.put_back);
        let put_back: BTreeSet<&[u8]> =
            put_back.map(|stub| stub.path.as_os_str().as_bytes()).collect();
        snapshot.compare(&self.layer_dir, &mut |met| {
            if met.is_touched() {
                touched.push(met.path.to_vec());
            }
            if !met.is_changed() {
                return Ok(());
            }
            let Some(stat) = met.stat else { return self.note_removed(&mut tree, met.path) };
            // Only its place was another one for a while.
            if !met.is_another() && !is_folder(stat) && put_back.contains(met.path) {
                return Ok(());
            }
            let path = TreePath::new(met.path)?;
            if let Some(mut entry) = self.entry(&path, stat)? {
                let is_new = met.is_another();
                if is_new && !matches!(entry.kind, EntryKind::File(_) | EntryKind::Directory) {
                    // A line about what was there before says nothing of it.
                    self.forget_owner(&path, &fresh, &mut entry);
                }
                self.insert_with_parents(&mut tree, &path)?;
                tree.insert(path.clone(), links.entry(&path, entry, stat))?;
            }
            Ok(())
        })?;
        Ok((in_order(tree)?, touched))
    }

    /// Takes back what an entry has from a line of the side table that is older than it is.
    fn forget_owner(&self, path: &TreePath, fresh: &SideTable, entry: &mut Entry) {
        let place = as_path(path.as_bytes());
        if self.layer_dir.storage == OwnerStorage::Recorded
            && self.layer_dir.owners.get(place).is_some()
            && fresh.get(place).is_none()
        {
            (entry.uid, entry.gid) = (Owner::ROOT.uid, Owner::ROOT.gid);
        }
    }

    /// Something is gone, unless the folder that it was in is.
    fn note_removed(&self, tree: &mut Tree, path: &[u8]) -> Result<()> {
        let path = TreePath::new(path)?;
        let parent = path.parent();
        let holder = self.layer_dir.look(parent.as_ref().map_or(b"", TreePath::as_bytes))?;
        let Some(holder) = holder.filter(is_folder) else { return Ok(()) };
        self.insert_with_parents(tree, &path)?;
        tree.insert_whiteout(&path, holder.st_mtime)
    }

    /// Puts the folders above a path into the tree: Docker has them in a layer, too.
    fn insert_with_parents(&self, tree: &mut Tree, path: &TreePath) -> Result<()> {
        let mut parent = path.parent();
        while let Some(folder) = parent.filter(|folder| !tree.contains(folder)) {
            if let Some(stat) = self.layer_dir.look(folder.as_bytes())?
                && let Some(entry) = self.entry(&folder, &stat)?
            {
                tree.insert(folder.clone(), entry)?;
            }
            parent = folder.parent();
        }
        Ok(())
    }
}

/// A folder from which stubs were removed; times are in nanoseconds.
struct Parent {
    path: PathBuf,
    found: i128,
    last_stub: i128,
    before: i128,
}

/// Whether a symbolic link leads to what is mounted for a step, and not elsewhere.
fn is_ours(link: &Path) -> io::Result<bool> {
    let target = rustix::fs::readlink(link, Vec::new())?;
    let inside = target.as_bytes().strip_prefix(LINKED.as_bytes());
    Ok(inside.is_some_and(|rest| rest.starts_with(b"/")))
}

/// The first name of a file, in the order of the archive, becomes the file and its other names links to
/// that, whichever of them the walk met first.
fn in_order(tree: Tree) -> Result<Tree> {
    // The name that is first, by the one that was met first.
    let mut moved: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    // They come in order: the first link to a target is the lowest.
    for (path, target) in tree.hard_links() {
        if path < target {
            moved.entry(target).or_insert(path);
        }
    }
    if moved.is_empty() {
        return Ok(tree);
    }
    let mut ordered = Tree::new();
    for (path, mut entry) in &tree {
        let met = match &entry.kind {
            EntryKind::HardLink(target) => target,
            _ => &path,
        };
        if let Some(first) = moved.get(met) {
            entry = if *first == path {
                tree.get(met).ok_or_else(|| broken(&path))?
            } else {
                Entry::hard_link(first.clone(), &entry)
            };
        }
        ordered.insert(path, entry)?;
    }
    Ok(ordered)
}

fn broken(path: &TreePath) -> Error {
    Error::new(crate::error::ErrorKind::Invalid, format!("read {path}"))
        .because("its hard link leads nowhere")
}
