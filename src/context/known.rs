//! Digests by the names of files, 48 bytes each: in memory, and in records of the store.
//!
//! ```text
//! records/context/<hash of the context>              how many parts there are, and the first of them
//! records/context/<hash of the context and a part>   another part: digests whose names' hashes begin alike
//! ```
//! A part that nothing changed in is not written again. The parts may come of several builds: each
//! digest stands for itself.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::layer::ContentHash;
use crate::store::Store;

/// The kind of the store's records that hold digests.
const RECORDS: &str = "context";
/// About how many digests a part has, unless there are more parts than allowed.
const PART: usize = 4096;
/// A power of two.
const MOST_PARTS: u32 = 1024;
/// So many new digests wait until they are sorted in.
const MOST_FRESH: usize = 16 << 10;
/// The bytes of a digest in a record: the hash of the name, the state, the digest.
const ROW: usize = 48;

/// What is known of one file.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The hash of its name.
    name: u64,
    /// What stands for the state in which it was read.
    state: u64,
    digest: ContentHash,
}

/// The digests of a context's files.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Sorted by name.
    rows: Vec<Row>,
    /// Not among the rows yet. Sorted by name.
    fresh: Vec<Row>,
    /// What changed since they were loaded: what the hashes of names begin with.
    changed: BTreeSet<u32>,
    /// How many parts the store has of them.
    parts: u32,
    /// Whether all of it changed.
    is_other: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Head {
    parts: u32,
    first: String,
}

impl Known {
    /// What the store has of a context.
    pub(super) fn load(store: &Store, context: &str) -> Self {
        let head: Head = store.get_record(RECORDS, context).unwrap_or_default();
        if !head.parts.is_power_of_two() || head.parts > MOST_PARTS {
            return Self::default();
        }
        let mut rows = Vec::new();
        read(&head.first, &mut rows);
        for number in 1..head.parts {
            let part: Option<String> = store.get_record(RECORDS, &key(context, number, head.parts));
            read(&part.unwrap_or_default(), &mut rows);
        }
        if !rows.is_sorted_by_key(|row| row.name) {
            rows.sort_unstable_by_key(|row| row.name);
        }
        Self { rows, parts: head.parts, ..Self::default() }
    }

    /// Keeps what changed. A failure costs the next build time and nothing else.
    pub(super) fn save(&mut self, store: &Store, context: &str) {
        self.sort_in();
        if self.changed.is_empty() && !self.is_other {
            return;
        }
        let wanted = self.rows.len().div_ceil(PART).next_power_of_two();
        let parts = u32::try_from(wanted).unwrap_or(MOST_PARTS).min(MOST_PARTS);
        let is_other = std::mem::take(&mut self.is_other) || self.parts != parts;
        let changed = std::mem::take(&mut self.changed);
        let has_changed =
            |number| is_other || changed.iter().any(|own| own * parts / MOST_PARTS == number);
        // The head comes last: until then the parts that it names are those of before.
        for number in (0..parts).rev().filter(|number| has_changed(*number)) {
            let part = self.part(number, parts);
            let _ = match number {
                0 => store.put_record(RECORDS, context, &Head { parts, first: part }),
                _ => store.put_record(RECORDS, &key(context, number, parts), &part),
            };
        }
        self.parts = parts;
    }

    /// The digest of a file that is in this state.
    pub(super) fn get(&self, name: &[u8], state: u64) -> Option<ContentHash> {
        let name = hash(name);
        let find = |rows: &[Row]| {
            let found = rows.binary_search_by_key(&name, |row| row.name).ok()?;
            Some(rows[found]).filter(|row| row.state == state).map(|row| row.digest)
        };
        find(&self.rows).or_else(|| find(&self.fresh))
    }

    /// Takes note of digests.
    pub(super) fn extend<'a>(&mut self, files: impl Iterator<Item = (&'a [u8], u64, ContentHash)>) {
        for (name, state, digest) in files {
            let name = hash(name);
            self.changed.insert(beginning(name));
            match self.rows.binary_search_by_key(&name, |row| row.name) {
                Ok(found) => self.rows[found] = Row { name, state, digest },
                Err(_) => self.fresh.push(Row { name, state, digest }),
            }
        }
        // A name that came twice has the later state.
        self.fresh.reverse();
        self.fresh.sort_by_key(|row| row.name);
        self.fresh.dedup_by_key(|row| row.name);
        if self.fresh.len() > MOST_FRESH {
            self.sort_in();
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self { is_other: true, ..Self::default() };
    }

    fn sort_in(&mut self) {
        if !self.fresh.is_empty() {
            self.rows.append(&mut self.fresh);
            self.rows.sort_unstable_by_key(|row| row.name);
        }
    }

    /// The digests of a part, as records have them.
    fn part(&self, number: u32, parts: u32) -> String {
        let of = |row: &Row| beginning(row.name) * parts / MOST_PARTS;
        let first = self.rows.partition_point(|row| of(row) < number);
        let mut bytes = Vec::new();
        for row in self.rows[first..].iter().take_while(|row| of(row) == number) {
            bytes.extend(row.name.to_le_bytes());
            bytes.extend(row.state.to_le_bytes());
            bytes.extend(row.digest);
        }
        BASE64.encode(bytes)
    }
}

/// Reads the digests of a part. A part that is no such thing has none.
fn read(part: &str, into: &mut Vec<Row>) {
    let bytes = BASE64.decode(part).unwrap_or_default();
    let (rows, _) = bytes.as_chunks::<ROW>();
    into.extend(rows.iter().map(|row| {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&row[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&row[16..]);
        Row { name: number(0), state: number(8), digest }
    }));
}

fn key(context: &str, number: u32, parts: u32) -> String {
    format!("{context}\0{number}/{parts}")
}

fn hash(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(name).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// What a hash begins with: one of as many as there may be parts.
fn beginning(hash: u64) -> u32 {
    u32::try_from(hash >> (64 - MOST_PARTS.trailing_zeros())).expect("these are ten bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> ContentHash {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    fn extend(known: &mut Known, numbers: std::ops::Range<u32>, state: u64) {
        let names: Vec<(String, u32)> =
            numbers.map(|number| (format!("d/{number}"), number)).collect();
        known.extend(names.iter().map(|(name, number)| (name.as_bytes(), state, digest(*number))));
    }

    #[test]
    fn what_is_kept_in_parts_is_found_again_and_only_changed_parts_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let most = 40_000;
        let mut known = Known::load(&store, "here");
        for start in (0..most).step_by(5_000) {
            extend(&mut known, start..start + 5_000, 1);
        }
        let check = |known: &Known| {
            for number in (0..most).step_by(7) {
                let name = format!("d/{number}");
                assert_eq!(known.get(name.as_bytes(), 1), Some(digest(number)), "{number}");
                assert_eq!(known.get(name.as_bytes(), 2), None, "{number}");
            }
            assert_eq!(known.get(b"d/x", 1), None);
        };
        check(&known);
        known.save(&store, "here");
        check(&known);
        let again = Known::load(&store, "here");
        check(&again);
        assert_eq!((again.rows.len(), again.parts), (most as usize, 16));
        assert!(Known::load(&store, "elsewhere").rows.is_empty());

        let written = |store: &Store| {
            let folder = store.root().join("gondola/records/context");
            let mut times: Vec<_> = fs_err::read_dir(folder)
                .unwrap()
                .map(|entry| {
                    use std::os::unix::fs::MetadataExt as _;
                    let entry = entry.unwrap();
                    (entry.file_name(), entry.metadata().unwrap().ino())
                })
                .collect();
            times.sort();
            times
        };
        let before = written(&store);
        let mut changed = again;
        extend(&mut changed, 3..4, 2);
        changed.save(&store, "here");
        let after = written(&store);
        assert_eq!(before.len(), after.len());
        assert_eq!(before.iter().zip(&after).filter(|(one, other)| one != other).count(), 1);
        let last = Known::load(&store, "here");
        assert_eq!(last.get(b"d/3", 2), Some(digest(3)));
        assert_eq!(last.rows.len(), most as usize);
    }

    #[test]
    fn what_is_forgotten_is_gone_from_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut known = Known::load(&store, "here");
        extend(&mut known, 0..9_000, 1);
        known.save(&store, "here");
        known.clear();
        known.save(&store, "here");
        assert!(Known::load(&store, "here").rows.is_empty());
    }
}
