//! Many processes in one store, and processes that are killed at any moment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;

const KILLS: u32 = 50;
const PROCESSES: usize = 30;
const IMAGES_EACH: usize = 4;

/// Runs an ignored test of this program as a process of its own, which reads `lines`.
fn spawn(test: &str, lines: &[&str], output: Stdio) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", lines.join("\n")).unwrap();
    child
}

/// The lines that [`spawn`] gave to this process; none where a person runs the test.
fn given_lines() -> Vec<String> {
    io::stdin().lines().map(Result::unwrap).collect()
}

/// Numbers that look random and are the same in every run.
fn number(seed: u32, below: u64) -> u64 {
    let hash = *blake3::hash(&seed.to_le_bytes()).as_bytes();
    u64::from_le_bytes(hash[..8].try_into().unwrap()) % below
}

/// Every name leads to content that is whole.
fn check_names(store: &Store) -> usize {
    let names = store.names().unwrap();
    for (name, _) in &names {
        // Another process may remove the name meanwhile, but once it is resolved the image stays.
        let Some(manifest) = store.resolve(name).unwrap() else { continue };
        check_image(store, &manifest);
    }
    names.len()
}

fn check_image(store: &Store, manifest: &Descriptor) {
    let bytes = store.read(manifest, 1 << 20).unwrap();
    let manifest: Document<Manifest> = Document::parse(MediaType::OCI_MANIFEST, bytes).unwrap();
    let Manifest { config, layers, .. } = manifest.value();
    for descriptor in layers.iter().chain([config]) {
        io::copy(&mut store.open_blob(descriptor).unwrap(), &mut io::sink()).unwrap();
    }
}

#[test]
#[ignore = "run, and killed, by another test"]
fn works_until_killed() {
    let [root, seed] = &given_lines()[..] else { return };
    let seed: u32 = seed.parse().unwrap();
    for round in 0u32.. {
        let said = |what: &str| writeln!(io::stdout(), "{what}").unwrap();
        // A handle, and so a lease, of its own for every round.
        let store = Store::open(Path::new(root)).unwrap();
        said("store a blob");
        let mut ingest = store.ingest().unwrap();
        let piece: Vec<u8> =
            (0..64 << 10).map(|i: u32| (i ^ round ^ seed).to_le_bytes()[0]).collect();
        for _ in 0..=number(round, 8) {
            ingest.write_all(&piece).unwrap();
        }
        ingest.commit(None).unwrap();
        said("store an image");
        let [manifest, ..] = image(&store, &format!("{seed} {}", round % 7));
        said("name it");
        let own = name(&format!("own:{seed}-{}", round % 5));
        store.set_names(&[(own.clone(), manifest.clone()), (name("all"), manifest)]).unwrap();
        said("record it");
        store.put_record("round", &format!("{}", round % 9), &round).unwrap();
        if round % 3 == 0 {
            said("remove the name");
            store.remove_names(&[own]).unwrap();
        }
        if round % 4 == 0 {
            said("prune");
            drop(store);
            prune(&Store::open(Path::new(root)).unwrap(), &ALL);
        }
    }
}

/// Kills the process after some lines of its report and some time that is too short to sleep.
fn kill_at_random(mut child: Child, seed: u32) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test harness says two lines of its own.
    for _ in 0..3 + number(seed, 20) {
        lines.next().unwrap().unwrap();
    }
    let until = Instant::now() + Duration::from_micros(number(seed + 1000, 2000));
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    kill(child);
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it ended by itself");
}

#[test]
fn a_process_killed_at_any_moment_leaves_a_store_that_is_whole() {
    let place = place().restart();
    let root = place.root().to_str().unwrap().to_owned();
    let test = "processes::works_until_killed";
    let survivor = spawn(test, &[&root, "999"], Stdio::null());
    for seed in 0..KILLS {
        kill_at_random(spawn(test, &[&root, &seed.to_string()], Stdio::piped()), seed);
        let store = place.other();
        let found = store.verify().unwrap();
        assert!(found.is_clean(), "after kill {seed}: {found:?}");
        check_names(&store);
        let [manifest, ..] = image(&store, "after");
        store.set_names(&[(name("after"), manifest)]).unwrap();
        assert!(store.resolve(&name("after")).unwrap().is_some());
    }
    kill(survivor);
    let report = prune(&place.store, &ALL);
    assert!(report.of("temporary").count <= 2, "each process tidies up after the dead: {report:?}");
    assert_eq!(usage(&place.store, "temporary").count, 0);
    assert_eq!(bytes_of_all(&place.store), usage(&place.store, "images").bytes);
    // Trash of the dead is deleted on the side.
    let left = || fs_err::read_dir(place.root().join("gondola/work")).unwrap().count();
    let until = Instant::now() + Duration::from_mins(1);
    while left() > 0 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(left(), 0);
    assert!(place.store.verify().unwrap().is_clean());
    assert!(check_names(&place.other()) > 0);
}

/// Stores and names images that are its own and images that everybody stores.
fn store_and_name(store: &Store, own: &str) {
    for round in 0..IMAGES_EACH {
        for seed in [format!("{own} {round}"), format!("shared {round}")] {
            let descriptors = image(store, &seed);
            // The others prune all the time, but never what this process has just stored.
            for descriptor in &descriptors {
                assert!(store.holds(descriptor).unwrap(), "{seed}");
            }
            let mut ingest = store.ingest().unwrap();
            ingest.write_all(format!("layer {seed}").as_bytes()).unwrap();
            ingest.commit(Some(&descriptors[2])).unwrap();
            check_image(store, &descriptors[0]);
            let tag = seed.replace(' ', "-");
            store.set_names(&[(name(&format!("x:{tag}")), descriptors[0].clone())]).unwrap();
        }
    }
}

/// All names are there, and nothing else.
fn check_all_named(store: &Store, owners: usize) {
    assert_eq!(check_names(store), (owners + 1) * IMAGES_EACH);
    assert!(store.verify().unwrap().is_clean());
    assert_eq!(usage(store, "images").count, 3 * (owners as u64 + 1) * IMAGES_EACH as u64);
}

#[test]
#[ignore = "run by another test"]
fn stores_and_names() {
    let [root, own] = &given_lines()[..] else { return };
    store_and_name(&Store::open(Path::new(root)).unwrap(), own);
}

#[test]
#[ignore = "run by another test"]
fn prunes_often() {
    let [root] = &given_lines()[..] else { return };
    for _ in 0..100 {
        prune(&Store::open(Path::new(root)).unwrap(), &ALL);
    }
}

#[test]
fn many_processes_lose_nothing_while_others_prune() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody has made the store yet: all of them do.
    let root = folder.path().join("new/store");
    let text = root.to_str().unwrap();
    let mut children: Vec<Child> = (0..PROCESSES)
        .map(|own| spawn("processes::stores_and_names", &[text, &own.to_string()], Stdio::piped()))
        .collect();
    children.extend((0..2).map(|_| spawn("processes::prunes_often", &[text], Stdio::piped())));
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
    check_all_named(&Store::open(&root).unwrap(), PROCESSES);
}

#[test]
fn many_threads_share_one_handle() {
    let place = place();
    std::thread::scope(|scope| {
        for own in 0..PROCESSES {
            let store = &place.store;
            scope.spawn(move || store_and_name(store, &own.to_string()));
        }
        scope.spawn(|| (0..50).for_each(|_| drop(prune(&place.other(), &ALL))));
    });
    check_all_named(&place.store, PROCESSES);
}

#[test]
fn equal_content_stored_at_once_is_stored_by_everybody() {
    static CONTENT: [u8; 300_000] = [7; 300_000];
    let place = place();
    let descriptor = Descriptor::of(MediaType::OCI_LAYER, &CONTENT);
    let begun: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut ingest = place.other().ingest().unwrap();
            ingest.write_all(&CONTENT).unwrap();
            ingest
        })
        .collect();
    std::thread::scope(|scope| {
        for ingest in begun {
            scope.spawn(|| ingest.commit(Some(&descriptor)).unwrap());
        }
    });
    assert_eq!(usage(&place.store, "layers").count, 1);
    assert!(place.store.verify().unwrap().is_clean());
}
