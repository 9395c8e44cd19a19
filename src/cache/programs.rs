//! The last programs of Go packages. `golang` writes them, see `golang::programs`.
//!
//! ```text
//! programs/<scope>/about                      whose they are, for people
//! programs/<scope>/kept/KEY.lock              held while a process builds what KEY stands for; its
//!                                             mtime = the last build, about
//! programs/<scope>/kept/KEY/PACKAGE/NAME      the last program of a package
//! programs/<scope>/run-XXXXXX/N/NAME          hard links to them that belong to one process
//! programs/<scope>/run-XXXXXX/alive           locked while that process lives
//! ```

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts, modified, note_use};
use crate::error::Result;
use crate::store::{CacheScope, Collector, Lock, Standing, Store, StorePlace, names};

/// The folder of a scope for what stays.
pub const KEPT: &str = "kept";
/// How the folders of processes begin.
pub const RUN: &str = "run-";
/// The file in such a folder that its process locks.
pub const ALIVE: &str = "alive";
/// What the lock of a key ends with.
pub const LOCK: &str = "lock";
/// The file that says whose programs they are.
const ABOUT: &str = "about";

pub(super) struct Programs;

/// Says whose programs a folder has, where it is kept.
pub fn write_about(programs: &Path, scope: &CacheScope) {
    if programs.is_dir() {
        super::write_about(&programs.join(ABOUT), scope.display());
    }
}

/// Notes that a program was used that is kept at a path.
pub fn note_use_of(program: &Path, now: SystemTime) {
    if let Some(key) = program.ancestors().nth(2) {
        note_use(&key.with_extension(LOCK), now);
    }
}

impl Cache for Programs {
    fn name(&self) -> &'static str {
        "programs"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let inside = file.strip_prefix(StorePlace::Programs.path()).ok()?;
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
        match parts[..] {
            // Folders of earlier versions look like this, but have no scope.
            [KEPT, ..] => None,
            [_, KEPT, _, _, _] => {
                let key = file.ancestors().nth(2)?;
                Some(EntryPath { path: file.to_owned(), used: Some(key.with_extension(LOCK)) })
            }
            [scope, run, ..] if run.starts_with(RUN) => {
                let path = Path::new(StorePlace::Programs.path()).join(scope).join(run);
                Some(EntryPath { path, used: None })
            }
            // What is left of a scope when its programs are gone.
            [scope, ABOUT] | [scope, KEPT, _] => {
                let path = Path::new(StorePlace::Programs.path()).join(scope);
                Some(EntryPath { path, used: None })
            }
            _ => None,
        }
    }

    fn standing(&self, store: &Store, entry: &Path) -> Standing {
        let path = store.root().join(entry);
        if scope_of(entry).as_deref() == Some(entry) {
            return if is_empty(&path) { Standing::Garbage } else { Standing::InUse };
        }
        if is_run(entry) {
            return if is_dead(&path) { Standing::Garbage } else { Standing::InUse };
        }
        let lock = path.ancestors().nth(2).map(|key| key.with_extension(LOCK));
        let is_held = lock.is_some_and(|lock| Lock::is_held_at_all(&lock).unwrap_or(false));
        if is_held { Standing::InUse } else { Standing::Useful }
    }

    fn remove(&self, collector: &mut Collector, store: &Store, entry: &Entry) -> Result<bool> {
        let is_used = self.standing(store, &entry.path) == Standing::InUse;
        let is_program = entry.path.components().count() == 6;
        if is_used || (is_program && last_use(store, &entry.path) > Some(entry.used)) {
            return Ok(false);
        }
        collector.remove(&entry.path).map(|()| true)
    }

    fn describe(&self, store: &Store, entry: &Entry, names: &Names) -> String {
        let name = match entry.path.components().count() {
            2 => "notes".to_owned(),
            _ => entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let scope = scope_of(&entry.path).map(|scope| store.root().join(scope).join(ABOUT));
        match scope.and_then(|about| names.about(about)) {
            Some(whose) => format!("{name} of {whose}"),
            None => name,
        }
    }
}

fn last_use(store: &Store, entry: &Path) -> Option<SystemTime> {
    let key = entry.ancestors().nth(2)?;
    modified(&store.root().join(key.with_extension(LOCK)))
        .or_else(|| modified(&store.root().join(entry)))
}

fn scope_of(entry: &Path) -> Option<PathBuf> {
    let scope = entry.strip_prefix(StorePlace::Programs.path()).ok()?.iter().next()?;
    Some(Path::new(StorePlace::Programs.path()).join(scope))
}

fn is_run(entry: &Path) -> bool {
    entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(RUN.as_bytes()))
        && entry.iter().count() == 3
}

/// Whether the process of a folder was killed. One that has no lock yet is not.
pub fn is_dead(run: &Path) -> bool {
    let Ok(alive) = fs_err::File::open(run.join(ALIVE)) else { return false };
    !matches!(alive.file().try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
}

/// Whether a scope keeps no program, and no process has any.
fn is_empty(scope: &Path) -> bool {
    let is_run = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(RUN.as_bytes());
    let keys = names(&scope.join(KEPT)).into_iter().map(|key| scope.join(KEPT).join(key));
    let mut packages = keys.flat_map(|key| names(&key).into_iter().map(move |name| key.join(name)));
    !names(scope).iter().any(is_run) && packages.all(|package| names(&package).is_empty())
}
