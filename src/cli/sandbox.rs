//! `--sandbox` and `--sandbox-min`: which isolation is meant. What it comes to here is chosen below.

use clap::Args;

use super::args::GlobalArgs;
use super::environment::Environment;
use crate::error::Result;
use crate::sandbox::{Chooser, Isolation, IsolationRequest, Launcher, Needs, Preference};
use crate::store::{Store, StorePlace};

/// How processes are isolated.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Isolation")]
pub struct SandboxArgs {
    /// How processes are isolated: auto, or a row of `gondola doctor`
    #[arg(long, value_name = "HOW")]
    sandbox: Option<Preference>,
    /// Refuse a weaker sandbox than this one
    #[arg(long, value_name = "HOW")]
    sandbox_min: Option<Isolation>,
}

impl SandboxArgs {
    /// What was asked for, where that can be.
    pub(super) fn request(&self) -> Result<IsolationRequest> {
        IsolationRequest::new(self.sandbox.unwrap_or_default(), self.sandbox_min)
    }
}

/// What chooses an isolation for root file systems in the store.
pub(super) fn chooser(
    (request, needs): (IsolationRequest, Needs),
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Chooser> {
    let folder = global.store_folder(environment)?;
    let launcher = remembering_launcher(global, environment);
    Ok(Chooser { launcher, folder, request, needs, decided: None })
}

/// What starts sandboxes.
pub(super) fn remembering_launcher(global: &GlobalArgs, environment: &Environment) -> Launcher {
    let launcher = Launcher::new(environment.get("PATH").unwrap_or_default());
    match global.store_folder(environment) {
        Ok(store) if Store::may_be_at(&store) => {
            launcher.remembering(StorePlace::Isolation.of(&store))
        }
        // That there can be no store is told when it is opened.
        _ => launcher,
    }
}
