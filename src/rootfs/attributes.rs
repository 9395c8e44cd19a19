//! Owners, modes, times and extended attributes: onto files, and back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::{OwnerStorage, marks};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, ListedEntry, ListedKind};
use crate::sandbox::owner::{Device, Kept, Owner, SideTable};

/// What `security.capability` is called.
const CAPABILITY: &str = "security.capability";

/// What a file gets beside its content.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a> {
    pub(super) owner: Owner,
    /// The twelve permission bits.
    pub(super) mode: u32,
    pub(super) mtime: i64,
    pub(super) xattrs: &'a BTreeMap<String, Vec<u8>>,
    /// The device that a file stands for.
    pub(super) device: Option<Device>,
}

impl<'a> Attributes<'a> {
    /// As an archive has them. Errs where an owner's number is none.
    pub(super) fn of_listed(entry: &'a ListedEntry) -> Result<Self> {
        let number = |number: u64| {
            // The last one means "no owner" to the kernel.
            u32::try_from(number).ok().filter(|number| *number != u32::MAX).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, format!("give a file to the owner {number}"))
                    .because("numbers of owners have 32 bits")
            })
        };
        let owner = Owner { uid: number(entry.uid)?, gid: number(entry.gid)? };
        let (mode, mtime) = (entry.mode & 0o7777, entry.mtime);
        Ok(Self { owner, mode, mtime, xattrs: &entry.xattrs, device: None })
    }

    /// As plain files have them, which belong to whoever unpacks them.
    pub(super) fn plain(entry: &ListedEntry) -> Self {
        static NONE: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let is_plain = entry.kind != ListedKind::Directory && entry.mode & 0o111 == 0;
        let mode = if is_plain { 0o644 } else { 0o755 };
        Self { owner: Owner::ROOT, mode, mtime: entry.mtime, xattrs: &NONE, device: None }
    }

    /// As a tree has them.
    pub(super) fn of_entry(entry: &'a Entry) -> Self {
        let owner = Owner { uid: entry.uid, gid: entry.gid };
        Self { owner, mode: entry.mode, mtime: entry.mtime, xattrs: &entry.xattrs, device: None }
    }

    /// The time for the system's calls; the time of the last reading stays.
    pub(super) fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.mtime, tv_nsec: 0 },
        }
    }

    pub(super) fn permissions(&self) -> Mode {
        Mode::from_raw_mode(self.mode)
    }

    fn kept(&self, refused: bool) -> Kept {
        Kept {
            owner: Some(self.owner).filter(|owner| *owner != Owner::ROOT),
            device: self.device,
            capability: self.xattrs.get(CAPABILITY).filter(|_| refused).cloned(),
        }
    }
}

/// The attribute that holds the mode that a file should have, and the one that it has instead so
/// that its owner can read it, both in octal. It counts for as long as the file has that mode.
const MODE_XATTR: &str = "user.gondola.mode";
/// The rights without which a user who is not root cannot read what is in a file or folder.
const READS_FILE: u32 = 0o400;
const READS_FOLDER: u32 = 0o500;
/// The owner's rights, without which nobody but root can write into a folder.
pub(super) const OWNERS: u32 = 0o700;

/// What gets attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A file, with its content.
    File,
    /// A folder that will get no more files.
    Folder,
    /// A folder that will: its owner keeps all rights until [`Keeper::close`].
    OpenFolder,
}

/// Gives the owner of a file or folder the right to read it, and notes what its mode was; answers the
/// mode that it has now. Root can read everything without.
pub(super) fn let_owner_read(
    path: &Path,
    mode: u32,
    storage: OwnerStorage,
) -> std::io::Result<u32> {
    let needed = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => READS_FILE,
        FileType::Directory => READS_FOLDER,
        _ => 0,
    };
    if storage != OwnerStorage::Recorded
        || mode & needed == needed
        || rustix::process::geteuid().is_root()
    {
        return Ok(mode);
    }
    let wanted = recorded_mode(path, mode)?;
    // Writing an attribute takes the right to write the file.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode | needed) | Mode::WUSR)?;
    let value = mode_value(wanted, (mode | needed) & 0o7777);
    let noted = rustix::fs::setxattr(path, MODE_XATTR, value.as_bytes(), XattrFlags::empty());
    rustix::fs::chmod(path, Mode::from_raw_mode(mode | needed))?;
    match noted {
        Ok(()) | Err(Errno::NOTSUP) => Ok(mode | needed),
        Err(error) => Err(error.into()),
    }
}

/// The mode that a file or folder should have, which has the mode `mode`.
pub(super) fn recorded_mode(path: &Path, mode: u32) -> std::io::Result<u32> {
    let mode = mode & 0o7777;
    let mut value = [0; 16];
    let length = match rustix::fs::lgetxattr(path, MODE_XATTR, &mut value) {
        Ok(length) => length,
        // Without the right to read the attribute there is none to read the file: its mode was never changed.
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::ACCESS) => return Ok(mode),
        Err(error) => return Err(error.into()),
    };
    let text = std::str::from_utf8(&value[..length]).unwrap_or_default();
    let octal = |text| u32::from_str_radix(text, 8).ok();
    let pair = text.split_once(' ').and_then(|(a, b)| Some((octal(a)?, octal(b)?)));
    Ok(pair.filter(|(_, instead)| *instead == mode).map_or(mode, |(wanted, _)| wanted & 0o7777))
}

fn mode_value(wanted: u32, instead: u32) -> String {
    format!("{wanted:o} {instead:o}")
}

/// Writes attributes in the way of one form.
pub(super) struct Keeper {
    storage: OwnerStorage,
    /// Whether modes must leave the owner the right to read.
    loosens: bool,
    /// The folder's side table, made when it is needed.
    table: Option<File>,
    folder: std::path::PathBuf,
}

impl Keeper {
    /// For the files in a layer's folder.
    pub(super) fn new(folder: &Path, storage: OwnerStorage) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let loosens = storage == OwnerStorage::Recorded && !is_root;
        Self { storage, loosens, table: None, folder: folder.to_owned() }
    }

    /// Sets everything on an open file or folder but the time.
    pub(super) fn set(
        &mut self,
        file: impl AsFd,
        path: &[u8],
        attributes: &Attributes<'_>,
        target: Target,
    ) -> Result<()> {
        let action = || format!("set the owner, mode and attributes of {}", display(path));
        if self.storage != OwnerStorage::Recorded
            && !is_owned(&file, attributes.owner).cannot(action)?
        {
            // Before the mode and the capabilities, which a change of the owner takes away.
            let (uid, gid) = ids(attributes.owner);
            match rustix::fs::fchown(&file, Some(uid), Some(gid)) {
                Err(Errno::INVAL) => return Err(beyond(path, attributes.owner)),
                result => result.cannot(action)?,
            }
        }
        let mut refused = false;
        for (name, value) in attributes.xattrs.iter().filter(|(name, _)| marks::is_content(name)) {
            match rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()) {
                // Docker does the same: some file systems have no such attributes.
                Err(Errno::NOTSUP) if name != CAPABILITY => {}
                Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) if name == CAPABILITY => {
                    refused = true;
                }
                result => result.cannot(action)?,
            }
        }
        let mut kept = attributes.kept(refused);
        if self.storage != OwnerStorage::Recorded {
            kept.owner = None;
        }
        if !kept.is_empty() && !kept.write_to_file(&file).cannot(action)? {
            self.note(path, &kept)?;
        }
        let mode = self.mode_on_disk(&file, attributes.mode, target).cannot(action)?;
        rustix::fs::fchmod(&file, mode).cannot(action)
    }

    /// Gives a folder its last mode.
    pub(super) fn close(&self, folder: impl AsFd, mode: u32) -> rustix::io::Result<()> {
        let mode = self.mode_on_disk(&folder, mode, Target::Folder)?;
        rustix::fs::fchmod(folder, mode)
    }

    /// The mode that a file gets, where it is not quite the one that it should have.
    fn mode_on_disk(&self, file: impl AsFd, mode: u32, target: Target) -> rustix::io::Result<Mode> {
        let needed = match target {
            Target::OpenFolder => return Ok(Mode::from_raw_mode(mode | OWNERS)),
            Target::File => READS_FILE,
            Target::Folder => READS_FOLDER,
        };
        if !self.loosens || mode & needed == needed {
            return Ok(Mode::from_raw_mode(mode));
        }
        let value = mode_value(mode, mode | needed);
        match rustix::fs::fsetxattr(file, MODE_XATTR, value.as_bytes(), XattrFlags::empty()) {
            // Without attributes the file is readable: the lesser evil.
            Ok(()) | Err(Errno::NOTSUP) => Ok(Mode::from_raw_mode(mode | needed)),
            Err(error) => Err(error),
        }
    }

    /// Sets everything on what cannot be opened: links, pipes, devices.
    pub(super) fn set_unopened(
        &mut self,
        folder: impl AsFd,
        path: &[u8],
        attributes: &Attributes<'_>,
        is_link: bool,
    ) -> Result<()> {
        let action = || format!("set the owner and mode of {}", display(path));
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        let (uid, gid) = ids(attributes.owner);
        if self.storage == OwnerStorage::Recorded {
            if attributes.owner != Owner::ROOT {
                self.note(path, &attributes.kept(false))?;
            }
        } else {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::chownat(&folder, name, Some(uid), Some(gid), flags) {
                Err(Errno::INVAL) => return Err(beyond(path, attributes.owner)),
                result => result.cannot(action)?,
            }
        }
        if !is_link {
            let mode = attributes.permissions();
            rustix::fs::chmodat(&folder, name, mode, AtFlags::empty()).cannot(action)?;
        }
        let times = attributes.times();
        rustix::fs::utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW).cannot(action)
    }

    /// Adds a line to the side table.
    fn note(&mut self, path: &[u8], kept: &Kept) -> Result<()> {
        let action = || "write the owners of a layer";
        let line = SideTable::line(Path::new(std::ffi::OsStr::from_bytes(path)), kept);
        if self.table.is_none() {
            let beside = SideTable::beside(&self.folder);
            let options = std::fs::OpenOptions::new().append(true).create(true).clone();
            self.table = Some(options.open(beside).cannot(action)?);
        }
        let table = self.table.as_mut().expect("just opened");
        table.write_all(&line).cannot(action)
    }
}

/// Whether a file is an owner's already. A new one need not be this process's: folders can pass their group
/// on, and one that is there already had an owner before.
fn is_owned(file: impl AsFd, owner: Owner) -> rustix::io::Result<bool> {
    let found = rustix::fs::fstat(file)?;
    Ok(owner == Owner { uid: found.st_uid, gid: found.st_gid })
}

fn ids(owner: Owner) -> (Uid, Gid) {
    (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
}

fn beyond(path: &[u8], owner: Owner) -> Error {
    Error::new(ErrorKind::Unsupported, format!("give {} to {owner}", display(path)))
        .because("this user has no such id")
        .hint("add ids to /etc/subuid and /etc/subgid, or use --sandbox ns")
}

/// A path from an archive, fit to be printed.
pub(super) fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}
