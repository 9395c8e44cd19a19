//! Moves what a step changed out of the folder that it worked in, as a layer: nothing is copied.

use std::path::Path;

use rustix::fs::{AtFlags, CWD};

use super::view::View;
use super::{OwnerStorage, apply, as_path};
use crate::error::{Cannot as _, Result};
use crate::layer::Tree;

/// Moves the changes of the folder `from` to `files`, the folder of a layer over `lower`.
pub(super) fn gather(
    changes: &Tree,
    (from, files): (&Path, &Path),
    storage: OwnerStorage,
    lower: &View,
) -> Result<()> {
    let mut made = Tree::new();
    for (path, entry) in changes {
        if entry.is_directory() || path.as_whiteout().is_some() {
            made.insert(path, entry)?;
        }
    }
    apply::apply(&made, files, storage, Some(lower))?;
    for (path, _) in changes.iter().filter(|(path, _)| !made.contains(path)) {
        let place = as_path(path.as_bytes());
        fs_err::rename(from.join(place), files.join(place)).cannot(|| format!("keep /{path}"))?;
    }
    for (path, entry) in made.iter().filter(|(_, entry)| entry.is_directory()) {
        let (place, times) = (files.join(as_path(path.as_bytes())), super::seconds(entry.mtime));
        rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)
            .cannot(|| format!("keep /{path}"))?;
    }
    Ok(())
}
