//! A user with a range of ids, who needs no account on the machine: the files that make him one are
//! seen by his own processes alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use super::need::{Need, program, root};

/// An id that no distribution gives to anybody.
const ID: &str = "54321";

/// Mounts four files over those of `/etc`, and becomes the user. Folders of the machine stay as they are.
const ENTER: &str = "for file in passwd group subuid subgid; do \
    test -e /etc/$file || exit 99; mount --bind \"$0/$file\" /etc/$file; done; \
    exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$@\"";

/// Runs commands as a user with a range of ids.
pub struct Ranged(PathBuf);

impl Ranged {
    /// Writes the user's files to a folder, whose path everybody may walk.
    pub fn new(folder: &Path) -> Need<Self> {
        root("becoming a user with a range of ids")?;
        for name in ["unshare", "setpriv", "newuidmap"] {
            program(name)?;
        }
        let with = |file: &str, row: String| {
            let text = fs::read_to_string(format!("/etc/{file}")).unwrap_or_default() + &row;
            fs::write(folder.join(file), text).unwrap();
        };
        with("passwd", format!("gondola-test:x:{ID}:{ID}::/nonexistent:/bin/sh\n"));
        with("group", format!("gondola-test:x:{ID}:\n"));
        for file in ["subuid", "subgid"] {
            fs::write(folder.join(file), format!("{ID}:700000:65536\n")).unwrap();
        }
        Ok(Self(folder.to_owned()))
    }

    /// A program as this user; arguments and all else are for the caller to add.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", ENTER]).arg(&self.0).arg(program);
        command
    }

    /// Makes the user the owner of a file or folder.
    pub fn give(path: &Path) {
        let id = Some(ID.parse().unwrap());
        std::os::unix::fs::chown(path, id, id).unwrap();
    }
}
