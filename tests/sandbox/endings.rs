//! How programs end, and that nothing is left of them.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use fs_err as fs;
use gondola::sandbox::{
    Access, Child, Exit, Isolation, Lifetime, Mount, Spec, Streams, WindowSize,
};
use rustix::fs::FlockOperation;

use super::context::Context;
use super::{NAMESPACES, ROOTED};

type Row = (&'static str, &'static [Isolation], fn(&Context));

pub const CASES: &[Row] = &[
    ("exit_codes_are_dockers", ROOTED, exit_codes),
    ("a_daemonised_child_ends_with_the_step_and_holds_no_stream", NAMESPACES, orphans),
    ("orphans_end_without_a_process_namespace_too", &[Isolation::InContainer], chroot_orphans),
    ("time_that_is_over_ends_everything", ROOTED, timeout),
    ("ctrl_c_asks_first_and_kills_the_second_time", ROOTED, interrupt),
    ("a_signal_reaches_the_program_which_ends_as_it_likes", ROOTED, signals),
    ("a_fork_bomb_leaves_nothing", NAMESPACES, fork_bomb),
    ("a_killed_starter_takes_the_sandbox_along", NAMESPACES, killed_starter),
    ("a_dropped_child_is_killed", ROOTED, dropped),
    ("a_detached_sandbox_outlives_its_starter", NAMESPACES, detached),
    ("a_terminal_is_a_real_one", ROOTED, terminal),
];

/// A file that a process in the sandbox locks for as long as it lives.
fn lock_file(context: &Context, spec: &mut Spec) -> PathBuf {
    let path = context.host_file("lock", "");
    if context.isolation == Isolation::InContainer {
        // There are no mounts: the file is in the root file system.
        let inside = context.base.join("lock");
        fs::write(&inside, "").unwrap();
        return inside;
    }
    spec.mounts.push(Mount::Bind {
        source: path.clone(),
        subpath: None,
        target: "/lock".to_owned(),
        access: Access::ReadWrite,
    });
    path
}

fn is_locked(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Waits until whoever holds the lock has ended. Fails the case by hanging, which its time limit
/// ends.
fn wait_for_lock(path: &Path) {
    let file = fs::File::open(path).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
}

pub fn wait_for_word(from: &mut PipeReader, word: &str) {
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(1, from);
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), word);
}

fn exit_codes(context: &Context) {
    assert_eq!(context.run(&["exit", "42"]).exit, Exit::Code(42));
    assert_eq!(context.run(&["kill-self", "15"]).exit, Exit::Signal(15));
    fs::write(context.base.join("text"), "not a program").unwrap();
    let cases = [("/text", 126), ("/etc", 126), ("/missing", 127), ("missing", 127), ("", 127)];
    for (program, code) in cases {
        let mut spec = context.spec(&[]);
        spec.argv = vec![program.to_owned()];
        assert_eq!(context.run_spec(&spec).exit.code(), code, "{program}");
    }
    let mut spec = context.spec(&[]);
    spec.argv.clear();
    assert_eq!(context.run_spec(&spec).exit.code(), 127);
    let mut spec = context.spec(&["exit", "3"]);
    spec.argv[0] = "payload".to_owned();
    spec.env.insert("PATH".to_owned(), "/nowhere:/".to_owned());
    assert_eq!(context.run_spec(&spec).exit, Exit::Code(3));
}

fn orphans(context: &Context) {
    let mut spec = context.spec(&["orphan", "/lock"]);
    let lock = lock_file(context, &mut spec);
    // Reading its output to the end would hang, if the daemon lived on.
    let outcome = context.run_spec(&spec);
    assert!(outcome.exit.is_success(), "{outcome:?}");
    assert!(!is_locked(&lock));
}

fn chroot_orphans(context: &Context) {
    orphans(context);
}

fn timeout(context: &Context) {
    let mut spec = context.spec(&["orphan-then-stay"]);
    spec.argv = ["/payload", "hold", "/lock"].map(str::to_owned).into();
    let lock = lock_file(context, &mut spec);
    spec.timeout = Some(Duration::from_millis(400));
    let outcome = context.run_spec(&spec);
    assert_eq!((outcome.exit.clone(), outcome.exit.code()), (Exit::TimedOut, 124));
    assert_eq!(outcome.error, "held\n");
    assert!(!is_locked(&lock));
}

fn started(context: &Context, command: &str) -> (Child, PipeReader, PipeReader) {
    let (child, mut output, error) = context.start(&context.spec(&[command]));
    wait_for_word(&mut output, "ready");
    (child, output, error)
}

fn interrupt(context: &Context) {
    let (mut child, _output, _error) = started(context, "sleep");
    child.signaller().interrupt();
    let exit = child.wait().unwrap();
    assert_eq!(exit.code(), 130, "{exit:?}");
    let (mut child, _output, _error) = started(context, "ignore");
    let signaller = child.signaller();
    signaller.interrupt();
    signaller.interrupt();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
}

fn signals(context: &Context) {
    let (mut child, _output, _error) = started(context, "trap");
    child.signaller().signal(15);
    assert_eq!(child.wait().unwrap(), Exit::Code(7));
}

fn fork_bomb(context: &Context) {
    let mut spec = context.spec(&["bomb", "/lock"]);
    let lock = lock_file(context, &mut spec);
    spec.timeout = Some(Duration::from_millis(700));
    spec.processes = Some(60);
    // Real root is not bound by the number of processes.
    spec.user = "app".to_owned();
    assert_eq!(context.run_spec(&spec).exit, Exit::TimedOut);
    assert!(!is_locked(&lock));
}

/// Starts a sandbox that holds a lock, says so, and waits to be killed.
pub fn start_and_stay(context: &Context, lifetime: &str) -> ExitCode {
    let mut spec = context.spec(&["hold", "/lock"]);
    lock_file(context, &mut spec);
    if lifetime == "detached" {
        spec.lifetime = Lifetime::Detached;
        spec.timeout = Some(Duration::from_secs(30));
    }
    let (mut child, _output, mut error) = context.start(&spec);
    wait_for_word(&mut error, "held");
    println!("{}", child.pid());
    std::io::stdout().flush().unwrap();
    child.wait().unwrap();
    ExitCode::SUCCESS
}

/// Lets another process start a sandbox, kills that process, and gives the sandbox's process id.
fn start_and_kill_starter(context: &Context, lifetime: &str) -> i32 {
    let folder = context.folder.to_str().unwrap();
    let mut starter = Command::new("/proc/self/exe")
        .args(["--starter", context.isolation.as_str(), folder, lifetime])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(starter.stdout.take().unwrap()).read_line(&mut line).unwrap();
    starter.kill().unwrap();
    starter.wait().unwrap();
    line.trim().parse().unwrap()
}

fn killed_starter(context: &Context) {
    start_and_kill_starter(context, "with-starter");
    wait_for_lock(&context.folder.join("lock"));
}

fn dropped(context: &Context) {
    let mut spec = context.spec(&["hold", "/lock"]);
    let lock = lock_file(context, &mut spec);
    let (child, _output, mut error) = context.start(&spec);
    wait_for_word(&mut error, "held");
    assert!(is_locked(&lock));
    drop(child);
    assert!(!is_locked(&lock));
}

fn detached(context: &Context) {
    let pid = start_and_kill_starter(context, "detached");
    let lock = context.folder.join("lock");
    assert!(is_locked(&lock));
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    // The helper shares the first process's life: what kills this one ends the sandbox.
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    wait_for_lock(&lock);
}

fn terminal(context: &Context) {
    let size = WindowSize { rows: 33, columns: 101 };
    let start = |arguments: &[&str]| {
        let mut spec = context.spec(arguments);
        spec.terminal = Some(size);
        context.launcher.spawn(&spec, context.isolation, Streams::null().unwrap()).unwrap()
    };
    if context.isolation != Isolation::InContainer {
        let mut child = start(&["tty"]);
        assert_eq!(read_terminal(&child), "/dev/pts/0 33 101 true xterm\r\n");
        assert!(child.wait().unwrap().is_success());
    }
    let mut child = start(&["winch"]);
    assert_eq!(read_line(&child), "ready\r\n");
    child.resize(WindowSize { rows: 5, columns: 6 }).unwrap();
    assert_eq!(read_terminal(&child), "5 6\r\n");
    assert!(child.wait().unwrap().is_success());
    let mut child = start(&["sleep"]);
    assert_eq!(read_line(&child), "ready\r\n");
    rustix::io::write(child.terminal().unwrap(), b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), 130);
    relayed(&mut start(&["tty"]));
}

/// The relay ends with the program, though its input stays open.
fn relayed(child: &mut Child) {
    let (input, _open) = std::io::pipe().unwrap();
    let (mut seen, output) = std::io::pipe().unwrap();
    gondola::sandbox::relay(child.terminal().unwrap(), &input, &output).unwrap();
    drop(output);
    let mut text = String::new();
    seen.read_to_string(&mut text).unwrap();
    assert!(text.contains(" 33 101 "), "{text}");
    assert!(child.wait().unwrap().is_success());
}

fn read_line(child: &Child) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        assert_eq!(rustix::io::read(child.terminal().unwrap(), &mut byte).unwrap(), 1);
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

pub fn read_terminal(child: &Child) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 256];
    // A terminal that nobody holds any more answers with an error.
    while let Ok(count) = rustix::io::read(child.terminal().unwrap(), &mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}
