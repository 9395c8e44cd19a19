//! Archives that other tools write.

use std::io::{Read, Write};

use fs_err as fs;
use gondola::image::{Artifact, Image};
use gondola::layer::{Encoding, decompress};
use gondola::oci::{Digest, MediaType};
use gondola::registry::BlobSource;
use serde_json::{Value, json};

use super::bench::{Bench, GZIP, assert_says, image_with, verified};

/// An archive in the making, member by member.
pub struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn file(mut self, name: &str, bytes: &[u8]) -> Self {
        let mut header = header(tar::EntryType::Regular, bytes.len() as u64);
        self.0.append_data(&mut header, name, bytes).unwrap();
        self
    }

    pub fn json(self, name: &str, value: &Value) -> Self {
        self.file(name, value.to_string().as_bytes())
    }

    pub fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        self.0.append_link(&mut header(kind, 0), name, target).unwrap();
        self
    }

    /// A member whose header says whatever a hostile one may.
    pub fn raw(mut self, name: &[u8], kind: tar::EntryType, size: u64, bytes: &[u8]) -> Self {
        let mut header = header(kind, size);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

/// The parts of an image as docker keeps them: the config, and plain layers.
struct Parts {
    image: Image,
    config: String,
    layers: Vec<(String, Vec<u8>)>,
}

fn parts(content: &str) -> Parts {
    let image = image_with("linux/amd64", content, GZIP);
    let plain = image.layers.iter().map(|layer| {
        let compression = layer.descriptor.media_type.layer_compression().unwrap();
        let mut bytes = Vec::new();
        decompress(compression, layer.open().unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
        (Digest::of(&bytes).hex().to_owned(), bytes)
    });
    let layers = plain.collect();
    let config = image.config.digest().hex().to_owned();
    Parts { image, config, layers }
}

/// As docker 20.10 saves two images that share a layer: the second has a link to the first's.
fn docker_save() -> (Vec<u8>, Parts, Parts) {
    let (one, two) = (parts("one"), parts("two"));
    let folder = |parts: &Parts, n: usize| format!("{}{n}", &parts.config[..12]);
    let member = |parts: &Parts, n: usize| format!("{}/layer.tar", folder(parts, n));
    let item = |parts: &Parts, tags: Value| {
        json!({"Config": format!("{}.json", parts.config), "RepoTags": tags,
            "Layers": [member(parts, 0), member(parts, 1)]})
    };
    let manifest =
        json!([item(&one, json!(["one:v1", "ghcr.io/a/one:v1"])), item(&two, Value::Null)]);
    let archive = Archive::new()
        .file(&format!("{}/VERSION", folder(&one, 0)), b"1.0")
        .file(&member(&one, 0), &one.layers[0].1)
        .file(&member(&one, 1), &one.layers[1].1)
        .file(&format!("{}.json", one.config), one.image.config.bytes())
        .file(&member(&two, 0), &two.layers[0].1)
        .link(tar::EntryType::Symlink, &member(&two, 1), &format!("../{}", member(&one, 1)))
        .file(&format!("{}.json", two.config), two.image.config.bytes())
        .json("manifest.json", &manifest)
        .json("repositories", &json!({"one": {"v1": "x"}}));
    (archive.bytes(), one, two)
}

/// Checks that an image has the config and the plain layers of `parts`.
#[track_caller]
fn assert_made_of(artifact: &Artifact, parts: &Parts) {
    let image = artifact.as_image().unwrap();
    assert_eq!(image.config.bytes(), parts.image.config.bytes());
    let digests: Vec<&str> = image.layers.iter().map(|l| l.descriptor.digest.hex()).collect();
    let expect: Vec<&str> = parts.layers.iter().map(|(hex, _)| hex.as_str()).collect();
    assert_eq!(digests, expect);
    assert!(image.layers.iter().all(|l| l.descriptor.media_type == MediaType::OCI_LAYER));
    assert_eq!(image.manifest.media_type(), &MediaType::OCI_MANIFEST);
    assert_eq!(verified(artifact).len(), 3);
}

#[test]
fn what_docker_saves_is_read_by_name() {
    let bench = Bench::new();
    let (bytes, one, two) = docker_save();
    fs::write(bench.path("a.tar"), bytes).unwrap();
    for name in ["one:v1", "ghcr.io/a/one:v1"] {
        let found = bench.read(&format!("docker-archive:a.tar:{name}"), "linux/amd64").unwrap();
        assert_made_of(&found, &one);
    }
    assert_made_of(&bench.read("oci-archive:a.tar:v1", "all").unwrap(), &one);
    let all = bench.read_all("docker-archive:a.tar").unwrap();
    assert_eq!(all[0].references.len(), 2);
    assert!(all[1].references.is_empty());
    assert_made_of(&all[1].artifact, &two);
    let several = bench.read("docker-archive:a.tar", "all");
    assert_says(several, &["several images: one:v1, ghcr.io/a/one:v1", "hint: write"]);
    let absent = bench.read("docker-archive:a.tar:three", "all");
    assert_says(absent, &["find docker.io/library/three:latest", "holds one:v1"]);
}

#[test]
fn compressed_archives_are_unpacked_into_the_store() {
    let (bytes, one, two) = docker_save();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
    for compressed in [gzip.finish().unwrap(), zstd] {
        let bench = Bench::new();
        fs::write(bench.path("a.tar"), compressed).unwrap();
        let all = bench.read_all("docker-archive:a.tar").unwrap();
        assert_made_of(&all[0].artifact, &one);
        assert_made_of(&all[1].artifact, &two);
        fs::remove_file(bench.path("a.tar")).unwrap();
        // What was unpacked is in the store, so the archive is needed no more.
        bench.write("store:", &all[..1]).unwrap();
        assert_made_of(&bench.read("store:one:v1", "all").unwrap(), &one);
    }
}

/// What podman, skopeo, crane, ko, kaniko and bazel call the members.
#[test]
fn every_tool_may_call_members_as_it_likes() {
    let parts = parts("x");
    let gzip: Vec<Vec<u8>> = parts
        .image
        .layers
        .iter()
        .map(|layer| {
            let mut bytes = Vec::new();
            layer.open().unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        })
        .collect();
    let layers = |name: &dyn Fn(&str) -> String| -> Vec<String> {
        parts.layers.iter().map(|(hex, _)| name(hex)).collect()
    };
    for (config, names, compressed) in [
        (format!("{}.json", parts.config), layers(&|hex| format!("{hex}.tar")), false),
        (format!("sha256:{}", parts.config), layers(&|hex| format!("{hex}.tar.gz")), true),
        (
            format!("blobs/sha256/{}", parts.config),
            layers(&|hex| format!("blobs/sha256/{hex}")),
            false,
        ),
        ("./config.json".to_owned(), layers(&|hex| format!("./deep/{hex}/layer.tar")), false),
        (parts.config.clone(), layers(&|hex| format!("{hex}/layer")), true),
    ] {
        let mut archive = Archive::new();
        for (n, name) in names.iter().enumerate() {
            archive = archive.file(name, if compressed { &gzip[n] } else { &parts.layers[n].1 });
        }
        let clean = |name: &String| name.trim_start_matches("./").to_owned();
        let names: Vec<String> = names.iter().map(clean).collect();
        let bytes = archive
            .file(&config, parts.image.config.bytes())
            .json("manifest.json", &json!([{"Config": clean(&config), "Layers": names}]))
            .bytes();
        for (file, bytes) in
            [("a.tar", bytes.clone()), ("a.tar.zst", zstd::encode_all(&bytes[..], 1).unwrap())]
        {
            let bench = Bench::new();
            fs::write(bench.path(file), bytes).unwrap();
            let found = bench.read(&format!("docker-archive:{file}"), "all").unwrap();
            if compressed {
                let image = found.as_image().unwrap();
                assert_eq!(image.manifest.value().layers, parts.image.manifest.value().layers);
                assert_eq!(verified(&found).len(), 3);
            } else {
                assert_made_of(&found, &parts);
            }
        }
    }
}

#[test]
fn an_image_without_layers_or_names_is_read() {
    let draft = gondola::image::Draft::scratch("linux/amd64".parse().unwrap()).finish();
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": null}]);
    let bytes =
        Archive::new().json("manifest.json", &manifest).file("c.json", draft.config.bytes());
    let bench = Bench::new();
    fs::write(bench.path("a.tar"), bytes.bytes()).unwrap();
    let found = bench.read("docker-archive:a.tar", "all").unwrap();
    assert_eq!(found.as_image().unwrap().config.bytes(), draft.config.bytes());
}

#[test]
fn an_index_json_that_lists_platforms_without_names_is_the_index() {
    let bench = Bench::new();
    let images = ["linux/amd64", "linux/arm64"].map(|p| image_with(p, p, Encoding::None));
    for image in &images {
        let artifact = Artifact::Image(image.clone());
        bench.write("oci:layout", &[super::bench::named(artifact, &[])]).unwrap();
    }
    let file = bench.path("layout/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_says(bench.read("oci:layout", "all"), &["several images"]);
    for (entry, architecture) in
        index["manifests"].as_array_mut().unwrap().iter_mut().zip(["amd64", "arm64"])
    {
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    fs::write(&file, index.to_string()).unwrap();
    let found = bench.read("oci:layout", "all").unwrap();
    assert!(matches!(found, Artifact::Index { .. }));
    assert_eq!(found.images().len(), 2);
    assert_eq!(bench.read_all("oci:layout").unwrap().len(), 1);
    let arm = bench.read("oci:layout", "linux/arm64").unwrap();
    assert_eq!(arm.digest(), images[1].manifest.digest());
    bench.write("oci:copy:v1", &[super::bench::named(found.clone(), &[])]).unwrap();
    super::bench::assert_same(&bench.read("oci:copy:v1", "all").unwrap(), &found);
}
