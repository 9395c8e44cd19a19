//! The number of the store's form on disk, in `gondola/format`: programs of several versions meet in
//! one store, the older ones at work included.
//!
//! - A store of a newer form is refused before anything in it is touched.
//! - A store of an older form is read as it is: names, blobs and containers mean the same in every
//!   form. Records of another form count as absent, and none are kept there, until the number is
//!   raised.
//! - The number is raised when a process begins to write and no other is at work: an older program
//!   holds a lease for as long as it runs, and the next one of its kind is refused.
//!
//! Stores without a number have the first form.

use super::file_lock::Lock;
use super::lock::Census;
use super::{Store, StorePlace, absent_as_none};
use crate::error::{Error, ErrorKind, Result};

/// The form that this program writes. A change of what a folder of the store means, or of the form
/// of any record, takes the next number.
pub(super) const FORMAT: u32 = 1;
/// The form of stores that have no number.
const FIRST: u32 = 1;
/// What a number is at most read of: more is none.
const LONGEST_NUMBER: usize = 32;

/// The number that a text is; one that is too large to be read is of a newer form in any case.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u32::MAX))
}

impl Store {
    /// Reads the form of the store, which may be absent yet; errs where it is not for `ours`.
    pub(super) fn read_format(&self, ours: u32) -> Result<u32> {
        let path = self.place(StorePlace::Format);
        let action = || format!("open the store {}", self.display());
        let bytes = absent_as_none(fs_err::read(&path)).map_err(|error| {
            Error::new(ErrorKind::Io, action())
                .caused_by(error)
                .hint("set GONDOLA_HOME to another folder")
        })?;
        let Some(bytes) = bytes else { return Ok(FIRST) };
        let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= LONGEST_NUMBER);
        match text.and_then(|text| number(text.trim())) {
            Some(found) if found > ours => Err(Error::new(ErrorKind::Unsupported, action())
                .because(format!("its format is {found}, expected {ours} or less"))
                .hint(
                    "a newer gondola made it: use that one, or set GONDOLA_HOME to another folder",
                )),
            Some(found) if found >= FIRST => Ok(found),
            _ => Err(Error::new(ErrorKind::Corrupt, action())
                .because(format!("{} holds no number of a format", path.display()))
                .hint(format!(
                    "set GONDOLA_HOME to another folder; or write {ours} into that file, if no newer gondola was at work in this store"
                ))),
        }
    }

    /// Raises the number of an older store, unless another process is at work there; gives the number
    /// that holds then. The caller has no lease yet.
    pub(super) fn raise_format(&self, ours: u32) -> Result<u32> {
        let failed = |error| self.cannot_write(error);
        let Some(_lock) = Lock::try_exclusive(&self.collect_lock()).map_err(failed)? else {
            return self.read_format(ours);
        };
        let found = self.read_format(ours)?;
        let is_busy = Census::take(&self.place(StorePlace::Work)).map_err(failed)?.oldest.is_some();
        if found == ours || is_busy {
            return Ok(found);
        }
        self.write_format(ours)?;
        Ok(ours)
    }

    /// Writes the number of a store, in the place of an older one.
    pub(super) fn write_format(&self, number: u32) -> Result<()> {
        let path = self.place(StorePlace::Format);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(self.place(StorePlace::Work))?;
            std::io::Write::write_all(&mut file, format!("{number}\n").as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map(|_| ()).map_err(|error| error.error)
        };
        write().map_err(|error| self.cannot_write(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A store of the first form, as programs left it that knew of no number.
    fn first(folder: &Path) -> Store {
        let store = Store::open(folder).unwrap();
        fs_err::remove_file(store.place(StorePlace::Format)).unwrap();
        store
    }

    #[test]
    fn a_number_is_read_as_such_however_large() {
        for (text, expect) in [
            ("1", Some(1)),
            ("0012", Some(12)),
            ("99999999999999999999", Some(u32::MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1\n2", None),
            ("x", None),
        ] {
            assert_eq!(number(text), expect, "{text:?}");
        }
    }

    #[test]
    fn an_older_store_is_raised_when_nobody_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        drop(first(&root));
        let newer = Store::open_in_format(&root, 2).unwrap();
        assert_eq!(newer.read_format(2).unwrap(), 1, "who reads changes nothing");
        newer.put_record("kind", "key", &7).unwrap();
        assert_eq!(newer.read_format(2).unwrap(), 2);
        assert_eq!(newer.get_record::<u32>("kind", "key"), Some(7));
        let error = Store::open(&root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("its format is 2, expected 1 or less"), "{text}");
        assert!(text.contains("GONDOLA_HOME"), "{text}");
    }

    #[test]
    fn nothing_is_rewritten_while_an_older_process_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let older = first(&root);
        older.put_record("kind", "key", &7).unwrap();
        let record = older.place(StorePlace::Records).join("kind");
        let newer = Store::open_in_format(&root, 2).unwrap();
        assert_eq!(newer.get_record::<u32>("kind", "key"), None, "a record of another form");
        newer.put_record("kind", "key", &8).unwrap();
        newer.put_record("kind", "other", &8).unwrap();
        let digest = newer.put(b"blobs are the same in every form").unwrap();
        assert_eq!(fs_err::read_dir(&record).unwrap().count(), 1);
        assert!(!older.place(StorePlace::Format).exists());
        assert_eq!(older.get_record::<u32>("kind", "key"), Some(7));
        assert_eq!(older.has(&digest).unwrap(), Some(32));
        // When it has ended, the next one raises the number; records of the old form stay absent.
        drop((older, newer));
        let next = Store::open_in_format(&root, 2).unwrap();
        next.put(b"more").unwrap();
        assert_eq!(next.read_format(2).unwrap(), 2);
        assert_eq!(next.get_record::<u32>("kind", "key"), None);
        next.put_record("kind", "key", &9).unwrap();
        assert_eq!(next.get_record::<u32>("kind", "key"), Some(9));
    }

    #[test]
    fn a_new_store_has_the_number_of_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        assert_eq!(
            fs_err::read_to_string(store.place(StorePlace::Format)).unwrap(),
            format!("{FORMAT}\n")
        );
    }
}
