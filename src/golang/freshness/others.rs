//! Which folders of others are other ones than a build found: for explanations.

use super::folder::{Sealed, Stale};
use super::{FORMAT, Record};

/// Folders of others that changed since a build.
#[derive(Debug, Default)]
pub(in crate::golang) struct ChangedOthers {
    /// The import paths of the packages that were built.
    packages: Vec<String>,
    changed: Vec<(Stale, Sealed)>,
}

impl ChangedOthers {
    /// Those that changed since a build that left this record.
    pub(in crate::golang) fn since(record: &Record) -> Self {
        if record.format != FORMAT || record.worthless.is_some() {
            return Self::default();
        }
        let packages = record.packages.iter().map(|package| package.import_path.clone());
        let changed = record.sealed.iter();
        let changed = changed.filter_map(|of| Some((of.check().err()?, of.clone())));
        Self { packages: packages.collect(), changed: changed.collect() }
    }

    /// Whether none changed.
    pub(in crate::golang) fn are_none(&self) -> bool {
        self.changed.is_empty()
    }

    /// What is said of the first one that a package may need.
    pub(in crate::golang) fn first_for(&self, package: &str) -> Option<&str> {
        let number = self.packages.iter().position(|path| path == package);
        let is_needed = |(_, folder): &&(Stale, Sealed)| {
            number.is_none_or(|number| folder.may_be_used_by(number))
        };
        self.changed.iter().find(is_needed).map(|(what, _)| what.as_str())
    }
}
