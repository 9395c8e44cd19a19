//! What a tree has at a path.

use std::collections::BTreeMap;

use super::{Content, ContentHash, TreePath};
use crate::error::Result;

/// The longest target that Linux takes for a symbolic link.
const LONGEST_TARGET: usize = 4095;
/// The longest name that Linux takes for an extended attribute.
const LONGEST_XATTR_NAME: usize = 255;
/// The longest value that Linux takes for an extended attribute.
const LONGEST_XATTR_VALUE: usize = 64 << 10;

/// One file, directory, link or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The twelve permission bits; a tree drops all others.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When it was last modified, in seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes by their full name, such as `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link and its target, taken as it is.
    Symlink(Vec<u8>),
    /// Another name of a regular file that stands before this one in the same tree.
    HardLink(TreePath),
    /// A character device.
    CharDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl Entry {
    /// Makes an entry that belongs to root and dates from the epoch.
    pub fn new(kind: EntryKind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    /// Makes a regular file.
    pub fn file(content: impl Into<Content>, mode: u32) -> Self {
        Self::new(EntryKind::File(content.into()), mode)
    }

    /// Makes a directory.
    pub fn directory(mode: u32) -> Self {
        Self::new(EntryKind::Directory, mode)
    }

    /// Makes a symbolic link with the mode that Linux gives to all of them.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::new(EntryKind::Symlink(target.into()), 0o777)
    }

    /// Makes another name of the file that `target` names and `of` describes. Both share mode,
    /// owner and times, so that unpacking the one does not change the other.
    pub fn hard_link(target: TreePath, of: &Self) -> Self {
        Self { kind: EntryKind::HardLink(target), xattrs: BTreeMap::new(), ..of.clone() }
    }

    /// Sets the owner.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    /// Sets the time of the last modification, in seconds since the epoch.
    #[must_use]
    pub fn modified(self, mtime: i64) -> Self {
        Self { mtime, ..self }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// The bytes of content that follow this entry's header.
    pub fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File(content) => content.size(),
            _ => 0,
        }
    }

    /// The hash of a regular file's content; that of nothing for what has none.
    pub fn content_hash(&self) -> Result<ContentHash> {
        match &self.kind {
            EntryKind::File(content) => content.hash(),
            _ => Ok(*blake3::hash(b"").as_bytes()),
        }
    }

    /// Why no archive can hold this entry, if so.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if let EntryKind::Symlink(target) = &self.kind
            && (target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0))
        {
            return Some("the link's target is empty, longer than 4095 bytes, or has a NUL byte");
        }
        let fits = |name: &str, value: &[u8]| {
            !name.is_empty()
                && name.len() <= LONGEST_XATTR_NAME
                && !name.contains(['=', '\0'])
                && value.len() <= LONGEST_XATTR_VALUE
        };
        if !self.xattrs.iter().all(|(name, value)| fits(name, value)) {
            return Some(
                "the name or value of an extended attribute is not one that archives hold",
            );
        }
        None
    }
}
