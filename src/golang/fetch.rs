//! Runs of `go` for a builder: without the network first, and where modules are missing, once more
//! after they were fetched.

use std::fs::File;
use std::path::Path;

use super::Builder;
use super::command::{self, Output};
use super::environment::is_offline;
use super::launch::{Call, Phase};
use super::packages::explain;
use crate::error::Result;
use crate::oci::Platform;
use crate::sandbox::Access;

/// What `go` says where a module is missing that it may not download.
const OFFLINE: &str = "GOPROXY=off";

/// What it says where it may not even take the lock of the folder for modules.
const UNWRITABLE: [&str; 2] = ["permission denied", "read-only file system"];

impl Builder {
    /// Runs `go`, telling the reporter of its downloads.
    pub(super) async fn go(
        &self,
        workdir: &Path,
        arguments: &[String],
        platform: &Platform,
    ) -> Result<Output> {
        self.go_locked(workdir, arguments, platform, None).await
    }

    /// The same, with a locked file that stays locked until `go` ends.
    pub(super) async fn go_locked(
        &self,
        workdir: &Path,
        arguments: &[String],
        platform: &Platform,
        lock: Option<&File>,
    ) -> Result<Output> {
        let output = self.run(workdir, arguments, platform, (Phase::Build, lock)).await?;
        match self.toolchain.fetching() {
            // It would have the network and the user's credentials for nothing.
            Some(fetching) if is_offline(&fetching.environment) => return Ok(output),
            Some(fetching) if !output.success && self.lacks_modules(&output.stderr) => {
                // What others are fetching need not be fetched twice.
                let _turn = fetching.turn.lock().await;
                self.fetch(workdir, arguments, platform).await?;
            }
            _ => return Ok(output),
        }
        self.run(workdir, arguments, platform, (Phase::Build, lock)).await
    }

    /// Whether all that packages are made of can be found, as it is asked without a network.
    pub async fn finds_all(
        &self,
        workdir: &Path,
        packages: &[String],
        platform: &Platform,
    ) -> Result<bool> {
        let mut list = ["list", "-deps", "-f", "{{\"\"}}"].map(str::to_owned).to_vec();
        list.extend(self.flags.arguments());
        list.push("--".to_owned());
        list.extend_from_slice(packages);
        Ok(self.run(workdir, &list, platform, (Phase::Build, None)).await?.success)
    }

    fn lacks_modules(&self, said: &str) -> bool {
        let modules = self.toolchain.variable("GOMODCACHE");
        let is_about_modules = |line: &str| modules.is_some_and(|folder| line.contains(folder));
        let mut lines = said.lines().filter(|line| is_about_modules(line));
        said.contains(OFFLINE) || lines.any(|line| UNWRITABLE.iter().any(|why| line.contains(why)))
    }

    /// Fetches the modules of the packages that `arguments` name behind `--`.
    async fn fetch(&self, workdir: &Path, arguments: &[String], platform: &Platform) -> Result<()> {
        let mut list = ["list", "-deps", "-f", "{{\"\"}}"].map(str::to_owned).to_vec();
        list.extend(self.flags.arguments());
        // With this flag the folders of modules can be removed like any others.
        list.push("-modcacherw".to_owned());
        list.extend(arguments.iter().skip_while(|argument| *argument != "--").cloned());
        let output = self.run(workdir, &list, platform, (Phase::Fetch, None)).await?;
        if output.success {
            return Ok(());
        }
        Err(explain("fetch modules".to_owned(), &output.stderr))
    }

    async fn run(
        &self,
        workdir: &Path,
        arguments: &[String],
        platform: &Platform,
        (phase, lock): (Phase, Option<&File>),
    ) -> Result<Output> {
        let sources =
            if self.flags.may_edit_modules() { Access::ReadWrite } else { Access::ReadOnly };
        let call = Call {
            go: self.toolchain.program(),
            dir: workdir,
            arguments,
            environment: self.toolchain.environment(&self.flags, platform, phase)?,
            phase,
            out_dir: &self.out_dir,
            sources,
            lock,
        };
        // A go that may not download says "downloading", too.
        let is_heard = phase == Phase::Fetch || self.toolchain.fetching().is_none();
        let note = |line: &str| {
            if is_heard {
                self.reporter.note(line);
            }
        };
        command::run(self.toolchain.launch(), &call, note).await
    }
}
