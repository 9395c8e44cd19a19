//! Limits that this process was started with, and what is said where one of them was the reason.

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
    match error.os_error().map(Errno::from_raw_os_error) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_where_it_was_the_reason() {
        let explained = |errno: Errno| {
            let io = std::io::Error::from(errno);
            let named = std::io::Error::new(io.kind(), format!("failed to write x: {io}"));
            let error = Err::<(), _>(named).cannot(|| "write x").unwrap_err();
            explain(error).to_string()
        };
        let limit = getrlimit(Resource::Nofile).current;
        let expected = limit.is_some_and(|limit| {
            explained(Errno::MFILE)
                .contains(&format!("{limit} open files: raise that with ulimit -n"))
        });
        assert!(expected || limit.is_none());
        assert!(!explained(Errno::NOENT).contains("ulimit"));
    }
}
