//! The `gondola` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gondola::cli::main()
}
