//! The files that a call of another process means.
//!
//! Whatever is written to is looked up here as the process would, with none of the links in `/proc`
//! that jump: one of them could lead out of the sandbox by way of this process's own descriptors.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::notify::{self, Call};

/// The longest path, with the zero byte at its end.
const LONGEST_PATH: usize = 4096;
/// What the kernel maps at once.
const PAGE: u64 = 4096;

/// Which file a call means.
pub(super) struct Target {
    thread: u32,
    base: Base,
    /// Empty for the base itself.
    path: CString,
    follow: bool,
}

/// Where a path begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Root,
    Folder,
    Descriptor(i32),
}

impl Target {
    /// An open file.
    pub(super) fn descriptor(thread: u32, number: u64) -> Self {
        let base = Base::Descriptor(low(number));
        Self { thread, base, path: CString::default(), follow: true }
    }

    /// A path in the memory of the process, relative to its working directory.
    pub(super) fn path(call: &Call, address: u64, follow: bool) -> rustix::io::Result<Self> {
        Self::at(call, libc::AT_FDCWD.into(), address, follow)
    }

    /// A path in the memory of the process, relative to one of its descriptors.
    pub(super) fn at(
        call: &Call,
        folder: i64,
        address: u64,
        follow: bool,
    ) -> rustix::io::Result<Self> {
        let path = read_string(call, address)?;
        let base = match low(folder.cast_unsigned()) {
            _ if path.as_bytes().starts_with(b"/") => Base::Root,
            libc::AT_FDCWD => Base::Folder,
            number => Base::Descriptor(number),
        };
        Ok(Self { thread: call.thread, base, path, follow })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.path.is_empty()
    }

    fn base_name(&self) -> String {
        let thread = self.thread;
        match self.base {
            Base::Root => format!("/proc/{thread}/root"),
            Base::Folder => format!("/proc/{thread}/cwd"),
            Base::Descriptor(number) => format!("/proc/{thread}/fd/{number}"),
        }
    }

    /// The folder of the file, as it is written: what `..` and links in the name of it mean is the
    /// kernel's to say.
    pub(super) fn parent(&self) -> Self {
        let path = self.path.as_bytes();
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        let begin = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let path = CString::new(&path[..begin]).expect("a part of a string has no zero byte");
        Self { thread: self.thread, base: self.base, path, follow: true }
    }

    /// Whether the file may carry an attribute. Quick, and right for all that no link in `/proc` is on
    /// the way to: nothing is written on account of it.
    pub(super) fn has_attribute(&self, name: &CStr, changed_roots: bool) -> bool {
        let path = self.path.as_bytes();
        if self.base == Base::Root && !changed_roots {
            let kernels = [&b"/proc/"[..], b"/sys/", b"/dev/"];
            return !kernels.iter().any(|prefix| path.starts_with(prefix))
                && notify::has_attribute(&self.path, name, self.follow);
        }
        let mut full = self.base_name().into_bytes();
        if !path.is_empty() {
            full.push(b'/');
            full.extend(path);
        }
        CString::new(full)
            .is_ok_and(|full| notify::has_attribute(&full, name, self.follow || path.is_empty()))
    }

    /// Opens the file for its path alone.
    pub(super) fn open(&self) -> rustix::io::Result<OwnedFd> {
        let base = self.open_base()?;
        if self.path.is_empty() {
            return Ok(base);
        }
        let follow = if self.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        look_up(&base, &self.path, self.base, follow)
    }

    /// Opens the folder of the file, and gives its name there.
    pub(super) fn open_parent(&self) -> rustix::io::Result<(OwnedFd, CString)> {
        let base = self.open_base()?;
        let path = self.path.as_bytes();
        let end = path.iter().rposition(|byte| *byte != b'/').ok_or(Errno::EXIST)? + 1;
        let begin = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let string = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL);
        let name = string(&path[begin..end])?;
        let parent = if begin == 0 { c"." } else { &*string(&path[..begin])? };
        Ok((look_up(&base, parent, self.base, OFlags::DIRECTORY)?, name))
    }

    fn open_base(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(self.base_name(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }
}

/// Where an open file is in the sandbox; `None` for one outside, and for one that is gone.
pub(super) fn place(fd: &OwnedFd) -> Option<PathBuf> {
    let name = rustix::fs::readlinkat(CWD, own_name(fd), Vec::new()).ok()?;
    let path = PathBuf::from(OsString::from_vec(name.into_bytes()));
    let there = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let here = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).ok()?;
    ((there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)).then_some(path)
}

fn look_up(base: &OwnedFd, path: &CStr, from: Base, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::NO_MAGICLINKS;
    if from == Base::Root {
        resolve |= ResolveFlags::IN_ROOT;
    }
    rustix::fs::openat2(base, path, flags, Mode::empty(), resolve)
}

/// The name by which this process reaches one of its own descriptors.
pub(in crate::sandbox) fn own_name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The lower half of an argument.
pub(in crate::sandbox) fn low(argument: u64) -> i32 {
    let [a, b, c, d, ..] = argument.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// Reads a string that ends with a zero byte, page by page: the next one may not exist.
pub(in crate::sandbox) fn read_string(call: &Call, address: u64) -> rustix::io::Result<CString> {
    let fault = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::FAULT);
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_PATH {
        let from = address.checked_add(bytes.len() as u64).ok_or(Errno::FAULT)?;
        let room = usize::try_from(PAGE - from % PAGE).expect("a page is small");
        let mut page = [0; 4096];
        let count = notify::read_memory(call, from, &mut page[..room]).map_err(fault)?;
        if let Some(end) = page[..count].iter().position(|byte| *byte == 0) {
            bytes.extend(&page[..end]);
            return CString::new(bytes).map_err(|_| Errno::INVAL);
        }
        if count == 0 {
            return Err(Errno::FAULT);
        }
        bytes.extend(&page[..count]);
    }
    Err(Errno::NAMETOOLONG)
}
