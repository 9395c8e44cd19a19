//! Digests of files that are remembered between builds: what did not change is not read again.
//!
//! A digest holds for a file of the same path, inode, size and times. Only the change time is hard to
//! forge, so a file that was changed within the tick of the clock in which it was read is not
//! remembered.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, Stat, fstat, statat};
use serde::{Deserialize, Serialize};

use crate::dockerfile::files::{ContentDigest, digest_of_file};
use crate::error::{Cannot as _, Error, Result};
use crate::store::Store;

/// The kind of the store's records that hold digests, one for each context.
const RECORDS: &str = "context";
/// By how much the clocks of two file systems may differ.
const CLOCK_SKEW_SECONDS: i64 = 2;
/// Starting a thread costs as much as reading this many small files.
const SMALLEST_SHARE: usize = 32;

/// What is known of one file: the state in which it was read, and its digest.
type Known = (u64, ContentDigest);

/// The digests of a folder's files.
pub struct Digests {
    store: Store,
    key: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: BTreeMap<String, Known>,
    loaded: bool,
    changed: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    files: BTreeMap<String, (u64, String)>,
}

/// A file to read: its path from the context's root, and on this machine.
pub struct Wanted<'a> {
    /// The path from the context's root.
    pub name: &'a str,
    /// The path on this machine.
    pub path: &'a Path,
}

impl Digests {
    /// Remembers digests for the context in `folder`.
    pub fn new(store: &Store, folder: &Path) -> Self {
        let key = folder.display().to_string();
        Self { store: store.clone(), key, inner: Mutex::default() }
    }

    /// The digests of files, in their order.
    pub fn of(&self, files: &[Wanted<'_>]) -> Result<Vec<ContentDigest>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.loaded {
            inner.known = self.load();
            inner.loaded = true;
        }
        let stats = files.iter().map(|file| state(file.path)).collect::<Result<Vec<_>>>()?;
        let unknown = |index: &usize| {
            let known = inner.known.get(files[*index].name);
            known.is_none_or(|(state, _)| *state != fingerprint(&stats[*index]))
        };
        let missing: Vec<usize> = (0..files.len()).filter(unknown).collect();
        let now = if missing.is_empty() { None } else { Some(self.now()?) };
        let read = read_all(files, &stats, &missing)?;
        let fresh: BTreeMap<usize, ContentDigest> = missing.into_iter().zip(read).collect();
        let mut all = Vec::with_capacity(files.len());
        for (index, (file, stat)) in files.iter().zip(&stats).enumerate() {
            let Some(digest) = fresh.get(&index) else {
                all.push(inner.known[file.name].1);
                continue;
            };
            if now.is_some_and(|now| is_settled(stat, &now)) {
                inner.known.insert(file.name.to_owned(), (fingerprint(stat), *digest));
                inner.changed = true;
            }
            all.push(*digest);
        }
        Ok(all)
    }

    /// Keeps what was learnt for the next build. A failure costs that build time and nothing else.
    pub fn save(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut inner.changed) {
            let hex =
                |digest: &ContentDigest| blake3::Hash::from_bytes(*digest).to_hex().to_string();
            let files = inner.known.iter();
            let files = files.map(|(name, (state, digest))| (name.clone(), (*state, hex(digest))));
            let _ = self.store.put_record(RECORDS, &self.key, &Record { files: files.collect() });
        }
    }

    fn load(&self) -> BTreeMap<String, Known> {
        let record: Record = self.store.get_record(RECORDS, &self.key).unwrap_or_default();
        let known = |(name, (state, hex)): (String, (u64, String))| {
            let digest = blake3::Hash::from_hex(hex).ok()?;
            Some((name, (state, *digest.as_bytes())))
        };
        record.files.into_iter().filter_map(known).collect()
    }

    /// The present, by the clock that stamps changes. The system's own runs ahead of it.
    fn now(&self) -> Result<Stat> {
        let action = || "look at the clock of the store's file system";
        let file = tempfile::tempfile_in(self.store.root()).cannot(action)?;
        fstat(&file).map_err(std::io::Error::from).cannot(action)
    }
}

fn state(path: &Path) -> Result<Stat> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(std::io::Error::from)
        .cannot(|| format!("look at {}", path.display()))
}

fn fingerprint(stat: &Stat) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for number in [stat.st_size, stat.st_mtime, stat.st_ctime] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&stat.st_mtime_nsec.to_le_bytes());
    hasher.update(&stat.st_ctime_nsec.to_le_bytes());
    hasher.update(&stat.st_ino.to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Whether no change after this could look like none.
fn is_settled(stat: &Stat, now: &Stat) -> bool {
    let skew = if stat.st_dev == now.st_dev { 0 } else { CLOCK_SKEW_SECONDS };
    (stat.st_ctime.saturating_add(skew), stat.st_ctime_nsec) < (now.st_ctime, now.st_ctime_nsec)
}

/// Reads files, on all processors.
fn read_all(files: &[Wanted<'_>], stats: &[Stat], wanted: &[usize]) -> Result<Vec<ContentDigest>> {
    let read = |share: &[usize]| -> Result<Vec<ContentDigest>> {
        let one = |&index: &usize| {
            let size = u64::try_from(stats[index].st_size).unwrap_or_default();
            digest_of_file(files[index].path, size)
        };
        share.iter().map(one).collect()
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = wanted.len().div_ceil(threads).max(SMALLEST_SHARE);
    let mut shares = wanted.chunks(share);
    let own = shares.next().unwrap_or_default();
    let parts = thread::scope(|scope| {
        let read = &read;
        let start =
            |share| (share, thread::Builder::new().spawn_scoped(scope, move || read(share)));
        let others: Vec<_> = shares.map(start).collect();
        let own = read(own);
        let others = others.into_iter().map(|(share, other)| match other {
            Ok(other) => other.join().expect("reading does not panic"),
            // The system gives no more threads.
            Err(_) => read(share),
        });
        std::iter::once(own).chain(others).collect::<Result<Vec<_>, Error>>()
    })?;
    Ok(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, "one").unwrap();
        let read = || {
            let digests = Digests::new(&store, folder.path());
            let found = digests.of(&[Wanted { name: "file", path: &path }]).unwrap();
            digests.save();
            found[0]
        };
        let one = *blake3::hash(b"one").as_bytes();
        assert_eq!(read(), one);
        fs_err::write(&path, "two").unwrap();
        assert_eq!(read(), *blake3::hash(b"two").as_bytes());
        // Planted: only a digest that was remembered can come out.
        let stat = state(&path).unwrap();
        let digests = Digests::new(&store, folder.path());
        let planted = (fingerprint(&stat), [7; 32]);
        digests.inner.lock().unwrap().known.insert("file".to_owned(), planted);
        digests.inner.lock().unwrap().changed = true;
        digests.save();
        assert_eq!(read(), [7; 32]);
        fs_err::write(&path, "one").unwrap();
        assert_eq!(read(), one);
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, "one").unwrap();
        let stat = state(&path).unwrap();
        assert!(!is_settled(&stat, &stat));
        let mut later = stat;
        later.st_ctime += 1;
        assert!(is_settled(&stat, &later));
        later.st_dev += 1;
        assert!(!is_settled(&stat, &later));
    }
}
