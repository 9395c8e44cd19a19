//! Steps that are executed although their results are known: what they left in caches, beside their
//! results, is gone, and a later step failed that may have needed it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::shop::lock;

/// What one attempt at a build found out for the next one.
#[derive(Default)]
pub(super) struct Again {
    /// `RUN` steps whose results were found.
    reused: Mutex<BTreeSet<String>>,
    /// Steps that are executed in this attempt whether or not their results are known.
    refused: BTreeSet<String>,
    /// Steps that should have been.
    lost: Mutex<BTreeSet<String>>,
}

impl Again {
    /// Whether a step's known result may be used.
    pub(super) fn allows(&self, key: &str) -> bool {
        !self.refused.contains(key)
    }

    /// Takes note of a step whose result was found.
    pub(super) fn note_reused(&self, key: &str) {
        lock(&self.reused).insert(key.to_owned());
    }

    /// Whether a step's result was found in this attempt.
    pub(super) fn is_reused(&self, key: &str) -> bool {
        lock(&self.reused).contains(key)
    }

    /// Takes note of steps that must be executed for what they leave in caches.
    pub(super) fn note_lost(&self, keys: Vec<String>) {
        lock(&self.lost).extend(keys);
    }

    /// What the next attempt begins with; `None` where it would go as this one did.
    pub(super) fn next(&self) -> Option<Self> {
        let lost = lock(&self.lost);
        let refused: BTreeSet<String> = self.refused.union(&lost).cloned().collect();
        let is_more = refused.len() > self.refused.len();
        is_more.then(|| Self { refused, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_attempt_is_worth_it_as_long_as_more_is_lost() {
        let first = Again::default();
        first.note_reused("a");
        assert!(first.is_reused("a") && first.allows("a") && first.next().is_none());
        first.note_lost(vec!["a".to_owned()]);
        let second = first.next().unwrap();
        assert!(!second.is_reused("a") && !second.allows("a") && second.allows("b"));
        second.note_lost(vec!["a".to_owned()]);
        assert!(second.next().is_none());
        second.note_lost(vec!["b".to_owned()]);
        let third = second.next().unwrap();
        assert!(!third.allows("a") && !third.allows("b"));
    }
}
