//! What a build read, so that a later run knows with a few file states that nothing changed.
//!
//! The go command needs some hundredths of a second to find that out, as it loads every package.
//! A record of a build holds instead, of everything that the compiler read:
//!
//! - the folders of the packages of the main module, of its workspace and of local replacements,
//!   with every name in them that matters to a build, and each file's state and contents;
//! - the folders that `...` would look for packages in, and those that are embedded;
//! - `go.mod`, `go.sum`, `go.work`, `go.work.sum` and `vendor/modules.txt` of each, and the places
//!   where such a file would take effect if it appeared;
//! - the files of the standard library, of the toolchain, of the module cache and of vendored
//!   modules, as one state per folder.
//!
//! Two rules make it sound. A state is that of the change time, which nobody can set back, and of
//! all else that an edit moves. And a record in which anything changed after the compiler was
//! started is worthless ([`StartedAt`]): nobody knows what the compiler saw. So there is no file that
//! was edited within the same tick of the clock and looks as it did. Where change times say little
//! ([`crate::clock`]), the sources are read again at every check. Not so the files of the module
//! cache, the toolchain and vendored modules: nobody edits those, and who does so on such a file
//! system, within the moment in which nothing shows it, has to build with `--no-cache`.
//!
//! What depends on more than files that can be listed, such as a VCS stamp or C headers, is for
//! the go command to decide; then a record only saves asking which packages there are.

mod folder;
mod inventory;
mod others;
mod recorded;
mod source;
mod sources;
mod stat;
mod trace;
mod users;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Result};
use crate::glob;

use super::packages::Package;
use folder::{Changes, Folder, Lone, Sealed, Stale};
use sources::Way;

pub(super) use inventory::{Documents, Inventory};
pub(super) use others::ChangedOthers;
pub use recorded::Recorded;
pub(super) use sources::{Before, Sources};
pub use stat::StartedAt;
pub use trace::Trace;

/// The version of the record's form; a record of another form is worthless.
const FORMAT: u32 = 1;

/// Starting a thread costs as much as looking at this many folders.
const SMALLEST_SHARE: usize = 64;

/// What a build read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// Why the record does not say what the compiler read, if it does not.
    worthless: Option<String>,
    /// Whether the compiler read more than files that can be listed.
    is_partial: bool,
    packages: Vec<Package>,
    lone: Vec<Lone>,
    folders: Vec<Folder>,
    sealed: Vec<Sealed>,
}

/// What became of the inputs of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing changed: a build would give the same programs.
    Current,
    /// The same, but it took reading files to see that; [`Record::refreshed`] makes the next
    /// check fast again.
    Touched,
    /// The programs must be compiled again, but they are the same packages and consist of the
    /// same files. Names what changed, where that is known.
    ContentsOnly(Vec<PathBuf>),
    /// Nothing is known; says why.
    Stale(String),
}

impl Record {
    /// Records what a build read that began at `since` and has ended.
    ///
    /// `since` must have been taken before anything else of that build, a [`Record::check`] of an
    /// older record included. Take the record before anything is written into the source folders.
    pub fn of(trace: Trace, since: &StartedAt) -> Result<Self> {
        trace.record(since).cannot(|| "record what was compiled")
    }

    /// The main packages that were built, in the order in which they were found.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The files that compilers read.
    pub(super) fn sources(&self) -> Sources {
        let folders = self.folders.iter();
        let folders = folders.filter_map(|of| Some((of.path.clone(), of.rules_for_compilers()?)));
        let sealed = self.sealed.iter().map(Sealed::parts);
        let sealed = sealed.map(|(path, names)| (path.to_owned(), names.to_vec()));
        Sources { folders: folders.collect(), sealed: sealed.collect(), ..Sources::default() }
    }

    /// Stands for the contents of all files below a folder that compilers read, by their paths in it;
    /// `None` where a record cannot say that. It changes with those alone.
    pub fn digest_of_sources(&self, folder: &Path) -> Option<String> {
        if self.worthless.is_some() || self.is_partial {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for (path, contents) in self.contents_below(folder)? {
            // No path has a zero byte.
            hasher.update(path.as_os_str().as_encoded_bytes()).update(&[0]).update(&contents);
        }
        Some(hasher.finalize().to_hex().to_string())
    }

    /// The files below a folder that compilers read, sorted, with what stands for their contents.
    fn contents_below(&self, folder: &Path) -> Option<BTreeMap<PathBuf, [u8; 16]>> {
        let mut all = BTreeMap::new();
        for of in &self.folders {
            let Ok(inside) = of.path.strip_prefix(folder) else { continue };
            for (name, contents) in of.files_for_compilers() {
                all.insert(inside.join(name), contents?.to_bytes());
            }
        }
        Some(all)
    }

    /// Compares what the build read with what is there now. Starts no process.
    pub fn check(&self) -> Check {
        self.with_others(self.check_own())
    }

    /// The same; but where programs must be compiled in any case, the folders of others are not looked at.
    /// That is done meanwhile: see [`Recorded`].
    pub fn check_before_compiling(&self) -> Check {
        match self.check_own() {
            Check::ContentsOnly(paths) if !paths.is_empty() => Check::ContentsOnly(paths),
            own => self.with_others(own),
        }
    }

    /// What a check comes to if the folders of others are looked at, too.
    fn with_others(&self, own: Check) -> Check {
        match own {
            Check::Stale(why) => Check::Stale(why),
            own => check_sealed(&self.sealed).map_or_else(Check::Stale, |()| own),
        }
    }

    fn check_own(&self) -> Check {
        let mut changes = Changes::default();
        match self.compare_own(&mut changes) {
            Err(why) => Check::Stale(why),
            Ok(()) if !changes.contents.is_empty() || self.is_partial => {
                Check::ContentsOnly(changes.contents)
            }
            Ok(()) if changes.touched => Check::Touched,
            Ok(()) => Check::Current,
        }
    }

    fn compare_own(&self, changes: &mut Changes) -> Result<(), Stale> {
        if self.format != FORMAT {
            return Err("the record has another form".to_owned());
        }
        if let Some(why) = &self.worthless {
            return Err(why.clone());
        }
        self.lone.iter().try_for_each(|lone| lone.check(changes))?;
        self.folders.iter().try_for_each(|folder| folder.check(changes))
    }

    /// The record of a build that began at `since` after a check had given [`Check::Touched`] or
    /// [`Check::ContentsOnly`]; none if more than that changed since then in one's own folders.
    pub fn refreshed(&self, since: &StartedAt) -> Option<Self> {
        // The folders of others are kept as they were. Where they were others while go worked, go was asked what
        // it reads, and the record is made of that; where they are others since then, the next check says so.
        if matches!(self.check_own(), Check::Stale(_)) {
            return None;
        }
        let mut settled = Settled::new(since);
        let mut folders = Vec::with_capacity(self.folders.len());
        for folder in &self.folders {
            let again = settled.take(&folder.path, folder.reread(since)).ok()?;
            if !again.has_the_outline_of(folder) {
                return None;
            }
            folders.push(again);
        }
        let read = |lone: &Lone| settled.take(&lone.path, Lone::read(&lone.path, since));
        let lone = self.lone.iter().map(read).collect::<io::Result<_>>().ok()?;
        Some(Self { worthless: settled.worthless, folders, lone, ..self.clone() })
    }
}

/// Looks at the folders of others.
fn check_sealed(sealed: &[Sealed]) -> Result<(), Stale> {
    let stale = first_of(sealed, &|share| share.iter().find_map(|of| of.check().err()));
    stale.map_or(Ok(()), Err)
}

/// Looks for something in a list of folders, of which large programs have thousands, on all processors.
fn first_of<T: Sync, R: Send>(all: &[T], find: &(impl Fn(&[T]) -> Option<R> + Sync)) -> Option<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = all.len().div_ceil(threads).max(SMALLEST_SHARE);
    let mut shares = all.chunks(share);
    let own = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let start =
            |share| (share, thread::Builder::new().spawn_scoped(scope, move || find(share)));
        let others: Vec<_> = shares.map(start).collect();
        let own = find(own);
        let others = others.into_iter().map(|(share, other)| match other {
            Ok(other) => other.join().expect("no look panics"),
            // The system gives no more threads.
            Err(_) => find(share),
        });
        others.fold(own, Option::or)
    })
}

/// Whether a name matches one element of a pattern of `//go:embed`.
///
/// A malformed pattern matches everything: it must not hide a file.
fn matches(pattern: &str, name: &str) -> bool {
    glob::matches(pattern.as_bytes(), name.as_bytes()).unwrap_or(true)
}

/// Gathers whether anything changed while a build ran.
struct Settled<'a> {
    worthless: Option<String>,
    way: Way<'a>,
}

impl<'a> Settled<'a> {
    fn new(since: &'a StartedAt) -> Self {
        Self { worthless: None, way: Way::new(since) }
    }

    /// Passes on what was read of a path.
    fn take<T>(&mut self, path: &Path, read: io::Result<(T, bool)>) -> io::Result<T> {
        let (value, unsettled) = read?;
        let changed = if unsettled { Some(path.to_owned()) } else { self.way.changed(path) };
        if let Some(path) = changed {
            self.worthless = Some(format!("{} changed while it was compiled", path.display()));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_patterns_hide_no_file() {
        for malformed in ["[", "[]", "[a", "[-x]", "a\\", "b[", "*[a"] {
            assert!(matches(malformed, "a"), "{malformed}");
        }
        assert!(matches("*.html", "index.html"));
        assert!(!matches("*.html", "index.htm"));
    }
}
