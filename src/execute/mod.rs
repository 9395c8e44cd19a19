//! Executes ops: on root file systems, in sandboxes.
//!
//! ```text
//!   Exec ─► mounts, caches ─► fork of the base's files ─► sandbox ─► changes ─┐
//!   Copy ─► select ─► digest ─► place ────────────────────────────────────────┼─► Executed
//!   Take, MakeFolder ─────────────────────────────────────────────────────────┘
//! ```
//! A root file system is made only for what needs one: a program. Files that no program is executed on are
//! looked at where they are: in a root file system that is there already, as this process made them, or listed
//! in their layers. Where no sandbox works, nothing is unpacked, and programs of Go alone are executed, on the
//! host.

mod agent;
mod attend;
mod cache_mounts;
mod context_files;
mod exec;
mod file_op;
mod files;
mod go_cache;
mod go_modules;
mod host;
mod levels;
mod listed;
mod merged;
mod mounts;
mod place;
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::engine::op::Action;
use crate::engine::{Execute, Inputs, Op, OpError, Prepared, Snapshot, Table};
use crate::error::Result;
use crate::image::Image;
use crate::oci::{Digest, Platform};
use crate::rootfs::Rootfs;
use crate::sandbox::{Chooser, Isolation, Launcher};
use crate::transport;
use cache_mounts::Caches;
use context_files::ContextFiles;
use listed::ListedFiles;
use place::Place;
use shell::FirstFailed;

/// An isolation that works here, and what starts processes on it.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What starts sandboxes.
    pub launcher: Launcher,
    /// How they isolate.
    pub isolation: Isolation,
}

/// What every executor has at its disposal.
#[derive(Clone)]
pub struct Tools {
    /// The store, the registry client, and the reader of progress.
    pub transport: transport::Context,
    /// Says which sandbox to use. Asked at most once, and only if something must be executed.
    pub isolation: Chooser,
    /// The environment variables that programs of this machine get.
    pub variables: BTreeMap<String, String>,
    /// How many things can usefully run at once.
    pub cores: usize,
}

impl Tools {
    /// The `PATH` of this machine's programs.
    fn path(&self) -> &str {
        self.variables.get("PATH").map_or("", String::as_str)
    }

    /// The platform of this machine.
    fn host(&self) -> &Platform {
        &self.transport.host
    }
}

/// Executes the ops of one build on this machine.
pub struct LocalExecutor(Arc<Executor>);

/// What executes ops.
struct Executor {
    tools: Tools,
    /// Where programs are executed, once that is known.
    place: OnceCell<Place>,
    /// What steps keep for each other.
    caches: OnceLock<Caches>,
    /// Root file systems by the keys of their snapshots.
    roots: Mutex<BTreeMap<String, Arc<OnceCell<Rootfs>>>>,
    /// Files that were listed, by the keys of their snapshots. Contents that steps took of them stay as
    /// long as the build lasts.
    listed: Mutex<BTreeMap<String, Arc<OnceCell<Arc<ListedFiles>>>>>,
    /// Copies of files of contexts that steps see, by what stands for them in keys.
    context_files: Mutex<BTreeMap<String, Arc<OnceCell<Arc<ContextFiles>>>>>,
    /// The keys of snapshots on which programs may be executed.
    expected: Mutex<BTreeSet<String>>,
    /// Bases whose layers become those of an image that is kept here.
    stored: Mutex<BTreeSet<Digest>>,
    /// The step that failed, if a shell is to be opened there.
    failed: FirstFailed,
    /// What was noted.
    noted: Mutex<BTreeSet<&'static str>>,
}

impl LocalExecutor {
    /// Makes an executor for one build.
    pub fn new(tools: Tools) -> Self {
        Self(Arc::new(Executor {
            tools,
            place: OnceCell::new(),
            listed: Mutex::default(),
            caches: OnceLock::new(),
            roots: Mutex::default(),
            context_files: Mutex::default(),
            expected: Mutex::default(),
            stored: Mutex::default(),
            failed: FirstFailed::default(),
            noted: Mutex::default(),
        }))
    }
}

impl Execute for LocalExecutor {
    fn prepare(
        &self,
        op: Arc<Op>,
        inputs: Inputs,
    ) -> BoxFuture<'_, Result<Box<dyn Prepared>, OpError>> {
        let executor = self.0.clone();
        async move {
            let prepared: Box<dyn Prepared> = match &op.action {
                Action::Exec(_) => Box::new(exec::prepare(executor, op, inputs).await?),
                Action::Copy(_) | Action::Take(_) | Action::MakeFolder { .. } => {
                    Box::new(file_op::prepare(executor, op, inputs).await?)
                }
            };
            Ok(prepared)
        }
        .boxed()
    }

    fn warm_up<'a>(&'a self, files: &'a Snapshot) -> BoxFuture<'a, ()> {
        async {
            // Whoever needs the files hears of what went wrong.
            let _ = self.0.rootfs(files).await;
        }
        .boxed()
    }

    fn expect_programs_on(&self, files: &Snapshot) {
        lock(&self.0.expected).insert(files.key.clone());
    }

    fn store_layers_of(&self, base: &Image) {
        lock(&self.0.stored).insert(base.manifest.digest().clone());
    }

    fn forget(&self) {
        lock(&self.0.roots).clear();
        lock(&self.0.context_files).clear();
        lock(&self.0.noted).clear();
        drop(lock(&self.0.failed).take());
    }

    fn after_failure(&self) -> BoxFuture<'_, Result<()>> {
        shell::open(&self.0.failed, &self.0.tools.transport.reporter).boxed()
    }
}

impl Executor {
    /// What steps keep for each other.
    fn caches(&self, table: &Table) -> &Caches {
        let store = &self.tools.transport.store;
        let make = || Caches::new(store.clone(), table.scope.clone(), table.shares_caches);
        self.caches.get_or_init(make)
    }

    /// Tells something that is worth telling once.
    fn note_once(&self, text: &'static str) {
        if lock(&self.noted).insert(text) {
            self.tools.transport.reporter.note(text);
        }
    }
}

/// What a mutex guards, also after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
