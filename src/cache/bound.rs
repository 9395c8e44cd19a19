//! A bound that keeps itself: after a build, the least recently used goes until the caches are within it.
//!
//! ```text
//! STORE/gondola/bound     how far the walk has come, its sum, and the oldest entries that it has seen
//! ```
//! Images that have a name are no cache: they are neither counted nor removed.
//!
//! Nobody waits for this: it ends when its time is up, wherever it is, and the next build goes on there.
//! Only listing the blobs cannot be ended, which takes longer than that where there are many hundred thousand.
//! So what is added up was not all there at one moment, and a file that was used since the walk passed
//! it is left alone. Sums are about right, removing is exact: whatever a lease holds, a container needs
//! or a name leads to stays, as with every pruning.

use std::fs::Metadata;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::content::Images;
use super::{Cache as _, Entry, EntryPath, Facts, is_of_others, modified, named, owner};
use crate::error::Result;
use crate::store::{Collector, Size, Standing, Store, StorePlace, unpacked_bytes, walk_on};

/// What is walked through, in the order of the paths.
const PLACES: [StorePlace; 6] = [
    StorePlace::Blobs,
    StorePlace::CacheMounts,
    StorePlace::GoCaches,
    StorePlace::Records,
    StorePlace::Unpacked,
    StorePlace::Programs,
];
/// So many of the oldest entries are remembered; when they are gone and too much is left, the walk
/// begins anew.
const MOST_REMEMBERED: usize = 4096;
/// Of what had to be listed, at least this part is looked at, and so many entries are removed, however long
/// the listing took: else a store that is large enough would never come to an end.
const LEAST_PART: usize = 64;
const LEAST_REMOVED: usize = 256;
/// The longest that is read of the note: each entry takes some hundred bytes.
const LONGEST_NOTE: u64 = 8 << 20;

/// How far the walk has come.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The last file that was visited, below the store's folder.
    after: Option<PathBuf>,
    /// Whether the walk has come to its end.
    is_whole: bool,
    /// The bytes that were seen, less those that were removed.
    total: u64,
    /// The entry that the walk is in.
    open: Option<Candidate>,
    /// The oldest entries.
    oldest: Vec<Candidate>,
    /// The bytes of those that were left because they belong to a range of ids.
    #[serde(default)]
    of_others: u64,
}

/// An entry, as the walk saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Candidate {
    path: PathBuf,
    cache: String,
    bytes: u64,
    /// The last use, since 1970.
    used: Duration,
}

/// What came of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// Whether the caches are within it.
    pub is_done: bool,
    /// The bytes that would go, where nothing else does any more, but belong to a range of ids: this
    /// process is not its root.
    pub of_others: u64,
}

/// Removes the least recently used of all caches until they have at most `keep` bytes, or until
/// `is_over` says so.
pub fn keep_within(store: &Store, keep: u64, is_over: &dyn Fn() -> bool) -> Result<Bounded> {
    let note = store.place(StorePlace::Bound);
    let mut progress = Progress::read(&note);
    progress.scan(store, is_over)?;
    if progress.is_whole && progress.total > keep && !is_over() {
        progress.remove(store, keep, is_over)?;
    }
    let is_done = progress.is_whole && progress.total <= keep;
    let is_at_its_end = is_done || (progress.is_whole && progress.oldest.is_empty());
    if is_at_its_end {
        // What is not there is removed; the next time begins anew.
        let _ = fs_err::remove_file(&note);
    } else {
        progress.write(store, &note)?;
    }
    let is_stuck = is_at_its_end && !is_done;
    Ok(Bounded { is_done, of_others: if is_stuck { progress.of_others } else { 0 } })
}

impl Progress {
    /// One that cannot be read has not begun.
    fn read(note: &Path) -> Self {
        let bytes = crate::disk::read(note, LONGEST_NOTE).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, store: &Store, note: &Path) -> Result<()> {
        // A path that is not UTF-8 has no JSON: then the walk begins anew.
        let Ok(text) = serde_json::to_vec(self) else { return Ok(()) };
        store.replace(note, &text)
    }

    /// Goes on with the walk.
    fn scan(&mut self, store: &Store, is_over: &dyn Fn() -> bool) -> Result<()> {
        if self.is_whole {
            return Ok(());
        }
        let facts = Facts { named: store.named_blobs()?, ..Facts::default() };
        let is_unpacked = |path: &Path| path.iter().count() == 2;
        let mut looked_at = 0;
        for place in PLACES {
            let top = Path::new(place.path());
            let after = match &self.after {
                Some(after) if after.starts_with(top) => after.strip_prefix(top).ok(),
                Some(after) if after.as_path() > top => continue,
                _ => None,
            };
            let after = after.map(Path::to_owned);
            let is_one = |path: &Path| place == StorePlace::Unpacked && is_unpacked(path);
            let folder = place.of(store.root());
            let visit = &mut |listed: usize, (file, found): (&Path, &Metadata)| {
                if looked_at >= listed / LEAST_PART && is_over() {
                    return ControlFlow::Break(());
                }
                looked_at += 1;
                let file = top.join(file);
                self.see(store, &file, found, &facts);
                self.after = Some(file);
                ControlFlow::Continue(())
            };
            if walk_on(&folder, after.as_deref(), &is_one, visit).is_break() {
                return Ok(());
            }
        }
        self.close();
        self.is_whole = true;
        Ok(())
    }

    fn see(&mut self, store: &Store, file: &Path, found: &Metadata, facts: &Facts) {
        let Some((cache, of)) = owner(file, facts) else { return };
        if cache.name() == Images.name() {
            return;
        }
        let bytes =
            if found.is_dir() { unpacked_bytes(&store.root().join(file)) } else { share(found) };
        self.total += bytes;
        match &mut self.open {
            Some(open) if open.path == of.path => open.bytes += bytes,
            _ => {
                self.close();
                let used = match &of.used {
                    None if of.path == file => found.modified().ok(),
                    _ => last_use(store, &of),
                };
                let used = used.and_then(|used| used.duration_since(UNIX_EPOCH).ok());
                let cache = cache.name().to_owned();
                self.open = used.map(|used| Candidate { path: of.path, cache, bytes, used });
            }
        }
    }

    fn close(&mut self) {
        self.oldest.extend(self.open.take());
        if self.oldest.len() >= 2 * MOST_REMEMBERED {
            self.sort();
            self.oldest.truncate(MOST_REMEMBERED);
        }
    }

    fn sort(&mut self) {
        self.oldest.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    }

    /// Removes the oldest first. Does nothing where somebody would have to be waited for.
    fn remove(&mut self, store: &Store, keep: u64, is_over: &dyn Fn() -> bool) -> Result<()> {
        let Some(mut collector) = store.try_collect()? else { return Ok(()) };
        let keepers = store.keepers()?;
        let is_late = is_over();
        self.sort();
        let mut next = 0;
        while let Some(candidate) = self.oldest.get(next) {
            let is_enough = if is_late { next >= LEAST_REMOVED } else { is_over() };
            if self.total <= keep || is_enough {
                break;
            }
            next += 1;
            let used = UNIX_EPOCH + candidate.used;
            if keepers.keep(&candidate.path, used) {
                continue;
            }
            if is_of_others(&candidate.path) {
                self.of_others += candidate.bytes;
            } else if remove(&mut collector, store, candidate)? {
                self.total = self.total.saturating_sub(candidate.bytes);
            }
        }
        self.oldest.drain(..next);
        collector.finish_until(is_over);
        Ok(())
    }
}

/// Removes an entry unless it was used since the walk saw it.
fn remove(collector: &mut Collector, store: &Store, candidate: &Candidate) -> Result<bool> {
    let (Some(cache), used) = (named(&candidate.cache), UNIX_EPOCH + candidate.used) else {
        return Ok(false);
    };
    let of = cache.entry_of(&candidate.path, &Facts::default());
    // A folder is not among its own files.
    let of = of.or_else(|| cache.entry_of(&candidate.path.join("x"), &Facts::default()));
    if of.is_none_or(|of| of.path != candidate.path || last_use(store, &of) != Some(used)) {
        return Ok(false);
    }
    if cache.standing(store, &candidate.path) != Standing::Useful {
        return Ok(false);
    }
    let size = Size::of_bytes(candidate.bytes);
    let (path, standing) = (candidate.path.clone(), Standing::Useful);
    cache.remove(collector, store, &Entry { cache: cache.name(), path, size, used, standing })
}

fn last_use(store: &Store, of: &EntryPath) -> Option<SystemTime> {
    let file = of.used.as_ref().and_then(|file| modified(&store.root().join(file)));
    file.or_else(|| modified(&store.root().join(&of.path)))
}

/// A file's bytes, divided among its names.
fn share(found: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    found.len() / found.nlink().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    use crate::oci::{Descriptor, MediaType};

    /// A store with ten records, the last of which is the oldest.
    fn store() -> (tempfile::TempDir, Store) {
        store_of(10)
    }

    fn store_of(count: u32) -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        for number in 0..count {
            store.put_record("kind", &number.to_string(), &"x".repeat(1000)).unwrap();
        }
        let root = home.path().to_owned();
        drop(store);
        let records = StorePlace::Records.of(&root).join("kind");
        for (age, name) in (0..).zip(crate::store::names(&records)) {
            let time = UNIX_EPOCH + Duration::from_secs(100_000 - age * 10);
            let file = fs_err::OpenOptions::new().write(true).open(records.join(name)).unwrap();
            file.file().set_modified(time).unwrap();
        }
        (home, Store::open(&root).unwrap())
    }

    fn left(store: &Store) -> usize {
        crate::store::names(&store.place(StorePlace::Records).join("kind")).len()
    }

    #[test]
    fn the_oldest_go_until_the_caches_are_within_the_bound() {
        let (_home, store) = store();
        let never = || false;
        assert!(keep_within(&store, 1 << 20, &never).unwrap().is_done);
        assert_eq!(left(&store), 10);
        // Each has about 1100 bytes.
        assert!(keep_within(&store, 5600, &never).unwrap().is_done);
        assert_eq!(left(&store), 5);
        let names = crate::store::names(&store.place(StorePlace::Records).join("kind"));
        let times = names.iter().map(|name| {
            modified(&store.place(StorePlace::Records).join("kind").join(name)).unwrap()
        });
        let oldest = times.min().unwrap();
        assert_eq!(
            oldest,
            UNIX_EPOCH + Duration::from_mins(1666),
            "the last ones in the list were old"
        );
        assert!(!store.place(StorePlace::Bound).exists());
    }

    #[test]
    fn it_ends_wherever_it_is_and_the_next_time_goes_on_there() {
        let (_home, store) = store();
        let mut times = 0;
        loop {
            times += 1;
            // Each time a few steps.
            let steps = Cell::new(0);
            let is_over = || {
                steps.set(steps.get() + 1);
                steps.get() > 4
            };
            let before = left(&store);
            let done = keep_within(&store, 3400, &is_over).unwrap().is_done;
            assert!(before - left(&store) <= 4, "more was done than there was time for");
            if done {
                break;
            }
            assert!(store.place(StorePlace::Bound).exists());
            assert!(times < 30, "it comes to no end");
        }
        assert_eq!(left(&store), 3);
        assert!(times > 3, "{times}");
    }

    #[test]
    fn it_comes_to_an_end_where_listing_takes_all_the_time() {
        let (_home, store) = store_of(700);
        let mut times = 0;
        loop {
            times += 1;
            let asked = Cell::new(false);
            // There was time when it began, and none since.
            if keep_within(&store, 100_000, &|| asked.replace(true)).unwrap().is_done {
                break;
            }
            assert!(times < 80, "it comes to no end: {} are left", left(&store));
        }
        assert!((80..100).contains(&left(&store)), "{}", left(&store));
        assert!(times > 60, "{times}: more was done than there was time for");
    }

    #[test]
    fn a_named_image_is_not_counted() {
        let (_home, store) = store();
        let image = store.put(&vec![b'x'; 100_000]).unwrap();
        let named = Descriptor::new(MediaType::OCI_MANIFEST, image.clone(), 100_000);
        store.set_names(&[("large:1".parse().unwrap(), named)]).unwrap();
        let never = || false;
        assert!(keep_within(&store, 20_000, &never).unwrap().is_done);
        assert_eq!(left(&store), 10, "what an image has was taken from the caches");
        assert!(!keep_within(&store, 10, &never).unwrap().is_done || left(&store) == 0);
        assert!(store.blob_path(&image).exists());
    }

    #[test]
    fn what_was_used_since_and_what_a_lease_holds_stays() {
        let (_home, store) = store();
        // The walk sees all of them as old.
        let steps = Cell::new(0);
        let walk_alone = || {
            steps.set(steps.get() + 1);
            steps.get() > 10
        };
        assert!(!keep_within(&store, 0, &walk_alone).unwrap().is_done);
        for number in 0..3_u32 {
            assert!(store.get_record::<String>("kind", &number.to_string()).is_some());
        }
        assert!(!keep_within(&store, 0, &|| false).unwrap().is_done);
        assert_eq!(left(&store), 3);
    }
}
