//! Containers, which are no cache: they are listed beside the caches, so that all that is kept is seen.
//! What removes them is `gondola rm`.

use std::path::Path;

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts};
use crate::store::{Store, StorePlace};

/// The file that says what people call a container.
const NAME: &str = "name";
/// How many digits of an id are shown.
const SHORT: usize = 12;

pub(super) struct Containers;

impl Cache for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    /// A container is its folder. Beside the folders is the lock of all, which has no bytes.
    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let all = Path::new(StorePlace::Containers.path());
        let mut inside = file.strip_prefix(all).ok()?.iter();
        let path = all.join(inside.next()?);
        inside.next()?;
        // It is replaced when the container is started and when it ends.
        let used = path.join("state.json");
        Some(EntryPath { path, used: Some(used) })
    }

    fn saves_work_alone(&self) -> bool {
        false
    }

    fn describe(&self, store: &Store, entry: &Entry, _: &Names) -> String {
        let id = entry.path.file_name().and_then(|id| id.to_str()).unwrap_or_default();
        let name = super::about(&store.root().join(&entry.path).join(NAME));
        name.unwrap_or_else(|| id.get(..SHORT).unwrap_or(id).to_owned())
    }
}
