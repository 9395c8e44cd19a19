//! Programs that are executed in this build although there was a result before.
//!
//! Equal keys mean equal results, but a program may come out otherwise each time. What an earlier build
//! made of the earlier result must not stand in an image beside the new one. So what works on a new
//! result is looked up only if that is the one that was there before, and what is copied out of it is
//! read: there the content decides.

use std::collections::BTreeMap;

use super::{Solver, lock};
use crate::engine::basis::Basis;
use crate::engine::execute::{Inputs, Provider};
use crate::engine::op::{Action, Op, StepKind};
use crate::engine::output::{Before, StepOutput};
use crate::engine::snapshot::Snapshot;

/// What was there before programs were executed, by their keys.
pub(super) type Made = BTreeMap<String, Before>;

impl Solver {
    /// Takes note that a step was executed; says what was there before. Steps other than programs come
    /// out the same each time.
    pub(super) fn made(&self, kind: StepKind, key: &str) -> Option<Before> {
        if kind != StepKind::Run {
            return None;
        }
        let before = self.earlier(key).unwrap_or(Before::Nothing);
        let mut made = lock(&self.made);
        // Of two results of one build it is not known which one others were made of.
        let before = if made.contains_key(key) { Before::Unknown } else { before };
        made.insert(key.to_owned(), before.clone());
        Some(before)
    }

    /// What an earlier build made with a key.
    pub(super) fn earlier(&self, key: &str) -> Option<Before> {
        let store = &self.options.transport.store;
        let known = Basis::known(&self.table.scope);
        known.iter().find_map(|basis| StepOutput::before(store, key, basis))
    }

    /// An output that was found, which an earlier attempt at this build may have made.
    pub(super) fn perhaps_made(&self, output: StepOutput) -> StepOutput {
        match lock(&self.made).get(&output.key) {
            Some(before) => output.instead_of(before.clone()),
            None => output,
        }
    }
}

/// Whether results with the key of an op may have been made of other files than those that it has now.
/// It waits for layers only where programs were executed that had a result before.
pub(super) async fn works_on_others(op: &Op, inputs: &Inputs) -> bool {
    for snapshot in named_by_key(op, inputs) {
        if snapshot.differs().await {
            return true;
        }
    }
    false
}

/// Whether an op works on what a program left that was never executed before this build: then nothing
/// that is known was made of that.
pub(super) fn works_on_new(op: &Op, inputs: &Inputs) -> bool {
    named_by_key(op, inputs).into_iter().any(Snapshot::has_new)
}

/// Whether an op works on what a program left that is executed in this build.
pub(super) fn works_on_made(op: &Op, inputs: &Inputs) -> bool {
    named_by_key(op, inputs).into_iter().any(Snapshot::has_made)
}

/// The files that the key of an op names by their keys, and not by their contents.
pub(super) fn named_by_key<'a>(op: &Op, inputs: &'a Inputs) -> Vec<&'a Snapshot> {
    let mut all = vec![&inputs.base];
    if let Action::Exec(exec) = &op.action {
        all.extend(exec.binds().filter_map(|from| match inputs.get(from) {
            Ok(Provider::Snapshot(snapshot)) => Some(snapshot),
            Ok(Provider::Folder(_)) | Err(_) => None,
        }));
    }
    all
}
