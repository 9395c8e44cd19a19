//! The `gondola` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A sandbox is entered by starting this program again.
    gondola::sandbox::reexec().unwrap_or_else(gondola::cli::main)
}
