//! Files on disk: those that others wrote, opened with suspicion, and those in the making.
//!
//! Whatever a path leads to, nothing here waits for somebody to open the other end of a pipe, and
//! nothing reads more than the caller said. What is no regular file is refused by what it is. Errors
//! are those of the system, and of the kind [`io::ErrorKind::InvalidInput`] where the file is one that
//! is not taken; the caller names the path.

mod result;
mod room;
pub mod stream;
mod unfinished;

use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;

pub use result::{ResultFile, WrittenResult};
pub use room::room_near;
pub use unfinished::{Unfinished, is_unfinished};

/// Opens a regular file for reading.
pub fn open(path: &Path) -> io::Result<File> {
    // Looked at first: there are devices that act when they are opened.
    expect_regular(&fs_err::metadata(path)?, u64::MAX)?;
    open_listed(path)
}

/// Opens a file for reading that was seen to be a regular one. If it is another by now it is refused.
pub fn open_listed(path: &Path) -> io::Result<File> {
    let file = open_at_once(path)?;
    expect_regular(&file.metadata()?, u64::MAX)?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// The file's size is not believed: those of `/proc` have none, and others grow.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(open(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes as text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    text(read(path, limit)?)
}

/// Opens for reading a file that somebody named on the command line.
///
/// There `<(program)` stands for a pipe that the shell has opened already: what `/dev/fd`,
/// `/proc/self/fd` and `/dev/stdin` lead to is opened, whatever it is.
pub fn open_named(path: &Path) -> io::Result<File> {
    if !is_descriptor(path) || fs_err::metadata(path)?.is_file() {
        return open(path);
    }
    if is_stdin(path) {
        // Opened anew it could be refused: a socket, or a terminal of another user.
        let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        return Ok(File::from_parts(stdin.into(), path));
    }
    let file = open_at_once(path)?;
    // Whoever writes to it may take some time.
    let flags = rustix::fs::fcntl_getfl(file.file())?;
    rustix::fs::fcntl_setfl(file.file(), flags - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Finds out whether [`open_named`] would open a file of at most `limit` bytes, and opens nothing: what a
/// pipe of the shell holds is read once.
pub fn check_named(path: &Path, limit: u64) -> io::Result<()> {
    let found = fs_err::metadata(path)?;
    if is_descriptor(path) && !found.is_file() {
        return Ok(());
    }
    expect_regular(&found, limit)?;
    let access = rustix::fs::Access::READ_OK;
    Ok(rustix::fs::accessat(rustix::fs::CWD, path, access, rustix::fs::AtFlags::EACCESS)?)
}

/// Reads what [`open_named`] opens, at most `limit` bytes.
pub fn read_named(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(open_named(path)?, limit)
}

/// As [`read_named`], as text.
pub fn read_named_text(path: &Path, limit: u64) -> io::Result<String> {
    text(read_named(path, limit)?)
}

/// Whether an error says that nothing is there.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).expect("flags are small numbers");
    fs_err::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn read_opened(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    expect_size(size, limit)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(refusal(format!("it goes on after {limit} bytes, and no more are taken")));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

/// Refuses what is no regular file, and one that is longer than `limit` bytes.
pub fn expect_regular(metadata: &std::fs::Metadata, limit: u64) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return expect_size(metadata.len(), limit);
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(refusal(format!("it is {what}, expected a file")))
}

fn expect_size(size: u64, limit: u64) -> io::Result<()> {
    if size > limit {
        return Err(refusal(format!("it has {size} bytes, at most {limit} are taken")));
    }
    Ok(())
}

fn refusal(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Whether a path is that of a descriptor of this process.
fn is_descriptor(path: &Path) -> bool {
    let in_folder =
        |folder| path.strip_prefix(folder).is_ok_and(|name| name.to_str().is_some_and(is_number));
    is_stdin(path) || ["/dev/fd", "/proc/self/fd"].into_iter().any(in_folder)
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_stdin(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].iter().any(|name| path == Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: &io::Error) -> String {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        error.to_string()
    }

    #[test]
    fn what_is_no_file_is_refused_by_what_it_is() {
        use rustix::fs::{CWD, Mode};
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR).unwrap();
        let socket = folder.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let zero = folder.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        for (path, what) in [
            (pipe.as_path(), "it is a named pipe"),
            (&socket, "it is a socket"),
            (&zero, "it is a device"),
            (folder.path(), "it is a folder"),
        ] {
            let checked = check_named(path, 10).map(|()| Vec::new());
            for found in
                [read(path, 10), read_named(path, 10), open(path).map(|_| Vec::new()), checked]
            {
                let error = refused(&found.unwrap_err());
                assert!(error.starts_with(what), "{error}");
            }
            if path != socket {
                let error = refused(&open_listed(path).unwrap_err());
                assert!(error.starts_with(what), "{error}");
            }
        }
        assert!(is_absence(&read(&folder.path().join("none"), 1).unwrap_err()));
        assert!(is_absence(&read(&zero.join("none"), 1).unwrap_err()));
    }

    #[test]
    fn no_more_is_read_than_was_said_whatever_the_size_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(check_named(&path, 5).is_ok() && check_named(&path, 4).is_err());
        let error = refused(&read(&path, 4).unwrap_err());
        assert_eq!(error, "it has 5 bytes, at most 4 are taken");
        // Its size is 0.
        let error = refused(&read(Path::new("/proc/self/status"), 20).unwrap_err());
        assert_eq!(error, "it goes on after 20 bytes, and no more are taken");
        assert!(read_text(Path::new("/proc/self/status"), 1 << 20).unwrap().contains("Name:"));
        fs_err::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_pipe_that_the_shell_opened_is_read() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        for (text, limit, expected) in
            [("FROM x\n", 10, Ok("FROM x\n")), ("12345", 4, Err("it goes on after 4 bytes"))]
        {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let writing = std::thread::spawn(move || writer.write_all(text.as_bytes()));
            let path = format!("/dev/fd/{}", reader.as_raw_fd());
            let found = read_named_text(Path::new(&path), limit);
            match expected {
                Ok(text) => assert_eq!(found.unwrap(), text),
                Err(why) => assert!(refused(&found.unwrap_err()).starts_with(why)),
            }
            writing.join().unwrap().unwrap();
            assert!(refused(&read(Path::new(&path), limit).unwrap_err()).contains("named pipe"));
        }
        for other in ["/dev/fd", "/dev/fd/", "/dev/fd/1/x", "/dev/fdx/1", "/dev/fd/x", "dev/fd/1"] {
            assert!(!is_descriptor(Path::new(other)), "{other}");
        }
    }
}
