//! Whether there is room for more.

use std::sync::atomic::Ordering;

use super::Store;

/// With less than this left a disk counts as full; a small one does later.
const LITTLE_BYTES: u64 = 16 << 20;
/// On a small one, less than one part in this many counts as little.
const SMALL_PART: u64 = 50;

impl Store {
    /// Whether the store's file system has no room left to speak of, for bytes or for files, or had none
    /// when this process wrote there. One that does not say counts as having some.
    pub fn is_full(&self) -> bool {
        if self.ran_full() {
            return true;
        }
        let Ok(found) = rustix::fs::statvfs(self.root()) else { return false };
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let space = Space {
            bytes: bytes(found.f_blocks),
            bytes_left: bytes(found.f_bavail),
            files: found.f_files,
            files_left: found.f_favail,
        };
        space.is_used_up()
    }

    fn ran_full(&self) -> bool {
        self.0.ran_full.load(Ordering::Relaxed)
    }
}

/// How large a file system is, and what is left of that.
#[derive(Debug)]
struct Space {
    bytes: u64,
    bytes_left: u64,
    /// Zero where files are not counted.
    files: u64,
    files_left: u64,
}

impl Space {
    fn is_used_up(&self) -> bool {
        let little = LITTLE_BYTES.min(self.bytes / SMALL_PART);
        let has_no_bytes = self.bytes > 0 && (self.bytes_left == 0 || self.bytes_left < little);
        has_no_bytes || (self.files > 0 && self.files_left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_used_up_where_neither_bytes_nor_files_have_room() {
        const MIB: u64 = 1 << 20;
        for (bytes, bytes_left, files, files_left, expected) in [
            (12 * MIB, 0, 100, 10, true),
            (12 * MIB, MIB / 8, 100, 10, true),
            (12 * MIB, MIB, 100, 10, false),
            (12 * MIB, 11 * MIB, 100, 0, true),
            (MIB << 20, 15 * MIB, 100, 10, true),
            (MIB << 20, 16 * MIB, 100, 10, false),
            (MIB << 20, MIB << 19, 0, 0, false),
            (0, 0, 0, 0, false),
        ] {
            let space = Space { bytes, bytes_left, files, files_left };
            assert_eq!(space.is_used_up(), expected, "{space:?}");
        }
    }

    #[test]
    fn a_disk_on_which_something_found_no_room_was_full_though_that_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        for (kind, expected) in [
            (std::io::ErrorKind::PermissionDenied, false),
            (std::io::ErrorKind::QuotaExceeded, true),
        ] {
            let _ = store.cannot_write(kind.into());
            assert_eq!(store.ran_full(), expected, "{kind}");
        }
        assert!(store.is_full());
    }
}
