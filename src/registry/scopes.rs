//! What a request needs of a token: whose it is, what it allows, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Access;
use crate::oci::Repository;

/// What a token allows: actions by resource, `repository:a/b` → `pull`, `push`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scopes(BTreeMap<String, BTreeSet<String>>);

/// What a request needs of the one who sends it.
#[derive(Clone, Default)]
pub(super) struct ScopeRequest {
    /// The repository whose credentials count.
    pub path: String,
    /// What a token must allow.
    pub scopes: Scopes,
    /// For how long, about.
    pub lasting: Duration,
}

/// What `access` to a repository takes.
pub(super) fn need(repository: &Repository, access: Access) -> ScopeRequest {
    let path = repository.path();
    let scopes = Scopes::repository(path, access);
    ScopeRequest { path: path.to_owned(), scopes, ..ScopeRequest::default() }
}

impl Scopes {
    /// What `access` to the repository at `path` takes.
    pub(super) fn repository(path: &str, access: Access) -> Self {
        let actions: &[&str] = match access {
            Access::Pull => &["pull"],
            Access::Push => &["pull", "push"],
        };
        let actions = actions.iter().map(|&action| action.to_owned()).collect();
        Self(BTreeMap::from([(format!("repository:{path}"), actions)]))
    }

    /// Reads scopes as a challenge has them, separated by blanks.
    pub(super) fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for scope in text.split_ascii_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                let all = scopes.0.entry(resource.to_owned()).or_default();
                all.extend(actions.split(',').filter(|a| !a.is_empty()).map(str::to_owned));
            }
        }
        scopes
    }

    /// Adds everything that `other` allows.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        for (resource, actions) in other.0 {
            self.0.entry(resource).or_default().extend(actions);
        }
        self
    }

    /// Whether this allows all that `other` allows.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, actions)| {
            self.0.get(resource).is_some_and(|ours| actions.is_subset(ours))
        })
    }

    /// How many resources there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One text per resource.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |(resource, actions): (&String, &BTreeSet<String>)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_sets() {
        let push = Scopes::repository("a/b", Access::Push);
        let pull = Scopes::repository("a/b", Access::Pull);
        assert!(push.covers(&pull) && !pull.covers(&push));
        assert!(!push.covers(&Scopes::repository("a/c", Access::Pull)));
        assert_eq!(pull.clone().and(push.clone()), push);
        assert_eq!(Scopes::parse("repository:a/b:push,pull"), push);
        let both = Scopes::parse(" repository:a/b:pull repository:localhost:5000/x:pull,push ");
        assert_eq!(both.texts(), ["repository:a/b:pull", "repository:localhost:5000/x:pull,push"]);
        assert_eq!(Scopes::parse("").texts(), [""; 0]);
    }
}
