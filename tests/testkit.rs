//! The test kit itself: its servers do for a well-known client what tests rely on.

#![cfg(test)]

mod support;

use std::path::Path;
use std::process::Command;

use support::{
    Auth, BaseImage, Containerd, Docker, FaultServer, Mount, Need, PASSWORD, Podman, Quirks,
    Registry, RegistryAuth, RegistryOptions, Sandbox, Stored, TokenAuth, USER, need, program,
};

/// Copies with skopeo, which verifies digests; returns what it said on failure.
fn skopeo_copy(options: &[&str], from: &str, to: &str) -> Need<Result<(), String>> {
    let mut command = Command::new(program("skopeo")?);
    command.args(["copy", "--all", "--quiet"]).args(options).args([from, to]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

fn layout(folder: &Path) -> String {
    format!("oci:{}:latest", folder.display())
}

/// Copies a base to a registry and back, and compares.
fn round_trip(image: &str, push: &[&str], pull: &[&str]) -> Need<()> {
    let sandbox = Sandbox::new();
    let (there, back) = (sandbox.path("there"), sandbox.path("back"));
    let digest = BaseImage::for_platforms(&["linux/amd64", "linux/arm/v7"]).write(&there);
    let image = format!("docker://{image}");
    skopeo_copy(push, &layout(&there), &image)?.unwrap();
    skopeo_copy(pull, &image, &layout(&back))?.unwrap();
    let read = Stored::folder(&back);
    assert_eq!(read.named(Some("latest"))["digest"], digest.as_str());
    let platforms: Vec<_> = read.images(None).iter().map(support::ReadImage::platform).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm/v7"]);
    Ok(())
}

#[test]
fn a_plain_registry_keeps_what_is_pushed_and_logs_it() {
    let registry = need!(Registry::plain());
    let (push, pull) = (["--dest-tls-verify=false"], ["--src-tls-verify=false"]);
    need!(round_trip(&registry.image("team/base:v1"), &push, &pull));
    assert_eq!(registry.tags("team/base"), ["v1"]);
    assert_eq!(registry.uploads(), 4);
    assert_eq!(registry.count("PUT", "/manifests/v1", &[201]), 1);
    let sandbox = Sandbox::new();
    let digest = need!(BaseImage::default().push(&sandbox.path("x"), &registry.image("x:y")));
    assert!(registry.blob_file(&digest).is_file());
}

#[test]
fn a_protected_registry_wants_the_user_for_a_push() {
    for auth in [RegistryAuth::Htpasswd, RegistryAuth::Token] {
        let registry =
            need!(Registry::start(RegistryOptions { auth, ..RegistryOptions::default() }));
        let user = format!("{USER}:{PASSWORD}");
        let push = ["--dest-tls-verify=false", "--dest-creds", &user];
        let pull = ["--src-tls-verify=false", "--src-creds", &user];
        need!(round_trip(&registry.image("base"), &push, &pull));
        let sandbox = Sandbox::new();
        BaseImage::default().write(&sandbox.path("base"));
        let target = format!("docker://{}", registry.image("base"));
        let from = layout(&sandbox.path("base"));
        let refused = need!(skopeo_copy(&["--dest-tls-verify=false"], &from, &target));
        assert!(refused.unwrap_err().contains("authentication required"), "{auth:?}");
    }
}

#[test]
fn a_tls_registry_is_trusted_through_its_authority_alone() {
    let tls = RegistryOptions { tls: true, relative_urls: true, ..RegistryOptions::default() };
    let registry = need!(Registry::start(tls));
    let sandbox = Sandbox::new();
    let authority = sandbox.write("certs/ca.crt", fs_err::read(registry.authority()).unwrap());
    let folder = authority.parent().unwrap().to_str().unwrap();
    let (push, pull) = (["--dest-cert-dir", folder], ["--src-cert-dir", folder]);
    need!(round_trip(&registry.image("base"), &push, &pull));
    assert_eq!(registry.uploads(), 4);
    let target = format!("docker://{}", registry.image("base"));
    let refused = need!(skopeo_copy(&[], &target, &layout(&sandbox.path("x"))));
    assert!(refused.unwrap_err().contains("certificate"));
}

#[test]
fn a_scripted_registry_without_faults_serves_a_real_client() {
    let user = format!("{USER}:{PASSWORD}");
    let push = ["--dest-tls-verify=false", "--dest-creds", &user];
    let pull = ["--src-tls-verify=false", "--src-creds", &user];
    let relative = support::Location::Path;
    for quirks in [
        Quirks::default(),
        Quirks { location: relative, mount: Mount::Upload, ..Quirks::default() },
        Quirks { auth: Auth::Basic, ..Quirks::default() },
        Quirks { auth: Auth::Token(TokenAuth::default()), ..Quirks::default() },
    ] {
        let server = FaultServer::start(quirks.clone());
        need!(round_trip(&server.image("team/base:v1"), &push, &pull));
        assert_eq!(server.tags("team/base"), ["v1"], "{quirks:?}");
    }
}

#[test]
fn engines_start_apart_from_the_machines_own_and_load_archives() {
    let sandbox = Sandbox::new();
    BaseImage::default().write(&sandbox.path("base"));
    let archive = sandbox.path("base.tar");
    let target = format!("docker-archive:{}:example.com/base:v1", archive.display());
    need!(skopeo_copy(&[], &layout(&sandbox.path("base")), &target)).unwrap();
    let docker = need!(Docker::start());
    assert!(docker.load(&archive).contains("example.com/base:v1"));
    let podman = need!(Podman::start());
    assert!(podman.load(&archive).contains("example.com/base:v1"));
    let containerd = need!(Containerd::start());
    let oci = format!("oci-archive:{}:v1", sandbox.path("oci.tar").display());
    need!(skopeo_copy(&[], &layout(&sandbox.path("base")), &oci)).unwrap();
    let oci = sandbox.path("oci.tar");
    containerd.ctr(&["images", "import", "--base-name", "example.com/base", oci.to_str().unwrap()]);
    assert!(containerd.ctr(&["images", "list", "--quiet"]).contains("example.com/base:v1"));
}
