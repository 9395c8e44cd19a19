//! One store, many processes, and processes that die.

#![cfg(test)]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Run, Sandbox};

fn start(sandbox: &Sandbox, arguments: &[&str]) -> (Command, Child) {
    let mut command = sandbox.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    (command, child)
}

#[test]
fn thirty_processes_build_into_one_store() {
    let sandbox = Sandbox::new();
    for number in 0..10 {
        sandbox.write(&format!("app{number}"), format!("{number}").repeat(300_000));
    }
    let running: Vec<_> = (0..30)
        .map(|number| {
            let (file, name) = (format!("app{}", number % 10), format!("image-{number}"));
            start(&sandbox, &["build", "--prebuilt", &file, "-t", &name])
        })
        .collect();
    for (command, child) in running {
        Run::ended(&command, child.wait_with_output().unwrap()).success();
    }
    let images = sandbox.gondola(&["images"]).success();
    // One line is the heading.
    assert_eq!(images.stdout.lines().count(), 31, "{}", images.stdout);
    sandbox.gondola(&["cache", "verify"]).success();
}

#[test]
fn fifty_kills_leave_a_store_that_is_whole() {
    let sandbox = Sandbox::new();
    let noise = |seed: u32| -> Vec<u8> {
        (0..500_000_u32)
            .flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes())
            .collect()
    };
    // How long a whole run takes, so that the kills are spread over it.
    let mut whole = Duration::MAX;
    for number in 100..103 {
        sandbox.write("app", noise(number));
        let begun = std::time::Instant::now();
        sandbox.gondola(&["build", "--prebuilt", "app", "-t", "app", "-o", "oci:out:t"]).success();
        whole = whole.min(begun.elapsed());
    }
    let mut killed = 0;
    for number in 1..=50_u32 {
        sandbox.write("app", noise(number));
        let name = format!("app-{number}");
        let (_, mut child) =
            start(&sandbox, &["build", "--prebuilt", "app", "-t", &name, "-o", "oci:out:t"]);
        // Not a wait for something to be done: the moment of death is what varies.
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * f64::from(number) / 50.0));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed > 10, "only {killed} of 50 processes were killed in mid-work");
    sandbox.gondola(&["cache", "verify"]).success();
    sandbox.gondola(&["build", "--prebuilt", "app", "-t", "app", "-o", "oci:out:t"]).success();
    support::Stored::folder(&sandbox.path("out")).image(Some("t"));
    sandbox.gondola(&["cache", "prune"]).success();
    sandbox.gondola(&["cache", "verify"]).success();
    // A folder for each process that died was here.
    let work = sandbox.store().join("gondola/work");
    let left: Vec<_> = fs_err::read_dir(work).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "files of dead processes are left: {left:?}");
}
