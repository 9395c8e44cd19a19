//! Many processes in one store, doing everything at once, and others that clean it up meanwhile.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Attack;
use super::support::client::noise;
use super::support::{Need, Registry};
use super::world::{Bench, Findings, Running, Session, hash_blobs, must, run, start};

pub const ATTACKS: &[Attack] = &[("40 processes in one store, and a prune", many)];

const PROCESSES: usize = 40;
/// Forty at once on two cores take their time.
const LIMIT: std::time::Duration = std::time::Duration::from_mins(3);

fn many(session: &Session, findings: &mut Findings) -> Need<()> {
    let bench = Bench::new(session)?;
    let registry = Registry::plain()?;
    let image = registry.image("pulled:v1");
    prepare(&bench, &image, findings);
    let chances = session.chances(0);
    let mut prunes = 0;
    let mut turn = 0;
    while turn == 0 || chances.go_on(PROCESSES) {
        prunes += at_once(&bench, &image, turn, findings);
        turn += 1;
    }
    findings.note(format!("{prunes} prunes beside them"));
    match hash_blobs(&bench.sandbox.store()) {
        Ok(count) => findings.note(format!("{count} blobs hashed")),
        Err(why) => findings.judge("the blobs", Err(why)),
    }
    let after = ["cache verify", "cache prune", "cache verify", "images", "cache du"];
    for words in after {
        let words: Vec<&str> = words.split(' ').collect();
        let outcome = must(&mut bench.sandbox.command(&words)).map(drop);
        findings.judge(&format!("{words:?} afterwards"), outcome);
    }
    Ok(())
}

fn prepare(bench: &Bench, image: &str, findings: &mut Findings) {
    for number in 0..5 {
        let file = format!(
            "FROM busybox\nCOPY noise /noise\nRUN echo {number} > /number && cat /noise > /copy\n"
        );
        bench.sandbox.write(&format!("ctx{number}/Dockerfile"), file);
    }
    bench.sandbox.write("app", noise(2 << 20));
    bench.sandbox.write("shell/Dockerfile", "FROM busybox\nRUN true\n");
    let shell = ["-o", "oci:base:t"];
    findings.judge("the shell", must(&mut bench.build("shell", &shell)).map(drop));
    let words = ["build", "--prebuilt", "app", "-t", image, "--push"];
    findings.judge("pushing", must(&mut bench.sandbox.command(&words)).map(drop));
    let copy = ["copy", image, "oci:layout:t"];
    findings.judge("copying", must(&mut bench.sandbox.command(&copy)).map(drop));
}

/// Starts everything, cleans up until all have ended, and judges each; how often it cleaned up.
fn at_once(bench: &Bench, image: &str, turn: usize, findings: &mut Findings) -> usize {
    for number in 0..5 {
        let mut bytes = noise(1 << 20).to_vec();
        bytes[..2].copy_from_slice(&[u8::try_from(turn % 250).unwrap(), number]);
        bench.sandbox.write(&format!("ctx{number}/noise"), bytes);
    }
    let done = AtomicBool::new(false);
    let started: Vec<(String, Running)> = (0..PROCESSES)
        .map(|number| {
            let mut command = command(bench, image, number);
            (format!("{:?}", command.get_args().collect::<Vec<_>>()), start(&mut command))
        })
        .collect();
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| prune(bench, &done));
        for (words, running) in started {
            let outcome = running.end(LIMIT).and_then(|ended| ended.succeeded());
            findings.judge(&words, outcome);
        }
        done.store(true, Ordering::Relaxed);
        let (times, wrong) = pruning.join().unwrap();
        for why in wrong {
            findings.judge("cleaning up beside them", Err(why));
        }
        times
    })
}

fn prune(bench: &Bench, done: &AtomicBool) -> (usize, Vec<String>) {
    let (mut times, mut wrong) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        let words: &[&str] = if times % 2 == 0 {
            &["cache", "prune"]
        } else {
            &["cache", "prune", "--older-than", "0s"]
        };
        let outcome = run(&mut bench.sandbox.command(words)).and_then(|ended| ended.succeeded());
        wrong.extend(outcome.err());
        times += 1;
    }
    (times, wrong)
}

fn command(bench: &Bench, image: &str, number: usize) -> Command {
    let (tag, out) = (format!("image-{number}"), format!("oci:out-{number}:t"));
    let context = format!("ctx{}", number % 5);
    match number % 8 {
        0..=2 => bench.keep(&context, &tag),
        3 => bench.sandbox.command(&["build", "--prebuilt", "app", "-t", &tag]),
        4 => bench.sandbox.command(&["pull", image]),
        5 => bench.sandbox.command(&["copy", image, &out]),
        6 => bench.sandbox.command(&["run", "--rm", "oci:base:t", "true"]),
        _ => {
            let archive = format!("docker-archive:out-{number}.tar:app:v{number}");
            bench.sandbox.command(&["copy", "oci:layout:t", &archive])
        }
    }
}
