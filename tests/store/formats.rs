//! Stores of other versions of the program: an older one is used, a newer one is left alone.

use super::support::{Sandbox, make_recipe};
use super::*;

/// A store as the program of the first form left it.
const FIRST: &str = include_str!("first_format.txt");

/// Every file below a folder with its content, but for locks.
fn contents(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if !path.to_str().unwrap().ends_with("lock") {
            all.insert(path.clone(), fs_err::read(&path).unwrap());
        }
    }
    all
}

fn with_first_format() -> Sandbox {
    let sandbox = Sandbox::new();
    make_recipe(FIRST, &sandbox.store(), &[]);
    sandbox
}

#[test]
fn images_names_and_records_of_the_first_format_are_used_and_stay() {
    let sandbox = with_first_format();
    let before = contents(&sandbox.store());
    let listed = sandbox.gondola(&["images"]).success().stdout;
    for name in ["small:v1", "registry.example.com/team/small:v2"] {
        assert!(listed.contains(name), "{listed}");
    }
    sandbox.gondola(&["copy", "store:small:v1", "oci-archive:small.tar"]).success();
    sandbox.gondola(&["cache", "prune"]).success();
    assert_eq!(contents(&sandbox.store()), before);
    // The same file again: the step's record is found, and the image is the same.
    sandbox.write("hello.txt", "hi\n");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY hello.txt /\nCMD [\"/hello.txt\"]\n");
    let mut command = sandbox.command(&["build", "-t", "again:v1", "."]);
    let built = super::support::Run::of(command.env("SOURCE_DATE_EPOCH", "0")).success();
    let store = Store::open(&sandbox.store()).unwrap();
    let digest = |text: &str| store.resolve(&name(text)).unwrap().unwrap().digest;
    assert_eq!(digest("again:v1"), digest("small:v1"), "{}", built.stdout);
    sandbox.gondola(&["rmi", "again:v1"]).success();
    for (path, content) in before {
        assert_eq!(fs_err::read(&path).unwrap(), content, "{}", path.display());
    }
    assert!(!sandbox.store().join("gondola/format").exists(), "an older program would see it");
}

#[test]
fn containers_of_the_first_format_are_listed_stopped_and_removed() {
    let sandbox = with_first_format();
    let listed = sandbox.gondola(&["ps", "--all"]).success().stdout;
    for part in ["ended", "lost", "Exited (3)", "/hello.txt", "82f0a8860e0c", "a6d58895fb46"] {
        assert!(listed.contains(part), "no {part} in {listed}");
    }
    sandbox.gondola(&["logs", "ended"]).success();
    sandbox.gondola(&["stop", "lost"]).success();
    sandbox.gondola(&["rm", "lost", "82f0a8860e0c"]).success();
    assert_eq!(sandbox.gondola(&["ps", "-a", "-q"]).success().stdout, "");
    let containers = fs_err::read_dir(sandbox.store().join("gondola/containers")).unwrap();
    let left: Vec<_> = containers.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_newer_store_is_refused_untouched_by_every_command_but_the_doctor() {
    let sandbox = with_first_format();
    let format = sandbox.store().join("gondola/format");
    for (number, why) in [
        ("2", "its format is 2, expected 1 or less"),
        ("4294967295\n", "its format is 4294967295"),
        ("two", "holds no number of a format"),
        ("0", "holds no number of a format"),
        ("", "holds no number of a format"),
    ] {
        fs_err::write(&format, number).unwrap();
        // A newer program may do without any of these.
        fs_err::remove_file(sandbox.store().join("oci-layout")).unwrap_or_default();
        let before = contents(&sandbox.store());
        sandbox.write("Dockerfile", "FROM scratch\n");
        for command in [
            &["images"][..],
            &["ps", "-a"],
            &["rm", "ended"],
            &["rmi", "small:v1"],
            &["cache", "prune", "--all"],
            &["build", "."],
            &["inspect", "store:small:v1"],
        ] {
            let ran = sandbox.gondola(command);
            assert!(!matches!(ran.code, Some(0) | None), "{command:?}: {ran:?}");
            ran.says("cannot open the store").says(why).says("GONDOLA_HOME");
        }
        let doctor = sandbox.gondola(&["doctor"]);
        assert!(doctor.stdout.contains(why), "{doctor:?}");
        assert_eq!(contents(&sandbox.store()), before, "{number}");
    }
}
