//! What whoever starts the program sets or does to it: limits, rights, `kill -9`. An error that names
//! them, or a way round; and nothing is left behind.

#![cfg(test)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use support::{Run, Sandbox, install, need, program, root};

/// A user without a name.
const NOBODYS_ID: &str = "54321";
/// Longer than any of the runs takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The program where everybody may execute it.
fn program_for_all(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.work().parent().unwrap().to_owned();
    open_to_all(&folder, 0o755);
    let copy = folder.join("gondola");
    install(env!("CARGO_BIN_EXE_gondola"), &copy);
    copy
}

/// A command of a shell that `before` has changed; `"$@"` stands for program and arguments.
fn shell(sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    command.args(["-ec", script, "sh"]).args(arguments).stdin(Stdio::null());
    command
}

/// The command's end; panics where it has none.
fn ended(command: &mut Command) -> Run {
    Run::within(command, PATIENCE).unwrap_or_else(|said| panic!("it did not end: {said}"))
}

#[test]
fn too_few_threads_are_told_and_nothing_panics_or_waits() {
    need!(root("becoming another user"));
    let (setpriv, prlimit) = (need!(program("setpriv")), need!(program("prlimit")));
    let mut sandbox = Sandbox::new();
    let gondola = program_for_all(&sandbox);
    let store = sandbox.work().join("store");
    sandbox.set("GONDOLA_HOME", store.to_str().unwrap());
    open_to_all(&sandbox.work(), 0o777);
    let mut refused = 0;
    for limit in (1..16).chain([64]) {
        let mut command = Command::new(&setpriv);
        command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
        command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
        command.arg(&prlimit).arg(format!("--nproc={limit}"));
        command.arg(&gondola).args(["images"]).stdin(Stdio::null());
        let ran = ended(&mut command);
        assert!(!ran.stderr.contains("panicked"), "{limit}: {ran:?}");
        match ran.code {
            Some(0) => {}
            Some(1) => {
                refused += 1;
                let ran = ran.says("cannot start threads").says("ulimit -u");
                assert!(ran.stderr.contains(&limit.to_string()), "{ran:?}");
            }
            _ => panic!("{limit}: {ran:?}"),
        }
        assert!(limit != 64 || refused > 0, "no limit was too low");
    }
}

#[test]
fn a_limit_of_file_sizes_is_told() {
    let sandbox = Sandbox::new();
    // Random enough to stay large.
    let bytes: Vec<u8> =
        (0u32..1 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    sandbox.write("app", &bytes);
    let gondola = env!("CARGO_BIN_EXE_gondola");
    let build = [gondola, "build", "--prebuilt", "app", "-o", "docker-archive:out.tar"];
    let ran = ended(&mut shell(&sandbox, "ulimit -f 8; exec \"$@\"", &build)).code(1);
    let ran = ran.says("cannot ").says("File too large");
    assert!(ran.says("this shell allows").stderr.contains("ulimit -f"));
    assert!(!sandbox.path("out.tar").exists());
    sandbox.gondola(&build[1..]).success();
    // Where only the archive is too large, it is named.
    let ran = ended(&mut shell(&sandbox, "ulimit -f 8; exec \"$@\"", &build)).code(1);
    let _ = ran.says("out.tar").says("ulimit -f");
}

#[test]
fn too_few_open_files_are_told() {
    let sandbox = Sandbox::new();
    let gondola = env!("CARGO_BIN_EXE_gondola");
    let ran = ended(&mut shell(&sandbox, "ulimit -n 5; exec \"$@\"", &[gondola, "images"])).code(1);
    let _ = ran.says("cannot ").says("ulimit -n");
}

/// An image of busybox as a layout.
fn busybox_layout(sandbox: &Sandbox, busybox: &Path) {
    fs::copy(busybox, sandbox.path("busybox")).unwrap();
    sandbox.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\n");
    for result in [["-t", "kept"], ["-o", "oci:layout"]] {
        let build = [&["build", "-f", "Dockerfile", "."][..], &result].concat();
        sandbox.gondola(&build).success();
    }
}

const SAYS_HELLO: [&str; 3] = ["/bin/busybox", "echo", "hello"];

#[test]
fn a_read_only_store_is_read_and_a_run_unpacks_elsewhere() {
    let busybox = need!(program("busybox"));
    let mut sandbox = Sandbox::new();
    busybox_layout(&sandbox, &busybox);
    let temporary = sandbox.home().join("tmp");
    fs::create_dir(&temporary).unwrap();
    sandbox.set("TMPDIR", temporary.to_str().unwrap());
    let script = "mount --bind \"$GONDOLA_HOME\" \"$GONDOLA_HOME\"
        mount -o remount,bind,ro \"$GONDOLA_HOME\"
        ! touch \"$GONDOLA_HOME/x\" 2>/dev/null
        exec \"$@\"";
    let read_only = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]);
        command.args(arguments).stdin(Stdio::null());
        ended(&mut command)
    };
    if read_only(&["true"]).code != Some(0) {
        println!("skipped: no mount namespace here");
        return;
    }
    let gondola = env!("CARGO_BIN_EXE_gondola");
    for arguments in [&["images"][..], &["inspect", "kept"], &["ps", "-a"], &["cache", "verify"]] {
        let there = read_only(&[&[gondola], arguments].concat()).success();
        assert_eq!(there.stdout, sandbox.gondola(arguments).success().stdout, "{arguments:?}");
    }
    let _ = read_only(&[gondola, "cache", "du"]).success();
    for image in ["oci:layout", "kept"] {
        let run = [&[gondola, "run", "--rm", image][..], &SAYS_HELLO].concat();
        let ran = read_only(&run);
        if ran.stderr.contains("cannot isolate a process here") {
            println!("skipped: no sandbox in a user namespace here");
            return;
        }
        let ran = ran.success();
        assert_eq!(ran.stdout, "hello\n");
        let _ = ran.says("cannot be written to").says("GONDOLA_HOME");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{image}");
    }
    // What would change the store says why it cannot.
    for arguments in [&["tag", "kept", "other"][..], &["rmi", "kept"]] {
        let ran = read_only(&[&[gondola], arguments].concat()).code(1);
        let _ = ran.says("cannot write to the store").says("hint: set GONDOLA_HOME");
    }
    let detached = [&[gondola, "run", "-d", "kept"][..], &SAYS_HELLO].concat();
    let _ = read_only(&detached).code(125).says("GONDOLA_HOME");
}

#[test]
fn a_home_of_another_user_has_no_images_and_a_run_unpacks_elsewhere() {
    need!(root("becoming another user"));
    let (busybox, setpriv) = (need!(program("busybox")), need!(program("setpriv")));
    let mut sandbox = Sandbox::new();
    busybox_layout(&sandbox, &busybox);
    let gondola = program_for_all(&sandbox);
    for folder in [sandbox.home(), sandbox.work()] {
        open_to_all(&folder, 0o755);
    }
    assert!(
        support::run("chmod", &["-R", "a+rX", sandbox.path("layout").to_str().unwrap()]).is_empty()
    );
    sandbox.unset("GONDOLA_HOME");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
        command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
        command.arg(&gondola).args(arguments).stdin(Stdio::null());
        ended(&mut command)
    };
    assert_eq!(as_nobody(&["images", "--json"]).success().line(), "[]");
    assert_eq!(as_nobody(&["ps", "-a", "--json"]).success().line(), "[]");
    let _ = as_nobody(&["cache", "du"]).success();
    let ran = as_nobody(&[&["run", "oci:layout"][..], &SAYS_HELLO].concat());
    if ran.stderr.contains("cannot isolate a process here") {
        println!("skipped: no sandbox for this user");
        return;
    }
    assert_eq!(ran.success().stdout, "hello\n");
    assert_eq!(fs::read_dir(sandbox.home()).unwrap().count(), 0);
    let _ = as_nobody(&["tag", "a", "b"]).code(1);
}

/// The names in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn killed_exports_leave_nothing_that_the_next_does_not_remove() {
    let sandbox = Sandbox::new();
    let mut state = 1u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(16 << 20)
    .collect();
    sandbox.write("app", &bytes);
    sandbox.gondola(&["build", "--prebuilt", "app", "-o", "oci:layout"]).success();
    for target in ["docker-archive:out/x.tar", "oci:out/y"] {
        fs::create_dir_all(sandbox.path("out/y")).unwrap();
        let mut unfinished = 0;
        // At whatever moment it is killed: the later rounds find the target there already.
        for round in 0..40 {
            let copy = ["copy", "oci:layout", target];
            let mut child =
                sandbox.command(&copy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(5 * round));
            child.kill().unwrap();
            unfinished += usize::from(!child.wait().unwrap().success());
        }
        assert!(unfinished > 0, "{target}: every one was faster");
        sandbox.gondola(&["copy", "oci:layout", target]).success();
        let expected: &[&str] = match target {
            "oci:out/y" => &["blobs", "index.json", "oci-layout"],
            _ => &["x.tar"],
        };
        let folder = if target == "oci:out/y" { "out/y" } else { "out" };
        if folder == "out" {
            fs::remove_dir(sandbox.path("out/y")).unwrap();
        }
        assert_eq!(listing(&sandbox.path(folder)), expected);
        if folder == "out/y" {
            let blobs = listing(&sandbox.path("out/y/blobs/sha256"));
            assert!(blobs.iter().all(|name| name.len() == 64), "{blobs:?}");
        }
    }
}

/// The most memory that a command took, in bytes.
fn peak_bytes(command: &mut Command) -> u64 {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let mut peak = 0;
    loop {
        // What it took only grows; the last millisecond of a process frees.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
        }
        let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let mut watched = [PollFd::new(&ended, PollFlags::IN)];
        if poll(&mut watched, Some(&millisecond)).unwrap() > 0 {
            break;
        }
    }
    assert!(child.wait().unwrap().success(), "{command:?}");
    peak
}

/// How many files a context has that is a folder of another, and how many that one has: more than
/// explanations name.
const FEW_AND_MANY: [u64; 2] = [21_000, 61_000];

/// Makes a context with many files, in which `few` is a smaller one.
fn write_many_files(sandbox: &Sandbox) {
    let [few, many] = FEW_AND_MANY;
    for number in 0..many {
        let top = if number < few { "few" } else { "more" };
        let folder = sandbox.path(&format!("many/{top}/files/folder-{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("file-{number:05}.txt")), number.to_string()).unwrap();
    }
}

/// By how many bytes for each entry `peak` grows from few to many.
///
/// Which thread frees memory for which other is chance, and costs up to 200 bytes for each file: the
/// lowest of three counts.
fn growth_for_each(mut peak: impl FnMut(u64) -> u64) -> u64 {
    let mut lowest = |count| (0..3).map(|_| peak(count)).min().unwrap();
    let [few, many] = FEW_AND_MANY.map(|count| (count, lowest(count)));
    many.1.saturating_sub(few.1) / (many.0 - few.0)
}

#[test]
fn copying_and_listing_many_files_takes_little_memory_for_each() {
    let sandbox = Sandbox::new();
    write_many_files(&sandbox);
    sandbox.write("Dockerfile", "FROM scratch\nCOPY . /x/\n");
    let stages = "FROM scratch AS files\nCOPY . /x/\nFROM scratch\nCOPY --from=files /x/ /y/\n";
    sandbox.write("stages", stages);
    let context = |count| if count == FEW_AND_MANY[0] { "many/few" } else { "many" };
    let build = |file: &str, count: u64| {
        let name = format!("files-{count}");
        let words = ["build", "--no-cache", "-f", file, "-t", &name, context(count)];
        peak_bytes(&mut sandbox.command(&words))
    };
    let copied = growth_for_each(|count| build("Dockerfile", count));
    assert!(copied <= 300, "COPY took {copied} bytes for each file");
    let twice = growth_for_each(|count| build("stages", count));
    assert!(twice <= 800, "two copies took {twice} bytes for each file");
    for form in [&["--files"][..], &["--files", "--json"]] {
        let listed = growth_for_each(|count| {
            let name = format!("files-{count}");
            peak_bytes(&mut sandbox.command(&[&["inspect", &name][..], form].concat()))
        });
        assert!(listed <= 50, "inspect {form:?} took {listed} bytes for each file");
    }
}
