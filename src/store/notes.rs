//! Notes: what things were made of the last few times, so that it can be said why they are made again.
//!
//! ```text
//! records/explain-secret           the key of all hashes in notes
//! records/KIND/<place>             which slots are in use, the newest first
//! records/KIND/<place and slot>    a note
//! ```
//! No value of an argument or variable is kept: they are hashed with a key that no other store has, so
//! that nobody can find out by trying. Nothing is looked up by notes but explanations.

use rustix::rand::{GetRandomFlags, getrandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::error::{Cannot as _, Result};
use crate::oci::canonical_json;

/// The kind and key of the record that holds the key of hashes.
const SECRET: &str = "explain-secret";
/// How many digits of a hash are kept: enough to tell two values apart.
const HASH_DIGITS: usize = 16;
/// How many notes a place has at most.
const SLOTS: usize = 4;

/// A note's slot.
#[derive(Clone, Serialize, Deserialize)]
struct Slot {
    number: usize,
    /// Stands for the note: an equal one takes its slot.
    note: String,
}

/// The notes of one kind.
pub struct Notes {
    store: Store,
    kind: &'static str,
    secret: [u8; 32],
}

impl Notes {
    /// Opens the notes of a kind, which is a kind of the store's records.
    pub fn open(store: &Store, kind: &'static str) -> Result<Self> {
        let known = store.get_record::<String>(SECRET, SECRET);
        let known = known.and_then(|text| blake3::Hash::from_hex(text).ok());
        let secret = match known {
            Some(secret) => secret.into(),
            None => begin(store)?,
        };
        Ok(Self { store: store.clone(), kind, secret })
    }

    /// Stands for some values, in this store alone.
    pub fn hash(&self, parts: &[&[u8]]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex()[..HASH_DIGITS].to_owned()
    }

    /// The notes of a place, the newest first.
    pub fn at<T: DeserializeOwned>(&self, place: &str) -> Vec<T> {
        let notes = self.slots(place).into_iter();
        notes
            .filter_map(|slot| self.store.get_record(self.kind, &key(place, slot.number)))
            .collect()
    }

    /// Keeps a note as the newest of its place; the oldest goes where there are too many.
    pub fn keep<T: Serialize>(&self, place: &str, note: &T) -> Result<()> {
        let mut slots = self.slots(place);
        let hash = self.hash(&[&canonical_json(note)]);
        let number = match slots.iter().position(|slot| slot.note == hash) {
            Some(at) => slots.remove(at).number,
            None if slots.len() < SLOTS => {
                let is_free = |number: &usize| slots.iter().all(|slot| slot.number != *number);
                (0..SLOTS).find(is_free).unwrap_or_default()
            }
            None => slots.pop().map_or(0, |slot| slot.number),
        };
        self.store.put_record(self.kind, &key(place, number), note)?;
        slots.insert(0, Slot { number, note: hash });
        self.store.put_record(self.kind, place, &slots)
    }

    fn slots(&self, place: &str) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.store.get_record(self.kind, place).unwrap_or_default();
        slots.truncate(SLOTS);
        slots
    }
}

fn key(place: &str, slot: usize) -> String {
    format!("{place} {slot}")
}

fn begin(store: &Store) -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    let mut filled = 0;
    while filled < secret.len() {
        let got = getrandom(&mut secret[filled..], GetRandomFlags::empty());
        filled += got.map_err(std::io::Error::from).cannot(|| "get random bytes")?;
    }
    store.put_record(SECRET, SECRET, &blake3::Hash::from(secret).to_hex().to_string())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_last_notes_and_none_twice() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = Notes::open(&store, "notes").unwrap();
        for (note, expected) in [
            ("a", &["a"][..]),
            ("b", &["b", "a"]),
            ("a", &["a", "b"]),
            ("c", &["c", "a", "b"]),
            ("d", &["d", "c", "a", "b"]),
            ("e", &["e", "d", "c", "a"]),
            ("c", &["c", "e", "d", "a"]),
        ] {
            notes.keep("place", &note).unwrap();
            assert_eq!(notes.at::<String>("place"), expected, "after {note}");
        }
        assert!(notes.at::<String>("other").is_empty());
        let again = Notes::open(&store, "notes").unwrap();
        assert_eq!(again.hash(&[b"x"]), notes.hash(&[b"x"]));
        assert_ne!(again.hash(&[b"x", b"y"]), notes.hash(&[b"xy"]));
    }

    #[test]
    fn hashes_of_two_stores_cannot_be_compared() {
        let hashes = [(); 2].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            Notes::open(&store, "notes").unwrap().hash(&[b"hunter2"])
        });
        assert_ne!(hashes[0], hashes[1]);
    }
}
