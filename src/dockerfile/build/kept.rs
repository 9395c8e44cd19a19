//! What steps keep for each other between builds: the caches that they mount.
//!
//! ```text
//! STORE/build-caches/<form>/<hash>/        one cache, with the files as steps left them, or else the
//!                                          folders of one that lies over another, see `levels`
//! STORE/build-caches/<form>/<hash>.lock    held by whoever uses the cache; its mtime = the last use
//! STORE/build-caches/<form>/<hash>.steps   the keys of the steps that filled a cache of modules
//! STORE/build-caches/<form>/<hash>.gate, .readers, .writers    see `levels`
//! ```
//!
//! A hash stands for the scope of a build and what else tells one cache from others. Caches that a
//! file asks for by an id are in no scope: as in BuildKit, whoever names the id has them. What goes
//! with the build is in the same form in a folder of the process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::{Cannot as _, Result};
use crate::rootfs::OwnerStorage;
use crate::sandbox::Rung;
use crate::store::{CacheScope, Lock, ScratchFolder, Store, StorePlace, remove_tree, tree_bytes};

/// What the lists of steps end with.
const STEPS: &str = "steps";

/// How many digits of a hash are a name.
const DIGITS: usize = 32;

/// The caches that a build can use.
pub struct Caches {
    /// Whose they are.
    pub scope: CacheScope,
    /// Whether files get what their ids name.
    shares: bool,
    store: Store,
    /// What goes with the build, once there is something.
    private: Mutex<Option<ScratchFolder>>,
}

impl Caches {
    pub fn new(store: Store, scope: CacheScope, shares: bool) -> Self {
        Self { scope, shares, store, private: Mutex::default() }
    }

    /// Where caches are that a file asks for.
    pub fn of_files(&self, rung: Rung) -> Result<PathBuf> {
        self.folder(rung, self.shares)
    }

    /// Where caches are that nobody asked for.
    pub fn of_scope(&self, rung: Rung) -> Result<PathBuf> {
        self.folder(rung, self.scope.name().is_some())
    }

    fn folder(&self, rung: Rung, is_kept: bool) -> Result<PathBuf> {
        let form = OwnerStorage::of(rung).name();
        if is_kept {
            return Ok(self.store.place(StorePlace::CacheMounts).join(form));
        }
        let mut private = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = match private.take() {
            Some(scratch) => scratch,
            None => self.store.scratch_folder()?,
        };
        Ok(private.insert(scratch).path().join(form))
    }
}

/// Where the cache of a name is; several numbers stand for several that are used at once.
pub fn place(folder: &Path, name: &str, number: u32) -> PathBuf {
    let hash = blake3::hash(format!("{number} {name}").as_bytes()).to_hex();
    folder.join(&hash[..DIGITS])
}

/// A cache of modules.
pub struct Modules {
    /// The cache, beside which its steps are noted.
    pub place: PathBuf,
    /// What is written.
    pub files: PathBuf,
    /// The cache below it.
    pub below: Option<PathBuf>,
}

/// What the line of a step ends with that left the cache empty.
const LEFT_NOTHING: &str = " -";

/// The steps that were executed with a cache as it is now.
pub fn steps_of(modules: &Modules) -> BTreeSet<String> {
    let places = modules.below.iter().chain([&modules.place]);
    let lines = places.flat_map(|place| lines_of(place));
    lines.map(|line| line.trim_end_matches(LEFT_NOTHING).to_owned()).collect()
}

/// Takes note of a step that was executed with a cache; answers whether the cache has anything.
///
/// One that left it empty has emptied it: nothing of those before is there, unless they left nothing
/// either. When two builds write at once one of them may be forgotten, which costs time alone.
pub fn note_step(modules: &Modules, key: &str) -> Result<bool> {
    let cache = &modules.place;
    let folders = modules.below.iter().chain([&modules.files]);
    let has_files = folders.into_iter().any(|folder| !entries(folder).is_empty());
    let before = lines_of(cache);
    let mut lines = before.clone();
    if has_files {
        lines.insert(key.to_owned());
    } else {
        lines.retain(|line| line.ends_with(LEFT_NOTHING));
        lines.insert(format!("{key}{LEFT_NOTHING}"));
    }
    if lines != before {
        let text = Vec::from_iter(lines).join("\n");
        fs_err::write(cache.with_extension(STEPS), text).cannot(|| "take note of a step")?;
    }
    Ok(has_files)
}

fn lines_of(cache: &Path) -> BTreeSet<String> {
    // Without the list nothing is known of the cache.
    let text = fs_err::read_to_string(cache.with_extension(STEPS)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn forget_steps(cache: &Path) -> Result<()> {
    match fs_err::remove_file(cache.with_extension(STEPS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).cannot(|| "forget the steps of a cache")
        }
        _ => Ok(()),
    }
}

/// The bytes that caches take.
pub fn caches_size(store: &Store) -> u64 {
    all(store).iter().map(|cache| tree_bytes(cache)).sum()
}

/// Removes caches that were last used before a moment and that no step uses; answers how many bytes
/// that were.
pub fn prune_caches(store: &Store, before: SystemTime) -> Result<u64> {
    let mut freed = 0;
    for cache in all(store) {
        let lock = cache.with_extension("lock");
        let Ok(Some(_held)) = Lock::try_exclusive(&lock) else { continue };
        let used = fs_err::metadata(lock).and_then(|found| found.modified());
        if !used.is_ok_and(|used| used < before) {
            continue;
        }
        let bytes = tree_bytes(&cache);
        forget_steps(&cache)?;
        remove_tree(&cache).cannot(|| "remove a cache of steps")?;
        freed += bytes;
    }
    Ok(freed)
}

/// Every cache, without its lock.
fn all(store: &Store) -> Vec<PathBuf> {
    let forms = entries(&store.place(StorePlace::CacheMounts));
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
        let caches = store.place(StorePlace::CacheMounts).join("recorded");
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

    #[test]
    fn steps_are_forgotten_when_their_cache_is_emptied() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join("cache");
        fs_err::create_dir(&cache).unwrap();
        let modules = Modules { place: cache.clone(), files: cache.clone(), below: None };
        let known = || steps_of(&modules).into_iter().collect::<Vec<_>>();
        assert!(!note_step(&modules, "nothing").unwrap());
        fs_err::write(cache.join("module"), "").unwrap();
        assert!(note_step(&modules, "download").unwrap());
        assert!(note_step(&modules, "download").unwrap());
        assert_eq!(known(), ["download", "nothing"]);
        fs_err::remove_file(cache.join("module")).unwrap();
        assert!(!note_step(&modules, "clean").unwrap());
        assert_eq!(known(), ["clean", "nothing"]);
        forget_steps(&cache).unwrap();
        forget_steps(&cache).unwrap();
        assert!(known().is_empty());
    }
}
