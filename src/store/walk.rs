//! The one walk through what is kept: which files there are, how large, how old.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::absent_as_none;

/// The bytes of some files. Those of a file that has several names are free when all names are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Of files with one name.
    pub bytes: u64,
    /// Files with more names, each name once.
    pub shared: Vec<SharedFile>,
}

/// A file with several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFile {
    /// Device and inode.
    pub file: (u64, u64),
    /// Its bytes.
    pub bytes: u64,
    /// How many names it has, wherever they are.
    pub names: u64,
}

impl Size {
    /// So many bytes that nothing else has.
    pub fn of_bytes(bytes: u64) -> Self {
        Self { bytes, shared: Vec::new() }
    }

    /// Adds a file.
    pub fn add(&mut self, found: &Metadata) {
        if found.nlink() <= 1 {
            self.bytes += found.len();
        } else {
            let file = (found.dev(), found.ino());
            self.shared.push(SharedFile { file, bytes: found.len(), names: found.nlink() });
        }
    }
}

/// Visits every file and symbolic link below a folder, in the order of their names: those behind
/// `after` alone, where a walk ended before. Folders that `is_one` says so of are visited like files.
///
/// Paths are relative to the folder. What vanishes meanwhile, or cannot be seen, is left out.
pub fn walk(
    folder: &Path,
    after: Option<&Path>,
    is_one: &dyn Fn(&Path) -> bool,
    visit: &mut dyn FnMut(&Path, &Metadata) -> ControlFlow<()>,
) -> ControlFlow<()> {
    walk_on(folder, after, is_one, &mut |_, found| visit(found.0, found.1))
}

/// What is done with the number of files in a folder and each of them.
type VisitListed<'a> = dyn FnMut(usize, (&Path, &Metadata)) -> ControlFlow<()> + 'a;

/// As [`walk`], and says with each file how many there are in its folder: listing them
/// is what takes long in a folder of a hundred thousand.
pub fn walk_on(
    folder: &Path,
    after: Option<&Path>,
    is_one: &dyn Fn(&Path) -> bool,
    visit: &mut VisitListed<'_>,
) -> ControlFlow<()> {
    let after = after.map(|path| path.iter().map(OsString::from).collect());
    Walk { top: folder, is_one, visit }.inside(Path::new(""), after)
}

struct Walk<'a> {
    top: &'a Path,
    is_one: &'a dyn Fn(&Path) -> bool,
    visit: &'a mut VisitListed<'a>,
}

impl Walk<'_> {
    fn inside(&mut self, folder: &Path, after: Option<VecDeque<OsString>>) -> ControlFlow<()> {
        let mut after = after.unwrap_or_default();
        let first = after.pop_front();
        let (names, listed) = names_from(&self.top.join(folder), first.as_deref());
        for name in LazilySorted::new(names) {
            let path = folder.join(&name);
            let is_on_the_way = first.as_ref() == Some(&name);
            let Ok(found) = fs_err::symlink_metadata(self.top.join(&path)) else { continue };
            if found.is_dir() && !(self.is_one)(&path) {
                self.inside(&path, is_on_the_way.then(|| std::mem::take(&mut after)))?;
            } else if !is_on_the_way {
                (self.visit)(listed, (&path, &found))?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Names in their order, of which no more are sorted than are asked for.
struct LazilySorted(Vec<OsString>);

impl LazilySorted {
    /// So many are sorted at once.
    const PART: usize = 4096;

    fn new(names: Vec<OsString>) -> Self {
        let rest = names.len() % Self::PART;
        let mut all = Self(names);
        all.sort(rest);
        all
    }

    /// Puts the first names to the end, in the order in which they are taken from there.
    fn sort(&mut self, count: usize) {
        let Self(names) = self;
        let middle = names.len().saturating_sub(count);
        if middle > 0 && middle < names.len() {
            names.select_nth_unstable_by(middle, |a, b| b.cmp(a));
        }
        names[middle..].sort_unstable_by(|a, b| b.cmp(a));
    }
}

impl Iterator for LazilySorted {
    type Item = OsString;

    fn next(&mut self) -> Option<OsString> {
        if self.0.len().is_multiple_of(Self::PART) {
            self.sort(Self::PART);
        }
        self.0.pop()
    }
}

/// The names in a folder that do not come before `first`, and how many there are in all; none where it
/// cannot be read.
fn names_from(folder: &Path, first: Option<&OsStr>) -> (Vec<OsString>, usize) {
    let entries = fs_err::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut listed = 0;
    let names = entries.map(|entry| entry.file_name()).inspect(|_| listed += 1);
    let names = names.filter(|name| first.is_none_or(|first| name.as_os_str() >= first)).collect();
    (names, listed)
}

/// The names in a folder, sorted; none where it cannot be read.
pub fn names(folder: &Path) -> Vec<OsString> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// The size of all files below a folder.
pub fn size_below(folder: &Path) -> Size {
    let mut size = Size::default();
    // The visitor never ends the walk.
    let _ = walk(folder, None, &|_| false, &mut |_, found| {
        size.add(found);
        ControlFlow::Continue(())
    });
    size
}

/// The files right in a folder, which may be absent; one that vanishes meanwhile is left out.
pub(super) fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut files = Vec::new();
    for entry in absent_as_none(fs_err::read_dir(folder))?.into_iter().flatten() {
        let path = entry?.path();
        match absent_as_none(fs_err::symlink_metadata(&path))? {
            Some(metadata) if metadata.is_file() => files.push((path, metadata)),
            _ => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_on_where_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/x", "a/y/1", "a/y/2", "a/z", "b", "one/inside", "c/d"] {
            let path = folder.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "12").unwrap();
        }
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        let all = |after: Option<&Path>, most: usize| {
            let mut found: Vec<PathBuf> = Vec::new();
            let _ = walk(folder.path(), after, &|path| path.ends_with("one"), &mut |path, _| {
                found.push(path.to_owned());
                if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            found
        };
        let whole = all(None, usize::MAX);
        let expected = ["a/x", "a/y/1", "a/y/2", "a/z", "b", "c/d", "link", "one"];
        assert_eq!(whole, expected.map(PathBuf::from));
        for (number, path) in whole.iter().enumerate() {
            assert_eq!(all(Some(path), usize::MAX), whole[number + 1..], "{}", path.display());
        }
        // What a walk ended at may be gone.
        assert_eq!(all(Some(Path::new("a/y/1a")), 1), [PathBuf::from("a/y/2")]);
        assert_eq!(all(Some(Path::new("a/w/1")), 1), [PathBuf::from("a/x")]);
    }

    #[test]
    fn names_come_in_order_however_many_there_are() {
        for count in [0, 1, 4095, 4096, 4097, 10_000] {
            let folder = tempfile::tempdir().unwrap();
            let mut expected: Vec<_> =
                (0..count).map(|n: u32| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
            for name in &expected {
                fs_err::write(folder.path().join(name), "").unwrap();
            }
            expected.sort();
            for after in [None, expected.get(count as usize / 2)] {
                let mut found = Vec::new();
                let _ = walk(folder.path(), after.map(Path::new), &|_| false, &mut |path, _| {
                    found.push(path.to_str().unwrap().to_owned());
                    ControlFlow::Continue(())
                });
                let behind = after.map_or(0, |_| count as usize / 2 + 1);
                assert_eq!(found, expected[behind..], "{count} {after:?}");
            }
        }
    }

    #[test]
    fn files_with_several_names_are_told() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("a"), "123").unwrap();
        fs_err::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        fs_err::write(folder.path().join("c"), "12345").unwrap();
        let size = size_below(folder.path());
        assert_eq!((size.bytes, size.shared.len()), (5, 2));
        assert_eq!(size.shared[0], size.shared[1]);
        assert_eq!((size.shared[0].bytes, size.shared[0].names), (3, 2));
    }
}
