//! What is known of a step: to the store, and to other machines.

use std::sync::Arc;

use super::{Solver, lock};
use crate::engine::backend::Entry;
use crate::engine::basis::Basis;
use crate::engine::execute::{Inputs, Provider};
use crate::engine::op::{Action, Op, StepKind};
use crate::engine::output::StepOutput;
use crate::error::{Error, Result};
use crate::progress::Origin;

/// The kind of the store's records that say which step came out of a definition.
pub(super) const ALIASES: &str = "step-alias";

/// A key whose output is wanted.
pub(super) struct Wanted<'a> {
    pub key: &'a str,
    /// The definition that other machines may find it by.
    pub definition: Option<&'a str>,
    /// What messages call the step.
    pub label: &'a str,
    pub kind: StepKind,
    pub use_cache: bool,
    /// Whether it works on what came of a cache, so that its result does, too.
    pub on_cached: bool,
}

/// The definition of a copy of what has a key: it is known by its content in the end, which is not
/// looked at again where the answer is remembered. Other ops have a key without a look at files, or
/// none.
pub(super) struct Definition {
    pub key: String,
    /// Whether what it reads came of a cache.
    pub on_cached: bool,
    /// Whether programs are executed in this build that it reads files of: they may be others than
    /// those that the answer was found with.
    pub of_made: bool,
    /// What the store remembers the answer by, where it does.
    pub record: Option<String>,
}

impl Definition {
    pub(super) fn of(op: &Op, inputs: &Inputs) -> Option<Self> {
        let Action::Copy(copy) = &op.action else { return None };
        let Ok(Provider::Snapshot(from)) = inputs.get(&copy.from) else { return None };
        let key = op.is_decided().then(|| op.definition())?;
        let record = from.record_key(&key);
        let (on_cached, of_made) = (from.has_cached(), from.has_made());
        Some(Self { key, on_cached, of_made, record })
    }
}

impl Solver {
    /// The output for a key, where it is known, and to whom.
    pub(super) async fn recall(
        &self,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(Arc<StepOutput>, Origin)>> {
        if !wanted.use_cache {
            return Ok(None);
        }
        for basis in Basis::known(&self.table.scope) {
            let store = &self.options.transport.store;
            let oldest = self.options.oldest();
            if let Some(found) = StepOutput::remembered(store, wanted.key, basis, oldest)? {
                return Ok(Some((Arc::new(self.perhaps_made(found)), Origin::Store)));
            }
        }
        let found = self.found_elsewhere(wanted).await;
        Ok(found.map(|found| (found, Origin::Registry)))
    }

    /// The output for a key that an alias gave. Where it is gone there is none: what the op reads now
    /// may give another key.
    pub(super) async fn known(
        &self,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(Arc<StepOutput>, Origin)>> {
        /// Why an output is not known.
        enum Unknown {
            Gone,
            Failed(Error),
        }
        impl From<Error> for Unknown {
            fn from(error: Error) -> Self {
                Self::Failed(error)
            }
        }
        match self.once(wanted, || async { Err(Unknown::Gone) }).await {
            Ok(found) => Ok(Some(found)),
            Err(Unknown::Gone) => Ok(None),
            Err(Unknown::Failed(error)) => Err(error),
        }
    }

    /// Which step came out of a definition before, where that is known.
    pub(super) async fn alias(
        &self,
        definition: &Definition,
        kind: StepKind,
    ) -> Result<Option<String>> {
        if definition.of_made {
            return Ok(None);
        }
        let store = &self.options.transport.store;
        let known = definition.record.as_ref().and_then(|key| store.get_record(ALIASES, key));
        if known.is_some() {
            return Ok(known);
        }
        let Some(backend) = self.backend.as_ref().filter(|backend| backend.keeps(kind)) else {
            return Ok(None);
        };
        let found = backend.find_defined(&definition.key).await;
        let Some(Entry { key, .. }) = found else { return Ok(None) };
        self.put_alias(definition, &key)?;
        Ok(Some(key))
    }

    /// Takes note of what came out.
    pub(super) fn put_alias(&self, definition: &Definition, key: &str) -> Result<()> {
        let Some(record) = &definition.record else { return Ok(()) };
        self.options.transport.store.put_record(ALIASES, record, &key)
    }

    async fn found_elsewhere(&self, wanted: &Wanted<'_>) -> Option<Arc<StepOutput>> {
        let backend = self.backend.as_ref().filter(|backend| backend.keeps(wanted.kind))?;
        let entry = backend.find(wanted.key).await?;
        if let Some(definition) = wanted.definition {
            let (backend, key) = (backend.clone(), entry.key.clone());
            let definition = definition.to_owned();
            let put = async move { backend.put_defined(&key, &definition).await };
            lock(&self.packing).spawn(put);
        }
        Some(Arc::new(StepOutput::elsewhere(entry, backend.clone())))
    }
}

/// Whether an op's result came of a cache because what it works on did. What is copied is known by
/// its content.
pub(super) fn works_on_cached(op: &Op, inputs: &Inputs) -> bool {
    match op.kind() {
        StepKind::Run => inputs.have_cached(),
        StepKind::Copy | StepKind::Other => inputs.base.has_cached(),
    }
}
