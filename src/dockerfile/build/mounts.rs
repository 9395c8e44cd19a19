//! `RUN --mount`: what a step sees besides its files.
//!
//! [`describe`] says what is mounted, for the step's key; [`Mounts::prepare`] makes it, when the step
//! is executed. What a step writes into a mount belongs to no layer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::agent::Agent;
use super::job::SecretSource;
use super::kept::{self, Modules};
use super::key::Key;
use super::platform::Provider;
use super::shop::{Held, Shop, Workshop, blocking};
use super::shown::{folder_of, shown};
use super::stage::{At as _, Failure, Stage};
use crate::dockerfile::config;
use crate::dockerfile::copy::{self, Selected, Selection};
use crate::dockerfile::files::Files;
use crate::dockerfile::parse::mount::{
    Access as Owner, CacheMount, Mount, MountFlag, MountKind, SecretMount, Sharing,
};
use crate::dockerfile::source::Span;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, Tree, TreePath};
use crate::rootfs::{Fork, Link, Unpacker};
use crate::sandbox::{self, Access, Rung, Secret};
use crate::store::{Lock, Store};

/// The longest that a secret may be, as in BuildKit.
const LONGEST_SECRET: u64 = 500 << 10;
/// Where secrets appear.
const SECRETS: &str = "/run/secrets";

/// The mounts of a step.
pub(super) struct Mounts {
    all: Vec<Described>,
}

/// One mount, resolved.
struct Described {
    mount: Mount,
    target: String,
    /// What a bind or a new cache shows.
    provider: Option<Provider>,
    /// What a bind of a context shows: the very files that the step's key was made of.
    chosen: Option<Arc<Chosen>>,
    /// Where it is written.
    span: Span,
}

/// Files of a context.
struct Chosen {
    /// What stands for them in keys.
    key: String,
    selected: Vec<Selected>,
}

/// Mounts that can be mounted, and what must stay as long as they are.
#[derive(Default)]
pub(super) struct Prepared {
    pub mounts: Vec<sandbox::Mount>,
    /// Links to what is mounted.
    pub links: Vec<Link>,
    /// The cache of modules, where there is one.
    pub modules: Option<Modules>,
    /// Whether there is a cache that nobody asked for.
    pub with_caches: bool,
    pub variables: Vec<(String, String)>,
    pub held: Vec<Held>,
}

/// Resolves the mounts of a step, and adds them to its key.
pub(super) async fn describe(
    stage: &Stage<'_>,
    flags: &[MountFlag],
    mut key: Key,
) -> Result<(Mounts, Key), Failure> {
    let mut all = Vec::new();
    for (number, flag) in flags.iter().enumerate() {
        let mount = stage.scope.mount(flag)?;
        let target = target(stage, &mount, number);
        key = key.text(&target).number(u64::from(mount.read_only));
        let (from, source) = match &mount.kind {
            MountKind::Bind { from, source } => (Some(from.as_deref()), source.clone()),
            MountKind::Cache(cache) => (cache.from.as_deref().map(Some), cache.source.clone()),
            _ => (None, None),
        };
        let span = flag.value.span;
        let provider = match from {
            Some(from) => {
                let from = from.map(|name| (name, span));
                Some(stage.build.provider(stage.index, from).await?)
            }
            None => None,
        };
        let mut chosen = None;
        key = match (&mount.kind, &provider) {
            (MountKind::Bind { .. }, Some(Provider::Snapshot(snapshot))) => {
                let source = source.as_deref().unwrap_or("/");
                key.text("bind").text(format!("{} {source}", snapshot.key))
            }
            (MountKind::Bind { .. }, Some(Provider::Context(files))) => {
                let found = choose(files.clone(), source).await.at(span)?;
                let key = key.text("bind").text(&found.key);
                chosen = Some(Arc::new(found));
                key
            }
            // What a cache holds is no part of what a step does.
            (MountKind::Cache(cache), _) => key.text("cache").text(&cache.id),
            (MountKind::Secret(secret), _) => {
                let key = key.text("secret").text(&secret.id).optional(secret.variable.as_ref());
                owned(key, secret.access)
            }
            (MountKind::Tmpfs { size }, _) => key.text("tmpfs").number(size.unwrap_or_default()),
            (MountKind::Ssh { id, access, .. }, _) => owned(key.text("ssh").text(id), *access),
            (MountKind::Bind { .. }, None) => key,
        };
        all.push(Described { mount, target, provider, chosen, span });
    }
    Ok((Mounts { all }, key))
}

/// Adds whose a mounted file is, where that was said.
fn owned(key: Key, access: Owner) -> Key {
    let said = [access.mode, access.uid, access.gid];
    if said.iter().all(Option::is_none) {
        return key;
    }
    said.into_iter().fold(key, |key, number| key.optional(number.map(u32::to_le_bytes)))
}

/// Finds the files of a context that a bind shows, and reads them for the step's key.
async fn choose(files: Arc<dyn Files>, source: Option<String>) -> Result<Chosen> {
    let source = source.unwrap_or_else(|| "/".to_owned());
    blocking(move || {
        let mut selected = select(files.as_ref(), &source)?;
        let digest = copy::digest(files.as_ref(), &mut selected)?.to_hex();
        Ok(Chosen { key: format!("{digest} {source}"), selected })
    })
    .await
}

fn select(files: &dyn Files, source: &str) -> Result<Vec<Selected>> {
    let selection = Selection { sources: vec![source.to_owned()], ..Selection::default() };
    copy::select(files, &selection)
}

fn target(stage: &Stage<'_>, mount: &Mount, number: usize) -> String {
    let folder = &stage.config.config.working_dir;
    match (&mount.target, &mount.kind) {
        (Some(target), _) => config::in_folder(folder, target),
        (None, MountKind::Secret(SecretMount { file: Some(file), .. })) => {
            config::in_folder(folder, file)
        }
        (None, MountKind::Secret(secret)) => format!("{SECRETS}/{}", secret.id),
        (None, MountKind::Ssh { .. }) => format!("/run/buildkit/ssh_agent.{number}"),
        (None, _) => config::in_folder(folder, ""),
    }
}

impl Mounts {
    /// The paths at which something is mounted.
    pub(super) fn targets(&self) -> Vec<&str> {
        self.all.iter().map(|described| described.target.as_str()).collect()
    }

    /// Whether something is mounted that came of a cache.
    pub(super) fn have_cached(&self) -> bool {
        let snapshots = self.all.iter().filter_map(|described| match &described.provider {
            Some(Provider::Snapshot(snapshot)) => Some(snapshot),
            Some(Provider::Context(_)) | None => None,
        });
        snapshots.into_iter().any(super::snapshot::Snapshot::has_cached)
    }

    /// Makes everything that is mounted.
    pub(super) async fn prepare(&self, stage: &Stage<'_>) -> Result<Prepared, Failure> {
        let mut prepared = Prepared::default();
        // Steps that wait for each other's caches ask for them in one order.
        let mut all: Vec<&Described> = self.all.iter().collect();
        all.sort_by_key(|described| match &described.mount.kind {
            MountKind::Cache(cache) => (0, cache.id.as_str()),
            _ => (1, ""),
        });
        for described in all {
            let added = prepared.add(&stage.build.common.shop, described).await;
            added.at(described.span)?;
        }
        Ok(prepared)
    }
}

/// How a cache is shared: where nothing can be mounted it is moved, and there is but one place for it.
pub(super) fn sharing(rung: Rung, asked: Sharing) -> Sharing {
    match (rung, asked) {
        (Rung::Chroot, Sharing::Shared) => Sharing::Private,
        _ => asked,
    }
}

fn access(read_only: bool) -> Access {
    if read_only { Access::ReadOnly } else { Access::ReadWrite }
}

impl Prepared {
    async fn add(&mut self, shop: &Shop, described: &Described) -> Result<()> {
        let target = &described.target;
        match &described.mount.kind {
            MountKind::Bind { source, .. } => {
                bind(shop, described, source.as_deref(), self).await?;
            }
            MountKind::Cache(cache) => {
                let (folder, lock) = cache_of(shop, described, cache).await?;
                self.held.push(lock);
                self.own(folder, target, access(described.mount.read_only));
            }
            MountKind::Tmpfs { size } => self.mounts.push(sandbox::Mount::Tmpfs {
                target: target.clone(),
                size_bytes: *size,
                mode: 0o1777,
            }),
            MountKind::Secret(secret) => self.secret(&shop.job.secrets, secret, target)?,
            MountKind::Ssh { id, required, access } => match shop.job.agents.get(id) {
                Some(agent) => self.agent(&shop.tools.transport.store, (agent, *access), target)?,
                None if *required => return Err(no_agent(id)),
                None => {}
            },
        }
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

    fn secret(
        &mut self,
        secrets: &std::collections::BTreeMap<String, SecretSource>,
        secret: &SecretMount,
        target: &str,
    ) -> Result<()> {
        let Some(source) = secrets.get(&secret.id) else {
            if !secret.required {
                return Ok(());
            }
            return Err(Error::new(ErrorKind::Usage, format!("mount the secret {}", secret.id))
                .because("it was not given")
                .hint(format!("--secret id={},src=FILE", secret.id)));
        };
        let content = read_secret(&secret.id, source)?;
        if let Some(variable) = &secret.variable {
            let text = String::from_utf8_lossy(&content).into_owned();
            self.variables.push((variable.clone(), text));
        }
        if secret.variable.is_none() || secret.file.is_some() {
            self.mounts.push(sandbox::Mount::Secret {
                target: target.to_owned(),
                content: Secret::new(content),
                mode: secret.access.mode.unwrap_or(0o400),
                uid: secret.access.uid.unwrap_or(0),
                gid: secret.access.gid.unwrap_or(0),
            });
        }
        Ok(())
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
        self.held.push(Arc::new(scratch));
        self.bind(agent.socket(), target, Access::ReadWrite);
        self.held.push(Arc::new(agent));
        self.variables.push(("SSH_AUTH_SOCK".to_owned(), target.to_owned()));
        Ok(())
    }
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
        SecretSource::File(path) => crate::disk::read_named(path, LONGEST_SECRET).cannot(action),
    }
}

async fn bind(
    shop: &Shop,
    described: &Described,
    source: Option<&str>,
    prepared: &mut Prepared,
) -> Result<()> {
    let Some(provider) = &described.provider else { return Ok(()) };
    let unpacker = shop.workshop().await?.unpacker.clone();
    let is_read_only = described.mount.read_only;
    let shown = match (&described.chosen, is_read_only) {
        // Nothing changes it: steps may share it.
        (Some(chosen), true) => {
            let cell = shop.shown(&chosen.key);
            let chosen = chosen.clone();
            let make = || blocking(move || shown(&unpacker, &chosen.selected));
            cell.get_or_try_init(make).await?.clone()
        }
        // What a step writes to it goes away with the copy.
        (Some(chosen), false) => {
            let chosen = chosen.clone();
            blocking(move || shown(&unpacker, &chosen.selected)).await?
        }
        (None, _) => {
            let files = provider.files(shop).await?;
            let source = source.unwrap_or("/").to_owned();
            blocking(move || shown(&unpacker, &select(files.as_ref(), &source)?)).await?
        }
    };
    match is_read_only {
        true => prepared.bind(shown.path.clone(), &described.target, Access::ReadOnly),
        false => prepared.own(shown.path.clone(), &described.target, Access::ReadWrite),
    }
    prepared.held.push(shown);
    Ok(())
}

/// A file for a step to execute.
pub(super) fn script(workshop: &Workshop, name: &str, text: &str) -> Result<(PathBuf, Fork)> {
    let mut tree = Tree::new();
    tree.insert(TreePath::normalized(name)?, Entry::file(text.to_owned(), 0o755))?;
    let fork = workshop.unpacker.empty().fork()?;
    fork.apply(&tree)?;
    Ok((folder_of(&fork), fork))
}

async fn cache_of(
    shop: &Shop,
    described: &Described,
    cache: &CacheMount,
) -> Result<(PathBuf, Held)> {
    let seed = match &described.provider {
        Some(provider) => Some(provider.files(shop).await?),
        None => None,
    };
    let unpacker = shop.workshop().await?.unpacker.clone();
    let (owner, sharing) = (cache.access, sharing(unpacker.rung, cache.sharing));
    let source = cache.source.clone().unwrap_or_else(|| "/".to_owned());
    let name = format!("mount {}", cache.id);
    let folder = shop.caches.of_files(unpacker.rung)?;
    blocking(move || {
        let create = |place: &Path| {
            let files = seed.as_deref();
            create_cache(&unpacker, place, owner, files.map(|files| (files, source.as_str())))
        };
        open_cache(&folder, &name, sharing, &create)
    })
    .await
}

/// Opens the cache of a name, which is made where there is none, and keeps it as shared as was asked.
pub(super) fn open_cache(
    folder: &Path,
    name: &str,
    sharing: Sharing,
    create: &dyn Fn(&Path) -> Result<()>,
) -> Result<(PathBuf, Held)> {
    let action = || "open a cache";
    fs_err::create_dir_all(folder).cannot(action)?;
    for number in 0_u32.. {
        let place = kept::place(folder, name, number);
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
            for inside in selected.inside {
                tree.insert(root.join(inside.relative.as_bytes())?, inside.node.entry)?;
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
