//! The file system of a stage at one point: a base, and what steps added.
//!
//! A step's result is a layer, which is packed while later steps run, and for steps that needed a
//! file system also a folder. None of them is touched as long as only their keys are asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, watch};

use super::key::Key;
use crate::dockerfile::files::{Files, Node, digest_of};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Blob, BlobSource, Image, Layer};
use crate::layer::{ContentHash, EntryKind, Tree, TreePath};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::rootfs::{Follow, View};
use crate::store::{ScopeName, Store};

/// A base and steps on it.
#[derive(Clone)]
pub(super) struct Snapshot {
    /// Equal keys mean equal files.
    pub key: String,
    /// The base, unless it is scratch.
    pub base: Option<Arc<Image>>,
    /// The steps, in order.
    pub steps: Vec<Arc<Step>>,
}

impl Snapshot {
    /// Nothing.
    pub(super) fn scratch() -> Self {
        Self { key: Key::new("scratch").finish(), base: None, steps: Vec::new() }
    }

    /// An image without steps. Its files are those that its diff IDs name.
    pub(super) fn of_image(image: Arc<Image>) -> Self {
        let diff_ids = &image.config.value().rootfs.diff_ids;
        let key = Key::new("base").list(diff_ids.iter().map(Digest::as_str)).finish();
        Self { key, base: Some(image), steps: Vec::new() }
    }

    /// With one step more.
    pub(super) fn with(&self, step: Arc<Step>) -> Self {
        let mut steps = self.steps.clone();
        let key = step.key.clone();
        steps.push(step);
        Self { key, base: self.base.clone(), steps }
    }

    /// Whether anything in it came of a cache.
    pub(super) fn has_cached(&self) -> bool {
        self.steps.iter().any(|step| step.basis != Basis::Key)
    }

    /// What it is remembered by that was found out about the files with a key that stands for these.
    pub(super) fn record_key(&self, key: &str) -> Option<String> {
        let bases: BTreeSet<&Basis> = self.steps.iter().map(|step| &step.basis).collect();
        bases.into_iter().try_fold(key.to_owned(), |key, basis| basis.record_key(&key))
    }

    /// As it was after so many steps.
    pub(super) fn up_to(&self, count: usize) -> Self {
        let key = match count.checked_sub(1) {
            Some(last) => self.steps[last].key.clone(),
            None => match &self.base {
                Some(base) => Self::of_image(base.clone()).key,
                None => Self::scratch().key,
            },
        };
        Self { key, base: self.base.clone(), steps: self.steps[..count].to_vec() }
    }
}

/// What is remembered of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub media_type: MediaType,
    pub digest: Digest,
    pub size: u64,
    pub diff_id: Digest,
}

impl LayerRecord {
    /// The layer, which is in the store.
    pub(super) fn layer(&self, store: &Store) -> Layer {
        let source = BlobSource::File(store.blob_path(&self.digest));
        let descriptor = Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size);
        Layer { blob: Blob { descriptor, source }, diff_id: self.diff_id.clone() }
    }
}

/// A layer that is packed, or is being packed.
pub(super) type Packing = watch::Receiver<Option<Result<LayerRecord, NotPacked>>>;

/// Why a layer was not packed, for all who wait for it.
#[derive(Clone, Debug)]
pub(super) struct NotPacked {
    kind: ErrorKind,
    why: String,
    hint: Option<String>,
}

impl NotPacked {
    pub(super) fn of(error: &Error) -> Self {
        let hint = error.next_move().map(str::to_owned);
        Self { kind: error.kind(), why: error.message(), hint }
    }

    fn error(self) -> Error {
        let error = Error::new(self.kind, "pack a layer").because(self.why);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// What a result depends on beside its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Basis {
    /// Nothing.
    Key,
    /// What the caches of a scope held, for this step or one below it.
    Scope(ScopeName),
    /// What caches held that go with the build.
    Build,
}

impl Basis {
    /// What results with a key are remembered by, where they are: those that depend on a cache are
    /// found by whoever may use that cache.
    pub(super) fn record_key(&self, key: &str) -> Option<String> {
        match self {
            Self::Key => Some(key.to_owned()),
            Self::Scope(scope) => Some(format!("{key} in {scope}")),
            Self::Build => None,
        }
    }
}

/// What a step added.
pub(super) struct Step {
    /// Equal keys mean equal files, this step and all before it, as far as the basis goes.
    pub key: String,
    /// What else they depend on.
    pub basis: Basis,
    /// When it was executed, as histories write it.
    pub created: String,
    /// What it added, where that was made by this process and without a sandbox.
    pub tree: Option<Tree>,
    #[expect(dead_code, reason = "it holds the contents of the tree's files until it is dropped")]
    held: Vec<super::shop::Held>,
    layer: Packing,
    kept: Mutex<Option<String>>,
    /// Where a layer comes from that other machines made: set when it is here.
    pub fetched: Option<OnceCell<()>>,
}

impl Step {
    pub(super) fn new(key: String, created: String, layer: Packing, kept: Option<String>) -> Self {
        let (kept, basis) = (Mutex::new(kept), Basis::Key);
        Self { key, basis, created, tree: None, held: Vec::new(), layer, kept, fetched: None }
    }

    /// A step that depends on more than its key.
    pub(super) fn on(self, basis: Basis) -> Self {
        Self { basis, ..self }
    }

    /// A step whose layer must be fetched before it is used.
    pub(super) fn elsewhere(key: String, created: String, layer: LayerRecord) -> Self {
        let fetched = Some(OnceCell::new());
        Self { fetched, ..Self::new(key, created, packed(layer), None) }
    }

    /// With what it added, and what holds the contents of that.
    pub(super) fn holding(self, tree: Option<Tree>, held: Vec<super::shop::Held>) -> Self {
        Self { tree, held, ..self }
    }

    /// The folder that holds the files, by its id.
    pub(super) fn kept(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of the folder.
    pub(super) fn keep(&self, id: String) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// The layer, if it is packed.
    pub(super) fn packed(&self) -> Option<LayerRecord> {
        self.layer.borrow().as_ref().and_then(|packed| packed.as_ref().ok().cloned())
    }

    /// Waits until the layer is packed.
    pub(super) async fn layer(&self) -> Result<LayerRecord> {
        let mut layer = self.layer.clone();
        let failed = || Error::new(ErrorKind::Io, "pack a layer");
        let packed = layer.wait_for(Option::is_some).await;
        match packed.map(|packed| packed.clone()) {
            Ok(Some(Ok(record))) => Ok(record),
            Ok(Some(Err(why))) => Err(why.error()),
            Ok(None) | Err(_) => Err(failed().because("its writer went away")),
        }
    }
}

/// A layer that is there already.
pub(super) fn packed(record: LayerRecord) -> Packing {
    watch::channel(Some(Ok(record))).1
}

/// The merged files of a root file system.
pub(super) struct ViewFiles(pub View);

impl ViewFiles {
    fn as_node(entry: crate::layer::Entry) -> Node {
        use std::os::unix::fs::MetadataExt as _;
        let identity = match &entry.kind {
            EntryKind::File(crate::layer::Content::File(file)) => {
                let metadata = fs_err::symlink_metadata(file.path()).ok();
                metadata.filter(|found| found.nlink() > 1).map(|found| found.ino())
            }
            _ => None,
        };
        Node { entry, identity }
    }
}

impl Files for ViewFiles {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let Some(path) = path else {
            let root = self.0.find("/", Follow::NotLast)?;
            let entry = root.map_or(crate::layer::Entry::directory(0o755), |root| root.entry);
            return Ok(Some(Self::as_node(entry)));
        };
        let Ok(text) = std::str::from_utf8(path.as_bytes()) else { return Ok(None) };
        let found = self.0.find(text, Follow::NotLast)?;
        // A path through a link is not this path.
        Ok(found
            .filter(|found| found.path.as_ref() == Some(path))
            .map(|found| Self::as_node(found.entry)))
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let children = self.0.children(folder)?;
        Ok(children.into_iter().map(|(name, entry)| (name, Self::as_node(entry))).collect())
    }

    fn digest(&self, _: &TreePath, node: &Node) -> Result<ContentHash> {
        digest_of(&node.entry)
    }
}

/// Files with those of steps over them, which remove nothing.
pub(super) struct Merged {
    /// The topmost last.
    pub steps: Vec<Arc<Step>>,
    pub below: Arc<dyn Files>,
}

impl Merged {
    fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.steps.iter().rev().filter_map(|step| step.tree.as_ref())
    }
}

impl Files for Merged {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let Some(path) = path else { return self.below.node(None) };
        for tree in self.trees() {
            if let Some(entry) = tree.get(path) {
                let entry = match &entry.kind {
                    EntryKind::HardLink(target) => tree.get(target).unwrap_or(entry),
                    _ => entry,
                };
                return Ok(Some(Node { entry: entry.clone(), identity: None }));
            }
            let mut above = path.parent();
            while let Some(folder) = above {
                if tree.get(&folder).is_some_and(|entry| !entry.is_directory()) {
                    return Ok(None);
                }
                above = folder.parent();
            }
        }
        self.below.node(Some(path))
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let mut names: std::collections::BTreeSet<Vec<u8>> = std::collections::BTreeSet::new();
        for tree in self.trees() {
            let inside = tree.iter().filter(|(path, _)| path.parent().as_ref() == folder);
            names.extend(inside.map(|(path, _)| path.name().to_vec()));
        }
        names.extend(self.below.children(folder)?.into_iter().map(|(name, _)| name));
        let mut children = Vec::new();
        for name in names {
            let path = crate::dockerfile::files::join(folder, &name)?;
            if let Some(node) = self.node(Some(&path))? {
                children.push((name, node));
            }
        }
        Ok(children)
    }

    fn digest(&self, _: &TreePath, node: &Node) -> Result<ContentHash> {
        digest_of(&node.entry)
    }
}
