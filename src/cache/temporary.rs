//! What processes are writing, and what those left that were killed.

use std::path::{Path, PathBuf};

use super::describe::Known;
use super::{Cache, Entry, EntryPath, Facts};
use crate::store::{Standing, Store, StorePlace};

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

    fn describe(&self, _: &Store, entry: &Entry, _: &Known) -> String {
        let whose = if entry.standing == Standing::InUse { "being written" } else { "left behind" };
        whose.to_owned()
    }
}
