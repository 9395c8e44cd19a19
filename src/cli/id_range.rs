//! Chooses the isolation of a command that needs one, and runs the command again as root over a range of
//! ids where that is it. This comes before anything that starts a thread, so nothing is shown and the
//! store is not opened yet.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::GlobalArgs;
use super::environment::Environment;
use super::sandbox::{chooser, remembering_launcher};
use crate::container::Containers;
use crate::disk::{self, room_near};
use crate::error::{Cannot as _, Error, Result};
use crate::rootfs::OwnerStorage;
use crate::sandbox::{Chooser, Files, Isolation, IsolationRequest, Needs};
use crate::store::StorePlace;

/// Where the store has folders whose files belong to a range of ids, which only its root can remove.
const WITH_MAPPED: [StorePlace; 2] = [StorePlace::Unpacked, StorePlace::CacheMounts];

/// Whether a command goes on in this process.
pub(super) enum Entered {
    /// It does, with the sandbox that was chosen where it needs one.
    Here(Option<Isolation>),
    /// It does, without the rights over a range of ids that it needs for a part of its work, for this
    /// reason.
    Lacking(Error),
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
    /// To be who made containers in user namespaces of one id.
    Maker,
    /// The rights over all files of the store, as far as there are any to be had: without them the command
    /// leaves alone what it has none over.
    StoreFiles {
        /// Whether some belong to a range of ids.
        of_range: bool,
    },
}

impl Need {
    /// What is needed to remove containers, or to start them again.
    pub(super) fn of_containers(
        names: &[String],
        global: &GlobalArgs,
        environment: &Environment,
    ) -> Result<Self> {
        let found = isolations(names, global, environment)?;
        Ok(if found.contains(&Isolation::NsSubuid) { Self::IdRange } else { Self::maker(&found) })
    }

    /// What is needed to go into a container that runs.
    pub(super) fn to_join(
        name: &str,
        global: &GlobalArgs,
        environment: &Environment,
    ) -> Result<Self> {
        Ok(Self::maker(&isolations(&[name.to_owned()], global, environment)?))
    }

    fn maker(isolations: &[Isolation]) -> Self {
        let is_of_one_id = |isolation| matches!(isolation, &Isolation::Ns | &Isolation::NsCopy);
        if isolations.iter().any(is_of_one_id) { Self::Maker } else { Self::Nothing }
    }

    /// What is needed to see and to remove whatever the store has.
    pub(super) fn of_store_files(global: &GlobalArgs, environment: &Environment) -> Result<Self> {
        // Root sees and removes whatever it is.
        if rustix::process::geteuid().is_root() {
            return Ok(Self::Nothing);
        }
        let store = global.store_folder(environment)?;
        let of_range = mapped_folders(&store).next().is_some();
        // Where steps may have left folders that their own user cannot read.
        let has_mounts = has_anything(&StorePlace::CacheMounts.of(&store));
        Ok(if of_range || has_mounts { Self::StoreFiles { of_range } } else { Self::Nothing })
    }
}

/// The folders of a store with files of a range of ids. Those that were emptied stay, and do not count.
fn mapped_folders(store: &Path) -> impl Iterator<Item = PathBuf> {
    let all = WITH_MAPPED.map(|place| place.of(store).join(OwnerStorage::Mapped.name()));
    all.into_iter().filter(|folder| has_anything(folder))
}

/// Whether there is something in a folder; one that cannot be read has something.
fn has_anything(folder: &Path) -> bool {
    match fs_err::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => !disk::is_absence(&error),
    }
}

/// The isolations of containers. What is not there is told later.
fn isolations(
    names: &[String],
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Vec<Isolation>> {
    let containers = Containers::open(&global.store_folder(environment)?);
    let found = names.iter().filter_map(|name| containers.find(name).ok());
    Ok(found.map(|seen| seen.config.isolation).collect())
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
        Need::Maker => {
            wanted(IsolationRequest::default(), of_root())?;
            None
        }
        Need::StoreFiles { of_range } => {
            return Ok(enter_for_files(of_range, global, environment));
        }
    };
    if isolation == Some(Isolation::NsSubuid) {
        let launcher = remembering_launcher(global, environment);
        let entered = launcher.enter_id_range(&environment.arguments);
        if let Some(code) = entered.map_err(with_next_move)? {
            return Ok(Entered::Left(code));
        }
    }
    Ok(Entered::Here(isolation))
}

/// An error that always says where to look.
fn with_next_move(error: Error) -> Error {
    match error.next_move() {
        Some(_) => error,
        None => error.hint("gondola doctor says what the range of ids needs here"),
    }
}

/// Enters where there are more rights over the store's files, if there is such a place.
fn enter_for_files(of_range: bool, global: &GlobalArgs, environment: &Environment) -> Entered {
    let launcher = remembering_launcher(global, environment);
    let arguments = &environment.arguments;
    let range = if of_range { launcher.enter_id_range(arguments) } else { Ok(None) };
    match range {
        Ok(Some(code)) => return Entered::Left(code),
        Ok(None) if of_range => return Entered::Here(None),
        _ => {}
    }
    match (launcher.enter_own_namespace(arguments), range) {
        (Some(code), _) => Entered::Left(code),
        (None, Err(error)) => Entered::Lacking(error),
        (None, Ok(_)) => Entered::Here(None),
    }
}
