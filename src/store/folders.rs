//! Folders: unpacked content, found by a kind and a key like records, and made like blobs.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::file_lock::Lock;
use super::lock::ProcessFolder;
use super::{Store, StorePlace, absent_as_none, touch};
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// The file in a kept folder that says how many bytes all of it takes.
const BYTES: &str = "bytes";
/// The file in a kept folder that names, a line each, the folders of its kind that it needs.
const NEEDS: &str = "needs";
/// What keys that nobody can compute again begin with. Pruning keeps such a folder for as long as a
/// record mentions its key.
const STEP: &str = "step-";
const STEP_DIGITS: usize = 24;
/// What keys of folders begin with that are found by what is in them.
const TREE: &str = "tree-";
/// How many locks the keys of folders share.
const LOCKS: u8 = 64;

/// A folder in the making, on the store's file system. Dropped without [`Store::keep_folder`], it
/// is gone at once, and its files are deleted when there is time.
#[derive(Debug)]
pub struct ScratchFolder {
    path: Option<PathBuf>,
    held: Arc<ProcessFolder>,
}

impl ScratchFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("set until the folder is kept")
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            self.held.discard(path);
        }
    }
}

/// What the store needs to know of a folder that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderInfo {
    /// The lengths of its files.
    pub bytes: u64,
    /// The keys of folders of the same kind that are useless without it, or it without them.
    pub needs: Vec<String>,
}

/// Held by whoever makes folders of certain keys, so that nobody does the same work meanwhile.
#[derive(Debug)]
pub struct FolderLocks(#[expect(dead_code, reason = "kept for its drop")] Vec<Lock>);

/// A kept folder, as the collector sees it.
pub(super) struct KeptFolder {
    pub(super) path: PathBuf,
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
    pub(super) needs: Vec<String>,
}

impl KeptFolder {
    /// Whether it has a random key, which nobody can compute again.
    pub(super) fn is_step(&self) -> bool {
        is_step_folder(&self.key)
    }
}

impl Store {
    /// Makes an empty folder of this process's own.
    pub fn scratch_folder(&self) -> Result<ScratchFolder> {
        let held = self.held()?;
        let path = held.create_folder().map_err(|error| self.cannot_write(error))?;
        Ok(ScratchFolder { path: Some(path), held })
    }

    /// A key that no other folder has or had. Some record must mention it.
    pub fn fresh_folder_key(&self, scratch: &ScratchFolder) -> String {
        // The process's folder has a random name.
        let name = blake3::hash(scratch.path().as_os_str().as_encoded_bytes()).to_hex();
        format!("{STEP}{}", &name[..STEP_DIGITS])
    }

    /// The folder of this kind and key, where it is here. Marks it as used.
    ///
    /// Kinds and keys are words of letters, digits, dashes and underscores.
    pub fn kept_folder(&self, kind: &str, key: &str) -> Result<Option<PathBuf>> {
        let path = self.folder_path(kind, key)?;
        let found = self.mark_used(&path)?.filter(std::fs::Metadata::is_dir).map(|_| path);
        match (found, self.below()) {
            (None, Some(below)) => below.kept_folder(kind, key),
            (found, _) => Ok(found),
        }
    }

    /// Moves a finished folder to its place and answers where that is. Where another process was
    /// faster its folder stays.
    pub fn keep_folder(
        &self,
        mut scratch: ScratchFolder,
        (kind, key): (&str, &str),
        info: &FolderInfo,
    ) -> Result<PathBuf> {
        let target = self.folder_path(kind, key)?;
        self.make_folder(target.parent().expect("a folder is in its kind's folder"))?;
        let mut place = || -> io::Result<()> {
            let path = scratch.path().to_owned();
            fs_err::write(path.join(BYTES), info.bytes.to_string())?;
            if !info.needs.is_empty() {
                fs_err::write(path.join(NEEDS), info.needs.join("\n"))?;
            }
            touch(&path, scratch.held.began())?;
            let _lock = Lock::shared(&self.collect_lock())?;
            match rustix::fs::renameat_with(CWD, &path, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => scratch.path = None,
                Err(Errno::EXIST) => {
                    touch(&target, scratch.held.began())?;
                }
                // A file system that knows no flags.
                Err(_) if !target.exists() => {
                    fs_err::rename(&path, &target)?;
                    scratch.path = None;
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        };
        place().map_err(|error| self.cannot_write(error))?;
        Ok(target)
    }

    /// Takes the locks of `keys` if nobody else holds one of them.
    ///
    /// Keys share locks: whoever holds some must not ask for more.
    pub fn try_lock_folders<'a>(
        &self,
        kind: &str,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<FolderLocks>> {
        let slot = |key: &str| blake3::hash(format!("{kind}/{key}").as_bytes()).as_bytes()[0];
        let slots: BTreeSet<u8> = keys.into_iter().map(|key| slot(key) % LOCKS).collect();
        let folder = self.place(StorePlace::Locks);
        self.make_folder(&folder)?;
        let mut locks = Vec::new();
        for slot in slots {
            let lock = Lock::try_exclusive(&folder.join(slot.to_string()));
            match lock.map_err(|error| self.cannot_write(error))? {
                Some(lock) => locks.push(lock),
                None => return Ok(None),
            }
        }
        Ok(Some(FolderLocks(locks)))
    }

    /// A key that no other folder has or had, for one that is found by what is in it.
    pub fn fresh_tree_key(&self, scratch: &ScratchFolder) -> String {
        self.fresh_folder_key(scratch).replacen(STEP, TREE, 1)
    }

    /// The folders of a kind that are kept in this store, whatever their keys, the last used first. Other
    /// processes may take or remove them meanwhile.
    pub fn kept_of_kind(&self, kind: &str) -> Result<Vec<PathBuf>> {
        let list = || -> io::Result<Vec<PathBuf>> {
            let folder = self.place(StorePlace::Unpacked).join(kind);
            let mut found = Vec::new();
            for entry in absent_as_none(fs_err::read_dir(folder))?.into_iter().flatten() {
                let path = entry?.path();
                if let Some(metadata) = absent_as_none(fs_err::symlink_metadata(&path))? {
                    found.push((std::cmp::Reverse(metadata.modified()?), path));
                }
            }
            found.sort();
            Ok(found.into_iter().map(|(_, path)| path).collect())
        };
        list().cannot(|| format!("look for folders in the store {}", self.display()))
    }

    /// Makes a kept folder this process's own; `None` where it is not there any more. Nobody else finds
    /// it from then on, and it goes with the process unless it is kept again.
    pub fn take_folder(&self, kept: &Path) -> Result<Option<ScratchFolder>> {
        let scratch = self.scratch_folder()?;
        match rustix::fs::rename(kept, scratch.path()) {
            Ok(()) => Ok(Some(scratch)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.cannot_write(error.into())),
        }
    }

    /// What a kept folder needs, see [`FolderInfo::needs`].
    pub fn folder_needs(&self, folder: &Path) -> Result<Vec<String>> {
        needs(folder).map_err(|error| {
            let action = format!("read what {} needs", folder.display());
            Error::new(ErrorKind::Io, action).caused_by(error)
        })
    }

    /// Keeps folders of this store from being pruned for as long as `container` is there, a folder in
    /// the store's folder of containers. They must be in use meanwhile.
    pub fn keep_for_container(&self, container: &Path, folders: &[PathBuf]) -> Result<()> {
        let all = self.place(StorePlace::Unpacked);
        let relative = folders.iter().filter_map(|folder| folder.strip_prefix(&all).ok()?.to_str());
        let text: Vec<&str> = relative.collect();
        fs_err::write(container.join(NEEDS), text.join("\n"))
            .map_err(|error| self.cannot_write(error))
    }

    fn folder_path(&self, kind: &str, key: &str) -> Result<PathBuf> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if [kind, key].iter().any(|text| text.is_empty() || !text.bytes().all(word)) {
            let action = format!("keep a folder as \"{kind}/{key}\"");
            return Err(Error::new(ErrorKind::Invalid, action)
                .because("expected letters, digits, dashes and underscores"));
        }
        Ok(self.place(StorePlace::Unpacked).join(kind).join(key))
    }
}

/// Every kept folder.
pub(super) fn kept_folders(store: &Store) -> io::Result<Vec<KeptFolder>> {
    let mut found = Vec::new();
    for kind in
        absent_as_none(fs_err::read_dir(store.place(StorePlace::Unpacked)))?.into_iter().flatten()
    {
        for entry in absent_as_none(fs_err::read_dir(kind?.path()))?.into_iter().flatten() {
            let path = entry?.path();
            let metadata = absent_as_none(fs_err::symlink_metadata(&path))?;
            let Some(metadata) = metadata.filter(std::fs::Metadata::is_dir) else { continue };
            found.push(KeptFolder {
                key: entry_name(&path),
                bytes: unpacked_bytes(&path),
                used: metadata.modified()?,
                needs: needs(&path)?,
                path,
            });
        }
    }
    Ok(found)
}

/// How many bytes a kept folder takes, as that was counted when it was made.
pub fn unpacked_bytes(folder: &Path) -> u64 {
    let text = fs_err::read_to_string(folder.join(BYTES)).unwrap_or_default();
    text.parse().unwrap_or(0)
}

/// The kept folders that containers need: the file [`NEEDS`] in a container's folder names them, a line
/// each as `kind/key`.
pub(super) fn needed_by_containers(store: &Store) -> io::Result<BTreeSet<PathBuf>> {
    let mut needed = BTreeSet::new();
    for entry in
        absent_as_none(fs_err::read_dir(store.place(StorePlace::Containers)))?.into_iter().flatten()
    {
        // Files among them have no such file in them, and nor has one that is removed meanwhile.
        let listed = needs(&entry?.path()).unwrap_or_default();
        needed
            .extend(listed.iter().map(|relative| store.place(StorePlace::Unpacked).join(relative)));
    }
    Ok(needed)
}

fn needs(folder: &Path) -> io::Result<Vec<String>> {
    let text = absent_as_none(fs_err::read_to_string(folder.join(NEEDS)))?.unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// The fresh keys that a text mentions.
pub(super) fn steps_in(text: &str) -> Vec<String> {
    let starts = text.match_indices(STEP).map(|(start, _)| start);
    let keys = starts.filter_map(|start| text.get(start..start + STEP.len() + STEP_DIGITS));
    keys.map(str::to_owned).collect()
}

/// Whether a key of a folder is one that nobody can compute again: a step's changes.
pub fn is_step_folder(key: &str) -> bool {
    key.starts_with(STEP)
}

fn entry_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
