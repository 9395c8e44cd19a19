//! Chooses the isolation of a command that needs one, and runs the command again as root over a range of
//! ids where that is it. This comes before anything that starts a thread, so nothing is shown and the
//! store is not opened yet.

use std::process::ExitCode;

use super::args::GlobalArgs;
use super::environment::Environment;
use super::sandbox::{chooser, remembering_launcher};
use crate::container::Containers;
use crate::disk::room_near;
use crate::error::{Cannot as _, Result};
use crate::rootfs::OwnerStorage;
use crate::sandbox::{Chooser, Files, Isolation, IsolationRequest, Needs};
use crate::store::StorePlace;

/// Where the store has folders whose files belong to a range of ids, which only its root can remove.
const WITH_MAPPED: [StorePlace; 2] = [StorePlace::Unpacked, StorePlace::CacheMounts];

/// Whether a command goes on in this process.
pub(super) enum Entered {
    /// It does, with the sandbox that was chosen where it needs one.
    Here(Option<Isolation>),
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

impl Need {
    /// What is needed to remove containers, or to start them again.
    pub(super) fn of_containers(
        names: &[String],
        global: &GlobalArgs,
        environment: &Environment,
    ) -> Result<Self> {
        let containers = Containers::open(&global.store_folder(environment)?);
        // What is not there is told later.
        let mut found = names.iter().filter_map(|name| containers.find(name).ok());
        let mapped = found.any(|seen| seen.config.isolation == Isolation::NsSubuid);
        Ok(if mapped { Self::IdRange } else { Self::Nothing })
    }

    /// What is needed to remove what the store has unpacked.
    pub(super) fn of_removal(global: &GlobalArgs, environment: &Environment) -> Result<Self> {
        let store = global.store_folder(environment)?;
        let is_there = WITH_MAPPED
            .iter()
            .any(|place| place.of(&store).join(OwnerStorage::Mapped.name()).is_dir());
        // Root removes whatever it is.
        let is_needed = is_there && !rustix::process::geteuid().is_root();
        Ok(if is_needed { Self::IdRange } else { Self::Nothing })
    }
}

/// What executes programs of an image, in its files.
pub(super) fn of_root() -> Needs {
    Needs::new(Files::OwnRoot).with_owners()
}

/// Chooses what may turn out not to be needed: where there is no store yet none is made for it, and what was
/// tried is not remembered.
fn try_out(chooser: &Chooser) -> Result<Isolation> {
    if StorePlace::LayoutFile.of(&chooser.folder).exists() {
        return chooser.choose_at_start();
    }
    let room = room_near(&chooser.folder).cannot(|| "make a folder to try the sandbox in")?;
    let launcher = chooser.launcher.clone().forgetful();
    Chooser { launcher, folder: room.path().to_owned(), ..*chooser }.choose_at_start()
}

/// Chooses the sandbox of a command that needs one, and enters the range of ids that it needs.
pub(super) fn enter(
    need: &Need,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Entered> {
    let wanted = |request, needs| {
        let chooser = chooser((request, needs), global, environment)?;
        chooser.become_other_user()?;
        Ok(chooser)
    };
    let isolation = match *need {
        Need::Nothing => None,
        Need::Isolation(request, needs) => Some(wanted(request, needs)?.choose_at_start()?),
        Need::Perhaps(request, needs) => {
            wanted(request, needs).and_then(|chooser| try_out(&chooser)).ok()
        }
        Need::IdRange => Some(Isolation::NsSubuid),
    };
    if isolation == Some(Isolation::NsSubuid) {
        let launcher = remembering_launcher(global, environment);
        if let Some(code) = launcher.enter_id_range(&environment.arguments)? {
            return Ok(Entered::Left(code));
        }
    }
    Ok(Entered::Here(isolation))
}
