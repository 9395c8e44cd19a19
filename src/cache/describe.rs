//! What entries are, in the user's words.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{Entry, View, about, kind_of, named};
use crate::error::Result;
use crate::oci::{Digest, Hasher, LARGEST_DOCUMENT};
use crate::store::{Store, digest_of};

/// The annotations by which an image says what it is built on.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The names of digests and folders.
#[derive(Debug, Default)]
pub struct Names {
    /// The names of images, by everything that they are made of.
    pub images: BTreeMap<Digest, String>,
    /// The names of bases, likewise.
    pub bases: BTreeMap<Digest, String>,
    /// The instructions of steps, and what other layers hold, by the layers.
    pub layers: BTreeMap<Digest, String>,
    /// Steps and images, by the names of the folders in which they are unpacked.
    pub folders: BTreeMap<String, String>,
    /// What files beside entries say that these are.
    abouts: RefCell<BTreeMap<PathBuf, Option<String>>>,
}

/// Says what entries are.
pub struct Describer<'a> {
    store: &'a Store,
    names: Names,
}

impl<'a> Describer<'a> {
    /// Reads what is known of the entries of a view. This reads every record and manifest.
    pub fn new(store: &'a Store, view: &View) -> Result<Self> {
        let mut names = Names::default();
        for (name, descriptor) in store.names()? {
            names.add_image(store, &descriptor.digest, &name.familiar(), Kind::Named);
        }
        for entry in view.entries() {
            let is_record = kind_of(&entry.path).is_some();
            if let Some(value) = is_record.then(|| store.record_value(&entry.path)).flatten() {
                names.add_record(store, &value);
            }
            if let Some(digest) = digest_of(&entry.path) {
                names.add_base_of(store, &digest);
            }
        }
        Ok(Self { store, names })
    }

    /// What an entry is.
    pub fn describe(&self, entry: &Entry) -> String {
        let cache = named(entry.cache).expect("entries have the name of their cache");
        cache.describe(self.store, entry, &self.names)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Named,
    Base,
}

impl Names {
    /// What a file beside an entry says, which is read once for all entries that it is about.
    pub(super) fn about(&self, path: PathBuf) -> Option<String> {
        let mut abouts = self.abouts.borrow_mut();
        abouts.entry(path).or_insert_with_key(|path| about(path)).clone()
    }

    /// Notes of an image or index, and of all that it is made of, whose it is.
    fn add_image(&mut self, store: &Store, digest: &Digest, name: &str, kind: Kind) {
        let all = if kind == Kind::Named { &mut self.images } else { &mut self.bases };
        if all.contains_key(digest) {
            return;
        }
        all.insert(digest.clone(), name.to_owned());
        let Some(document) = document(store, digest) else { return };
        self.add_folders(&document, name);
        for below in digests_in(&document) {
            self.add_image(store, &below, name, kind);
        }
    }

    /// The folders in which the layers of an image are unpacked are called by its diff IDs.
    fn add_folders(&mut self, config: &Value, name: &str) {
        let Some(diff_ids) = config.pointer("/rootfs/diff_ids").and_then(Value::as_array) else {
            return;
        };
        let mut chain: Option<Digest> = None;
        for diff_id in diff_ids.iter().filter_map(|id| id.as_str()?.parse::<Digest>().ok()) {
            let next = match chain {
                None => diff_id,
                Some(below) => {
                    let mut hasher = Hasher::new();
                    hasher.update(format!("{below} {diff_id}").as_bytes());
                    hasher.finish()
                }
            };
            self.folders.entry(next.hex().to_owned()).or_insert_with(|| name.to_owned());
            chain = Some(next);
        }
    }

    /// Takes from a record of a step, a layer or a base what it says.
    fn add_record(&mut self, store: &Store, record: &Value) {
        if let Some(instruction) = text(record, "instruction")
            && let Some(layer) = record.get("layer").and_then(|layer| text(layer, "digest"))
        {
            self.layers.extend(layer.parse().ok().map(|digest| (digest, instruction.clone())));
            self.folders.extend(text(record, "kept").map(|id| (id, instruction)));
        }
        if let (Some(of), Some(layer)) = (text(record, "of"), text(record, "digest"))
            && let Ok(digest) = layer.parse()
        {
            self.layers.entry(digest).or_insert(of);
        }
        let of = record.get("manifest").and_then(|manifest| text(manifest, "digest"));
        if let (Some(name), Some(Ok(digest))) = (text(record, "name"), of.map(|d| d.parse())) {
            self.add_image(store, &digest, &name, Kind::Base);
        }
    }

    /// Takes from an image what it says of its base.
    fn add_base_of(&mut self, store: &Store, digest: &Digest) {
        let Some(document) = document(store, digest) else { return };
        let said = |name: &str| document.get("annotations")?.get(name)?.as_str();
        if let (Some(name), Some(Ok(digest))) = (said(BASE_NAME), said(BASE_DIGEST).map(str::parse))
        {
            self.add_image(store, &digest, name, Kind::Base);
        }
    }
}

/// A blob that is a document.
fn document(store: &Store, digest: &Digest) -> Option<Value> {
    let path = store.blob_path(digest);
    let mut file = fs_err::File::open(path).ok()?;
    let mut bytes = vec![0];
    file.read_exact(&mut bytes).ok()?;
    if bytes != b"{" || file.metadata().ok()?.len() > LARGEST_DOCUMENT {
        return None;
    }
    file.take(LARGEST_DOCUMENT).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn digests_in(document: &Value) -> Vec<Digest> {
    let lists = ["manifests", "layers"].map(|key| document.get(key).and_then(Value::as_array));
    let all = lists.into_iter().flatten().flatten().chain(document.get("config"));
    all.filter_map(|descriptor| text(descriptor, "digest")?.parse().ok()).collect()
}

/// A text in a record or document.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

/// The beginning of a digest, as tables have it.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}
