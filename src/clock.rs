//! Which file systems tell of every change by a file's change time.
//!
//! The kernel stamps files of its own file systems by one clock, and nobody can set a change time
//! back: a file whose state is the same has the same contents, unless it was changed within the tick
//! of that clock in which the state was taken. Others are stamped by another machine or by a
//! program, with a clock of theirs, and the kernel may answer with a state that it remembers (NFS,
//! SMB, 9p, virtiofs, everything in FUSE) or stamps whole seconds (FAT). Whoever must know what is
//! in their files has to read them.
//!
//! No file system tells at once of what is written through `mmap`: the change time moves when a
//! page is first written to after the kernel last wrote it back, so a second write into the same
//! page can go unseen until then.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{StatFs, fstatfs, statfs};

/// Who stamps the files of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The kernel of this machine, at every change.
    Kernel,
    /// Somebody else, or nobody knows who. Contents are to be read.
    Foreign,
}

/// The magic numbers (`statfs(2)`) of file systems that the kernel itself keeps on a disk of this
/// machine, or in memory. What is not in this list is foreign.
const OF_THE_KERNEL: [u64; 14] = [
    0x0102_1994, // tmpfs
    0x2fc1_2fc1, // zfs
    0x5265_4973, // reiserfs
    0x5846_5342, // xfs
    0x7371_7368, // squashfs
    0x794c_7630, // overlayfs
    0x8584_58f6, // ramfs
    0x9123_683e, // btrfs
    0xca45_1a4e, // bcachefs
    0xe0f5_e1e2, // erofs
    0xf2f5_2010, // f2fs
    0x0000_3434, // nilfs
    0x0000_9660, // iso9660
    0x0000_ef53, // ext2, ext3, ext4
];

/// Those of them that are in memory alone: no page is ever written back.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

impl Clock {
    /// By which clock the file system of an open file stamps.
    pub fn of(file: impl AsFd) -> Self {
        fstatfs(file).map_or(Self::Foreign, |found| Self::of_kind(&found))
    }

    /// By which clock the file system of a path stamps.
    pub fn of_path(path: &Path) -> Self {
        statfs(path).map_or(Self::Foreign, |found| Self::of_kind(&found))
    }

    fn of_kind(found: &StatFs) -> Self {
        if OF_THE_KERNEL.contains(&kind(found)) { Self::Kernel } else { Self::Foreign }
    }

    /// Whether the kernel stamps the files of the file system of an open file, and writes what was
    /// changed back to a disk: then even a write through `mmap` is seen some time later.
    pub fn sees_mapped_writes(file: impl AsFd) -> io::Result<bool> {
        let found = fstatfs(file)?;
        Ok(Self::of_kind(&found) == Self::Kernel && !IN_MEMORY.contains(&kind(&found)))
    }
}

#[expect(clippy::cast_sign_loss, reason = "a magic number is 32 bits, whatever its type is")]
fn kind(found: &StatFs) -> u64 {
    found.f_type as u64 & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_stamp_or_nobody_writes_back_is_not_trusted() {
        // NFS, SMB, 9p, FUSE, FAT, exFAT, HFS+.
        for number in [0x6969, 0xff53_4d42, 0x0102_1997, 0x6573_5546, 0x4d44, 0x2011_bab0, 0x482b] {
            assert!(!OF_THE_KERNEL.contains(&number), "{number:x}");
        }
        assert!(IN_MEMORY.iter().all(|number| OF_THE_KERNEL.contains(number)));
    }

    #[test]
    fn the_kernel_stamps_memory_and_disks_and_not_what_it_makes_up() {
        assert_eq!(Clock::of_path(Path::new("/proc")), Clock::Foreign);
        assert_eq!(Clock::of_path(Path::new("/nonexistent/x")), Clock::Foreign);
        let file = tempfile::tempfile().unwrap();
        let folder = std::env::temp_dir();
        assert_eq!(Clock::of(&file), Clock::of_path(&folder));
    }
}
