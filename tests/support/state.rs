//! What a folder is, down to the time of the last change of anything in it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// All files below a folder, each with what any write to it, and any change of its names, would change.
/// That somebody read it does not show.
pub fn state(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let state = format!(
            "{:o} {} {} {} {}.{:09}",
            found.mode(),
            found.ino(),
            found.nlink(),
            found.size(),
            found.ctime(),
            found.ctime_nsec(),
        );
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, state);
    }
    all
}
