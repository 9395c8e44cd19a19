//! A store for one run, where the user's own cannot be written to.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use tempfile::TempDir;

use super::args::GlobalArgs;
use super::environment::Environment;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::store::{StorePlace, remove_tree};

/// What comes of a store that cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithoutStore {
    /// Whatever writes to it fails.
    Fails,
    /// One for this run takes its place.
    Passes,
    /// The command is refused, for this reason.
    Refused(&'static str),
}

/// A store in the folder of temporary files, which goes with this.
pub(super) struct PassingStore {
    folder: Option<TempDir>,
    /// The store that cannot be written to.
    pub(super) instead_of: PathBuf,
}

impl PassingStore {
    /// Makes one for a command that can do with it, if its store cannot be written to, and has the command
    /// use it.
    pub(super) fn make(
        without_store: WithoutStore,
        global: &mut GlobalArgs,
        environment: &Environment,
    ) -> Result<Option<Self>> {
        if without_store == WithoutStore::Fails {
            return Ok(None);
        }
        // Where no store can be named that is told when it is opened.
        let Ok(instead_of) = global.store_folder(environment) else { return Ok(None) };
        if is_writable(&instead_of) {
            return Ok(None);
        }
        let way_out = "set GONDOLA_HOME to a folder that can be written to";
        if let WithoutStore::Refused(why) = without_store {
            return Err(Error::new(ErrorKind::Io, format!("write to {}", instead_of.display()))
                .because(why)
                .hint(way_out));
        }
        let folder = tempfile::Builder::new()
            .prefix("gondola-store-")
            .tempdir_in(environment.get("TMPDIR").unwrap_or("/tmp"))
            .cannot(|| format!("make a store in the place of {}", instead_of.display()))
            .map_err(|error| error.hint(way_out))?;
        global.store = Some(folder.path().to_owned());
        Ok(Some(Self { folder: Some(folder), instead_of }))
    }
}

impl Drop for PassingStore {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            // What containers left there can be without permissions. What stays, stays in a folder
            // of temporary files.
            let _ = remove_tree(&folder.keep());
        }
    }
}

/// Whether a store can be made or changed in a folder.
pub(super) fn is_writable(folder: &Path) -> bool {
    // What the store writes to first; the rest was made with it.
    let work = StorePlace::Work.of(folder);
    let there = [work.as_path()].into_iter().chain(folder.ancestors());
    let nearest = there.map(|path| (path, fs_err::metadata(path)));
    for (path, found) in nearest {
        match found {
            Ok(_) => {
                let access = Access::WRITE_OK | Access::EXEC_OK;
                return rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_written_to_where_its_nearest_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_writable(&folder.path().join("not/yet/there")));
        assert!(!is_writable(Path::new("/proc/self/nowhere/store")));
        let file = folder.path().join("file");
        fs_err::write(&file, "").unwrap();
        assert!(!is_writable(&file.join("store")));
    }
}
