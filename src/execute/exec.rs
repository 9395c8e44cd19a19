//! Runs programs: each in a sandbox, on a fork of the files that it works on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::attend::{attend, failure};
use super::mounts::{self, Mounted};
use super::place::{Isolated, Place};
use super::shell::{self, Failed, FirstFailed};
use super::{Chosen, Executor, files, go_cache, go_modules, host};
use crate::blocking::blocking_or;
use crate::engine::op::{self, Action, ExecOp};
use crate::engine::{Executed, Guard, Inputs, OnFailure, Op, OpError, Prepared, ReadFile, Run};
use crate::error::{Error, Result};
use crate::rootfs::Fork;
use crate::sandbox::{Access, Exit, LowPorts, Network, Root, Spec, Stub};
use crate::store::Store;

/// A program whose mounts were read.
pub(super) struct Exec {
    executor: Arc<Executor>,
    op: Arc<Op>,
    inputs: Inputs,
    binds: mounts::Binds,
}

/// Reads the files that mounts show, and that only their contents name.
pub(super) async fn prepare(
    executor: Arc<Executor>,
    op: Arc<Op>,
    inputs: Inputs,
) -> Result<Exec, OpError> {
    let binds = mounts::read(exec_of(&op), &inputs).await?;
    Ok(Exec { executor, op, inputs, binds })
}

fn exec_of(op: &Op) -> &ExecOp {
    match &op.action {
        Action::Exec(exec) => exec,
        _ => unreachable!("it was asked which kind of op it is"),
    }
}

impl Prepared for Exec {
    fn digests(&self) -> Vec<Vec<u8>> {
        self.binds.digests()
    }

    fn files(&self, most: usize) -> Option<Vec<ReadFile>> {
        self.binds.files(most)
    }

    fn wants_alternative(&self) -> BoxFuture<'_, Result<bool, OpError>> {
        let op = exec_of(&self.op);
        async { Ok(go_modules::are_optional(&self.executor, op, &self.inputs).await?) }.boxed()
    }

    fn execute(self: Box<Self>, run: Run) -> BoxFuture<'static, Result<Executed, OpError>> {
        async move {
            match self.executor.place().await {
                Place::Sandbox(isolated) => self.in_sandbox(isolated, run).await,
                Place::Host(none) => {
                    let op = exec_of(&self.op);
                    host::execute(&self.executor, (op, &self.inputs), none, run).await
                }
            }
        }
        .boxed()
    }
}

impl Exec {
    async fn in_sandbox(&self, isolated: &Isolated, run: Run) -> Result<Executed, OpError> {
        let (executor, op) = (&*self.executor, exec_of(&self.op));
        let rootfs = executor.rootfs(&self.inputs.base).await?;
        let mut mounted =
            mounts::mount(executor, &isolated.unpacker, (op, &self.inputs), &self.binds).await?;
        if let Some(script) = &op.script {
            let (folder, fork) = mounts::script(&isolated.unpacker, &script.name, &script.text)?;
            mounted.bind(folder, SCRIPTS, Access::ReadOnly);
            mounted.guards.push(Arc::new(Mutex::new(fork)));
        }
        go_cache::mount(executor, &isolated.unpacker, (op, &self.inputs), &mut mounted).await?;
        let mut spec = spec(op, &self.inputs, &mut mounted)?;
        let tools = &executor.tools;
        if tools.transport.client.is_offline() {
            // The step's key says which network it has: what was executed with one is found all the same.
            spec.network = Network::None;
        }
        let foreign = (!op.platform.satisfies(tools.host())).then(|| op.platform.to_string());
        let chosen = isolated.chosen.clone();
        let guards = std::mem::take(&mut mounted.guards);
        let on_failure = self.inputs.table.on_failure;
        let shell = (on_failure == OnFailure::Shell)
            .then(|| Shell { command: op.shell.clone(), failed: executor.failed.clone() });
        let links = std::mem::take(&mut mounted.links);
        let store = tools.transport.store.clone();
        let key = run.key.clone();
        let executed = blocking_or(move || {
            run.cancel.check()?;
            let fork = rootfs.fork_in_place()?;
            let links = fork.link(&links)?;
            let spec = Spec { root: fork.root(), ..spec };
            Execution { chosen, spec, run, shell, on_failure, foreign, links, store }
                .run(fork, guards)
        });
        let executed: Result<Executed> = executed.await;
        let with_caches = mounted.with_caches;
        match (executed, &mounted.modules) {
            (Ok(executed), modules) => {
                if let Some(modules) = modules {
                    go_cache::filled(executor, op, modules, &key)?;
                }
                Ok(Executed { with_caches, ..executed })
            }
            (Err(error), Some(modules)) => {
                let lost = go_cache::lost(&self.inputs.base, modules);
                Err(OpError { lost, ..OpError::from(error) })
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Where scripts appear, as in BuildKit.
const SCRIPTS: &str = "/dev/pipes";

fn spec(op: &ExecOp, inputs: &Inputs, mounted: &mut Mounted) -> Result<Spec> {
    let root = Root::Overlay { layers: Vec::new(), changes: None };
    let mut spec = Spec::new(root, op.argv.clone());
    spec.env = op.environment.iter().cloned().collect::<BTreeMap<_, _>>();
    for (name, value) in inputs.variables.iter().cloned() {
        spec.env.entry(name).or_insert(value);
    }
    spec.env.extend(std::mem::take(&mut mounted.variables));
    let folder = op.folder.as_str();
    if folder.is_empty() { "/" } else { folder }.clone_into(&mut spec.cwd);
    spec.user.clone_from(&op.user);
    spec.mounts = std::mem::take(&mut mounted.mounts);
    spec.network = match op.network {
        op::Network::Host => Network::Host,
        op::Network::None => Network::None,
        op::Network::Private => Network::Private,
    };
    // A step serves nobody on this machine.
    spec.low_ports = LowPorts::Closed;
    spec.extra_hosts.clone_from(&op.hosts);
    spec.limits = op.limits.iter().map(|limit| limit.parse()).collect::<Result<_>>()?;
    spec.shared_memory_bytes = op.shared_memory_bytes;
    "buildkitsandbox".clone_into(&mut spec.hostname);
    Ok(spec)
}

/// A command about to be executed.
struct Execution {
    chosen: Chosen,
    spec: Spec,
    run: Run,
    /// The shell that a failure ends in.
    shell: Option<Shell>,
    on_failure: OnFailure,
    /// The platform of the command, where it is not this machine's.
    foreign: Option<String>,
    /// What was made in the fork to lead to mounts.
    links: Vec<Stub>,
    /// Where its files are.
    store: Store,
}

/// A shell to open if a command fails.
struct Shell {
    command: Vec<String>,
    failed: FirstFailed,
}

impl Execution {
    /// Executes it in `fork`; what `guards` hold lasts at least as long.
    fn run(mut self, fork: Fork, guards: Vec<Guard>) -> Result<Executed> {
        let task = self.run.task.clone();
        let ended = attend(&self.chosen, &self.spec, &self.run, move |line| task.line(line))?;
        if ended.exit.is_success() {
            return files::keep(fork, &[ended.child.stubs(), &self.links].concat());
        }
        let error = self.failed(&ended.exit, &ended.last);
        if let Some(Shell { command: shell, failed }) = self.shell.take() {
            let Self { chosen, spec, .. } = self;
            shell::keep(&failed, Failed { chosen, spec, shell, fork, guards });
        } else {
            fork.give_up();
        }
        Err(error)
    }

    fn failed(&self, exit: &Exit, last: &VecDeque<String>) -> Error {
        let program = self.spec.argv.first().map_or("", String::as_str);
        let error = failure(program, exit, last);
        match (exit, &self.foreign) {
            (Exit::NotExecutable(_), Some(platform)) => error.hint(format!(
                "register an emulator of {platform} with binfmt_misc, or compile natively: \
                 FROM --platform=$BUILDPLATFORM"
            )),
            (Exit::NotFound(_), _) => error.hint("the image has no such program"),
            _ if self.store.is_full() => error.hint(format!(
                "the disk of the store is full: free some space at {} (gondola cache prune), or set \
                 GONDOLA_HOME to a folder on another disk",
                self.store.root().display()
            )),
            _ => match self.on_failure {
                OnFailure::End(Some(next_move)) => error.hint(next_move),
                OnFailure::End(None) | OnFailure::Shell => error,
            },
        }
    }
}
