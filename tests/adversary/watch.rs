//! Acting at the very moment when the program has opened, read or closed a file: a race that an
//! adversary does not have to win by luck.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::world::{Ended, LIMIT, Running};

/// What is done with files in a folder, as it happens.
pub struct Watch {
    inotify: OwnedFd,
    name: Vec<u8>,
}

impl Watch {
    /// Watches one name in a folder: opened, read from, closed after reading.
    pub fn on(file: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let events = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::CLOSE_NOWRITE;
        inotify::add_watch(&inotify, file.parent().unwrap(), events).unwrap();
        let name = file.file_name().unwrap().as_encoded_bytes().to_vec();
        Self { inotify, name }
    }

    /// How often something was done with the name since this was last asked, waiting a little.
    fn moments(&self) -> usize {
        let mut asked = [PollFd::new(&self.inotify, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = poll(&mut asked, Some(&wait));
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut count = 0;
        while let Ok(event) = reader.next() {
            let about = event.file_name().map(|name| name.to_bytes() == self.name);
            let folder = event.events().contains(ReadFlags::ISDIR);
            count += usize::from(about == Some(true) && !folder);
        }
        count
    }
}

/// Waits for the end of a program and acts at its moments, by their numbers from one.
///
/// Returns how many moments there were.
pub fn at_moments(
    mut running: Running,
    watch: &Watch,
    mut act: impl FnMut(usize),
) -> Result<(Ended, usize), String> {
    let begun = Instant::now();
    let mut seen = 0;
    while !running.has_ended() {
        for _ in 0..watch.moments() {
            seen += 1;
            act(seen);
        }
        if begun.elapsed() > LIMIT {
            break;
        }
    }
    Ok((running.end(Duration::from_millis(1))?, seen))
}
