//! Calls that set and tell the owners of files, and those that make files.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::notify::{self, Answer, Call};
use super::super::owner::{
    CAPABILITY_XATTR, DEVICE_XATTR, Device, DeviceKind, Kept, OWNER_XATTR, Owner,
};
use super::Fakeroot;
use super::target::{Target, own_name, place};

type Outcome = rustix::io::Result<Answer>;

/// [`OWNER_XATTR`], for the quick question.
pub(super) const OWNER_ATTRIBUTE: &CStr = c"user.gondola.owner";

/// In which form a file is described.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Stat,
    Statx { flags: i32, mask: u32 },
}

impl Fakeroot {
    /// Gives a file to somebody, as `chown` does.
    pub(super) fn change_owner(
        &mut self,
        thread: u32,
        target: &Target,
        wanted: (Option<u32>, Option<u32>),
    ) -> Outcome {
        let fd = match target.open() {
            // A link in /proc that jumps: to a pipe or a terminal, which belong into no layer.
            Err(Errno::LOOP) => return Ok(Answer::Value(0)),
            result => result?,
        };
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
        let mut kept = self.kept(&fd, &stat);
        let old = kept.owner.unwrap_or(Owner::ROOT);
        let new = Owner { uid: wanted.0.unwrap_or(old.uid), gid: wanted.1.unwrap_or(old.gid) };
        let who = self.registry.of(thread);
        let may = who.users.effective == old.uid
            && new.uid == old.uid
            && (new.gid == old.gid || who.is_member(new.gid));
        if !(who.is_root() || may) {
            return Err(Errno::PERM);
        }
        // Done for its effects: rights to run as the owner are lost, and a read-only file says so.
        let own = (Some(Uid::ROOT), Some(Gid::ROOT));
        match rustix::fs::chownat(&fd, "", own.0, own.1, AtFlags::EMPTY_PATH) {
            Ok(()) => {}
            // The host's file, which is nobody's here.
            Err(Errno::INVAL | Errno::OVERFLOW) => return Err(Errno::PERM),
            Err(error) => return Err(error),
        }
        if new != old {
            kept.owner = Some(new);
            self.keep(&fd, &stat, &kept)?;
        }
        if is_regular(&stat) {
            // The kernel's own is gone with the change of owner.
            let _ = rustix::fs::removexattr(own_name(&fd), CAPABILITY_XATTR);
        }
        Ok(Answer::Value(0))
    }

    /// What is kept about an open file.
    pub(super) fn kept(&self, fd: &OwnedFd, stat: &Stat) -> Kept {
        let text = |name| {
            let mut buffer = [0; 64];
            let length = rustix::fs::getxattr(own_name(fd), name, &mut buffer[..]).ok()?;
            String::from_utf8(buffer[..length].to_vec()).ok()
        };
        let owner = text(OWNER_XATTR).and_then(|text| text.parse().ok());
        if owner.is_none() && !self.table.is_empty() && !is_folder(stat) {
            let line = place(fd).and_then(|path| self.table.get(&path).cloned());
            return line.unwrap_or_default();
        }
        let device = owner.and_then(|_| text(DEVICE_XATTR)).and_then(|text| text.parse().ok());
        Kept { owner, device, capability: None }
    }

    pub(super) fn keep(
        &mut self,
        fd: &OwnedFd,
        stat: &Stat,
        kept: &Kept,
    ) -> rustix::io::Result<()> {
        let owner = kept.owner.unwrap_or(Owner::ROOT);
        let path = own_name(fd);
        let outcome = if owner == Owner::ROOT && kept.device.is_none() {
            rustix::fs::removexattr(&path, OWNER_XATTR)
        } else {
            let value = owner.to_string();
            rustix::fs::setxattr(&path, OWNER_XATTR, value.as_bytes(), XattrFlags::empty())
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(Errno::NODATA) if is_regular(stat) || is_folder(stat) => return Ok(()),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::NOSPC) => {}
            Err(error) => return Err(error),
        }
        // What is nowhere in the sandbox is in no layer.
        let Some(path) = place(fd) else { return Ok(()) };
        let kept = self.table.keep(&path, kept.clone());
        kept.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Describes a file, if anything is kept about it; else the kernel does.
    pub(super) fn describe(
        &self,
        call: &Call,
        target: &Target,
        address: u64,
        form: Form,
    ) -> Outcome {
        let known = target.has_attribute(OWNER_ATTRIBUTE, self.changed_roots);
        if !known && self.table.is_empty() {
            return Ok(Answer::Continue);
        }
        let Ok(fd) = target.open() else { return Ok(Answer::Continue) };
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
        let kept = self.kept(&fd, &stat);
        let Some(owner) = kept.owner else { return Ok(Answer::Continue) };
        let error = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::FAULT);
        let mut bytes = match form {
            Form::Stat => notify::raw_stat(&fd),
            Form::Statx { flags, mask } => notify::raw_statx(&fd, flags, mask),
        }
        .map_err(error)?;
        patch(&mut bytes, form, owner, kept.device);
        notify::write_memory(call, address, &bytes).map_err(error)?;
        Ok(Answer::Value(0))
    }

    /// Makes a device: an empty file that stands for it.
    pub(super) fn make_device(
        &mut self,
        thread: u32,
        target: &Target,
        node: (u32, u64),
    ) -> Outcome {
        let (mode, number) = node;
        let kind = match FileType::from_raw_mode(mode) {
            FileType::BlockDevice => DeviceKind::Block,
            _ => DeviceKind::Character,
        };
        // Which the kernel, too, keeps to itself: the mark of a file that a layer removes.
        if !self.registry.of(thread).is_root() || number == 0 {
            return Err(Errno::PERM);
        }
        let device =
            Device { kind, major: rustix::fs::major(number), minor: rustix::fs::minor(number) };
        let (parent, name) = target.open_parent()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o7777 & !umask(thread));
        let file = rustix::fs::openat(&parent, &*name, flags, Mode::from(0o600))?;
        let owner = Owner { gid: self.group_of_new(&parent)?.unwrap_or(0), ..Owner::ROOT };
        let kept = Kept { device: Some(device), owner: Some(owner), capability: None };
        let written = kept.write_to_file(&file);
        if !written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))? {
            let fd = rustix::fs::openat(
                &parent,
                &*name,
                OFlags::PATH | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
            let path = place(&fd).ok_or(Errno::NOENT)?;
            let kept = self.table.keep(&path, kept);
            kept.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        rustix::fs::fchmod(&file, mode)?;
        Ok(Answer::Value(0))
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// What a process takes away from the permissions of files that it makes.
pub(in crate::sandbox) fn umask(thread: u32) -> u32 {
    let status = fs_err::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

/// Writes the owner, and the device, into what the kernel says about a file.
fn patch(bytes: &mut [u8], form: Form, owner: Owner, device: Option<Device>) {
    let places = match form {
        Form::Stat => &STAT,
        Form::Statx { .. } => &STATX,
    };
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(places.uid, &owner.uid.to_ne_bytes());
    put(places.gid, &owner.gid.to_ne_bytes());
    let Some(device) = device else { return };
    match form {
        Form::Stat => {
            put(places.device, &rustix::fs::makedev(device.major, device.minor).to_ne_bytes());
        }
        Form::Statx { .. } => {
            put(places.device, &device.major.to_ne_bytes());
            put(places.device + 4, &device.minor.to_ne_bytes());
        }
    }
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let low = u16::from_ne_bytes([bytes[places.mode], bytes[places.mode + 1]]);
    let kind = u16::try_from(kind.as_raw_mode()).expect("a type is in the low half");
    let mode = (low & 0o7777) | kind;
    bytes[places.mode..places.mode + 2].copy_from_slice(&mode.to_ne_bytes());
}

/// Where the fields of a structure are.
struct Places {
    mode: usize,
    uid: usize,
    gid: usize,
    device: usize,
}

const STAT: Places = Places {
    mode: std::mem::offset_of!(libc::stat, st_mode),
    uid: std::mem::offset_of!(libc::stat, st_uid),
    gid: std::mem::offset_of!(libc::stat, st_gid),
    device: std::mem::offset_of!(libc::stat, st_rdev),
};

const STATX: Places = Places {
    mode: std::mem::offset_of!(libc::statx, stx_mode),
    uid: std::mem::offset_of!(libc::statx, stx_uid),
    gid: std::mem::offset_of!(libc::statx, stx_gid),
    device: std::mem::offset_of!(libc::statx, stx_rdev_major),
};
