//! Steps that need no sandbox: go commands, executed on the host by the Go of the step's own image.
//!
//! ```text
//!   line ─► commands ─► Go out of the image ─► the step's sources, staged ─► go, confined ─► what changed
//! ```
//!
//! Such a step has the same key as in a sandbox, so its layer is the same to the last byte. That is why
//! `-trimpath` is asked for: without it Go writes the folders of sources into programs, and hashes them and
//! that of its own distribution into build IDs, so that no rewriting of paths makes up for others. What
//! cannot be the same, and what might execute code, is refused with what to do about it.

mod cache_folder;
mod command;
mod go_root;
mod line;
mod plan;
mod run;
mod sources;
mod stage;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::files::Wanted;
use super::mounts::{self, Mounted};
use super::place::NoSandbox;
use super::{Chosen, Executor, go_cache};
use crate::blocking::blocking_or;
use crate::engine::files::Files;
use crate::engine::op::{ExecOp, Network as OpNetwork};
use crate::engine::{Executed, Inputs, OpError, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Platform;
use crate::sandbox::{
    Isolation, Mount, NO_LANDLOCK, NO_LANDLOCK_FIX, Network, Unconfined, can_confine_files,
};
use cache_folder::CacheFolder;
use line::{NotHere, Refused};
use plan::{Facts, Plan, is_of_go};
use run::Step;
use stage::Stage;

/// Executes a step on the host, where it is one that can be.
pub(super) async fn execute(
    executor: &Executor,
    (op, inputs): (&ExecOp, &Inputs),
    none: &NoSandbox,
    run: Run,
) -> Result<Executed, OpError> {
    if !none.may_execute || !is_of_go(op) {
        return Err(none.error().into());
    }
    let executed = match none.unconfined {
        Unconfined::Refused if !can_confine_files() => Err(no_landlock().into()),
        unconfined => begin(executor, (op, inputs), unconfined, run).await,
    };
    executed.map_err(|wrong| match wrong {
        Wrong { error: NotHere::Failed(error), lost } => OpError { lost, ..OpError::from(error) },
        Wrong { error: NotHere::Refused(refused), .. } => refusal(refused, none).into(),
    })
}

/// Why a step was not executed, and what of others may be to blame.
struct Wrong {
    error: NotHere,
    lost: Vec<String>,
}

impl From<NotHere> for Wrong {
    fn from(error: NotHere) -> Self {
        Self { error, lost: Vec::new() }
    }
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        NotHere::Refused(refused).into()
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        NotHere::Failed(error).into()
    }
}

async fn begin(
    executor: &Executor,
    (op, inputs): (&ExecOp, &Inputs),
    unconfined: Unconfined,
    run: Run,
) -> Result<Executed, Wrong> {
    let plan = plan_of(executor, op, inputs).await?;
    let mut mounted = caches_of(executor, op, inputs).await?;
    let folders = go_cache::folders(executor, (op, inputs)).await?;
    executor.note_once(
        "no sandbox works here: go commands are executed by the image's own Go on this machine, confined \
         to the files that they need",
    );
    let store = &executor.tools.transport.store;
    let (stage, home) = (Stage::new(store.scratch_folder()?)?, store.scratch_folder()?);
    let caches = Caches::of(&folders, &mounted, (&plan, home.path()))?;
    let step = Step {
        chosen: Chosen {
            launcher: executor.tools.isolation.launcher.clone(),
            isolation: Isolation::Toolchain,
        },
        stage,
        home,
        plan,
        caches,
        network: match op.network {
            // The step's key says which network it has: what was executed with one is found all the same.
            OpNetwork::Host if !executor.tools.transport.client.is_offline() => Network::Host,
            OpNetwork::Host | OpNetwork::None | OpNetwork::Private => Network::None,
        },
        unconfined,
        here: executor.tools.variables.clone(),
        proxies: inputs.variables.clone(),
    };
    let (key, guards) = (run.key.clone(), std::mem::take(&mut mounted.guards));
    let done = blocking_or(move || {
        let done = step.execute(&run);
        drop(guards);
        done
    });
    match (done.await, &mounted.modules) {
        (Ok(executed), modules) => {
            if let Some(modules) = modules {
                go_cache::filled(executor, op, modules, &key)?;
            }
            Ok(Executed { with_caches: mounted.with_caches, ..executed })
        }
        (Err(error), Some(modules)) => {
            Err(Wrong { error, lost: go_cache::lost(&inputs.base, modules) })
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// What a step needs.
async fn plan_of(executor: &Executor, op: &ExecOp, inputs: &Inputs) -> Result<Plan, NotHere> {
    let host = executor.tools.host().clone();
    let commands = plan::commands(op, &host)?;
    let files = executor.files(&inputs.base, Wanted::Look).await?;
    let variables: BTreeMap<String, String> = op.environment.iter().cloned().collect();
    let own = Arc::new((op.clone(), variables, host));
    let root = {
        let (own, files) = (own.clone(), files.clone());
        blocking_or(move || facts(&own, files.as_ref()).go_root()).await?
    };
    let here = go_root::take_out(executor, &inputs.base, &root).await?;
    blocking_or(move || {
        Plan::of(&facts(&own, files.as_ref()), commands, files.clone(), (root, here))
    })
    .await
}

fn facts<'a>(
    own: &'a (ExecOp, BTreeMap<String, String>, Platform),
    files: &'a dyn Files,
) -> Facts<'a> {
    let (op, variables, host) = own;
    Facts { op, files, variables, host }
}

/// The caches of a step: those that it asks for, and those that it gets without asking.
async fn caches_of(executor: &Executor, op: &ExecOp, inputs: &Inputs) -> Result<Mounted, NotHere> {
    let unpacker = executor.unpacker(Isolation::Toolchain);
    let in_whole = |wrong: OpError| wrong.error;
    let binds = mounts::read(op, inputs).await.map_err(in_whole)?;
    let mounted = mounts::mount(executor, &unpacker, (op, inputs), &binds).await;
    let mut mounted = mounted.map_err(in_whole)?;
    go_cache::mount(executor, &unpacker, (op, inputs), &mut mounted).await?;
    Ok(mounted)
}

/// Why an image's Go does not run here: it is somebody else's program, as those of other steps are.
fn no_landlock() -> Refused {
    Refused::new(NO_LANDLOCK, NO_LANDLOCK_FIX)
}

/// Where Go's caches are on this machine.
struct Caches {
    build: CacheFolder,
    modules: CacheFolder,
}

impl Caches {
    /// `folders` are where the step has them.
    fn of(
        folders: &[(&'static str, String)],
        mounted: &Mounted,
        (plan, home): (&Plan, &Path),
    ) -> Result<Self, Refused> {
        let mut found = Vec::new();
        for (kind, folder) in folders {
            let own = mounted.go.iter().find(|(known, _)| known == kind);
            match own
                .map(|(_, place)| CacheFolder::whole(place.clone()))
                .or_else(|| asked_for(mounted, folder))
            {
                Some(place) => found.push(place),
                // Nothing is written there.
                None if !plan.uses_caches() => found.push(CacheFolder::whole(home.join(kind))),
                None => {
                    let why = format!("what go writes to {folder} becomes a part of the image");
                    let fix = "leave --no-go-cache out, and have nothing read or mounted there";
                    return Err(Refused::new(why, fix));
                }
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(build), Some(modules)) => Ok(Self { build, modules }),
            _ => unreachable!("a step has two caches"),
        }
    }
}

/// The cache that a step asks for at a folder or above it.
fn asked_for(mounted: &Mounted, folder: &str) -> Option<CacheFolder> {
    mounted.mounts.iter().find_map(|mount| match mount {
        Mount::Own { source, target, .. } => {
            let rest = folder.strip_prefix(target.trim_end_matches('/'))?;
            let is_there = rest.is_empty() || rest.starts_with('/');
            is_there.then(|| CacheFolder::part(source.clone(), rest))
        }
        _ => None,
    })
}

/// Why a step is not executed, beside why there is no sandbox for it.
fn refusal(refused: Refused, none: &NoSandbox) -> Error {
    let Refused { why, fix } = refused;
    let error = Error::new(ErrorKind::Unsupported, "execute the step without a sandbox");
    error.because(format!("{why} (no sandbox: {})", none.why())).hint(fix)
}
