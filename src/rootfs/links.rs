//! Hard links of a layer to files that lower layers have.
//!
//! In a mounted overlay such a link first copies the file into the upper folder, and then both names
//! are one file there. The same is done here, when the layers below are known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::inspect::LayerDir;
use super::view::{Follow, View};
use super::{OwnerStorage, apply};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Entry, EntryKind, Tree, TreePath};

/// A link whose target was not in its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkBelow {
    /// Where it goes.
    pub(super) path: TreePath,
    /// What it is another name of.
    pub(super) target: TreePath,
}

impl LinkBelow {
    fn refuse(&self, why: &str) -> Error {
        Error::new(ErrorKind::Invalid, format!("link /{} to {}", self.path, self.target))
            .because(why)
    }
}

/// Puts links into a layer's folder, with the files of lower layers that they are names of; answers how
/// many bytes these take.
pub(super) fn put(
    links: &[LinkBelow],
    folder: &Path,
    storage: OwnerStorage,
    below: &View,
) -> Result<u64> {
    if links.is_empty() {
        return Ok(0);
    }
    let own = LayerDir::open(folder.to_owned(), storage)?;
    let mut put = Putting { own, below, names: BTreeMap::new(), found: BTreeMap::new() };
    for link in links {
        put.add(link)?;
    }
    let (tree, bytes) = put.into_tree()?;
    apply::apply(&tree, folder, storage, Some(below))?;
    Ok(bytes)
}

struct Putting<'a> {
    own: LayerDir,
    below: &'a View,
    /// The names that each file of a lower layer gets, by its path there.
    names: BTreeMap<TreePath, BTreeSet<TreePath>>,
    /// What each link leads to.
    found: BTreeMap<TreePath, (TreePath, Entry)>,
}

impl Putting<'_> {
    fn add(&mut self, link: &LinkBelow) -> Result<()> {
        // A later entry of the layer took the name.
        if self.own.look(link.path.as_bytes())?.is_some() {
            return Ok(());
        }
        let (real, entry) = match self.found.get(&link.target) {
            // A link to a link.
            Some(found) => found.clone(),
            None => self.find(link)?,
        };
        let names = self.names.entry(real.clone()).or_default();
        names.insert(link.path.clone());
        if self.own.look(real.as_bytes())?.is_none() {
            names.insert(real.clone());
        }
        self.found.insert(link.path.clone(), (real, entry));
        Ok(())
    }

    /// What a link leads to in the lower layers.
    fn find(&self, link: &LinkBelow) -> Result<(TreePath, Entry)> {
        let missing =
            || link.refuse("the layer has no such file before this entry, nor has one below");
        let found = self.below.find(&link.target.to_str_lossy(), Follow::NotLast)?;
        let found = found.ok_or_else(missing)?;
        let Some(real) = found.path.filter(|_| !found.entry.is_directory()) else {
            return Err(link.refuse("it is no file"));
        };
        if self.hides(&real)? {
            return Err(link.refuse("the same layer removes that file"));
        }
        Ok((real, found.entry))
    }

    /// Whether the layer hides what lower layers have in a folder on the way to a path.
    fn hides(&self, path: &TreePath) -> Result<bool> {
        let mut above: Vec<TreePath> =
            std::iter::successors(path.parent(), TreePath::parent).collect();
        above.reverse();
        for folder in above {
            let Some(stat) = self.own.look(folder.as_bytes())? else { return Ok(false) };
            let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
            if !is_folder || self.own.is_opaque(folder.as_bytes())? {
                return Ok(true);
            }
        }
        // A whiteout of the file itself came after the link: only this name stays.
        Ok(false)
    }

    /// The files as a layer has them: of a file's names the first is the file.
    fn into_tree(self) -> Result<(Tree, u64)> {
        let mut tree = Tree::new();
        let mut bytes = 0;
        let mut entries: BTreeMap<TreePath, Entry> = self.found.into_values().collect();
        for (real, names) in self.names {
            let Some(entry) = entries.remove(&real) else { continue };
            bytes += entry.size();
            let is_file = matches!(entry.kind, EntryKind::File(_));
            let mut names = names.into_iter();
            let Some(first) = names.next() else { continue };
            for name in names {
                let other =
                    if is_file { Entry::hard_link(first.clone(), &entry) } else { entry.clone() };
                tree.insert(name, other)?;
            }
            tree.insert(first, entry)?;
        }
        Ok((tree, bytes))
    }
}
