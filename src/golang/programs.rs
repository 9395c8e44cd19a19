//! The folder for programs, which `cache::programs` draws.
//!
//! KEY stands for a folder, a platform and flags. `go` only ever writes below `run-XXXXXX`, and
//! its output is renamed into `kept`: a program in there is whole, and what one process packs is
//! what it built, whatever others build meanwhile. What a killed process leaves is removed by the
//! next one.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::cache::programs::{ALIVE, KEPT, LOCK, RUN, is_dead};
use crate::error::{Cannot, Result};
use crate::layer::{Content, ContentHash};
use crate::store::names;

use super::buildinfo::build_id;

/// How often a process looks whether another one is done with the same programs.
const LOCK_INTERVAL: Duration = Duration::from_millis(15);

/// The programs of one process.
#[derive(Debug)]
pub(super) struct Run {
    folder: TempDir,
    _alive: Option<fs_err::File>,
}

impl Run {
    /// Makes a folder for a process, and removes those of processes that were killed.
    pub(super) fn begin(programs: &Path) -> Result<Self> {
        let action = || format!("make a folder in {}", programs.display());
        fs_err::create_dir_all(programs).cannot(action)?;
        sweep(programs);
        let folder = tempfile::Builder::new().prefix(RUN).tempdir_in(programs);
        let folder = folder.cannot(action)?;
        // Locked before it has its name, or a sweep could take it for one that was left behind.
        let unnamed = folder.path().join("starting");
        let alive = fs_err::File::create(&unnamed).cannot(action)?;
        let locked = alive.file().try_lock().is_ok();
        if locked {
            fs_err::rename(unnamed, folder.path().join(ALIVE)).cannot(action)?;
        }
        Ok(Self { folder, _alive: locked.then_some(alive) })
    }

    /// When it was made, by the clock of the file system.
    pub(super) fn began(&self) -> Option<SystemTime> {
        fs_err::metadata(self.folder.path()).and_then(|found| found.modified()).ok()
    }

    /// Makes a folder for programs of different names.
    pub(super) fn folder(&self, number: usize) -> Result<PathBuf> {
        let folder = self.folder.path().join(number.to_string());
        fs_err::create_dir(&folder).cannot(|| "make a folder for programs")?;
        Ok(folder)
    }
}

/// Removes the folders of processes that were killed.
fn sweep(programs: &Path) {
    for name in names(programs) {
        if name.as_encoded_bytes().starts_with(RUN.as_bytes()) && is_dead(&programs.join(&name)) {
            let _ = fs_err::remove_dir_all(programs.join(name));
        }
    }
}

/// The kept programs of one folder, platform and flags. No other process builds them meanwhile.
pub(super) struct LastPrograms {
    folder: PathBuf,
    _lock: Option<fs_err::File>,
}

impl LastPrograms {
    /// Waits until no other process builds the same programs.
    ///
    /// The lock saves work and guards nothing, so a file system that has no locks does without.
    pub(super) async fn open(programs: &Path, key: &str) -> Result<Self> {
        let folder = programs.join(KEPT).join(short_hash(key));
        fs_err::create_dir_all(&folder).cannot(|| "make the folder for programs")?;
        let lock = folder.with_extension(LOCK);
        let lock = fs_err::OpenOptions::new().create(true).append(true).open(lock);
        let lock = lock.cannot(|| "lock the folder for programs")?;
        loop {
            let held = match lock.file().try_lock() {
                Ok(()) => Some(lock),
                Err(TryLockError::Error(_)) => None,
                Err(TryLockError::WouldBlock) => {
                    tokio::time::sleep(LOCK_INTERVAL).await;
                    continue;
                }
            };
            return Ok(Self { folder, _lock: held });
        }
    }

    fn place(&self, package: &str, program: &Path) -> PathBuf {
        self.folder.join(short_hash(package)).join(program.file_name().unwrap_or_default())
    }

    /// Puts the last program of a package where `go` is going to write the next one.
    pub(super) fn restore(&self, package: &str, program: &Path) {
        // Without an old program, go links a new one.
        let _ = link_or_copy(&self.place(package, program), program);
    }

    /// Makes a program the last one of its package. `before` are programs that are known by their
    /// places: one that `go` left alone is not read.
    pub(super) fn save(
        &self,
        package: &str,
        program: &Path,
        before: &KnownPrograms,
    ) -> Result<Program> {
        let place = self.place(package, program);
        let action = || format!("keep the program {}", place.display());
        replace(program, &place).cannot(action)?;
        let state = State::of(program).cannot(action)?;
        let build_id = build_id(program).ok().flatten();
        let known =
            before.get(&place).filter(|before| before.was_left_alone(&state, build_id.as_deref()));
        let contents = match known {
            Some(before) => before.contents,
            None => Content::file(program, state.size).hash().cannot(action)?,
        };
        let State { size, inode, modified } = state;
        Ok(Program { place, size, inode, modified, build_id, contents })
    }
}

/// A kept program, and by what it is known to be still the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    place: PathBuf,
    size: u64,
    /// A program is only ever replaced as a whole, by a new file, so these tell it from others.
    inode: u64,
    modified: (i64, i64),
    /// The linker derives it from the program's bytes. It still tells when go has set the time of
    /// a program that it left alone.
    build_id: Option<String>,
    /// The hash of its bytes: the layer that has it is found without reading it.
    #[serde(with = "crate::layer::hexadecimal")]
    contents: ContentHash,
}

/// Kept programs, by their places.
pub(super) type KnownPrograms = BTreeMap<PathBuf, Program>;

/// A file in a folder of ours, and the hash of its bytes where that is known.
pub(super) type Borrowed = (PathBuf, Option<ContentHash>);

/// How a file is the same as a kept program.
#[derive(PartialEq, Eq)]
enum Same {
    /// It has the same bytes.
    Bytes,
    /// It has the same build ID, which says nothing of the bytes.
    Program,
}

/// What tells a program from the one that replaces it.
struct State {
    size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl State {
    fn of(file: &Path) -> io::Result<Self> {
        let found = fs_err::metadata(file)?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Self { size: found.len(), inode: found.ino(), modified })
    }
}

impl Program {
    /// Whether the go command, which replaces a program by a new file, has set its time at most.
    fn was_left_alone(&self, now: &State, build_id: Option<&str>) -> bool {
        (self.size, self.inode) == (now.size, now.inode)
            && self.names_its_bytes()
            && self.build_id.as_deref() == build_id
    }

    /// Whether its build ID is of the linker's making. One that flags set says nothing of the bytes.
    fn names_its_bytes(&self) -> bool {
        let hashes = |id: &String| id.contains('/') && id.split('/').all(|part| part.len() == 20);
        self.build_id.as_ref().is_some_and(hashes)
    }

    /// Where it is kept.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Its length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the kept program is still the same. Touches nothing.
    pub(super) fn is_there(&self) -> bool {
        self.is_at(&self.place).is_some()
    }

    /// Whether a file is still the same program; `None` where it is another.
    fn is_at(&self, path: &Path) -> Option<Same> {
        let found = State::of(path).ok().filter(|found| found.size == self.size)?;
        if (found.inode, found.modified) == (self.inode, self.modified) {
            return Some(Same::Bytes);
        }
        let is_same = self.build_id.is_some() && build_id(path).ok()? == self.build_id;
        is_same.then(|| if self.names_its_bytes() { Same::Bytes } else { Same::Program })
    }

    /// Gives the program a second name in a folder, if it is still the same.
    pub(super) fn borrow_into(&self, folder: &Path) -> Option<Borrowed> {
        // The link is made first: what it leads to cannot be replaced any more.
        let path = folder.join(self.place.file_name()?);
        link_or_copy(&self.place, &path).ok()?;
        let hash = (self.is_at(&path)? == Same::Bytes).then_some(self.contents);
        Some((path, hash))
    }

    /// The hash of its bytes.
    pub(super) fn contents(&self) -> ContentHash {
        self.contents
    }
}

/// Gives a file a second name, or a copy where the file system has no such thing.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs_err::hard_link(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => fs_err::copy(from, to).map(|_| ()),
        result => result,
    }
}

/// Puts a program in a place at once, if another one is there.
fn replace(program: &Path, place: &Path) -> io::Result<()> {
    let new = fs_err::metadata(program)?;
    if fs_err::metadata(place).is_ok_and(|old| (old.dev(), old.ino()) == (new.dev(), new.ino())) {
        return Ok(());
    }
    let folder = place.parent().expect("a kept program is in a folder");
    fs_err::create_dir_all(folder)?;
    let temporary = tempfile::tempdir_in(folder)?;
    let link = temporary.path().join("program");
    link_or_copy(program, &link)?;
    fs_err::rename(link, place)
}

fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(folder).unwrap().map(Result::unwrap);
        let mut names: Vec<String> = entries.map(|e| e.file_name().display().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_folders_of_dead_processes_are_removed() {
        let programs = tempfile::tempdir().unwrap();
        let first = Run::begin(programs.path()).unwrap();
        let second = Run::begin(programs.path()).unwrap();
        assert!(first.folder(0).unwrap().is_dir() && second.folder(0).unwrap().is_dir());
        let killed = programs.path().join("run-killed");
        fs_err::create_dir_all(killed.join("0")).unwrap();
        fs_err::write(killed.join("alive"), "").unwrap();
        drop(first);
        let third = Run::begin(programs.path()).unwrap();
        assert!(!killed.exists());
        assert_eq!(names(programs.path()).len(), 2);
        drop((second, third));
        assert!(names(programs.path()).is_empty());
    }
}
