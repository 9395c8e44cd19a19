//! What steps put out: files first, then a layer in the store.
//!
//! A step's output is a layer, which is packed while later steps run, and for steps that needed a
//! file system also a folder. This is the only place where a tree becomes a layer of the store.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, watch};

use super::snapshot::Basis;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Blob, BlobLocation, Layer};
use crate::layer::{self, Encoding, LayerInfo, Tree, WriteOptions};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::progress::TaskKind;
use crate::store::Store;
use crate::transport::Context;

/// The kind of the store's records that hold layers by the keys of their contents.
const LAYERS: &str = "layer";

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

/// What is remembered of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// How it is compressed, as OCI says it.
    pub media_type: MediaType,
    /// The digest of the blob.
    pub digest: Digest,
    /// How many bytes the blob has.
    pub size: u64,
    /// The digest of the archive in it.
    pub diff_id: Digest,
}

impl LayerRecord {
    fn of(info: LayerInfo) -> Self {
        Self {
            media_type: MediaType::layer_for(&MediaType::OCI_MANIFEST, info.compression),
            digest: info.digest,
            size: info.size,
            diff_id: info.diff_id,
        }
    }

    /// Whether the layer is in the store.
    pub fn is_in(&self, store: &Store) -> Result<bool> {
        Ok(store.has(&self.digest)? == Some(self.size))
    }

    /// The layer, which is in the store.
    pub fn layer(&self, store: &Store) -> Layer {
        let source = BlobLocation::File(store.blob_path(&self.digest));
        Layer {
            blob: Blob { descriptor: self.descriptor(), source },
            diff_id: self.diff_id.clone(),
        }
    }

    /// What names the blob.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size)
    }
}

/// Makes layers of trees, and puts them into the store.
#[derive(Clone)]
pub struct Packer {
    /// The store, and the reader of progress.
    pub transport: Context,
    /// How layers are compressed.
    pub encoding: Encoding,
    /// How many threads compress.
    pub threads: usize,
}

impl Packer {
    /// Makes a layer of a tree; `name` is what progress calls it.
    pub fn pack(&self, name: &str, tree: &Tree) -> Result<LayerRecord> {
        let Context { store, reporter, .. } = &self.transport;
        let task = reporter.start(TaskKind::Layer, name, Some(tree.content_size()));
        let options = WriteOptions { encoding: self.encoding, threads: self.threads };
        let mut ingest = store.ingest_unhashed()?;
        let info = layer::write(tree, &options, &|bytes| task.advance(bytes), &mut ingest)?;
        ingest.commit_as(&info.digest, info.size)?;
        task.done();
        Ok(LayerRecord::of(info))
    }

    /// Finds the layer that was made of an equal tree, or makes one. Files are read to tell.
    pub fn find_or_pack(&self, name: &str, mut tree: Tree, reuse: Reuse) -> Result<LayerRecord> {
        let Context { store, reporter, .. } = &self.transport;
        let key = layer::content_key(&mut tree, &self.encoding)?;
        if reuse == Reuse::Found
            && let Some(record) = store.get_record::<LayerRecord>(LAYERS, &key)
            && record.is_in(store)?
        {
            reporter.start(TaskKind::Layer, name, None).skipped("cached");
            return Ok(record);
        }
        let record = self.pack(name, &tree)?;
        store.put_record(LAYERS, &key, &record)?;
        Ok(record)
    }
}

/// Whether a layer that was made of an equal tree may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Where there is one.
    Found,
    /// Never: it is made again.
    Nothing,
}

impl Reuse {
    /// As results of earlier builds are used.
    pub fn of(use_cache: bool) -> Self {
        if use_cache { Self::Found } else { Self::Nothing }
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

/// What a step added.
pub struct StepOutput {
    /// Equal keys mean equal files, this step and all before it, as far as the basis goes.
    pub key: String,
    /// What else they depend on.
    pub basis: Basis,
    /// When it was executed, as histories write it.
    pub created: String,
    /// What it added, where that was made by this process and without a sandbox.
    pub tree: Option<Tree>,
    #[expect(dead_code, reason = "it holds the contents of the tree's files until it is dropped")]
    guards: Vec<Guard>,
    layer: Packing,
    kept: Mutex<Option<String>>,
    /// Where a layer comes from that other machines made: set when it is here.
    pub fetched: Option<OnceCell<()>>,
}

impl StepOutput {
    /// A step whose layer is packed, or is being packed.
    pub fn new(key: String, created: String, layer: Packing, kept: Option<String>) -> Self {
        let (kept, basis) = (Mutex::new(kept), Basis::Key);
        Self { key, basis, created, tree: None, guards: Vec::new(), layer, kept, fetched: None }
    }

    /// A step that depends on more than its key.
    pub fn on(self, basis: Basis) -> Self {
        Self { basis, ..self }
    }

    /// A step whose layer must be fetched before it is used.
    pub fn elsewhere(key: String, created: String, layer: LayerRecord) -> Self {
        let fetched = Some(OnceCell::new());
        Self { fetched, ..Self::new(key, created, packed(layer), None) }
    }

    /// With what it added, and what holds the contents of that.
    pub fn holding(self, tree: Option<Tree>, guards: Vec<Guard>) -> Self {
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
