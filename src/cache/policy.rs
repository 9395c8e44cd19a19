//! What goes first: one policy over all caches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::Entry;
use crate::store::{Size, Standing};

/// What pruning removes. Named images always stay, and so does what is in use.
///
/// Without a limit and without `all`, only what nothing can find again goes: content that neither a
/// name nor a record leads to, and what earlier versions and killed processes left. With `all`, every
/// cache goes. With a limit, the part of the caches that is over it goes; with both limits, the part
/// that is over both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Removes what was last used at least so long ago.
    pub older_than: Option<Duration>,
    /// Removes the least recently used, until all caches together have so many bytes.
    pub keep_bytes: Option<u64>,
    /// Removes everything; a limit narrows it down again.
    pub all: bool,
    /// Removes nothing, and answers what would be removed.
    pub dry_run: bool,
}

impl Policy {
    fn is_for_garbage(&self) -> bool {
        !self.all && self.older_than.is_none() && self.keep_bytes.is_none()
    }
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// The entries, the least recently used first.
    pub entries: Vec<Entry>,
    /// The bytes that are free then.
    pub bytes: u64,
    /// What the policy would remove, and what stays because it belongs to a range of ids whose root this
    /// process is not.
    pub of_others: Usage,
    freed: Freed,
}

impl Pruned {
    /// Counts an entry that is gone.
    pub(super) fn count(&mut self, entry: &Entry) {
        self.bytes += self.freed.by(&entry.size);
        self.entries.push(entry.clone());
    }

    /// How many entries, and the bytes in them, of the cache of a name.
    pub fn of(&self, cache: &str) -> Usage {
        Usage::of(self.entries.iter().filter(|entry| entry.cache == cache))
    }
}

/// How much a cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many entries.
    pub count: u64,
    /// Their bytes; a file that several of them have counts once.
    pub bytes: u64,
    /// When one of them was last used.
    pub last_used: Option<SystemTime>,
}

impl Usage {
    /// Adds up entries.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let (mut usage, mut seen) = (Self::default(), BTreeSet::new());
        for entry in entries {
            usage.count += 1;
            usage.bytes += distinct_bytes(&entry.size, &mut seen);
            usage.last_used = usage.last_used.max(Some(entry.used));
        }
        usage
    }
}

/// The bytes of files that were not seen before.
fn distinct_bytes(size: &Size, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
    let shared = size.shared.iter().filter(|shared| seen.insert(shared.file));
    size.bytes + shared.map(|shared| shared.bytes).sum::<u64>()
}

/// What is free when entries are removed one after the other: the bytes of a file with several names
/// with the last of them.
#[derive(Clone, Debug, Default)]
struct Freed {
    gone: BTreeMap<(u64, u64), u64>,
}

impl Freed {
    fn by(&mut self, size: &Size) -> u64 {
        let mut bytes = size.bytes;
        for shared in &size.shared {
            let gone = self.gone.entry(shared.file).or_default();
            *gone += 1;
            if *gone == shared.names {
                bytes += shared.bytes;
            }
        }
        bytes
    }
}

/// What the policy removes, the least recently used first.
pub(super) fn choose(mut entries: Vec<Entry>, policy: &Policy, now: SystemTime) -> Vec<Entry> {
    entries.retain(|entry| entry.standing != Standing::Named);
    let kept = Usage::of(&entries).bytes;
    let only_garbage = policy.is_for_garbage();
    entries.retain(|entry| match entry.standing {
        Standing::Garbage => true,
        Standing::Useful => !only_garbage,
        Standing::InUse | Standing::Named => false,
    });
    if let Some(age) = policy.older_than {
        let old = |entry: &Entry| now.duration_since(entry.used).unwrap_or_default() >= age;
        entries.retain(old);
    }
    entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    if let Some(keep) = policy.keep_bytes {
        let (over, mut freed, mut total) = (kept.saturating_sub(keep), Freed::default(), 0);
        let mut is_over = |entry: &Entry| {
            let is_over = total < over;
            total += freed.by(&entry.size);
            is_over
        };
        let enough = entries.iter().position(|entry| !is_over(entry));
        entries.truncate(enough.unwrap_or(entries.len()));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SharedFile;

    fn entry(path: &str, bytes: u64, age: u64) -> Entry {
        Entry {
            cache: "steps",
            path: path.into(),
            size: Size::of_bytes(bytes),
            used: now() - Duration::from_secs(age),
            standing: Standing::Useful,
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn shared(path: &str, age: u64, names: u64) -> Entry {
        let file = SharedFile { file: (1, 7), bytes: 100, names };
        let size = Size { bytes: 1, shared: vec![file] };
        Entry { size, ..entry(path, 0, age) }
    }

    #[test]
    fn the_least_recently_used_go_first_of_whatever_kind_until_enough_is_free() {
        let mut all = vec![entry("a", 10, 1), entry("b", 20, 3), entry("c", 30, 2)];
        all[0].cache = "programs";
        all.push(Entry { standing: Standing::InUse, ..entry("used", 40, 9) });
        all.push(Entry { standing: Standing::Named, ..entry("image", 1000, 9) });
        let chosen = |keep: Option<u64>, older: Option<u64>, everything: bool| {
            let policy = Policy {
                keep_bytes: keep,
                older_than: older.map(Duration::from_secs),
                all: everything,
                dry_run: false,
            };
            let chosen = choose(all.clone(), &policy, now());
            chosen.iter().map(|entry| entry.path.display().to_string()).collect::<String>()
        };
        assert_eq!(chosen(Some(100), None, false), "");
        assert_eq!(chosen(Some(99), None, false), "b");
        assert_eq!(chosen(Some(80), None, false), "b");
        assert_eq!(chosen(Some(79), None, false), "bc");
        assert_eq!(chosen(Some(0), None, false), "bca");
        assert_eq!(chosen(None, None, true), "bca");
        assert_eq!(chosen(None, Some(2), false), "bc");
        assert_eq!(chosen(Some(79), Some(3), false), "b");
        assert_eq!(chosen(None, None, false), "");
    }

    #[test]
    fn a_file_with_several_names_counts_once_and_is_free_with_the_last_of_them() {
        let all = vec![shared("a", 3, 2), shared("b", 2, 2), entry("c", 5, 1)];
        assert_eq!(Usage::of(&all).bytes, 107);
        let policy = |keep| Policy { keep_bytes: Some(keep), ..Policy::default() };
        assert_eq!(choose(all.clone(), &policy(106), now()).len(), 1);
        assert_eq!(choose(all.clone(), &policy(105), now()).len(), 2);
        let mut pruned = Pruned::default();
        pruned.count(&all[0]);
        assert_eq!(pruned.bytes, 1);
        pruned.count(&all[1]);
        assert_eq!(pruned.bytes, 102);
        // A name elsewhere, such as a running build's, keeps the bytes.
        let mut pruned = Pruned::default();
        for entry in [shared("a", 1, 3), shared("b", 1, 3)] {
            pruned.count(&entry);
        }
        assert_eq!(pruned.bytes, 2);
    }
}
