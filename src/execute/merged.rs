//! The files of a snapshot, as a copy sees them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::StepOutput;
use crate::engine::files::{Files, Node, join};
use crate::error::Result;
use crate::layer::{ContentHash, Entry, EntryKind, Tree, TreePath};
use crate::rootfs::{Follow, View};

/// The merged files of a root file system.
pub(super) struct ViewFiles(pub View);

impl ViewFiles {
    fn as_node(entry: Entry) -> Node {
        use std::os::unix::fs::MetadataExt as _;
        let identity = match &entry.kind {
            EntryKind::File(crate::layer::Content::File(file)) => {
                let metadata = fs_err::symlink_metadata(file.path()).ok();
                metadata.filter(|found| found.nlink() > 1).map(|found| found.ino())
            }
            _ => None,
        };
        Node { entry, identity }
    }
}

impl Files for ViewFiles {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let Some(path) = path else {
            let root = self.0.find("/", Follow::NotLast)?;
            let entry = root.map_or(Entry::directory(0o755), |root| root.entry);
            return Ok(Some(Self::as_node(entry)));
        };
        let Ok(text) = std::str::from_utf8(path.as_bytes()) else { return Ok(None) };
        let found = self.0.find(text, Follow::NotLast)?;
        // A path through a link is not this path.
        Ok(found
            .filter(|found| found.path.as_ref() == Some(path))
            .map(|found| Self::as_node(found.entry)))
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let children = self.0.children(folder)?;
        Ok(children.into_iter().map(|(name, entry)| (name, Self::as_node(entry))).collect())
    }
}

/// Files with those of steps over them, which remove nothing.
pub(super) struct Merged {
    /// The topmost last.
    pub steps: Vec<Arc<StepOutput>>,
    pub below: Arc<dyn Files>,
}

impl Merged {
    fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.steps.iter().rev().filter_map(|step| step.tree.as_deref())
    }
}

impl Files for Merged {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let Some(path) = path else { return self.below.node(None) };
        for tree in self.trees() {
            if let Some(entry) = tree.get(path) {
                let entry = match &entry.kind {
                    EntryKind::HardLink(target) => tree.get(target).unwrap_or(entry),
                    _ => entry,
                };
                return Ok(Some(Node { entry, identity: None }));
            }
            if tree.is_below_file(path) {
                return Ok(None);
            }
        }
        self.below.node(Some(path))
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        for tree in self.trees() {
            names.extend(tree.children(folder).map(|path| path.name().to_vec()));
        }
        names.extend(self.below.children(folder)?.into_iter().map(|(name, _)| name));
        let mut children = Vec::new();
        for name in names {
            let path = join(folder, &name)?;
            if let Some(node) = self.node(Some(&path))? {
                children.push((name, node));
            }
        }
        Ok(children)
    }

    fn bring(&self, file: &Entry) -> Result<()> {
        self.below.bring(file)
    }

    fn digests(&self, files: &[(TreePath, &Entry)]) -> Result<Vec<ContentHash>> {
        // What is below may have to bring contents first.
        self.below.digests(files)
    }
}
