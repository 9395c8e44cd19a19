//! Writable root file systems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use super::attributes::{Attributes, Keeper, Target};
use super::changes::Diff;
use super::gather::gather;
use super::inspect::LayerDir;
use super::record::Snapshot;
use super::working::{self, Working};
use super::{KeptLayer, LINKED, Link, OwnerStorage, Rootfs, apply, as_path, copy, unpack};
use crate::error::{Cannot as _, Result};
use crate::layer::{Entry, EntryKind, Tree, TreePath};
use crate::sandbox::{Root, Stub};
use crate::store::{FolderInfo, ScratchFolder, remove_tree};

/// The folder of the files of a fork and of a layer, in theirs.
const FILES: &str = "fs";

/// A writable root file system in the making, over a [`Rootfs`]. Dropped, it vanishes.
pub struct Fork {
    below: Rootfs,
    storage: OwnerStorage,
    scratch: ScratchFolder,
    form: Form,
}

/// What the files of a fork are.
enum Form {
    /// The upper folder of an overlay.
    Upper,
    /// Everything.
    Whole(Whole),
}

/// A folder with everything in it.
struct Whole {
    /// What it looked like when it was made.
    snapshot: Snapshot,
    keeping: Keeping,
}

/// What is kept of a folder with everything in it.
enum Keeping {
    /// The whole.
    Whole,
    /// The changes; the rest goes back to the store, with what was touched in it.
    Changes(OnceLock<Vec<Vec<u8>>>),
}

impl Fork {
    pub(super) fn new(below: &Rootfs) -> Result<Self> {
        let storage = OwnerStorage::of(below.isolation);
        let scratch = below.store.scratch_folder()?;
        let files = scratch.path().join(FILES);
        let view = below.view()?;
        let root = view.node(b"")?;
        match (&root, below.isolation.has_overlay()) {
            (Some(root), false) => {
                copy::copy(root, &files, storage, copy::Contents::Copied)?;
            }
            (root, has_overlay) => {
                let entry = root.as_ref().map(super::view::Node::entry).transpose()?.flatten();
                make_upper(&files, storage, &entry.unwrap_or_else(|| Entry::directory(0o755)))?;
                if has_overlay {
                    let work = scratch.path().join("work");
                    fs_err::create_dir(work).cannot(|| "make a root file system")?;
                    return Ok(Self { below: below.clone(), storage, scratch, form: Form::Upper });
                }
            }
        }
        let record = tempfile::tempfile_in(scratch.path());
        let record = record.cannot(|| "remember what a copy looks like")?;
        let snapshot = Snapshot::take(&LayerDir::open(files, storage)?, record)?;
        let form = Form::Whole(Whole { snapshot, keeping: Keeping::Whole });
        Ok(Self { below: below.clone(), storage, scratch, form })
    }

    /// In a working tree, where that is better than what [`Fork::new`] does.
    pub(super) fn in_place(below: &Rootfs) -> Result<Self> {
        let storage = OwnerStorage::of(below.isolation);
        if !working::serves(below.isolation)
            || below.layers.is_empty()
            || !working::can_hide(&below.store, storage)?
        {
            return Self::new(below);
        }
        let Working { scratch, snapshot, can_return } = working::open(below, storage)?;
        let keeping = if can_return { Keeping::Changes(OnceLock::new()) } else { Keeping::Whole };
        let form = Form::Whole(Whole { snapshot, keeping });
        Ok(Self { below: below.clone(), storage, scratch, form })
    }

    /// To write a tree to, and not for programs: the upper folder alone, where a layer can say what it
    /// hides.
    pub(super) fn unmounted(below: &Rootfs) -> Result<Self> {
        let storage = OwnerStorage::of(below.isolation);
        if below.isolation.has_overlay() || !working::can_hide(&below.store, storage)? {
            return Self::new(below);
        }
        let scratch = below.store.scratch_folder()?;
        let root = below.view()?.node(b"")?;
        let entry = root.as_ref().map(super::view::Node::entry).transpose()?.flatten();
        let entry = entry.unwrap_or_else(|| Entry::directory(0o755));
        make_upper(&scratch.path().join(FILES), storage, &entry)?;
        Ok(Self { below: below.clone(), storage, scratch, form: Form::Upper })
    }

    /// What to run a sandbox on. The store syncs nothing that can be made again, so neither is this.
    pub fn root(&self) -> Root {
        match self.form {
            Form::Upper => {
                let work = self.scratch.path().join("work");
                Root::overlay(self.below.layers(), self.files(), work).volatile()
            }
            Form::Whole(_) => Root::Folder(self.files()),
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
        match &self.form {
            Form::Upper => difference.of_upper(),
            Form::Whole(Whole { snapshot, keeping }) => {
                let (tree, found) = difference.of_copy(snapshot, stubs)?;
                if let Keeping::Changes(touched) = keeping {
                    // Whoever asks again finds no more than that.
                    touched.get_or_init(|| found);
                }
                Ok(tree)
            }
        }
    }

    /// Writes a tree without a sandbox: over what is there, with whiteouts.
    ///
    /// Paths are real ones, with no symbolic link on the way. Folders that the tree does not have keep
    /// their attributes and times, and are made with mode 0755 where there are none.
    pub fn apply(&self, tree: &Tree) -> Result<()> {
        let lower = match self.form {
            Form::Upper => Some(self.below.view()?),
            Form::Whole(_) => None,
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
        let below = match self.form {
            Form::Upper => Some(self.below.view()?),
            Form::Whole(_) => None,
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
        match &self.form {
            Form::Whole(Whole { keeping: Keeping::Changes(_), .. }) => {
                if let Some(changes) = changes {
                    self.keep_changes(changes)
                } else {
                    let changes = self.changes(&[])?;
                    self.keep_changes(&changes)
                }
            }
            Form::Whole(_) => {
                KeptLayer::mark_hiding(self.scratch.path())?;
                self.keep_folder(None)
            }
            Form::Upper => self.keep_folder(changes),
        }
    }

    /// Makes the fork's folder a layer.
    fn keep_folder(self, changes: Option<&Tree>) -> Result<(Rootfs, String)> {
        let Self { below, storage, scratch, form } = self;
        let work = scratch.path().join("work");
        remove_tree(&work).cannot(|| "keep a root file system")?;
        let bytes = match changes {
            Some(changes) => changes.iter().map(|(_, entry)| length(&entry)).sum(),
            None => lengths(&scratch.path().join(FILES)).cannot(|| "measure a layer")?,
        };
        let needs = match form {
            Form::Upper => below.keys(),
            Form::Whole(_) => Vec::new(),
        };
        below.keep_layer(scratch, storage, &FolderInfo { bytes, needs })
    }

    /// Makes the changes a layer, and gives the working tree back.
    fn keep_changes(self, changes: &Tree) -> Result<(Rootfs, String)> {
        let Self { below, storage, scratch, form } = self;
        let layer = below.store.scratch_folder()?;
        let (from, files) = (scratch.path().join(FILES), layer.path().join(FILES));
        let layer_dir = LayerDir::open(from.clone(), storage)?;
        let root = layer_dir.look(b"")?.map(|stat| layer_dir.entry(b"", &stat)).transpose()?;
        let root = root.flatten().unwrap_or_else(|| Entry::directory(0o755));
        make_upper(&files, storage, &root)?;
        gather(changes, (&from, &files), storage, &below.view()?)?;
        set_times(&files, &root)?;
        let bytes = changes.iter().map(|(_, entry)| length(&entry)).sum();
        let info = FolderInfo { bytes, needs: below.keys() };
        let kept = below.clone().keep_layer(layer, storage, &info)?;
        let Form::Whole(Whole { keeping: Keeping::Changes(touched), .. }) = form else {
            return Ok(kept);
        };
        // Without the tree the next step copies its files: that is no reason to fail.
        let _ = working::give_back(scratch, &below, touched.get().map(Vec::as_slice));
        Ok(kept)
    }

    /// Lets everything go that a program has done, which came to its end: a working tree is of use again.
    pub fn give_up(self) {
        if let Form::Whole(Whole { keeping: Keeping::Changes(_), .. }) = self.form {
            // Without the tree the next step copies its files.
            let _ = working::give_back(self.scratch, &self.below, None);
        }
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
        Ok(match self.form {
            Form::Upper => Root::overlay(self.below.layers(), files, folder.join("work")),
            Form::Whole(_) => Root::Folder(files),
        })
    }

    fn files(&self) -> PathBuf {
        self.scratch.path().join(FILES)
    }
}

/// Makes the upper folder of an overlay, which is what the merged root looks like.
fn make_upper(files: &Path, storage: OwnerStorage, root: &Entry) -> Result<()> {
    unpack::make_layer_folder(files)?;
    let folder = fs_err::File::open(files).cannot(|| "make a root file system")?;
    let attributes = Attributes::of_entry(root);
    Keeper::new(files, storage).set(&folder, b"", &attributes, Target::Folder)?;
    set_times(files, root)
}

fn set_times(folder: &Path, entry: &Entry) -> Result<()> {
    let action = || "make a root file system";
    let folder = fs_err::File::open(folder).cannot(action)?;
    rustix::fs::futimens(&folder, &Attributes::of_entry(entry).times()).cannot(action)
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
