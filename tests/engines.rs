//! What is exported loads and runs in the engines that people have, and what they export is read.

#![cfg(test)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use serde_json::Value;
use support::{
    BaseImage, Containerd, Docker, Podman, Registry, Sandbox, Stored, go, need, program, run,
};

/// Tells whatever an image gives a program: who it is, where it may write, whom it trusts.
const TELLS_ALL: &str = r#"package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/user"
	"time"
)

func main() {
	who, err := user.Current()
	fmt.Println("user", who.Username, who.Uid, who.Gid, who.HomeDir, err)
	file, err := os.CreateTemp("", "")
	fmt.Println("temporary file", file != nil, err)
	place, err := time.LoadLocation("Europe/Berlin")
	fmt.Println("time zone", place, err)
	roots, err := x509.SystemCertPool()
	fmt.Println("authorities", len(roots.Subjects()) > 100, err)
	fmt.Println("PATH", os.Getenv("PATH") != "")
}
"#;

/// What that program prints on the built-in base.
const TOLD: &str = "user nonroot 65532 65532 /home/nonroot <nil>\ntemporary file true <nil>\n\
    time zone Europe/Berlin <nil>\nauthorities true <nil>\nPATH true\n";

/// Builds two programs for two platforms into one docker archive: `hello` with two names, and
/// `tells-all`.
fn archive(sandbox: &Sandbox) -> PathBuf {
    sandbox.write("go.mod", "module example.com/both\n\ngo 1.21\n");
    sandbox.write("tells-all/main.go", TELLS_ALL);
    let hello = "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() { \
        fmt.Println(\"hello\", os.Args[1:]) }\n";
    sandbox.write("hello/main.go", hello);
    let names = ["-t", "example.com/both/{name}:v1", "-t", "example.com/both/{name}:latest"];
    let arguments = ["-o", "docker-archive:both.tar", "--platform", "linux/amd64,linux/arm64"];
    sandbox.gondola(&[["build"].as_slice(), &names, &arguments, &["./..."]].concat()).success();
    sandbox.path("both.tar")
}

/// The machine's own platform is what an engine runs.
fn runs_here() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
}

#[test]
fn docker_loads_an_archive_of_several_images_and_runs_them() {
    need!(go());
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    assert!(runs_here(), "the archive holds no platform of this machine");
    docker.load(&archive(&sandbox));
    for tag in ["v1", "latest"] {
        let image = format!("example.com/both/hello:{tag}");
        assert_eq!(docker.run(&image, &["a", "b c"]), "hello [a b c]\n");
    }
    assert_eq!(docker.run("example.com/both/tells-all", &[]), TOLD);
    // As careful as clusters are.
    let strict = ["--user=12345", "--cap-drop=ALL", "--security-opt=no-new-privileges"];
    let run = ["run", "--rm", "--network=none", "--read-only"];
    let image = ["example.com/both/hello", "strictly"];
    assert_eq!(docker.docker(&[run.as_slice(), &strict, &image].concat()), "hello [strictly]\n");
}

#[test]
fn podman_loads_the_same_archive_and_runs_it() {
    need!(go());
    let podman = need!(Podman::start());
    let sandbox = Sandbox::new();
    podman.load(&archive(&sandbox));
    assert_eq!(podman.run("example.com/both/hello:v1", &["x"]), "hello [x]\n");
    assert_eq!(podman.run("example.com/both/tells-all:latest", &[]), TOLD);
}

#[test]
fn containerd_imports_the_same_archive_with_all_its_platforms() {
    need!(go());
    let containerd = need!(Containerd::start());
    let sandbox = Sandbox::new();
    let archive = archive(&sandbox);
    containerd.ctr(&["images", "import", "--all-platforms", archive.to_str().unwrap()]);
    let listed = containerd.ctr(&["images", "list", "--quiet"]);
    let mut names: Vec<_> = listed.lines().collect();
    names.sort_unstable();
    let (hello, tells) = ("example.com/both/hello", "example.com/both/tells-all");
    let expected = [hello, tells].map(|image| [format!("{image}:latest"), format!("{image}:v1")]);
    assert_eq!(names, expected.concat());
    containerd.ctr(&["images", "check"]);
    let mounted = sandbox.path("mounted");
    fs::create_dir(&mounted).unwrap();
    let mount = mounted.to_str().unwrap();
    let image = format!("{hello}:v1");
    containerd.ctr(&["images", "mount", &image, mount]);
    let said = Command::new(mounted.join("usr/local/bin/hello")).arg("out").output();
    containerd.ctr(&["images", "unmount", mount]);
    assert_eq!(String::from_utf8_lossy(&said.unwrap().stdout), "hello [out]\n");
}

#[test]
fn an_image_goes_straight_into_docker_and_podman() {
    need!(go());
    let docker = need!(Docker::start());
    let podman = need!(Podman::start());
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let programs = sandbox.path("programs");
    // The podman that gondola starts is the one with folders of its own.
    let real = need!(program("podman"));
    let script =
        format!("#!/bin/sh\nexec {} {} \"$@\"\n", real.display(), podman.options().join(" "));
    support::install_script(&script, programs.join("podman"));
    let path = format!("{}:{}", programs.display(), sandbox.environment()["PATH"]);
    sandbox.set("PATH", &path).set("DOCKER_HOST", &docker.host());
    let build = ["build", "-t", "example.com/straight:v1", "-o", "docker:", "-o", "podman:"];
    sandbox.gondola(&[build.as_slice(), &["./hello"]].concat()).success();
    assert_eq!(docker.run("example.com/straight:v1", &["there"]), "hi [there]\n");
    assert_eq!(podman.run("example.com/straight:v1", &["there"]), "hi [there]\n");
}

#[test]
fn an_engine_that_does_not_answer_is_an_error_with_its_own_words() {
    need!(go());
    need!(program("docker"));
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let socket = sandbox.path("no.sock");
    sandbox.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    let ran = sandbox.gondola(&["build", "-t", "x", "-o", "docker:", "./hello"]).code(1);
    ran.says("cannot ").says("no.sock");
}

#[test]
fn a_base_image_keeps_its_user_and_environment_in_an_engine() {
    need!(go());
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    BaseImage::default().write(&sandbox.path("base"));
    sandbox.go_module("hello", "hi");
    let build = ["build", "--base", "oci:base:latest", "-t", "example.com/on-base"];
    let output = ["-o", "docker-archive:out.tar", "./hello"];
    sandbox.gondola(&[build.as_slice(), &output].concat()).success();
    docker.load(&sandbox.path("out.tar"));
    let image: Value =
        serde_json::from_str(&docker.docker(&["image", "inspect", "example.com/on-base"])).unwrap();
    let config = &image[0]["Config"];
    assert_eq!(config["User"], "app");
    assert!(config["Env"].to_string().contains("FROM_BASE=yes"), "{config}");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["NONE"]));
    assert_eq!(docker.run("example.com/on-base", &[]), "hi []\n");
}

#[test]
fn what_docker_pushes_and_saves_is_read() {
    need!(go());
    let docker = need!(Docker::start());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let build = ["build", "-t", "example.com/hello:v1", "-o", "docker-archive:in.tar", "./hello"];
    sandbox.gondola(&build).success();
    docker.load(&sandbox.path("in.tar"));
    let pushed = registry.image("hello:v1");
    docker.docker(&["tag", "example.com/hello:v1", &pushed]);
    docker.docker(&["push", "--quiet", &pushed]);
    let saved = sandbox.path("saved.tar");
    docker.docker(&["save", "--output", saved.to_str().unwrap(), "example.com/hello:v1"]);
    for (source, to) in [(pushed.as_str(), "pulled"), ("docker-archive:saved.tar", "saved")] {
        sandbox.gondola(&["copy", source, &format!("oci:{to}:v1")]).success();
        let image = Stored::folder(&sandbox.path(to)).image(Some("v1"));
        assert_eq!(image.entry("usr/local/bin/hello").unwrap().mode, 0o755, "{source}");
        assert_eq!(image.config["config"]["User"], "65532:65532", "{source}");
    }
}

#[test]
fn what_podman_saves_is_read() {
    need!(go());
    let podman = need!(Podman::start());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let build = ["build", "-t", "example.com/hello:v1", "-o", "oci-archive:in.tar", "./hello"];
    sandbox.gondola(&build).success();
    podman.load(&sandbox.path("in.tar"));
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("{format}.tar");
        let saved = sandbox.path(&file);
        let save = ["save", "--quiet", "--format", format, "--output", saved.to_str().unwrap()];
        podman.podman(&[save.as_slice(), &["example.com/hello:v1"]].concat());
        sandbox
            .gondola(&["copy", &format!("{format}:{file}"), &format!("oci:{format}:v1")])
            .success();
        let image = Stored::folder(&sandbox.path(format)).image(Some("v1"));
        assert_eq!(image.entry("usr/local/bin/hello").unwrap().mode, 0o755, "{format}");
    }
}

#[test]
fn umoci_unpacks_a_layout_into_a_root_folder_that_works() {
    need!(go());
    let umoci = need!(program("umoci"));
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    for compression in ["gzip:1", "gzip:9", "none"] {
        let name = compression.replace(':', "-");
        let build = ["build", "--compression", compression, "-o", &format!("oci:{name}:v1")];
        sandbox.gondola(&[build.as_slice(), &["./hello"]].concat()).success();
        let layout = format!("{}:v1", sandbox.path(&name).display());
        let bundle = sandbox.path(&format!("{name}.bundle"));
        let rootless =
            if rustix::process::geteuid().is_root() { vec![] } else { vec!["--rootless"] };
        let unpack = ["unpack", "--image", &layout, bundle.to_str().unwrap()];
        run(&umoci, &[&unpack[..1], &rootless, &unpack[1..]].concat());
        let hello = bundle.join("rootfs/usr/local/bin/hello");
        assert_eq!(run(&hello, &["x"]), "hi [x]\n", "{compression}");
        let tmp = fs::metadata(bundle.join("rootfs/tmp")).unwrap();
        assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777, "{compression}");
    }
}

/// Copies with skopeo into a folder, which verifies every digest.
fn skopeo_reads(skopeo: &Path, sandbox: &Sandbox, source: &str) -> Value {
    let target = sandbox.path(&format!("read/{}", source.replace(['/', ':'], "_")));
    fs::create_dir_all(&target).unwrap();
    let to = format!("dir:{}", target.display());
    run(skopeo, &["copy", "--quiet", "--all", source, &to]);
    serde_json::from_slice(&fs::read(target.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn skopeo_reads_layouts_and_archives_with_every_compression() {
    need!(go());
    let skopeo = need!(program("skopeo"));
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    for compression in ["gzip:1", "zstd:3", "none"] {
        let name = compression.replace(':', "-");
        let build = ["build", "--compression", compression, "--platform=linux/amd64,linux/arm/v7"];
        let outputs = [format!("oci:{name}:v1"), format!("oci-archive:{name}.tar:v1")];
        let outputs: Vec<_> = outputs.iter().flat_map(|output| ["-o", output]).collect();
        sandbox.gondola(&[build.as_slice(), &outputs, &["./hello"]].concat()).success();
        let layout = format!("oci:{}:v1", sandbox.path(&name).display());
        let archive = format!("oci-archive:{}.tar:v1", sandbox.path(&name).display());
        let index = skopeo_reads(&skopeo, &sandbox, &layout);
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{compression}");
        assert_eq!(skopeo_reads(&skopeo, &sandbox, &archive), index, "{compression}");
    }
}
