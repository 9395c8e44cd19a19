//! Real programs with dependencies: built, loaded, started.

#![cfg(test)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Docker, Missing, Need, Podman, Sandbox, go, need};

/// Import paths, arguments that make the program say what it is, and a part of what it says.
///
/// `fixtures/public/go.mod` pins their versions.
const PROGRAMS: [(&str, &[&str], &str); 5] = [
    ("github.com/cespare/reflex", &["--help"], "reflex [OPTIONS] [COMMAND]"),
    ("github.com/google/go-jsonnet/cmd/jsonnet", &["--version"], "Jsonnet commandline interpreter"),
    ("github.com/rakyll/hey", &["-n"], "Usage: hey [options...] <url>"),
    ("golang.org/x/tools/cmd/stringer", &["-help"], "Usage of stringer"),
    ("mvdan.cc/sh/v3/cmd/shfmt", &["--version"], "v3."),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Brings the modules here, where the module proxy can be reached.
fn modules(sandbox: &Sandbox) -> Need<PathBuf> {
    let folder = fixture("public");
    let mut download = Command::new(go()?);
    download.args(["mod", "download"]).current_dir(&folder);
    download.env_clear().envs(sandbox.environment());
    let output = download.output().expect("go was found");
    if output.status.success() {
        return Ok(folder);
    }
    Err(Missing::because(format!("go mod download: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Builds every program into one archive, and gives its path.
fn archive(sandbox: &Sandbox) -> Need<PathBuf> {
    let folder = modules(sandbox)?;
    let archive = sandbox.path("all.tar");
    let output = format!("docker-archive:{}", archive.display());
    let mut build = sandbox.command(&["build", "-t", "example.com/public/{name}:t", "-o", &output]);
    build.args(PROGRAMS.map(|(import_path, _, _)| import_path)).current_dir(folder);
    let ran = support::Run::of(&mut build).success();
    assert_eq!(ran.stdout.lines().count(), PROGRAMS.len());
    Ok(archive)
}

fn image(import_path: &str) -> String {
    format!("example.com/public/{}:t", import_path.rsplit('/').next().expect("not empty"))
}

#[test]
fn docker_loads_and_starts_public_programs() {
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    docker.load(&need!(archive(&sandbox)));
    for (import_path, arguments, says) in PROGRAMS {
        let image = image(import_path);
        let mut all = vec!["run", "--rm", "--network=none", &image];
        all.extend(arguments);
        let ran = docker.command(&all).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(says), "{import_path}: {said}");
    }
}

#[test]
fn a_vendored_program_builds_without_the_network() {
    need!(go());
    let mut sandbox = Sandbox::new();
    sandbox.set("GOPROXY", "off").set("GOFLAGS", "");
    let folder = fixture("vendored");
    let mut build = sandbox.command(&["build", "-t", "vendored", "."]);
    let output = format!("docker-archive:{}", sandbox.path("vendored.tar").display());
    build.args(["-o", &output]).current_dir(folder);
    support::Run::of(&mut build).success();
    let podman = need!(Podman::start());
    podman.load(&sandbox.path("vendored.tar"));
    assert!(!podman.run("docker.io/library/vendored:latest", &[]).is_empty());
}
