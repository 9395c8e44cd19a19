//! What is said where the operating system refuses: no folder, a read-only one, a full disk.

use std::process::{Command, Output};

use super::*;

/// The way out that every refusal names.
const WAY_OUT: &str = "set GONDOLA_HOME to a folder";

/// What a test that runs in a mount namespace says when it comes to its end.
const FINISHED: &str = "finished as it should";

static PIECE: [u8; 64 << 10] = [1; 64 << 10];

fn check_refusal(text: &str, root: &Path) {
    assert!(text.contains(&format!("cannot write to the store {}", root.display())), "{text}");
    assert!(text.contains("hint: ") && text.contains(WAY_OUT), "{text}");
}

#[test]
fn a_store_below_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs_err::write(&file, "").unwrap();
    for root in [file.clone(), file.join("store")] {
        let error = Store::open(&root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains(root.to_str().unwrap()), "{error}");
    }
}

/// Runs an ignored test in a mount namespace after `mount ARGUMENTS FOLDER`; `None` where this
/// machine gives no such namespace to this user.
fn run_mounted(test: &str, mount: &str, folder: &Path) -> Option<Output> {
    let run = |command: &str| {
        let script = format!("mount {mount} \"$1\" && {command}");
        let program = std::env::current_exe().unwrap();
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
            .args([folder, &program])
            .arg(test)
            .env("TMPDIR", folder)
            .output()
    };
    match run("true") {
        Ok(output) if output.status.success() => {}
        refused => {
            println!("skipped: no mount namespace here: {refused:?}");
            return None;
        }
    }
    Some(run("cd \"$1\" && exec \"$2\" --exact \"$3\" --ignored --nocapture").unwrap())
}

fn check_passed(output: Option<Output>) {
    let Some(output) = output else { return };
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success() && said.contains(FINISHED), "{said}{complained}");
}

/// The store that the mounted tests work on, in the folder that they are run in; `None` where
/// that is not mounted as the test needs it, because a person runs the test.
fn mounted(is_as_needed: impl Fn(&rustix::fs::StatVfs) -> bool) -> Option<std::path::PathBuf> {
    let mount = rustix::fs::statvfs(".").unwrap();
    #[expect(clippy::disallowed_methods, reason = "how the test is told where to work")]
    let root = std::env::current_dir().unwrap().join("store");
    is_as_needed(&mount).then_some(root)
}

#[test]
fn a_read_only_store_can_be_read_and_says_why_it_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let [manifest, ..] = image(&store, "a");
    store.set_names(&[(name("a"), manifest)]).unwrap();
    store.put_record("kind", "key", &7).unwrap();
    drop(store);
    let path = folder.path().display();
    let mount = format!("--bind '{path}' '{path}' && mount -o remount,bind,ro");
    check_passed(run_mounted("refusals::in_a_read_only_folder", &mount, folder.path()));
}

#[test]
#[ignore = "run by another test, on a read-only mount"]
fn in_a_read_only_folder() {
    let read_only = rustix::fs::StatVfsMountFlags::RDONLY;
    let Some(root) = mounted(|mount| mount.f_flag.contains(read_only)) else { return };
    let store = Store::open(&root).unwrap();
    let [(reference, manifest)] = &store.names().unwrap()[..] else { panic!("one name") };
    assert_eq!(store.resolve(reference).unwrap().as_ref(), Some(manifest));
    assert!(store.read(manifest, 1000).unwrap().starts_with(b"{"));
    assert_eq!(store.get_record("kind", "key"), Some(7));
    assert!(store.verify().unwrap().is_clean());
    for error in [
        store.put(b"new").unwrap_err(),
        store.ingest().unwrap_err(),
        store.lease().unwrap_err(),
        store.put_record("kind", "key", &8).unwrap_err(),
        store.remove_names(std::slice::from_ref(reference)).unwrap_err(),
        store.set_names(&[(name("b"), manifest.clone())]).unwrap_err(),
        cache::prune(&store, &ALL, now()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io);
        check_refusal(&error.to_string(), &root);
    }
    let absent = root.with_file_name("absent");
    check_refusal(&Store::open(&absent).unwrap_err().to_string(), &absent);
    println!("{FINISHED}");
}

#[test]
fn a_full_disk_is_told_and_prune_still_works() {
    let folder = tempfile::tempdir().unwrap();
    check_passed(run_mounted(
        "refusals::on_a_small_disk",
        "-t tmpfs -o size=2m none",
        folder.path(),
    ));
}

#[test]
#[ignore = "run by another test, on a file system of two megabytes"]
fn on_a_small_disk() {
    let Some(root) = mounted(|mount| mount.f_blocks * mount.f_frsize == 2 << 20) else { return };
    let store = Store::open(&root).unwrap();
    let [manifest, ..] = image(&store, "a");
    store.set_names(&[(name("a"), manifest)]).unwrap();
    let mut ingest = store.ingest().unwrap();
    let written = (0..64).try_for_each(|_| ingest.write_all(&PIECE));
    let error = written.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    check_refusal(&error.to_string(), &root);
    // While the disk is full, whatever writes says so, and nothing that was there is lost.
    for error in [
        store.put(&PIECE).unwrap_err(),
        store.put_record("kind", "key", &vec!["x"; 4 << 10]).unwrap_err(),
    ] {
        check_refusal(&error.to_string(), &root);
        assert!(error.to_string().contains("gondola cache prune"), "{error}");
    }
    assert_eq!(store.names().unwrap().len(), 1);
    assert!(store.verify().unwrap().is_clean());
    drop(ingest);
    let loose = store.put(&vec![3; 1 << 20]).unwrap();
    drop(store);
    let filler = root.with_file_name("filler");
    let mut file = fs_err::File::create(filler).unwrap();
    io::copy(&mut io::repeat(0), &mut file).unwrap_err();
    let store = Store::open(&root).unwrap();
    let report = prune(&store, &ALL);
    assert!(blobs_of(&report).contains(&loose), "{report:?}");
    assert!(store.resolve(&name("a")).unwrap().is_some());
    println!("{FINISHED}");
}
