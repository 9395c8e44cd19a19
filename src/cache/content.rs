//! Blobs and records: images, with and without a name, layers, look-ups.

use std::path::Path;

use super::describe::{Names, short, text};
use super::{Cache, Entry, EntryPath, Facts, kind_of};
use crate::oci::Digest;
use crate::store::{Store, digest_of};

/// The kind of the records that say which layer some files are.
const LAYERS: &str = "layer";

/// What names lead to. It is no cache, and never goes.
pub(super) struct Images;

/// Images without a name: those that others are built on, those that never had one, and those whose name
/// moved on.
pub(super) struct Unnamed;

/// Layers that belong to no image here, and the notes of which files they are.
pub(super) struct Layers;

/// What was looked up or read, so that it need not be again.
pub(super) struct LookUps;

impl Cache for Images {
    fn name(&self) -> &'static str {
        "images"
    }

    fn entry_of(&self, file: &Path, facts: &Facts) -> Option<EntryPath> {
        digest_of(file).filter(|digest| facts.named.contains(digest))?;
        Some(EntryPath::alone(file))
    }

    fn describe(&self, _: &Store, entry: &Entry, names: &Names) -> String {
        blob(entry, |digest| names.images.get(digest))
    }
}

impl Cache for Unnamed {
    fn name(&self) -> &'static str {
        "unnamed"
    }

    fn entry_of(&self, file: &Path, facts: &Facts) -> Option<EntryPath> {
        digest_of(file).filter(|digest| facts.unnamed.contains(digest))?;
        Some(EntryPath::alone(file))
    }

    fn describe(&self, _: &Store, entry: &Entry, names: &Names) -> String {
        blob(entry, |digest| names.bases.get(digest).or_else(|| names.images.get(digest)))
    }
}

impl Cache for Layers {
    fn name(&self) -> &'static str {
        "layers"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let is_one = digest_of(file).is_some() || kind_of(file) == Some(LAYERS);
        is_one.then(|| EntryPath::alone(file))
    }

    fn describe(&self, store: &Store, entry: &Entry, names: &Names) -> String {
        if digest_of(&entry.path).is_some() {
            return blob(entry, |digest| names.layers.get(digest));
        }
        let of = store.record_value(&entry.path).and_then(|value| text(&value, "of"));
        of.unwrap_or_else(|| "which files a layer has".to_owned())
    }
}

impl Cache for LookUps {
    fn name(&self) -> &'static str {
        "look-ups"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        kind_of(file)?;
        Some(EntryPath::alone(file))
    }

    fn describe(&self, store: &Store, entry: &Entry, _: &Names) -> String {
        let kind = kind_of(&entry.path).unwrap_or_default();
        let value = store.record_value(&entry.path);
        let said = |name: &str| value.as_ref().and_then(|value| text(value, name));
        match kind {
            "base" | "program-base" => {
                said("name").unwrap_or_else(|| "what the name of a base stands for".to_owned())
            }
            "base-files" => "the loaders and libraries of a base".to_owned(),
            "listing" => "which files an image has".to_owned(),
            "build" => "what a build of Go packages reads".to_owned(),
            "layer-pieces" => "the pieces of the last layer of a program".to_owned(),
            "program-materials" => "what programs were compiled of".to_owned(),
            "step-materials" => "what steps were made of".to_owned(),
            "toolchain" => "where the Go of an image is".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// What a blob is of, or else its digest.
fn blob<'a>(entry: &Entry, name: impl Fn(&Digest) -> Option<&'a String>) -> String {
    let digest = digest_of(&entry.path);
    let named = digest.as_ref().and_then(|digest| name(digest).cloned());
    named.or_else(|| digest.as_ref().map(short)).unwrap_or_default()
}
