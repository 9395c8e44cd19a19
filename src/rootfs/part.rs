//! One folder of an image that is wanted without the rest.

use crate::error::Result;
use crate::layer::TreePath;
use crate::oci::Digest;

/// A folder of an image that is wanted without the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    folder: TreePath,
    whole: Vec<TreePath>,
}

impl Part {
    /// What is at and below `folder`, a path without symbolic links.
    ///
    /// A layer that has all the paths `whole` in it makes those below count for nothing there; where no
    /// path is named, none does.
    pub fn new(folder: &str, whole: &[&str]) -> Result<Self> {
        let folder = TreePath::normalized(folder)?;
        let whole = whole.iter().map(|path| folder.join(path));
        let whole = whole.collect::<Result<_>>()?;
        Ok(Self { folder, whole })
    }

    /// The folder's path in the image.
    pub(super) fn folder(&self) -> &TreePath {
        &self.folder
    }

    /// The paths that make it whole.
    pub(super) fn whole(&self) -> &[TreePath] {
        &self.whole
    }

    /// Whether a path is the folder's or that of something in it.
    pub(super) fn holds(&self, path: &TreePath) -> bool {
        *path == self.folder || path.is_below(&self.folder)
    }

    /// What it is kept under, of an image with this manifest.
    pub(super) fn key(&self, image: &Digest) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(image.as_str().as_bytes());
        for path in [&self.folder].into_iter().chain(&self.whole) {
            hasher.update(&[0]).update(path.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}
