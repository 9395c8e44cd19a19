//! A blob: what names it, and where its bytes can be read from.

use std::io::{Cursor, Read};
use std::path::PathBuf;

use bytes::Bytes;

use crate::disk;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::{Descriptor, Repository, VerifyingReader};
use crate::registry::BlobSource;

/// A descriptor, and a source that can be opened as often as needed.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What names the bytes.
    pub descriptor: Descriptor,
    /// Where the bytes are.
    pub source: BlobLocation,
}

/// Where the bytes of a [`Blob`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobLocation {
    /// Here.
    Memory(Bytes),
    /// A file that holds exactly the blob.
    File(PathBuf),
    /// A part of a file, such as an uncompressed archive's member.
    Slice {
        /// The file.
        path: PathBuf,
        /// Where the blob begins.
        offset: u64,
    },
    /// A repository that has the blob under its digest.
    Remote(Repository),
}

impl Blob {
    /// A blob whose bytes are in memory.
    pub fn in_memory(descriptor: Descriptor, bytes: Bytes) -> Self {
        Self { descriptor, source: BlobLocation::Memory(bytes) }
    }

    /// The repository that holds the blob, where it has not been brought here.
    pub fn remote(&self) -> Option<&Repository> {
        match &self.source {
            BlobLocation::Remote(repository) => Some(repository),
            _ => None,
        }
    }

    fn raw(&self) -> Result<Box<dyn Read + Send>> {
        let name = || format!("read blob {}", self.descriptor.digest);
        Ok(match &self.source {
            BlobLocation::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
            BlobLocation::File(path) => Box::new(disk::open_listed(path).cannot(name)?),
            BlobLocation::Slice { path, offset } => {
                use std::io::{Seek, SeekFrom};
                let mut file = disk::open_listed(path).cannot(name)?;
                file.seek(SeekFrom::Start(*offset)).cannot(name)?;
                Box::new(file.take(self.descriptor.size))
            }
            BlobLocation::Remote(repository) => {
                return Err(Error::new(ErrorKind::NotFound, name())
                    .because(format!("its bytes are in {repository} and were not fetched")));
            }
        })
    }
}

impl BlobSource for Blob {
    /// Opens the bytes from the start; reading fails instead of ending on the wrong content.
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        Ok(Box::new(VerifyingReader::new(self.raw()?, digest.clone(), *size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use std::io::Write;

    fn read(blob: &Blob) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        blob.open().unwrap().read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn every_local_source_yields_the_same_bytes_as_often_as_asked() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"..hello..").unwrap();
        let whole = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(whole.path(), b"hello").unwrap();
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        for source in [
            BlobLocation::Memory(Bytes::from_static(b"hello")),
            BlobLocation::File(whole.path().to_owned()),
            BlobLocation::Slice { path: file.path().to_owned(), offset: 2 },
        ] {
            let blob = Blob { descriptor: descriptor.clone(), source };
            assert_eq!(read(&blob).unwrap(), b"hello");
            assert_eq!(read(&blob).unwrap(), b"hello");
        }
    }

    #[test]
    fn changed_bytes_are_noticed_before_the_end() {
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        let blob = Blob::in_memory(descriptor, Bytes::from_static(b"hellO"));
        assert!(read(&blob).is_err());
    }

    #[test]
    fn a_remote_blob_says_where_it_is() {
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        let source = BlobLocation::Remote("ghcr.io/a/b".parse().unwrap());
        let error = Blob { descriptor, source }.open().err().unwrap();
        assert!(error.to_string().contains("ghcr.io/a/b"), "{error}");
    }
}
