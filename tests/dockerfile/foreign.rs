//! Steps and programs for another processor.

use std::fmt::Write as _;
use std::process::Command;

use super::bench::{Bench, compile, text};
use super::support::{Missing, Need, Run, Sandbox, need, program, root};

/// A processor that this machine does not have.
struct Other {
    /// Go's name for it.
    architecture: &'static str,
    emulator: &'static str,
    /// Its number in ELF files.
    machine: u8,
}

const OTHER: Other = if cfg!(target_arch = "aarch64") {
    Other { architecture: "amd64", emulator: "qemu-x86_64-static", machine: 62 }
} else {
    Other { architecture: "arm64", emulator: "qemu-aarch64-static", machine: 183 }
};

/// Says what it runs on, and writes it to the file that it is told.
const PROGRAM: &str = r#"package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	for _, file := range os.Args[1:] {
		os.WriteFile(file, []byte(runtime.GOARCH), 0o644)
	}
	fmt.Println("runs on", runtime.GOARCH)
}
"#;

const FILE: &str = "FROM scratch\nCOPY app /app\nRUN [\"/app\", \"/made\"]\nCMD [\"/app\"]\n";

fn prepared() -> Need<(Bench, String)> {
    let bench = Bench::new()?;
    compile(&bench.sandbox, PROGRAM, OTHER.architecture, "ctx/app")?;
    bench.file(FILE);
    Ok((bench, format!("linux/{}", OTHER.architecture)))
}

/// A line by which the kernel runs the other processor's programs through the emulator. By its `F` the
/// emulator is opened at once, and need not be in any root file system.
fn handler() -> Need<String> {
    let escaped = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\x{byte:02x}").unwrap();
            text
        })
    };
    let begin = [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0", &[OTHER.machine, 0][..]].concat();
    let mut counts = vec![0xff; begin.len()];
    // Whichever system it is for, and wherever it is loaded.
    (counts[7], counts[16]) = (0, 0xfe);
    let emulator = program(OTHER.emulator)?;
    let (begin, counts) = (escaped(&begin), escaped(&counts));
    Ok(format!(":gondola:M::{begin}:{counts}:{}:F", emulator.display()))
}

/// The program in a user namespace that has these handlers and no others; nothing outside of it knows
/// of them.
fn with_handlers(sandbox: &Sandbox, handlers: &str, words: &[&str]) -> Need<Run> {
    root("mounting binfmt_misc")?;
    let unshare = program("unshare")?;
    let enter = "cd /proc/sys/fs/binfmt_misc && mount -t binfmt_misc none . && \
                 cd . && { test -z \"$1\" || printf %s \"$1\" > /proc/sys/fs/binfmt_misc/register; } && \
                 shift && cd \"$1\" && shift && exec \"$@\"";
    let work = sandbox.work();
    let run = |words: &[&str]| {
        let mut command = Command::new(&unshare);
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", enter, "sh", handlers]);
        command.arg(&work).args(words).env_clear().envs(sandbox.environment());
        Run::of(&mut command)
    };
    let tried = run(&["true"]);
    if tried.code != Some(0) {
        let why = tried.stderr.trim();
        return Err(Missing::because(format!("no binfmt_misc in a user namespace: {why}")));
    }
    Ok(run(&[&[env!("CARGO_BIN_EXE_gondola")], words].concat()))
}

#[test]
fn without_an_emulator_a_foreign_program_says_how_to_get_one() {
    let (bench, platform) = need!(prepared());
    // A machine with an emulator is kept from using it.
    let has_emulator = Command::new(bench.sandbox.path("ctx/app")).output().is_ok();
    let gondola = |words: &[&str]| {
        if has_emulator {
            return with_handlers(&bench.sandbox, "", words);
        }
        Ok(bench.sandbox.gondola(words))
    };
    let ran = need!(gondola(&bench.arguments(&["--platform", &platform]))).code(1);
    ran.says("Exec format error").says("binfmt_misc").says("FROM --platform=$BUILDPLATFORM");
    let prebuilt = format!("{platform}=ctx/app");
    let build = ["build", "--base", "scratch", "-o", "oci:other:t", "--prebuilt", &prebuilt];
    bench.sandbox.gondola(&build).success();
    let run = ["run", "--rm", "--platform", &platform, "oci:other:t"];
    let ran = need!(gondola(&run)).code(126);
    ran.says("Exec format error").says(&format!("for {platform}")).says("binfmt_misc");
}

#[test]
fn with_an_emulator_foreign_steps_and_images_run() {
    let (bench, platform) = need!(prepared());
    let handler = need!(handler());
    let words = bench.arguments(&["--platform", &platform]);
    need!(with_handlers(&bench.sandbox, &handler, &words)).success();
    let built = bench.image();
    assert_eq!(text(&built, "made"), OTHER.architecture);
    assert_eq!(built.platform(), platform);
    let run = ["run", "--rm", "--platform", &platform, "oci:out:t"];
    let ran = need!(with_handlers(&bench.sandbox, &handler, &run)).success();
    assert_eq!(ran.stdout, format!("runs on {}\n", OTHER.architecture));
}
