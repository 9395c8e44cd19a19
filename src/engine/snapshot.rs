//! The file system of a stage at one point: a base, and what steps added.
//!
//! Nothing of it is touched as long as only its key is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::basis::Basis;
use super::op::SourceOp;
use super::output::StepOutput;
use crate::image::Image;

/// A base and steps on it.
#[derive(Clone)]
pub struct Snapshot {
    /// Equal keys mean equal files.
    pub key: String,
    /// The base, unless it is scratch.
    pub base: Option<Arc<Image>>,
    /// The steps, in order.
    pub steps: Vec<Arc<StepOutput>>,
}

impl Snapshot {
    /// Nothing.
    pub fn scratch() -> Self {
        Self { key: SourceOp::Scratch.key(), base: None, steps: Vec::new() }
    }

    /// An image without steps. Its files are those that its diff IDs name.
    pub fn of_image(image: Arc<Image>) -> Self {
        let source = SourceOp::Image(image.config.value().rootfs.diff_ids.clone());
        Self { key: source.key(), base: Some(image), steps: Vec::new() }
    }

    /// With one step more.
    #[must_use]
    pub fn with(&self, step: Arc<StepOutput>) -> Self {
        let mut steps = self.steps.clone();
        let key = step.key.clone();
        steps.push(step);
        Self { key, base: self.base.clone(), steps }
    }

    /// Whether anything in it came of a cache.
    pub fn has_cached(&self) -> bool {
        self.steps.iter().any(|step| step.basis != Basis::Key)
    }

    /// Whether anything in it is of a program that is executed in this build.
    pub(super) fn has_made(&self) -> bool {
        self.steps.iter().any(|step| step.is_made())
    }

    /// Whether anything in it is of a program that was never executed before this build.
    pub(super) fn has_new(&self) -> bool {
        self.steps.iter().any(|step| step.is_new())
    }

    /// Whether any such program may have come out otherwise than before.
    pub(super) async fn differs(&self) -> bool {
        for step in &self.steps {
            if step.differs().await {
                return true;
            }
        }
        false
    }

    /// What it is remembered by that was found out about the files with a key that stands for these.
    pub fn record_key(&self, key: &str) -> Option<String> {
        let bases: BTreeSet<&Basis> = self.steps.iter().map(|step| &step.basis).collect();
        bases.into_iter().try_fold(key.to_owned(), |key, basis| basis.record_key(&key))
    }

    /// As it was after so many steps.
    #[must_use]
    pub fn up_to(&self, count: usize) -> Self {
        let key = match count.checked_sub(1) {
            Some(last) => self.steps[last].key.clone(),
            None => match &self.base {
                Some(base) => Self::of_image(base.clone()).key,
                None => Self::scratch().key,
            },
        };
        Self { key, base: self.base.clone(), steps: self.steps[..count].to_vec() }
    }
}
