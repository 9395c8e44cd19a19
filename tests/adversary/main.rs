//! An adversary that drives the program from outside: files that change while they are read, projects
//! that plant things for others, layers and steps that mean harm, and ends at any moment.
//!
//! Has no test harness, so that its figures stand at the end of what it prints and every attack has
//! the machine for itself. `cargo test --test adversary [WORD]... [-- --list]` chooses attacks whose name
//! holds a word. With `GONDOLA_TEST_LONG=MINUTES` those with chance in them go on for so long, all
//! together; `GONDOLA_TEST_SEED=NUMBER` repeats their choices.

#![expect(clippy::unwrap_used, reason = "a test, though one without a harness")]
#![expect(clippy::print_stdout, reason = "this is the test runner")]
#![expect(clippy::disallowed_methods, reason = "the runner reads variables")]

#[path = "../rootfs/archive.rs"]
#[allow(dead_code, reason = "the tests of unpacking use the rest")]
mod archive;
mod escapes;
mod fifos;
mod foreign_go;
mod inside;
mod kills;
mod pods;
mod processes;
mod races;
mod scopes;
mod sniff;
#[path = "../support/mod.rs"]
mod support;
mod swaps;
mod tars;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use support::Need;
use world::{Findings, Session};

/// A name, and what is done: what could not be held off is noted in the findings.
type Attack = (&'static str, fn(&Session, &mut Findings) -> Need<()>);

const ATTACKS: [&[Attack]; 11] = [
    races::ATTACKS,
    swaps::ATTACKS,
    scopes::ATTACKS,
    sniff::ATTACKS,
    fifos::ATTACKS,
    tars::ATTACKS,
    escapes::ATTACKS,
    foreign_go::ATTACKS,
    pods::ATTACKS,
    kills::ATTACKS,
    processes::ATTACKS,
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| {
        let mut words = words.iter().filter(|word| !word.starts_with('-')).peekable();
        words.peek().is_none() || words.any(|word| name.contains(word.as_str()))
    };
    let chosen: Vec<Attack> =
        ATTACKS.into_iter().flatten().filter(|(name, _)| wanted(name)).copied().collect();
    if words.iter().any(|word| word == "--list") {
        for (name, _) in &chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    let session = Session::new();
    println!("\nchances by GONDOLA_TEST_SEED={}", session.seed);
    run(&session, &chosen)
}

/// Runs the attacks one after the other, and prints what they came to.
fn run(session: &Session, chosen: &[Attack]) -> ExitCode {
    let (mut figures, mut failed, mut passed) = (Vec::new(), 0, 0);
    for (name, attack) in chosen {
        let begun = Instant::now();
        let mut findings = Findings::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| attack(session, &mut findings)));
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(Err(missing)) if findings.attempts == 0 && !support::required() => {
                println!("test {name} ... skipped: {missing}");
                passed += 1;
                continue;
            }
            Ok(Err(missing)) => findings.broken.push(missing.to_string()),
            Err(_) => findings.broken.push("the attack itself panicked, see above".to_owned()),
            Ok(Ok(())) => {}
        }
        let result = if findings.broken.is_empty() { "ok" } else { "FAILED" };
        println!("test {name} ... {result}");
        for broken in findings.broken.iter().take(50) {
            println!("    {broken}");
        }
        passed += usize::from(findings.broken.is_empty());
        failed += usize::from(!findings.broken.is_empty());
        figures.push((*name, seconds, findings));
    }
    println!("\n{:<44} {:>8} {:>7} {:>8}", "attack", "attempts", "broken", "seconds");
    for (name, seconds, findings) in figures {
        let Findings { attempts, broken, notes } = findings;
        let notes = notes.join(", ");
        println!("{name:<44} {attempts:>8} {:>7} {seconds:>8.1}  {notes}", broken.len());
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
