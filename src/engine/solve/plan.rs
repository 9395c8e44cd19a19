//! What would become of steps, without executing one.
//!
//! The same ops are asked for by the same keys as in a build. A step that would be executed gives no
//! files, but mostly a key: that is made of the op and the keys below it. There are two cases in which it
//! is not known which key that is:
//!
//! - Files of the step have a say in its op (see `settle`), and they are not looked at, for that could
//!   mean to unpack an image. Then there are two keys, and all steps on it have several.
//! - A copy takes files of a stage or image, and nobody noted what these come to. Then any key is
//!   possible, also of all steps on it.
//!
//! A program that was never executed leaves what nothing was made of yet: all that works on it runs, whatever
//! its key is.
//!
//! Besides, programs that run may come out otherwise than before. What works on that is known by the key
//! that it had only if they do not, and what is copied out of it is not known before.
//!
//! If a step is known under none of its possible keys it runs, that is certain. If it is known under some
//! of several, only the execution of what is below it can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::look_up::{Definition, Wanted, works_on_cached};
use super::made::{works_on_made, works_on_new};
use super::settle::Question;
use super::versions::Versions;
use super::{OTHERS, Solver, Step, lock};
use crate::engine::execute::{Inputs, OpError, Prepared, Provider};
use crate::engine::notebook::{LOST, MOST_FILES, Place, Read};
use crate::engine::op::{Action, Input, Op, StepKind};
use crate::engine::output::{Before, StepOutput};
use crate::engine::pack::LayerRecord;
use crate::progress::Origin;

/// How many keys a step can have until it could have any: a dozen steps with two each.
const MOST_KEYS: usize = 4096;

/// What would become of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its result is known.
    Known {
        /// To whom.
        origin: Origin,
        /// What it added.
        layer: Option<LayerRecord>,
    },
    /// It would be executed.
    Runs,
    /// That depends on what steps below it come out as.
    Unknown,
}

/// A step as a build would find it.
pub struct PlannedStep {
    /// What stands for its output: steps on it are planned with that.
    pub output: Arc<StepOutput>,
    /// What would become of it.
    pub fate: Fate,
    /// Why, where there is more to say. Names and paths, and no values.
    pub why: Vec<String>,
}

/// Plans the steps of one build, those below first.
#[derive(Default)]
pub struct Planner {
    /// The keys that a step can have which was planned, where it is not the one that stands for it: none
    /// for any.
    possible: Mutex<BTreeMap<String, Vec<String>>>,
    /// The keys of steps that run.
    running: Mutex<BTreeSet<Vec<String>>>,
}

/// What a step is made of, as far as that is known.
struct Candidates {
    /// The keys that it can have; none for any.
    keys: Vec<String>,
    /// The ops for the first of these, of which each may be meant.
    ops: Vec<Op>,
    prepared: Option<Box<dyn Prepared>>,
}

/// What is said of a step that may be another one, whatever it is.
const BELOW: &str = "it works on what a step below it leaves, which was not executed";
const READS: &str = "it reads files of a stage or image that were not looked at";
const SAME: &str = "the same step runs already, and once is enough";

impl Planner {
    /// Says what would become of a step.
    pub async fn plan(&self, solver: &Solver, step: Step) -> Result<PlannedStep, OpError> {
        let Step { op, inputs, label, passed_over, place } = step;
        let is_new = works_on_new(&op, &inputs);
        let use_cache = passed_over.is_none() && !is_new;
        let found = self.candidates(solver, &op, &inputs, use_cache).await?;
        let mut known = Vec::new();
        for key in &found.keys {
            let wanted = Wanted {
                key,
                definition: None,
                versions: Versions::of(&op, &inputs),
                label: &label,
                kind: op.kind(),
                use_cache,
                on_cached: works_on_cached(&op, &inputs),
            };
            known.extend(solver.recall(&wanted).await?);
        }
        let settled = !works_on_made(&op, &inputs);
        if let ([_], Some((output, origin)), true) = (&found.keys[..], known.first(), settled) {
            let fate = Fate::Known { origin: *origin, layer: output.packed() };
            return Ok(PlannedStep { output: output.clone(), fate, why: Vec::new() });
        }
        let runs = !use_cache || !found.keys.is_empty() && known.is_empty();
        let (fate, why) = match passed_over {
            Some(flag) => (Fate::Runs, vec![flag.to_owned()]),
            None if runs => (Fate::Runs, self.why(solver, &place, &inputs, &found)),
            None => (Fate::Unknown, vec![self.why_unknown(&op, &inputs).to_owned()]),
        };
        let output = Arc::new(self.stand_in(solver, &op, (fate == Fate::Runs, found.keys)));
        Ok(PlannedStep { output, fate, why })
    }

    /// What stands for the output of a step that can have these keys, and maybe runs for certain.
    fn stand_in(&self, solver: &Solver, op: &Op, (runs, keys): (bool, Vec<String>)) -> StepOutput {
        let key = match keys.first() {
            Some(first) => first.clone(),
            None => format!("unknown {}", op.definition()),
        };
        let was_executed = |key: &String| solver.earlier(key).is_some();
        let is_new = runs && !keys.is_empty() && !keys.iter().any(was_executed);
        if keys.len() != 1 {
            lock(&self.possible).insert(key.clone(), keys);
        }
        // A program may come out otherwise than the time before.
        let before = (op.kind() == StepKind::Run).then_some(if is_new {
            Before::Nothing
        } else {
            Before::Unknown
        });
        StepOutput::planned(key).of_kind(op.kind()).instead_of(before)
    }

    /// The keys that files with a key can have; none for any.
    fn keys_of(&self, key: &str) -> Vec<String> {
        lock(&self.possible).get(key).cloned().unwrap_or_else(|| vec![key.to_owned()])
    }

    fn has_one_key(&self, key: &str) -> bool {
        !lock(&self.possible).contains_key(key)
    }

    /// What a step can be.
    async fn candidates(
        &self,
        solver: &Solver,
        op: &Op,
        inputs: &Inputs,
        use_cache: bool,
    ) -> Result<Candidates, OpError> {
        // A look at files of a stage or image could mean to unpack it.
        let prepared = if copies_snapshot(op, inputs) {
            None
        } else {
            let op = Arc::new(op.clone());
            Some(solver.executor().prepare(op, inputs.clone()).await?)
        };
        let mut bases = self.keys_of(&op.base);
        let mut candidates = Candidates { keys: Vec::new(), ops: Vec::new(), prepared };
        if inputs.base.has_new() {
            // It runs with any of them: one is enough to go on with.
            bases.truncate(1);
        } else if !reads(op).iter().all(|key| self.has_one_key(key)) {
            return Ok(candidates);
        }
        for base in bases {
            let op = Op { base, ..op.clone() };
            let keys = if let Some(prepared) = &candidates.prepared {
                let digests = prepared.digests();
                keys(solver, &op, inputs, (&digests, use_cache), &mut candidates.ops).await?
            } else {
                if candidates.ops.is_empty() {
                    candidates.ops.push(op.clone());
                }
                copy_keys(solver, &op, inputs).await?
            };
            if keys.is_empty() || candidates.keys.len() + keys.len() > MOST_KEYS {
                candidates.keys.clear();
                break;
            }
            candidates.keys.extend(keys);
        }
        Ok(candidates)
    }

    /// Why a step runs: what differs from the time before. Of the ops that it can be the one counts from
    /// which less differs.
    fn why(
        &self,
        solver: &Solver,
        place: &Place,
        inputs: &Inputs,
        found: &Candidates,
    ) -> Vec<String> {
        if !found.keys.is_empty() && !lock(&self.running).insert(found.keys.clone()) {
            return vec![SAME.to_owned()];
        }
        let Some(notebook) = solver.notebook() else { return Vec::new() };
        let read = || {
            let prepared = found.prepared.as_ref()?;
            Some(Read { digests: prepared.digests(), files: prepared.files(MOST_FILES) })
        };
        let of = |op: &Op| notebook.why(place, &notebook.materials(op, inputs, read()));
        let why = found.ops.iter().map(of).min_by_key(Vec::len).unwrap_or_default();
        let is_of_others = || {
            let versions = found.ops.first().map(|op| Versions::of(op, inputs)).unwrap_or_default();
            found.keys.iter().any(|key| solver.is_made_of_others(key, &versions))
        };
        if why == [LOST] && is_of_others() { vec![OTHERS.to_owned()] } else { why }
    }

    fn why_unknown(&self, op: &Op, inputs: &Inputs) -> &'static str {
        if self.has_one_key(&op.base) && !inputs.base.has_made() { READS } else { BELOW }
    }
}

/// The keys of an op whose inputs were read, one or two; with the ops that have them, unless there are
/// some already.
async fn keys(
    solver: &Solver,
    op: &Op,
    inputs: &Inputs,
    (digests, use_cache): (&[Vec<u8>], bool),
    ops: &mut Vec<Op>,
) -> Result<Vec<String>, OpError> {
    let (keys, found) = match op.with_alternative() {
        None => (vec![op.key(digests)], vec![op.clone()]),
        Some(other) => {
            let question = Question::new(op, &other, digests, inputs);
            let answer = solver.answer(&question, use_cache).await?;
            let Question { plain, other: with, .. } = question;
            match answer {
                Some(true) => (vec![with], vec![other]),
                Some(false) => (vec![plain], vec![op.clone()]),
                None => (vec![plain, with], vec![op.clone(), other]),
            }
        }
    };
    if ops.is_empty() {
        *ops = found;
    }
    Ok(keys)
}

/// The key of a copy of what has a key, where it is known what that comes to.
async fn copy_keys(solver: &Solver, op: &Op, inputs: &Inputs) -> Result<Vec<String>, OpError> {
    let Some(definition) = Definition::of(op, inputs) else { return Ok(Vec::new()) };
    Ok(solver.alias(&definition, op.kind()).await?.into_iter().collect())
}

/// Whether an op takes files of a stage or image.
fn copies_snapshot(op: &Op, inputs: &Inputs) -> bool {
    let from = match &op.action {
        Action::Copy(copy) => &copy.from,
        Action::Take(from) => from,
        Action::Exec(_) | Action::MakeFolder { .. } => return false,
    };
    matches!(inputs.get(from), Ok(Provider::Snapshot(_)))
}

/// The keys of stages and images that an op reads.
fn reads(op: &Op) -> Vec<&str> {
    let inputs: Vec<&Input> = match &op.action {
        Action::Copy(copy) => vec![&copy.from],
        Action::Take(from) => vec![from],
        Action::Exec(exec) => exec.binds().collect(),
        Action::MakeFolder { .. } => Vec::new(),
    };
    let keys = inputs.into_iter().filter_map(|input| match input {
        Input::Snapshot(key) => Some(key.as_str()),
        Input::Local(_) => None,
    });
    keys.collect()
}
