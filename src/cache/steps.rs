//! Results of Dockerfiles' steps.
//!
//! ```text
//! records/step/<hex>.json         what came out of a step with a key: its layer, and the folder below
//! records/step-alias/<hex>.json   which step that is for a key which looks at no files
//! rootfs/<form>/step-<random>/    the files that it changed, so that the next step need not unpack
//! blobs/                          the layer
//! ```

use std::path::Path;

use super::describe::{Names, short, text};
use super::{Cache, Entry, EntryPath, Facts, kind_of};
use crate::store::{Store, StorePlace, digest_of};

/// The kind of the store's records that hold results of steps.
pub(super) const RESULTS: &str = "step";
/// The kind of those that say which step came out when a step with this key was executed.
const ALIASES: &str = "step-alias";

pub(super) struct Steps;

impl Cache for Steps {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn entry_of(&self, file: &Path, facts: &Facts) -> Option<EntryPath> {
        let is_one = matches!(kind_of(file), Some(RESULTS | ALIASES))
            || digest_of(file).is_some_and(|digest| facts.steps.contains(&digest))
            || folder_of(file).is_some();
        is_one.then(|| EntryPath::alone(file))
    }

    fn describe(&self, store: &Store, entry: &Entry, names: &Names) -> String {
        let digest = digest_of(&entry.path);
        let of_blob = digest.as_ref().and_then(|digest| names.layers.get(digest).cloned());
        let of_folder = || folder_of(&entry.path).and_then(|id| names.folders.get(id).cloned());
        let of_record = || text(&store.record_value(&entry.path)?, "instruction");
        let said = of_blob.or_else(of_folder).or_else(of_record);
        said.unwrap_or_else(|| match (digest, kind_of(&entry.path)) {
            (Some(digest), _) => short(&digest),
            (None, Some(ALIASES)) => "which step a copy is".to_owned(),
            _ => "a step".to_owned(),
        })
    }
}

/// The id of the folder of a step's changes.
fn folder_of(file: &Path) -> Option<&str> {
    let mut parts = file.strip_prefix(StorePlace::Unpacked.path()).ok()?.iter().skip(1);
    let id = parts.next()?.to_str()?;
    crate::store::is_step_folder(id).then_some(id)
}
