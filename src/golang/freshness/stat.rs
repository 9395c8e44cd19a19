//! What the file system says of a file, and when it says that it changed.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::{Cannot, Result};

/// A point in time on the clock by which the file system stamps changes.
///
/// Everything that is stamped earlier was as it is now before this moment. The system's own clock
/// would not do: file systems stamp with a coarser one that lags behind it.
#[derive(Clone, Copy, Debug)]
pub struct StartedAt {
    /// Unknown where it may have changed since the moment was taken.
    device: Option<u64>,
    clock: Clock,
    seconds: i64,
    nanoseconds: i64,
}

/// By how much the clock of a file server may be behind this machine's.
const FOREIGN_SKEW: i64 = 2_000_000_000;

/// The longest tick of the kernel's clock: two of its file systems may differ by one.
const TICK: i64 = 10_000_000;

/// One second.
const SECOND: i64 = 1_000_000_000;

impl StartedAt {
    /// The present, in a folder that can be written to.
    pub fn now(folder: &Path) -> Result<Self> {
        let action = || format!("make a file in {}", folder.display());
        fs_err::create_dir_all(folder).cannot(action)?;
        let file = tempfile::tempfile_in(folder).cannot(action)?;
        let stat = fstat(&file).map_err(io::Error::from).cannot(action)?;
        let (device, clock) = (Some(stat.st_dev), Clock::of(&file));
        Ok(Self { device, clock, seconds: stat.st_ctime, nanoseconds: nanoseconds(&stat) })
    }

    /// The same moment, told later or by another process: devices may have other numbers by then.
    pub(in crate::golang) fn from_parts(seconds: i64, nanoseconds: i64, clock: Clock) -> Self {
        Self { device: None, clock, seconds, nanoseconds }
    }

    /// Seconds and nanoseconds since 1970, and by which clock.
    pub(in crate::golang) fn parts(&self) -> (i64, i64, Clock) {
        (self.seconds, self.nanoseconds, self.clock)
    }

    /// Whether the file at a path may have been changed at or after this moment, or in the same tick
    /// of the clock.
    pub fn is_not_after(&self, path: &Path) -> bool {
        let stat = stat(path).ok().flatten();
        stat.is_some_and(|stat| self.may_precede(&stat, Clock::of_path(path)))
    }

    /// Whether a file may have been changed at or after this moment.
    ///
    /// Only the change time counts: nobody can set it back. `clock` is that of the file's file
    /// system.
    pub(super) fn may_precede(&self, stat: &Stat, clock: Clock) -> bool {
        let is_same = self.device == Some(stat.st_dev);
        let skew = match (is_same, self.clock, clock) {
            (true, ..) => 0,
            // A time without a fraction is one that was cut off.
            (false, Clock::Kernel, Clock::Kernel) if nanoseconds(stat) == 0 => SECOND,
            (false, Clock::Kernel, Clock::Kernel) => TICK,
            _ => FOREIGN_SKEW,
        };
        let changed = whole(stat.st_ctime, nanoseconds(stat)).saturating_add(skew.into());
        changed >= whole(self.seconds, self.nanoseconds)
    }
}

/// A time as one number of nanoseconds.
fn whole(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * i128::from(SECOND) + i128::from(nanoseconds)
}

fn nanoseconds(stat: &Stat) -> i64 {
    i64::try_from(stat.st_ctime_nsec).unwrap_or_default()
}

/// Stands for the state of a file. An edit, a replacement or a change of its rights changes it.
///
/// The device is left out, because its number may change whenever a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    /// Stands for something that is not there, or is no file.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of(stat: &Stat) -> Self {
        Self::of_all(std::iter::once(stat))
    }

    /// The state of several files, in this order.
    pub(super) fn of_all<'a>(stats: impl IntoIterator<Item = &'a Stat>) -> Self {
        let mut hash = blake3::Hasher::new();
        for stat in stats {
            hash.update(&stat.st_size.to_le_bytes());
            hash.update(&stat.st_mtime.to_le_bytes());
            hash.update(&stat.st_mtime_nsec.to_le_bytes());
            hash.update(&stat.st_ctime.to_le_bytes());
            hash.update(&stat.st_ctime_nsec.to_le_bytes());
            hash.update(&stat.st_ino.to_le_bytes());
            hash.update(&stat.st_mode.to_le_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }
}

/// Stands for the contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents(u64, u64);

impl Contents {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let hash = blake3::hash(bytes);
        let half = |range: std::ops::Range<usize>| {
            let mut half = [0; 8];
            half.copy_from_slice(&hash.as_bytes()[range]);
            u64::from_le_bytes(half)
        };
        Self(half(0..8), half(8..16))
    }

    /// The first bytes of the hash.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.1.to_le_bytes());
        bytes
    }
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub name: String,
    pub kind: Kind,
}

/// What a name in a folder leads to, before links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A symbolic link, or something odder.
    Other,
}

/// An open folder, which saves looking up its path for every file in it.
pub(super) struct OpenFolder(OwnedFd);

impl OpenFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// By which clock what is in it is stamped.
    pub(super) fn clock(&self) -> Clock {
        Clock::of(&self.0)
    }

    /// The state of what a name leads to, through symbolic links.
    pub(super) fn stat_file(&self, name: &str) -> io::Result<Stat> {
        Ok(statat(&self.0, name, AtFlags::empty())?)
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.0, name, flags, Mode::empty())?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)?;
        Ok(bytes)
    }

    /// Every name that `wanted` accepts, sorted. Names that are not UTF-8 are passed over, as the
    /// go command does.
    pub(super) fn names(&self, wanted: impl Fn(&str, Kind) -> bool) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(entry.file_name())?,
                known => kind_of(known),
            };
            if wanted(name, kind) {
                names.push(Name { name: name.to_owned(), kind });
            }
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    fn kind(&self, name: &CStr) -> io::Result<Kind> {
        let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(kind_of(FileType::from_raw_mode(stat.st_mode)))
    }
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    }
}

/// Whether the state is that of an ordinary file.
pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// The state of what a path leads to; none if nothing is there.
pub(super) fn stat(path: &Path) -> io::Result<Option<Stat>> {
    match statat(CWD, path, AtFlags::empty()) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
