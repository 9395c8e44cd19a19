//! Where steps are executed: looks results up, packs layers while other steps run, and makes root
//! file systems, but only when something needs one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;

use super::again::Again;
use super::job::{Chosen, Job, StepKind, Tools};
use super::kept::Caches;
use super::merged::{Merged, ViewFiles};
use super::remote::{Entry, Remote};
use super::shell::FirstFailed;
use super::shown::Shown;
use crate::blocking::blocking;
use crate::dockerfile::files::Files;
use crate::engine::{
    Basis, Executed, Key, LayerRecord, NotPacked, Packer, Snapshot, StepOutput, packed,
};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Draft, Image, Layer};
use crate::layer::Tree;
use crate::oci::Digest;
use crate::rootfs::{Fork, Rootfs, Unpacker};
use crate::sandbox::{Root, Stub};
use crate::transport::concurrently;

/// The kind of the store's records that hold results of steps.
const STEPS: &str = "step";
/// The kind of those that say which step came out when a step with this key was executed.
const ALIASES: &str = "step-alias";

/// What is remembered of a step.
#[derive(Serialize, Deserialize)]
struct StepRecord {
    created: String,
    layer: LayerRecord,
    kept: Option<String>,
}

/// A step whose result is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Its key.
    pub key: String,
    /// A key that leads to it without a look at files, where there is one.
    pub asked: Option<String>,
    /// What it does.
    pub kind: StepKind,
    /// Whether results of earlier builds may be used.
    pub use_cache: bool,
    /// Whether it works on what came of a cache, so that its result does, too.
    pub on_cached: bool,
}

/// A question about a copy that needs no look at files.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Stands for all that the copy is made of.
    pub key: String,
    /// Whether that came of a cache.
    pub on_cached: bool,
    /// What the store remembers the answer by, where it does.
    record: Option<String>,
}

impl Asked {
    /// A copy from a snapshot.
    pub(super) fn of(copy: Key, snapshot: &Snapshot) -> Self {
        let key = copy.text(&snapshot.key).finish();
        let record = snapshot.record_key(&key);
        Self { on_cached: snapshot.has_cached(), record, key }
    }
}

/// What may execute processes.
pub(super) struct Workshop {
    /// How they are isolated, and what starts them.
    pub chosen: Chosen,
    /// What makes root file systems for that.
    pub unpacker: Unpacker,
}

/// Steps of all stages and platforms of one build.
pub(super) struct Shop {
    pub tools: Tools,
    pub job: Arc<Job>,
    /// What steps keep for each other.
    pub caches: Arc<Caches>,
    /// Results that other machines know.
    remote: Option<Arc<Remote>>,
    workshop: OnceCell<Workshop>,
    /// Steps that are being looked up or executed, by their keys: each one once.
    flights: Mutex<BTreeMap<String, Arc<OnceCell<Arc<StepOutput>>>>>,
    /// Root file systems by the keys of their snapshots.
    roots: Mutex<BTreeMap<String, Arc<OnceCell<Rootfs>>>>,
    /// Copies of files of contexts that steps see, by what stands for them in keys.
    shown: Mutex<BTreeMap<String, Arc<OnceCell<Arc<Shown>>>>>,
    /// Layers that are being packed or put elsewhere.
    packing: Mutex<JoinSet<()>>,
    /// Whether some step is executed, and not only looked up.
    began: watch::Sender<bool>,
    /// Bases whose layers become those of an image that is kept here.
    stored: Mutex<BTreeSet<Digest>>,
    /// Layers are packed one after the other, each on all cores.
    turn: Arc<Semaphore>,
    /// The step that failed, if a shell is to be opened there.
    pub failed: FirstFailed,
    /// Which known results are not used, and why.
    pub again: Again,
    /// What was noted.
    noted: Mutex<BTreeSet<&'static str>>,
}

/// How a step's result came to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was found in the store.
    Cached,
    /// Another machine has executed it.
    Elsewhere,
    /// It was executed just now.
    Executed,
}

impl Shop {
    pub(super) fn new(
        tools: Tools,
        job: Arc<Job>,
        caches: Arc<Caches>,
        remote: Option<Arc<Remote>>,
    ) -> Self {
        Self {
            tools,
            job,
            caches,
            remote,
            workshop: OnceCell::new(),
            flights: Mutex::default(),
            roots: Mutex::default(),
            shown: Mutex::default(),
            packing: Mutex::default(),
            stored: Mutex::default(),
            began: watch::channel(false).0,
            turn: Arc::new(Semaphore::new(1)),
            failed: FirstFailed::default(),
            again: Again::default(),
            noted: Mutex::default(),
        }
    }

    /// Tells something that is worth telling once.
    pub(super) fn note_once(&self, text: &'static str) {
        if lock(&self.noted).insert(text) {
            self.tools.transport.reporter.note(text);
        }
    }

    /// The sandbox, which is chosen when it is first asked for.
    pub(super) async fn workshop(&self) -> Result<&Workshop> {
        let begin = || async {
            let chooser = self.tools.isolation.clone();
            let launcher = chooser.launcher.clone();
            let rung = blocking(move || chooser.choose()).await?;
            if !rung.has_namespaces() {
                let warning = format!("sandbox {rung}: {}", rung.runs());
                self.tools.transport.reporter.warn(warning);
            }
            let chosen = Chosen { launcher, rung };
            let unpacker = Unpacker {
                context: self.tools.transport.clone(),
                rung: chosen.rung,
                cores: self.tools.cores,
            };
            Ok(Workshop { chosen, unpacker })
        };
        self.workshop.get_or_try_init(begin).await
    }

    /// The place of the copy of files that all steps of this build see.
    pub(super) fn shown(&self, key: &str) -> Arc<OnceCell<Arc<Shown>>> {
        flight(&self.shown, key)
    }

    /// The result of a step: found, or made by `execute`.
    pub(super) async fn step<F, E>(
        &self,
        wanted: &Wanted,
        execute: impl FnOnce() -> F,
    ) -> Result<(Arc<StepOutput>, Origin), E>
    where
        F: Future<Output = Result<Executed, E>>,
        E: From<Error>,
    {
        let cell = flight(&self.flights, &wanted.key);
        let mut origin = Origin::Cached;
        let step = cell.get_or_try_init(|| async {
            if wanted.use_cache && self.again.allows(&wanted.key) {
                for basis in self.caches.known() {
                    if let Some(step) = self.remembered(&wanted.key, basis)? {
                        return Ok::<_, E>(step);
                    }
                }
                if let Some(step) = self.found_elsewhere(wanted).await {
                    origin = Origin::Elsewhere;
                    return Ok(step);
                }
            }
            origin = Origin::Executed;
            self.began.send_replace(true);
            let made = execute().await?;
            Ok(self.made(wanted, made))
        });
        let step = step.await?.clone();
        if wanted.kind == StepKind::Run && origin != Origin::Executed {
            self.again.note_reused(&wanted.key);
        }
        Ok((step, origin))
    }

    /// Waits until some step is executed: from then on others will be, too.
    pub(super) async fn until_begun(&self) {
        let mut began = self.began.subscribe();
        // The sender lives as long as this does.
        let _ = began.wait_for(|began| *began).await;
    }

    /// Which step came out of a step with this key before, where that is known.
    pub(super) async fn alias(&self, asked: &Asked, kind: StepKind) -> Result<Option<String>> {
        let store = &self.tools.transport.store;
        if let Some(known) = asked.record.as_ref().and_then(|key| store.get_record(ALIASES, key)) {
            return Ok(Some(known));
        }
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.keeps(kind)) else {
            return Ok(None);
        };
        let found = remote.find_asked(&asked.key).await;
        let Some(Entry { key: of, .. }) = found else { return Ok(None) };
        self.put_alias(asked, &of)?;
        Ok(Some(of))
    }

    /// Takes note of what came out.
    pub(super) fn put_alias(&self, asked: &Asked, of: &str) -> Result<()> {
        let Some(record) = &asked.record else { return Ok(()) };
        self.tools.transport.store.put_record(ALIASES, record, &of)
    }

    /// Whether other machines may have a result, which may have come of a cache.
    pub(super) fn gives_away(&self, of_cache: bool) -> bool {
        !of_cache || self.caches.scope.gives_results_away()
    }

    fn remembered(&self, key: &str, basis: Basis) -> Result<Option<Arc<StepOutput>>> {
        let store = &self.tools.transport.store;
        let Some(record) = basis.record_key(key) else { return Ok(None) };
        let Some(record) = store.get_record::<StepRecord>(STEPS, &record) else { return Ok(None) };
        if !record.layer.is_in(store)? {
            return Ok(None);
        }
        let StepRecord { created, layer, kept } = record;
        Ok(Some(Arc::new(StepOutput::new(key.to_owned(), created, packed(layer), kept).on(basis))))
    }

    async fn found_elsewhere(&self, wanted: &Wanted) -> Option<Arc<StepOutput>> {
        let remote = self.remote.as_ref().filter(|remote| remote.keeps(wanted.kind))?;
        let Entry { key, created, layer, .. } = remote.find(&wanted.key).await?;
        if let Some(asked) = wanted.asked.clone() {
            let (remote, key) = (remote.clone(), key.clone());
            lock(&self.packing).spawn(async move { remote.put_asked(&key, &asked).await });
        }
        Some(Arc::new(StepOutput::elsewhere(key, created, layer)))
    }

    /// A step's layer, which is in the store from then on.
    pub(super) async fn layer(&self, step: &StepOutput) -> Result<Layer> {
        let record = step.layer().await?;
        if let (Some(fetched), Some(remote)) = (&step.fetched, &self.remote) {
            let fetch = || async {
                remote.fetch(&step.key, &record).await?;
                remember(&self.tools, step, &record)
            };
            fetched.get_or_try_init(fetch).await?;
        }
        Ok(record.layer(&self.tools.transport.store))
    }

    /// The layers of several steps, fetched side by side.
    pub(super) async fn layers(&self, steps: &[Arc<StepOutput>]) -> Result<Vec<Layer>> {
        concurrently(steps.iter().map(|step| self.layer(step)), self.tools.transport.jobs).await
    }

    /// Takes what a step made, and starts to pack it.
    fn made(&self, wanted: &Wanted, made: Executed) -> Arc<StepOutput> {
        let Executed { mut tree, kept, guards, with_caches } = made;
        let of_cache = with_caches || wanted.on_cached;
        let basis = if of_cache { self.caches.basis() } else { Basis::Key };
        if let Some(epoch) = self.job.epoch {
            tree.clamp_times(epoch);
        }
        let (sender, receiver) = watch::channel(None);
        // Changes of a sandbox are read from its folder; others are needed by the next steps.
        let own = kept.is_none().then(|| tree.clone());
        let created = self.job.created();
        let step = StepOutput::new(wanted.key.clone(), created, receiver, kept).on(basis);
        let step = Arc::new(step.holding(own, guards));
        let packing = self.pack(tree, step.clone(), sender);
        let remote = self.remote.clone().filter(|remote| remote.keeps(wanted.kind));
        let remote = remote.filter(|_| self.gives_away(of_cache));
        let (made, asked, executed) = (step.clone(), wanted.asked.clone(), self.job.now);
        lock(&self.packing).spawn(async move {
            let packed = packing.await;
            if let (Some(remote), Some(layer)) = (remote, packed) {
                let (key, created) = (made.key.clone(), made.created.clone());
                let entry = Entry { key, created, executed, layer };
                remote.put(&entry, asked.as_deref()).await;
            }
        });
        step
    }

    /// Packs what a step made; gives the layer, where that worked.
    fn pack(
        &self,
        tree: Tree,
        step: Arc<StepOutput>,
        sender: watch::Sender<Option<Result<LayerRecord, NotPacked>>>,
    ) -> impl Future<Output = Option<LayerRecord>> + Send + use<> {
        let (tools, turn) = (self.tools.clone(), self.turn.clone());
        let packer = Packer {
            transport: tools.transport.clone(),
            encoding: self.job.encoding,
            threads: tools.cores,
        };
        let name = step.key[..8.min(step.key.len())].to_owned();
        async move {
            let turn = turn.acquire_owned().await;
            let packing = blocking(move || {
                let layer = packer.pack(&name, &tree)?;
                remember(&tools, &step, &layer)?;
                Ok(layer)
            });
            let packed = packing.await.map_err(|error| NotPacked::of(&error));
            drop(turn);
            // The task that waits for the layer reports a failure; without one it is not needed.
            let _ = sender.send(Some(packed.clone()));
            packed.ok()
        }
    }

    /// Waits for all layers that are being packed, and until they are where other machines find them.
    pub(super) async fn finish_packing(&self) {
        let mut all = std::mem::take(&mut *lock(&self.packing));
        while all.join_next().await.is_some() {}
    }

    /// The files of a snapshot for looking at. Makes a root file system only of what was not made by
    /// this process without one.
    pub(super) async fn files(&self, snapshot: &Snapshot) -> Result<Arc<dyn Files>> {
        let own = snapshot.steps.iter().rev().take_while(|step| step.tree.is_some()).count();
        let below = snapshot.up_to(snapshot.steps.len() - own);
        let view: Arc<dyn Files> = if below.base.is_none() && below.steps.is_empty() {
            Arc::new(crate::dockerfile::files::TreeFiles::default())
        } else {
            let rootfs = self.rootfs(&below).await?;
            Arc::new(ViewFiles(blocking(move || rootfs.view()).await?))
        };
        if own == 0 {
            return Ok(view);
        }
        let steps = snapshot.steps[snapshot.steps.len() - own..].to_vec();
        Ok(Arc::new(Merged { steps, below: view }))
    }

    /// The root file system of a snapshot.
    pub(super) async fn rootfs(&self, snapshot: &Snapshot) -> Result<Rootfs> {
        let cell = flight(&self.roots, &snapshot.key);
        cell.get_or_try_init(|| self.make_rootfs(snapshot)).await.cloned()
    }

    async fn make_rootfs(&self, snapshot: &Snapshot) -> Result<Rootfs> {
        let unpacker = self.workshop().await?.unpacker.clone();
        let (at, kept) = kept(&unpacker, snapshot)?;
        let rest = &snapshot.steps[at..];
        if rest.iter().any(|step| step.tree.is_none()) {
            let image = self.image(snapshot).await?;
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
            let tools = self.tools.clone();
            rootfs = blocking(move || {
                let fork = rootfs.fork()?;
                if let Some(tree) = &step.tree {
                    fork.apply(tree)?;
                }
                let (rootfs, id) = fork.keep(step.tree.as_ref())?;
                step.keep(id);
                if let Some(layer) = step.packed() {
                    remember(&tools, &step, &layer)?;
                }
                Ok(rootfs)
            })
            .await?;
        }
        Ok(rootfs)
    }

    /// Takes note that an image will be kept here whose base this is: its layers are stored as they
    /// come, and not fetched a second time.
    pub(super) fn store_layers_of(&self, base: &Image) {
        lock(&self.stored).insert(base.manifest.digest().clone());
    }

    /// A snapshot as an image, its layers packed.
    pub(super) async fn image(&self, snapshot: &Snapshot) -> Result<Image> {
        let mut draft = self.draft(snapshot);
        for layer in self.layers(&snapshot.steps).await? {
            draft.push_layer(layer, crate::oci::History::default());
        }
        Ok(draft.finish())
    }

    /// An image in the making on a snapshot's base.
    pub(super) fn draft(&self, snapshot: &Snapshot) -> Draft {
        match &snapshot.base {
            Some(base) => Draft::from_base(base),
            None => Draft::scratch(self.tools.host().clone()),
        }
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

fn remember(tools: &Tools, step: &StepOutput, layer: &LayerRecord) -> Result<()> {
    let record =
        StepRecord { created: step.created.clone(), layer: layer.clone(), kept: step.kept() };
    match step.basis.record_key(&step.key) {
        Some(key) => tools.transport.store.put_record(STEPS, &key, &record),
        None => Ok(()),
    }
}

/// The cell that all who want the same share.
fn flight<T>(cells: &Mutex<BTreeMap<String, Arc<OnceCell<T>>>>, key: &str) -> Arc<OnceCell<T>> {
    lock(cells).entry(key.to_owned()).or_default().clone()
}

/// What a mutex guards, also after a panic of another thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
