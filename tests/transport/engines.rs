//! Engines load what we export, from files and through pipes.

use std::path::Path;

use fs_err as fs;
use gondola::image::Artifact;

use super::bench::{Bench, image, index, named};
use super::support::{Containerd, Docker, Podman, Sandbox, install_script, need};

/// An archive of two images, one of them for two platforms, with four names.
fn archive(bench: &Bench) -> std::path::PathBuf {
    let images = [
        named(
            Artifact::Image(image("linux/amd64", "x")),
            &["one:v1", "one:v2", "ghcr.io/a/one:v1"],
        ),
        named(index(), &["ghcr.io/a/two"]),
    ];
    bench.write("docker-archive:images.tar", &images).unwrap();
    bench.path("images.tar")
}

const NAMES: [&str; 4] = [
    "docker.io/library/one:v1",
    "docker.io/library/one:v2",
    "ghcr.io/a/one:v1",
    "ghcr.io/a/two:latest",
];

/// The configs that identify the two images.
fn ids() -> [String; 2] {
    let index = index();
    let of_host = index.images()[0].config.digest().hex().to_owned();
    [image("linux/amd64", "x").config.digest().hex().to_owned(), of_host]
}

#[test]
fn docker_loads_all_names_of_all_images() {
    let docker = need!(Docker::start());
    let bench = Bench::new();
    docker.load(&archive(&bench));
    let [one, two] = ids();
    for (name, id) in NAMES.iter().zip([&one, &one, &one, &two]) {
        let found = docker.docker(&["image", "inspect", "--format", "{{.Id}}", name]);
        assert_eq!(found.trim(), format!("sha256:{id}"), "{name}");
    }
}

#[test]
fn podman_loads_all_names_of_all_images() {
    let podman = need!(Podman::start());
    let bench = Bench::new();
    podman.load(&archive(&bench));
    let [one, two] = ids();
    for (name, id) in NAMES.iter().zip([&one, &one, &one, &two]) {
        let found = podman.podman(&["image", "inspect", "--format", "{{.Id}}", name]);
        assert_eq!(found.trim(), id.as_str(), "{name}");
    }
}

#[test]
fn containerd_imports_all_names_of_all_platforms() {
    let containerd = need!(Containerd::start());
    let bench = Bench::new();
    let file = archive(&bench);
    let import = ["images", "import", "--all-platforms", "--no-unpack", file.to_str().unwrap()];
    // Not every version can leave the unpacking out.
    let unpacking = ["images", "import", "--all-platforms", file.to_str().unwrap()];
    let help = containerd.ctr(&["images", "import", "--help"]);
    containerd.ctr(if help.contains("no-unpack") { &import } else { &unpacking });
    let listed = containerd.ctr(&["images", "list"]);
    for name in NAMES {
        let line = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{listed}"));
        let expect = if name.contains("two") {
            index().digest().clone()
        } else {
            image("linux/amd64", "x").manifest.digest().clone()
        };
        assert!(line.contains(expect.as_str()), "{line}");
    }
    let checked = containerd.ctr(&["images", "check"]);
    assert_eq!(checked.matches("complete").count(), NAMES.len(), "{checked}");
}

/// A sandbox whose layout `images` holds one image and one index.
fn sandbox() -> Sandbox {
    let (sandbox, bench) = (Sandbox::new(), Bench::new());
    bench.write("oci:layout:v1", &[named(index(), &[])]).unwrap();
    fs::rename(bench.path("layout"), sandbox.path("layout")).unwrap();
    sandbox
}

/// A folder for PATH with a script called `name`.
fn script(sandbox: &Sandbox, name: &str, text: &str) -> String {
    install_script(&format!("#!/bin/sh\n{text}\n"), sandbox.path("bin").join(name));
    format!("{}:/usr/bin:/bin", sandbox.path("bin").display())
}

#[test]
fn docker_is_fed_through_a_pipe() {
    let docker = need!(Docker::start());
    let mut sandbox = sandbox();
    sandbox.set("DOCKER_HOST", &docker.host());
    let ran = sandbox.gondola(&["copy", "oci:layout:v1", "docker:piped:v3"]).success();
    assert!(ran.stderr.contains("Loaded image: piped:v3"), "{}", ran.stderr);
    let found = docker.docker(&["image", "inspect", "--format", "{{.Id}}", "piped:v3"]);
    assert_eq!(found.trim(), format!("sha256:{}", ids()[1]));
}

#[test]
fn podman_is_fed_through_a_pipe() {
    let podman = need!(Podman::start());
    let mut sandbox = sandbox();
    let command = podman.command(&[]);
    let options: Vec<_> = command.get_args().map(|a| a.to_str().unwrap()).collect();
    let real = Path::new(command.get_program()).display().to_string();
    let path = script(&sandbox, "podman", &format!("exec {real} {} \"$@\"", options.join(" ")));
    sandbox.set("PATH", &format!("{path}:/usr/sbin:/sbin"));
    sandbox.gondola(&["copy", "oci:layout:v1", "podman:localhost/piped:v3"]).success();
    let found = podman.podman(&["image", "inspect", "--format", "{{.Id}}", "localhost/piped:v3"]);
    assert_eq!(found.trim(), ids()[1]);
}

#[test]
fn an_engine_that_fails_is_quoted() {
    for (text, says) in [
        (
            "cat >/dev/null; echo 'no space left' >&2; exit 3",
            &["load the image into docker", "no space left"][..],
        ),
        // One that ends before it has read everything.
        (
            "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
            &["Cannot connect to the Docker daemon"],
        ),
        ("exit 4", &["load the image into docker", "exit status: 4"]),
    ] {
        let mut sandbox = sandbox();
        let path = script(&sandbox, "docker", text);
        sandbox.set("PATH", &path);
        let ran = sandbox.gondola(&["copy", "oci:layout:v1", "docker:x"]).code(1);
        for text in says {
            assert!(ran.stderr.contains(text), "{}", ran.stderr);
        }
    }
}

#[test]
fn an_engine_that_is_not_there_is_said_to_be_missing() {
    let mut sandbox = sandbox();
    let path = sandbox.path("empty").display().to_string();
    sandbox.set("PATH", &path);
    for engine in ["docker", "podman"] {
        let ran = sandbox.gondola(&["copy", "oci:layout:v1", &format!("{engine}:x")]).code(1);
        let text = format!("there is no program {engine} on PATH; hint: install {engine}");
        assert!(ran.stderr.contains(&text), "{}", ran.stderr);
    }
}
