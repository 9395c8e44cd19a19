//! The files of snapshots: for looking at, and for programs to run on.

use std::path::PathBuf;
use std::sync::Arc;

use super::listed::ListedFiles;
use super::merged::{Merged, ViewFiles};
use super::place::Place;
use super::{Executor, lock};
use crate::blocking::blocking_or;
use crate::engine::files::{Files, TreeFiles};
use crate::engine::{Executed, Inputs, Provider, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Tree;
use crate::rootfs::{Fork, Listing, Rootfs, Unpacker};
use crate::sandbox::{Root, Stub};

/// What files are wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A program gets them as its root file system, now or later.
    Root,
    /// Somebody looks at them.
    Look,
}

impl Executor {
    /// The files that an op reads. What is only looked at has to be brought before it is read, see
    /// [`Files::bring`].
    pub(super) async fn files_of(
        &self,
        provider: &Provider,
        wanted: Wanted,
    ) -> Result<Arc<dyn Files>> {
        match provider {
            Provider::Folder(files) => Ok(files.clone()),
            Provider::Snapshot(snapshot) => self.files(snapshot, wanted).await,
        }
    }

    /// The files that an op works on.
    pub(super) async fn base_of(&self, inputs: &Inputs) -> Result<Arc<dyn Files>> {
        let wanted = if inputs.programs_follow { Wanted::Root } else { Wanted::Look };
        self.files(&inputs.base, wanted).await
    }

    /// The files of a snapshot for looking at. Makes a root file system only where one is wanted anyway, and
    /// only of what was not made by this process without one; else, and where there can be none, files are
    /// listed, and not unpacked.
    pub(super) async fn files(
        &self,
        snapshot: &Snapshot,
        wanted: Wanted,
    ) -> Result<Arc<dyn Files>> {
        let own = snapshot.steps.iter().rev().take_while(|step| step.tree.is_some()).count();
        let below = snapshot.up_to(snapshot.steps.len() - own);
        let view: Arc<dyn Files> = if below.base.is_none() && below.steps.is_empty() {
            Arc::new(TreeFiles::default())
        } else {
            match self.place().await {
                Place::Sandbox(isolated)
                    if wanted == Wanted::Root || self.has_root(&isolated.unpacker, &below)? =>
                {
                    let rootfs = self.rootfs(&below).await?;
                    Arc::new(ViewFiles(blocking_or(move || rootfs.view()).await?))
                }
                Place::Sandbox(_) | Place::Host(_) => self.listed(&below).await?,
            }
        };
        if own == 0 {
            return Ok(view);
        }
        let steps = snapshot.steps[snapshot.steps.len() - own..].to_vec();
        Ok(Arc::new(Merged { steps, below: view }))
    }

    /// Whether a snapshot has a root file system, or gets one in any case.
    fn has_root(&self, unpacker: &Unpacker, snapshot: &Snapshot) -> Result<bool> {
        let (key, steps) = (&snapshot.key, snapshot.steps.len());
        if lock(&self.roots).contains_key(key) || lock(&self.expected).contains(key) {
            return Ok(true);
        }
        match (&snapshot.base, steps) {
            (Some(base), 0) => unpacker.has(base),
            _ => Ok(kept(unpacker, snapshot)?.0 == steps),
        }
    }

    /// The files of a snapshot where nothing is unpacked.
    async fn listed(&self, snapshot: &Snapshot) -> Result<Arc<ListedFiles>> {
        let cell = lock(&self.listed).entry(snapshot.key.clone()).or_default().clone();
        let list = || async {
            let image = snapshot.image(&self.tools.transport).await?;
            let listing = Listing::of_image(&image, &self.tools.transport).await?;
            Ok::<_, Error>(Arc::new(ListedFiles::new(listing)))
        };
        cell.get_or_try_init(list).await.cloned()
    }

    /// The root file system of a snapshot.
    pub(super) async fn rootfs(&self, snapshot: &Snapshot) -> Result<Rootfs> {
        let cell = lock(&self.roots).entry(snapshot.key.clone()).or_default().clone();
        cell.get_or_try_init(|| self.make_rootfs(snapshot)).await.cloned()
    }

    async fn make_rootfs(&self, snapshot: &Snapshot) -> Result<Rootfs> {
        let unpacker = self.isolated().await?.unpacker.clone();
        let (at, kept) = kept(&unpacker, snapshot)?;
        let rest = &snapshot.steps[at..];
        if rest.iter().any(|step| step.tree.is_none()) {
            let image = snapshot.image(&self.tools.transport).await?;
            return unpacker.unpack(&image).await;
        }
        let mut rootfs = match (kept, &snapshot.base) {
            (Some(kept), _) => kept,
            (None, Some(base)) if lock(&self.stored).contains(base.manifest.digest()) => {
                unpacker.unpack_and_store(base).await?
            }
            (None, Some(base)) => unpacker.unpack(base).await?,
            (None, None) => unpacker.empty(),
        };
        for step in rest.iter().cloned() {
            let store = self.tools.transport.store.clone();
            rootfs = blocking_or(move || {
                let nothing = Tree::new();
                let (rootfs, id) = rootfs.with(step.tree.as_deref().unwrap_or(&nothing))?;
                step.keep(id);
                if let Some(layer) = step.packed() {
                    step.remember(&store, &layer)?;
                }
                Ok::<_, Error>(rootfs)
            })
            .await?;
        }
        Ok(rootfs)
    }
}

/// The highest point of a snapshot whose folders are all here: after how many steps it is.
fn kept(unpacker: &Unpacker, snapshot: &Snapshot) -> Result<(usize, Option<Rootfs>)> {
    for at in (1..=snapshot.steps.len()).rev() {
        if let Some(id) = snapshot.steps[at - 1].kept()
            && let Some(rootfs) = unpacker.kept(&id)?
        {
            return Ok((at, Some(rootfs)));
        }
    }
    Ok((0, None))
}

/// Reads a fork's changes and keeps it: the contents are where they are kept.
pub(super) fn keep(fork: Fork, stubs: &[Stub]) -> Result<Executed> {
    let before = match fork.root() {
        Root::Overlay { changes: Some(changes), .. } => changes.upper,
        Root::Folder(folder) => folder,
        Root::Overlay { changes: None, .. } | Root::Host { .. } => PathBuf::new(),
    };
    let mut tree = fork.changes(stubs)?;
    let (rootfs, id) = fork.keep(Some(&tree))?;
    let after = rootfs.layers().pop().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "keep a step").because("its files are nowhere to be found")
    })?;
    tree.relocate(&before, &after);
    Ok(Executed { tree, kept: Some(id), ..Executed::default() })
}
