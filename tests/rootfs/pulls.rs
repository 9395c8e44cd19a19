//! From a registry into folders: by many at once, after kills, and out again when nobody needs them.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use gondola::cache::{self, CACHES, Policy, Usage, View};
use gondola::image::{Artifact, Image, TaggedArtifact};
use gondola::oci::PlatformSet;
use gondola::rootfs::Unpacker;
use gondola::sandbox::Isolation;
use gondola::store::Store;
use gondola::transport::{self, Location};

use super::archive::{Raw, file, folder, image};
use super::support::{Registry, Sandbox, need};
use super::world::{World, block_on, left_in, list, paths, read, refusal};

/// Puts an image into a registry and reads it back from there: its layers stay there.
pub fn pushed(world: &World, registry: &Registry, image: Image) -> Image {
    let context = world.unpacker(Isolation::Ns).context;
    let name = registry.image("test:latest");
    let references = vec![name.parse().unwrap()];
    let named = TaggedArtifact { artifact: Artifact::Image(image), references };
    let place = Location::Registry(name.parse().unwrap());
    let all = PlatformSet::All;
    block_on(async {
        transport::push(&[named], &context).await.unwrap();
        let artifact = transport::read(&place, &all, &context).await.unwrap();
        artifact.images()[0].clone()
    })
}

#[test]
fn layers_go_straight_from_a_registry_into_folders_once() {
    let registry = need!(Registry::plain());
    let world = World::new();
    let big = "0123456789abcdef".repeat(100_000);
    let layers: [&[Raw]; 3] =
        [&[file("a", &big)], &[file("b", "x"), file(".wh.a", "")], &[file("c", "y")]];
    let image = pushed(&world, &registry, image(&layers));
    let unpacker = world.unpacker(Isolation::Ns);
    let rootfs = block_on(unpacker.unpack(&image)).unwrap();
    assert_eq!(paths(&rootfs.view().unwrap()), ["b", "c"]);
    let digest = &image.layers[0].descriptor.digest;
    assert_eq!(registry.count("GET", digest.as_str(), &[200]), 1);
    // The compressed blob is not kept, and not asked for again.
    assert!(!world.store.blob_path(digest).exists());
    block_on(unpacker.unpack(&image)).unwrap();
    assert_eq!(registry.count("GET", digest.as_str(), &[200]), 1);
    // Another form takes them once more, and keeps them where that is asked for.
    let other = Unpacker { isolation: Isolation::InContainer, ..unpacker };
    block_on(other.unpack_and_store(&image)).unwrap();
    assert!(world.store.holds(&image.layers[0].descriptor).unwrap());
    let third = Unpacker { isolation: Isolation::NsRoot, ..other };
    block_on(third.unpack(&image)).unwrap();
    assert_eq!(registry.count("GET", digest.as_str(), &[200]), 2);
}

#[test]
fn a_blob_that_the_registry_spoiled_is_refused() {
    let registry = need!(Registry::plain());
    let world = World::new();
    let big = "0123456789abcdef".repeat(100_000);
    let image = pushed(&world, &registry, image(&[&[file("a", &big)]]));
    let blob = registry.blob_file(&image.layers[0].descriptor.digest);
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = refusal(block_on(world.unpacker(Isolation::Ns).unpack(&image)));
    assert!(error.to_string().contains("sha256:"), "{error}");
    assert!(!world.path("store/gondola/rootfs/recorded").exists());
}

#[test]
fn of_several_that_want_the_same_image_one_unpacks_it() {
    let registry = need!(Registry::plain());
    let world = World::new();
    let big = "0123456789abcdef".repeat(100_000);
    let layers: [&[Raw]; 2] = [&[file("a", &big)], &[file("b", &big)]];
    let image = pushed(&world, &registry, image(&layers));
    block_on(async {
        let unpackers: Vec<_> = (0..6)
            .map(|_| {
                // A handle of its own, as another process has.
                let mut unpacker = world.unpacker(Isolation::Ns);
                unpacker.context.store = Store::open(world.store.root()).unwrap();
                unpacker
            })
            .collect();
        let work = unpackers.iter().map(|unpacker| unpacker.unpack(&image));
        for rootfs in futures_util::future::join_all(work).await {
            assert_eq!(paths(&rootfs.unwrap().view().unwrap()), ["a", "b"]);
        }
    });
    for layer in &image.layers {
        let digest = layer.descriptor.digest.as_str();
        assert_eq!(registry.count("GET", digest, &[200]), 1);
    }
}

#[test]
fn what_a_killed_process_left_is_gone_after_the_next_and_its_work_is_done_anew() {
    let registry = need!(Registry::plain());
    let world = World::new();
    // Long enough to be killed in the middle.
    let entries: Vec<Raw> = (0..5000).map(|n| file(format!("d{}/f{n}", n % 50), "x")).collect();
    pushed(&world, &registry, image(&[&entries]));
    let sandbox = Sandbox::new();
    let name = registry.image("test:latest");
    let arguments = ["-q", "pull", "--unpack", &name];
    let mut command = sandbox.command(&arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let work = sandbox.store().join("gondola/work");
    let begun = || {
        let folders = fs::read_dir(&work).into_iter().flatten().filter_map(Result::ok);
        let mut layers = folders.map(|folder| folder.path().join("0/fs"));
        layers.any(|layer| layer.exists() && !list(&layer).is_empty())
    };
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.gondola(&arguments).success();
    sandbox.gondola(&["cache", "prune"]).success();
    assert_eq!(list(&work).len(), 0, "{:?}", list(&work));
    let rootfs = list(&sandbox.store().join("gondola/rootfs"));
    assert_eq!(rootfs.len(), 1, "{rootfs:?}");
}

pub const ALL: Policy = Policy { older_than: None, keep_bytes: None, all: true, dry_run: false };
const GARBAGE: Policy = Policy { all: false, ..ALL };

/// What is unpacked of images.
fn unpacked(store: &Store) -> Usage {
    let cache = CACHES.into_iter().find(|cache| cache.name() == "unpacked").unwrap();
    cache.usage(&View::take(store).unwrap())
}

/// How many folders of images and steps are removed.
pub fn removed_folders(store: &Store, policy: &Policy) -> usize {
    let pruned = cache::prune(store, policy, now()).unwrap();
    pruned.entries.iter().filter(|entry| entry.path.starts_with("gondola/rootfs")).count()
}

#[expect(clippy::disallowed_methods, reason = "tests are their own clock")]
pub fn now() -> SystemTime {
    SystemTime::now() + Duration::from_secs(1)
}

#[test]
fn unpacked_layers_are_counted_and_pruned_unless_somebody_uses_them() {
    let world = World::new();
    let layers: [&[Raw]; 2] = [&[file("a", "x"), folder("closed").mode(0)], &[file("b", "y")]];
    let rootfs = world.unpack(&image(&layers), Isolation::Ns).unwrap();
    let usage = unpacked(&world.store);
    assert_eq!(usage.count, 2);
    assert_eq!(usage.bytes, 2, "the lengths of its files");
    // Another process must not take away what this one uses.
    let other = Store::open(world.store.root()).unwrap();
    assert_eq!(removed_folders(&other, &ALL), 0);
    let (kept, id) = {
        let fork = rootfs.fork().unwrap();
        fork.apply(&gondola::layer::Tree::new()).unwrap();
        fork.keep(None).unwrap()
    };
    world.store.put_record("step", "key", &id).unwrap();
    let forgotten = rootfs.fork().unwrap().keep(None).unwrap().1;
    drop((rootfs, kept));
    let root = world.store.root().to_owned();
    // The end of both processes.
    drop(other);
    let ended = world.into_folder();
    let again = Store::open(&root).unwrap();
    // A layer can be found again by its image, a step only by a record.
    assert_eq!(removed_folders(&again, &GARBAGE), 1);
    assert!(again.kept_folder("recorded", &forgotten).unwrap().is_none());
    drop(again);
    let again = Store::open(&root).unwrap();
    assert_eq!(removed_folders(&again, &ALL), 3);
    assert_eq!(unpacked(&again).count, 0);
    drop(again);
    assert_eq!(left_in(&root.join("gondola/work")), [""; 0]);
    drop(ended);
}

#[test]
fn a_layer_that_is_gone_is_unpacked_again_and_a_step_over_it_is_gone_with_it() {
    let world = World::new();
    let image = image(&[&[file("a", "x")], &[file("b", "y")]]);
    let rootfs = world.unpack(&image, Isolation::Ns).unwrap();
    let (_, id) = rootfs.fork().unwrap().keep(None).unwrap();
    assert!(world.unpacker(Isolation::Ns).kept(&id).unwrap().is_some());
    let base = rootfs.layers()[0].parent().unwrap().to_owned();
    gondola::store::remove_tree(&base).unwrap();
    assert!(world.unpacker(Isolation::Ns).kept(&id).unwrap().is_none());
    let again = world.unpack(&image, Isolation::Ns).unwrap();
    assert_eq!(read(&again.view().unwrap(), "/a").as_deref(), Some("x"));
    assert!(world.unpacker(Isolation::Ns).kept(&id).unwrap().is_some());
}

#[test]
fn cache_du_shows_what_is_unpacked() {
    let registry = need!(Registry::plain());
    let world = World::new();
    pushed(&world, &registry, image(&[&[file("a", "x")]]));
    let sandbox = Sandbox::new();
    sandbox.gondola(&["pull", "--unpack", &registry.image("test:latest")]).success();
    let shown = sandbox.gondola(&["cache", "du", "--json"]).success();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["unpacked"]["count"], 1);
    assert_eq!(shown["layers"]["count"], 0, "{shown}");
    sandbox.gondola(&["cache", "prune", "--all"]).success();
    let shown = sandbox.gondola(&["cache", "du", "--json"]).success();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["unpacked"]["count"], 0);
}
