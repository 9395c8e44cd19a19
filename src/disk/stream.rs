//! The standard streams of this process, as others left them: they may be non-blocking, and whoever should
//! read them may have stopped.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// So long what is still to be said may take once the process is about to end.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for room before looking whether the process is about to end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// As many bytes a pipe takes at once where it has any room, see `pipe(7)`.
const PIECE: usize = 4096;

/// From then on nothing waits for a reader.
static END: OnceLock<Instant> = OnceLock::new();

/// The process is about to end: what nobody reads within a second is not said.
pub fn hurry() {
    END.get_or_init(|| Instant::now() + LAST_WAIT);
}

/// Writes everything, also to a descriptor that somebody made non-blocking.
pub fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_room(to)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until something can be written, or until there is no more time.
fn await_room(to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => {}
            // What is wrong with it the next write says.
            Ok(_) => return Ok(()),
            Err(error) => return Err(error),
        }
        if END.get().is_some_and(|end| Instant::now() > *end) {
            return Err(Errno::TIMEDOUT);
        }
    }
}

/// Standard output, not buffered.
#[derive(Clone, Copy, Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_all(rustix::stdio::stdout(), bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, not buffered. It is never waited for in the kernel, so that [`hurry`] is heard.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.chunks(PIECE) {
            await_room(rustix::stdio::stderr())?;
            write_all(rustix::stdio::stderr(), piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn all_is_written_to_a_pipe_that_does_not_block() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let text: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let read = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        write_all(writer.as_fd(), &text).unwrap();
        drop(writer);
        assert!(read.join().unwrap() == text);
    }

    #[test]
    fn a_reader_that_went_away_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(write_all(writer.as_fd(), b"text"), Err(Errno::PIPE));
    }
}
