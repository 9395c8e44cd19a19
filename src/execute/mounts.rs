//! What a step sees besides its files.
//!
//! [`read()`] reads the files of contexts that are mounted, for the step's key; [`mount()`] makes
//! everything, when the step is executed. What a step writes into a mount belongs to no layer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Executor;
use super::agent::Agent;
use super::context_files::{copied, folder_of, read_files};
use super::files::Wanted;
use super::lock;
use crate::blocking::blocking_or;
use crate::cache::mounts::{self as cache_mounts, Modules};
use crate::context::copy::{self, Selected, Selection};
use crate::engine::files::Files;
use crate::engine::op::{Access as Owner, ExecOp, Mount, MountKind, Sharing};
use crate::engine::{
    Guard, InPart as _, Inputs, OpError, Part, Provider, ReadFile, SecretSource, Table,
};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, Tree, TreePath};
use crate::rootfs::{Fork, Link, Unpacker};
use crate::sandbox::{self, Access, Isolation, Secret};
use crate::store::{Lock, Store};

/// The files of contexts that the mounts of a step show: those that its key was made of.
pub(super) struct Binds(Vec<Option<Arc<Bind>>>);

/// Files of a context.
struct Bind {
    /// What stands for them in keys.
    digest: String,
    source: String,
    selected: Vec<Selected>,
}

/// What is mounted, and what must stay as long as it is.
#[derive(Default)]
pub(super) struct Mounted {
    pub mounts: Vec<sandbox::Mount>,
    /// Links to what is mounted.
    pub links: Vec<Link>,
    /// Go's caches that nobody asked for, by their kinds.
    pub go: Vec<(&'static str, PathBuf)>,
    /// The cache of modules, where there is one.
    pub modules: Option<Modules>,
    /// Whether there is a cache that nobody asked for.
    pub with_caches: bool,
    pub variables: Vec<(String, String)>,
    pub guards: Vec<Guard>,
}

/// Reads the files of contexts that the mounts of a step show.
pub(super) async fn read(op: &ExecOp, inputs: &Inputs) -> Result<Binds, OpError> {
    let mut all = Vec::new();
    for (number, mount) in op.mounts.iter().enumerate() {
        let bind = match &mount.kind {
            MountKind::Bind { from, source } => match inputs.get(from)? {
                Provider::Folder(files) => {
                    let found = choose(files.clone(), source.clone()).await;
                    Some(Arc::new(found.in_part(Part::Mount(number))?))
                }
                Provider::Snapshot(_) => None,
            },
            _ => None,
        };
        all.push(bind);
    }
    Ok(Binds(all))
}

impl Binds {
    /// What stands for the files in keys.
    pub(super) fn digests(&self) -> Vec<Vec<u8>> {
        self.0.iter().flatten().map(|bind| bind.digest.clone().into_bytes()).collect()
    }

    /// The files, for explanations; none where they are more than `most`.
    pub(super) fn files(&self, most: usize) -> Option<Vec<ReadFile>> {
        read_files(self.0.iter().flatten().flat_map(|bind| &bind.selected), most)
    }
}

/// Finds the files of a context that a bind shows, and reads them for the step's key.
async fn choose(files: Arc<dyn Files>, source: String) -> Result<Bind> {
    blocking_or(move || {
        let mut selected = select(files.as_ref(), &source)?;
        let digest = copy::digest(files.as_ref(), &mut selected)?.to_hex().to_string();
        Ok(Bind { digest, source, selected })
    })
    .await
}

fn select(files: &dyn Files, source: &str) -> Result<Vec<Selected>> {
    let selection = Selection { sources: vec![source.to_owned()], ..Selection::default() };
    copy::select(files, &selection)
}

/// Makes everything that a step mounts.
pub(super) async fn mount(
    executor: &Executor,
    unpacker: &Unpacker,
    (op, inputs): (&ExecOp, &Inputs),
    binds: &Binds,
) -> Result<Mounted, OpError> {
    let mut mounted = Mounted::default();
    for (number, (mount, bind)) in op.mounts.iter().zip(&binds.0).enumerate() {
        let added = mounted.add((executor, unpacker), inputs, mount, bind.as_ref()).await;
        added.in_part(Part::Mount(number))?;
    }
    Ok(mounted)
}

/// How a cache is shared: where nothing can be mounted it is moved, and there is but one place for it.
pub(super) fn sharing_on(isolation: Isolation, asked: Sharing) -> Sharing {
    match (isolation, asked) {
        (Isolation::InContainer, Sharing::Shared) => Sharing::Private,
        _ => asked,
    }
}

fn access(read_only: bool) -> Access {
    if read_only { Access::ReadOnly } else { Access::ReadWrite }
}

impl Mounted {
    async fn add(
        &mut self,
        (executor, unpacker): (&Executor, &Unpacker),
        inputs: &Inputs,
        mount: &Mount,
        read: Option<&Arc<Bind>>,
    ) -> Result<()> {
        let target = &mount.target;
        let Table { secrets, agents, .. } = &*inputs.table;
        match &mount.kind {
            MountKind::Bind { from, source } => {
                let provider = inputs.get(from)?;
                self.show((executor, unpacker), mount, (provider, source), read).await?;
            }
            MountKind::Cache { .. } => {
                let (folder, lock) = cache_of((executor, unpacker), inputs, &mount.kind).await?;
                self.guards.push(lock);
                self.own(folder, target, access(mount.read_only));
            }
            MountKind::Tmpfs(size) => self.mounts.push(sandbox::Mount::Tmpfs {
                target: target.clone(),
                size_bytes: *size,
                mode: 0o1777,
            }),
            MountKind::Secret { id, variable, is_file, required, access } => {
                let Some(source) = secrets.get(id) else {
                    return if *required { Err(no_secret(id)) } else { Ok(()) };
                };
                let content = read_secret(id, source)?;
                if let Some(variable) = variable {
                    let text = String::from_utf8_lossy(&content).into_owned();
                    self.variables.push((variable.clone(), text));
                }
                if *is_file {
                    self.secret(content, *access, target);
                }
            }
            MountKind::Agent { id, required, access } => match agents.get(id) {
                Some(agent) => {
                    let store = &executor.tools.transport.store;
                    self.agent(store, (agent, *access), target)?;
                }
                None if *required => return Err(no_agent(id)),
                None => {}
            },
        }
        Ok(())
    }

    /// Shows files: those that were read, or those of a step or an image.
    async fn show(
        &mut self,
        (executor, unpacker): (&Executor, &Unpacker),
        mount: &Mount,
        (provider, source): (&Provider, &str),
        read: Option<&Arc<Bind>>,
    ) -> Result<()> {
        let unpacker = unpacker.clone();
        let files = match read.cloned() {
            // Nothing changes it: steps may share it.
            Some(bind) if mount.read_only => {
                let key = format!("{} {}", bind.digest, bind.source);
                let cell = lock(&executor.context_files).entry(key).or_default().clone();
                let make = || blocking_or(move || copied(&unpacker, bind.selected.clone()));
                cell.get_or_try_init(make).await?.clone()
            }
            // What a step writes to it goes away with the copy.
            Some(bind) => blocking_or(move || copied(&unpacker, bind.selected.clone())).await?,
            None => {
                let files = executor.files_of(provider, Wanted::Root).await?;
                let source = source.to_owned();
                blocking_or(move || copied(&unpacker, select(files.as_ref(), &source)?)).await?
            }
        };
        if mount.read_only {
            self.bind(files.path.clone(), &mount.target, Access::ReadOnly);
        } else {
            self.own(files.path.clone(), &mount.target, Access::ReadWrite);
        }
        self.guards.push(files);
        Ok(())
    }

    pub(super) fn bind(&mut self, source: PathBuf, target: &str, access: Access) {
        let target = target.to_owned();
        self.mounts.push(sandbox::Mount::Bind { source, subpath: None, target, access });
    }

    /// As [`Self::bind`], a folder that no other step uses meanwhile where nothing can be mounted.
    pub(super) fn own(&mut self, source: PathBuf, target: &str, access: Access) {
        let target = target.to_owned();
        self.mounts.push(sandbox::Mount::Own { source, target, access });
    }

    fn secret(&mut self, content: Vec<u8>, access: Owner, target: &str) {
        self.mounts.push(sandbox::Mount::Secret {
            target: target.to_owned(),
            content: Secret::new(content),
            mode: access.mode.unwrap_or(0o400),
            uid: access.uid.unwrap_or(0),
            gid: access.gid.unwrap_or(0),
        });
    }

    fn agent(
        &mut self,
        store: &Store,
        (socket, access): (&Path, Owner),
        target: &str,
    ) -> Result<()> {
        // On the file system of the step's root: a link to it will do there.
        let scratch = store.scratch_folder()?;
        let agent = Agent::open(socket, access, scratch.path())?;
        self.guards.push(Arc::new(scratch));
        self.bind(agent.socket(), target, Access::ReadWrite);
        self.guards.push(Arc::new(agent));
        self.variables.push(("SSH_AUTH_SOCK".to_owned(), target.to_owned()));
        Ok(())
    }
}

fn no_secret(id: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("mount the secret {id}"))
        .because("it was not given")
        .hint(format!("--secret id={id},src=FILE"))
}

fn no_agent(id: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("mount the SSH agent {id}"))
        .because("it was not given")
        .hint(format!("--ssh {id}"))
}

fn read_secret(id: &str, source: &SecretSource) -> Result<Vec<u8>> {
    let action = || format!("read the secret {id}");
    match source {
        SecretSource::Value(value) => Ok(value.clone().into_bytes()),
        SecretSource::File(path) => {
            crate::disk::read_named(path, SecretSource::LONGEST).cannot(action)
        }
    }
}

/// A file for a step to execute.
pub(super) fn script(unpacker: &Unpacker, name: &str, text: &str) -> Result<(PathBuf, Fork)> {
    let mut tree = Tree::new();
    tree.insert(TreePath::normalized(name)?, Entry::file(text.to_owned(), 0o755))?;
    let fork = unpacker.empty().fork()?;
    fork.apply(&tree)?;
    Ok((folder_of(&fork), fork))
}

async fn cache_of(
    (executor, unpacker): (&Executor, &Unpacker),
    inputs: &Inputs,
    kind: &MountKind,
) -> Result<(PathBuf, Guard)> {
    let MountKind::Cache { id, sharing, seed, access } = kind else {
        unreachable!("it was asked which kind of mount it is")
    };
    let (seed, source) = match seed {
        Some((from, source)) => {
            (Some(executor.files_of(inputs.get(from)?, Wanted::Root).await?), source.clone())
        }
        None => (None, String::new()),
    };
    let unpacker = unpacker.clone();
    let sharing = sharing_on(unpacker.isolation, *sharing);
    let (owner, name) = (*access, format!("mount {id}"));
    let folder = executor.caches(&inputs.table).of_files(unpacker.isolation)?;
    blocking_or(move || {
        let create = |place: &Path| {
            let files = seed.as_deref();
            create_cache(&unpacker, place, owner, files.map(|files| (files, source.as_str())))
        };
        let (place, lock) = open_cache(&folder, &name, sharing, &create)?;
        cache_mounts::write_about(&place, &name);
        Ok((place, lock))
    })
    .await
}

/// Opens the cache of a name, which is made where there is none, and keeps it as shared as was asked.
pub(super) fn open_cache(
    folder: &Path,
    name: &str,
    sharing: Sharing,
    create: &dyn Fn(&Path) -> Result<()>,
) -> Result<(PathBuf, Guard)> {
    let action = || "open a cache";
    fs_err::create_dir_all(folder).cannot(action)?;
    for number in 0_u32.. {
        let place = cache_mounts::place(folder, name, number);
        let lock = place.with_extension("lock");
        let lock = match sharing {
            Sharing::Shared => Lock::shared(&lock).map(Some),
            Sharing::Locked => Lock::exclusive(&lock).map(Some),
            Sharing::Private => Lock::try_exclusive(&lock),
        };
        let Some(lock) = lock.cannot(action)? else { continue };
        // Whoever may not note the use is at worst one whose cache goes early.
        let _ = lock.touch();
        if !place.is_dir() {
            create(&place)?;
        }
        return Ok((place, Arc::new(lock)));
    }
    Err(Error::new(ErrorKind::Io, action()).because("all copies of it are in use"))
}

/// Makes the folder of a cache, with its owner and what it begins with.
pub(super) fn create_cache(
    unpacker: &Unpacker,
    place: &Path,
    owner: Owner,
    seed: Option<(&dyn Files, &str)>,
) -> Result<()> {
    let mut tree = Tree::new();
    let root: TreePath = "cache".parse()?;
    let (uid, gid) = (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0));
    let folder = Entry::directory(owner.mode.unwrap_or(0o755)).owned_by(uid, gid);
    tree.insert(root.clone(), folder)?;
    if let Some((files, source)) = seed {
        let selection = Selection { sources: vec![source.to_owned()], ..Selection::default() };
        for selected in copy::select(files, &selection)? {
            for (relative, node) in selected.inside {
                tree.insert(root.join(relative.as_bytes())?, node.entry)?;
            }
        }
    }
    let fork = unpacker.empty().fork()?;
    fork.apply(&tree)?;
    match fs_err::rename(folder_of(&fork).join("cache"), place) {
        // Another process was faster.
        Err(_) if place.is_dir() => Ok(()),
        renamed => renamed.cannot(|| "make a cache"),
    }
}
