//! Whether standard output was closed when the process began.
//!
//! Before `main` Rust's runtime puts /dev/null into the place of a closed one: a result would be lost without
//! a word.

use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// What the loader calls before the runtime begins.
#[used]
#[expect(unsafe_code, reason = "nothing of the language runs before the runtime")]
// SAFETY: the section holds functions of this type, which are called once, before any thread is there.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

#[expect(unsafe_code, reason = "the descriptor may be closed, which the safe wrapper rules out")]
extern "C" fn look() {
    // SAFETY: the flags of a descriptor are asked for, and nothing is changed.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    WAS_CLOSED.store(flags < 0, Ordering::Relaxed);
}

/// Notes that it was closed when the process began that started this one again.
pub(super) fn note_closed() {
    WAS_CLOSED.store(true, Ordering::Relaxed);
}

/// Whether standard output was closed when the process began, so that nothing that is written there arrives.
pub fn stdout_was_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}
