//! Containers without a daemon: each is a folder, and the process that runs it holds a lock there.
//!
//! ```text
//! ROOT/gondola/containers/
//!   lock                    exclusive: a container is made, taken or removed; shared: who lives?
//!   <64 hex digits>/        one container; the first 12 digits are its short id
//!     name                  what people call it, unique among all of them
//!     lock                  held by its supervisor: held = it lives, free = it has ended
//!     config.json           what runs, and how; written once, and last of what makes a container
//!     state.json            created, running as which processes, or exited with what; replaced whole
//!     control               the sandbox's socket, while it runs
//!     needs                 the unpacked layers that it lies on, see `store`
//!     log, log.1            what the program wrote, see `log`
//!     root/                 what was changed in its root file system
//!     volumes/<number>/     the folders that hold data of their own
//!   .removed-<id>/          what is left of a removed one; the next command goes on removing it
//! ```
//!
//! The supervisor is the process that keeps the sandbox, its streams, its log and its published
//! ports: `gondola run` itself in the foreground, and with `--detach` the own binary started anew,
//! which inherits the lock. When it dies the kernel frees the lock and the sandbox ends, whatever
//! `state.json` says: such a container is *dead*, and can be removed or started again.
//! There is no socket to ask a supervisor by. A signal goes to the sandbox's first process, by a handle that cannot mean
//! another process, and the end of a supervisor is waited for by such a handle.
//!
//! A container whose program never started leaves nothing behind.
//!
//! Absent on purpose: a daemon, restart policies, and anything that outlives the machine.

mod config;
mod entry;
mod exec;
mod follow;
mod id;
mod log;
mod make;
mod plan;
mod ports;
mod process;
mod relay;
mod remove;
mod signal;
mod state;
mod stats;
mod stop;
mod streams;
mod supervise;
mod terminal;
mod volumes;
mod watch;

use std::path::{Path, PathBuf};

pub use config::Config;
pub use entry::{Container, ContainerInfo, LockedContainer, NewContainer, Status};
pub use exec::ExecRequest;
pub use follow::{Selection, read_log};
pub use id::Id;
pub use log::{Entry, Stream};
pub use make::{CopyUp, Origin};
pub use plan::{NetworkChoice, Options, Plan};
pub use ports::{Publish, Published};
pub use signal::StopSignal;
pub use state::{Exited, Running};
pub use stats::{Sample, Usage, machine_bytes};
pub use streams::Attachment;
pub use supervise::{NOT_STARTED, Supervisor, start_detached};
pub use volumes::Volume;

use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::store::{Lock, StorePlace};

/// How the name of a folder begins that is being removed.
const REMOVED: &str = ".removed-";

/// All containers of one user.
#[derive(Clone, Debug)]
pub struct Containers {
    folder: PathBuf,
}

impl Containers {
    /// The containers in the store's folder `root`. Their folder is made with the first of them.
    pub fn open(root: &Path) -> Self {
        Self { folder: StorePlace::Containers.of(root) }
    }

    fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        // For the owner alone: configurations hold the variables of programs.
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.folder).cannot(|| format!("make the folder {}", self.folder.display()))
    }

    /// Every container, the newest first. One that was to be removed at its end and whose supervisor
    /// was killed over that is removed now.
    pub fn list(&self) -> Result<Vec<ContainerInfo>> {
        let mut all = self.see_all()?;
        if all.iter().any(ContainerInfo::should_be_gone) {
            // In a store that can only be read it stays, and is none all the same.
            let _ = self.remove_left_over();
            all.retain(|seen| !seen.should_be_gone());
        }
        all.sort_by_key(|seen| std::cmp::Reverse(seen.config.created));
        Ok(all)
    }

    fn see_all(&self) -> Result<Vec<ContainerInfo>> {
        let _steady = self.look()?;
        let mut all = Vec::new();
        for container in self.folders()? {
            // One without a configuration is in the making.
            all.extend(container.see()?);
        }
        Ok(all)
    }

    fn remove_left_over(&self) -> Result<()> {
        let _alone = self.change()?;
        self.folders()?
            .iter()
            .filter(|one| one.should_be_gone())
            .try_for_each(Container::remove_folder)
    }

    /// The container of this name, of this id, or whose id begins so.
    pub fn find(&self, text: &str) -> Result<ContainerInfo> {
        let all = self.list()?;
        let exact = |seen: &&ContainerInfo| {
            seen.container.name() == text || seen.container.id().as_str() == text
        };
        if let Some(found) = all.iter().find(exact) {
            return Ok(found.clone());
        }
        let action = || format!("find container \"{}\"", text.escape_debug());
        let begin: Vec<&ContainerInfo> =
            all.iter().filter(|seen| seen.container.id().begins_with(text)).collect();
        match begin[..] {
            [only] => Ok(only.clone()),
            [] => {
                let error = Error::new(ErrorKind::NotFound, action()).because("there is none");
                Err(match nearest(text, &all) {
                    Some(name) => error.hint(format!("did you mean {name}?")),
                    None => error.hint("gondola ps -a"),
                })
            }
            _ => Err(Error::new(ErrorKind::Usage, action())
                .because(format!("{} ids begin so", begin.len()))
                .hint("write more digits, or the name")),
        }
    }

    /// Takes a name, the given one or a free one, for a container in the making.
    pub fn reserve(&self, name: Option<&str>) -> Result<NewContainer> {
        let action = || "make a container";
        if let Some(name) = name {
            id::check_name(name)?;
        }
        self.make()?;
        let _alone = self.change()?;
        let existing = self.folders()?;
        for left in existing.iter().filter(|container| container.is_left_over()) {
            remove::remove_tree(left.folder());
        }
        for left in existing.iter().filter(|container| container.should_be_gone()) {
            left.remove_folder()?;
        }
        self.sweep();
        let holder = |name: &str| existing.iter().find(|c| c.name() == name && c.folder().exists());
        if let Some(held) = name.and_then(holder) {
            return Err(taken(held));
        }
        let id = Id::random()?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => id::suggest_name(&id, |name| holder(name).is_some()),
        };
        let folder = self.folder.join(id.as_str());
        fs_err::create_dir(&folder).cannot(action)?;
        let container = Container::new(self.clone(), id, name, folder);
        NewContainer::begin(&container).inspect_err(|_| self.sweep())
    }

    /// Goes on removing what earlier commands left behind.
    pub fn sweep(&self) {
        let Ok(entries) = fs_err::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(REMOVED) {
                remove::remove_tree(&entry.path());
            }
        }
    }

    /// The lock under which no container begins or ends, to look at all of them.
    fn look(&self) -> Result<Option<Lock>> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        Lock::shared_if_there(&self.folder.join("lock")).cannot(|| self.cannot_lock())
    }

    /// The sole right to make, take and remove containers.
    fn change(&self) -> Result<Lock> {
        Lock::exclusive(&self.folder.join("lock")).cannot(|| self.cannot_lock())
    }

    fn cannot_lock(&self) -> String {
        format!("lock the containers in {}", self.folder.display())
    }

    /// Every container's folder, also of those that are in the making.
    fn folders(&self) -> Result<Vec<Container>> {
        let action = || format!("list the containers in {}", self.folder.display());
        let mut all = Vec::new();
        let entries = match fs_err::read_dir(&self.folder) {
            Err(error) if crate::disk::is_absence(&error) => return Ok(all),
            entries => entries.cannot(action)?,
        };
        for entry in entries {
            let folder = entry.cannot(action)?.path();
            if let Some(id) = Id::of_folder(&folder) {
                let name = fs_err::read_to_string(folder.join("name")).unwrap_or_default();
                all.push(Container::new(self.clone(), id, name, folder));
            }
        }
        Ok(all)
    }
}

fn taken(by: &Container) -> Error {
    Error::new(ErrorKind::Usage, format!("call a container {}", by.name()))
        .because(format!("container {} has this name", by.id().short()))
        .hint(format!("gondola rm -f {}, or choose another --name", by.name()))
}

fn nearest<'a>(text: &str, all: &'a [ContainerInfo]) -> Option<&'a str> {
    let names = all.iter().map(|seen| seen.container.name());
    let likely = names.map(|name| (strsim::jaro_winkler(name, text), name));
    let (likeness, name) = likely.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.85).then_some(name)
}
