//! Folders of earlier versions, which nothing uses any more.

use std::path::{Path, PathBuf};

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts};
use crate::error::Result;
use crate::store::{Collector, Lock, Standing, Store, StorePlace};

/// Folders of the store that only earlier versions had.
pub(super) const FOLDERS: [&str; 1] = ["tmp"];

/// What earlier versions kept of Go builds before there were scopes.
const OF_GO: [&str; 3] = ["build", "path", "toolchains"];
/// What every Go build of such a version locks.
const IN_USE: &str = "in-use";

pub(super) struct Unused;

impl Cache for Unused {
    fn name(&self) -> &'static str {
        "unused"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let top = FOLDERS.map(PathBuf::from).into_iter().find(|folder| file.starts_with(folder));
        let path = top.or_else(|| of_go(file)).or_else(|| of_programs(file))?;
        Some(EntryPath { path, used: None })
    }

    fn standing(&self, store: &Store, entry: &Path) -> Standing {
        let is_used = is_of_go(entry)
            && Lock::is_held_at_all(&store.place(StorePlace::GoCaches).join(IN_USE))
                .unwrap_or(true);
        if is_used { Standing::InUse } else { Standing::Garbage }
    }

    fn remove(&self, collector: &mut Collector, store: &Store, entry: &Entry) -> Result<bool> {
        if self.standing(store, &entry.path) == Standing::InUse {
            return Ok(false);
        }
        collector.remove(&entry.path).map(|()| true)
    }

    fn describe(&self, _: &Store, entry: &Entry, _: &Names) -> String {
        format!("{} of an earlier version", entry.path.display())
    }
}

fn is_of_go(path: &Path) -> bool {
    path.starts_with(StorePlace::GoCaches.path())
}

fn of_go(file: &Path) -> Option<PathBuf> {
    let name = file.strip_prefix(StorePlace::GoCaches.path()).ok()?.iter().next()?;
    let is_one = OF_GO.iter().any(|known| name == *known);
    is_one.then(|| Path::new(StorePlace::GoCaches.path()).join(name))
}

/// Programs that are in no scope's folder.
fn of_programs(file: &Path) -> Option<PathBuf> {
    let name = file.strip_prefix(StorePlace::Programs.path()).ok()?.iter().next()?.to_str()?;
    let is_one = name == "kept" || name.starts_with("run-");
    is_one.then(|| Path::new(StorePlace::Programs.path()).join(name))
}
