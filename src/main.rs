//! The `gondola` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gondola::sandbox::survive_file_size_limit();
    // A sandbox is entered by starting this program again.
    gondola::sandbox::reexec().unwrap_or_else(gondola::cli::main)
}
