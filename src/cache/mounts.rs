//! What steps keep for each other between builds: the caches that they mount.
//!
//! ```text
//! STORE/build-caches/<form>/<hash>/        one cache, with the files as steps left them, or else the
//!                                          folders of one that lies over another, see
//!                                          `execute::levels`
//! STORE/build-caches/<form>/<hash>.lock    held by whoever uses the cache; its mtime = the last use
//! STORE/build-caches/<form>/<hash>.about   what it is, for people
//! STORE/build-caches/<form>/<hash>.steps   the keys of the steps that filled a cache of modules
//! STORE/build-caches/<form>/<hash>.gate, .readers, .writers, .alone    locks, see `execute::levels`
//! ```
//!
//! A hash stands for the scope of a build and what else tells one cache from others. Caches that a
//! file asks for by an id are in no scope: as in BuildKit, whoever names the id has them. What goes
//! with the build is in the same form in a folder of the process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts, modified};
use crate::disk::is_absence;
use crate::error::{Cannot as _, Result};
use crate::store::{Collector, Lock, Standing, Store, StorePlace, names};

/// What the lock of a cache ends with.
const LOCK: &str = "lock";
/// What the lock ends with that is held while one of the next is asked for.
pub const GATE: &str = "gate";
/// What the lock of steps ends with that write to a cache.
pub const WRITERS: &str = "writers";
/// What the lock of steps ends with whose own cache lies over another.
pub const READERS: &str = "readers";
/// What the lock of a step ends with that moves a cache into its root file system.
pub const ALONE: &str = "alone";
/// What the lists of steps end with.
const STEPS: &str = "steps";
/// What the notes of what a cache is end with.
const ABOUT: &str = "about";

/// How many digits of a hash are a name.
const DIGITS: usize = 32;

/// Where the cache of a name is; several numbers stand for several that are used at once.
pub fn place(folder: &Path, name: &str, number: u32) -> PathBuf {
    let hash = blake3::hash(format!("{number} {name}").as_bytes()).to_hex();
    folder.join(&hash[..DIGITS])
}

/// Notes what a cache is, for people.
pub fn write_about(cache: &Path, about: &str) {
    super::write_about(&cache.with_extension(ABOUT), about);
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
    let has_files = folders.into_iter().any(|folder| !names(folder).is_empty());
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

pub(super) struct CacheMounts;

impl Cache for CacheMounts {
    fn name(&self) -> &'static str {
        "cache-mounts"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let mut parts = file.strip_prefix(StorePlace::CacheMounts.path()).ok()?.iter();
        let (form, name) = (parts.next()?, Path::new(parts.next()?));
        let is_inside = parts.next().is_some();
        let end = name.extension().and_then(|end| end.to_str());
        let is_beside =
            matches!(end, Some(STEPS | ABOUT | LOCK | GATE | WRITERS | READERS | ALONE));
        if !is_inside && !is_beside {
            return None;
        }
        let name = if is_inside { name.to_owned() } else { name.with_extension("") };
        let path = Path::new(StorePlace::CacheMounts.path()).join(form).join(name);
        Some(EntryPath { used: Some(path.with_extension(LOCK)), path })
    }

    fn standing(&self, store: &Store, entry: &Path) -> Standing {
        let lock = store.root().join(entry).with_extension(LOCK);
        // What cannot be locked cannot be removed either.
        let is_held = Lock::is_held_at_all(&lock).unwrap_or(true);
        if is_held { Standing::InUse } else { Standing::Useful }
    }

    fn remove(&self, collector: &mut Collector, store: &Store, entry: &Entry) -> Result<bool> {
        let action = || "remove a cache of steps";
        let place = store.root().join(&entry.path);
        // In the order of those who use it, none of whom is waited for.
        let gate = Lock::try_exclusive(&place.with_extension(GATE)).cannot(action)?;
        let lock = place.with_extension(LOCK);
        // One that is made here and now says nothing of a use.
        let was_there = lock.exists();
        let held = Lock::try_exclusive(&lock).cannot(action)?;
        let is_used = was_there && modified(&lock) > Some(entry.used);
        if gate.is_none() || held.is_none() || is_used {
            return Ok(false);
        }
        // The list first: a cache without it is one of which nothing is known.
        for path in [STEPS, ABOUT].map(|end| entry.path.with_extension(end)) {
            collector.remove(&path)?;
        }
        collector.remove(&entry.path)?;
        // Nobody has these without the first two, whose own files go last: who waits for them makes
        // others, and finds no cache.
        for end in [WRITERS, READERS, ALONE, GATE, LOCK] {
            match fs_err::remove_file(place.with_extension(end)) {
                Err(error) if !is_absence(&error) => return Err(error).cannot(action),
                _ => {}
            }
        }
        Ok(true)
    }

    fn describe(&self, store: &Store, entry: &Entry, _: &Names) -> String {
        let about = super::about(&store.root().join(&entry.path).with_extension(ABOUT));
        about.unwrap_or_else(|| "a cache of steps".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Policy, prune};
    use crate::store::Store;
    use std::time::Duration;

    #[test]
    fn caches_that_nobody_uses_go_when_they_are_old() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let caches = store.place(StorePlace::CacheMounts).join("recorded");
        for (name, text) in [("used", "12345"), ("idle", "123")] {
            fs_err::create_dir_all(caches.join(name)).unwrap();
            fs_err::write(caches.join(name).join("file"), text).unwrap();
            fs_err::write(caches.join(name).with_extension(LOCK), "").unwrap();
        }
        write_about(&caches.join("idle"), "x");
        let lock = Lock::shared(&caches.join("used.lock")).unwrap();
        let used = fs_err::metadata(caches.join("used.lock")).unwrap().modified().unwrap();
        let old = Policy { older_than: Some(Duration::from_secs(30)), ..Policy::default() };
        let freed = |now| prune(&store, &old, now).unwrap().bytes;
        assert_eq!(freed(used), 0);
        let later = used + Duration::from_mins(1);
        assert_eq!(prune(&store, &Policy { dry_run: true, ..old }, later).unwrap().bytes, 5);
        assert_eq!(freed(later), 5);
        assert!(caches.join("used/file").exists());
        assert!(
            crate::store::names(&caches).iter().all(|name| name != "idle" && name != "idle.about")
        );
        drop(lock);
        assert_eq!(freed(later), 5);
        assert_eq!(freed(later), 0);
        assert_eq!(crate::store::names(&caches).len(), 0, "no lock is left either");
    }

    #[test]
    fn locks_of_a_cache_that_is_gone_go_unless_a_step_has_one() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let caches = store.place(StorePlace::CacheMounts).join("recorded");
        fs_err::create_dir_all(&caches).unwrap();
        for name in ["gone.lock", "gone.gate", "gone.writers", "gone.readers", "asked.lock"] {
            fs_err::write(caches.join(name), "").unwrap();
        }
        let gate = Lock::exclusive(&caches.join("asked.gate")).unwrap();
        let all = Policy { all: true, ..Policy::default() };
        let now = fs_err::metadata(caches.join("gone.lock")).unwrap().modified().unwrap();
        let pruned = prune(&store, &all, now + Duration::from_mins(1)).unwrap();
        assert_eq!(pruned.bytes, 0);
        let left = || crate::store::names(&caches).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(left(), ["asked.gate", "asked.lock"].map(Into::into).into());
        drop(gate);
        prune(&store, &all, now + Duration::from_mins(1)).unwrap();
        assert_eq!(left(), BTreeSet::new());
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
    }
}
