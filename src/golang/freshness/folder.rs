//! A folder that the compiler reads from, as it was.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

use super::source;
use super::stat::{Contents, Fingerprint, Kind, Name, OpenFolder, StartedAt, is_file};
use super::users::Users;
use crate::disk;
use crate::golang::documents::{PROFILE, is_source};

/// A larger file is not read to see whether its contents changed; it counts as changed.
const READ_LIMIT: i64 = 32 << 20;
/// A lone file is a document of Go's, of which none comes near.
const LARGEST_LONE: u64 = 256 << 20;

/// Which names in a folder mean something to a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules {
    /// Source files: a package is, or may come to be, in this folder.
    pub sources: bool,
    /// That package is compiled, so the bodies of its functions count too.
    pub compiled: bool,
    /// Folders in which `...` finds packages.
    pub walked: bool,
    /// Names that match one of these, because a `//go:embed` pattern has it as an element.
    pub globs: Vec<String>,
    /// Everything, because the folder is embedded; and whether hidden names are, too.
    pub embedded: Option<bool>,
}

/// Version control keeps its files under these names; they are never embedded.
pub(super) const UNEMBEDDABLE: [&str; 4] = [".bzr", ".git", ".hg", ".svn"];

impl Rules {
    /// Whether a name may change what a build reads.
    pub(super) fn matter(&self, name: &str, kind: Kind) -> bool {
        let visible = !name.starts_with(['.', '_']);
        let source = || is_source(name) || name == "go.mod";
        let package = || visible && !matches!(name, "testdata" | "vendor");
        match kind {
            Kind::Folder => self.walked && package() || self.embeds(name),
            Kind::File | Kind::Other => self.sources && source() || self.embeds(name),
        }
    }

    /// Whether a compiler reads a file of this name.
    pub(super) fn is_read(&self, name: &str) -> bool {
        let is_compiled = || is_source(name) && !name.ends_with("_test.go");
        self.compiled && is_compiled() || self.embeds(name)
    }

    /// Whether a compiler reads anything.
    pub(super) fn are_read(&self) -> bool {
        self.compiled || self.embedded.is_some() || !self.globs.is_empty()
    }

    /// Whether a name may be part of what is embedded.
    fn embeds(&self, name: &str) -> bool {
        let in_tree = match self.embedded {
            None => false,
            Some(hidden) => hidden || !name.starts_with(['.', '_']),
        };
        let matched = in_tree || self.globs.iter().any(|pattern| super::matches(pattern, name));
        matched && !UNEMBEDDABLE.contains(&name)
    }

    /// Whether a file's contents have no say in which packages and files a build needs.
    fn are_free(&self, name: &str) -> bool {
        let source = self.sources && is_source(name);
        name == PROFILE || self.embeds(name) && !source && name != "go.mod"
    }

    /// Takes in the rules of another use of the same folder.
    pub(super) fn merge(&mut self, other: Self) {
        self.sources |= other.sources;
        self.compiled |= other.compiled;
        self.walked |= other.walked;
        self.embedded = self.embedded.max(other.embedded);
        for pattern in other.globs {
            if !self.globs.contains(&pattern) {
                self.globs.push(pattern);
            }
        }
    }
}

/// A folder and the names in it that matter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Folder {
    pub path: PathBuf,
    rules: Rules,
    stat: Fingerprint,
    files: Vec<File>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    folders: Vec<String>,
    /// The packages that need it, where not all may: for explanations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    users: Option<Users>,
}

/// A file in a folder; there may be many thousands, so the names in JSON are short.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct File {
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "s")]
    stat: Fingerprint,
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    is_link: bool,
    /// None if it was too large to be read, or was no file.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    contents: Option<Contents>,
    /// Of a Go file: see [`source::outline`].
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    outline: Option<Contents>,
}

/// How much of something is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Something was touched that turned out to be the same.
    pub touched: bool,
    /// Files whose new contents can be compiled without asking which packages there are.
    pub contents: Vec<PathBuf>,
}

/// Why nothing is known any more.
pub(super) type Stale = String;

impl Folder {
    /// The files that compilers read, with what stands for the contents of each, where that is known.
    pub(super) fn files_for_compilers(&self) -> impl Iterator<Item = (&str, Option<Contents>)> {
        let read = self.files.iter().filter(|file| self.rules.is_read(&file.name));
        read.map(|file| (file.name.as_str(), file.contents))
    }

    /// Reads a folder; the flag tells whether something in it changed at or after `since`.
    pub(super) fn read(path: &Path, rules: Rules, since: &StartedAt) -> io::Result<(Self, bool)> {
        Self::read_beside(path, rules, since, &[])
    }

    /// The same; files that are in the state of those in `earlier`, which are sorted, are not read.
    fn read_beside(
        path: &Path,
        rules: Rules,
        since: &StartedAt,
        earlier: &[File],
    ) -> io::Result<(Self, bool)> {
        let open = OpenFolder::open(path)?;
        let clock = open.clock();
        let (folders, names) = split(open.names(|name, kind| rules.matter(name, kind))?);
        // Its state is taken after its names, or a change in between would go unseen.
        let stat = open.stat()?;
        let mut unsettled = since.may_precede(&stat, clock);
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let known = earlier.binary_search_by(|file| file.name.cmp(&name.name));
            let known = known.ok().filter(|_| clock != Clock::Foreign);
            let unchanged = known.and_then(|at| earlier[at].unchanged(&open, name.kind));
            let (file, stat) = match unchanged {
                Some((file, stat)) => (file, Some(stat)),
                None => File::read(&open, name)?,
            };
            unsettled |= stat.is_some_and(|stat| since.may_precede(&stat, clock));
            files.push(file);
        }
        let stat = Fingerprint::of(&stat);
        let (path, users) = (path.to_owned(), None);
        Ok((Self { path, rules, stat, files, folders, users }, unsettled))
    }

    /// Its rules, if a compiler reads anything in it.
    pub(super) fn rules_for_compilers(&self) -> Option<Rules> {
        self.rules.are_read().then(|| self.rules.clone())
    }

    /// Reads the folder again, by the same rules, and what changed in it.
    pub(super) fn reread(&self, since: &StartedAt) -> io::Result<(Self, bool)> {
        let read = Self::read_beside(&self.path, self.rules.clone(), since, &self.files);
        read.map(|(again, unsettled)| (again.used_by(self.users.clone()), unsettled))
    }

    /// The same, with the packages that need it.
    pub(super) fn used_by(self, users: Option<Users>) -> Self {
        Self { users, ..self }
    }

    /// Whether a package may need it.
    pub(super) fn may_be_used_by(&self, number: usize) -> bool {
        self.users.as_ref().is_none_or(|users| users.have(number))
    }

    /// The folder without anything in it.
    pub(super) fn emptied(&self) -> Self {
        Self { files: Vec::new(), folders: Vec::new(), ..self.clone() }
    }

    /// Whether an equal build would ask for the same files and packages.
    pub(super) fn has_the_outline_of(&self, other: &Self) -> bool {
        let files = self.files.iter().zip(&other.files);
        self.folders == other.folders
            && self.files.len() == other.files.len()
            && files.into_iter().all(|(a, b)| {
                let equal = a.contents == b.contents && a.contents.is_some();
                let same_outline = a.outline.is_some() && a.outline == b.outline;
                let same = equal || same_outline || self.rules.are_free(&a.name);
                a.name == b.name && a.is_link == b.is_link && same
            })
    }

    /// Compares what was with what is.
    pub(super) fn check(&self, changes: &mut Changes) -> Result<(), Stale> {
        let gone = |error: io::Error| format!("{}: {error}", self.path.display());
        let open = OpenFolder::open(&self.path).map_err(gone)?;
        let is_foreign = open.clock() == Clock::Foreign;
        let is_touched = Fingerprint::of(&open.stat().map_err(gone)?) != self.stat;
        changes.touched |= is_touched;
        if is_touched || is_foreign {
            self.check_names(&open)?;
        }
        for file in &self.files {
            let stat = open.stat_file(&file.name).ok();
            let state = stat.as_ref().map_or(Fingerprint::NONE, Fingerprint::of);
            if file.stat != state {
                self.check_file(&open, file, changes)?;
            } else if is_foreign && state != Fingerprint::NONE {
                let mut found = Changes::default();
                self.check_file(&open, file, &mut found)?;
                changes.contents.extend(found.contents);
            }
        }
        Ok(())
    }

    fn check_names(&self, open: &OpenFolder) -> Result<(), Stale> {
        let names = open.names(|name, kind| self.rules.matter(name, kind));
        let names = names.map_err(|error| format!("{}: {error}", self.path.display()))?;
        let (folders, files) = split(names);
        let same_files = files.len() == self.files.len()
            && files.iter().zip(&self.files).all(|(now, then)| {
                now.name == then.name && (now.kind == Kind::Other) == then.is_link
            });
        if folders == self.folders && same_files {
            return Ok(());
        }
        Err(format!("{} has other files than before", self.path.display()))
    }

    /// Looks into a file whose state is another one.
    fn check_file(
        &self,
        open: &OpenFolder,
        then: &File,
        changes: &mut Changes,
    ) -> Result<(), Stale> {
        let path = || self.path.join(&then.name);
        let stale = || format!("{} changed", path().display());
        let name = Name { name: then.name.clone(), kind: then.kind() };
        let (now, stat) = File::read(open, name).map_err(|_| stale())?;
        if stat.is_none() {
            return Err(stale());
        }
        if now.contents.is_some() && now.contents == then.contents {
            changes.touched = true;
            return Ok(());
        }
        let same_outline = now.outline.is_some() && now.outline == then.outline;
        if !same_outline && !self.rules.are_free(&then.name) {
            return Err(stale());
        }
        let compiled = self.rules.compiled && !then.name.ends_with("_test.go");
        if compiled || self.rules.embeds(&then.name) {
            changes.contents.push(path());
        } else {
            changes.touched = true;
        }
        Ok(())
    }
}

impl File {
    /// Reads what a name leads to; the state is none if that is no file.
    fn read(open: &OpenFolder, name: Name) -> io::Result<(Self, Option<Stat>)> {
        let is_link = name.kind == Kind::Other;
        let stat = || open.stat_file(&name.name).ok().filter(is_file);
        let (mut contents, mut outline) = (None, None);
        if stat().is_some_and(|stat| stat.st_size <= READ_LIMIT) {
            let bytes = open.read(&name.name)?;
            contents = Some(Contents::of(&bytes));
            outline = name.name.strip_suffix(".go").map(|_| source::outline(&bytes));
        }
        // Its state is taken after its contents, or a change in between would go unseen.
        let stat = stat();
        let fingerprint = stat.as_ref().map_or(Fingerprint::NONE, Fingerprint::of);
        Ok((Self { name: name.name, stat: fingerprint, is_link, contents, outline }, stat))
    }

    /// The same file, if it is in the same state: then its contents are the same, too.
    fn unchanged(&self, open: &OpenFolder, kind: Kind) -> Option<(Self, Stat)> {
        let stat = open.stat_file(&self.name).ok().filter(is_file)?;
        let is_same = self.kind() == kind && self.stat == Fingerprint::of(&stat);
        is_same.then(|| (self.clone(), stat))
    }

    fn kind(&self) -> Kind {
        if self.is_link { Kind::Other } else { Kind::File }
    }
}

fn split(names: Vec<Name>) -> (Vec<String>, Vec<Name>) {
    let (folders, files): (Vec<Name>, Vec<Name>) =
        names.into_iter().partition(|name| name.kind == Kind::Folder);
    (folders.into_iter().map(|folder| folder.name).collect(), files)
}

/// A folder whose files nobody edits: of the standard library, the toolchain, the module cache or
/// a vendored module. Their contents are not kept; any change makes a record worthless.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    path: PathBuf,
    files: Vec<String>,
    stat: Fingerprint,
    /// The packages that need it, where not all may: for explanations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    users: Option<Users>,
}

impl Sealed {
    /// Takes the state of a folder and of some of its files; the flag tells whether something
    /// changed at or after `since`.
    pub(super) fn read(
        path: &Path,
        files: Vec<String>,
        since: &StartedAt,
    ) -> io::Result<(Self, bool)> {
        let (stats, clock) = Self::stats(path, &files)?;
        let unsettled = stats.iter().any(|stat| since.may_precede(stat, clock));
        let stat = Fingerprint::of_all(&stats);
        Ok((Self { path: path.to_owned(), files, stat, users: None }, unsettled))
    }

    /// The same, with the packages that need it.
    pub(super) fn used_by(self, users: Option<Users>) -> Self {
        Self { users, ..self }
    }

    /// Whether a package may need it.
    pub(super) fn may_be_used_by(&self, number: usize) -> bool {
        self.users.as_ref().is_none_or(|users| users.have(number))
    }

    /// Whether a folder or some of its files changed at or after `since`.
    pub(super) fn has_changed(
        path: &Path,
        files: &[String],
        since: &StartedAt,
    ) -> io::Result<bool> {
        let (stats, clock) = Self::stats(path, files)?;
        Ok(stats.iter().any(|stat| since.may_precede(stat, clock)))
    }

    /// The folder and the names of its files.
    pub(super) fn parts(&self) -> (&Path, &[String]) {
        (&self.path, &self.files)
    }

    pub(super) fn check(&self) -> Result<(), Stale> {
        match Self::stats(&self.path, &self.files) {
            Ok((stats, _)) if Fingerprint::of_all(&stats) == self.stat => Ok(()),
            Ok(_) => Err(format!("a file in {} changed", self.path.display())),
            Err(error) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    fn stats(path: &Path, files: &[String]) -> io::Result<(Vec<Stat>, Clock)> {
        let open = OpenFolder::open(path)?;
        let mut stats = Vec::with_capacity(files.len() + 1);
        stats.push(open.stat()?);
        for name in files {
            stats.push(open.stat_file(name)?);
        }
        Ok((stats, open.clock()))
    }
}

/// A file outside of every watched folder that can be anything or absent, such as `go.sum`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lone {
    pub path: PathBuf,
    stat: Fingerprint,
    contents: Option<Contents>,
}

impl Lone {
    /// Reads a file; the flag tells whether it changed at or after `since`.
    pub(super) fn read(path: &Path, since: &StartedAt) -> io::Result<(Self, bool)> {
        let contents = match super::stat::stat(path)? {
            Some(stat) if is_file(&stat) => Some(Contents::of(&disk::read(path, LARGEST_LONE)?)),
            _ => None,
        };
        let stat = super::stat::stat(path)?;
        let clock = Clock::of_path(path);
        let unsettled = stat.as_ref().is_some_and(|stat| since.may_precede(stat, clock));
        let stat = stat.as_ref().map_or(Fingerprint::NONE, Fingerprint::of);
        Ok((Self { path: path.to_owned(), stat, contents }, unsettled))
    }

    /// Whether there was anything.
    pub(super) fn is_there(&self) -> bool {
        self.stat != Fingerprint::NONE
    }

    /// What stands for its contents, where it was a file.
    pub(super) fn contents(&self) -> Option<Contents> {
        self.contents
    }

    pub(super) fn check(&self, changes: &mut Changes) -> Result<(), Stale> {
        let stale = || format!("{} changed", self.path.display());
        let stat = super::stat::stat(&self.path).map_err(|_| stale())?;
        let is_same = stat.as_ref().map_or(Fingerprint::NONE, Fingerprint::of) == self.stat;
        let is_file_before = self.contents.is_some();
        if is_same && !(is_file_before && Clock::of_path(&self.path) == Clock::Foreign) {
            return Ok(());
        }
        match (stat, self.contents) {
            (Some(stat), Some(contents)) if is_file(&stat) => {
                let now = disk::read(&self.path, LARGEST_LONE).map_err(|_| stale())?;
                changes.touched |= !is_same;
                if Contents::of(&now) == contents { Ok(()) } else { Err(stale()) }
            }
            _ => Err(stale()),
        }
    }
}
