//! Which results of programs something was made of.
//!
//! Equal keys mean equal results, but a program may come out otherwise each time it is executed, and a
//! store keeps the last result. What an earlier build made of another result has the same key as what this
//! build would make: it must not stand in an image beside the result that there is now. So results, and
//! answers about files, say which results of programs they were made of.

use std::sync::Arc;

use crate::engine::execute::Inputs;
use crate::engine::key::Key;
use crate::engine::op::Op;
use crate::engine::output::StepOutput;
use crate::engine::snapshot::Snapshot;
use crate::oci::Digest;

use super::made::named_by_key;

/// Results of programs, each of which may be another one in the next build.
#[derive(Clone, Default)]
pub(super) struct Versions(Vec<Arc<StepOutput>>);

impl Versions {
    /// Those in the files that the key of an op names by their keys, and not by their contents.
    pub(super) fn of(op: &Op, inputs: &Inputs) -> Self {
        let all = named_by_key(op, inputs).into_iter();
        Self(all.flat_map(|files| Self::of_files(files).0).collect())
    }

    /// Those in a stage's files.
    pub(super) fn of_files(files: &Snapshot) -> Self {
        Self(files.steps.iter().filter(|step| step.is_of_program()).cloned().collect())
    }

    /// What stands for them; nothing where there are none, or where a layer is not packed yet.
    pub(super) fn now(&self) -> Option<String> {
        let layers = self.0.iter().map(|step| Some(step.packed()?.diff_id));
        stands_for(&layers.collect::<Option<Vec<Digest>>>()?)
    }

    /// The same, once all layers are packed. What was made of a layer that could not be packed fits
    /// nowhere.
    pub(super) async fn known(&self) -> Option<String> {
        let mut layers = Vec::new();
        for step in &self.0 {
            match step.layer().await {
                Ok(layer) => layers.push(layer.diff_id),
                Err(_) => return Some(String::new()),
            }
        }
        stands_for(&layers)
    }

    /// Whether all their layers are packed.
    pub(super) fn are_known(&self) -> bool {
        self.0.iter().all(|step| step.packed().is_some())
    }
}

fn stands_for(layers: &[Digest]) -> Option<String> {
    let key = || Key::new("results of programs").list(layers.iter().map(Digest::as_str)).finish();
    (!layers.is_empty()).then(key)
}
