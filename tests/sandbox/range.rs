//! The own program, run again as root of a range of ids.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use fs_err as fs;
use gondola::sandbox::Isolation;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::context::Context;
use super::settings::ENTER;

type Row = (&'static str, &'static [Isolation], fn(&Context));
const RANGE: &[Isolation] = &[Isolation::NsSubuid];

pub const CASES: &[Row] = &[
    ("a_range_of_ids_is_entered_once", RANGE, entered_once),
    ("files_inside_a_range_have_real_owners", RANGE, owners),
    ("the_end_inside_a_range_is_the_end_outside", RANGE, endings),
    ("a_killed_program_takes_the_one_inside_along", RANGE, killed),
    ("a_user_without_ranges_is_told_what_is_missing", &[Isolation::Ns], refused),
];

/// Starts this binary inside a range, to do something there.
fn inside(arguments: &[&str]) -> Child {
    // In the background of a shell that is no terminal's SIGINT is ignored, under nohup SIGHUP.
    let mut command = Command::new("/usr/bin/env");
    let own = std::env::current_exe().unwrap();
    command
        .arg("--default-signal=INT,HUP,TERM")
        .arg(own)
        .args([ENTER, "--inside"])
        .args(arguments)
        .env_clear()
        .env("ONLY", "this");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What [`inside`] does there.
pub fn act(arguments: &[&str]) -> ExitCode {
    match arguments {
        ["print", files @ ..] => {
            for file in files {
                println!("{}", fs::read_to_string(file).unwrap().trim());
            }
            ExitCode::SUCCESS
        }
        ["chown", file] => {
            std::os::unix::fs::chown(file, Some(1000), Some(65534)).unwrap();
            ExitCode::SUCCESS
        }
        ["remove", file] => {
            fs::remove_file(file).unwrap();
            ExitCode::SUCCESS
        }
        ["exit", code] => ExitCode::from(code.parse::<u8>().unwrap()),
        ["hold", file] => {
            let file = fs::File::open(file).unwrap();
            rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
            println!("held");
            loop {
                std::thread::park();
            }
        }
        _ => panic!("{arguments:?}"),
    }
}

fn printed(arguments: &[&str]) -> String {
    let output = inside(arguments).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn entered_once(context: &Context) {
    let ranges = fs::read_to_string("/proc/self/uid_map").unwrap();
    let mine = ranges.lines().count() > 1;
    let seen = printed(&["print", "/proc/self/uid_map", "/proc/self/environ"]);
    assert_eq!(seen.lines().count(), 3, "{seen}");
    assert!(seen.ends_with("\nONLY=this\0\n"), "{seen:?}");
    // From inside nothing is entered again.
    assert!(!mine || seen.starts_with(ranges.trim()), "{seen} {ranges}");
    // Nor does a program in a sandbox learn of it.
    assert_eq!(context.output(&["env"]).matches("ONLY").count(), 0);
}

fn owners(context: &Context) {
    use std::os::unix::fs::MetadataExt as _;
    let file = context.host_file("file", "");
    let name = file.to_str().unwrap();
    printed(&["chown", name]);
    let outside = fs::metadata(&file).unwrap().uid();
    assert!(outside >= 1000, "{outside}");
    printed(&["remove", name]);
    assert!(!file.exists());
}

fn endings(context: &Context) {
    assert_eq!(inside(&["exit", "7"]).wait().unwrap().code(), Some(7));
    let lock = context.host_file("lock", "");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut child = hold(&lock);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&status);
        // Inside already there is nobody between.
        assert!(status.code() == Some(code) || by_signal == Some(code - 128), "{status}");
    }
}

fn hold(lock: &Path) -> Child {
    let mut child = inside(&["hold", lock.to_str().unwrap()]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

fn killed(context: &Context) {
    let lock = context.host_file("lock", "");
    let mut child = hold(&lock);
    child.kill().unwrap();
    child.wait().unwrap();
    let file = fs::File::open(&lock).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
}

fn refused(_: &Context) {
    let mut child = inside(&["exit", "0"]);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(said.contains("cannot enter the sandbox ns-subuid: cannot map user ids"), "{said}");
    assert!(said.contains("has no range for"), "{said}");
}
