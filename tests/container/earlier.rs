//! A container that runs under the program before, in the hands of this one.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fs_err as fs;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::support::{install, make_recipe, need, program};
use super::world::{User, World, as_users};

/// A store with a container, in the words of the program before.
const EARLIER: &str = include_str!("earlier_program.txt");

const ID: &str = "1525d878e3464f512a547981548bb053ee3518712c11a311b922f632bf032ed2";

/// Makes the store of the recipe; `None` where no layers can be mounted over each other here.
fn make_store(world: &World) -> Option<PathBuf> {
    let findings = world.gondola(&["doctor", "--json"]).success().stdout;
    let findings: Value = serde_json::from_str(&findings).unwrap();
    let (isolation, form) =
        [("ns-root", "trusted"), ("ns", "recorded")].into_iter().find(|(name, _)| {
            let is_it = |row: &&Value| row["isolation"] == *name && row["works"] == true;
            findings.as_array().unwrap().iter().any(|row| is_it(&row))
        })?;
    let root = world.home().join("store");
    // The doctor's findings are no part of it.
    fs::remove_dir_all(&root).unwrap_or_default();
    make_recipe(EARLIER, &root, &[("RUNG", isolation), ("FORM", form)]);
    let layers = fs::read_dir(root.join("gondola/rootfs").join(form)).unwrap();
    let programs = layers.map(|entry| entry.unwrap().path().join("fs/bin")).next().unwrap();
    install(program("busybox").unwrap(), programs.join("busybox"));
    for applet in ["sh", "echo", "sleep"] {
        symlink("busybox", programs.join(applet)).unwrap();
    }
    give(&root, world);
    Some(root)
}

/// Gives a folder, and all below it, to the world's user.
fn give(path: &Path, world: &World) {
    use std::os::unix::fs::MetadataExt as _;
    let home = fs::metadata(world.home()).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), world);
        }
    }
    if !path.is_symlink() {
        chown(path, Some(home.uid()), Some(home.gid())).unwrap();
    }
}

/// Starts the shim by the word that the program before had for it, and with what it handed over.
fn start(world: &World, root: &Path) {
    let lock = root.join("gondola/containers").join(ID).join("lock");
    let lock = fs::OpenOptions::new().read(true).write(true).open(lock).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut shim = world.gondola_command(&["--store", root.to_str().unwrap(), "keep", ID]);
    shim.stdin(lock.into_file()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shim = shim.spawn().unwrap();
    // The descriptor above is the shim's now, and the lock ends with it.
    let mut said = String::new();
    BufReader::new(shim.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "\"Started\"\n");
    // Nobody but the harness collects it.
    std::thread::spawn(move || shim.wait());
}

/// What a file of the container says, without the numbers and times of this run.
fn shape(file: &Path) -> Value {
    fn of(value: &mut Value) {
        match value {
            Value::Number(_) => *value = json!(0),
            Value::String(text) if text.ends_with('Z') => *value = json!("TIME"),
            Value::Object(fields) => fields.values_mut().for_each(of),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    of(&mut value);
    value
}

#[test]
fn a_container_that_runs_under_the_program_before_is_listed_read_stopped_and_removed() {
    as_users!(|world: &World| {
        let Some(root) = make_store(world) else { return };
        start(world, &root);
        world.wait_for_log("bg", "up");
        // What the shim wrote down is what the program before wrote, word for word.
        let folder = world.container_folder();
        let first = json!({"pid": 0, "began": 0});
        let running = json!({"status": "running", "first": first, "started": "TIME", "ports": []});
        assert_eq!(shape(&folder.join("state.json")), running);
        assert_eq!(shape(&folder.join("lock")), first);

        let row = world.ps("bg");
        assert_eq!((&row["status"], &row["id"]), (&"running".into(), &ID.into()));
        let table = world.gondola(&["ps"]).success().stdout;
        for part in ["bg:v1", " Up ", "1525d878e346"] {
            assert!(table.contains(part), "no {part} in {table}");
        }
        assert_eq!(world.gondola(&["logs", "bg"]).success().stdout, "before\nup\n");
        assert_eq!(world.gondola(&["exec", "bg", "echo", "in"]).success().stdout, "in\n");
        world.gondola(&["rm", "bg"]).code(1).says("gondola rm -f bg");
        assert_eq!(world.gondola(&["stop", "bg"]).success().stdout, "bg\n");
        assert_eq!(world.ps("bg")["exitCode"], 5);
        assert_eq!(world.gondola(&["logs", "bg"]).success().stdout, "before\nup\nbye\n");
        world.gondola(&["restart", "bg"]).success();
        world.wait_for_log("bg", "bye\nup");
        assert_eq!(world.gondola(&["rm", "-f", "bg"]).success().stdout, "bg\n");
        assert_eq!(world.count(), 0);
        let left = fs::read_dir(root.join("gondola/containers")).unwrap();
        assert_eq!(left.count(), 1, "the lock alone");
    });
}
