//! What results of steps depend on beside their keys.

use crate::store::{CacheScope, ScopeName};

/// What a result depends on beside its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Nothing.
    Key,
    /// What the caches of a scope held, for this step or one below it.
    Scope(ScopeName),
    /// What caches held that go with the build.
    Build,
}

impl Basis {
    /// What results of steps depend on that use the caches of a scope.
    pub fn of(scope: &CacheScope) -> Self {
        scope.of_results().map_or(Self::Build, |scope| Self::Scope(scope.clone()))
    }

    /// What results may depend on that a build with this scope uses.
    pub fn known(scope: &CacheScope) -> Vec<Self> {
        let scopes = scope.of_results().into_iter().chain(scope.below());
        scopes.map(|scope| Self::Scope(scope.clone())).chain([Self::Key]).collect()
    }

    /// What results with a key are remembered by, where they are: those that depend on a cache are
    /// found by whoever may use that cache.
    pub fn record_key(&self, key: &str) -> Option<String> {
        match self {
            Self::Key => Some(key.to_owned()),
            Self::Scope(scope) => Some(format!("{key} in {scope}")),
            Self::Build => None,
        }
    }
}
