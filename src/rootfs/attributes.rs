//! Owners, modes, times and extended attributes: onto files, and back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Form, marks};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, ListedEntry};
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

/// Writes attributes in the way of one form.
pub(super) struct Keeper {
    form: Form,
    /// Whom a new file belongs to.
    own: Owner,
    /// The folder's side table, made when it is needed.
    table: Option<File>,
    folder: std::path::PathBuf,
}

impl Keeper {
    /// For the files in a layer's folder.
    pub(super) fn new(folder: &Path, form: Form) -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let own = Owner { uid: uid.as_raw(), gid: gid.as_raw() };
        Self { form, own, table: None, folder: folder.to_owned() }
    }

    /// Sets everything on an open file or folder but the time, and leaves the owner `more` rights.
    pub(super) fn set(
        &mut self,
        file: impl AsFd,
        path: &[u8],
        attributes: &Attributes<'_>,
        more: u32,
    ) -> Result<()> {
        let action = || format!("set the owner, mode and attributes of {}", shown(path));
        if self.form != Form::Recorded && attributes.owner != self.own {
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
        if self.form != Form::Recorded {
            kept.owner = None;
        }
        if !kept.is_empty() && !kept.write_to_file(&file).cannot(action)? {
            self.note(path, &kept)?;
        }
        let mode = Mode::from_raw_mode(attributes.mode | more);
        rustix::fs::fchmod(&file, mode).cannot(action)
    }

    /// Sets everything on what cannot be opened: links, pipes, devices.
    pub(super) fn set_unopened(
        &mut self,
        folder: impl AsFd,
        path: &[u8],
        attributes: &Attributes<'_>,
        is_link: bool,
    ) -> Result<()> {
        let action = || format!("set the owner and mode of {}", shown(path));
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        let (uid, gid) = ids(attributes.owner);
        if self.form == Form::Recorded {
            if attributes.owner != Owner::ROOT {
                self.note(path, &attributes.kept(false))?;
            }
        } else if attributes.owner != self.own {
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

fn ids(owner: Owner) -> (Uid, Gid) {
    (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
}

fn beyond(path: &[u8], owner: Owner) -> Error {
    Error::new(ErrorKind::Unsupported, format!("give {} to {owner}", shown(path)))
        .because("this user has no such id")
        .hint("add ids to /etc/subuid and /etc/subgid, or use --sandbox ns")
}

/// A path from an archive, fit to be printed.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}
