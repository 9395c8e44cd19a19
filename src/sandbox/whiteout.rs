//! Whiteouts: how a layer of an overlay hides a name of those below.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::{Errno, Result};

/// Hides `name`, which nothing has here, in a folder of the layer whose folder is `layer`: by a
/// character device 0/0, or where none can be made by attributes that begin with `prefix`, which the
/// kernel understands in lower layers from Linux 6.8 on.
///
/// Which of the two it is, and whether it is understood, is part of what an isolation is tried for.
pub fn make_whiteout(folder: impl AsFd, name: &[u8], layer: impl AsFd, prefix: &str) -> Result<()> {
    match rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {}
        result => return result,
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, name, flags, Mode::from(0o600))?;
    rustix::fs::fsetxattr(file, format!("{prefix}whiteout"), b"y", XattrFlags::empty())?;
    for marked in [folder.as_fd(), layer.as_fd()] {
        // A folder that hides everything needs no such mark.
        let mark = format!("{prefix}opaque");
        match rustix::fs::fsetxattr(marked, mark, b"x", XattrFlags::CREATE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
