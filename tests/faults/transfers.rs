//! Images on their way from one place to another.

use std::process::Command;

use super::support::{BaseImage, Registry, Sandbox, Stored, go, need, program, run, succeed};
use serde_json::Value;

/// What a registry has of a name: the manifest.
fn manifest(sandbox: &Sandbox, name: &str) -> Value {
    let _ = fs_err::remove_dir_all(sandbox.path("seen"));
    sandbox.gondola(&["copy", name, "oci:seen:t"]).success();
    Stored::folder(&sandbox.path("seen")).image(Some("t")).manifest
}

fn types(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn plain_layers_of_an_archive_go_to_a_registry_compressed() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let plain = ["build", "--compression", "none", "-t", "app", "./hello"];
    sandbox.gondola(&[&plain[..], &["-o", "docker-archive:app.tar"]].concat()).success();
    let size = |manifest: &Value| {
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["size"].as_u64().unwrap()).sum::<u64>()
    };
    let mut sizes = Vec::new();
    for (flag, ends) in
        [(None, "gzip"), (Some("zstd:3"), "zstd"), (Some("gzip:9"), "gzip"), (Some("none"), "tar")]
    {
        let name = registry.image("team/app:v1");
        let mut words = vec!["copy", "docker-archive:app.tar", &name];
        words.extend(flag.iter().flat_map(|how| ["--compression", how]));
        let ran = sandbox.gondola(&words);
        let is_docker = ran.stderr.contains("Docker's types");
        if is_docker {
            continue;
        }
        let digest = ran.success().line().to_owned();
        let found = manifest(&sandbox, &name);
        assert!(types(&found).iter().all(|kind| kind.ends_with(ends)), "{flag:?}: {found}");
        assert!(!digest.is_empty());
        sizes.push(size(&found));
    }
    assert!(sizes[0] < sizes[sizes.len() - 1] / 2 + 1, "{sizes:?}");
    // Between other places nothing changes.
    sandbox.gondola(&[&plain[..], &["-o", "oci:lay:t"]].concat()).success();
    let name = registry.image("team/same:v1");
    let copied = sandbox.gondola(&["copy", "oci:lay:t", &name]).success().line().to_owned();
    let stored = sandbox.gondola(&["copy", &name, "oci:back:t"]).success().line().to_owned();
    assert_eq!(copied, stored);
    assert!(types(&manifest(&sandbox, &name)).iter().all(|kind| kind.ends_with("tar")));
}

#[test]
fn a_push_compresses_on_demand_and_prints_the_digest_that_it_pushed() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let name = registry.image("team/app:v1");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let build = ["build", "--compression", "none", "-t", &name, "./hello"];
    sandbox.gondola(&[&build[..], &platforms].concat()).success();
    let plain = sandbox.gondola(&["push", &name]).success().line().to_owned();
    let pushed = sandbox.gondola(&["push", "--compression", "zstd", &name]).success();
    assert_ne!(pushed.line(), plain);
    let pinned = format!(
        "{}@{}",
        name.rsplit_once(':').unwrap().0,
        pushed.line().split_once('@').unwrap().1
    );
    let platform = ["copy", "--platform", "linux/arm64", &pinned, "oci:arm:t"];
    sandbox.gondola(&platform).success();
    let image = Stored::folder(&sandbox.path("arm")).image(Some("t"));
    assert!(types(&image.manifest).iter().all(|kind| kind.ends_with("zstd")), "{}", image.manifest);
    assert!(image.entry("usr/local/bin/hello").is_some());
    sandbox.gondola(&["push", "--compression", "lz4", &name]).code(2);
}

#[test]
fn archives_that_are_compressed_in_another_way_are_told() {
    let sandbox = Sandbox::new();
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    sandbox.gondola(&["build", "-o", "docker-archive:a.tar", "-t", "app", "ctx"]).success();
    for (name, ending) in [("xz", "xz"), ("bzip2", "bz2")] {
        run(need!(program(name)), &["-k", sandbox.path("a.tar").to_str().unwrap()]);
        let file = format!("a.tar.{ending}");
        for kind in ["docker-archive", "oci-archive"] {
            let said =
                sandbox.gondola(&["copy", &format!("{kind}:{file}"), "oci:no"]).code(1).stderr;
            assert!(said.contains(&format!("it is compressed with {name}")), "{said}");
            assert!(said.contains(&format!("{name} -d FILE")), "{said}");
        }
        let mut piped = sandbox.command(&["copy", "docker-archive:-", "oci:no"]);
        piped.stdin(fs_err::File::open(sandbox.path(&file)).unwrap().into_file());
        let said = super::support::Run::of(&mut piped).code(1).stderr;
        assert!(said.contains(&format!("it is compressed with {name}")), "{said}");
    }
}

#[test]
fn an_image_of_dockers_types_in_a_layout_is_told() {
    let sandbox = Sandbox::new();
    let skopeo = need!(program("skopeo"));
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    sandbox.gondola(&["build", "-o", "oci:in:t", "ctx"]).success();
    let mut convert = Command::new(skopeo);
    convert.args(["copy", "--quiet", "--format", "v2s2"]);
    let folders = [
        format!("oci:{}:t", sandbox.path("in").display()),
        format!("docker-archive:{}", sandbox.path("d.tar").display()),
    ];
    convert.args(&folders);
    succeed(&mut convert);
    let ran = sandbox.gondola(&["copy", "docker-archive:d.tar", "oci:out:t"]).success();
    let image = Stored::folder(&sandbox.path("out")).image(Some("t"));
    let is_docker = image.manifest["mediaType"].as_str().unwrap().contains("docker");
    assert_eq!(ran.stderr.contains("Docker's types"), is_docker, "{}", ran.stderr);
}

#[test]
fn all_platforms_of_a_base_are_those_that_images_are_made_for() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let base = registry.image("base:v1");
    need!(BaseImage::default().push(&sandbox.path("base"), &base));
    // The same index with an entry for Windows.
    let _ = fs_err::remove_dir_all(sandbox.path("lay"));
    sandbox.gondola(&["copy", &base, "oci:lay:t"]).success();
    let place = sandbox.path("lay/index.json");
    let mut index: Value = serde_json::from_slice(&fs_err::read(&place).unwrap()).unwrap();
    let blob = |digest: &Value| {
        sandbox.path(&format!("lay/blobs/{}", digest.as_str().unwrap().replace(':', "/")))
    };
    let put = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = gondola::oci::Digest::of(&bytes).to_string();
        fs_err::write(sandbox.path(&format!("lay/blobs/{}", digest.replace(':', "/"))), &bytes)
            .unwrap();
        (digest, bytes.len())
    };
    let root = index["manifests"][0].clone();
    let read = |digest: &Value| -> Value {
        serde_json::from_slice(&fs_err::read(blob(digest)).unwrap()).unwrap()
    };
    let mut document = read(&root["digest"]);
    let linux = if document["manifests"].is_array() {
        read(&document["manifests"][0]["digest"])
    } else {
        document.clone()
    };
    let mut config = read(&linux["config"]["digest"]);
    config["os"] = "windows".into();
    config["architecture"] = "amd64".into();
    let (digest, size) = put(&config);
    let mut windows = linux.clone();
    windows["config"]["digest"] = digest.into();
    windows["config"]["size"] = size.into();
    let (digest, size) = put(&windows);
    let entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest, "size": size, "platform": {"os": "windows", "architecture": "amd64"}});
    if document["manifests"].is_array() {
        document["manifests"].as_array_mut().unwrap().push(entry);
    } else {
        let first = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": root["digest"], "size": root["size"], "platform": {"os": "linux", "architecture": "amd64"}});
        document = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [first, entry]});
    }
    let (digest, size) = put(&document);
    index["manifests"][0] = serde_json::json!({"mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest, "size": size, "annotations": {"org.opencontainers.image.ref.name": "t"}});
    fs_err::write(&place, serde_json::to_vec(&index).unwrap()).unwrap();
    let words = ["build", "--base", "oci:lay:t", "--platform", "all", "-o", "oci:out:t", "./hello"];
    let ran = sandbox.gondola(&words).success();
    assert!(ran.stderr.contains("nothing is built for windows/amd64"), "{}", ran.stderr);
}
