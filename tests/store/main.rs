//! The content store through its public surface: contents, names, records, collection.

#![cfg(test)]

mod caches;
mod collection;
mod contents;
mod folders;
mod formats;
mod names;
mod processes;
mod ranged;
mod records;
mod refusals;

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use gondola::cache::{self, CACHES, Policy, Pruned, Usage, View};
use gondola::error::ErrorKind;
use gondola::oci::{Descriptor, Digest, Document, Index, Manifest, MediaType, Reference};
use gondola::store::{Store, digest_of};
use serde_json::json;

/// A store in a folder that vanishes with it.
struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    Place { folder, store }
}

impl Place {
    fn root(&self) -> &Path {
        self.store.root()
    }

    /// What another process would open.
    fn other(&self) -> Store {
        Store::open(self.root()).unwrap()
    }

    /// Ends the lease, as the end of a process does.
    fn restart(self) -> Self {
        let Self { folder, store } = self;
        let root = store.root().to_owned();
        drop(store);
        Self { folder, store: Store::open(&root).unwrap() }
    }

    /// Makes a blob look as if it was last used so long ago.
    fn age(&self, digest: &Digest, age: Duration) {
        let file = std::fs::File::options().write(true).open(self.store.blob_path(digest)).unwrap();
        file.set_modified(now() - age).unwrap();
    }

    fn overwrite(&self, digest: &Digest, bytes: &[u8]) {
        fs_err::write(self.store.blob_path(digest), bytes).unwrap();
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.store.blob_path(digest).exists()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are their own clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn put(store: &Store, media_type: MediaType, bytes: &[u8]) -> Descriptor {
    let digest = store.put(bytes).unwrap();
    Descriptor::new(media_type, digest, bytes.len() as u64)
}

/// An image of one layer with the content `seed`: manifest, config, layer.
fn image(store: &Store, seed: &str) -> [Descriptor; 3] {
    let layer = put(store, MediaType::OCI_LAYER, format!("layer {seed}").as_bytes());
    let config = json!({"architecture": "amd64", "os": "linux", "author": seed,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]}});
    let config = put(store, MediaType::OCI_CONFIG, config.to_string().as_bytes());
    let manifest = Manifest::new(MediaType::OCI_MANIFEST, config.clone(), vec![layer.clone()]);
    let manifest = Document::new(MediaType::OCI_MANIFEST, manifest);
    store.put(manifest.bytes()).unwrap();
    [manifest.descriptor().clone(), config, layer]
}

fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// Everything prunable goes.
const ALL: Policy = Policy { older_than: None, keep_bytes: None, all: true, dry_run: false };

fn prune(store: &Store, policy: &Policy) -> Pruned {
    cache::prune(store, policy, now()).unwrap()
}

/// The blobs that are removed.
fn pruned(store: &Store, policy: &Policy) -> BTreeSet<Digest> {
    blobs_of(&prune(store, policy))
}

fn blobs_of(pruned: &Pruned) -> BTreeSet<Digest> {
    pruned.entries.iter().filter_map(|entry| digest_of(&entry.path)).collect()
}

/// What a cache keeps.
fn usage(store: &Store, name: &str) -> Usage {
    let cache = CACHES.into_iter().find(|cache| cache.name() == name).unwrap();
    cache.usage(&View::take(store).unwrap())
}

/// The bytes of all caches together.
fn bytes_of_all(store: &Store) -> u64 {
    Usage::of(View::take(store).unwrap().entries()).bytes
}

fn digests<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> BTreeSet<Digest> {
    descriptors.into_iter().map(|descriptor| descriptor.digest.clone()).collect()
}

/// The files below a folder.
fn files_below(folder: &Path) -> usize {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}
