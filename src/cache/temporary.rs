//! What processes are writing, and what those left that were killed.

use std::path::{Path, PathBuf};

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts};
use crate::error::Result;
use crate::store::{Collector, Standing, Store, StorePlace};

pub(super) struct Temporary;

impl Cache for Temporary {
    fn name(&self) -> &'static str {
        "temporary"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let mut inside = file.strip_prefix(StorePlace::Work.path()).ok()?.iter();
        let process = inside.next()?;
        // What lies beside the folders is nobody's.
        inside.next()?;
        let path: PathBuf = Path::new(StorePlace::Work.path()).join(process);
        Some(EntryPath { path, used: None })
    }

    fn standing(&self, store: &Store, entry: &Path) -> Standing {
        if store.is_of_the_living(&store.root().join(entry)) {
            Standing::InUse
        } else {
            Standing::Garbage
        }
    }

    fn remove(&self, collector: &mut Collector, store: &Store, entry: &Entry) -> Result<bool> {
        // A process that began while the entries were looked at may have had no lock yet: now it has.
        if self.standing(store, &entry.path) == Standing::InUse {
            return Ok(false);
        }
        collector.remove(&entry.path).map(|()| true)
    }

    fn describe(&self, store: &Store, entry: &Entry, _: &Names) -> String {
        let is_used = self.standing(store, &entry.path) == Standing::InUse;
        if is_used { "being written" } else { "left behind" }.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Describer, View};

    #[test]
    fn a_folder_whose_process_has_begun_meanwhile_stays() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.put(b"makes a folder of this process").unwrap();
        let view = View::take(&store).unwrap();
        let own = view.entries().iter().find(|entry| entry.cache == Temporary.name()).unwrap();
        // As it was seen before its lease was locked.
        let entry = Entry { standing: Standing::Garbage, ..own.clone() };
        let mut collector = store.collect().unwrap();
        assert!(!Temporary.remove(&mut collector, &store, &entry).unwrap());
        assert!(home.path().join(&entry.path).exists());
    }

    #[test]
    fn what_the_living_write_is_told_from_what_the_dead_left() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.put(b"makes a folder of this process").unwrap();
        let dead = store.place(StorePlace::Work).join("dead");
        fs_err::create_dir(&dead).unwrap();
        for name in ["lease", "0"] {
            fs_err::write(dead.join(name), "").unwrap();
        }
        let view = View::take(&store).unwrap();
        let describer = Describer::new(&store, &view).unwrap();
        let temporary = view.entries().iter().filter(|entry| entry.cache == Temporary.name());
        let mut said: Vec<_> = temporary
            .map(|entry| (entry.path.ends_with("dead"), describer.describe(entry)))
            .collect();
        said.sort();
        let expected = [(false, "being written"), (true, "left behind")];
        assert_eq!(said, expected.map(|(is_dead, said)| (is_dead, said.to_owned())));
    }
}
