//! All caches together: whose the bytes are, and which go first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use gondola::store::{FolderInfo, StorePlace};

use super::support::{Run, Sandbox, install, need, program};
use super::*;

/// Hours since an entry was last used.
type Age = u64;

const SCOPE: &str = "00112233445566778899aabbccddeeff";

/// Something of every cache, each last used at another time, and a named image.
struct Everything {
    place: Place,
    /// What must be gone when an entry is, by the age.
    paths: BTreeMap<Age, PathBuf>,
}

fn write(path: &Path, bytes: usize, age: Age) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, vec![b'x'; bytes]).unwrap();
    set_age(path, age);
}

fn set_age(path: &Path, age: Age) {
    fs_err::File::open(path).unwrap().file().set_modified(now() - hours(age)).unwrap();
}

fn everything() -> Everything {
    let place = place();
    let store = &place.store;
    let mut paths = BTreeMap::new();
    let [manifest, ..] = image(store, "named");
    store.set_names(&[(name("named"), manifest)]).unwrap();
    let layer = put(store, MediaType::OCI_LAYER, &[b'l'; 1000]);
    place.age(&layer.digest, hours(10));
    paths.insert(10, store.blob_path(&layer.digest));
    for (kind, age) in [("step", 9), ("base", 8)] {
        // The layer is what came out of the step.
        store.put_record(kind, "key", &format!("{:500}", layer.digest)).unwrap();
        let folder = store.place(StorePlace::Records).join(kind);
        let record =
            folder.join(fs_err::read_dir(&folder).unwrap().next().unwrap().unwrap().file_name());
        set_age(&record, age);
        paths.insert(age, record);
    }
    let mount = store.place(StorePlace::CacheMounts).join("recorded").join(SCOPE);
    write(&mount.join("a/file"), 2000, 0);
    write(&mount.with_extension("lock"), 0, 7);
    write(&mount.with_extension("about"), 10, 0);
    paths.insert(7, mount);
    let go = store.place(StorePlace::GoCaches).join(SCOPE);
    write(&go.join("build/00/x-d"), 3000, 6);
    write(&go.join("build/gondola/purged"), 3, 0);
    write(&go.join("path/pkg/mod/m@v1/x.go"), 4000, 0);
    write(&go.join("in-use"), 0, 5);
    paths.insert(6, go.join("build/00/x-d"));
    paths.insert(5, go.join("path"));
    let programs = store.place(StorePlace::Programs).join(SCOPE);
    let program = programs.join("kept/key/package/app");
    write(&program, 5000, 0);
    write(&programs.join("kept/key.lock"), 0, 4);
    // What a killed build left: a second name of the same file.
    let run = programs.join("run-killed");
    write(&run.join("alive"), 0, 0);
    fs_err::create_dir(run.join("0")).unwrap();
    fs_err::hard_link(&program, run.join("0/app")).unwrap();
    paths.insert(4, program);
    for old in ["tmp/x", "go/build/00/y-d", "go/path/pkg/mod/z", "programs/kept/k/p/old"] {
        write(&place.root().join(old), 700, 100);
    }
    Everything { place: place.restart(), paths }
}

impl Everything {
    fn left(&self) -> Vec<Age> {
        let left = self.paths.iter().filter(|(_, path)| path.exists());
        left.map(|(age, _)| *age).collect()
    }
}

/// The bytes below a folder, each file once.
fn on_disk(folder: &Path) -> u64 {
    fn add(folder: &Path, files: &mut BTreeMap<u64, u64>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            if found.is_dir() {
                add(&entry.path(), files);
            } else {
                files.insert(found.ino(), found.len());
            }
        }
    }
    let mut files = BTreeMap::new();
    add(folder, &mut files);
    files.values().sum()
}

/// What a policy frees; the dry run says the same, and it is what the disk has more then.
#[track_caller]
fn freed(store: &Store, policy: Policy) -> u64 {
    let before = on_disk(store.root());
    let said = prune(store, &Policy { dry_run: true, ..policy });
    assert_eq!(on_disk(store.root()), before, "a dry run changes nothing");
    let done = prune(store, &policy);
    let paths = |pruned: &Pruned| -> Vec<PathBuf> {
        pruned.entries.iter().map(|entry| entry.path.clone()).collect()
    };
    assert_eq!(paths(&said), paths(&done));
    assert_eq!((said.bytes, done.bytes), (done.bytes, before - on_disk(store.root())));
    done.bytes
}

#[test]
fn one_bound_holds_over_all_caches_the_longest_unused_goes_first() {
    let all = everything();
    let store = &all.place.store;
    // What nothing can find again goes first of all.
    assert_eq!(freed(store, Policy::default()), 4 * 700);
    assert_eq!(all.left(), [4, 5, 6, 7, 8, 9, 10]);
    let keep = |bytes| Policy { keep_bytes: Some(bytes), ..Policy::default() };
    let total = bytes_of_all(store) - usage(store, "images").bytes;
    assert_eq!(freed(store, keep(total)), 0);
    freed(store, keep(total - 1));
    assert_eq!(all.left(), [4, 5, 6, 7, 8, 9]);
    freed(store, keep(9100));
    assert_eq!(all.left(), [4, 5]);
    freed(store, keep(5100));
    assert_eq!(all.left(), [4]);
    assert_eq!(freed(store, keep(0)), 5000 + 3, "and notes about nothing");
    assert_eq!(all.left(), [0; 0]);
    assert!(store.resolve(&name("named")).unwrap().is_some());
    assert!(store.verify().unwrap().is_clean());
}

#[test]
fn age_and_all_hold_over_all_caches_and_the_dry_run_says_what_goes() {
    let all = everything();
    freed(&all.place.store, Policy { older_than: Some(hours(7)), ..Policy::default() });
    assert_eq!(all.left(), [4, 5, 6]);
    let all = everything();
    freed(&all.place.store, ALL);
    assert_eq!(all.left(), [0; 0]);
    // Notes go when there is nothing left of what they are about.
    freed(&all.place.store, Policy::default());
    let left = bytes_of_all(&all.place.store);
    assert_eq!(left, usage(&all.place.store, "images").bytes);
    // Folders of earlier versions, and those of scopes that keep nothing, are gone as well.
    for gone in [
        "tmp",
        "go/build",
        "go/path",
        "programs/kept",
        &format!("go/{SCOPE}"),
        &format!("programs/{SCOPE}"),
    ] {
        assert!(!all.place.root().join(gone).exists(), "{gone}");
    }
}

#[test]
fn what_somebody_uses_stays_whatever_its_cache_is() {
    let all = everything();
    let root = all.place.root().to_owned();
    let used = [
        format!("build-caches/recorded/{SCOPE}.lock"),
        format!("go/{SCOPE}/in-use"),
        format!("programs/{SCOPE}/kept/key.lock"),
        format!("programs/{SCOPE}/run-killed/alive"),
    ];
    let locks = used.map(|lock| gondola::store::Lock::shared(&root.join(lock)).unwrap());
    let fresh = all.place.other();
    let kept = fresh.scratch_folder().unwrap();
    let info = FolderInfo { bytes: 1, needs: Vec::new() };
    fresh.keep_folder(kept, ("recorded", "key"), &info).unwrap();
    freed(&all.place.store, ALL);
    assert_eq!(all.left(), [4, 5, 6, 7]);
    assert!(root.join("gondola/rootfs/recorded/key").exists());
    drop((locks, fresh));
    freed(&all.place.store, ALL);
    assert_eq!(all.left(), [0; 0]);
}

#[test]
fn a_program_that_a_build_has_is_not_counted_as_free_before_the_build_ends() {
    let all = everything();
    let alive = all.place.root().join("programs").join(SCOPE).join("run-killed/alive");
    let lock = gondola::store::Lock::shared(&alive).unwrap();
    let store = &all.place.store;
    let keep = Policy { keep_bytes: Some(0), ..Policy::default() };
    freed(store, keep);
    assert_eq!(all.left(), [0; 0], "its name is gone, and the bytes are not");
    drop(lock);
    assert_eq!(freed(store, Policy::default()), 5000 + 3, "and notes about nothing");
}

/// Sets the times of all that is kept, so that a document of it is the same each time.
fn same_times(root: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for entry in fs_err::read_dir(root).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            same_times(&entry.path());
        }
        fs_err::File::open(entry.path()).unwrap().file().set_modified(time).unwrap();
    }
}

#[test]
fn the_json_of_cache_du_has_this_form() {
    let sandbox = Sandbox::new();
    let root = sandbox.store();
    let store = Store::open(&root).unwrap();
    let [manifest, ..] = image(&store, "named");
    store.set_names(&[(name("example.com/app:v1"), manifest)]).unwrap();
    let layer = put(&store, MediaType::OCI_LAYER, b"a step's layer");
    let step = json!({"created": "2026-01-02T03:04:05Z", "kept": null, "instruction": "RUN make",
        "layer": {"media_type": "x", "digest": layer.digest, "size": layer.size, "diff_id": layer.digest}});
    store.put_record("step", "key", &step).unwrap();
    drop(store);
    let mount = StorePlace::CacheMounts.of(&root).join("recorded").join(SCOPE);
    write(&mount.join("file"), 100, 0);
    write(&mount.with_extension("lock"), 0, 0);
    fs_err::write(mount.with_extension("about"), "mount /root/.npm\n").unwrap();
    let go = StorePlace::GoCaches.of(&root).join(SCOPE);
    write(&go.join("build/00/x-d"), 50, 0);
    write(&go.join("in-use"), 0, 0);
    fs_err::write(go.join("about"), "/home/me/app\n").unwrap();
    let container = StorePlace::Containers.of(&root).join("c".repeat(64));
    write(&container.join("root/var/file"), 200, 0);
    fs_err::write(container.join("name"), "web\n").unwrap();
    same_times(&root);
    let said = sandbox.gondola(&["cache", "du", "--verbose", "--json"]).success().stdout;
    let mut said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["path"].take(), root.to_str().unwrap());
    // This run's own folder is being written.
    said["temporary"].take();
    said["entries"].as_array_mut().unwrap().retain(|entry| entry["cache"] != "temporary");
    let golden: serde_json::Value = serde_json::from_str(include_str!("cache_du.json")).unwrap();
    assert_eq!(said, golden, "{}", serde_json::to_string_pretty(&said).unwrap());
    let table = sandbox.gondola(&["cache", "du", "-v"]).success().stdout;
    for part in ["RUN make", "mount /root/.npm", "compiled packages of /home/me/app", "ago"] {
        assert!(table.contains(part), "no {part} in {table}");
    }
    let table = sandbox.gondola(&["cache", "du"]).success().stdout;
    for part in ["CACHE", "LAST USED", "cache-mounts", "go-caches", "reclaimable"] {
        assert!(table.contains(part), "no {part} in {table}");
    }
    // A container is no cache: whatever the policy, it stays, and it takes no room from the caches.
    sandbox.gondola(&["cache", "prune", "--keep", "850"]).success();
    assert!(mount.exists() && go.exists(), "the container was counted");
    sandbox.gondola(&["cache", "prune", "--all"]).success();
    assert!(container.join("root/var/file").exists() && !mount.exists());
}

#[test]
fn the_layer_of_a_program_is_called_by_it_and_what_is_being_written_is_not_left_behind() {
    let busybox = need!(program("busybox"));
    let sandbox = Sandbox::new();
    install(busybox, sandbox.path("tool"));
    let build = ["build", "--base", "scratch", "--prebuilt", "tool", "-o", "oci:out"];
    sandbox.gondola(&build).success();
    let table = sandbox.gondola(&["cache", "du", "-v"]).success().stdout;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|row| row.split_whitespace().take(3).collect()).collect();
    let platform = gondola::oci::Platform::host().to_string();
    assert!(rows.contains(&vec!["layers", "tool", &platform]), "{table}");
    assert_eq!(rows.iter().filter(|row| row[0] == "layers").count(), 1, "{table}");
    assert!(!table.contains("left behind"), "{table}");
    // A record of an earlier version says nothing of it.
    let records = sandbox.store().join("gondola/records/layer");
    for record in fs_err::read_dir(records).unwrap() {
        let path = record.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.contains("\"of\":"), "{text}");
        fs_err::write(&path, text.replace("\"of\":", "\"not\":")).unwrap();
    }
    let again = sandbox.gondola(&build).success();
    assert!(again.stderr.contains("cached"), "{}", again.stderr);
}

#[test]
fn builds_at_once_with_a_prune_beside_them_lose_nothing() {
    let sandbox = Sandbox::new();
    let files = ["FROM scratch\nCOPY a /a\nCOPY b /b\n", "FROM scratch\nCOPY b /b\nCOPY a /a\n"];
    for (name, file) in [("one", files[0]), ("two", files[1])] {
        sandbox.write(&format!("{name}.Dockerfile"), file);
    }
    sandbox.write("a", "a".repeat(300_000));
    sandbox.write("b", "b".repeat(300_000));
    for round in 0..5 {
        sandbox.write("b", format!("{round}").repeat(200_000));
        let prunes: [&[&str]; 3] = [
            &["cache", "prune", "--all"],
            &["cache", "prune", "--keep", "1k"],
            &["cache", "prune", "--older-than", "0s"],
        ];
        let running: Vec<_> = ["one", "two"]
            .map(|name| vec!["build", "-t", name, "-f", &*format!("{name}.Dockerfile").leak(), "."])
            .into_iter()
            .chain(prunes.map(<[&str]>::to_vec))
            .map(|arguments| {
                let mut command = sandbox.command(&arguments);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                let child = command.spawn().unwrap();
                (command, child)
            })
            .collect();
        for (command, child) in running {
            Run::ended(&command, child.wait_with_output().unwrap()).success();
        }
        sandbox.gondola(&["cache", "verify"]).success();
        for name in ["one", "two"] {
            let layout = format!("oci:out-{round}-{name}");
            sandbox.gondola(&["copy", &format!("store:{name}"), &layout]).success();
        }
    }
}

#[test]
fn a_bound_keeps_itself_after_a_build() {
    let mut sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM scratch\nCOPY app /\n");
    let noise = |seed: u32| -> Vec<u8> {
        (0..50_000_u32).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
    };
    let kept = |sandbox: &Sandbox| {
        let said = sandbox.gondola(&["cache", "du", "--json"]).success().stdout;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["reclaimable"].as_u64().unwrap()
    };
    for number in 0..6 {
        sandbox.write("app", noise(number));
        sandbox.gondola(&["build", "-o", "oci:out", "."]).success();
    }
    assert!(kept(&sandbox) > 1_000_000, "{}", kept(&sandbox));
    sandbox.set("GONDOLA_STORE_KEEP", "600k");
    for number in 6..9 {
        sandbox.write("app", noise(number));
        sandbox.gondola(&["build", "-o", "oci:out", "."]).success();
    }
    assert!(kept(&sandbox) <= 600 << 10, "{}", kept(&sandbox));
    // What the last build used is there.
    let again = sandbox.gondola(&["build", "-o", "oci:out", "."]).success();
    again.says("cached");
    sandbox.write("home/.config/gondola/config.yaml", "store: {keep: 1k, kep: 2}\n");
    sandbox.set("GONDOLA_STORE_KEEP", "");
    let config = sandbox.path("home/.config");
    sandbox.set("XDG_CONFIG_HOME", config.to_str().unwrap());
    sandbox.gondola(&["build", "-o", "oci:out", "."]).code(2).says("config.yaml:1").says("kep");
}
