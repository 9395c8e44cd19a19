//! Archives of `docker save` and archived layouts: every image that is found is whole, and no blob
//! ends on bytes that its digest does not name.

#![no_main]

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Mutex;

use gondola::image::Artifact;
use gondola::oci::{Digest, Platform, PlatformSet};
use gondola::progress::Reporter;
use gondola::registry::{BlobSource, Client, Options};
use gondola::store::Store;
use gondola::transport::{Context, Location, read_all};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A store that is thrown away before it is large.
static WORLD: Mutex<Option<(usize, World)>> = Mutex::new(None);
const RUNS: usize = 2000;

struct World {
    runtime: tokio::runtime::Runtime,
    context: Context,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let folder = folder.expect("a temporary folder");
        let context = Context {
            store: Store::open(&folder.path().join("store")).expect("a store"),
            client: Client::new(Options::default()).expect("a client"),
            reporter: Reporter::silent(),
            host: Platform::host(),
            jobs: 1,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, context, folder }
    }

    fn read(&self, data: &[u8]) {
        let file = self.folder.path().join("archive");
        let written = std::fs::File::create(&file).and_then(|mut file| file.write_all(data));
        written.expect("room for the archive");
        for place in [
            Location::DockerArchive { file: file.clone(), name: None },
            Location::OciArchive { file, tag: None },
        ] {
            let images = self.runtime.block_on(read_all(&place, &PlatformSet::All, &self.context));
            for named in images.into_iter().flatten() {
                whole(&named.artifact);
            }
        }
    }
}

fn whole(artifact: &Artifact) {
    for (descriptor, bytes) in artifact.documents() {
        assert_eq!(descriptor.digest, Digest::of(&bytes));
        assert_eq!(descriptor.size, bytes.len() as u64);
    }
    for image in artifact.images() {
        assert_eq!(image.layers.len(), image.manifest.value().layers.len());
    }
    for blob in artifact.blobs() {
        let mut bytes = Vec::new();
        let read = blob.open().map(|reader| reader.take(16 << 20).read_to_end(&mut bytes));
        if let Ok(Ok(count)) = read
            && count < 16 << 20
        {
            assert_eq!(Digest::of(&bytes).as_str().len(), 71);
            if blob.descriptor.digest.algorithm() == "sha256" {
                assert_eq!(blob.descriptor.digest, Digest::of(&bytes), "a blob that is another");
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut world = WORLD.lock().expect("one thread");
    let (runs, current) = world.get_or_insert_with(|| (0, World::new()));
    current.read(data);
    *runs += 1;
    if *runs >= RUNS {
        *world = None;
    }
});
