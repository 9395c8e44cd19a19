//! What is in a folder that is copied.

use std::collections::BTreeMap;

use crate::engine::files::Node;
use crate::error::Result;
use crate::layer::{self, Tree, TreePath};

/// What is in a folder that is copied, by the paths from there; folders before their content.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// What things are.
    pub(super) entries: Tree,
    /// The numbers of files that may have several names.
    pub(super) identities: BTreeMap<TreePath, u64>,
}

impl Inside {
    /// Adds something.
    pub(super) fn insert(&mut self, relative: TreePath, node: Node) -> Result<()> {
        if let Some(identity) = node.identity {
            self.identities.insert(relative.clone(), identity);
        }
        self.entries.insert(relative, node.entry).map(drop)
    }

    fn identity(&self, path: &TreePath) -> Option<u64> {
        self.identities.get(path).copied()
    }

    /// How much is in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of it are no folders.
    pub fn count_files(&self) -> usize {
        self.entries.len() - self.entries.count_directories()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (TreePath, Node)> {
        self.entries.iter().map(|(path, entry)| {
            let identity = self.identity(&path);
            (path, Node { entry, identity })
        })
    }
}

/// Gives the memory of what came back.
pub struct IntoIter {
    entries: layer::IntoIter,
    identities: BTreeMap<TreePath, u64>,
}

impl Iterator for IntoIter {
    type Item = (TreePath, Node);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, entry) = self.entries.next()?;
        let identity = self.identities.remove(&path);
        Some((path, Node { entry, identity }))
    }
}

impl IntoIterator for Inside {
    type Item = (TreePath, Node);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        let Self { entries, identities } = self;
        IntoIter { entries: entries.into_iter(), identities }
    }
}
