//! What is counted, what is pruned, and what never is.

use super::*;

/// A named image, an unnamed base of which nothing else is known, a layer that a record
/// knows, and a layer that nothing knows.
struct Mix {
    place: Place,
    named: [Descriptor; 3],
    base: [Descriptor; 3],
    recorded: Descriptor,
    loose: Descriptor,
}

fn mix() -> Mix {
    let place = place();
    let named = image(&place.store, "named");
    let base = image(&place.store, "base");
    let recorded = put(&place.store, MediaType::OCI_LAYER, b"recorded layer");
    let loose = put(&place.store, MediaType::OCI_LAYER, b"loose");
    let index = Document::new(MediaType::OCI_INDEX, Index::new(vec![named[0].clone()]));
    place.store.put(index.bytes()).unwrap();
    place.store.set_names(&[(name("named"), index.descriptor().clone())]).unwrap();
    place.store.put_record("layer", "tree", &json!({"layer": recorded.digest})).unwrap();
    Mix { place: place.restart(), named, base, recorded, loose }
}

#[test]
fn usage_counts_every_file_once_in_its_class() {
    let Mix { place, named, base, recorded, loose } = mix();
    let bytes = |all: &[Descriptor]| all.iter().map(|d| d.size).sum::<u64>();
    place.store.put_record("base", "name", &"what was looked up").unwrap();
    let [images, bases, layers, look_ups] =
        ["images", "unnamed", "layers", "look-ups"].map(|name| usage(&place.store, name));
    assert_eq!(images.count, 4);
    assert!(images.bytes > bytes(&named));
    assert_eq!((bases.count, bases.bytes), (3, bytes(&base)));
    // Two blobs, and the note of which files one of them has.
    assert_eq!((layers.count, look_ups.count), (3, 1));
    assert!(layers.bytes > bytes(&[recorded, loose]) && look_ups.last_used.is_some());
    let all: u64 = [images, bases, layers, look_ups].iter().map(|usage| usage.bytes).sum();
    assert_eq!(bytes_of_all(&place.store), all);
}

#[test]
fn plain_prune_removes_what_nothing_can_find_again() {
    let Mix { place, named, base, recorded, loose } = mix();
    let expect = digests(base.iter().chain([&loose]));
    let dry = Policy { dry_run: true, ..Policy::default() };
    assert_eq!(pruned(&place.store, &dry), expect);
    assert!(expect.iter().all(|digest| place.holds(digest)));
    assert_eq!(pruned(&place.store, &Policy::default()), expect);
    assert!(!expect.iter().any(|digest| place.holds(digest)));
    assert!(digests(named.iter().chain([&recorded])).iter().all(|d| place.holds(d)));
    assert!(place.store.get_record::<serde_json::Value>("layer", "tree").is_some());
    assert!(place.store.verify().unwrap().is_clean());
}

#[test]
fn prune_of_all_leaves_named_images_alone() {
    let Mix { place, named, base, recorded, loose } = mix();
    let before = bytes_of_all(&place.store);
    let said = prune(&place.store, &Policy { dry_run: true, ..ALL });
    let report = prune(&place.store, &ALL);
    assert_eq!(said.bytes, report.bytes);
    assert_eq!(blobs_of(&report), digests(base.iter().chain([&recorded, &loose])));
    assert_eq!(report.entries.len(), 6, "five blobs and a record");
    let after = bytes_of_all(&place.store);
    assert_eq!(after, usage(&place.store, "images").bytes);
    assert_eq!(report.bytes, before - after);
    assert!(named.iter().all(|descriptor| place.holds(&descriptor.digest)));
    assert_eq!(place.store.get_record::<serde_json::Value>("layer", "tree"), None);
}

#[test]
fn a_named_image_stays_whole_however_long_its_manifest_is() {
    let place = place();
    let layer = put(&place.store, MediaType::OCI_LAYER, b"layer");
    let config = put(&place.store, MediaType::OCI_CONFIG, b"{}");
    let mut manifest = Manifest::new(MediaType::OCI_MANIFEST, config.clone(), vec![layer.clone()]);
    let length = usize::try_from(gondola::oci::LARGEST_DOCUMENT).unwrap() - 2000;
    manifest.annotations.insert("long".to_owned(), "x".repeat(length));
    let manifest = Document::new(MediaType::OCI_MANIFEST, manifest);
    place.store.put(manifest.bytes()).unwrap();
    place.store.set_names(&[(name("long"), manifest.descriptor().clone())]).unwrap();
    let place = place.restart();
    assert!(pruned(&place.store, &ALL).is_empty());
    assert!(place.holds(&layer.digest) && place.holds(&config.digest));
}

#[test]
fn an_image_whose_name_is_removed_can_be_pruned() {
    let Mix { place, named, .. } = mix();
    place.store.remove_names(&[name("named")]).unwrap();
    let place = place.restart();
    assert!(digests(&named).is_subset(&pruned(&place.store, &Policy::default())));
}

#[test]
fn prune_by_age_removes_what_was_not_used_for_so_long() {
    let Mix { place, named, base, recorded, loose } = mix();
    for descriptor in named.iter().chain(&base) {
        place.age(&descriptor.digest, hours(50));
    }
    place.age(&recorded.digest, hours(23));
    place.age(&loose.digest, hours(25));
    let day = Policy { older_than: Some(hours(24)), ..Policy::default() };
    assert_eq!(pruned(&place.store, &day), digests(base.iter().chain([&loose])));
}

#[test]
fn every_use_makes_a_blob_young_again() {
    for (what, use_it) in [
        (
            "has",
            (|store, d| assert!(store.has(&d.digest).unwrap().is_some()))
                as fn(&Store, &Descriptor),
        ),
        ("read", |store, d| assert!(!store.read(d, 1000).unwrap().is_empty())),
        ("open", |store, d| drop(store.open_blob(d).unwrap())),
        ("put", |store, _| drop(store.put(b"loose").unwrap())),
        ("ingest", |store, d| {
            let mut ingest = store.ingest().unwrap();
            ingest.write_all(b"loose").unwrap();
            ingest.commit(Some(d)).unwrap();
        }),
    ] {
        let Mix { place, loose, .. } = mix();
        place.age(&loose.digest, hours(50));
        use_it(&place.store, &loose);
        let place = place.restart();
        let day = Policy { older_than: Some(hours(24)), ..Policy::default() };
        assert!(pruned(&place.store, &day).is_empty(), "{what}");
    }
}

#[test]
fn prune_by_size_removes_the_least_recently_used_first() {
    let place = place();
    let blobs: Vec<Descriptor> =
        (0..10u8).map(|number| put(&place.store, MediaType::OCI_LAYER, &[number; 100])).collect();
    let [named, ..] = image(&place.store, "named");
    place.store.set_names(&[(name("named"), named)]).unwrap();
    // The eldest is in the middle.
    let age = |index: u64| hours(1 + (index + 5) % 10);
    for (index, blob) in (0..).zip(&blobs) {
        place.age(&blob.digest, age(index));
    }
    let place = place.restart();
    for (keep, left) in [(10_000, 10), (1000, 10), (999, 9), (450, 4), (0, 0)] {
        let policy = Policy { keep_bytes: Some(keep), ..Policy::default() };
        prune(&place.store, &policy);
        let mut young: Vec<(u64, &Descriptor)> = (0..).zip(&blobs).collect();
        young.sort_by_key(|(index, _)| age(*index));
        let expect = digests(young.iter().take(left).map(|(_, blob)| *blob));
        let found = digests(blobs.iter().filter(|blob| place.holds(&blob.digest)));
        assert_eq!(found, expect, "{keep}");
    }
    assert!(place.store.resolve(&name("named")).unwrap().is_some());
}

#[test]
fn with_both_limits_only_what_is_over_both_goes() {
    let Mix { place, base, recorded, loose, .. } = mix();
    place.age(&loose.digest, hours(50));
    place.age(&recorded.digest, hours(40));
    let cache = bytes_of_all(&place.store) - usage(&place.store, "images").bytes;
    let policy = |keep_bytes| Policy {
        older_than: Some(hours(24)),
        keep_bytes: Some(keep_bytes),
        ..Policy::default()
    };
    assert!(pruned(&place.store, &policy(cache)).is_empty());
    assert_eq!(pruned(&place.store, &policy(cache - 1)), digests([&loose]));
    assert_eq!(pruned(&place.store, &policy(0)), digests([&recorded]));
    assert!(base.iter().all(|descriptor| place.holds(&descriptor.digest)));
}

#[test]
fn what_a_running_process_stored_or_looked_up_stays() {
    let Mix { place, base, recorded, loose, .. } = mix();
    for descriptor in base.iter().chain([&recorded, &loose]) {
        place.age(&descriptor.digest, hours(50));
    }
    let worker = place.other();
    worker.has(&base[0].digest).unwrap();
    let fresh = worker.put(b"fresh").unwrap();
    // The manifest was looked up, so its config and layer stay with it.
    let gone = pruned(&place.other(), &ALL);
    assert_eq!(gone, digests([&recorded, &loose]));
    let size = Policy { keep_bytes: Some(0), ..Policy::default() };
    assert!(pruned(&place.other(), &size).is_empty());
    drop(worker);
    let expect = digests(&base).into_iter().chain([fresh]).collect();
    assert_eq!(pruned(&place.other(), &ALL), expect);
}

#[test]
fn a_resolved_image_stays_when_its_name_is_removed() {
    let Mix { place, named, .. } = mix();
    let worker = place.other();
    let index = worker.resolve(&name("named")).unwrap().unwrap();
    let other = place.other();
    other.remove_names(&[name("named")]).unwrap();
    drop(other);
    pruned(&place.other(), &ALL);
    assert!(digests(named.iter().chain([&index])).iter().all(|digest| place.holds(digest)));
    worker.set_names(&[(name("again"), index)]).unwrap();
    drop(worker);
    assert!(pruned(&place.other(), &ALL).is_empty());
}

/// Waits until somebody waits for a lock on the file; `false` if `done` comes first.
fn is_waited_for(file: &std::fs::File, done: &std::sync::mpsc::Receiver<()>) -> bool {
    let inode = format!(":{} ", file.metadata().unwrap().ino());
    loop {
        let locks = fs_err::read_to_string("/proc/locks").unwrap();
        if locks.lines().any(|line| line.contains("->") && line.contains(&inode)) {
            return true;
        }
        if done.try_recv().is_ok() {
            return false;
        }
        std::thread::yield_now();
    }
}

#[test]
fn whoever_uses_or_stores_anything_waits_for_the_collector() {
    type Use = fn(&Store, &Descriptor);
    let uses: [(&str, Use); 7] = [
        ("has", |store, d| assert!(store.has(&d.digest).unwrap().is_some())),
        ("read", |store, d| drop(store.read(d, 1000).unwrap())),
        ("put", |store, _| drop(store.put(b"new").unwrap())),
        ("ingest", |store, d| drop(store.ingest_unhashed().unwrap().commit_as(&d.digest, 0).err())),
        ("resolve", |store, _| drop(store.resolve(&name("absent")).unwrap())),
        ("name", |store, d| store.set_names(&[(name("x"), d.clone())]).unwrap()),
        ("record", |store, _| store.put_record("kind", "key", &1).unwrap()),
    ];
    for (what, use_it) in uses {
        let place = place();
        let blob = put(&place.store, MediaType::OCI_LAYER, b"");
        let _lease = place.store.lease().unwrap();
        let lock =
            std::fs::File::options().write(true).open(place.root().join("gondola/collect.lock"));
        let lock = lock.unwrap();
        lock.lock().unwrap();
        let (sender, done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use_it(&place.store, &blob);
                sender.send(()).unwrap();
            });
            let waited = is_waited_for(&lock, &done);
            lock.unlock().unwrap();
            assert!(waited, "{what}");
        });
    }
}

#[test]
fn unfinished_files_of_the_living_stay_and_those_of_the_dead_go() {
    let place = place();
    let mut ingest = place.store.ingest().unwrap();
    ingest.write_all(b"half of it, ").unwrap();
    let dead = place.root().join("gondola/work/dead");
    for (file, bytes) in [("lease", 0), ("0", 70), ("1", 30)] {
        fs_err::create_dir_all(&dead).unwrap();
        fs_err::write(dead.join(file), vec![1; bytes]).unwrap();
    }
    let other = place.other();
    let dry = prune(&other, &Policy { dry_run: true, ..ALL });
    assert_eq!((dry.entries.len(), dry.bytes), (1, 100));
    assert!(dead.join("1").exists());
    let wet = prune(&other, &ALL);
    assert_eq!((wet.entries.len(), wet.bytes), (1, 100));
    assert!(!dead.exists());
    ingest.write_all(b"and the rest").unwrap();
    let (digest, _) = ingest.commit(None).unwrap();
    assert_eq!(digest, Digest::of(b"half of it, and the rest"));
}

#[test]
fn the_next_process_removes_what_the_dead_left() {
    let place = place().restart();
    let dead = place.root().join("gondola/work/dead");
    fs_err::create_dir_all(&dead).unwrap();
    fs_err::write(dead.join("0"), b"half").unwrap();
    place.store.names().unwrap();
    assert!(dead.exists());
    place.store.put(b"x").unwrap();
    assert!(!dead.exists());
}

#[test]
fn files_that_are_no_blobs_are_left_alone() {
    let place = place();
    let stranger = place.root().join("blobs/sha256/README");
    fs_err::write(&stranger, "mine").unwrap();
    assert!(place.store.verify().unwrap().is_clean());
    assert!(pruned(&place.store, &ALL).is_empty());
    assert!(stranger.exists());
    let stray = place.root().join("gondola/work/stray");
    fs_err::write(&stray, "mine").unwrap();
    prune(&place.store, &ALL);
    assert!(stray.exists());
}
