//! An entry as an archive describes it.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::layer::{TreePath, Whiteout};

/// An entry as a foreign archive describes it: nothing is checked but that its fields can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// The path's bytes as found: it may be absolute, begin with `./`, end in `/`, hold `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: ListedKind,
    /// The permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// When it was last modified, in seconds since the epoch, rounded down.
    pub mtime: i64,
    /// The size of a file when unpacked.
    pub size: u64,
    /// Whether the content is stored in one of GNU's sparse forms: the archive then has fewer bytes
    /// of it than [`Self::size`].
    pub sparse: bool,
    /// Extended attributes by their full name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a [`ListedEntry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of the file at this path, as found.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// The driver's number.
        major: u64,
        /// The device's number.
        minor: u64,
    },
    /// A block device.
    BlockDevice {
        /// The driver's number.
        major: u64,
        /// The device's number.
        minor: u64,
    },
    /// A named pipe.
    Fifo,
    /// An entry of a type that layers do not have, by its letter.
    Other(u8),
}

impl ListedEntry {
    /// The place in the image that the path stands for; `None` is the root.
    ///
    /// Errs where no image has such a place, such as for `../x`.
    pub fn tree_path(&self) -> Result<Option<TreePath>> {
        if self.path.iter().all(|b| matches!(b, b'/' | b'.')) && !has_dots(&self.path) {
            return Ok(None);
        }
        TreePath::normalized(&self.path).map(Some)
    }

    /// What the entry does to lower layers, if its name is a whiteout's.
    pub fn whiteout(&self) -> Option<Whiteout> {
        self.tree_path().ok()??.as_whiteout()
    }

    /// The letter that `ls -l` shows for the kind; `?` for an unknown one.
    pub fn letter(&self) -> char {
        match self.kind {
            ListedKind::File | ListedKind::HardLink(_) => '-',
            ListedKind::Directory => 'd',
            ListedKind::Symlink(_) => 'l',
            ListedKind::CharDevice { .. } => 'c',
            ListedKind::BlockDevice { .. } => 'b',
            ListedKind::Fifo => 'p',
            ListedKind::Other(_) => '?',
        }
    }
}

fn has_dots(path: &[u8]) -> bool {
    path.is_empty() || path.split(|b| *b == b'/').any(|part| part.len() > 1)
}
