//! A file of a root file system whose contents are in memory alone, where no memory can be mounted: at its
//! path is a stand-in with the size, the mode and the owner of the file, and nothing in it.
//!
//! ```text
//!   FOLDER/fs/run/secrets/token   the stand-in, a hole
//!   program ── open, stat ──► whoever answers for /proc ──► a descriptor of the memory
//! ```
//!
//! A process that is killed, whichever it is, leaves nothing of the contents on the disk. Absent: a program
//! that is executed by the path of such a file. A script is: the shell opens it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Gid, MemfdFlags, Mode, OFlags, SealFlags, Stat, Uid};
use rustix::io::Errno;

use super::fakeroot::target::own_name;

/// A file in memory, and what stands for it.
pub(super) struct MemoryFile {
    memory: std::fs::File,
    stand_in: std::fs::File,
    device: u64,
    inode: u64,
}

/// Who may do what with a file.
#[derive(Clone, Copy)]
pub(super) struct Rights {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl MemoryFile {
    /// Makes one; its stand-in gets the name in the folder, where nothing is.
    pub(super) fn new(
        (folder, name): (&OwnedFd, &Path),
        content: &[u8],
        rights: Rights,
    ) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(c"secret", flags)?;
        let memory = std::fs::File::from(memory);
        memory.write_all_at(content, 0)?;
        // Whoever has it open could open it once more, by its number, to write.
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let stand_in = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
        let stand_in = std::fs::File::from(stand_in);
        stand_in.set_len(content.len() as u64)?;
        for file in [&memory, &stand_in] {
            let (uid, gid) = (Uid::from_raw(rights.uid), Gid::from_raw(rights.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
            rustix::fs::fchmod(file, Mode::from_raw_mode(rights.mode))?;
        }
        let stat = rustix::fs::fstat(&stand_in)?;
        Ok(Self { memory, stand_in, device: stat.st_dev, inode: stat.st_ino })
    }

    /// The same file.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let (memory, stand_in) = (self.memory.try_clone()?, self.stand_in.try_clone()?);
        Ok(Self { memory, stand_in, ..*self })
    }

    /// Whether this is what is known of the stand-in.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        (stat.st_dev, stat.st_ino) == (self.device, self.inode)
    }

    /// The memory, to be looked at.
    pub(super) fn look(&self) -> rustix::io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.memory, 0)
    }

    /// Opens the file as the user that this thread is, with an offset of its own. Nobody may write to it.
    pub(super) fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST);
        }
        if flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::NOTDIR);
        }
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) {
            return Err(Errno::ROFS);
        }
        // What leads to the memory is a link.
        let flags = flags - OFlags::CREATE - OFlags::NOFOLLOW;
        let memory = self.look()?;
        rustix::fs::open(own_name(&memory), flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// Writes the contents into the stand-in, where nobody can answer for it.
    pub(super) fn spill(&self) -> io::Result<()> {
        let size = self.memory.metadata()?.len();
        let mut content = vec![0; usize::try_from(size).unwrap_or_default()];
        self.memory.read_exact_at(&mut content, 0)?;
        self.stand_in.write_all_at(&content, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn file_in(folder: &Path) -> MemoryFile {
        let opened = rustix::fs::open(folder, OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let rights = Rights { mode: 0o400, uid: uid.as_raw(), gid: gid.as_raw() };
        MemoryFile::new((&opened, Path::new("token")), b"hunter2", rights).unwrap()
    }

    #[test]
    fn what_is_on_the_disk_has_the_size_and_nothing_of_the_contents() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(folder.path());
        let path = folder.path().join("token");
        assert_eq!(fs_err::read(&path).unwrap(), [0; 7]);
        assert!(file.is(&rustix::fs::stat(&path).unwrap()));
        assert!(!file.is(&rustix::fs::stat(folder.path()).unwrap()));
        file.spill().unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"hunter2");
    }

    #[test]
    fn each_opening_reads_from_the_beginning_and_none_writes() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(folder.path());
        for _ in 0..2 {
            let opened = file.open(OFlags::RDONLY | OFlags::NOFOLLOW).unwrap();
            let mut text = String::new();
            std::fs::File::from(opened).read_to_string(&mut text).unwrap();
            assert_eq!(text, "hunter2");
        }
        assert_eq!(file.open(OFlags::RDWR).err(), Some(Errno::ROFS));
        assert_eq!(file.open(OFlags::WRONLY | OFlags::TRUNC).err(), Some(Errno::ROFS));
        assert_eq!(file.open(OFlags::CREATE | OFlags::EXCL).err(), Some(Errno::EXIST));
        // By the number of an open one.
        let opened = file.open(OFlags::RDONLY).unwrap();
        let again = rustix::fs::open(own_name(&opened), OFlags::RDWR, Mode::empty());
        if let Ok(again) = again {
            let again = std::fs::File::from(again);
            again.write_all_at(b"changed", 0).unwrap_err();
            again.set_len(0).unwrap_err();
        }
        let stat = rustix::fs::fstat(file.look().unwrap()).unwrap();
        assert_eq!((stat.st_size, stat.st_mode & 0o777), (7, 0o400));
    }
}
