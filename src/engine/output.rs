//! What steps put out: files first, then a layer in the store.
//!
//! A step's output is a layer, which is packed while later steps run, and for steps that needed a
//! file system also a folder.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, watch};

use super::backend::{Backend, Entry};
use super::basis::Basis;
use super::op::StepKind;
use super::pack::LayerRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Layer;
use crate::layer::Tree;
use crate::oci::Digest;
use crate::store::Store;

/// The kind of the store's records that hold results of steps.
const STEPS: &str = "step";

/// Something on disk that vanishes when it is dropped.
pub type Guard = Arc<dyn Send + Sync>;

/// What the execution of a step gave.
#[derive(Default)]
pub struct Executed {
    /// The changes.
    pub tree: Tree,
    /// The folder that holds them, by its id.
    pub kept: Option<String>,
    /// What holds the contents of files of the tree.
    pub guards: Vec<Guard>,
    /// Whether a cache was there that the key says nothing of.
    pub with_caches: bool,
}

impl Executed {
    /// Changes whose contents are somewhere for good.
    pub fn of(tree: Tree) -> Self {
        Self { tree, ..Self::default() }
    }
}

/// A layer that is packed, or is being packed.
pub type Packing = watch::Receiver<Option<Result<LayerRecord, NotPacked>>>;

/// Why a layer was not packed, for all who wait for it.
#[derive(Clone, Debug)]
pub struct NotPacked {
    kind: ErrorKind,
    why: String,
    hint: Option<String>,
}

impl NotPacked {
    /// That this is why.
    pub fn of(error: &Error) -> Self {
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

/// What is remembered of a step.
#[derive(Serialize, Deserialize)]
struct StepRecord {
    created: String,
    layer: LayerRecord,
    kept: Option<String>,
    /// When it really was executed, in seconds since 1970. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executed: Option<i64>,
    /// What messages call the step, for people. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instruction: Option<String>,
    /// Which results of programs it was made of, see `solve::versions`. Steps that were made of none, or
    /// by earlier versions, do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_of: Option<String>,
}

/// What an earlier build knew a program's result as, which was executed in this one.
#[derive(Clone, Debug)]
pub(super) enum Before {
    /// There was none: nothing can have been made of it.
    Nothing,
    /// It is not known any more.
    Unknown,
    /// The archive of a layer.
    Archive(Digest),
}

/// Where a layer is that other machines made.
struct Elsewhere {
    backend: Arc<dyn Backend>,
    /// Set when it is here.
    fetched: OnceCell<()>,
}

/// What a step added.
pub struct StepOutput {
    /// Equal keys mean equal files, this step and all before it, as far as the basis goes.
    pub key: String,
    /// What else they depend on.
    pub basis: Basis,
    /// When it was executed, as histories write it.
    pub created: String,
    /// When it really was executed, in seconds since 1970, where that is known.
    executed: Option<i64>,
    /// What it added, where that was made by this process and without a sandbox.
    pub tree: Option<Arc<Tree>>,
    #[expect(dead_code, reason = "it holds the contents of the tree's files until it is dropped")]
    guards: Vec<Guard>,
    layer: Packing,
    kept: Mutex<Option<String>>,
    /// What messages call the step.
    label: Option<String>,
    /// Where a layer comes from that other machines made.
    elsewhere: Option<Elsewhere>,
    /// What was there before it, where it is of a program that is executed in this build.
    before: Option<Before>,
    /// Whether it is of a program: such a step may come out otherwise each time.
    is_of_program: bool,
    /// Which results of programs it was made of, see `solve::versions`, once that is known.
    made_of: OnceLock<String>,
}

impl StepOutput {
    /// A step whose layer is packed, or is being packed.
    pub fn new(key: String, created: String, layer: Packing, kept: Option<String>) -> Self {
        let (kept, basis, guards) = (Mutex::new(kept), Basis::Key, Vec::new());
        let (executed, tree, label, elsewhere, before) = (None, None, None, None, None);
        let (is_of_program, made_of) = (false, OnceLock::new());
        Self {
            key,
            basis,
            created,
            executed,
            tree,
            guards,
            layer,
            kept,
            label,
            elsewhere,
            before,
            is_of_program,
            made_of,
        }
    }

    /// A layer that is there, and that no key leads to.
    pub fn of_layer(layer: LayerRecord, created: String) -> Self {
        Self::new(layer.diff_id.to_string(), created, packed(layer), None)
    }

    /// What stands for a step that was planned and not executed: it has no layer.
    pub(super) fn planned(key: String) -> Self {
        Self::new(key, String::new(), watch::channel(None).1, None)
    }

    /// A step that was executed then, in seconds since 1970.
    #[must_use]
    pub fn executed_at(self, time: i64) -> Self {
        Self { executed: Some(time), ..self }
    }

    /// A step that messages call so.
    #[must_use]
    pub fn with_label(self, label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..self }
    }

    /// A program's result of this build, and what was there before.
    #[must_use]
    pub(super) fn instead_of(self, before: impl Into<Option<Before>>) -> Self {
        Self { before: before.into(), ..self }
    }

    /// A step of a kind.
    #[must_use]
    pub(super) fn of_kind(self, kind: StepKind) -> Self {
        Self { is_of_program: kind == StepKind::Run, ..self }
    }

    /// Whether it is of a program.
    pub(super) fn is_of_program(&self) -> bool {
        self.is_of_program
    }

    /// Takes note of the results of programs that it was made of.
    pub(super) fn set_made_of(&self, versions: Option<String>) {
        if let Some(versions) = versions {
            self.made_of.get_or_init(|| versions);
        }
    }

    /// Which results of programs it was made of, where it says so.
    pub(super) fn made_of(&self) -> Option<&str> {
        self.made_of.get().map(String::as_str)
    }

    /// Whether it may be used where these results of programs are: they are those that it was made of,
    /// or that is not known.
    pub(super) fn fits(&self, versions: Option<&str>) -> bool {
        match (self.made_of(), versions) {
            (Some(of), Some(now)) => of == now,
            _ => true,
        }
    }

    /// Whether it is of a program that was never executed before this build.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.before, Some(Before::Nothing))
    }

    /// Whether it is of a program that is executed in this build.
    pub(super) fn is_made(&self) -> bool {
        self.before.is_some()
    }

    /// Whether it may be another result than the one that was there before.
    pub(super) async fn differs(&self) -> bool {
        match &self.before {
            None => false,
            Some(Before::Nothing | Before::Unknown) => true,
            // Whoever needs a layer that was not packed says so.
            Some(Before::Archive(before)) => {
                self.layer().await.map_or(true, |layer| layer.diff_id != *before)
            }
        }
    }

    /// A step that depends on more than its key.
    #[must_use]
    pub fn on(self, basis: Basis) -> Self {
        Self { basis, ..self }
    }

    /// A step whose layer must be fetched before it is used.
    pub fn elsewhere(entry: Entry, backend: Arc<dyn Backend>) -> Self {
        let Entry { key, created, executed, layer, made_of } = entry;
        let elsewhere = Some(Elsewhere { backend, fetched: OnceCell::new() });
        let output = Self::new(key, created, packed(layer), None).executed_at(executed);
        output.set_made_of(made_of);
        Self { elsewhere, ..output }
    }

    /// A step that was executed before, where that is known and its layer is here. Where there is an
    /// `oldest` time, one that was executed earlier counts as absent, or at a time that nobody knows.
    pub(super) fn remembered(
        store: &Store,
        key: &str,
        basis: Basis,
        oldest: Option<i64>,
    ) -> Result<Option<Self>> {
        let Some(record) = basis.record_key(key) else { return Ok(None) };
        let Some(record) = store.get_record::<StepRecord>(STEPS, &record) else { return Ok(None) };
        let is_old = oldest.is_some_and(|oldest| record.executed.is_none_or(|at| at < oldest));
        if is_old || !record.layer.is_in(store)? {
            return Ok(None);
        }
        let StepRecord { created, layer, kept, executed, instruction, made_of } = record;
        let label = instruction;
        let output = Self::new(key.to_owned(), created, packed(layer), kept).on(basis);
        output.set_made_of(made_of);
        Ok(Some(Self { executed, label, ..output }))
    }

    /// What other machines are told of it, where its layer is here and it is known when it was executed.
    pub(super) fn entry(&self) -> Option<Entry> {
        let (key, created) = (self.key.clone(), self.created.clone());
        let made_of = self.made_of().map(str::to_owned);
        Some(Entry { key, created, executed: self.executed?, layer: self.packed()?, made_of })
    }

    /// What is known of a step that was executed before, whether its layer is here or not.
    pub(super) fn before(store: &Store, key: &str, basis: &Basis) -> Option<Before> {
        let record = store.get_record::<StepRecord>(STEPS, &basis.record_key(key)?)?;
        Some(Before::Archive(record.layer.diff_id))
    }

    /// Takes note of the step for later builds.
    pub fn remember(&self, store: &Store, layer: &LayerRecord) -> Result<()> {
        let (created, layer) = (self.created.clone(), layer.clone());
        let (kept, executed, instruction) = (self.kept(), self.executed, self.label.clone());
        let made_of = self.made_of().map(str::to_owned);
        let record = StepRecord { created, layer, kept, executed, instruction, made_of };
        match self.basis.record_key(&self.key) {
            Some(key) => store.put_record(STEPS, &key, &record),
            None => Ok(()),
        }
    }

    /// With what it added, and what holds the contents of that.
    #[must_use]
    pub fn holding(self, tree: Option<Arc<Tree>>, guards: Vec<Guard>) -> Self {
        Self { tree, guards, ..self }
    }

    /// The folder that holds the files, by its id.
    pub fn kept(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of the folder.
    pub fn keep(&self, id: String) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// The layer, if it is packed.
    pub fn packed(&self) -> Option<LayerRecord> {
        self.layer.borrow().as_ref().and_then(|packed| packed.as_ref().ok().cloned())
    }

    /// The layer, which is in the store from then on.
    pub async fn stored_layer(&self, store: &Store) -> Result<Layer> {
        let record = self.layer().await?;
        if let Some(Elsewhere { backend, fetched }) = &self.elsewhere {
            let fetch = || async {
                backend.fetch(&self.key, &record).await?;
                self.remember(store, &record)
            };
            fetched.get_or_try_init(fetch).await?;
        }
        Ok(record.layer(store))
    }

    /// Waits until the layer is packed.
    pub async fn layer(&self) -> Result<LayerRecord> {
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
pub fn packed(record: LayerRecord) -> Packing {
    watch::channel(Some(Ok(record))).1
}
