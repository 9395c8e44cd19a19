//! The paths at which layers have something to say.

use std::collections::BTreeSet;

use super::inspect::LayerDir;
use super::record::{is_folder, join};
use crate::error::Result;
use crate::layer::TreePath;

/// Paths that may look otherwise with some layers than without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Each path that has an entry or is hidden, and the folders on the way to it.
    pub(super) paths: BTreeSet<TreePath>,
    /// Paths below which everything may look otherwise: what lower layers have there is hidden by a folder
    /// of this layer, or by something that is none, over which a later layer may have a folder again.
    pub(super) whole: BTreeSet<TreePath>,
}

impl Touched {
    /// These paths alone.
    pub(super) fn of_paths<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        let paths = paths.into_iter().map(TreePath::new).collect::<Result<_>>()?;
        Ok(Self { paths, whole: BTreeSet::new() })
    }

    /// Adds what a layer touches.
    pub(super) fn add(&mut self, layer: &LayerDir) -> Result<()> {
        let mut pending = vec![Vec::new()];
        while let Some(folder) = pending.pop() {
            for name in layer.names(&folder)? {
                let bytes = join(&folder, &name);
                let Some(stat) = layer.look(&bytes)? else { continue };
                let path = TreePath::new(bytes.as_slice())?;
                if !is_folder(&stat) || layer.is_opaque(&bytes)? {
                    self.whole.insert(path.clone());
                }
                if is_folder(&stat) {
                    pending.push(bytes);
                }
                self.paths.insert(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::OwnerStorage;

    #[test]
    fn a_layer_touches_what_it_has_and_all_below_what_it_hides() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("fs").join(name);
        fs_err::create_dir_all(path("a/b")).unwrap();
        fs_err::create_dir_all(path("c")).unwrap();
        fs_err::write(path("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink("c", path("link")).unwrap();
        let opaque = fs_err::File::open(path("c")).unwrap();
        crate::rootfs::marks::set_opaque(&opaque, OwnerStorage::Mapped).unwrap();
        let layer = LayerDir::open(folder.path().join("fs"), OwnerStorage::Mapped).unwrap();
        let mut touched = Touched::default();
        touched.add(&layer).unwrap();
        let shown = |paths: &BTreeSet<TreePath>| {
            paths.iter().map(TreePath::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&touched.paths), "a a/b a/b/file c link");
        assert_eq!(shown(&touched.whole), "a/b/file c link");
    }
}
