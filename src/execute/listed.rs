//! The files of an image that is not unpacked, as a copy sees them.

use std::sync::Arc;

use crate::engine::files::{Files, Node, TreeFiles};
use crate::error::Result;
use crate::layer::{ContentHash, Entry, TreePath};
use crate::rootfs::Listing;

/// The listed files of an image.
pub(super) struct ListedFiles {
    listing: Listing,
    files: TreeFiles,
}

impl ListedFiles {
    pub(super) fn new(listing: Listing) -> Self {
        let files = TreeFiles::new(Arc::clone(listing.tree()));
        Self { listing, files }
    }
}

impl Files for ListedFiles {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        if path.is_none() {
            return Ok(Some(Node { entry: self.listing.root().clone(), identity: None }));
        }
        self.files.node(path)
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        self.files.children(folder)
    }

    fn bring(&self, file: &Entry) -> Result<()> {
        self.listing.fetch([file])
    }

    fn digests(&self, files: &[(TreePath, &Entry)]) -> Result<Vec<ContentHash>> {
        self.listing.fetch(files.iter().map(|(_, entry)| *entry))?;
        files.iter().map(|(_, entry)| entry.content_hash()).collect()
    }
}
