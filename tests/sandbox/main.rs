//! What the sandbox guarantees, checked from inside it: each case runs on every isolation that it is
//! about, as an unprivileged user without and with ranges of ids, and as root.
//!
//! Has no test harness, because this binary is also the sandbox's helper and runs its own cases as
//! other users. `cargo test --test sandbox [WORD]... [-- --list]` chooses cases whose name holds a
//! word. A case that lacks a feature of the host is skipped by name, with the reason;
//! `GONDOLA_TEST_REQUIRE=1` turns that into a failure.

#![expect(clippy::unwrap_used, reason = "a test, though one without a harness")]
#![expect(clippy::print_stdout, reason = "this is the test runner")]
#![expect(clippy::disallowed_methods, reason = "the runner reads one variable")]
#![expect(clippy::assigning_clones, reason = "plain assignments read better in cases")]

mod bench;
mod cases;
mod confined;
mod context;
mod endings;
mod files;
mod network;
mod owners;
mod range;
mod reach;
mod settings;
#[path = "../support/slow.rs"]
mod slow;
mod unmounted;

use std::process::{Command, ExitCode, Stdio};

use context::Context;
use gondola::sandbox::{Isolation, Launcher};
use settings::{ENTER, Setting, World};

/// One thing that must hold.
struct Case {
    name: &'static str,
    isolations: &'static [Isolation],
    check: fn(&Context),
}

const NAMESPACES: &[Isolation] =
    &[Isolation::NsRoot, Isolation::NsSubuid, Isolation::Ns, Isolation::NsCopy];
const LAYERED: &[Isolation] = &[Isolation::NsRoot, Isolation::NsSubuid, Isolation::Ns];
const ROOTED: &[Isolation] = &[
    Isolation::NsRoot,
    Isolation::NsSubuid,
    Isolation::Ns,
    Isolation::NsCopy,
    Isolation::InContainer,
];

fn all() -> Vec<Case> {
    let lists = [
        cases::CASES,
        files::CASES,
        endings::CASES,
        confined::CASES,
        range::CASES,
        reach::CASES,
        network::CASES,
        owners::CASES,
        unmounted::CASES,
        bench::CASES,
    ];
    let rows = lists.into_iter().flatten();
    rows.map(|(name, isolations, check)| Case { name, isolations, check: *check }).collect()
}

fn main() -> ExitCode {
    if let Some(code) = gondola::sandbox::reexec() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == ENTER) {
        let all: Vec<_> = std::env::args_os().skip(1).collect();
        if let Some(code) = Launcher::new(context::HOST_PATH).enter_id_range(&all).unwrap() {
            return code;
        }
    }
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| *word != ENTER).collect();
    match words.as_slice() {
        ["--case", name, isolation, folder] => {
            let case = all().into_iter().find(|case| case.name == *name).unwrap();
            (case.check)(&Context::new(isolation.parse().unwrap(), folder));
            ExitCode::SUCCESS
        }
        ["--starter", isolation, folder, lifetime] => {
            endings::start_and_stay(&Context::new(isolation.parse().unwrap(), folder), lifetime)
        }
        ["--inside", arguments @ ..] => range::act(arguments),
        ["--probe", folder] => confined::print_findings(folder),
        _ => run(&words),
    }
}

fn run(words: &[&str]) -> ExitCode {
    let chosen: Vec<Case> = all().into_iter().filter(|case| is_chosen(case, words)).collect();
    if words.contains(&"--list") {
        for case in &chosen {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    let world = World::new();
    let required = std::env::var("GONDOLA_TEST_REQUIRE").is_ok_and(|value| value == "1");
    let mut failed = 0;
    let mut passed = 0;
    for setting in world.settings() {
        for case in chosen.iter().filter(|case| case.isolations.contains(&setting.isolation)) {
            let name = format!("{} ({}, {})", case.name, setting.isolation, setting.user);
            let watched = slow::Slow::watch(&name);
            let outcome = outcome(&world, case, &setting);
            drop(watched);
            match outcome {
                Outcome::Passed => passed += 1,
                Outcome::Skipped(why) if !(required && setting.required) => {
                    println!("test {name} ... skipped: {why}");
                }
                Outcome::Skipped(why) | Outcome::Failed(why) => {
                    println!("test {name} ... FAILED\n{why}");
                    failed += 1;
                }
            }
        }
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_chosen(case: &Case, words: &[&str]) -> bool {
    let mut words = words.iter().filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| case.name.contains(word))
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

fn outcome(world: &World, case: &Case, setting: &Setting) -> Outcome {
    if let Some(why) = &setting.missing {
        return Outcome::Skipped(why.clone());
    }
    if case.name == owners::PACKAGES
        && let Err(why) = world.debian()
    {
        return Outcome::Skipped(why);
    }
    let own_host = network::is_here(case.name);
    if own_host && let Some(why) = network::missing() {
        return Outcome::Skipped(why);
    }
    let folder = world.scratch(setting);
    let mut command: Command = setting.command(world);
    command.args(["--case", case.name, setting.isolation.as_str(), folder.to_str().unwrap()]);
    if own_host {
        command = network::on_own_host(&command, &world.payload(), &world.tunnels());
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        // What a case measured.
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Outcome::Passed;
    }
    let said = [output.stdout, output.stderr].concat();
    Outcome::Failed(String::from_utf8_lossy(&said).into_owned())
}
