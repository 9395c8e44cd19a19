//! `--sandbox` and `--sandbox-min`: which isolation is meant, and which one it comes to here.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::args::GlobalArgs;
use super::environment::Environment;
use super::session::Session;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::pipeline::{SandboxChoice, SandboxWish};
use crate::sandbox::{Finding, Findings, Launcher, ProbeOptions, Rung, choose, probe};
use crate::store::StorePlace;

/// How processes are isolated.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Isolation")]
pub struct SandboxArgs {
    /// How processes are isolated: auto, or a row of `gondola doctor`
    #[arg(long, value_name = "HOW")]
    sandbox: Option<Wanted>,
    /// Refuse a weaker sandbox than this one
    #[arg(long, value_name = "HOW")]
    sandbox_min: Option<Rung>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The best one that works here.
    Auto,
    /// This one.
    Only(Rung),
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            name => name.parse().map(Self::Only),
        }
    }
}

impl SandboxArgs {
    /// The rung to use: the one that was asked for, else the best that works here; none that gives no
    /// root file system of one's own. Tries as few as that takes, each by doing, in the store's
    /// folder, which is made where there is none.
    pub(super) fn choose(&self, global: &GlobalArgs, environment: &Environment) -> Result<Rung> {
        let wanted = self.rung();
        if wanted == Some(Rung::Toolchain) {
            return Err(Error::new(ErrorKind::Usage, "use --sandbox toolchain")
                .because("it has no root file system"));
        }
        let folder = global.store_folder(environment)?;
        // As the store makes it: for the owner alone.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.cannot(|| format!("make the folder {}", folder.display()))?;
        let launcher = Launcher::new(environment.get("PATH").unwrap_or_default());
        let options = ProbeOptions { launcher: &launcher, folder: &folder };
        let least = self.sandbox_min.unwrap_or(Rung::Proot).min(Rung::Proot);
        let memory = Memory::of(&folder, environment);
        if let Some(rung) = memory.best().filter(|rung| *rung <= least && wanted.is_none()) {
            return Ok(rung);
        }
        let chosen = choose(&options, wanted, Some(least)).or_else(|error| {
            if wanted.is_some() || self.sandbox_min.is_some() {
                return Err(error);
            }
            Err(nothing_works(&probe(&options)?))
        })?;
        if wanted.is_none() {
            memory.keep(chosen);
        }
        Ok(chosen)
    }

    /// What was asked for, as builds with the Go of an image take it.
    pub(super) fn choice(&self) -> SandboxChoice {
        let wish = match self.sandbox {
            None => SandboxWish::Nothing,
            Some(Wanted::Auto) => SandboxWish::Best,
            Some(Wanted::Only(rung)) => SandboxWish::Rung(rung),
        };
        SandboxChoice { wish, least: self.sandbox_min }
    }

    /// The one rung that was asked for.
    pub(super) fn rung(&self) -> Option<Rung> {
        match self.sandbox {
            Some(Wanted::Only(rung)) => Some(rung),
            Some(Wanted::Auto) | None => None,
        }
    }
}

/// Which sandbox was the best when it was last tried: to try it again would take as long as to use it.
///
/// Counts for as long as whatever decides over it is the same: this process's rights, the kernel's
/// switches, and the programs that may help.
struct Memory {
    file: PathBuf,
    situation: String,
}

/// Lines of `/proc/self/status` that say what this process may do.
const RIGHTS: [&str; 7] =
    ["Uid:", "Gid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Groups:"];

/// What else decides which namespaces there are, and what the machine is.
const SWITCHES: [&str; 7] = [
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/user/max_user_namespaces",
    "/proc/self/uid_map",
    "/etc/subuid",
    "/etc/subgid",
];

impl Memory {
    fn of(store: &Path, environment: &Environment) -> Self {
        let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let rights = status.lines().filter(|line| RIGHTS.iter().any(|name| line.starts_with(name)));
        let mut situation: Vec<String> = rights.map(str::to_owned).collect();
        situation.extend(SWITCHES.map(read));
        situation.push(environment.get("PATH").unwrap_or_default().to_owned());
        let situation = blake3::hash(situation.join("\n").as_bytes()).to_hex().to_string();
        Self { file: StorePlace::Sandbox.of(store), situation }
    }

    /// The rung that was the best in this situation.
    fn best(&self) -> Option<Rung> {
        let text = fs_err::read_to_string(&self.file).ok()?;
        let (situation, rung) = text.trim().split_once(' ')?;
        (situation == self.situation).then(|| rung.parse().ok()).flatten()
    }

    /// Notes what was found, where the store can be written to.
    fn keep(&self, rung: Rung) {
        let text = format!("{} {rung}\n", self.situation);
        let unfinished = self.file.with_extension(std::process::id().to_string());
        // Without a note it is tried again.
        let _ =
            fs_err::write(&unfinished, text).and_then(|()| fs_err::rename(&unfinished, &self.file));
    }
}

/// Forgets which sandbox was the best, because one that was thought to work did not.
pub(super) fn forget(global: &GlobalArgs, environment: &Environment) {
    if let Ok(folder) = global.store_folder(environment) {
        // One that was never noted is forgotten already.
        let _ = fs_err::remove_file(StorePlace::Sandbox.of(&folder));
    }
}

/// What starts sandboxes.
pub(super) fn launcher(session: &Session) -> Launcher {
    Launcher::new(session.environment.get("PATH").unwrap_or_default())
}

/// Why no sandbox that gives a root file system works here, and the one thing to do about it.
fn nothing_works(findings: &Findings) -> Error {
    let error = Error::new(ErrorKind::Unsupported, "isolate a process here");
    // The one that needs the least is the one to ask for.
    match findings.0.iter().find(|finding| finding.rung == Rung::Ns) {
        Some(Finding { reason: Some(reason), fix: Some(fix), .. }) => {
            error.because(reason).hint(fix.clone())
        }
        Some(Finding { reason: Some(reason), .. }) => error.because(reason).hint("gondola doctor"),
        _ => error.hint("gondola doctor"),
    }
}
