//! buildah, with storage of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::need::{Missing, Need, describe, program, root};

/// The builder that ours is compared with.
pub struct Buildah {
    program: PathBuf,
    driver: &'static str,
    folder: TempDir,
}

impl Buildah {
    /// Finds buildah, and a storage driver that works here.
    pub fn start() -> Need<Self> {
        let program = program("buildah")?;
        root("buildah")?;
        let folder = TempDir::with_prefix("gondola-buildah-").unwrap();
        let mut buildah = Self { program, driver: "overlay", folder };
        let works = |buildah: &Self| {
            let mut command = buildah.command();
            let output = command.args(["from", "scratch"]).output().unwrap();
            output.status.success().then_some(()).ok_or_else(|| describe(&command, &output))
        };
        if works(&buildah).is_err() {
            buildah.driver = "vfs";
            works(&buildah).map_err(Missing::because)?;
        }
        Ok(buildah)
    }

    /// `buildah`, ready for arguments. Its environment holds no more than it needs.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", self.folder.path());
        command.env("PATH", std::env::var("PATH").unwrap_or_default());
        command.args(["--storage-driver", self.driver]).arg("--root").arg(self.path("storage"));
        command.arg("--runroot").arg(self.path("run"));
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Storage mounts its own folder over itself, and the folder cannot go before the mount.
        let mounted: &Path = &self.path("storage/overlay");
        let _ = Command::new("umount").arg("--lazy").arg(mounted).output();
    }
}
