//! What is known of a step: to the store, and to other machines.

use std::sync::Arc;

use super::versions::Versions;
use super::{Solver, lock};
use crate::blocking::blocking_or;
use crate::engine::backend::Entry;
use crate::engine::basis::Basis;
use crate::engine::execute::{Inputs, Provider};
use crate::engine::key::Key;
use crate::engine::op::{Action, Op, StepKind};
use crate::engine::output::StepOutput;
use crate::engine::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::progress::Origin;

/// The kind of the store's records that say which step came out of a definition.
pub(super) const ALIASES: &str = "step-alias";

/// A key whose output is wanted.
pub(super) struct Wanted<'a> {
    pub key: &'a str,
    /// The definition that other machines may find it by.
    pub definition: Option<&'a Definition>,
    /// The results of programs that it is made of.
    pub versions: Versions,
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
#[derive(Clone)]
pub(super) struct Definition {
    /// What the op says. The key has the versions of what it reads besides.
    plain: String,
    from: Snapshot,
    versions: Versions,
    /// Whether what it reads came of a cache.
    pub on_cached: bool,
    /// Whether programs are executed in this build that it reads files of: they may be others than
    /// those that the answer was found with.
    pub of_made: bool,
}

impl Definition {
    pub(super) fn of(op: &Op, inputs: &Inputs) -> Option<Self> {
        let Action::Copy(copy) = &op.action else { return None };
        let Ok(Provider::Snapshot(from)) = inputs.get(&copy.from) else { return None };
        let plain = op.is_decided().then(|| op.definition())?;
        let (on_cached, of_made) = (from.has_cached(), from.has_made());
        let versions = Versions::of_files(from);
        Some(Self { plain, from: from.clone(), versions, on_cached, of_made })
    }

    /// What the answer is found by; none as long as what it reads is not packed.
    fn key(&self) -> Option<String> {
        self.versions.are_known().then(|| self.key_with(self.versions.now()))
    }

    /// The same, once that is packed.
    pub(super) async fn known_key(&self) -> String {
        self.key_with(self.versions.known().await)
    }

    fn key_with(&self, versions: Option<String>) -> String {
        match versions {
            None => self.plain.clone(),
            Some(versions) => Key::new("copy of").text(&self.plain).text(versions).finish(),
        }
    }

    /// What the store remembers the answer by, where it does.
    fn record(&self, key: &str) -> Option<String> {
        self.from.record_key(key)
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
        let versions = wanted.versions.now();
        for basis in Basis::known(&self.table.scope) {
            let store = &self.options.transport.store;
            let oldest = self.options.oldest();
            let found = StepOutput::remembered(store, wanted.key, basis, oldest)?;
            if let Some(found) = found.filter(|found| found.fits(versions.as_deref())) {
                let found = self.perhaps_made(found.of_kind(wanted.kind));
                return Ok(Some((Arc::new(found), Origin::Store)));
            }
        }
        let found = self.found_elsewhere(wanted).await;
        let found = found.filter(|found| found.fits(versions.as_deref()));
        Ok(found.map(|found| (Arc::new(found), Origin::Registry)))
    }

    /// Whether a result with a key is here that was made of other results of programs than there are.
    pub(super) fn is_made_of_others(&self, key: &str, versions: &Versions) -> bool {
        let (store, now) = (&self.options.transport.store, versions.now());
        Basis::known(&self.table.scope).into_iter().any(|basis| {
            let found = StepOutput::remembered(store, key, basis, None).ok().flatten();
            found.is_some_and(|found| !found.fits(now.as_deref()))
        })
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
        let Some(asked) = definition.key() else { return Ok(None) };
        let store = &self.options.transport.store;
        let known = definition.record(&asked).and_then(|key| store.get_record(ALIASES, &key));
        if known.is_some() {
            return Ok(known);
        }
        let Some(backend) = self.backend.as_ref().filter(|backend| backend.keeps(kind)) else {
            return Ok(None);
        };
        let found = backend.find_defined(&asked).await;
        let Some(Entry { key, .. }) = found else { return Ok(None) };
        self.put_alias(definition, &key)?;
        Ok(Some(key))
    }

    /// Takes note of what came out, or has that done when it is known what it came out of.
    pub(super) fn put_alias(&self, definition: &Definition, key: &str) -> Result<()> {
        let store = self.options.transport.store.clone();
        if let Some(asked) = definition.key() {
            let Some(record) = definition.record(&asked) else { return Ok(()) };
            return store.put_record(ALIASES, &record, &key);
        }
        let (definition, key) = (definition.clone(), key.to_owned());
        lock(&self.packing).spawn(async move {
            if let Some(record) = definition.record(&definition.known_key().await) {
                // Without it the next build reads the files once more.
                let put = blocking_or(move || store.put_record(ALIASES, &record, &key));
                drop(put.await);
            }
        });
        Ok(())
    }

    async fn found_elsewhere(&self, wanted: &Wanted<'_>) -> Option<StepOutput> {
        let backend = self.backend.as_ref().filter(|backend| backend.keeps(wanted.kind))?;
        let entry = backend.find(wanted.key).await?;
        if let Some(definition) = wanted.definition {
            let (backend, key) = (backend.clone(), entry.key.clone());
            let definition = definition.clone();
            let put = async move {
                backend.put_defined(&key, &definition.known_key().await).await;
            };
            lock(&self.packing).spawn(put);
        }
        Some(StepOutput::elsewhere(entry, backend.clone()).of_kind(wanted.kind))
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
