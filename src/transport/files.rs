//! The files of a layout or archive, read with suspicion.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::BlobLocation;

/// Files by their names inside a folder or an archive.
pub(super) trait Files {
    /// What holds the files, for messages.
    fn display(&self) -> String;

    /// Reads a file of at most `limit` bytes; `None` where there is no such file.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>>;

    /// Where a file's bytes are, and how many; `None` where there is no such file.
    fn locate(&self, name: &str) -> Result<Option<(BlobLocation, u64)>>;
}

/// The files of a folder. Names come from this module's callers, never from what was read.
pub(super) struct Folder(pub PathBuf);

impl Folder {
    /// The path and size of a regular file. Anything else, such as a pipe, is refused: opening it
    /// could take for ever.
    fn regular(&self, name: &str) -> Result<Option<(PathBuf, u64)>> {
        let path = self.0.join(name);
        let metadata = match fs_err::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if disk::is_absence(&error) => return Ok(None),
            Err(error) => return Err(error).cannot(|| format!("read {}", path.display())),
        };
        disk::expect_regular(&metadata, u64::MAX).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("read {}", path.display())).because(error)
        })?;
        Ok(Some((path, metadata.len())))
    }
}

impl Files for Folder {
    fn display(&self) -> String {
        self.0.display().to_string()
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>> {
        let Some((path, size)) = self.regular(name)? else { return Ok(None) };
        read_part(&path, 0, size, limit).map(Some)
    }

    fn locate(&self, name: &str) -> Result<Option<(BlobLocation, u64)>> {
        Ok(self.regular(name)?.map(|(path, size)| (BlobLocation::File(path), size)))
    }
}

/// Reads `size` bytes of a file, if they are not more than `limit`.
pub(super) fn read_part(path: &Path, offset: u64, size: u64, limit: u64) -> Result<Bytes> {
    use std::io::{Seek, SeekFrom};
    let action = || format!("read {}", path.display());
    if size > limit {
        return Err(Error::new(ErrorKind::Invalid, action())
            .because(format!("it has {size} bytes, at most {limit} are taken")));
    }
    let mut file = disk::open_listed(path).cannot(action)?;
    file.seek(SeekFrom::Start(offset)).cannot(action)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(size).read_to_end(&mut bytes).cannot(action)?;
    Ok(bytes.into())
}
