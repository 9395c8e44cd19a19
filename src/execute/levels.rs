//! Caches of a scope, alone or over those of another scope.
//!
//! ```text
//! FOLDER/<hash>/                a cache that is mounted as it is
//! FOLDER/<hash>/upper, work     one that lies over another: what differs, and the kernel's own
//! FOLDER/<hash>/empty           what it lies over where the other is not there
//! FOLDER/<hash>.lock            held by whoever uses the cache; its mtime = the last use
//! FOLDER/<hash>.writers         held by steps that write to a cache; its mtime = when the last began
//! FOLDER/<hash>.readers         held by steps whose own cache lies over it
//! FOLDER/<hash>.alone          held by a step that moves the cache into its root file system
//! FOLDER/<hash>.gate            held while one of the two before is asked for
//! ```
//!
//! What an overlay lies over must not change as long as it is mounted. So a cache has either steps that
//! write to it or steps that read it. No step waits for steps of the other kind, which may be of another
//! user: a step that writes takes the next number of the cache where the first is being read, and a step
//! that reads does without where the cache is being written. Two steps of one kind use a cache together.
//!
//! What lies over another cache is written by one step at a time, for two overlays cannot share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::cache::mounts::{self, ALONE, GATE, READERS, WRITERS};
use crate::engine::Guard;
use crate::engine::op::Sharing;
use crate::error::{Cannot as _, Result};
use crate::store::Lock;

/// A cache to mount.
pub(super) struct Opened {
    /// The cache.
    pub place: PathBuf,
    /// The folder that is written to.
    pub files: PathBuf,
    /// What it lies over, where it does.
    pub over: Option<Over>,
    /// Must last as long as the mount.
    pub held: Vec<Guard>,
}

/// What a cache lies over.
pub(super) struct Over {
    /// The folder.
    pub below: PathBuf,
    /// Whether that is another cache.
    pub is_cache: bool,
    /// The folder for the kernel's own use.
    pub work: PathBuf,
}

/// Opens a cache to write to, which is made where there is none. A private one is written to by nobody
/// else meanwhile.
pub(super) fn open(
    folder: &Path,
    (name, sharing): (&str, Sharing),
    create: &dyn Fn(&Path) -> Result<()>,
) -> Result<Opened> {
    fs_err::create_dir_all(folder).cannot(|| "open a cache")?;
    let mut number = 0;
    loop {
        let place = mounts::place(folder, name, number);
        if let Some(mut held) = hold(&place, WRITERS, READERS)? {
            if sharing == Sharing::Private {
                let alone = Lock::try_exclusive(&place.with_extension(ALONE));
                let Some(alone) = alone.cannot(|| "open a cache")? else {
                    number += 1;
                    continue;
                };
                held.push(Arc::new(alone));
            }
            if !place.is_dir() {
                create(&place)?;
            }
            return Ok(Opened { files: place.clone(), place, over: None, held });
        }
        number += 1;
    }
}

/// Opens a cache that lies over the first of others that can be read now.
pub(super) fn open_over(
    folder: &Path,
    name: &str,
    others: &[String],
    create: &dyn Fn(&Path) -> Result<()>,
) -> Result<Opened> {
    let action = || "open a cache";
    fs_err::create_dir_all(folder).cannot(action)?;
    let mut number = 0;
    let (place, lock) = loop {
        let place = mounts::place(folder, &format!("{name} over another"), number);
        if let Some(lock) = Lock::try_exclusive(&place.with_extension("lock")).cannot(action)? {
            break (place, lock);
        }
        number += 1;
    };
    // Where the use cannot be noted, the cache may be pruned early.
    let _ = lock.touch();
    let [files, work, empty] = ["upper", "work", "empty"].map(|name| place.join(name));
    for folder in [&work, &empty] {
        fs_err::create_dir_all(folder).cannot(action)?;
    }
    if !files.is_dir() {
        create(&files)?;
    }
    let mut held: Vec<Guard> = vec![Arc::new(lock)];
    let mut over = Over { below: empty, is_cache: false, work };
    for other in others {
        if let Some((below, locks)) = read(folder, other)? {
            held.extend(locks);
            over = Over { below, is_cache: true, ..over };
            break;
        }
    }
    Ok(Opened { place, files, over: Some(over), held })
}

/// The copy of a cache that was written last, of those that no step writes to.
fn read(folder: &Path, name: &str) -> Result<Option<(PathBuf, Vec<Guard>)>> {
    let written = |place: &PathBuf| -> Option<SystemTime> {
        fs_err::metadata(place.with_extension(WRITERS)).ok()?.modified().ok()
    };
    let places = (0..).map(|number| mounts::place(folder, name, number));
    let mut places: Vec<PathBuf> = places.take_while(|place| place.is_dir()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(written(place)));
    for place in places {
        if let Some(held) = hold(&place, READERS, WRITERS)?
            && place.is_dir()
        {
            return Ok(Some((place, held)));
        }
    }
    Ok(None)
}

/// Uses a cache in one way, unless a step uses it in the other.
fn hold(place: &Path, as_one: &str, not_with: &str) -> Result<Option<Vec<Guard>>> {
    let action = || "open a cache";
    let _gate = Lock::exclusive(&place.with_extension(GATE)).cannot(action)?;
    let used = Lock::shared(&place.with_extension("lock")).cannot(action)?;
    let others = Lock::try_exclusive(&place.with_extension(not_with)).cannot(action)?;
    if others.is_none() {
        return Ok(None);
    }
    let own = Lock::shared(&place.with_extension(as_one)).cannot(action)?;
    // Without the times a cache goes early, or an older copy is read.
    let _ = (used.touch(), own.touch());
    let held: Vec<Guard> = vec![Arc::new(used), Arc::new(own)];
    Ok(Some(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(place: &Path) -> Result<()> {
        fs_err::create_dir_all(place).cannot(|| "make a cache")
    }

    #[test]
    fn nobody_writes_to_what_somebody_reads_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let main = || open(folder, ("main", Sharing::Shared), &create).unwrap();
        let topic = || open_over(folder, "topic", &["main".to_owned()], &create).unwrap();
        let below = |opened: &Opened| {
            let over = opened.over.as_ref().unwrap();
            over.is_cache.then(|| over.below.clone())
        };
        // Nothing is there to read.
        assert_eq!(below(&topic()), None);
        let (first, second) = (main(), main());
        assert_eq!(first.place, second.place);
        // It is being written.
        assert_eq!(below(&topic()), None);
        drop(first);
        assert_eq!(below(&topic()), None);
        let place = second.place.clone();
        drop(second);

        let (reader, other) = (topic(), topic());
        assert_eq!(below(&reader), Some(place.clone()));
        assert_eq!(below(&other), Some(place.clone()));
        assert_ne!(reader.files, other.files);
        let writer = main();
        assert_ne!(writer.place, place);
        let newer = writer.place.clone();
        drop((reader, other, writer));
        // What was written last is read, and the first is written again.
        assert_eq!(below(&topic()), Some(newer));
        assert_eq!(main().place, place);
    }

    #[test]
    fn a_cache_that_is_moved_has_one_step_and_the_next_takes_another() {
        let folder = tempfile::tempdir().unwrap();
        let moved = || open(folder.path(), ("main", Sharing::Private), &create).unwrap();
        let (first, second) = (moved(), moved());
        assert_ne!(first.place, second.place);
        let place = first.place.clone();
        drop(first);
        assert_eq!(moved().place, place);
    }

    #[test]
    fn what_lies_over_another_is_never_read_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let topic = open_over(folder, "topic", &["main".to_owned()], &create).unwrap();
        fs_err::write(topic.files.join("planted"), "").unwrap();
        let upper = topic.files.clone();
        drop(topic);
        let names = ["topic", "main", "other"].map(str::to_owned);
        for name in &names {
            let opened = open(folder, (name, Sharing::Shared), &create).unwrap();
            assert!(!opened.files.join("planted").exists(), "{name}");
            drop(opened);
            let other = open_over(folder, "other", &names[..1], &create).unwrap();
            assert_ne!(other.files, upper);
            assert_ne!(other.over.unwrap().below, upper);
        }
    }
}
