//! A store over another one, which is read and never written to.
//!
//! What must be kept for the run goes into a folder of temporary files; what is not there is looked for
//! in the store below. That one is read without a lease, so nothing in it is marked as used: it stays as
//! it is, to the last time of change. Where it is not there at all, none is made.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Session, Store, format};
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// The store that is read, and the folder of the one that is written to.
pub(super) struct Below {
    store: Option<Store>,
    _temporary: TempDir,
}

impl Store {
    /// Opens the store in the folder `root` for a run that must not change it: what the run writes goes
    /// with the answer. A store of a newer program is refused as ever.
    pub fn over(root: &Path) -> Result<Self> {
        let below = Self::at(root, format::FORMAT)?;
        *below.session() = Session::Unwritable;
        let below = below.has_layout_file()?.then_some(below);
        let temporary = tempfile::Builder::new().prefix("gondola-over-").tempdir();
        let temporary = temporary.cannot(|| "make a folder for what only this run writes")?;
        let mut store = Self::at(temporary.path(), format::FORMAT)?;
        let inner = Arc::get_mut(&mut store.0)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "open a store over another one"))?;
        inner.below = Some(Below { store: below, _temporary: temporary });
        store.make_if_missing()?;
        Ok(store)
    }

    /// Whether the store goes with the run.
    pub fn is_over(&self) -> bool {
        self.0.below.is_some()
    }

    /// The store that is read where this one has not what is asked for.
    pub(super) fn below(&self) -> Option<&Self> {
        self.0.below.as_ref()?.store.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::oci::{Descriptor, MediaType};

    /// Everything below a folder, with what a write of any kind would change.
    fn listing(folder: &Path) -> BTreeMap<PathBuf, String> {
        use std::os::unix::fs::MetadataExt as _;
        let mut all = BTreeMap::new();
        let mut open = vec![folder.to_owned()];
        while let Some(path) = open.pop() {
            let found = fs_err::symlink_metadata(&path).unwrap();
            let state =
                (found.size(), found.mode(), found.nlink(), found.ctime(), found.ctime_nsec());
            all.insert(path.clone(), format!("{state:?}"));
            if found.is_dir() {
                open.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        all
    }

    #[test]
    fn what_is_written_over_a_store_is_found_and_leaves_it_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let own = Store::open(&root).unwrap();
        let digest = own.put(b"below").unwrap();
        let descriptor = Descriptor::new(MediaType::OCI_LAYER_GZIP, digest.clone(), 5);
        own.put_record("kind", "a", &1).unwrap();
        own.put_record("kind", "b", &2).unwrap();
        let name = "example.com/below:1".parse().unwrap();
        own.set_names(&[(name, descriptor.clone())]).unwrap();
        drop(own);
        let before = listing(&root);

        let over = Store::over(&root).unwrap();
        let temporary = over.root().to_owned();
        assert_eq!(over.has(&digest).unwrap(), Some(5));
        assert_eq!(&over.read(&descriptor, 10).unwrap()[..], b"below");
        assert!(over.blob_path(&digest).starts_with(&root));
        over.put_record("kind", "b", &3).unwrap();
        let record = |key: &str| over.get_record::<i32>("kind", key);
        assert_eq!((record("a"), record("b"), record("c")), (Some(1), Some(3), None));
        let again = over.put(b"below").unwrap();
        assert!(over.blob_path(&again).starts_with(&temporary));
        let other = over.put(b"above").unwrap();
        assert_eq!(over.has(&other).unwrap(), Some(5));
        let other_name = "example.com/above:1".parse().unwrap();
        let above = Descriptor::new(MediaType::OCI_LAYER_GZIP, other, 5);
        over.set_names(&[(other_name, above)]).unwrap();
        let names: Vec<String> =
            over.names().unwrap().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["example.com/above:1", "example.com/below:1"]);
        drop(over);
        assert_eq!(listing(&root), before);
        assert!(!temporary.exists());
    }

    #[test]
    fn a_broken_blob_below_is_told_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let own = Store::open(folder.path()).unwrap();
        let digest = own.put(b"below").unwrap();
        let descriptor = Descriptor::new(MediaType::OCI_LAYER_GZIP, digest.clone(), 5);
        let path = own.blob_path(&digest);
        drop(own);
        fs_err::write(&path, b"wrong").unwrap();
        let over = Store::over(folder.path()).unwrap();
        let error = over.read(&descriptor, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(fs_err::read(&path).unwrap(), b"wrong");
    }

    #[test]
    fn where_no_store_is_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("not/yet");
        let over = Store::over(&root).unwrap();
        over.put_record("kind", "a", &1).unwrap();
        assert_eq!(over.get_record("kind", "a"), Some(1));
        assert!(over.names().unwrap().is_empty());
        assert!(!folder.path().join("not").exists());
    }
}
