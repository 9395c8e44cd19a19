//! What a test needs from the machine, and how it says that it cannot be had.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Something that a test needs, or why this machine does not have it.
pub type Need<T> = Result<T, Missing>;

/// Why something that a test needs cannot be had.
#[derive(Clone, Debug)]
pub struct Missing(String);

impl Missing {
    /// Completes the sentence "skipped: …".
    pub fn because(reason: impl Display) -> Self {
        Self(reason.to_string())
    }

    /// Prints the reason beside the test's name; panics where nothing may be missing.
    pub fn skip(&self) {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(!required(), "GONDOLA_TEST_REQUIRE=1, and {}", self.0);
        // Not `eprintln!`, which the harness keeps to itself when a test passes.
        writeln!(std::io::stderr().lock(), "skipped: {test}: {}", self.0).unwrap();
    }
}

impl Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether nothing may be missing.
pub fn required() -> bool {
    std::env::var("GONDOLA_TEST_REQUIRE").is_ok_and(|value| value == "1")
}

/// Whether tests that take many minutes are asked for; says by the test's name that they are not.
pub fn all_asked_for(what: &str) -> bool {
    let asked = std::env::var("GONDOLA_TEST_ALL").is_ok_and(|value| value == "1");
    if !asked {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("skipped: {test}: without GONDOLA_TEST_ALL=1: {what}");
        writeln!(std::io::stderr().lock(), "{line}").unwrap();
    }
    asked
}

/// A word that names of cases have to hold, for those who look into one of them.
pub fn only() -> String {
    std::env::var("GONDOLA_TEST_ONLY").unwrap_or_default()
}

/// Takes what a [`Need`] holds, or skips the test.
macro_rules! need {
    ($need:expr) => {
        match $need {
            Ok(it) => it,
            Err(missing) => return missing.skip(),
        }
    };
}
pub(crate) use need;

/// Finds a program on `PATH` or among the administrator's programs.
pub fn program(name: &str) -> Need<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| Missing::because(format!("{name} is not installed")))
}

/// Succeeds for root alone.
pub fn root(for_what: &str) -> Need<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Missing::because(format!("{for_what} needs root")))
}

/// Runs a program to its end; panics with everything that it said unless it succeeds.
pub fn run<S: AsRef<OsStr>>(program: impl AsRef<Path>, arguments: &[S]) -> String {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments);
    succeed(&mut command)
}

/// Runs a command to its end; panics with everything that it said unless it succeeds.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{}", describe(command, &output));
    String::from_utf8(output.stdout).expect("the program prints UTF-8")
}

/// A command with its end and both of its outputs, for a message.
pub fn describe(command: &Command, output: &Output) -> String {
    format!(
        "{command:?}: {}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
