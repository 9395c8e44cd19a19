//! What happens at the limit of a file's size.

/// Lets a write beyond the limit fail, which otherwise ends the process without a word.
///
/// A handler that does nothing, and not the wish to ignore the signal: programs that are started inherit
/// that one, and a handler never.
#[expect(unsafe_code, reason = "no safe wrapper sets a handler without a thread for it")]
pub fn survive_file_size_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler touches nothing, and nothing else in the process handles this signal.
    unsafe { libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t) };
}
