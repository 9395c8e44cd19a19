//! A folder with a store in it, and images to move about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gondola::error::{Error, Result};
use gondola::image::{Artifact, Blob, BlobLocation, Draft, Image, Layer, TaggedArtifact};
use gondola::layer::{self, Content, Encoding, Entry, Tree, WriteOptions};
use gondola::oci::{
    Descriptor, Digest, Document, History, Index, Manifest, MediaType, Platform, PlatformSet,
};
use gondola::progress::{Event, Outcome, Progress, Reporter};
use gondola::registry::{BlobSource, Client};
use gondola::store::Store;
use gondola::transport::{self, Context, Location};
use tempfile::TempDir;

pub const GZIP: Encoding = Encoding::Gzip { level: 6, single_member: false };

/// A folder of a test's own, and what transports work with.
pub struct Bench {
    folder: TempDir,
    pub context: Context,
    pub events: Arc<Events>,
}

/// Every event in its order.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Events {
    /// How many tasks ended in this way; forgets them.
    pub fn take(&self, wanted: &Outcome) -> usize {
        let mut events = self.0.lock().unwrap();
        let ended =
            |event: &Event| matches!(event, Event::Finished { outcome, .. } if outcome == wanted);
        let count = events.iter().filter(|event| ended(event)).count();
        events.retain(|event| !ended(event));
        count
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with_client(super::support::client::impatient())
    }

    pub fn with_client(options: gondola::registry::Options) -> Self {
        let folder = TempDir::with_prefix("gondola-transport-").unwrap();
        let events = Arc::new(Events::default());
        let context = Context {
            store: Store::open(&folder.path().join("store")).unwrap(),
            client: Client::new(options).unwrap(),
            reporter: Reporter::new(events.clone()),
            host: "linux/amd64".parse().unwrap(),
            jobs: 4,
        };
        Self { folder, context, events }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is in the folder beside the store, hidden files too.
    pub fn listing(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "store").collect();
        names.sort();
        names
    }

    /// A place whose path, if it has one, is in this folder.
    pub fn place(&self, text: &str) -> Location {
        text.parse::<Location>().unwrap().in_folder(self.folder.path())
    }

    pub fn write(&self, place: &str, images: &[TaggedArtifact]) -> Result<()> {
        run(transport::write(&self.place(place), images, &self.context))
    }

    pub fn read(&self, place: &str, platforms: &str) -> Result<Artifact> {
        let platforms: PlatformSet = platforms.parse().unwrap();
        run(transport::read(&self.place(place), &platforms, &self.context))
    }

    pub fn read_all(&self, place: &str) -> Result<Vec<TaggedArtifact>> {
        run(transport::read_all(&self.place(place), &PlatformSet::All, &self.context))
    }
}

/// Runs what waits, as a program with several threads does.
pub fn run<T>(work: impl Future<Output = T> + Send) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

pub fn image(platform: &str, content: &str) -> Image {
    image_with(platform, content, GZIP)
}

pub fn image_with(platform: &str, content: &str, encoding: Encoding) -> Image {
    let mut draft = Draft::scratch(platform.parse::<Platform>().unwrap());
    draft.push_layer(file_layer("hello.txt", content, encoding), History::default());
    draft.push_layer(file_layer("shared.txt", "the same in all", encoding), History::default());
    draft.container().cmd = Some(vec!["/hello.txt".to_owned()]);
    draft.finish()
}

pub fn file_layer(name: &str, content: &str, encoding: Encoding) -> Layer {
    let mut tree = Tree::new();
    let content = Content::Memory(Bytes::from(content.to_owned()));
    tree.insert(name.parse().unwrap(), Entry::file(content, 0o644)).unwrap();
    let mut bytes = Vec::new();
    let options = WriteOptions { encoding, threads: 1 };
    let info = layer::write(&tree, &options, &|_| {}, &mut bytes).unwrap();
    let media_type = MediaType::layer_for(&MediaType::OCI_MANIFEST, info.compression);
    let blob = Blob::in_memory(Descriptor::of(media_type, &bytes), bytes.into());
    Layer { blob, diff_id: info.diff_id }
}

/// An index over images for amd64 and arm64.
pub fn index() -> Artifact {
    let images = vec![image("linux/amd64", "amd"), image("linux/arm64", "arm")];
    Artifact::index(images, BTreeMap::new())
}

/// An index with an attestation that names its image, as BuildKit writes them, and with a chart.
pub fn index_with_others() -> Artifact {
    let image = image("linux/amd64", "amd");
    let mut entry = image.manifest.descriptor().clone();
    entry.platform = Some(image.platform().clone());
    let statement =
        other(MediaType::OCI_CONFIG, "application/vnd.in-toto+json", Some(entry.clone()));
    let mut attestation = statement.descriptor().clone();
    attestation.platform = Some("unknown/unknown".parse().unwrap());
    let chart = other(
        MediaType::new("application/vnd.cncf.helm.config.v1+json"),
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        None,
    );
    let entries = vec![entry, attestation, chart.descriptor().clone()];
    let document = Document::new(MediaType::OCI_INDEX, Index::new(entries));
    Artifact::Index { document, children: vec![Artifact::Image(image), statement, chart] }
}

/// A manifest that is no image.
pub fn other(config: MediaType, layer: &str, subject: Option<Descriptor>) -> Artifact {
    let config = blob(config, b"{\"not\": \"an image\"}");
    let layer = blob(MediaType::new(layer), b"{\"payload\": 1}");
    let described = vec![layer.descriptor.clone()];
    let mut manifest = Manifest::new(MediaType::OCI_MANIFEST, config.descriptor.clone(), described);
    manifest.subject = subject;
    let document = Document::new(MediaType::OCI_MANIFEST, manifest);
    Artifact::Other { document, blobs: vec![config, layer] }
}

fn blob(media_type: MediaType, bytes: &'static [u8]) -> Blob {
    Blob::in_memory(Descriptor::of(media_type, bytes), Bytes::from_static(bytes))
}

pub fn named(artifact: Artifact, names: &[&str]) -> TaggedArtifact {
    TaggedArtifact {
        artifact,
        references: names.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

/// An image one of whose layers does not have the content that its digest names.
pub fn broken(platform: &str) -> Artifact {
    let mut image = image(platform, "broken");
    let size = usize::try_from(image.layers[0].descriptor.size).unwrap();
    image.layers[0].source = BlobLocation::Memory(vec![b'x'; size].into());
    Artifact::Image(image)
}

/// The digests of all blobs, after each was read to its end.
pub fn verified(artifact: &Artifact) -> Vec<String> {
    let read = |blob: &Blob| {
        let mut content = blob.open().unwrap_or_else(|error| panic!("{error}"));
        std::io::copy(&mut content, &mut std::io::sink()).unwrap();
        blob.descriptor.digest.to_string()
    };
    let mut digests: Vec<String> = artifact.blobs().iter().map(read).collect();
    digests.sort();
    digests
}

/// Checks that what was read is the original: the same bytes everywhere.
#[track_caller]
pub fn assert_same(found: &Artifact, original: &Artifact) {
    let documents = |artifact: &Artifact| -> Vec<(Digest, Bytes)> {
        artifact.documents().into_iter().map(|(d, bytes)| (d.digest, bytes)).collect()
    };
    assert_eq!(found.document_bytes(), original.document_bytes());
    assert_eq!(documents(found), documents(original));
    assert_eq!(verified(found), verified(original));
}

/// Checks that an error has every one of some texts.
#[track_caller]
pub fn assert_says<T>(result: Result<T>, texts: &[&str]) -> Error {
    let Err(error) = result else { panic!("no error, expected {texts:?}") };
    let message = error.to_string();
    assert!(message.starts_with("cannot "), "{message}");
    for text in texts {
        assert!(message.contains(text), "no {text:?} in: {message}");
    }
    error
}
