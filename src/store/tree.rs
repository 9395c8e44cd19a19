//! Removing folders of any depth and mode.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

/// The permissions without which a folder's owner cannot empty it.
const OWNERS: u32 = 0o700;

/// Removes a folder and all in it, whatever the depth and the modes. What is not there is removed.
///
/// Nobody else may write to the folder meanwhile: it is an image's content that nobody runs.
pub fn remove_tree(tree: &Path) -> io::Result<()> {
    match fs_err::symlink_metadata(tree) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return fs_err::remove_file(tree),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut flat = Flat { top: tree.to_owned(), next: 0, pending: Vec::new() };
    flat.empty(tree)?;
    while let Some(folder) = flat.pending.pop() {
        flat.empty(&folder)?;
        fs_err::remove_dir(&folder)?;
    }
    fs_err::remove_dir(tree)
}

/// Brings every folder up to the top before it is emptied: so neither the length of a path nor the
/// number of open folders grows with the depth.
struct Flat {
    top: PathBuf,
    next: u64,
    pending: Vec<PathBuf>,
}

impl Flat {
    fn empty(&mut self, folder: &Path) -> io::Result<()> {
        open_up(folder)?;
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs_err::remove_file(entry.path())?;
            } else if folder == self.top {
                self.pending.push(entry.path());
            } else {
                let moved = self.bring_up(&entry.path())?;
                self.pending.push(moved);
            }
        }
        Ok(())
    }

    fn bring_up(&mut self, folder: &Path) -> io::Result<PathBuf> {
        loop {
            let target = self.top.join(format!(".gondola-{}", self.next));
            self.next += 1;
            match rustix::fs::renameat_with(CWD, folder, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(target),
                Err(Errno::EXIST) => {}
                // Its entry `..` changes, which takes the right to write to it.
                Err(Errno::ACCESS | Errno::PERM) => {
                    open_up(folder)?;
                    fs_err::rename(folder, &target)?;
                    return Ok(target);
                }
                // A file system that knows no flags.
                Err(Errno::INVAL) if !target.exists() => {
                    fs_err::rename(folder, &target)?;
                    return Ok(target);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Gives the owner every right to a folder.
fn open_up(folder: &Path) -> io::Result<()> {
    let mode = fs_err::symlink_metadata(folder)?.mode();
    if mode & OWNERS == OWNERS {
        return Ok(());
    }
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(mode & 0o777 | OWNERS))
}

/// Deletes a folder on a thread of its own. What it has not deleted when the process ends, the next
/// process does.
pub(super) fn delete_later(folder: PathBuf) {
    let deleting = std::thread::Builder::new().name("delete".to_owned());
    // Without a thread it is left to the next process; and so is what cannot be deleted.
    let _ = deleting.spawn(move || remove_tree(&folder));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_any_depth_and_mode_are_removed_and_links_are_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let (tree, kept) = (outer.path().join("tree"), outer.path().join("kept"));
        fs_err::create_dir_all(&kept).unwrap();
        fs_err::write(kept.join("file"), "").unwrap();
        fs_err::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        fs_err::create_dir_all(tree.join("a/.gondola-0/b")).unwrap();
        fs_err::write(tree.join("a/.gondola-0/file"), "").unwrap();
        let mut deep = fs_err::canonicalize(&tree).unwrap();
        for _ in 0..1500 {
            deep.push("d");
            rustix::fs::mkdir(&deep, 0o700.into()).unwrap();
        }
        for (path, mode) in [("a/.gondola-0", 0o500), ("a", 0o000)] {
            let mode = std::fs::Permissions::from_mode(mode);
            fs_err::set_permissions(tree.join(path), mode).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        remove_tree(&tree).unwrap();
    }
}
