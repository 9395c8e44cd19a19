//! Same source, same toolchain, same digest: whoever builds, wherever, however.

#![cfg(test)]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Run, Sandbox, go, need, root};

/// Writes the same sources into a folder of `sandbox`, in the given order.
fn sources(sandbox: &Sandbox, folder: &str, backwards: bool) {
    let mut files = vec![
        ("go.mod", "module example.com/same\n\ngo 1.21\n"),
        (
            "main.go",
            "package main\n\nimport \"example.com/same/lib\"\n\nfunc main() { println(lib.Text()) }\n",
        ),
        (
            "lib/lib.go",
            "package lib\n\nimport _ \"embed\"\n\n//go:embed text\nvar text string\n\nfunc Text() string { return text }\n",
        ),
        ("lib/text", "same\n"),
        ("data/a", "a"),
        ("data/b/c", "c"),
        ("data/z", "z"),
    ];
    if backwards {
        files.reverse();
    }
    for (name, text) in files {
        sandbox.write(&format!("{folder}/{name}"), text);
    }
}

const ARGUMENTS: [&str; 8] =
    ["build", "--platform", "linux/amd64,linux/arm64", "--add", "data:/data", "-t", "same", "."];

fn digest(command: &mut Command) -> String {
    Run::of(command).success().line().to_owned()
}

#[test]
fn the_digest_does_not_depend_on_who_builds_where_and_when() {
    need!(go());
    let sandbox = Sandbox::new();
    sources(&sandbox, "one", false);
    sources(&sandbox, "another/folder", true);
    let build = |folder: &str, store: &str| {
        let mut command = sandbox.command(&ARGUMENTS);
        command.current_dir(sandbox.path(folder)).env("GONDOLA_HOME", sandbox.path(store));
        command
    };
    let expect = digest(&mut build("one", "store-1"));
    assert_eq!(digest(&mut build("one", "store-1")), expect, "with everything cached");
    assert_eq!(digest(build("one", "store-1").arg("--no-cache")), expect, "with the cache unused");
    assert_eq!(digest(&mut build("another/folder", "store-2")), expect, "in another folder");

    let mut elsewhere = build("one", "store-3");
    elsewhere.env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8").env("LANG", "tr_TR.UTF-8");
    elsewhere.env("GOFLAGS", "-ldflags=-s").env("CGO_ENABLED", "1").env("GOAMD64", "v3");
    elsewhere.env("GOMAXPROCS", "1").env("USER", "somebody");
    assert_eq!(digest(&mut elsewhere), expect, "with another environment");

    let mut masked = Command::new("sh");
    let script = "umask 077; chmod -R go-rwx .; exec \"$0\" \"$@\"";
    masked.args(["-c", script, env!("CARGO_BIN_EXE_gondola")]).args(ARGUMENTS).env_clear();
    masked.envs(sandbox.environment()).current_dir(sandbox.path("another/folder"));
    masked.env("GONDOLA_HOME", sandbox.path("store-4"));
    assert_eq!(digest(&mut masked), expect, "with another umask and other modes");

    let mut single = Command::new("taskset");
    single.args(["-c", "0", env!("CARGO_BIN_EXE_gondola")]).args(ARGUMENTS).env_clear();
    single.envs(sandbox.environment()).current_dir(sandbox.path("one"));
    single.env("GONDOLA_HOME", sandbox.path("store-5"));
    assert_eq!(digest(&mut single), expect, "on one processor");
}

#[test]
fn the_digest_does_not_depend_on_the_user() {
    need!(go());
    need!(root("to build as another user"));
    let sandbox = Sandbox::new();
    sources(&sandbox, "src", false);
    let expect = digest(sandbox.command(&ARGUMENTS).current_dir(sandbox.path("src")));
    // Somebody who owns nothing here but a home.
    let home = sandbox.path("nobody");
    fs_err::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    open_up(sandbox.work().parent().unwrap());
    let program = home.join("gondola");
    support::install(env!("CARGO_BIN_EXE_gondola"), &program);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.args(ARGUMENTS).env_clear().current_dir(sandbox.path("src"));
    command.env("PATH", sandbox.environment()["PATH"].as_str()).env("HOME", &home);
    assert_eq!(digest(&mut command), expect);
}

/// Lets everybody into a test's own folder.
fn open_up(folder: &Path) {
    support::run("chmod", &["755", folder.to_str().unwrap()]);
}

#[test]
fn source_date_epoch_is_the_time_that_everything_carries() {
    let mut sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.set("SOURCE_DATE_EPOCH", "1767225600");
    sandbox.gondola(&["build", "--prebuilt", "app", "-o", "oci:out:t"]).success();
    let image = support::Stored::folder(&sandbox.path("out")).image(Some("t"));
    assert_eq!(image.config["created"], "2026-01-01T00:00:00Z");
    assert!(image.layers.iter().flatten().all(|entry| entry.mtime == 1_767_225_600));
    sandbox.set("SOURCE_DATE_EPOCH", "yesterday");
    sandbox.gondola(&["build", "--prebuilt", "app"]).code(2).says("SOURCE_DATE_EPOCH");
}
