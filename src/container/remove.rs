//! Removes folders that a program filled as it liked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Removes a folder and all below it. Permissions that a program took from its own folders are
/// given back first. What still cannot be removed stays.
pub(super) fn remove_tree(folder: &Path) {
    if fs_err::remove_dir_all(folder).is_ok() || !folder.exists() {
        return;
    }
    open_folders(folder);
    // The caller looks whether anything is left.
    let _ = fs_err::remove_dir_all(folder);
}

fn open_folders(folder: &Path) {
    let own = std::fs::Permissions::from_mode(0o700);
    if fs_err::set_permissions(folder, own).is_err() {
        return;
    }
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_permissions_go_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs_err::write(outside.path().join("kept"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs_err::create_dir_all(tree.join("a/b/c")).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("a/link")).unwrap();
        for name in ["a/b", "a"] {
            let none = std::fs::Permissions::from_mode(0o000);
            fs_err::set_permissions(tree.join(name), none).unwrap();
        }
        remove_tree(&tree);
        assert!(!tree.exists());
        assert!(outside.path().join("kept").exists());
    }
}
