//! What steps keep for each other between builds: the caches that they mount.
//!
//! ```text
//! STORE/build-caches/<form>/<hash>/       one cache, with the files as steps left them
//! STORE/build-caches/<form>/<hash>.lock   held by whoever uses the cache; its mtime = the last use
//! ```

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Cannot as _, Result};
use crate::store::{Lock, Store, remove_tree, tree_bytes};

/// The folder of the store that holds them.
const FOLDER: &str = "build-caches";

/// Where caches of a form are.
pub(super) fn folder(store: &Path, form: &str) -> PathBuf {
    store.join(FOLDER).join(form)
}

/// The bytes that caches take.
pub fn caches_size(store: &Store) -> u64 {
    all(store.root()).iter().map(|cache| tree_bytes(cache)).sum()
}

/// Removes caches that were last used before a moment and that no step uses; answers how many bytes
/// that were.
pub fn prune_caches(store: &Store, before: SystemTime) -> Result<u64> {
    let mut freed = 0;
    for cache in all(store.root()) {
        let lock = cache.with_extension("lock");
        let Ok(Some(_held)) = Lock::try_exclusive(&lock) else { continue };
        let used = fs_err::metadata(lock).and_then(|found| found.modified());
        if !used.is_ok_and(|used| used < before) {
            continue;
        }
        let bytes = tree_bytes(&cache);
        remove_tree(&cache).cannot(|| "remove a cache of steps")?;
        freed += bytes;
    }
    Ok(freed)
}

/// Every cache, without its lock.
fn all(store: &Path) -> Vec<PathBuf> {
    let forms = entries(&store.join(FOLDER));
    let caches = forms.iter().flat_map(|form| entries(form));
    caches.filter(|path| path.extension().is_none()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn caches_that_nobody_uses_go_when_they_are_old() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let caches = folder(store.root(), "recorded");
        for (name, text) in [("used", "12345"), ("idle", "123")] {
            fs_err::create_dir_all(caches.join(name)).unwrap();
            fs_err::write(caches.join(name).join("file"), text).unwrap();
            fs_err::write(caches.join(name).with_extension("lock"), "").unwrap();
        }
        let lock = Lock::shared(&caches.join("used.lock")).unwrap();
        assert_eq!(caches_size(&store), 8);
        assert_eq!(prune_caches(&store, SystemTime::UNIX_EPOCH).unwrap(), 0);
        let used = fs_err::metadata(caches.join("used.lock")).unwrap().modified().unwrap();
        let later = used + Duration::from_mins(1);
        assert_eq!(prune_caches(&store, later).unwrap(), 3);
        assert!(caches.join("used/file").exists());
        assert!(!caches.join("idle").exists());
        drop(lock);
        assert_eq!(prune_caches(&store, later).unwrap(), 5);
        assert_eq!(caches_size(&store), 0);
    }
}
