//! Working trees: root file systems that steps are executed in, one after another, where nothing can be
//! mounted over layers.
//!
//! ```text
//! ROOT/gondola/rootfs/working/tree-<random>/
//!   fs/        the merged files of layers
//!   chain      the layers, by their keys, the base first, one a line
//!   record     what the files looked like when all of them were as the layers say
//!   loose      what was touched since, and may be otherwise; absent: nobody knows
//! ```
//!
//! Whoever uses a tree moves it into the folder of its own process and moves it back afterwards: so it has
//! one user, and what a process that was killed had in use goes with that process's folder. A second user
//! takes another tree, or makes one.
//!
//! Before a step, what differs between the layers that a tree has and those that it shall have is written
//! again, and so is everything that was touched since the record was made. Then all of it is compared with
//! the record: what is otherwise without a reason is written again as well, and a tree in which that does
//! not end is thrown away. After the step its changes are moved out, into a layer; the next use puts them in
//! again where it needs them. So the tree has what a fresh copy of the layers would have, always.
//!
//! Trees in which something is kept beside the files (a side table of owners) are not used again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::inspect::LayerDir;
use super::record::Snapshot;
use super::touched::Touched;
use super::transition::renew;
use super::view::View;
use super::{KeptLayer, OwnerStorage, Rootfs, copy, marks};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::sandbox::Isolation;
use crate::sandbox::owner::SideTable;
use crate::store::{FolderInfo, ScratchFolder, Store, remove_tree, unpacked_bytes};

/// The kind of the store's folders that are working trees.
const KIND: &str = "working";
const FILES: &str = "fs";
const CHAIN: &str = "chain";
const RECORD: &str = "record";
const LOOSE: &str = "loose";
/// As many trees stay that nobody uses.
const MOST_TREES: usize = 4;
/// How often what differs without a reason is written again before a tree is thrown away.
const ATTEMPTS: usize = 3;
/// As many paths may differ without a reason: to write more of them takes longer than a copy.
const MOST_STRANGE: usize = 4096;

/// A tree in use: its folder, what its files looked like, and whether it may go back to the store.
pub(super) struct Working {
    pub(super) scratch: ScratchFolder,
    pub(super) snapshot: Snapshot,
    pub(super) can_return: bool,
}

/// Whether steps on an isolation are executed in working trees.
///
/// Where owners are recorded, files change when they are read: their times tell nothing.
pub(super) fn serves(isolation: Isolation) -> bool {
    isolation == Isolation::InContainer
}

/// Whether a layer that is made here can hide what lower ones have.
pub(super) fn can_hide(store: &Store, storage: OwnerStorage) -> Result<bool> {
    let scratch = store.scratch_folder()?;
    let folder = fs_err::File::open(scratch.path()).cannot(|| "try a whiteout")?;
    let hides = marks::make_whiteout(&folder, b"x", &folder, storage);
    Ok(hides.and_then(|()| marks::set_opaque(&folder, storage)).is_ok())
}

/// Takes the tree of the store that is nearest to a root file system, and makes it that; or makes one.
pub(super) fn open(rootfs: &Rootfs, storage: OwnerStorage) -> Result<Working> {
    let store = &rootfs.store;
    let view = rootfs.view()?;
    for place in nearest(rootfs, storage)? {
        // Another user's cannot be taken, nor what somebody took meanwhile.
        let Ok(Some(scratch)) = store.take_folder(&place) else { continue };
        match bring(&scratch, rootfs, storage, &view) {
            Ok(Some(snapshot)) => return Ok(Working { scratch, snapshot, can_return: true }),
            // It cannot be told from a broken one, and its space may be what a copy needs. What cannot be
            // removed now goes with the process.
            Ok(None) | Err(_) => drop(remove_tree(scratch.path())),
        }
    }
    make(rootfs, storage, &view)
}

fn make(rootfs: &Rootfs, storage: OwnerStorage, view: &View) -> Result<Working> {
    let scratch = rootfs.store.scratch_folder()?;
    let files = scratch.path().join(FILES);
    let root = view.node(b"")?.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "copy a root file system").because("it has no layers")
    })?;
    copy::copy(&root, &files, storage, copy::Contents::Copied)?;
    let layer_dir = LayerDir::open(files, storage)?;
    let snapshot = Snapshot::take(&layer_dir, create(&scratch.path().join(RECORD))?)?;
    write_chain(scratch.path(), rootfs)?;
    let can_return = !has_side_table(&layer_dir.folder);
    Ok(Working { scratch, snapshot, can_return })
}

/// Makes a tree what a root file system has; `None` where that cannot be.
fn bring(
    scratch: &ScratchFolder,
    rootfs: &Rootfs,
    storage: OwnerStorage,
    view: &View,
) -> Result<Option<Snapshot>> {
    let path = |name: &str| scratch.path().join(name);
    let files = path(FILES);
    let found = fs_err::symlink_metadata(&files).cannot(|| "look at a working tree")?;
    if !found.is_dir() || has_side_table(&files) {
        return Ok(None);
    }
    let held = read_chain(scratch.path())?;
    let Some(mut touched) = difference(&held, rootfs, storage)? else { return Ok(None) };
    let loose = fs_err::read(path(LOOSE)).unwrap_or_default();
    let loose = loose.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    touched.paths.extend(Touched::of_paths(loose)?.paths);
    clear(scratch.path())?;
    let record = fs_err::File::open(path(RECORD)).cannot(|| "open a record")?;
    let layer_dir = LayerDir::open(files.clone(), storage)?;
    let mut snapshot = Snapshot::of_file(record.into_parts().0, &layer_dir);
    for attempt in 0..ATTEMPTS {
        let renewed = renew(&files, storage, view, &touched)?;
        let fresh = path(&format!("{RECORD}-{attempt}"));
        let (found, strange) =
            snapshot.retake(&layer_dir, create(&fresh)?, &|path: &[u8]| renewed.has(path))?;
        snapshot = found;
        if strange.is_empty() {
            fs_err::rename(fresh, path(RECORD)).cannot(|| "keep a record")?;
            write_chain(scratch.path(), rootfs)?;
            return Ok((!has_side_table(&files)).then_some(snapshot));
        }
        if strange.len() > MOST_STRANGE {
            return Ok(None);
        }
        touched = Touched::of_paths(strange.iter().map(Vec::as_slice))?;
    }
    Ok(None)
}

/// Gives a tree back to the store, with what was touched in it, where that is known.
pub(super) fn give_back(
    scratch: ScratchFolder,
    rootfs: &Rootfs,
    touched: Option<&[Vec<u8>]>,
) -> Result<()> {
    if let Some(touched) = touched {
        let paths = touched.join(&0);
        fs_err::write(scratch.path().join(LOOSE), paths).cannot(|| "keep a working tree")?;
    }
    let store = &rootfs.store;
    let key = store.fresh_tree_key(&scratch);
    let bytes = rootfs.layers.iter().map(|layer| unpacked_bytes(&layer.folder)).sum();
    store.keep_folder(scratch, (KIND, &key), &FolderInfo { bytes, needs: Vec::new() })?;
    for old in store.kept_of_kind(KIND)?.into_iter().skip(MOST_TREES) {
        drop(store.take_folder(&old)?);
    }
    Ok(())
}

/// The trees that less has to be written in than is there already, the nearest first.
fn nearest(rootfs: &Rootfs, storage: OwnerStorage) -> Result<Vec<PathBuf>> {
    let wanted: Vec<&str> = rootfs.layers.iter().map(|layer| layer.key.as_str()).collect();
    let mut found = Vec::new();
    for place in rootfs.store.kept_of_kind(KIND)? {
        // Somebody else may have taken it meanwhile.
        let Ok(held) = read_chain(&place) else { continue };
        let mut bytes = |key: &str| -> Option<u64> {
            let layer = KeptLayer::find(&rootfs.store, storage, key).ok()??;
            Some(unpacked_bytes(&layer.folder))
        };
        if let Some(distance) = distance(&held, &wanted, &mut bytes) {
            found.push((distance, place));
        }
    }
    // Of those that are equally near the last used is first.
    found.sort_by_key(|(distance, _)| *distance);
    Ok(found.into_iter().map(|(_, place)| place).collect())
}

/// How many bytes layers have that two chains do not have in common; `None` where that is more than they
/// have in common, or the bytes of a layer are not known.
fn distance(
    held: &[String],
    wanted: &[&str],
    bytes: &mut dyn FnMut(&str) -> Option<u64>,
) -> Option<u64> {
    let common = common(held, wanted);
    let mut sum = |keys: &[&str]| -> Option<u64> {
        keys.iter().try_fold(0_u64, |sum, key| Some(sum.saturating_add(bytes(key)?)))
    };
    let away: Vec<&str> = held[common..].iter().map(String::as_str).collect();
    let kept = sum(&wanted[..common])?;
    let distance = sum(&away)?.saturating_add(sum(&wanted[common..])?);
    (common > 0 && distance <= kept).then_some(distance)
}

/// How many layers two chains have in common.
fn common(held: &[String], wanted: &[&str]) -> usize {
    held.iter().zip(wanted).take_while(|(held, wanted)| held == *wanted).count()
}

/// Where a root file system may differ from what a tree has; `None` where that cannot be known.
fn difference(held: &[String], rootfs: &Rootfs, storage: OwnerStorage) -> Result<Option<Touched>> {
    let wanted: Vec<&str> = rootfs.layers.iter().map(|layer| layer.key.as_str()).collect();
    let common = common(held, &wanted);
    let mut touched = Touched::default();
    if common == 0 {
        return Ok(None);
    }
    for key in &held[common..] {
        let Some(layer) = KeptLayer::find(&rootfs.store, storage, key)? else { return Ok(None) };
        touched.add(&LayerDir::open(layer.files(), storage)?)?;
    }
    for layer in &rootfs.layers[common..] {
        touched.add(&LayerDir::open(layer.files(), storage)?)?;
    }
    Ok(Some(touched))
}

/// Removes what a step left beside the files.
fn clear(folder: &Path) -> Result<()> {
    let known = BTreeSet::from([FILES, CHAIN, RECORD]);
    for entry in fs_err::read_dir(folder).cannot(|| "look at a working tree")? {
        let entry = entry.cannot(|| "look at a working tree")?;
        if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
            remove_tree(&entry.path()).cannot(|| "clear a working tree")?;
        }
    }
    Ok(())
}

fn has_side_table(files: &Path) -> bool {
    SideTable::beside(files).exists()
}

fn create(path: &Path) -> Result<std::fs::File> {
    let options = std::fs::OpenOptions::new().read(true).write(true).create_new(true).clone();
    options.open(path).cannot(|| format!("make {}", path.display()))
}

fn read_chain(folder: &Path) -> Result<Vec<String>> {
    let text = fs_err::read_to_string(folder.join(CHAIN)).cannot(|| "read what a tree has")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn write_chain(folder: &Path, rootfs: &Rootfs) -> Result<()> {
    let keys: Vec<&str> = rootfs.layers.iter().map(|layer| layer.key.as_str()).collect();
    fs_err::write(folder.join(CHAIN), keys.join("\n")).cannot(|| "note what a tree has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_near_where_it_has_more_of_the_layers_than_has_to_be_written() {
        let mut bytes = |key: &str| match key {
            "base" => Some(100),
            "gone" => None,
            _ => Some(30),
        };
        let words = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
        for (held, wanted, expected) in [
            ("base", "base", Some(0)),
            ("base a", "base a", Some(0)),
            ("base a", "base b", Some(60)),
            ("base a", "base", Some(30)),
            ("base", "base a b", Some(60)),
            ("base a b", "base c d", None),
            ("base a b", "base a d", Some(60)),
            ("base gone", "base", None),
            ("other", "base", None),
            ("", "base", None),
        ] {
            let held: Vec<String> = words(held).into_iter().map(str::to_owned).collect();
            let found = distance(&held, &words(wanted), &mut bytes);
            assert_eq!(found, expected, "{held:?} {wanted}");
        }
    }
}
