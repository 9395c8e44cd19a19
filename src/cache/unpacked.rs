//! What is unpacked: images that were run or built on, and Go distributions.

use std::path::Path;

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts};
use crate::store::{Store, StorePlace};

/// The kind of folders that are parts of images, see `rootfs::Part`: the Go of an image.
const PARTS: &str = "folder";
/// The kind of folders that steps work in where nothing can be mounted, see `rootfs::working`, and the file
/// in them that names their layers.
const WORKING: &str = "working";
const CHAIN: &str = "chain";

/// Layers of images as folders.
pub(super) struct Unpacked;

/// The Go of images.
pub(super) struct Toolchains;

impl Cache for Unpacked {
    fn name(&self) -> &'static str {
        "unpacked"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        file.starts_with(StorePlace::Unpacked.path()).then(|| EntryPath::alone(file))
    }

    fn describe(&self, store: &Store, entry: &Entry, names: &Names) -> String {
        if entry.path.parent().is_some_and(|kind| kind.ends_with(WORKING)) {
            let chain = super::about(&store.root().join(&entry.path).join(CHAIN));
            let chain = chain.unwrap_or_default();
            let of = chain.lines().rev().find_map(|key| names.folders.get(key));
            return of.map_or_else(
                || "files that steps work on".to_owned(),
                |of| format!("files that steps work on, over {of}"),
            );
        }
        let key = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of = names.folders.get(key).cloned();
        of.unwrap_or_else(|| format!("layers {}", key.get(..12).unwrap_or(key)))
    }
}

impl Cache for Toolchains {
    fn name(&self) -> &'static str {
        "toolchains"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let folder = Path::new(StorePlace::Unpacked.path()).join(PARTS);
        file.starts_with(folder).then(|| EntryPath::alone(file))
    }

    fn describe(&self, store: &Store, entry: &Entry, _: &Names) -> String {
        let version = store.root().join(&entry.path).join("fs/VERSION");
        let text = super::about(&version).unwrap_or_default();
        text.lines().next().map_or_else(|| "the Go of an image".to_owned(), str::to_owned)
    }
}
