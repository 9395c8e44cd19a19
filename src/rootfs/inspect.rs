//! Reads what is on disk back into entries.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::attributes::{let_owner_read, recorded_mode};
use super::{OwnerStorage, marks};
use crate::error::{Cannot as _, Result};
use crate::layer::{Content, Entry, EntryKind};
use crate::sandbox::owner::{self, DeviceKind, Kept, Owner, SideTable};

/// A folder of files in one form, with the owners that are kept beside it.
#[derive(Debug)]
pub(super) struct LayerDir {
    /// The folder.
    pub(super) folder: PathBuf,
    pub(super) storage: OwnerStorage,
    pub(super) owners: SideTable,
}

impl LayerDir {
    /// Reads the side table of a folder.
    pub(super) fn open(folder: PathBuf, storage: OwnerStorage) -> Result<Self> {
        let owners = SideTable::of_folder(&folder)?;
        Ok(Self { folder, storage, owners })
    }

    /// The file for a path relative to the folder.
    pub(super) fn at(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            self.folder.clone()
        } else {
            self.folder.join(OsStr::from_bytes(path))
        }
    }

    /// Looks at a path; `None` where nothing is.
    pub(super) fn look(&self, path: &[u8]) -> Result<Option<Stat>> {
        let action = || format!("look at {}", self.at(path).display());
        match rustix::fs::statat(rustix::fs::CWD, self.at(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).cannot(action),
        }
    }

    /// Whether what is at a path hides what lower layers have there.
    pub(super) fn hides(&self, path: &[u8], stat: &Stat) -> Result<bool> {
        marks::is_whiteout(&self.at(path), stat, self.storage).cannot(|| "look for whiteouts")
    }

    /// Whether the folder at a path hides what lower layers have in it.
    pub(super) fn is_opaque(&self, path: &[u8]) -> Result<bool> {
        marks::is_opaque(&self.at(path), self.storage).cannot(|| "look for opaque folders")
    }

    /// The names in the folder at a path, sorted.
    pub(super) fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let folder = self.at(path);
        if self.storage == OwnerStorage::Recorded {
            let stat = rustix::fs::lstat(&folder).cannot(|| "list a folder")?;
            let_owner_read(&folder, stat.st_mode, self.storage).cannot(|| "list a folder")?;
        }
        let entries = fs_err::read_dir(&folder).cannot(|| "list a folder")?;
        let names = entries.map(|entry| Ok(entry?.file_name().as_bytes().to_vec()));
        let mut names: Vec<Vec<u8>> =
            names.collect::<io::Result<_>>().cannot(|| "list a folder")?;
        names.sort();
        Ok(names)
    }

    /// Describes what is at a path. `None` for what archives do not hold, which is sockets.
    pub(super) fn entry(&self, path: &[u8], stat: &Stat) -> Result<Option<Entry>> {
        let file = self.at(path);
        let action = || format!("read {}", file.display());
        let mode = let_owner_read(&file, stat.st_mode, self.storage).cannot(action)?;
        let kept = self.kept(path, stat).cannot(action)?;
        let Some(kind) = Self::kind(&file, stat, &kept)? else { return Ok(None) };
        let mode = match kind {
            EntryKind::Symlink(_) => mode & 0o7777,
            _ if self.storage == OwnerStorage::Recorded => {
                recorded_mode(&file, mode).cannot(action)?
            }
            _ => mode & 0o7777,
        };
        let owner = match self.storage {
            OwnerStorage::Recorded => kept.owner.unwrap_or(Owner::ROOT),
            OwnerStorage::Trusted | OwnerStorage::Mapped => {
                Owner { uid: stat.st_uid, gid: stat.st_gid }
            }
        };
        let xattrs = match kind {
            EntryKind::File(_) | EntryKind::Directory => xattrs(&file, kept.capability),
            _ => Ok(BTreeMap::new()),
        };
        Ok(Some(Entry {
            kind,
            mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime: stat.st_mtime,
            xattrs: xattrs.cannot(action)?,
        }))
    }

    /// What is kept of a file; the attributes count before the side table.
    fn kept(&self, path: &[u8], stat: &Stat) -> io::Result<Kept> {
        let carries = matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::RegularFile | FileType::Directory
        );
        let is_empty_file = stat.st_size == 0 && carries;
        let mut kept = Kept::default();
        if carries && (self.storage == OwnerStorage::Recorded || is_empty_file) {
            kept = Kept::of_path(&self.at(path))?;
        }
        if let Some(line) = self.owners.get(Path::new(OsStr::from_bytes(path))) {
            kept.owner = kept.owner.or(line.owner);
            kept.device = kept.device.or(line.device);
            kept.capability = kept.capability.or_else(|| line.capability.clone());
        }
        Ok(kept)
    }

    fn kind(file: &Path, stat: &Stat, kept: &Kept) -> Result<Option<EntryKind>> {
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => match kept.device.filter(|_| stat.st_size == 0) {
                Some(device) if device.kind == DeviceKind::Block => {
                    EntryKind::BlockDevice { major: device.major, minor: device.minor }
                }
                Some(device) => EntryKind::CharDevice { major: device.major, minor: device.minor },
                None => EntryKind::File(content(file, stat)),
            },
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlink(file, Vec::new());
                let target = target.cannot(|| format!("read the link {}", file.display()))?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => {
                let (major, minor) = numbers(stat);
                EntryKind::CharDevice { major, minor }
            }
            FileType::BlockDevice => {
                let (major, minor) = numbers(stat);
                EntryKind::BlockDevice { major, minor }
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        }))
    }
}

fn content(file: &Path, stat: &Stat) -> Content {
    match u64::try_from(stat.st_size).unwrap_or(0) {
        0 => Content::Memory(bytes::Bytes::new()),
        size => Content::file(file, size),
    }
}

fn xattrs(file: &Path, capability: Option<Vec<u8>>) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for name in attribute_names(file)? {
        if !marks::is_content(&name) {
            continue;
        }
        if name == "security.capability" {
            if let Some(value) = owner::capability_of_path(file)? {
                found.insert(name, value);
            }
        } else if let Some(value) = attribute(file, &name)? {
            found.insert(name, value);
        }
    }
    if let Some(value) = capability {
        let portable = owner::portable_capability(&value).unwrap_or(value);
        found.entry("security.capability".to_owned()).or_insert(portable);
    }
    Ok(found)
}

fn numbers(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// The names of the extended attributes of a file or folder.
pub(super) fn attribute_names(file: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![0; 256];
    let length = loop {
        match rustix::fs::llistxattr(file, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) => names.resize(names.len() * 8, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let names = names[..length].split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect())
}

fn attribute(file: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64];
    loop {
        match rustix::fs::lgetxattr(file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) => value.resize(64 << 10, 0),
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
