//! What the files of a folder looked like, so that a later look tells what was touched.
//!
//! ```text
//! state (32 bytes)  identity (16 bytes)  path  NUL      an entry; in the order of the walk
//! ```
//!
//! The change time of a file, which no program can set, tells whether it was touched; folders, whose
//! change time says too much, are compared by what an archive would hold of them. A kernel may give two
//! changes within a tick of its clock the same time: a record is finished when the clock has gone on.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FileType, Stat, Timestamps, UTIME_NOW};

use super::as_path;
use super::inspect::LayerDir;
use crate::error::{Cannot as _, Result};
use crate::layer::Entry;
use crate::sandbox::owner::SideTable;

/// How long to wait before looking again whether the clock has gone on.
const PAUSE: Duration = Duration::from_millis(1);
/// So often it is looked: some file systems know seconds alone, or two of them.
const MOST_PAUSES: usize = 2500;
/// A time that is further ahead of the clock comes of a clock that was set back.
const AHEAD_NANOSECONDS: i128 = 3_000_000_000;

/// What a folder looked like, in a file: there may be millions of entries.
pub(super) struct Snapshot {
    lines: File,
    /// The size that the side table had.
    owners: u64,
}

/// What tells whether an entry was changed.
type State = [u8; 32];
/// What tells whether it is another one in the same place, or was touched and put back.
type Identity = [u8; 16];

/// One line of a snapshot.
struct SnapshotLine {
    path: Vec<u8>,
    state: State,
    identity: Identity,
}

/// An entry as it was and as it is.
pub(super) struct Met<'a> {
    pub(super) path: &'a [u8],
    /// What it is; nothing where it is gone.
    pub(super) stat: Option<&'a Stat>,
    now: Option<(State, Identity)>,
    before: Option<(State, Identity)>,
}

impl Met<'_> {
    /// Whether an archive would hold something else of it.
    pub(super) fn is_changed(&self) -> bool {
        self.now.map(|(state, _)| state) != self.before.map(|(state, _)| state)
    }

    /// Whether anybody did anything to it.
    pub(super) fn is_touched(&self) -> bool {
        self.now != self.before
    }

    /// Whether it is another one than was there before, or nothing was.
    pub(super) fn is_another(&self) -> bool {
        self.now.map(|(_, identity)| identity) != self.before.map(|(_, identity)| identity)
    }
}

impl Snapshot {
    /// Looks at every file below a folder.
    pub(super) fn take(layer_dir: &LayerDir, file: File) -> Result<Self> {
        let mut writer = Writer::new(file);
        walk(layer_dir, &mut |path, stat| {
            writer.add(path, stat, (state(layer_dir, path, stat)?, identity(stat)))
        })?;
        writer.finish(layer_dir)
    }

    /// Finds one that is in a file.
    pub(super) fn of_file(file: File, layer_dir: &LayerDir) -> Self {
        Self { lines: file, owners: size_of_owners(layer_dir) }
    }

    /// Looks at every file once more; answers what was touched that is not `expected` to be.
    pub(super) fn retake(
        &self,
        layer_dir: &LayerDir,
        file: File,
        is_expected: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(Self, Vec<Vec<u8>>)> {
        let (mut writer, mut strange) = (Writer::new(file), Vec::new());
        self.compare(layer_dir, &mut |met| {
            if met.is_touched() && !is_expected(met.path) {
                strange.push(met.path.to_vec());
            }
            match (met.stat, met.now) {
                (Some(stat), Some(now)) => writer.add(met.path, stat, now),
                _ => Ok(()),
            }
        })?;
        Ok((writer.finish(layer_dir)?, strange))
    }

    /// Visits every entry that was or is there, in the order of the walk; what is gone before what comes
    /// behind its place.
    pub(super) fn compare(
        &self,
        layer_dir: &LayerDir,
        visit: &mut dyn FnMut(&Met<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut lines = self.read()?;
        let mut old = lines.next()?;
        let gone = |line: &SnapshotLine, visit: &mut dyn FnMut(&Met<'_>) -> Result<()>| {
            let before = Some((line.state, line.identity));
            visit(&Met { path: &line.path, stat: None, now: None, before })
        };
        walk(layer_dir, &mut |path, stat| {
            while let Some(line) = &old
                && order(&line.path, path) == Ordering::Less
            {
                gone(line, visit)?;
                old = lines.next()?;
            }
            let line = old.take_if(|line| line.path == path);
            if line.is_some() {
                old = lines.next()?;
            }
            let now = Some((state(layer_dir, path, stat)?, identity(stat)));
            let before = line.map(|line| (line.state, line.identity));
            visit(&Met { path, stat: Some(stat), now, before })
        })?;
        while let Some(line) = &old {
            gone(line, visit)?;
            old = lines.next()?;
        }
        Ok(())
    }

    /// What was written to the side table since.
    pub(super) fn later_owners(&self, folder: &Path) -> Result<SideTable> {
        let action = || "read the owners of a copy";
        let mut file = match fs_err::File::open(SideTable::beside(folder)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(SideTable::default());
            }
            Err(error) => return Err(error).cannot(action),
        };
        let mut bytes = Vec::new();
        file.seek(io::SeekFrom::Start(self.owners)).cannot(action)?;
        file.read_to_end(&mut bytes).cannot(action)?;
        SideTable::parse(&bytes)
    }

    fn read(&self) -> Result<Lines> {
        let action = || "read what a copy looked like";
        let mut file = self.lines.try_clone().cannot(action)?;
        file.rewind().cannot(action)?;
        Ok(Lines(BufReader::new(file)))
    }
}

/// A record in the making.
struct Writer {
    file: BufWriter<File>,
    /// The latest change time of a file, in nanoseconds.
    newest: i128,
}

impl Writer {
    fn new(file: File) -> Self {
        Self { file: BufWriter::new(file), newest: 0 }
    }

    fn add(
        &mut self,
        path: &[u8],
        stat: &Stat,
        (state, identity): (State, Identity),
    ) -> Result<()> {
        let mut write = || {
            self.file.write_all(&state)?;
            self.file.write_all(&identity)?;
            self.file.write_all(path)?;
            self.file.write_all(&[0])
        };
        write().cannot(|| "remember what a copy looks like")?;
        self.newest = self.newest.max(changed(stat));
        Ok(())
    }

    fn finish(self, layer_dir: &LayerDir) -> Result<Snapshot> {
        let action = || "remember what a copy looks like";
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error).cannot(action)?;
        wait_until_later(&file, self.newest).cannot(action)?;
        Ok(Snapshot { lines: file, owners: size_of_owners(layer_dir) })
    }
}

/// Waits until a file that is touched gets a later time than this one.
fn wait_until_later(file: &File, newest: i128) -> io::Result<()> {
    let now = Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    for _ in 0..MOST_PAUSES {
        rustix::fs::futimens(file, &now)?;
        let time = changed(&rustix::fs::fstat(file)?);
        if time > newest || newest > time + AHEAD_NANOSECONDS {
            break;
        }
        sleep(PAUSE);
    }
    Ok(())
}

fn size_of_owners(layer_dir: &LayerDir) -> u64 {
    fs_err::metadata(SideTable::beside(&layer_dir.folder)).map_or(0, |found| found.len())
}

struct Lines(BufReader<File>);

impl Lines {
    fn next(&mut self) -> Result<Option<SnapshotLine>> {
        let mut read = || -> io::Result<Option<SnapshotLine>> {
            if self.0.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let (mut state, mut identity, mut path) = ([0; 32], [0; 16], Vec::new());
            self.0.read_exact(&mut state)?;
            self.0.read_exact(&mut identity)?;
            self.0.read_until(0, &mut path)?;
            path.pop();
            Ok(Some(SnapshotLine { path, state, identity }))
        };
        read().cannot(|| "read what a copy looked like")
    }
}

/// The state of an entry, hashed.
fn state(layer_dir: &LayerDir, path: &[u8], stat: &Stat) -> Result<State> {
    let mut hasher = blake3::Hasher::new();
    let mut number = |number: i128| {
        hasher.update(&number.to_le_bytes());
    };
    number(stat.st_mode.into());
    if is_folder(stat) {
        let entry = layer_dir.entry(path, stat)?;
        let entry = entry.unwrap_or_else(|| Entry::directory(0));
        number(nanoseconds(stat.st_mtime, stat.st_mtime_nsec));
        number(entry.uid.into());
        number(entry.gid.into());
        for (name, value) in &entry.xattrs {
            hasher.update(name.as_bytes()).update(&[0]);
            hasher.update(&(value.len() as u64).to_le_bytes()).update(value);
        }
    } else {
        number(changed(stat));
        number(stat.st_ino.into());
        number(stat.st_size.into());
        // A recorded owner that is not in the file itself leaves no trace there.
        if let Some(kept) = layer_dir.owners.get(as_path(path)) {
            hasher.update(&SideTable::line(as_path(path), kept));
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Tells a link from another one that took its place, for numbers of files come again at once; and a
/// folder that was touched.
fn identity(stat: &Stat) -> Identity {
    let time = if is_folder(stat) {
        changed(stat)
    } else {
        nanoseconds(stat.st_mtime, stat.st_mtime_nsec)
    };
    (time ^ (i128::from(stat.st_ino) << 64)).to_le_bytes()
}

/// Visits everything below a folder, each folder before what is in it, names in the order of bytes.
fn walk(layer_dir: &LayerDir, visit: &mut dyn FnMut(&[u8], &Stat) -> Result<()>) -> Result<()> {
    let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let Some(stat) = layer_dir.look(&path)? else { continue };
        if !path.is_empty() {
            visit(&path, &stat)?;
        }
        if is_folder(&stat) {
            let names = layer_dir.names(&path)?;
            pending.extend(names.iter().rev().map(|name| join(&path, name)));
        }
    }
    Ok(())
}

/// The order in which [`walk`] meets two paths.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}

/// Whether this is a folder.
pub(super) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The path of a name in a folder.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') }
}

/// A time in nanoseconds.
pub(super) fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<u64>) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds.try_into().unwrap_or(0))
}

/// When something was changed last, in nanoseconds.
fn changed(stat: &Stat) -> i128 {
    nanoseconds(stat.st_ctime, stat.st_ctime_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::OwnerStorage;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs_err::create_dir_all(folder.path().join("fs/a/b")).unwrap();
            for name in ["a/b/file", "a/b.c", "a/link to", "z"] {
                fs_err::write(folder.path().join("fs").join(name), "1234").unwrap();
            }
            Self(folder)
        }

        fn at(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join("fs").join(name)
        }

        fn layer_dir(&self) -> LayerDir {
            LayerDir::open(self.0.path().join("fs"), OwnerStorage::Mapped).unwrap()
        }

        fn take(&self) -> Snapshot {
            Snapshot::take(&self.layer_dir(), tempfile::tempfile_in(self.0.path()).unwrap())
                .unwrap()
        }

        /// What was changed, and in brackets what was only touched.
        fn told(&self, snapshot: &Snapshot) -> Vec<String> {
            let mut told = Vec::new();
            let tell = &mut |met: &Met<'_>| {
                let path = String::from_utf8_lossy(met.path).into_owned();
                match (met.is_changed(), met.stat) {
                    (true, None) => told.push(format!("-{path}")),
                    (true, Some(_)) => told.push(path),
                    (false, _) if met.is_touched() => told.push(format!("({path})")),
                    (false, _) => {}
                }
                Ok(())
            };
            snapshot.compare(&self.layer_dir(), tell).unwrap();
            told
        }
    }

    #[test]
    fn each_change_is_told_and_nothing_else() {
        let folder = Folder::new();
        let snapshot = folder.take();
        assert_eq!(folder.told(&snapshot), Vec::<String>::new());
        fs_err::remove_file(folder.at("a/b/file")).unwrap();
        fs_err::write(folder.at("a/b-new"), "").unwrap();
        fs_err::rename(folder.at("z"), folder.at("y")).unwrap();
        assert_eq!(folder.told(&snapshot), ["a", "a/b", "-a/b/file", "a/b-new", "y", "-z"]);
    }

    #[test]
    fn a_file_that_is_written_right_after_the_record_is_told_of_also_with_its_old_time() {
        let folder = Folder::new();
        let write = |text: &str| {
            fs_err::write(folder.at("z"), text).unwrap();
            let file = fs_err::File::open(folder.at("z")).unwrap();
            rustix::fs::futimens(&file, &crate::rootfs::seconds(1000)).unwrap();
        };
        for _ in 0..50 {
            write("1234");
            let snapshot = folder.take();
            write("5678");
            assert_eq!(folder.told(&snapshot), ["z"]);
        }
    }

    #[test]
    fn a_folder_that_was_put_back_is_touched_and_not_changed() {
        let folder = Folder::new();
        let times = || {
            let found = fs_err::File::open(folder.at("a/b")).unwrap();
            rustix::fs::futimens(&found, &crate::rootfs::seconds(1000)).unwrap();
        };
        times();
        let snapshot = folder.take();
        fs_err::write(folder.at("a/b/more"), "").unwrap();
        fs_err::remove_file(folder.at("a/b/more")).unwrap();
        times();
        assert_eq!(folder.told(&snapshot), ["(a/b)"]);
    }

    #[test]
    fn a_record_that_is_taken_again_says_what_nobody_expected() {
        let folder = Folder::new();
        let snapshot = folder.take();
        for name in ["a/b/file", "z"] {
            fs_err::write(folder.at(name), "more").unwrap();
        }
        let file = || tempfile::tempfile_in(folder.0.path()).unwrap();
        let layer_dir = folder.layer_dir();
        let (again, strange) = snapshot.retake(&layer_dir, file(), &|path| path == b"z").unwrap();
        assert_eq!(strange, [b"a/b/file".to_vec()]);
        assert_eq!(folder.told(&again), Vec::<String>::new());
        let (_, strange) = again.retake(&layer_dir, file(), &|_| false).unwrap();
        assert_eq!(strange, Vec::<Vec<u8>>::new());
    }
}
