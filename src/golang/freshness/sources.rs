//! Whether the files that a build reads stayed as they were while it ran.
//!
//! The go command hashes a source, and the compiler reads it later: what was saved in between is
//! compiled under the name of what was there before. So whatever a compiler reads must not have
//! changed since before the go command was started, or what it made is worth nothing.
//!
//! A file is told by its change time. A folder's own time moves, too, when a file comes that is no
//! source; so it is its list of names that counts where that is known from before. Links on the
//! way to a folder could lead elsewhere for a while: their own change times count. Where a file
//! system's change times say little ([`Clock::Foreign`]), contents from before and after are
//! compared.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};
use serde::{Deserialize, Serialize};

use super::first_of;
use super::folder::{Rules, Sealed};
use super::stat::{Contents, Kind, Name, OpenFolder, StartedAt, is_file};
use crate::clock::Clock;

/// As many links lead on from one to the next before Linux gives up.
const LINKS: usize = 40;

/// The files that compilers read in a build.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::golang) struct Sources {
    /// Folders in which some names are sources.
    pub(super) folders: BTreeMap<PathBuf, Rules>,
    /// Files of others, by their folders.
    pub(super) sealed: BTreeMap<PathBuf, Vec<String>>,
    /// Files that flags name.
    pub(super) files: BTreeSet<PathBuf>,
}

/// What is known of the folders from before a build.
#[derive(Clone, Debug, Default)]
pub(in crate::golang) struct Before(BTreeMap<PathBuf, View>);

/// The sources in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    names: Vec<String>,
    /// In the same order, where change times say little.
    contents: Option<Vec<Option<Contents>>>,
}

impl Sources {
    /// Looks at the folders before a build.
    pub(in crate::golang) fn before(&self) -> Before {
        let view = |(path, rules): (&PathBuf, &Rules)| {
            let open = OpenFolder::open(path).ok()?;
            let names = names(&open, rules).ok()?;
            Some((path.clone(), View::of(&open, &names)))
        };
        Before(self.folders.iter().filter_map(view).collect())
    }

    /// What a compiler may have seen otherwise than it is now, if anything changed at or after
    /// `since`. `before` was looked at after that moment.
    pub(in crate::golang) fn changed_since(
        &self,
        since: &StartedAt,
        before: &Before,
    ) -> Option<PathBuf> {
        let mut way = Way::new(since);
        for (path, rules) in &self.folders {
            let changed = way.changed(path).or_else(|| {
                let looked = look(path, rules, before.0.get(path), &mut way);
                looked.unwrap_or_else(|_| Some(path.clone()))
            });
            if changed.is_some() {
                return changed;
            }
        }
        let is_new = |path: &&PathBuf| way.changed(path).is_some() || is_new(path, since);
        if let Some(path) = self.files.iter().find(is_new) {
            return Some(path.clone());
        }
        let sealed: Vec<(&PathBuf, &Vec<String>)> = self.sealed.iter().collect();
        first_of(&sealed, &|share| {
            let mut way = Way::new(since);
            share.iter().find_map(|(path, names)| {
                let changed = || Sealed::has_changed(path, names, since).unwrap_or(true);
                way.changed(path).or_else(|| changed().then(|| (*path).clone()))
            })
        })
    }

    /// Takes in files that flags name.
    pub(in crate::golang) fn add_files(&mut self, files: Vec<PathBuf>) {
        self.files.extend(files);
    }
}

/// The first thing in a folder that may have changed since it was looked at.
fn look(
    path: &Path,
    rules: &Rules,
    before: Option<&View>,
    way: &mut Way<'_>,
) -> io::Result<Option<PathBuf>> {
    let open = OpenFolder::open(path)?;
    let clock = open.clock();
    let names = names(&open, rules)?;
    // Its state is taken after its names, or a change in between would go unseen.
    let stat = open.stat()?;
    if clock == Clock::Foreign {
        let same = before.is_some_and(|before| *before == View::of(&open, &names));
        return Ok((!same).then(|| path.to_owned()));
    }
    for Name { name, kind } in &names {
        let file = || path.join(name);
        let is_new = match open.stat_file(name) {
            Ok(stat) => way.since.may_precede(&stat, clock),
            Err(_) => true,
        };
        if is_new || *kind == Kind::Other && way.changed(&file()).is_some() {
            return Ok(Some(file()));
        }
    }
    let has_same_names =
        || before.is_some_and(|before| before.names.iter().eq(names.iter().map(|n| &n.name)));
    let moved = way.since.may_precede(&stat, clock);
    Ok((moved && (was_renamed(&stat) || !has_same_names())).then(|| path.to_owned()))
}

impl View {
    fn of(open: &OpenFolder, names: &[Name]) -> Self {
        let read = |name: &Name| open.read(&name.name).ok().map(|bytes| Contents::of(&bytes));
        let is_foreign = open.clock() == Clock::Foreign;
        Self {
            names: names.iter().map(|name| name.name.clone()).collect(),
            contents: is_foreign.then(|| names.iter().map(read).collect()),
        }
    }
}

/// The names in a folder that compilers read.
fn names(open: &OpenFolder, rules: &Rules) -> io::Result<Vec<Name>> {
    open.names(|name, kind| kind != Kind::Folder && rules.is_read(name))
}

fn is_new(path: &Path, since: &StartedAt) -> bool {
    let stat = super::stat::stat(path).ok().flatten();
    stat.is_some_and(|stat| is_file(&stat) && since.may_precede(&stat, Clock::of_path(path)))
}

/// Whether the last thing that happened to a folder was not a change of the names in it.
///
/// A folder that is renamed away and back has both.
fn was_renamed(stat: &Stat) -> bool {
    (stat.st_ctime, stat.st_ctime_nsec) != (stat.st_mtime, stat.st_mtime_nsec)
}

/// The ways to files: every folder and link on them, each looked at once.
pub(super) struct Way<'a> {
    since: &'a StartedAt,
    seen: BTreeSet<PathBuf>,
}

impl<'a> Way<'a> {
    pub(super) fn new(since: &'a StartedAt) -> Self {
        Self { since, seen: BTreeSet::new() }
    }

    /// Something on the way to `path`, itself included, that may have led elsewhere for a while.
    pub(super) fn changed(&mut self, path: &Path) -> Option<PathBuf> {
        self.changed_within(path, LINKS)
    }

    fn changed_within(&mut self, path: &Path, links: usize) -> Option<PathBuf> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for part in above {
            if self.seen.contains(part) {
                continue;
            }
            self.seen.insert(part.to_owned());
            let Ok(stat) = statat(CWD, part, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_new = || self.since.may_precede(&stat, Clock::of_path(part));
            match kind {
                FileType::Symlink if is_new() => return Some(part.to_owned()),
                FileType::Symlink if links > 0 => {
                    let Ok(target) = fs_err::read_link(part) else { continue };
                    let folder = part.parent().unwrap_or(Path::new("/"));
                    if let Some(changed) = self.changed_within(&folder.join(target), links - 1) {
                        return Some(changed);
                    }
                }
                FileType::Directory if was_renamed(&stat) && is_new() => {
                    return Some(part.to_owned());
                }
                _ => {}
            }
        }
        None
    }
}
