//! Files for results that somebody named on the command line.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Unfinished, is_descriptor, refusal, stream};

/// A file for a result, ready before the result is known: that it cannot be written is told before
/// anything is done that stays.
///
/// A regular file is replaced whole, and a link to one stays a link. A device, a pipe and a descriptor
/// of this process (`/dev/stdout`) are written to: their names are never given to another file.
#[derive(Debug)]
pub struct ResultFile(Target);

/// A file that holds its result already, or a stream that waits for it: there is nothing left to do that
/// a full disk could stop.
#[derive(Debug)]
pub struct WrittenResult(Target, Vec<u8>);

#[derive(Debug)]
enum Target {
    Replaced { unfinished: Unfinished, path: PathBuf },
    Opened(File),
}

impl ResultFile {
    /// Opens the place for a result, which nothing is written to yet.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(file) = own_stream(path)? {
            return Ok(Self(Target::Opened(file)));
        }
        let path = match fs_err::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(refusal("it is a folder, expected a file".to_owned()));
            }
            Ok(found) if !found.is_file() || is_descriptor(path) => {
                return open_in_place(path).map(Target::Opened).map(Self);
            }
            Ok(_) => fs_err::canonicalize(path)?,
            Err(_) => path.to_owned(),
        };
        let unfinished = Unfinished::beside(&path, 0o666)?;
        Ok(Self(Target::Replaced { unfinished, path }))
    }

    /// Finds out whether a result can be written, and changes nothing. Waits for nobody who is to open
    /// the other end of a pipe.
    pub fn check(path: &Path) -> io::Result<()> {
        let is_special = fs_err::metadata(path).is_ok_and(|found| !found.is_file());
        if is_special && !path.is_dir() {
            let access = rustix::fs::Access::WRITE_OK;
            let flags = rustix::fs::AtFlags::EACCESS;
            return Ok(rustix::fs::accessat(rustix::fs::CWD, path, access, flags)?);
        }
        Self::open(path).map(drop)
    }

    /// Finds out the same as [`Self::check`], as far as that goes without making a file for a moment.
    pub fn look(path: &Path) -> io::Result<()> {
        let is_file = match fs_err::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(refusal("it is a folder, expected a file".to_owned()));
            }
            Ok(found) => found.is_file(),
            Err(_) => true,
        };
        if !is_file {
            return Self::check(path);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let (folder, flags) = (folder.unwrap_or(Path::new(".")), rustix::fs::AtFlags::EACCESS);
        Ok(rustix::fs::accessat(rustix::fs::CWD, folder, access, flags)?)
    }

    /// Writes the result beside its place. A stream gets it at the end: what is in it stays.
    pub fn write(mut self, bytes: Vec<u8>) -> io::Result<WrittenResult> {
        if let Target::Replaced { unfinished, .. } = &mut self.0 {
            unfinished.write_all(&bytes)?;
            unfinished.flush()?;
        }
        Ok(WrittenResult(self.0, bytes))
    }

    /// Writes the result: from now on it is there.
    pub fn finish(self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes.to_vec())?.show()
    }
}

impl WrittenResult {
    /// Puts the result into its place.
    pub fn show(self) -> io::Result<()> {
        match self.0 {
            Target::Opened(file) => Ok(stream::write_all(file.as_fd(), &self.1)?),
            Target::Replaced { unfinished, path } => unfinished.persist(&path),
        }
    }
}

/// The standard stream that a path stands for. Opened anew it could be refused: a socket, or a terminal
/// of another user; and a file would be written from its beginning.
fn own_stream(path: &Path) -> io::Result<Option<File>> {
    let stream = match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => rustix::stdio::stdout(),
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => rustix::stdio::stderr(),
        _ => return Ok(None),
    };
    let own = rustix::io::fcntl_dupfd_cloexec(stream, 3)?;
    Ok(Some(File::from(own)))
}

fn open_in_place(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map(File::from)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::FileTypeExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_its_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs_err::write(&file, "old and longer").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let result = ResultFile::open(&link).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "old and longer");
        result.finish(b"new").unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "new");
        assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
        drop(ResultFile::open(&folder.path().join("never")).unwrap());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        ResultFile::check(&pipe).unwrap();
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || {
                let mut text = String::new();
                fs_err::File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            })
        };
        ResultFile::open(&pipe).unwrap().finish(b"text").unwrap();
        assert_eq!(reader.join().unwrap(), "text");
        assert!(fs_err::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn what_cannot_be_written_is_told_before() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/file")] {
            assert!(ResultFile::check(&path).is_err(), "{}", path.display());
            assert!(ResultFile::look(&path).is_err(), "{}", path.display());
        }
        for path in [Path::new("/dev/null"), &folder.path().join("file")] {
            ResultFile::check(path).unwrap();
            ResultFile::look(path).unwrap();
        }
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}
