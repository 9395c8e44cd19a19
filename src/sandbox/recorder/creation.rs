//! Calls that make files: for a process that changed its user they are made here, so that their owner
//! is kept from the beginning. Root's files need no record, and the kernel makes them.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::notify::Answer;
use super::super::owner::{Kept, Owner};
use super::Recorder;
use super::files::umask;
use super::target::Target;

/// What is to be made.
pub(super) enum Creation {
    File { flags: i32, mode: u32 },
    Folder { mode: u32 },
    Link { to: Vec<u8> },
}

impl Recorder {
    /// Makes something that belongs to whom the process believes to be.
    pub(super) fn create(
        &mut self,
        thread: u32,
        target: &Target,
        creation: &Creation,
    ) -> rustix::io::Result<Answer> {
        let who = self.registry.of(thread);
        let mut owner = Owner { uid: who.users.effective, gid: who.groups.effective };
        if owner == Owner::ROOT {
            return Ok(Answer::Continue);
        }
        let (parent, name) = target.open_parent()?;
        let above = rustix::fs::statat(&parent, "", AtFlags::EMPTY_PATH)?;
        if above.st_mode & libc::S_ISGID != 0 {
            owner.gid = self.kept(&parent, &above).owner.unwrap_or(Owner::ROOT).gid;
        }
        let made = match creation {
            Creation::File { flags, mode } => {
                let mode = Mode::from_raw_mode(mode & 0o7777 & !umask(thread));
                let flags = OFlags::from_bits_retain(flags.cast_unsigned());
                let only_new = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOCTTY;
                match rustix::fs::openat(&parent, &*name, flags | only_new, mode) {
                    // There is something, which the process may have wanted to open.
                    Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
                        return Ok(Answer::Continue);
                    }
                    file => Some((file?, flags.contains(OFlags::CLOEXEC))),
                }
            }
            Creation::Folder { mode } => {
                let mode = Mode::from_raw_mode(mode & 0o7777 & !umask(thread));
                rustix::fs::mkdirat(&parent, &*name, mode)?;
                None
            }
            Creation::Link { to } => {
                rustix::fs::symlinkat(to.as_slice(), &parent, &*name)?;
                None
            }
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd: OwnedFd = rustix::fs::openat(&parent, &*name, flags, Mode::empty())?;
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
        let kept = Kept { owner: Some(owner), ..Kept::default() };
        self.keep(&fd, &stat, &kept)?;
        Ok(match made {
            Some((file, close_on_exec)) => Answer::Descriptor { file, close_on_exec },
            None => Answer::Value(0),
        })
    }
}
