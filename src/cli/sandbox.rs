//! `--sandbox` and `--sandbox-min`: which isolation is meant, and which one it comes to here.

use std::os::unix::fs::DirBuilderExt as _;
use std::str::FromStr;

use clap::Args;

use super::args::GlobalArgs;
use super::environment::Environment;
use super::session::Session;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::pipeline::{SandboxChoice, SandboxWish};
use crate::sandbox::{Finding, Findings, Launcher, ProbeOptions, Rung, choose, probe};

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
        choose(&options, wanted, Some(least)).or_else(|error| {
            if wanted.is_some() || self.sandbox_min.is_some() {
                return Err(error);
            }
            Err(nothing_works(&probe(&options)?))
        })
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
