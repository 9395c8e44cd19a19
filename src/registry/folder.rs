//! Folders of configuration files.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Cannot as _, Result};

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn is_hidden(path: &Path) -> bool {
    fs_err::symlink_metadata(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The files of a folder, sorted; a folder that is not there, or not to be seen, has none.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let action = || format!("read the folder {}", folder.display());
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // A home of somebody else's: whether there is such a folder is not to be known.
        Err(_) if is_hidden(folder) => return Ok(Vec::new()),
        Err(error) => return Err(error).cannot(action),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>().cannot(action)?;
    paths.sort();
    Ok(paths)
}
