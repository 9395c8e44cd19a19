//! Limits that this process was started with, and what is said where one of them was the reason.

use std::error::Error as StdError;
use std::io;
use std::sync::RwLock;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Cannot as _, Error, Result};

/// How many threads a run needs at once: the runtime's own, and those that wait for files.
const THREADS: usize = 8;

/// Makes sure that threads can be made: the runtime takes that for granted.
pub(super) fn check_threads() -> Result<()> {
    let gate = RwLock::new(());
    let started = std::thread::scope(|scope| {
        let closed = gate.write();
        let started = (0..THREADS).try_for_each(|_| {
            let wait = || drop(gate.read());
            std::thread::Builder::new().spawn_scoped(scope, wait).map(drop)
        });
        drop(closed);
        started
    });
    started.cannot(|| "start threads")
}

/// Adds to an error the limit that it comes from, and how that is lifted.
pub(super) fn explain(error: Error) -> Error {
    match errno(&error) {
        Some(Errno::FBIG) => with_limit(error, Resource::Fsize, ("bytes in a file", "-f")),
        Some(Errno::MFILE) => with_limit(error, Resource::Nofile, ("open files", "-n")),
        Some(Errno::AGAIN) => with_limit(error, Resource::Nproc, ("processes and threads", "-u")),
        Some(Errno::NOMEM) => with_limit(error, Resource::As, ("bytes of memory", "-v")),
        _ => error,
    }
}

fn with_limit(error: Error, resource: Resource, (what, flag): (&str, &str)) -> Error {
    let Some(limit) = getrlimit(resource).current else { return error };
    error.hint(format!("this shell allows {limit} {what}: raise that with ulimit {flag}"))
}

/// The system's number for what went wrong at the bottom.
fn errno(error: &Error) -> Option<Errno> {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    let mut found = None;
    while let Some(error) = next {
        let own = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let own = own.map(Errno::from_raw_os_error).or(error.downcast_ref::<Errno>().copied());
        found = own.or(found);
        next = error.source();
    }
    found
}
