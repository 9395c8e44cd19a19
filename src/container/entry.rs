//! One container's folder: made, looked at, taken.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::config::Config;
use super::id::Id;
use super::process::Process;
use super::remove::remove_tree;
use super::state::{Exited, Running, State, replace};
use super::{Containers, REMOVED};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::store::Lock;

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    all: Containers,
    id: Id,
    name: String,
    folder: PathBuf,
}

/// A container, and how it was when it was looked at.
#[derive(Clone, Debug)]
pub struct ContainerInfo {
    /// The container.
    pub container: Container,
    /// What runs in it, and how.
    pub config: Config,
    /// How it was.
    pub status: Status,
    /// Who keeps it alive.
    pub(super) supervisor: Option<Process>,
}

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It never ran.
    Created,
    /// Its supervisor is at work, and about to start the program or just done with it.
    Starting,
    /// Its program runs.
    Running(Running),
    /// Its program has ended.
    Exited(Exited),
    /// Its supervisor was killed, and the program with it.
    Dead(Timestamp),
}

impl Status {
    /// Whether a supervisor is at work.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Starting | Self::Running(_))
    }

    /// One word, as docker has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running(_) => "running",
            Self::Exited(_) => "exited",
            Self::Dead(_) => "dead",
        }
    }
}

impl ContainerInfo {
    /// Whether it was run with `--rm`, and its supervisor was killed before it removed the container.
    pub(super) fn should_be_gone(&self) -> bool {
        self.config.remove && !self.status.is_alive()
    }
}

impl Container {
    pub(super) fn new(all: Containers, id: Id, name: String, folder: PathBuf) -> Self {
        Self { all, id, name, folder }
    }

    /// What names it for good.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The socket by which others reach its sandbox.
    pub(super) fn control_path(&self) -> PathBuf {
        self.folder.join("control")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    pub(super) fn state_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// Looks at the container again; `None` where it was removed.
    pub fn look(&self) -> Result<Option<ContainerInfo>> {
        let _steady = self.all.look()?;
        self.see()
    }

    /// Reads configuration and state; the caller holds still who lives. `None` for a container in
    /// the making or one that is gone.
    pub(super) fn see(&self) -> Result<Option<ContainerInfo>> {
        let path = self.config_path();
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).cannot(|| format!("read {}", path.display())),
        };
        let config = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("read {}", path.display()))
                .caused_by(error)
                .hint("another version of gondola made this container")
        })?;
        // Before the state, which is written last: what lives now has written no end yet.
        let alive = self.is_alive()?;
        let status = match State::read(&self.state_path())? {
            State::Running(running) if alive => Status::Running(running),
            _ if alive => Status::Starting,
            State::Created => Status::Created,
            State::Running(running) => Status::Dead(running.started),
            State::Exited(exited) => Status::Exited(exited),
        };
        let supervisor = if alive { self.supervisor() } else { None };
        Ok(Some(ContainerInfo { container: self.clone(), config, status, supervisor }))
    }

    fn is_alive(&self) -> Result<bool> {
        Lock::is_held(&self.lock_path()).cannot(|| format!("look at container {}", self.name))
    }

    /// Who noted in the lock that it holds it.
    fn supervisor(&self) -> Option<Process> {
        serde_json::from_slice(&fs_err::read(self.lock_path()).ok()?).ok()
    }

    /// Whether the process that made it ended before the container was complete.
    pub(super) fn is_left_over(&self) -> bool {
        !self.config_path().exists() && !self.is_alive().unwrap_or(true)
    }

    /// Whether it was run with `--rm`, and its supervisor was killed before it removed the container.
    pub(super) fn should_be_gone(&self) -> bool {
        // A container that cannot be read stays.
        self.see().ok().flatten().is_some_and(|seen| seen.should_be_gone())
    }

    /// Takes its folder away, and with it its name; its files follow, now or with a later command.
    /// The caller has the sole right to remove containers.
    pub(super) fn remove_folder(&self) -> Result<()> {
        let trash = self.move_away()?;
        remove_tree(&trash);
        Ok(())
    }

    /// Where its files are once its name is free.
    fn move_away(&self) -> Result<PathBuf> {
        let trash = self.all.folder.join(format!("{REMOVED}{}", self.id));
        let moved = fs_err::rename(&self.folder, &trash);
        moved.cannot(|| format!("remove container {}", self.name))?;
        Ok(trash)
    }

    /// Takes the right to run the container, or to remove it.
    pub fn claim(&self) -> Result<LockedContainer> {
        let _alone = self.all.change()?;
        self.claim_alone()
    }

    fn claim_alone(&self) -> Result<LockedContainer> {
        let action = || format!("take container {}", self.name);
        if !self.folder.exists() {
            return Err(Error::new(ErrorKind::NotFound, action()).because("it was removed"));
        }
        match Lock::try_exclusive(&self.lock_path()).cannot(action)? {
            Some(lock) => {
                let locked = LockedContainer { container: self.clone(), lock };
                locked.note()?;
                Ok(locked)
            }
            None => Err(Error::new(ErrorKind::Denied, action())
                .because("it is running")
                .hint(format!("gondola stop {}", self.name))),
        }
    }
}

/// A container and the right to run it: as long as this lives, the container counts as alive.
#[derive(Debug)]
pub struct LockedContainer {
    container: Container,
    lock: Lock,
}

impl LockedContainer {
    /// Takes over a container whose lock arrived as a descriptor.
    pub fn handed_over(container: Container, descriptor: OwnedFd) -> Result<Self> {
        let locked = Self { container, lock: Lock::handed_over(descriptor) };
        locked.note()?;
        Ok(locked)
    }

    /// Notes in the lock that this process holds it.
    fn note(&self) -> Result<()> {
        let own = serde_json::to_vec(&Process::own()).expect("a process is plain data");
        self.lock.note(&own).cannot(|| format!("take container {}", self.container.name))
    }

    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The lock, to hand it over.
    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    pub(super) fn write(&self, state: &State) -> Result<()> {
        state.write(&self.container.state_path())
    }

    /// Removes the container: its name is free at once, its files follow.
    pub fn remove(self) -> Result<()> {
        let container = &self.container;
        let action = || format!("remove container {}", container.name);
        let trash = {
            let _alone = container.all.change()?;
            container.move_away()?
        };
        remove_tree(&trash);
        if trash.exists() {
            return Err(Error::new(ErrorKind::Denied, action())
                .because(format!("some of its files in {} stay", trash.display())));
        }
        Ok(())
    }
}

/// A container in the making. Dropped, it vanishes.
#[derive(Debug)]
pub struct NewContainer {
    locked: Option<LockedContainer>,
}

impl NewContainer {
    /// Locks a fresh folder and gives it its name. The caller has the sole right to make one.
    pub(super) fn begin(container: &Container) -> Result<Self> {
        let locked = container.claim_alone()?;
        replace(&container.folder.join("name"), container.name.as_bytes())?;
        Ok(Self { locked: Some(locked) })
    }

    fn locked(&self) -> &LockedContainer {
        self.locked.as_ref().expect("taken only by what consumes this")
    }

    /// What the container will be.
    pub fn container(&self) -> &Container {
        &self.locked().container
    }

    /// Where the container's files are.
    pub fn folder(&self) -> &Path {
        &self.container().folder
    }

    /// A folder of the container's own, made here: what it changes in its root file system, or data.
    pub fn make_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.container().folder.join(name);
        fs_err::create_dir_all(&folder).cannot(|| "make a container")?;
        Ok(folder)
    }

    /// Makes it a container.
    pub fn complete(mut self, config: &Config) -> Result<LockedContainer> {
        let locked = self.locked();
        locked.write(&State::Created)?;
        let bytes = serde_json::to_vec(config).expect("a configuration is plain data");
        replace(&locked.container.config_path(), &bytes)?;
        Ok(self.locked.take().expect("taken only here"))
    }
}

impl Drop for NewContainer {
    fn drop(&mut self) {
        if let Some(locked) = self.locked.take() {
            // What cannot be removed now is removed by the next that makes a container.
            let _ = locked.remove();
        }
    }
}
