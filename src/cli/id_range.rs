//! Runs a command again as root over a range of ids, where its sandbox needs that. This comes before
//! anything that starts a thread, so nothing is shown and the store is not opened yet.

use std::process::ExitCode;

use super::args::{Command, GlobalArgs};
use super::commands;
use super::environment::Environment;
use super::kaniko;
use super::sandbox::SandboxArgs;
use crate::container::Containers;
use crate::error::Result;
use crate::rootfs::OwnerStorage;
use crate::sandbox::{Launcher, Rung};
use crate::store::StorePlace;

/// Where the store has folders whose files belong to a range of ids, which only its root can remove.
const WITH_MAPPED: [StorePlace; 2] = [StorePlace::Unpacked, StorePlace::CacheMounts];

/// Whether a command goes on in this process.
pub(super) enum Entered {
    /// It does, with the sandbox that was chosen where it needs one.
    Here(Option<Rung>),
    /// It has run in another one, which left this code.
    Left(ExitCode),
}

/// Chooses the sandbox of a command that needs one, and enters the range of ids that it needs.
pub(super) fn enter(
    command: &Command,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Entered> {
    let made_on = |names: &[String]| {
        let containers = Containers::open(&global.store_folder(environment)?);
        // What is not there is told later.
        let found = names.iter().filter_map(|name| containers.find(name).ok());
        let mut rungs = found.map(|seen| seen.config.rung);
        Ok(rungs.find(|rung| *rung == Rung::NsSubuid))
    };
    let rung = match command {
        Command::Build(args) => commands::build::choose_rung(args, global, environment),
        // What needs no steps needs none; the first step asks again, and says why.
        Command::Kaniko(args) if kaniko::translate(args, &environment.variables).is_ok() => {
            SandboxArgs::default().choose(global, environment).ok()
        }
        Command::Run(args) => Some(commands::run::choose_rung(args, global, environment)?),
        Command::Cache(args) if args.removes() => {
            let store = global.store_folder(environment)?;
            let is_there = WITH_MAPPED
                .iter()
                .any(|place| place.of(&store).join(OwnerStorage::Mapped.name()).is_dir());
            // Root removes whatever it is.
            (is_there && !rustix::process::geteuid().is_root()).then_some(Rung::NsSubuid)
        }
        Command::Restart(args) => made_on(args.containers())?,
        Command::Rm(args) => made_on(args.containers())?,
        _ => None,
    };
    if rung == Some(Rung::NsSubuid) {
        let launcher = Launcher::new(environment.get("PATH").unwrap_or_default());
        if let Some(code) = launcher.enter_id_range(&environment.arguments)? {
            return Ok(Entered::Left(code));
        }
    }
    Ok(Entered::Here(rung))
}
