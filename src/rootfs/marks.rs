//! The marks by which an overlay hides what lower layers have.
//!
//! ```text
//! whiteout   a character device 0/0
//!            or, where those cannot be made: an empty file with the attribute overlay.whiteout,
//!            in a folder with overlay.opaque=x, as is its layer's own folder (Linux 6.8)
//! opaque     a folder with overlay.opaque=y
//! ```
//!
//! The attributes begin with `trusted.` for real root and with `user.` otherwise. The kernel writes
//! the first form of whiteouts alone, several of them often as names of one device.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::{Errno, Result};

use crate::error::{Error, ErrorKind};

use super::OwnerStorage;

impl OwnerStorage {
    /// What the names of an overlay's attributes begin with.
    fn overlay(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::Mapped | Self::Recorded => "user.overlay.",
        }
    }

    fn mark(self, name: &str) -> String {
        format!("{}{name}", self.overlay())
    }
}

/// Whether an extended attribute belongs to what an image holds, and not to the system, to an
/// overlay or to us.
pub(super) fn is_content(name: &str) -> bool {
    name == "security.capability"
        || (name.starts_with("user.")
            && !name.starts_with("user.overlay.")
            && !name.starts_with(crate::sandbox::owner::XATTR_PREFIX))
}

/// Whether this is the device that hides a name.
pub(super) fn is_whiteout_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether what is at `path` hides a name.
pub(super) fn is_whiteout(path: &Path, stat: &Stat, storage: OwnerStorage) -> Result<bool> {
    if is_whiteout_device(stat) {
        return Ok(true);
    }
    let may_be =
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
    Ok(may_be && attribute(path, &storage.mark("whiteout"))?.is_some())
}

/// Whether what is in an open folder hides a name.
pub(super) fn is_whiteout_at(
    folder: impl AsFd,
    name: &[u8],
    stat: &Stat,
    storage: OwnerStorage,
) -> Result<bool> {
    let may_be =
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
    if is_whiteout_device(stat) || !may_be {
        return Ok(is_whiteout_device(stat));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    match rustix::fs::fgetxattr(file, storage.mark("whiteout"), &mut [0; 64]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the folder at `path` hides what lower layers have in it.
pub(super) fn is_opaque(path: &Path, storage: OwnerStorage) -> Result<bool> {
    Ok(attribute(path, &storage.mark("opaque"))?.is_some_and(|value| value == *b"y"))
}

/// The first byte of an attribute.
fn attribute(path: &Path, name: &str) -> Result<Option<[u8; 1]>> {
    let mut value = [0; 64];
    match rustix::fs::lgetxattr(path, name, &mut value) {
        Ok(length) => Ok(Some([if length == 1 { value[0] } else { 0 }])),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => Ok(Some([0])),
        Err(error) => Err(error),
    }
}

/// Makes a folder hide what lower layers have in it.
pub(super) fn set_opaque(folder: impl AsFd, storage: OwnerStorage) -> Result<()> {
    rustix::fs::fsetxattr(folder, storage.mark("opaque"), b"y", XattrFlags::empty())
}

/// Hides `name`, which nothing has here, in a folder of the layer whose folder is `layer`.
pub(super) fn make_whiteout(
    folder: impl AsFd,
    name: &[u8],
    layer: impl AsFd,
    storage: OwnerStorage,
) -> Result<()> {
    crate::sandbox::make_whiteout(folder, name, layer, storage.overlay())
}

/// Looks at a name without following it; `None` where nothing is.
pub(super) fn look(folder: impl AsFd, name: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a layer cannot hide anything here.
pub(super) fn unmarked(error: Errno) -> Error {
    Error::new(ErrorKind::Unsupported, "hide what lower layers have")
        .caused_by(error)
        .hint("set GONDOLA_HOME to a folder on ext4, xfs, btrfs or tmpfs")
}
