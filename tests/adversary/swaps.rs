//! Files and folders that become links to somewhere outside, and files again, thousands of times in
//! a second, while a build reads them: nothing from outside may get into an image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fs_err as fs;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::support::Need;
use super::world::{Bench, Findings, Session, holds, must, run};
use super::{Attack, archive};

pub const ATTACKS: &[Attack] = &[
    ("a file becomes a link while it is copied", |session, findings| {
        swap(session, findings, "ctx/dir/victim", Some("FROM busybox\nCOPY . /c/\n"))
    }),
    ("a named file becomes a link", |session, findings| {
        swap(session, findings, "ctx/victim", Some("FROM busybox\nCOPY victim /v\n"))
    }),
    ("a folder becomes a link while it is copied", |session, findings| {
        swap(session, findings, "ctx/dir", Some("FROM busybox\nCOPY . /c/\n"))
    }),
    ("a folder on the way becomes a link", |session, findings| {
        swap(session, findings, "ctx/dir", Some("FROM busybox\nCOPY dir/victim dir/other /v/\n"))
    }),
    ("an archive becomes a link while it is unpacked", |session, findings| {
        swap(session, findings, "ctx/victim.tar", Some("FROM busybox\nADD victim.tar /a/\n"))
    }),
    ("a mounted folder becomes a link", |session, findings| {
        let file = "FROM busybox\nRUN --mount=type=bind,source=dir,target=/c cp -r /c /v\n";
        swap(session, findings, "ctx/dir", Some(file))
    }),
    ("a file becomes a link while --add reads it", |session, findings| {
        swap(session, findings, "ctx/dir/victim", None)
    }),
    ("a folder becomes a link while --add reads it", |session, findings| {
        swap(session, findings, "ctx/dir", None)
    }),
];

const SECRET: &str = "what only the host may know";

/// A thread that swaps two names until it is dropped.
struct Swapping {
    stop: std::sync::Arc<(AtomicBool, AtomicU64)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapping {
    fn of(one: PathBuf, other: PathBuf) -> Self {
        let stop = std::sync::Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
        let shared = stop.clone();
        let thread = std::thread::spawn(move || {
            while !shared.0.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                shared.1.fetch_add(1, Ordering::Relaxed);
                // Now and then long enough for a whole look at the one or the other.
                if shared.1.load(Ordering::Relaxed).is_multiple_of(7) {
                    std::thread::yield_now();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }

    fn times(&self) -> u64 {
        self.stop.1.load(Ordering::Relaxed)
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Swaps `victim` for a link to its like outside while it is built from.
fn swap(session: &Session, findings: &mut Findings, victim: &str, file: Option<&str>) -> Need<()> {
    let bench = Bench::new(session)?;
    let outside = prepare(&bench);
    if let Some(file) = file {
        bench.sandbox.write("ctx/Dockerfile", file);
    }
    let command = |no_cache: bool| -> Command {
        match file {
            Some(_) if no_cache => bench.build("ctx", &["--no-cache"]),
            Some(_) => bench.build("ctx", &[]),
            None => {
                let words = ["build", "-t", "app", "-o", "oci:out:t", "--prebuilt", "app"];
                bench.sandbox.command(&[&words[..], &["--add", "ctx:/srv"]].concat())
            }
        }
    };
    findings.judge("a build that nobody disturbs", must(&mut command(false)).map(drop));
    let (inside, name) = (bench.sandbox.path(victim), Path::new(victim).file_name().unwrap());
    let link = bench.sandbox.path("link");
    std::os::unix::fs::symlink(outside.join(name), &link).unwrap();
    let chances = session.chances(3);
    let (mut built, mut swaps) = (0, 0);
    while chances.go_on(findings.attempts) {
        bench.forget();
        let swapping = Swapping::of(inside.clone(), link.clone());
        let ended = run(&mut command(chances.below(2) == 0));
        swaps += swapping.times();
        drop(swapping);
        let outcome = ended.and_then(|ended| {
            if ended.stderr.contains(SECRET) || ended.stdout.contains(SECRET) {
                return Err("a message has what lies outside".to_owned());
            }
            if ended.code != Some(0) {
                return ended.failed_in_words();
            }
            built += 1;
            let leaked = holds(&bench.image(), SECRET);
            leaked.map_or(Ok(()), |path| Err(format!("/{path} is the file outside")))
        });
        findings.judge("a build", outcome);
    }
    findings.note(format!("{built} of them built, {swaps} swaps"));
    findings.judge("the file outside", still_there(&outside));
    Ok(())
}

/// Writes the context and a folder outside that has the same names.
fn prepare(bench: &Bench) -> PathBuf {
    let secret = SECRET.repeat(2000);
    let public = "what everybody may know ".repeat(2000);
    let packed = |text: &str| archive::archive(&[archive::file("v", text)]);
    let write = |folder: &str, text: &str| {
        for name in ["victim", "dir/victim", "dir/other"] {
            bench.sandbox.write(&format!("{folder}/{name}"), text);
        }
        bench.sandbox.write(&format!("{folder}/victim.tar"), packed(text));
    };
    write("ctx", &public);
    write("outside", &secret);
    write("outside/dir", &secret);
    bench.sandbox.write("app", "a program");
    bench.sandbox.path("outside")
}

fn still_there(outside: &Path) -> Result<(), String> {
    let kept = fs::read_to_string(outside.join("victim")).map_err(|error| error.to_string())?;
    if kept == SECRET.repeat(2000) { Ok(()) } else { Err("it was changed".to_owned()) }
}
