//! `kill -9` at any moment of a build, a pull, a push, an export and a run: the store stays whole, what was
//! there before stays as it was, and nothing is left behind but what the next command takes away.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fs_err as fs;
use gondola::oci::Digest;

use super::Attack;
use super::support::client::noise;
use super::support::{Need, Registry, Stored};
use super::world::{Bench, Chances, Findings, LIMIT, Session, hash_blobs, must, start};

pub const ATTACKS: &[Attack] = &[("kill -9 at any moment", kill)];

/// What is killed, each so many times.
const OPERATIONS: [&str; 6] = ["Dockerfile", "package", "push", "pull", "export", "run"];
const KILLS: usize = 25;
/// A word by which a container's process is found.
const SLEEPS: &str = "86399";

struct World {
    bench: Bench,
    registry: Registry,
}

fn kill(session: &Session, findings: &mut Findings) -> Need<()> {
    let world = World { bench: Bench::new(session)?, registry: Registry::plain()? };
    world.prepare();
    let chances = session.chances(0);
    let mut killed = 0;
    let mut round = 0;
    // Once through everything, and again while time is left.
    while round == 0 || chances.go_on(findings.attempts) {
        for operation in OPERATIONS {
            match world.kill_all(operation, round, &chances) {
                Ok(count) => killed += count,
                Err(why) => findings.judge(operation, Err(why)),
            }
            findings.attempts += KILLS;
            world.look(operation, findings);
        }
        round += 1;
    }
    findings.note(format!("{killed} killed in the midst"));
    match world.hash() {
        Ok(count) => findings.note(format!("{count} blobs hashed")),
        Err(why) => findings.judge("the blobs at the end", Err(why)),
    }
    if killed * 3 < findings.attempts {
        let why = format!("{killed} of {} were killed in the midst", findings.attempts);
        findings.judge("the moments", Err(why));
    }
    Ok(())
}

impl World {
    fn prepare(&self) {
        let file =
            "FROM busybox\nCOPY noise /noise\nRUN cat /noise > /copy && cat /noise >> /copy\n";
        self.bench.sandbox.write("ctx/Dockerfile", file);
        self.vary(0);
        must(&mut self.bench.keep("ctx", "kept")).unwrap();
        fs::create_dir(self.bench.sandbox.path("exports")).unwrap();
    }

    /// Makes the sources other ones.
    fn vary(&self, number: usize) {
        let mut bytes = noise(1 << 20).to_vec();
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        self.bench.sandbox.write("ctx/noise", &bytes);
        self.bench.sandbox.write("app", &bytes);
    }

    /// The command of an operation; whatever has to be there before has been done.
    fn command(&self, operation: &str, number: usize) -> Result<Command, String> {
        let sandbox = &self.bench.sandbox;
        let remote = self.registry.image(&format!("app:v{number}"));
        let build = ["build", "--prebuilt", "app", "-t", &remote];
        let other = sandbox.path("other").display().to_string();
        Ok(match operation {
            "Dockerfile" if number.is_multiple_of(2) => self.bench.build("ctx", &[]),
            "Dockerfile" => self.bench.keep("ctx", "app"),
            "package" => {
                let words = ["build", "--prebuilt", "app", "-t", "app", "-o", "oci:out:t"];
                sandbox.command(&words)
            }
            "push" => {
                must(&mut sandbox.command(&build))?;
                sandbox.command(&["push", &remote])
            }
            "pull" => {
                must(&mut sandbox.command(&[&build[..], &["--push"]].concat()))?;
                sandbox.command(&["pull", "--store", &other, &remote])
            }
            "export" => {
                must(&mut sandbox.command(&build))?;
                let archive = "docker-archive:exports/image.tar:image:v1";
                sandbox.command(&["copy", &format!("store:{remote}"), archive])
            }
            _ => {
                let more = ["oci:kept:t", "sleep", SLEEPS];
                sandbox.command(&[&["run", "--rm", "--name", "killed"][..], &more].concat())
            }
        })
    }

    /// Kills an operation at moments that are spread over the time it takes.
    fn kill_all(&self, operation: &str, round: usize, chances: &Chances) -> Result<usize, String> {
        if operation == "run" {
            must(&mut self.bench.sandbox.command(&["copy", "store:kept", "oci:kept:t"]))?;
        }
        let first =
            round * 1000 + 1 + OPERATIONS.iter().position(|it| *it == operation).unwrap() * 100;
        let mut whole = Duration::from_millis(400);
        if operation != "run" {
            self.vary(first + KILLS);
            let begun = self.command(operation, first + KILLS)?;
            let mut command = begun;
            whole = must(&mut command)?.took;
        }
        let mut killed = 0;
        for number in 0..KILLS {
            self.vary(first + number);
            let mut running = start(&mut self.command(operation, first + number)?);
            let step = whole / u32::try_from(KILLS).unwrap();
            let moment = step * u32::try_from(number).unwrap() + chances.part(step);
            let begun = Instant::now();
            while begun.elapsed() < moment && !running.has_ended() {
                std::thread::sleep(Duration::from_micros(300));
            }
            // The program alone: what it started has to end with it.
            running.child.kill().unwrap();
            killed += usize::from(running.child.wait().unwrap().code().is_none());
        }
        Ok(killed)
    }

    /// What must hold after an operation was killed many times.
    fn look(&self, operation: &str, findings: &mut Findings) {
        let sandbox = &self.bench.sandbox;
        let mut judge = |what: &str, outcome: Result<(), String>| {
            if outcome.is_err() {
                findings.judge(&format!("{operation}: {what}"), outcome);
            }
        };
        judge("the blobs", self.hash().map(drop));
        judge("the processes", gone(SLEEPS));
        let verify = must(&mut sandbox.command(&["cache", "verify"]));
        judge("what the program says of the store", verify.map(drop));
        self.bench.forget();
        let again = self.command(operation, 90_000).and_then(|mut command| {
            if operation == "run" {
                let words = ["run", "--rm", "--name", "killed", "oci:kept:t", "true"];
                command = sandbox.command(&words);
            }
            must(&mut command).map(drop)
        });
        judge("the same afterwards", again);
        judge("the folder of exports", only(&sandbox.path("exports"), &["image.tar"]));
        judge("the archive", self.archive());
        let prune = must(&mut sandbox.command(&["cache", "prune"]));
        judge("cleaning up", prune.map(drop));
        judge("the folder for unfinished files", only(&sandbox.store().join("gondola/work"), &[]));
        judge("names in the working folder", self.leftovers());
    }

    fn hash(&self) -> Result<usize, String> {
        let other = self.bench.sandbox.path("other");
        let more = if other.exists() { hash_blobs(&other)? } else { 0 };
        Ok(hash_blobs(&self.bench.sandbox.store())? + more)
    }

    /// An archive is whole or is not there.
    fn archive(&self) -> Result<(), String> {
        let file = self.bench.sandbox.path("exports/image.tar");
        if !file.exists() {
            return Ok(());
        }
        let read = std::panic::catch_unwind(|| {
            let stored = Stored::archive(&file);
            let manifest = stored.json("manifest.json");
            for layer in manifest[0]["Layers"].as_array().unwrap() {
                let name = layer.as_str().unwrap();
                let bytes = stored.file(name);
                let hex = name.rsplit('/').next().unwrap();
                assert_eq!(Digest::of(bytes).hex(), hex);
            }
        });
        read.map_err(|_| "it is not whole, see above".to_owned())
    }

    /// Nothing but what the test itself put there.
    fn leftovers(&self) -> Result<(), String> {
        only(&self.bench.sandbox.work(), &["app", "ctx", "exports", "kept", "other", "out"])?;
        only(&self.bench.sandbox.path("ctx"), &["Dockerfile", "noise"])
    }
}

/// That a folder has none but these names.
fn only(folder: &Path, names: &[&str]) -> Result<(), String> {
    let Ok(found) = fs::read_dir(folder) else { return Ok(()) };
    let found = found.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let others: Vec<String> = found.filter(|name| !names.contains(&name.as_str())).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} others are in {}: {:?}",
        others.len(),
        folder.display(),
        &others[..others.len().min(4)]
    ))
}

/// That no process has a word; those that are on their way out get a moment.
fn gone(word: &str) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let lives = fs::read_dir("/proc").unwrap().find_map(|entry| {
            let words = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            words.contains(&format!("sleep {word}")).then_some(words)
        });
        match lives {
            None => return Ok(()),
            Some(words) if begun.elapsed() > LIMIT / 8 => return Err(format!("{words} lives on")),
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
