//! Folders of configuration files.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Cannot as _, Result};

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// The files of a folder, sorted; a folder that is not there has none.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let action = || format!("read the folder {}", folder.display());
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).cannot(action),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>().cannot(action)?;
    paths.sort();
    Ok(paths)
}
