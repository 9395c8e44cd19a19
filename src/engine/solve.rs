//! Looks ops up, has each executed once, and packs what it made while others are executed.

mod look_up;
mod made;
mod plan;
mod settle;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;

use super::backend::{Backend, Entry};
use super::basis::Basis;
use super::cancel::Waiting;
use super::execute::{Execute, Inputs, OpError, Prepared, Run, Table};
use super::materials::{BaseImage, Collected, GO_CACHES, Materials};
use super::notebook::{self, MOST_FILES, Notebook, Place, Read};
use super::op::{Op, StepKind};
use super::output::{Executed, NotPacked, StepOutput};
use super::pack::{LayerRecord, Packer};
use super::snapshot::Snapshot;
use crate::blocking::blocking_or;
use crate::error::{Error, Result};
use crate::image::{Draft, Image, Layer};
use crate::layer::{Encoding, Tree};
use crate::oci::History;
use crate::progress::{Explanation, Origin, Task, TaskKind};
use crate::transport::{Context, concurrently};
use look_up::{Definition, Wanted, works_on_cached};
use made::{Made, works_on_others};
use versions::Versions;

pub use plan::{Fate, PlannedStep, Planner};

/// What is said when steps are executed once more.
const LOST: &str = "what earlier steps left in Go's caches is gone: they are executed again";

/// Why a step is executed whose result was made of other files.
const OTHERS: &str = "a program below it was executed and came out otherwise";

/// An op whose output is wanted.
pub struct Step {
    /// What it does.
    pub op: Op,
    /// What the names in it stand for.
    pub inputs: Inputs,
    /// What messages call it.
    pub label: String,
    /// The flag that says that results of earlier builds are passed over, where one does.
    pub passed_over: Option<&'static str>,
    /// Where it is in the build, for explanations.
    pub place: Place,
}

/// How a solver works.
#[derive(Clone)]
pub struct SolveOptions {
    /// The store, the registry client, and the reader of progress.
    pub transport: Context,
    /// How layers are compressed.
    pub encoding: Encoding,
    /// No file and no document is younger than this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// The present, in seconds since 1970.
    pub now: i64,
    /// Results that the store remembers count for this long; for ever where nothing is said.
    pub longest_age: Option<Duration>,
    /// How many things can usefully run at once.
    pub cores: usize,
    /// Whether it is told how each output came to be.
    pub explain: bool,
}

impl SolveOptions {
    /// The time that is written wherever one is needed.
    pub fn time(&self) -> i64 {
        self.epoch.unwrap_or(self.now)
    }

    /// The time as configurations write it.
    pub fn created(&self) -> String {
        jiff::Timestamp::from_second(self.time()).unwrap_or_default().to_string()
    }

    /// Results that were executed before this count as absent, in seconds since 1970.
    fn oldest(&self) -> Option<i64> {
        let age = self.longest_age?;
        Some(self.now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)))
    }
}

/// The steps of all stages and platforms of one attempt at a build.
pub struct Solver {
    options: SolveOptions,
    executor: Arc<dyn Execute>,
    table: Arc<Table>,
    /// Results that other machines know.
    backend: Option<Arc<dyn Backend>>,
    /// Steps that are being looked up or executed, by their keys: each one once.
    in_flight: Cells<Arc<StepOutput>>,
    /// Programs whose results were found, by their keys.
    reused: Mutex<BTreeMap<String, Arc<Reused>>>,
    /// Those that were executed nevertheless, for what they leave in caches.
    replayed: Cells<()>,
    /// Programs that were executed, also by earlier attempts at the build.
    made: Mutex<Made>,
    /// Layers that are being packed or put elsewhere.
    packing: Mutex<JoinSet<()>>,
    /// Whether some step is executed, and not only looked up.
    began: watch::Sender<bool>,
    /// Layers are packed one after the other, each on all cores.
    turn: Arc<Semaphore>,
    /// What steps were made of before; none where the store keeps no notes.
    notebook: OnceLock<Option<Arc<Notebook>>>,
    /// Whether it was said that a program has a variable that nobody wrote.
    noted: AtomicBool,
    /// What the build is made of.
    collected: Collected,
}

/// Cells by the keys of what is in them.
type Cells<T> = Mutex<BTreeMap<String, Arc<OnceCell<T>>>>;

/// A program that was not run, for its result was found.
struct Reused {
    op: Arc<Op>,
    inputs: Inputs,
    label: String,
}

/// What is being done for one step.
struct Job<'a> {
    op: Arc<Op>,
    inputs: &'a Inputs,
    label: &'a str,
    passed_over: Option<&'static str>,
    /// Whether earlier results may have been made of other files.
    on_others: bool,
    /// None where nothing is noted or told.
    place: Option<&'a Place>,
    task: &'a Arc<Task>,
    waiting: &'a Waiting,
}

impl Job<'_> {
    /// Whether results of earlier builds count.
    fn uses_cache(&self) -> bool {
        self.passed_over.is_none() && !self.on_others
    }

    fn wanted<'a>(&'a self, key: &'a str, definition: Option<&'a Definition>) -> Wanted<'a> {
        Wanted {
            key,
            definition,
            versions: Versions::of(&self.op, self.inputs),
            label: self.label,
            kind: self.op.kind(),
            use_cache: self.uses_cache(),
            on_cached: works_on_cached(&self.op, self.inputs),
        }
    }
}

impl Solver {
    /// Makes a solver.
    pub fn new(
        options: SolveOptions,
        executor: Arc<dyn Execute>,
        table: Arc<Table>,
        backend: Option<Arc<dyn Backend>>,
    ) -> Self {
        Self {
            options,
            executor,
            table,
            backend,
            in_flight: Mutex::default(),
            reused: Mutex::default(),
            replayed: Mutex::default(),
            made: Mutex::default(),
            packing: Mutex::default(),
            began: watch::channel(false).0,
            turn: Arc::new(Semaphore::new(1)),
            notebook: OnceLock::new(),
            noted: AtomicBool::new(false),
            collected: Collected::default(),
        }
    }

    /// One for another attempt at the same build.
    #[must_use]
    pub fn anew(&self) -> Self {
        let (executor, table) = (self.executor.clone(), self.table.clone());
        let solver = Self::new(self.options.clone(), executor, table, self.backend.clone());
        Self { made: Mutex::new(lock(&self.made).clone()), ..solver }
    }

    /// What names in ops stand for.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// How it works.
    pub fn options(&self) -> &SolveOptions {
        &self.options
    }

    /// What executes.
    pub fn executor(&self) -> &dyn Execute {
        self.executor.as_ref()
    }

    /// The output of a step: found, or made by executing it.
    pub async fn solve(&self, step: Step) -> Result<Arc<StepOutput>, OpError> {
        let Step { op, inputs, label, passed_over, place } = step;
        self.collected.op(&op);
        let reporter = &self.options.transport.reporter;
        let task = Arc::new(reporter.start(TaskKind::Step, label.clone(), None));
        let waiting = Waiting::new(&task);
        let label_of = label.clone();
        let (op, inputs, label) = (Arc::new(op), &inputs, label.as_str());
        let (place, task_of, waiting_of) = (Some(&place), &task, &waiting);
        let on_others = passed_over.is_none() && works_on_others(&op, inputs).await;
        let job = Job {
            op,
            inputs,
            label,
            passed_over,
            on_others,
            place,
            task: task_of,
            waiting: waiting_of,
        };
        let outcome = self.output(&job).await;
        drop(job);
        waiting.finish();
        let (output, origin) = outcome?;
        if output.basis != Basis::Key {
            self.collected.cache(GO_CACHES);
        }
        if origin != Origin::Executed {
            self.explain(&label_of, origin, Vec::new());
        }
        if let Some(task) = Arc::into_inner(task) {
            match origin {
                Origin::Store => task.skipped("cached"),
                Origin::Registry => task.skipped("cached in the registry"),
                Origin::Executed => task.done(),
            }
        }
        Ok(output)
    }

    async fn output(&self, job: &Job<'_>) -> Result<(Arc<StepOutput>, Origin), OpError> {
        // What steps and images left need not be looked at where that was done before.
        let definition = Definition::of(&job.op, job.inputs);
        let given_away = definition.as_ref().filter(|known| self.gives_away(known.on_cached));
        if let Some(definition) = definition.as_ref().filter(|_| job.uses_cache())
            && let Some(key) = self.alias(definition, job.op.kind()).await?
            && let Some(found) = self.known(&job.wanted(&key, given_away)).await?
        {
            return Ok(found);
        }
        let mut prepared = self.executor.prepare(job.op.clone(), job.inputs.clone()).await?;
        let mut job = Job { op: job.op.clone(), ..*job };
        if let Some(op) = self.settled(&job, prepared.as_ref()).await? {
            prepared = self.executor.prepare(op.clone(), job.inputs.clone()).await?;
            job.op = op;
        }
        let job = &job;
        let digests = prepared.digests();
        self.collected.read(&job.op, &digests);
        let key = job.op.key(&digests);
        if let Some(definition) = &definition {
            self.put_alias(definition, &key)?;
        }
        let execute = || self.execute(job, &key, prepared);
        let (output, origin) = self.once(&job.wanted(&key, given_away), execute).await?;
        if job.op.kind() == StepKind::Run && origin != Origin::Executed {
            let (op, inputs, label) = (job.op.clone(), job.inputs.clone(), job.label.to_owned());
            lock(&self.reused).insert(key, Arc::new(Reused { op, inputs, label }));
        }
        Ok((output, origin))
    }

    /// The output for a key, found or made by `execute`, whoever asks first.
    async fn once<F, E>(
        &self,
        wanted: &Wanted<'_>,
        execute: impl FnOnce() -> F,
    ) -> Result<(Arc<StepOutput>, Origin), E>
    where
        F: Future<Output = Result<Executed, E>>,
        E: From<Error>,
    {
        let cell = cell(&self.in_flight, wanted.key);
        let mut origin = Origin::Store;
        let output = cell.get_or_try_init(|| async {
            if let Some((found, from)) = self.recall(wanted).await? {
                if from == Origin::Store {
                    self.give_known(wanted, &found);
                }
                origin = from;
                return Ok::<_, E>(found);
            }
            origin = Origin::Executed;
            let executed = execute().await?;
            Ok(self.take(wanted, executed))
        });
        let output = output.await?.clone();
        Ok((output, origin))
    }

    /// Executes an op; and again, where what steps below left in caches had to be made again.
    async fn execute(
        &self,
        job: &Job<'_>,
        key: &str,
        prepared: Box<dyn Prepared>,
    ) -> Result<Executed, OpError> {
        self.began.send_replace(true);
        let note = self.note(job, key, prepared.as_ref());
        let (mut prepared, mut replayed) = (prepared, BTreeSet::new());
        loop {
            let (task, cancel) = (job.task.clone(), job.waiting.token());
            let run = Run { key: key.to_owned(), task, cancel };
            let failed = match prepared.execute(run).await {
                Ok(executed) => {
                    if let Some(note) = note {
                        lock(&self.packing).spawn(note);
                    }
                    return Ok(executed);
                }
                Err(failed) => failed,
            };
            let lost = failed.lost.iter().filter(|key| !replayed.contains(*key));
            let lost = lost.filter_map(|key| {
                let reused = lock(&self.reused).get(key).cloned()?;
                Some((key.clone(), reused))
            });
            let lost: Vec<(String, Arc<Reused>)> = lost.collect();
            if lost.is_empty() {
                return Err(failed);
            }
            self.executor.forget();
            for (key, reused) in lost {
                self.replay(&key, &reused).await?;
                replayed.insert(key);
            }
            prepared = self.executor.prepare(job.op.clone(), job.inputs.clone()).await?;
        }
    }

    /// Tells why an op is executed, where that was asked for; gives what takes note of what it is made
    /// of, once it was. Nothing that goes wrong here matters to the build.
    fn note(
        &self,
        job: &Job<'_>,
        key: &str,
        prepared: &dyn Prepared,
    ) -> Option<BoxFuture<'static, ()>> {
        let place = job.place?.clone();
        let notebook = self.notebook()?;
        let read = Read { digests: prepared.digests(), files: prepared.files(MOST_FILES) };
        let materials = notebook.materials(&job.op, job.inputs, Some(read));
        if self.options.explain {
            let versions = Versions::of(&job.op, job.inputs);
            let is_of_others = || job.on_others || self.is_made_of_others(key, &versions);
            let why = match job.passed_over {
                None => match notebook.why(&place, &materials) {
                    why if why == [notebook::LOST] && is_of_others() => vec![OTHERS.to_owned()],
                    why => why,
                },
                Some(flag) => vec![flag.to_owned()],
            };
            self.explain(job.label, Origin::Executed, why);
        }
        let keep = blocking_or(move || notebook.keep(&place, &materials));
        Some(async move { drop(keep.await) }.boxed())
    }

    /// What steps were made of before.
    fn notebook(&self) -> Option<Arc<Notebook>> {
        let store = &self.options.transport.store;
        self.notebook.get_or_init(|| Notebook::open(store).ok().map(Arc::new)).clone()
    }

    fn explain(&self, label: &str, origin: Origin, why: Vec<String>) {
        if self.options.explain {
            let (kind, name) = (TaskKind::Step, label.to_owned());
            self.options.transport.reporter.explain(Explanation { kind, name, origin, why });
        }
    }

    /// Executes a program whose result is known, for what it leaves in caches.
    async fn replay(&self, key: &str, reused: &Reused) -> Result<(), OpError> {
        let cell = cell(&self.replayed, key);
        let replay = || async {
            let reporter = &self.options.transport.reporter;
            if lock(&self.replayed).len() == 1 {
                reporter.note(LOST);
            }
            let Reused { op, inputs, label } = reused;
            let task = Arc::new(reporter.start(TaskKind::Step, label.clone(), None));
            let waiting = Waiting::new(&task);
            let (op, task_of) = (op.clone(), &task);
            let job = Job {
                op,
                inputs,
                label,
                passed_over: Some(LOST),
                on_others: false,
                place: None,
                task: task_of,
                waiting: &waiting,
            };
            let prepared = self.executor.prepare(job.op.clone(), inputs.clone()).await?;
            let executed = Box::pin(self.execute(&job, key, prepared)).await;
            drop(job);
            waiting.finish();
            executed?;
            if let Some(task) = Arc::into_inner(task) {
                task.done();
            }
            Ok::<_, OpError>(())
        };
        cell.get_or_try_init(replay).await?;
        Ok(())
    }

    /// Waits until some step is executed: from then on others will be, too.
    pub async fn until_begun(&self) {
        let mut began = self.began.subscribe();
        // The sender lives as long as this does.
        let _ = began.wait_for(|began| *began).await;
    }

    /// Whether other machines may have a result, which may have come of a cache.
    fn gives_away(&self, of_cache: bool) -> bool {
        !of_cache || self.table.scope.gives_results_away()
    }

    /// Where a result of a kind goes for other machines, if they may have it.
    fn receiver(&self, kind: StepKind, of_cache: bool) -> Option<Arc<dyn Backend>> {
        let backend = self.backend.clone().filter(|backend| backend.keeps(kind));
        backend.filter(|_| self.gives_away(of_cache))
    }

    /// Gives other machines what was executed here before, where they do not have it.
    fn give_known(&self, wanted: &Wanted<'_>, found: &StepOutput) {
        let of_cache = found.basis != Basis::Key || wanted.on_cached;
        let Some(backend) = self.receiver(wanted.kind, of_cache) else { return };
        let Some(entry) = found.entry() else { return };
        let definition = wanted.definition.cloned();
        lock(&self.packing).spawn(async move {
            if backend.find(&entry.key).await.is_none() {
                give(backend.as_ref(), &entry, definition).await;
            }
        });
    }

    /// Takes what an op made, and starts to pack it.
    fn take(&self, wanted: &Wanted<'_>, executed: Executed) -> Arc<StepOutput> {
        let Executed { mut tree, kept, guards, with_caches } = executed;
        let of_cache = with_caches || wanted.on_cached;
        let basis = if of_cache { Basis::of(&self.table.scope) } else { Basis::Key };
        if let Some(epoch) = self.options.epoch {
            tree.clamp_times(epoch);
        }
        let (sender, receiver) = watch::channel(None);
        // Changes of a sandbox are read from its folder; others are needed by the next steps.
        let tree = Arc::new(tree);
        let own = kept.is_none().then(|| tree.clone());
        let created = self.options.created();
        let output = StepOutput::new(wanted.key.to_owned(), created, receiver, kept).on(basis);
        let output = output.executed_at(self.options.now).of_kind(wanted.kind);
        let output = output.instead_of(self.made(wanted.kind, wanted.key));
        let output = Arc::new(output.holding(own, guards).with_label(wanted.label));
        let packing = self.pack((tree, wanted.versions.clone()), output.clone(), sender);
        let backend = self.receiver(wanted.kind, of_cache);
        let definition = wanted.definition.cloned();
        let (made, executed) = (output.clone(), self.options.now);
        lock(&self.packing).spawn(async move {
            let packed = packing.await;
            if let (Some(backend), Some(layer)) = (backend, packed) {
                let (key, created) = (made.key.clone(), made.created.clone());
                let made_of = made.made_of().map(str::to_owned);
                let entry = Entry { key, created, executed, layer, made_of };
                give(backend.as_ref(), &entry, definition).await;
            }
        });
        output
    }

    /// Packs what an op made; gives the layer, where that worked.
    fn pack(
        &self,
        (tree, versions): (Arc<Tree>, Versions),
        output: Arc<StepOutput>,
        sender: watch::Sender<Option<Result<LayerRecord, NotPacked>>>,
    ) -> BoxFuture<'static, Option<LayerRecord>> {
        let SolveOptions { transport, encoding, cores, .. } = self.options.clone();
        let packer = Packer { transport, encoding, threads: cores };
        let turn = self.turn.clone();
        let name = output.key[..8.min(output.key.len())].to_owned();
        async move {
            // Those below are packed before: they have their turns without this one's.
            output.set_made_of(versions.known().await);
            let turn = turn.acquire_owned().await;
            let packing = blocking_or(move || {
                let layer = packer.pack(&name, &tree)?;
                output.remember(&packer.transport.store, &layer)?;
                Ok(layer)
            });
            let layer = packing.await.map_err(|error| NotPacked::of(&error));
            drop(turn);
            // Whoever waits for the layer says so if it failed; if nobody does, nobody needs it.
            let _ = sender.send(Some(layer.clone()));
            layer.ok()
        }
        .boxed()
    }

    /// Waits for all layers that are being packed, and until they are where other machines find them.
    pub async fn finish_packing(&self) {
        let mut all = std::mem::take(&mut *lock(&self.packing));
        while all.join_next().await.is_some() {}
    }

    /// Takes note of an image that the build uses.
    pub fn note_base(&self, base: BaseImage) {
        self.collected.base(base);
    }

    /// What the build is made of, as far as it was solved.
    pub fn materials(&self) -> Materials {
        self.collected.materials()
    }

    /// An image in the making on a snapshot's files, its layers packed.
    pub async fn draft(&self, snapshot: &Snapshot) -> Result<Draft> {
        snapshot.draft(&self.options.transport).await
    }
}

/// Puts a result where other machines find it, also by the definition that it was asked for with.
async fn give(backend: &dyn Backend, entry: &Entry, definition: Option<Definition>) {
    let definition = match definition {
        Some(definition) => Some(definition.known_key().await),
        None => None,
    };
    backend.put(entry, definition.as_deref()).await;
}

impl Snapshot {
    /// An image in the making on these files, their layers in the store.
    pub async fn draft(&self, transport: &Context) -> Result<Draft> {
        let mut draft = match &self.base {
            Some(base) => Draft::from_base(base),
            None => Draft::scratch(transport.host.clone()),
        };
        let layers = self.steps.iter().map(|step| step.stored_layer(&transport.store));
        let layers: Vec<Layer> = concurrently(layers, transport.jobs).await?;
        for layer in layers {
            draft.push_layer(layer, History::default());
        }
        Ok(draft)
    }

    /// These files as an image.
    pub async fn image(&self, transport: &Context) -> Result<Image> {
        Ok(self.draft(transport).await?.finish())
    }
}

/// The cell that all who want the same share.
fn cell<T>(cells: &Cells<T>, key: &str) -> Arc<OnceCell<T>> {
    lock(cells).entry(key.to_owned()).or_default().clone()
}

/// What a mutex guards, also after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
