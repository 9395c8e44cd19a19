//! Says which case of a program without a test harness takes long, in the words of the usual one:
//! `tests/support/watch` reads them, and ends what hangs.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// After so long a case is spoken of, as in the usual harness.
const LONG: Duration = Duration::from_mins(1);

/// Speaks of a case that takes long, until it is dropped.
pub struct Slow {
    ended: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    /// Begins to watch a case.
    pub fn watch(name: &str) -> Self {
        let (ended, wait) = channel();
        let name = name.to_owned();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                println!("test {name} has been running for over {} seconds", LONG.as_secs());
                let _ = wait.recv();
                println!("test {name} came to its end");
            }
        });
        Self { ended: Some(ended), thread: Some(thread) }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        drop(self.ended.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
