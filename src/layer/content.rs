//! The contents of regular files.
//!
//! A file's content may be pinned to a hash. A cache pins the files that its key was made of. A reader of
//! a pinned file hashes what it reads, and fails at the end where the bytes are others: so a file that is
//! saved between the reading for the key and the reading for the layer is never stored under that key.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::beneath::{FileState, HeldFolder};
use crate::disk;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// Small enough to stay in a core's cache between reading and hashing.
const CHUNK: usize = 256 << 10;

/// The BLAKE3 hash of a file's content, for use on this machine alone.
pub type ContentHash = [u8; 32];

/// Where the bytes of a regular file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file, which is read when the layer is written.
    File(FileContent),
}

/// The content of a file on disk. A file that turns out to have another size or hash is an error of
/// the kind [`ErrorKind::Changed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    pub(super) place: FileLocation,
    pub(super) size: u64,
    pub(super) hash: Option<ContentHash>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileLocation {
    /// At a path, whatever that leads through.
    Path(PathBuf),
    /// In a folder, and nowhere else.
    Beneath { folder: Arc<HeldFolder>, relative: Box<[u8]>, seen: FileState },
}

impl Content {
    /// Stands for the regular file at `path`, with the size that it has now.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let action = || format!("read the file {}", path.display());
        let metadata = fs_err::metadata(&path).cannot(action)?;
        // What is read is no link: one that is named is followed here, once.
        let real = path.is_symlink().then(|| fs_err::canonicalize(&path)).transpose();
        let path = real.cannot(action)?.unwrap_or(path);
        disk::expect_regular(&metadata, u64::MAX).map_err(|error| {
            let action = format!("put {} into a layer as a file", path.display());
            Error::new(ErrorKind::Invalid, action).because(error)
        })?;
        Ok(Self::file(path, metadata.len()))
    }

    /// Stands for the file at `path`, which must be no link and have `size` bytes.
    pub fn file(path: impl Into<PathBuf>, size: u64) -> Self {
        Self::File(FileContent { place: FileLocation::Path(path.into()), size, hash: None })
    }

    /// Stands for the file at a path below a folder that is held open, as a look at it found it.
    pub fn beneath(folder: &Arc<HeldFolder>, relative: &[u8], seen: &Stat) -> Self {
        let (folder, relative, seen) = (folder.clone(), relative.into(), FileState::of(seen));
        let size = seen.size;
        Self::File(FileContent {
            place: FileLocation::Beneath { folder, relative, seen },
            size,
            hash: None,
        })
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }

    /// The hash of the content: the pinned one, or that of what is read now.
    pub fn hash(&self) -> Result<ContentHash> {
        match self {
            Self::Memory(bytes) => Ok(*blake3::hash(bytes).as_bytes()),
            Self::File(FileContent { hash: Some(hash), .. }) => Ok(*hash),
            Self::File(file) => file.open()?.hash(),
        }
    }

    /// The hash of the content, where nothing must be read for it.
    pub fn known_hash(&self) -> Option<ContentHash> {
        match self {
            Self::Memory(bytes) => Some(*blake3::hash(bytes).as_bytes()),
            Self::File(FileContent { hash, .. }) => *hash,
        }
    }

    /// Reads a file for its hash, unless that is known, and lets it have no other content from then
    /// on.
    pub fn pin(&mut self) -> Result<ContentHash> {
        let hash = self.hash()?;
        self.pin_as(hash);
        Ok(hash)
    }

    /// Lets a file have the content with this hash alone. When it was changed says nothing more.
    pub fn pin_as(&mut self, known: ContentHash) {
        if let Self::File(FileContent { hash, place, .. }) = self {
            *hash = Some(known);
            if let FileLocation::Beneath { seen, .. } = place {
                *seen = seen.without_times();
            }
        }
    }

    /// Reads all of it, checked like everything that is read. It should be known to be small.
    pub fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(file) => {
                let mut all = Vec::with_capacity(usize::try_from(file.size).unwrap_or_default());
                file.open()?.for_each(|bytes| {
                    all.extend_from_slice(bytes);
                    Ok(())
                })?;
                Ok(all.into())
            }
        }
    }
}

impl<B: Into<Bytes>> From<B> for Content {
    fn from(bytes: B) -> Self {
        Self::Memory(bytes.into())
    }
}

impl FileContent {
    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the only content that it may have, where there is one.
    pub fn pinned(&self) -> Option<&ContentHash> {
        self.hash.as_ref()
    }

    /// Where it is. What was found in a folder that is held open is read through that, not by this.
    pub fn path(&self) -> PathBuf {
        match &self.place {
            FileLocation::Path(path) => path.clone(),
            FileLocation::Beneath { folder, relative, .. } => folder.display(relative),
        }
    }

    /// In which state it was when it was found, where it is in a folder that is held open. What is
    /// pinned has no times.
    pub fn seen(&self) -> Option<&FileState> {
        match &self.place {
            FileLocation::Path(_) => None,
            FileLocation::Beneath { seen, .. } => Some(seen),
        }
    }

    /// Reads from below `to` what is below `from`, whence it was moved.
    pub(super) fn relocate(&mut self, from: &Path, to: &Path) {
        if let FileLocation::Path(path) = &mut self.place
            && let Ok(inside) = path.strip_prefix(from)
        {
            *path = to.join(inside);
        }
    }

    /// Opens it, which checks that it is a regular file of its size, and in a folder that is held
    /// open the one that was found.
    pub fn open(&self) -> Result<FileReader> {
        let action = || format!("read {}", self.path().display());
        let opened = match &self.place {
            FileLocation::Path(path) => open_path(path),
            FileLocation::Beneath { folder, relative, .. } => folder.file(relative),
        };
        let file = opened.map_err(|error| self.unopened(error))?;
        let stat = rustix::fs::fstat(&file).cannot(action)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(ErrorKind::Invalid, action()).because("it is no regular file"));
        }
        let state = FileState::of(&stat);
        if self.seen().is_some_and(|seen| !seen.is_same_file(&state)) {
            return Err(self.changed("found another file in its place"));
        }
        if state.size != self.size {
            return Err(self.differs_in_size(&format!("found {} bytes", state.size)));
        }
        boundary::reached(boundary::Boundary::Opened, self);
        let hasher = self.hash.is_some().then(blake3::Hasher::new).map(Box::new);
        Ok(FileReader { content: self.clone(), file, state, left: self.size, hasher })
    }

    /// Says why it could not be opened. In a folder that is held open it was there, and no link.
    fn unopened(&self, error: io::Error) -> Error {
        let action = format!("read {}", self.path().display());
        let is_held = matches!(self.place, FileLocation::Beneath { .. });
        if !is_held || error.kind() == io::ErrorKind::PermissionDenied {
            return Error::new(ErrorKind::Io, action).caused_by(error);
        }
        self.changed(&format!("found no file in its place ({error})"))
    }

    fn differs_in_size(&self, found: &str) -> Error {
        self.changed(&format!("{found}, expected {} bytes", self.size))
    }

    fn changed(&self, found: &str) -> Error {
        Error::new(ErrorKind::Changed, format!("read {}", self.path().display()))
            .because(format!("it changed meanwhile: {found}"))
            .hint("build again when nothing writes there")
    }
}

/// Opens whatever is at a path; a named pipe or a device is not waited for.
fn open_path(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Reads a file of a known size, and no other. What is pinned must have its hash.
#[derive(Debug)]
pub struct FileReader {
    content: FileContent,
    file: File,
    state: FileState,
    left: u64,
    /// Of what was read so far, where that is compared.
    hasher: Option<Box<blake3::Hasher>>,
}

impl FileReader {
    /// The state of the file when it was opened.
    pub fn state(&self) -> &FileState {
        &self.state
    }

    /// The opened file. What is read from it by itself is not checked: see [`FileContent::check`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads up to `buffer`'s length; 0 means that all was read, that the file ends there, and that
    /// it is what it is said to be. An empty buffer is an end that was not checked.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return self.end().map(|()| 0);
        }
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.read_some(&mut buffer[..wanted])?;
        if count == 0 {
            let found = format!("found {} bytes", self.content.size - self.left);
            return Err(self.content.differs_in_size(&found));
        }
        let is_first = self.left == self.content.size;
        self.left -= count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if is_first {
            boundary::reached(boundary::Boundary::FirstBlock, &self.content);
        }
        Ok(count)
    }

    fn end(&mut self) -> Result<()> {
        if self.read_some(&mut [0])? > 0 {
            return Err(self.content.differs_in_size("found more"));
        }
        match &self.hasher {
            Some(hasher) => self.content.check(hasher.finalize().as_bytes()),
            None => Ok(()),
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    return result.cannot(|| format!("read {}", self.content.path().display()));
                }
            }
        }
    }

    /// Passes all that is left to `take`, and checks it.
    pub fn for_each(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let length = usize::try_from(self.left + 1).map_or(CHUNK, |left| left.min(CHUNK));
        let mut buffer = vec![0; length];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                count => take(&buffer[..count])?,
            }
        }
    }

    /// Reads it to its end for its hash.
    pub fn hash(mut self) -> Result<ContentHash> {
        let mut hasher = blake3::Hasher::new();
        self.for_each(|bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        boundary::reached(boundary::Boundary::Hashed, &self.content);
        Ok(*hasher.finalize().as_bytes())
    }
}

impl FileContent {
    /// Fails where a hash is not the pinned one. For callers that got the bytes in another way, such as by
    /// a clone of the file.
    pub fn check(&self, found: &ContentHash) -> Result<()> {
        match &self.hash {
            Some(pinned) if pinned != found => {
                Err(self.changed("found other content of the same size"))
            }
            _ => Ok(()),
        }
    }
}

/// For what takes any reader. An error is a [`struct@Error`] inside.
impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::read(self, buffer).map_err(io::Error::other)
    }
}

/// Where tests stop a reader, to change the file there.
pub(crate) mod boundary {
    use super::FileContent;

    /// A moment in the life of a reader.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Boundary {
        /// It was read to its end for its hash.
        Hashed,
        /// It was opened and looked at.
        Opened,
        /// Its first block was read.
        FirstBlock,
    }

    #[cfg(not(test))]
    pub(super) fn reached(_: Boundary, _: &FileContent) {}

    #[cfg(test)]
    pub(super) fn reached(at: Boundary, content: &FileContent) {
        // The hook itself may read files.
        let hook = HOOK.with_borrow_mut(Option::take);
        if let Some(mut hook) = hook {
            hook(at, content);
            HOOK.with_borrow_mut(|place| *place = Some(hook));
        }
    }

    #[cfg(test)]
    type Hook = Box<dyn FnMut(Boundary, &FileContent)>;

    #[cfg(test)]
    thread_local! {
        static HOOK: std::cell::RefCell<Option<Hook>> = const { std::cell::RefCell::new(None) };
    }

    /// Calls `hook` at each boundary that a reader of this thread reaches during `work`.
    #[cfg(test)]
    pub(crate) fn hooked<T>(
        hook: impl FnMut(Boundary, &FileContent) + 'static,
        work: impl FnOnce() -> T,
    ) -> T {
        HOOK.with_borrow_mut(|place| *place = Some(Box::new(hook)));
        let result = work();
        HOOK.with_borrow_mut(|place| *place = None);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::boundary::{Boundary, hooked};
    use super::*;

    fn read_all(reader: &mut FileReader) -> Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 3]);
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn opened(content: &Content) -> Result<FileReader> {
        let Content::File(file) = content else { panic!("it is in memory") };
        file.open()
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
            let reader = opened(&Content::file(&path, size));
            fs_err::write(&path, after).unwrap();
            let result = reader.and_then(|mut reader| read_all(&mut reader));
            match fault {
                None => assert_eq!(result.unwrap(), after.as_bytes()),
                Some(fault) => {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Changed);
                    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
                    assert!(error.message().ends_with(fault), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_pinned_file_that_has_other_bytes_never_ends_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (old, new) = (vec![b'o'; 3 * CHUNK], vec![b'n'; 3 * CHUNK]);
        for edit in [Boundary::Hashed, Boundary::Opened, Boundary::FirstBlock] {
            fs_err::write(&path, &old).unwrap();
            let mut content = Content::from_file(&path).unwrap();
            if edit != Boundary::Hashed {
                content.pin().unwrap();
            }
            let (target, bytes) = (path.clone(), new.clone());
            let hook = move |at, _: &FileContent| {
                if at == edit {
                    fs_err::write(&target, &bytes).unwrap();
                }
            };
            let error = hooked(hook, || {
                content.pin()?;
                content.bytes()
            });
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Changed, "{edit:?}");
            let why = "it changed meanwhile: found other content of the same size";
            assert!(error.message().ends_with(why), "{error}");
            fs_err::write(&path, &old).unwrap();
            assert_eq!(content.bytes().unwrap(), old);
        }
    }

    #[test]
    fn what_was_found_in_a_folder_is_read_there_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs_err::create_dir_all(root.join("sub")).unwrap();
        let file = root.join("sub/file");
        fs_err::write(&file, "inside").unwrap();
        fs_err::write(scratch.path().join("file"), "secret").unwrap();
        let folder = Arc::new(HeldFolder::open(&root).unwrap());
        let seen = folder.folder(b"sub").unwrap().look(Some(b"file")).unwrap().unwrap();
        let content = Content::beneath(&folder, b"sub/file", &seen);
        assert_eq!(content.bytes().unwrap(), "inside");
        let fault = |content: &Content| {
            let error = content.bytes().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
            error.message()
        };
        // Another file, with the same content.
        fs_err::rename(&file, root.join("kept")).unwrap();
        fs_err::write(&file, "inside").unwrap();
        assert!(fault(&content).ends_with("found another file in its place"));
        fs_err::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("../../file", &file).unwrap();
        assert!(fault(&content).contains("found no file in its place"));
        fs_err::remove_dir_all(root.join("sub")).unwrap();
        std::os::unix::fs::symlink("..", root.join("sub")).unwrap();
        assert!(fault(&content).contains("found no file in its place"));
    }

    #[test]
    fn only_regular_files_have_content() {
        let folder = tempfile::tempdir().unwrap();
        let error = Content::from_file(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("it is a folder, expected a file"), "{error}");
        let missing = folder.path().join("missing");
        let error = Content::from_file(&missing).unwrap_err().to_string();
        assert!(error.contains(missing.to_str().unwrap()), "{error}");
        // Nor is one waited for that was swapped in.
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RWXU).unwrap();
        assert!(Content::file(&pipe, 5).bytes().is_err());
    }
}
