//! Writable root file systems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use super::attributes::{Attributes, Keeper, Target};
use super::changes::{Diff, Snapshot};
use super::inspect::LayerDir;
use super::{KeptLayer, LINKED, Link, OwnerStorage, Rootfs, apply, as_path, copy, unpack};
use crate::error::{Cannot as _, Result};
use crate::layer::{Entry, EntryKind, Tree, TreePath};
use crate::sandbox::{Root, Stub};
use crate::store::{FolderInfo, ScratchFolder, remove_tree};

/// A writable root file system in the making, over a [`Rootfs`]. Dropped, it vanishes.
pub struct Fork {
    below: Rootfs,
    storage: OwnerStorage,
    scratch: ScratchFolder,
    /// What the copy looked like when it was made; `None` for an overlay.
    snapshot: Option<Snapshot>,
}

impl Fork {
    pub(super) fn new(below: &Rootfs) -> Result<Self> {
        let storage = OwnerStorage::of(below.isolation);
        let scratch = below.store.scratch_folder()?;
        let files = scratch.path().join("fs");
        let view = below.view()?;
        let root = view.node(b"")?;
        let snapshot = match (&root, below.isolation.has_overlay()) {
            (Some(root), false) => {
                copy::copy(root, &files, storage, copy::Contents::Copied)?;
                Some(Snapshot::take(&files, storage, scratch.path())?)
            }
            (root, has_overlay) => {
                let entry = root.as_ref().map(super::view::Node::entry).transpose()?.flatten();
                make_upper(&files, storage, &entry.unwrap_or_else(|| Entry::directory(0o755)))?;
                if has_overlay {
                    let work = scratch.path().join("work");
                    fs_err::create_dir(work).cannot(|| "make a root file system")?;
                    None
                } else {
                    Some(Snapshot::take(&files, storage, scratch.path())?)
                }
            }
        };
        Ok(Self { below: below.clone(), storage, scratch, snapshot })
    }

    /// What to run a sandbox on. The store syncs nothing that can be made again, so neither is this.
    pub fn root(&self) -> Root {
        match self.snapshot {
            None => {
                let work = self.scratch.path().join("work");
                Root::overlay(self.below.layers(), self.files(), work).volatile()
            }
            Some(_) => Root::Folder(self.files()),
        }
    }

    /// What was written since the fork, as Docker would see it: whiteouts, opaque folders, hard links,
    /// extended attributes, capabilities, owners.
    ///
    /// `stubs` are taken out where they are still empty, and their folders get their old times.
    /// Nothing may run on the fork meanwhile. The tree's contents are read from the fork's files.
    pub fn changes(&self, stubs: &[Stub]) -> Result<Tree> {
        let layer_dir = LayerDir::open(self.files(), self.storage)?;
        let difference = Diff::new(layer_dir, self.below.view()?);
        difference.remove_stubs(stubs, self.below.isolation)?;
        match &self.snapshot {
            None => difference.of_upper(),
            Some(snapshot) => difference.of_copy(snapshot, stubs),
        }
    }

    /// Writes a tree without a sandbox: over what is there, with whiteouts.
    ///
    /// Paths are real ones, with no symbolic link on the way. Folders that the tree does not have keep
    /// their attributes and times, and are made with mode 0755 where there are none.
    pub fn apply(&self, tree: &Tree) -> Result<()> {
        let lower = match self.snapshot {
            None => Some(self.below.view()?),
            Some(_) => None,
        };
        apply::apply(tree, &self.files(), self.storage, lower.as_ref())
    }

    /// Makes symbolic links to what a sandbox mounts, in folders that are made where there are none.
    /// Unlike what is mounted on, a program can remove them.
    ///
    /// Answers what [`Fork::changes`] shall take out again. Nothing may be at the links' paths, which
    /// are real ones.
    pub fn link(&self, links: &[Link]) -> Result<Vec<Stub>> {
        if links.is_empty() {
            return Ok(Vec::new());
        }
        let view = self.view()?;
        let (mut tree, mut made) = (Tree::new(), Vec::new());
        for link in links {
            let mut missing = Vec::new();
            let mut parent = link.path.parent();
            while let Some(folder) = parent.filter(|folder| !tree.contains(folder)) {
                if view.node(folder.as_bytes())?.is_some() {
                    break;
                }
                parent = folder.parent();
                missing.push(folder);
            }
            let folder = Entry::directory(0o755).owned_by(link.uid, link.gid);
            for path in missing.into_iter().rev() {
                tree.insert(path.clone(), folder.clone())?;
                made.push(path);
            }
            let target = format!("{LINKED}/{}", link.target);
            tree.insert(link.path.clone(), Entry::symlink(target))?;
            made.push(link.path.clone());
        }
        self.apply(&tree)?;
        made.iter().map(|path| self.stub(&view, path)).collect()
    }

    /// Notes something that was made just now.
    fn stub(&self, before: &super::View, path: &TreePath) -> Result<Stub> {
        let action = || format!("make /{path}");
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let place = self.files().join(as_path(path.as_bytes()));
        rustix::fs::utimensat(CWD, &place, &times, AtFlags::SYMLINK_NOFOLLOW).cannot(action)?;
        let parent = path.parent();
        let parent = parent.as_ref().map_or(&b""[..], TreePath::as_bytes);
        let stat = match before.node(parent)? {
            Some(node) => node.stat,
            // It was made for the link as well.
            None => rustix::fs::lstat(self.files().join(as_path(parent))).cannot(action)?,
        };
        Ok(Stub {
            path: as_path(path.as_bytes()).to_owned(),
            parent_seconds: stat.st_mtime,
            parent_nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            put_back: false,
        })
    }

    /// The merged files of the fork as they are now.
    pub fn view(&self) -> Result<super::View> {
        let layer_dir = std::sync::Arc::new(LayerDir::open(self.files(), self.storage)?);
        let below = match self.snapshot {
            None => Some(self.below.view()?),
            Some(_) => None,
        };
        Ok(super::View::over(layer_dir, below))
    }

    /// Makes the changes the top layer of a new root file system, moved into the store without
    /// copying. It is found again under its id by [`Unpacker::kept`](super::Unpacker::kept), until it is
    /// pruned; it is garbage unless a record of the store mentions the id.
    ///
    /// `changes` is what [`Fork::changes`] gave or [`Fork::apply`] took, where that is known: it saves
    /// a look at every file.
    pub fn keep(self, changes: Option<&Tree>) -> Result<(Rootfs, String)> {
        let Self { below, storage, scratch, snapshot } = self;
        let work = scratch.path().join("work");
        remove_tree(&work).cannot(|| "keep a root file system")?;
        if snapshot.is_some() {
            KeptLayer::mark_hiding(scratch.path())?;
        }
        let id = below.store.fresh_folder_key(&scratch);
        let needs = match snapshot {
            None => below.layers.iter().map(|layer| layer.key.clone()).collect(),
            Some(_) => Vec::new(),
        };
        let bytes = match changes.filter(|_| snapshot.is_none()) {
            Some(changes) => changes.iter().map(|(_, entry)| length(&entry)).sum(),
            None => lengths(&scratch.path().join("fs")).cannot(|| "measure a layer")?,
        };
        below.store.keep_folder(scratch, (storage.name(), &id), &FolderInfo { bytes, needs })?;
        let mut rootfs = below;
        rootfs.push(storage, &id)?;
        Ok((rootfs, id))
    }

    /// Moves the fork into `folder`, which outlives this process and is on the store's file system, and
    /// gives what to run a sandbox on there. Whoever keeps the folder must keep the layers below it in
    /// the store, too: see [`Rootfs::kept_folders`].
    pub fn move_to(self, folder: &Path) -> Result<Root> {
        for name in ["fs", "fs.owners", "work"] {
            let path = self.scratch.path().join(name);
            if path.exists() {
                fs_err::rename(path, folder.join(name)).cannot(|| "make a root file system")?;
            }
        }
        let files = folder.join("fs");
        Ok(match self.snapshot {
            None => Root::overlay(self.below.layers(), files, folder.join("work")),
            Some(_) => Root::Folder(files),
        })
    }

    fn files(&self) -> PathBuf {
        self.scratch.path().join("fs")
    }
}

/// Makes the upper folder of an overlay, which is what the merged root looks like.
fn make_upper(files: &Path, storage: OwnerStorage, root: &Entry) -> Result<()> {
    unpack::make_layer_folder(files)?;
    let folder = fs_err::File::open(files).cannot(|| "make a root file system")?;
    let attributes = Attributes::of_entry(root);
    Keeper::new(files, storage).set(&folder, b"", &attributes, Target::Folder)?;
    rustix::fs::futimens(&folder, &attributes.times()).cannot(|| "make a root file system")
}

/// The length of a file; nothing else has one.
fn length(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File(content) => content.size(),
        _ => 0,
    }
}

/// The lengths of the files of a folder. What cannot be looked into does not count.
fn lengths(folder: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut pending = vec![folder.to_owned()];
    let (mut bytes, mut seen) = (0, BTreeSet::new());
    while let Some(folder) = pending.pop() {
        let Ok(entries) = fs_err::read_dir(folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file()
                && (metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())))
            {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}
