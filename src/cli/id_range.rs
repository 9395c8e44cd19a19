//! Chooses the isolation of a command that needs one, and runs the command again as root over a range of
//! ids where that is it. This comes before anything that starts a thread, so nothing is shown and the
//! store is not opened yet.

use std::process::ExitCode;

use super::args::{Command, GlobalArgs};
use super::environment::Environment;
use super::sandbox::{SandboxArgs, chooser, remembering_launcher};
use super::{commands, kaniko};
use crate::container::Containers;
use crate::error::Result;
use crate::rootfs::OwnerStorage;
use crate::sandbox::{Files, IsolationRequest, Needs, Preference, Rung};
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

/// What a command needs of its isolation from its start.
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// One of those that will do, else it fails.
    Isolation(IsolationRequest, Needs),
    /// As [`Self::Isolation`], where it comes to executing anything: that asks again, and says why not.
    Perhaps(IsolationRequest, Needs),
    /// The rights over files that belong to a range of ids.
    IdRange,
}

/// What executes programs of an image, in its files.
pub(super) fn of_root() -> Needs {
    Needs::new(Files::OwnRoot).with_owners()
}

/// Chooses the sandbox of a command that needs one, and enters the range of ids that it needs.
pub(super) fn enter(
    command: &Command,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Entered> {
    let choose = |request, needs| chooser((request, needs), global, environment)?.choose_at_start();
    let rung = match need(command, global, environment)? {
        Need::Nothing => None,
        Need::Isolation(request, needs) => Some(choose(request, needs)?),
        Need::Perhaps(request, needs) => choose(request, needs).ok(),
        Need::IdRange => Some(Rung::NsSubuid),
    };
    if rung == Some(Rung::NsSubuid) {
        let launcher = remembering_launcher(global, environment);
        if let Some(code) = launcher.enter_id_range(&environment.arguments)? {
            return Ok(Entered::Left(code));
        }
    }
    Ok(Entered::Here(rung))
}

fn need(command: &Command, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
    let made_on = |names: &[String]| {
        let containers = Containers::open(&global.store_folder(environment)?);
        // What is not there is told later.
        let mut found = names.iter().filter_map(|name| containers.find(name).ok());
        let mapped = found.any(|seen| seen.config.rung == Rung::NsSubuid);
        Ok(if mapped { Need::IdRange } else { Need::Nothing })
    };
    Ok(match command {
        Command::Build(args) => build(args, environment),
        Command::Kaniko(args) if kaniko::translate(args, &environment.variables).is_ok() => {
            Need::Perhaps(SandboxArgs::default().request(), of_root())
        }
        Command::Run(args) => Need::Isolation(args.isolation(), args.needs()),
        Command::Pull(args) if args.unpacks() => {
            Need::Isolation(IsolationRequest::default(), of_root())
        }
        Command::Cache(args) if args.removes() => {
            let store = global.store_folder(environment)?;
            let is_there = WITH_MAPPED
                .iter()
                .any(|place| place.of(&store).join(OwnerStorage::Mapped.name()).is_dir());
            // Root removes whatever it is.
            if is_there && !rustix::process::geteuid().is_root() {
                Need::IdRange
            } else {
                Need::Nothing
            }
        }
        Command::Restart(args) => made_on(args.containers())?,
        Command::Rm(args) => made_on(args.containers())?,
        _ => Need::Nothing,
    })
}

/// A build with a Dockerfile needs what its steps do. One of Go packages says later what it needs,
/// unless it is to be in a range of ids.
fn build(args: &commands::build::BuildArgs, environment: &Environment) -> Need {
    let request = args.sandbox.request();
    if super::dockerfile::is_meant(args, &environment.folder) && !args.dockerfile.check {
        return Need::Perhaps(request, of_root());
    }
    if request.preference == Preference::Only(Rung::NsSubuid) {
        Need::IdRange
    } else {
        Need::Nothing
    }
}
