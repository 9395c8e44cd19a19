//! Every Dockerfile of `fixtures/dockerfiles`, built by the program and by buildah: the resulting
//! files and configurations are the same, line by line. Another build, by an unprivileged user, in
//! another folder, with another umask and time zone and an empty store, gives the same digest; so does
//! one as root of a container with docker's default capabilities and profile, started by docker's engine
//! and by runc, for a sample of the cases. What comes out otherwise there is listed, with the reason.
//!
//! A new case is a new folder; `case.rs` says what is in it. Has no test harness, because the cases
//! share their bases: `cargo test --test dockerfile_equality [WORD]... [-- --list]` chooses cases
//! whose name holds a word; `-- --lines` prints what buildah makes of them, and `-- --in-container`
//! (docker's) or `-- --in-runc` builds all of them here and in a container, and compares nothing else.

#![expect(clippy::unwrap_used, reason = "a test, though one without a harness")]
#![expect(clippy::print_stdout, reason = "this is the test runner")]

#[path = "../support/mod.rs"]
mod support;

mod build;
mod case;
mod contained;
mod differences;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use build::World;
use case::Case;
use contained::Starter;
use support::Need;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cases: Vec<Case> = Case::all().into_iter().filter(|case| is_chosen(case, &words)).collect();
    if words.iter().any(|word| word == "--list") {
        for case in &cases {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    let world = match World::new() {
        Ok(world) => world,
        Err(missing) => {
            missing.skip();
            return ExitCode::SUCCESS;
        }
    };
    if words.iter().any(|word| word == "--lines") {
        let judged = cases.iter().filter(|case| case.buildah_cannot.is_none());
        judged.for_each(|case| world.print_theirs(case).unwrap());
        return ExitCode::SUCCESS;
    }
    check_names(&world);
    let starters = [("--in-container", Starter::Docker), ("--in-runc", Starter::Runc)];
    let starter = starters.into_iter().find(|(flag, _)| words.iter().any(|word| word == flag));
    let results = run(&cases, &|case| match starter {
        Some((_, starter)) => world.check_in_container(case, starter),
        None => world.check(case),
    });
    let count = |wanted: fn(&Outcome) -> bool| results.iter().filter(|it| wanted(it)).count();
    let failed = count(|it| matches!(it, Outcome::Failed(_)));
    let passed = count(|it| !matches!(it, Outcome::Failed(_)));
    println!("\ntest result: {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is listed of containers must be there.
fn check_names(world: &World) {
    let all: Vec<String> = Case::all().into_iter().map(|case| case.name).collect();
    let named = world.exceptions().cases().chain(contained::SAMPLE);
    let unknown: Vec<&str> = named.filter(|name| !all.iter().any(|case| case == name)).collect();
    assert!(unknown.is_empty(), "there are no such cases: {unknown:?}");
}

fn is_chosen(case: &Case, words: &[String]) -> bool {
    let exact = words.iter().any(|word| word == "--exact");
    let mut words = words.iter().filter(|word| !word.starts_with('-')).peekable();
    let fits = |word: &String| if exact { case.name == *word } else { case.name.contains(word) };
    words.peek().is_none() || words.any(fits)
}

/// How a case ended.
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Runs the cases on as many threads as there are processors.
fn run(cases: &[Case], check: &(dyn Fn(&Case) -> Need<Vec<String>> + Sync)) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = outcome(case, check);
                    results.lock().unwrap().push(outcome);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

fn outcome(case: &Case, check: &dyn Fn(&Case) -> Need<Vec<String>>) -> Outcome {
    let start = Instant::now();
    let _watched = support::Slow::watch(&case.name);
    let ended = catch_unwind(AssertUnwindSafe(|| check(case)));
    let seconds = start.elapsed().as_secs_f32();
    let outcome = match ended {
        Ok(Ok(faults)) if faults.is_empty() => Outcome::Passed,
        Ok(Ok(faults)) => Outcome::Failed(faults.join("\n")),
        Ok(Err(missing)) => Outcome::Skipped(missing.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            Outcome::Failed(text.or(fixed).unwrap_or_default())
        }
    };
    let name = &case.name;
    match &outcome {
        Outcome::Passed => println!("test {name} ... ok ({seconds:.1} s)"),
        Outcome::Skipped(why) if !support::required() => {
            println!("test {name} ... skipped: {name}: {why}");
        }
        Outcome::Skipped(why) => {
            println!("test {name} ... FAILED\n{why}");
            return Outcome::Failed(why.clone());
        }
        Outcome::Failed(why) => println!("test {name} ... FAILED\n{why}"),
    }
    outcome
}
