//! The contents of regular files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fs_err::File;

use crate::disk;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// Where the bytes of a regular file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file, which is read when the layer is written.
    File {
        /// The file to read.
        path: PathBuf,
        /// Its size in bytes; a file that turns out to have another size is an error.
        size: u64,
    },
}

impl Content {
    /// Stands for the regular file at `path`, with the size that it has now.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let metadata = fs_err::metadata(&path).cannot(|| "put a file into a layer")?;
        disk::expect_regular(&metadata, u64::MAX).map_err(|error| {
            let action = format!("put {} into a layer as a file", path.display());
            Error::new(ErrorKind::Invalid, action).because(error)
        })?;
        Ok(Self::File { path, size: metadata.len() })
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

impl<B: Into<Bytes>> From<B> for Content {
    fn from(bytes: B) -> Self {
        Self::Memory(bytes.into())
    }
}

/// Reads a file of a known size, and no other.
pub(super) struct Source<'a> {
    file: File,
    path: &'a Path,
    size: u64,
    left: u64,
}

impl<'a> Source<'a> {
    /// Opens the regular file at `path`, which must have `size` bytes.
    pub(super) fn open(path: &'a Path, size: u64) -> Result<Self> {
        let file = disk::open_listed(path).cannot(|| "put a file into a layer")?;
        let found = file.metadata().cannot(|| "put a file into a layer")?.len();
        if found != size {
            return Err(changed(path, &format!("found {found} bytes"), size));
        }
        Ok(Self { file, path, size, left: size })
    }

    /// Reads up to `buffer`'s length; 0 means that all was read and the file ends there.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.left == 0 {
            let grown = self.read_some(&mut [0])? > 0;
            return if grown { Err(changed(self.path, "found more", self.size)) } else { Ok(0) };
        }
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.read_some(&mut buffer[..wanted])?;
        if count == 0 {
            let found = format!("found {} bytes", self.size - self.left);
            return Err(changed(self.path, &found, self.size));
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => return result.cannot(|| "put a file into a layer"),
            }
        }
    }
}

fn changed(path: &Path, found: &str, expected: u64) -> Error {
    Error::new(ErrorKind::Io, format!("put {} into a layer", path.display()))
        .because(format!("it changed meanwhile: {found}, expected {expected} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(source: &mut Source) -> Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 3]);
        loop {
            match source.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let cases: [(&str, u64, &str, Option<&str>); 5] = [
            ("hello", 5, "hello", None),
            ("", 0, "", None),
            ("hello", 4, "hello", Some("found 5 bytes, expected 4 bytes")),
            ("hello", 5, "hell", Some("found 4 bytes, expected 5 bytes")),
            ("hello", 5, "hello!", Some("found more, expected 5 bytes")),
        ];
        for (before, size, after, fault) in cases {
            fs_err::write(&path, before).unwrap();
            let source = Source::open(&path, size);
            fs_err::write(&path, after).unwrap();
            let result = source.and_then(|mut source| read_all(&mut source));
            match fault {
                None => assert_eq!(result.unwrap(), after.as_bytes()),
                Some(fault) => {
                    let error = result.unwrap_err().to_string();
                    assert!(error.contains(path.to_str().unwrap()), "{error}");
                    assert!(error.ends_with(fault), "{error}");
                }
            }
        }
    }

    #[test]
    fn only_regular_files_have_content() {
        let folder = tempfile::tempdir().unwrap();
        let error = Content::from_file(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("it is a folder, expected a file"), "{error}");
        let missing = folder.path().join("missing");
        let error = Content::from_file(&missing).unwrap_err().to_string();
        assert!(error.contains(missing.to_str().unwrap()), "{error}");
    }
}
