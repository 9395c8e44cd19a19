//! Waits for something to happen in a container's folder.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::process::Handle;

/// Sees every change in a folder from the time on at which it was made.
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(&watch, folder, changes)?;
        Ok(Self(watch))
    }

    /// Waits for a change since the last call, the end of a process, or the end of a time.
    pub(super) fn wait(&self, ends: Option<&Handle>, limit: Option<Duration>) -> io::Result<()> {
        let mut watched = vec![PollFd::new(&self.0, PollFlags::IN)];
        watched.extend(ends.map(|process| PollFd::new(process.descriptor(), PollFlags::IN)));
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(&mut watched, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut changes = Reader::new(&self.0, &mut space);
        // What changed is for the caller to look at.
        while changes.next().is_ok() {}
        Ok(())
    }
}
