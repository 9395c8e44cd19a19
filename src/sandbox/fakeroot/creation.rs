//! Calls that make files: for a process that changed its user, and in a folder that passes a group on,
//! they are made here, so that their owner is kept from the beginning. Root's other files need no
//! record, and the kernel makes them.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::notify::Answer;
use super::super::owner::{Kept, Owner};
use super::Fakeroot;
use super::files::{OWNER_ATTRIBUTE, umask};
use super::target::Target;

/// What is to be made.
pub(super) enum Creation {
    File { flags: i32, mode: u32 },
    Folder { mode: u32 },
    Link { to: Vec<u8> },
}

impl Fakeroot {
    /// Makes something that belongs to whom the process believes to be, or to its folder's group.
    pub(super) fn create(
        &mut self,
        thread: u32,
        target: &Target,
        creation: &Creation,
    ) -> rustix::io::Result<Answer> {
        let who = self.registry.of(thread);
        let own = Owner { uid: who.users.effective, gid: who.groups.effective };
        // A folder has its owner in the attribute, never in the side table: one look is enough.
        let is_plain = || !target.parent().has_attribute(OWNER_ATTRIBUTE, self.changed_roots);
        if own == Owner::ROOT && is_plain() {
            return Ok(Answer::Continue);
        }
        let (parent, name) = target.open_parent()?;
        let owner = Owner { gid: self.group_of_new(&parent)?.unwrap_or(own.gid), ..own };
        if owner == Owner::ROOT && own == Owner::ROOT {
            return Ok(Answer::Continue);
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

    /// The group that a folder passes on to what is made in it.
    pub(super) fn group_of_new(&self, folder: &OwnedFd) -> rustix::io::Result<Option<u32>> {
        let stat = rustix::fs::statat(folder, "", AtFlags::EMPTY_PATH)?;
        let passes_on = stat.st_mode & libc::S_ISGID != 0;
        Ok(passes_on.then(|| self.kept(folder, &stat).owner.unwrap_or(Owner::ROOT).gid))
    }
}
