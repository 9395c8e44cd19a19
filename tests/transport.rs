//! Images go from any place to any other, whole or not at all.

#![cfg(test)]

use std::collections::BTreeMap;

use bytes::Bytes;
use gondola::image::{Artifact, Blob, Draft, Image, Layer, Named};
use gondola::layer::{self, Content, Encoding, Entry, Tree, WriteOptions};
use gondola::oci::{Descriptor, History, MediaType, Platform, PlatformSet};
use gondola::progress::Reporter;
use gondola::registry::{self, Client, Reopen};
use gondola::store::Store;
use gondola::transport::{self, Context, Place};
use tempfile::TempDir;

/// A folder with a store in it, and what transports work with.
struct Bench {
    folder: TempDir,
    context: Context,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::with_prefix("gondola-transport-").unwrap();
        let context = Context {
            store: Store::open(&folder.path().join("store")).unwrap(),
            client: Client::new(registry::Options::default()).unwrap(),
            reporter: Reporter::silent(),
            host: "linux/amd64".parse().unwrap(),
            jobs: 4,
        };
        Self { folder, context }
    }

    /// A place whose path, if it has one, is in this folder.
    fn place(&self, text: &str) -> Place {
        text.parse::<Place>().unwrap().in_folder(self.folder.path())
    }

    fn write(&self, place: &str, images: &[Named]) -> gondola::error::Result<()> {
        run(transport::write(&self.place(place), images, &self.context))
    }

    fn read(&self, place: &str, platforms: &str) -> gondola::error::Result<Artifact> {
        let platforms: PlatformSet = platforms.parse().unwrap();
        run(transport::read(&self.place(place), &platforms, &self.context))
    }
}

fn run<T>(work: impl Future<Output = T> + Send) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn image(platform: &str, content: &str) -> Image {
    image_with(platform, content, Encoding::Gzip { level: 6, single_member: false })
}

fn image_with(platform: &str, content: &str, encoding: Encoding) -> Image {
    let mut draft = Draft::scratch(platform.parse::<Platform>().unwrap());
    draft.push_layer(file_layer("hello.txt", content, encoding), History::default());
    draft.push_layer(file_layer("shared.txt", "the same in all", encoding), History::default());
    draft.container().cmd = Some(vec!["/hello.txt".to_owned()]);
    draft.finish()
}

fn file_layer(name: &str, content: &str, encoding: Encoding) -> Layer {
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

fn index() -> Artifact {
    Artifact::index(vec![image("linux/amd64", "amd"), image("linux/arm64", "arm")], BTreeMap::new())
}

fn named(artifact: Artifact, names: &[&str]) -> Named {
    Named { artifact, references: names.iter().map(|name| name.parse().unwrap()).collect() }
}

/// The digests of every blob, after reading each to its end.
fn verified(artifact: &Artifact) -> Vec<String> {
    let blobs = artifact.blobs();
    let read = |blob: &Blob| {
        std::io::copy(&mut blob.open().unwrap(), &mut std::io::sink()).unwrap();
        blob.descriptor.digest.to_string()
    };
    let mut digests: Vec<String> = blobs.iter().map(read).collect();
    digests.sort();
    digests
}

#[test]
fn an_index_is_the_same_after_a_way_through_every_local_place() {
    let bench = Bench::new();
    let original = index();
    let expect = verified(&original);
    let mut artifact = original.clone();
    for place in [
        "oci:layout:v1",
        "oci-archive:oci.tar:v1",
        "store:app",
        "docker-archive:docker.tar:ghcr.io/a/app:v2",
        "oci-archive:plain.tar",
    ] {
        bench.write(place, &[named(artifact, &[])]).unwrap();
        artifact = bench.read(place, "all").unwrap();
        assert_eq!(artifact.document_bytes(), original.document_bytes(), "{place}");
        assert_eq!(verified(&artifact), expect, "{place}");
    }
}
