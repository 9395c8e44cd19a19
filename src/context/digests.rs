//! Digests of files that are remembered between builds: what did not change is not read again.
//!
//! A digest holds for a file of the same path, device, inode, size and times. Of these only the change
//! time is hard to forge, and it is worth as much as the file system makes it:
//!
//! - A file that was changed within the tick of the clock in which it was read is not remembered.
//! - On file systems whose change time is another machine's word (NFS, SMB, 9p, FUSE, virtiofs), is
//!   coarse or missing (FAT, exFAT, HFS) or is unknown to us, nothing is remembered: every build reads
//!   the contents. [`Clock`] knows the others. An overlay has the times of the folders below it,
//!   which nobody may change but through it.
//! - A program that writes through a mapping moves the change time when it writes to a page first, and
//!   again only after that page was written to disk. So a file that changed less than that long ago is
//!   not remembered ([`flush_seconds`]). In tmpfs pages are never written to disk: it is not trusted.
//!
//! A digest that is wrong in spite of all this makes no wrong image under a key: what is packed is
//! compared with it. Then the build forgets all of them, and reads.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::known::Known;
use crate::clock::Clock;
use crate::error::{Cannot as _, Error, Result};
use crate::layer::{ContentHash, FileContent, FileState};
use crate::store::Store;
use rustix::fs::fstat;

/// By how much the clocks of two file systems may differ.
const CLOCK_SKEW_SECONDS: i64 = 2;
/// Starting a thread costs as much as reading this many small files.
const SMALLEST_SHARE: usize = 32;
/// Where the kernel says how it writes changed pages to disk.
const FLUSHING: &str = "/proc/sys/vm";

/// The digests of a folder's files.
pub struct Digests {
    store: Store,
    key: String,
    /// How long a change may go on without a sign; `None` for ever.
    flush_seconds: Option<i64>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: Known,
    /// Which file systems are trusted, by their numbers.
    trusted: BTreeMap<u64, bool>,
    loaded: bool,
}

/// A file whose digest is wanted.
pub struct Wanted<'a> {
    /// The path from the context's root.
    pub name: &'a [u8],
    /// The file, as it was found.
    pub file: &'a FileContent,
}

impl Digests {
    /// Remembers digests for the context in `folder`.
    pub fn new(store: &Store, folder: &Path) -> Self {
        let key = folder.display().to_string();
        let flush_seconds = flush_seconds(Path::new(FLUSHING));
        Self { store: store.clone(), key, flush_seconds, inner: Mutex::default() }
    }

    /// The digests of files, in their order.
    pub fn of(&self, files: &[Wanted<'_>]) -> Result<Vec<ContentHash>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.loaded {
            inner.known = Known::load(&self.store, &self.key);
            inner.loaded = true;
        }
        let mut all: Vec<Option<ContentHash>> = Vec::with_capacity(files.len());
        for file in files {
            all.push(inner.known_of(file)?);
        }
        let missing: Vec<usize> = (0..files.len()).filter(|index| all[*index].is_none()).collect();
        let now = if missing.is_empty() { None } else { Some(self.now()?) };
        let read = read_all(files, &missing)?;
        let mut settled = Vec::new();
        for (index, (state, digest)) in missing.into_iter().zip(read) {
            all[index] = Some(digest);
            if inner.trusts(files[index].file, state.device)?
                && now.is_some_and(|now| self.is_settled(&state, &now))
            {
                settled.push((files[index].name, fingerprint(&state), digest));
            }
        }
        if !settled.is_empty() {
            inner.known.extend(settled.into_iter());
        }
        Ok(all.into_iter().flatten().collect())
    }

    /// Keeps what was learnt for the next build. A failure costs that build time and nothing else.
    pub fn save(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.loaded {
            inner.known.save(&self.store, &self.key);
        }
    }

    /// Forgets all digests, also for the next builds.
    pub fn forget(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.known.clear();
        inner.loaded = true;
    }

    /// The present, by the clock that stamps changes. The system's own runs ahead of it.
    fn now(&self) -> Result<FileState> {
        let action = || "look at the clock of the store's file system";
        let place = self.store.root();
        let file = tempfile::tempfile_in(place).cannot(action).map_err(|error| {
            let hint = format!(
                "the store is {}: set GONDOLA_HOME to a folder that can be written to",
                place.display()
            );
            error.hint(hint)
        })?;
        let stat = fstat(&file).map_err(std::io::Error::from).cannot(action)?;
        Ok(FileState::of(&stat))
    }

    /// Whether no change after this could look like none.
    fn is_settled(&self, state: &FileState, now: &FileState) -> bool {
        let Some(flush) = self.flush_seconds else { return false };
        let skew = if state.device == now.device { 0 } else { CLOCK_SKEW_SECONDS };
        let (seconds, nanoseconds) = state.changed;
        (seconds.saturating_add(skew.max(flush)), nanoseconds) < now.changed
    }
}

impl Inner {
    /// What is remembered of a file that is as it was.
    fn known_of(&mut self, wanted: &Wanted<'_>) -> Result<Option<ContentHash>> {
        let Some(seen) = wanted.file.seen() else { return Ok(None) };
        let known = self.known.get(wanted.name, fingerprint(seen));
        if known.is_some() && !self.trusts(wanted.file, seen.device)? {
            return Ok(None);
        }
        Ok(known)
    }

    /// Whether the times of a file's file system say when it changed.
    fn trusts(&mut self, file: &FileContent, device: u64) -> Result<bool> {
        if let Some(known) = self.trusted.get(&device) {
            return Ok(*known);
        }
        let opened = file.open()?;
        let is_trusted = Clock::sees_mapped_writes(opened.file());
        let is_trusted = is_trusted.cannot(|| "ask what a file system is")?;
        self.trusted.insert(device, is_trusted);
        Ok(is_trusted)
    }
}

/// How long it takes at most until a page that was changed is on disk, in seconds: only then does the
/// next change through a mapping move the file's times. `None` where the system does not say it.
fn flush_seconds(settings: &Path) -> Option<i64> {
    let read = |name: &str| -> Option<i64> {
        fs_err::read_to_string(settings.join(name)).ok()?.trim().parse().ok()
    };
    let interval = read("dirty_writeback_centisecs").filter(|interval| *interval > 0)?;
    let longest = read("dirty_expire_centisecs")?;
    // A page that is looked at too early waits for the next time.
    Some((longest + 2 * interval) / 100 + 1)
}

fn fingerprint(state: &FileState) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for number in [state.device, state.inode, state.size] {
        hasher.update(&number.to_le_bytes());
    }
    for (seconds, nanoseconds) in [state.modified, state.changed] {
        hasher.update(&seconds.to_le_bytes());
        hasher.update(&nanoseconds.to_le_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Reads files, on all processors; answers the state that each was opened in, and its digest.
fn read_all(files: &[Wanted<'_>], wanted: &[usize]) -> Result<Vec<(FileState, ContentHash)>> {
    let read = |share: &[usize]| -> Result<Vec<(FileState, ContentHash)>> {
        let one = |&index: &usize| {
            let opened = files[index].file.open()?;
            let state = *opened.state();
            Ok((state, opened.hash()?))
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
    use std::sync::Arc;

    use super::*;
    use crate::layer::{Content, HeldFolder};

    /// A file in a folder that is held open, as it is now.
    fn found(folder: &Path) -> FileContent {
        let folder = Arc::new(HeldFolder::open(folder).unwrap());
        let stat = folder.folder(b"").unwrap().look(Some(b"file")).unwrap().unwrap();
        match Content::beneath(&folder, b"file", &stat) {
            Content::File(file) => file,
            Content::Memory(_) => unreachable!("it is on disk"),
        }
    }

    /// Digests without a wait for changes through mappings.
    fn digests(store: &Store, folder: &Path) -> Digests {
        Digests { flush_seconds: Some(0), ..Digests::new(store, folder) }
    }

    /// Makes a file system look as if it were, or were not, one of the trusted.
    fn trust(digests: &Digests, file: &FileContent, is_trusted: bool) {
        let device = file.seen().unwrap().device;
        digests.inner.lock().unwrap().trusted.insert(device, is_trusted);
    }

    fn read(digests: &Digests, folder: &Path, is_trusted: bool) -> ContentHash {
        let file = found(folder);
        trust(digests, &file, is_trusted);
        digests.of(&[Wanted { name: b"file", file: &file }]).unwrap()[0]
    }

    fn plant(digests: &Digests, folder: &Path) {
        let store = &digests.store;
        let state = *found(folder).seen().unwrap();
        let mut inner = digests.inner.lock().unwrap();
        inner.known = Known::load(store, &digests.key);
        inner.loaded = true;
        inner.known.extend(std::iter::once((&b"file"[..], fingerprint(&state), [7; 32])));
    }

    #[test]
    fn a_digest_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, "one").unwrap();
        let build = || {
            let digests = digests(&store, folder.path());
            let found = read(&digests, folder.path(), true);
            digests.save();
            found
        };
        let one = *blake3::hash(b"one").as_bytes();
        assert_eq!(build(), one);
        fs_err::write(&path, "two").unwrap();
        assert_eq!(build(), *blake3::hash(b"two").as_bytes());
        // Planted: only a digest that was remembered can come out.
        let planted = digests(&store, folder.path());
        plant(&planted, folder.path());
        planted.save();
        assert_eq!(build(), [7; 32]);
        fs_err::write(&path, "one").unwrap();
        assert_eq!(build(), one);
    }

    #[test]
    fn what_turned_out_to_be_wrong_is_forgotten_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        fs_err::write(folder.path().join("file"), "one").unwrap();
        let first = digests(&store, folder.path());
        plant(&first, folder.path());
        first.save();
        let second = digests(&store, folder.path());
        assert_eq!(read(&second, folder.path(), true), [7; 32]);
        second.forget();
        let one = *blake3::hash(b"one").as_bytes();
        assert_eq!(read(&second, folder.path(), true), one);
        second.save();
        assert_eq!(read(&digests(&store, folder.path()), folder.path(), true), one);
    }

    #[test]
    fn contents_are_read_where_the_change_time_is_not_to_be_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        fs_err::write(folder.path().join("file"), "one").unwrap();
        let digests = digests(&store, folder.path());
        plant(&digests, folder.path());
        let one = *blake3::hash(b"one").as_bytes();
        assert_eq!(read(&digests, folder.path(), false), one);
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("file"), "one").unwrap();
        let state = *found(folder.path()).seen().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let digests = digests(&store, folder.path());
        assert!(!digests.is_settled(&state, &state));
        let mut later = state;
        later.changed.0 += 1;
        assert!(digests.is_settled(&state, &later));
        later.device += 1;
        assert!(!digests.is_settled(&state, &later));
        // A change through a mapping may show only when the page was written to disk.
        let mut later = state;
        for (flush_seconds, after, expected) in
            [(Some(41), 41, false), (Some(41), 42, true), (None, 1 << 40, false)]
        {
            later.changed.0 = state.changed.0 + after;
            let digests = Digests { flush_seconds, ..Digests::new(&store, folder.path()) };
            assert_eq!(digests.is_settled(&state, &later), expected, "{flush_seconds:?} {after}");
        }
    }

    #[test]
    fn the_kernel_says_how_long_a_change_may_go_on_without_a_sign() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(flush_seconds(folder.path()), None);
        let set = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
        set("dirty_expire_centisecs", "3000\n");
        set("dirty_writeback_centisecs", "500\n");
        assert_eq!(flush_seconds(folder.path()), Some(41));
        set("dirty_writeback_centisecs", "0\n");
        assert_eq!(flush_seconds(folder.path()), None);
    }
}
