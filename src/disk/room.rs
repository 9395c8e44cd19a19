//! A place to try things in, on the file system of a folder that may not be there yet.

use std::io;
use std::path::Path;

use tempfile::TempDir;

/// Makes a folder in `path`, or in the nearest one above that is there, for its owner alone. It goes when it is
/// dropped, and nothing else is made.
pub fn room_near(path: &Path) -> io::Result<TempDir> {
    let above = path.ancestors().find(|above| above.exists());
    let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".gondola-try-").tempdir_in(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_in_the_nearest_folder_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let room = room_near(&folder.path().join("not/yet/there")).unwrap();
        assert_eq!(room.path().parent(), Some(folder.path()));
        drop(room);
        assert_eq!(room_near(folder.path()).unwrap().path().parent(), Some(folder.path()));
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs_err::write(&file, "").unwrap();
        assert!(room_near(&file.join("store")).is_err());
    }
}
