//! Archives as they are written: always the same bytes, and whole or not there.

use std::io::Read;
use std::process::Command;

use fs_err as fs;
use gondola::error::ErrorKind;
use gondola::image::Artifact;
use gondola::layer::Encoding;
use gondola::oci::Digest;
use serde_json::{Value, json};

use super::bench::{
    Bench, GZIP, assert_same, assert_says, broken, image, image_with, index, index_with_others,
    named, other,
};
use super::support::{Stored, need, program, run as succeed};

/// Pins the archive format, together with those of layers and documents.
const GOLDEN: &str = "sha256:3830d76a88b995b4b60351c7ce03c22fecb0f686db9ebed1513fac8d257123cc";

fn one(content: &str) -> Artifact {
    Artifact::Image(image("linux/amd64", content))
}

fn digest_of(bench: &Bench, name: &str) -> String {
    Digest::of(&fs::read(bench.path(name)).unwrap()).to_string()
}

#[test]
fn equal_images_give_equal_archives() {
    let mut digests = Vec::new();
    for (place, jobs) in [("docker-archive:a.tar", 1), ("oci-archive:a.tar", 7)] {
        let mut bench = Bench::new();
        bench.context.jobs = jobs;
        let images = [named(index(), &["ghcr.io/a/b:v1"]), named(one("x"), &["x", "x:v1"])];
        bench.write("store:", &images).unwrap();
        bench.write("oci:layout", &images).unwrap();
        for source in ["store", "layout"] {
            let from = |name: &str| bench.read(&format!("{source}{name}"), "all").unwrap();
            let images = match source {
                "store" => [
                    named(from(":ghcr.io/a/b:v1"), &["ghcr.io/a/b:v1"]),
                    named(from(":x"), &["x", "x:v1"]),
                ],
                _ => images.clone(),
            };
            bench.write(place, &images).unwrap();
            digests.push(digest_of(&bench, "a.tar"));
        }
    }
    assert_eq!(digests, [GOLDEN; 4]);
}

#[test]
fn an_archive_is_sorted_plain_and_of_nobody() {
    let bench = Bench::new();
    bench.write("docker-archive:a.tar:x", &[named(index(), &[])]).unwrap();
    let mut archive = tar::Archive::new(fs::File::open(bench.path("a.tar")).unwrap());
    let mut names = Vec::new();
    for entry in archive.entries().unwrap().raw(true) {
        let entry = entry.unwrap();
        let header = entry.header();
        assert!(header.as_ustar().is_some());
        let numbers = [header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()];
        assert_eq!(numbers, [0; 3]);
        assert_eq!(header.mode().unwrap(), 0o644);
        assert_eq!(header.entry_type(), tar::EntryType::Regular);
        names.push(entry.path().unwrap().to_str().unwrap().to_owned());
    }
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(names[names.len() - 3..], ["index.json", "manifest.json", "oci-layout"]);
    // Two manifests, configs and own layers, one shared layer, and the index.
    assert_eq!(names.len(), 3 + 2 + 2 + 2 + 1 + 1);
}

#[test]
fn docker_is_told_of_the_host_and_else_of_the_first() {
    for (host, expect) in [("linux/arm64", 1), ("linux/amd64", 0), ("linux/s390x", 0)] {
        let mut bench = Bench::new();
        bench.context.host = host.parse().unwrap();
        bench.write("docker-archive:a.tar", &[named(index(), &["ghcr.io/a/b:v1", "b"])]).unwrap();
        let manifest = Stored::archive(&bench.path("a.tar")).json("manifest.json");
        let Artifact::Index { children, .. } = index() else { panic!("no index") };
        let image = children[expect].as_image().unwrap();
        let path = |digest: &Digest| json!(format!("blobs/sha256/{}", digest.hex()));
        let layers = image.layers.iter().map(|layer| path(&layer.descriptor.digest));
        let item = json!({
            "Config": path(image.config.digest()),
            "RepoTags": ["ghcr.io/a/b:v1", "docker.io/library/b:latest"],
            "Layers": layers.collect::<Vec<Value>>(),
        });
        assert_eq!(manifest, json!([item]), "{host}");
    }
}

#[test]
fn names_in_an_archive_are_tags_in_full() {
    let bench = Bench::new();
    let artifact = one("x");
    let pinned = format!("ghcr.io/a/b@{}", artifact.digest());
    let both = format!("ghcr.io/a/c:v1@{}", artifact.digest());
    for (names, tags, refs) in [
        (&[][..], json!([]), json!([null])),
        (&["x", "x"], json!(["docker.io/library/x:latest"]), json!(["latest"])),
        (&[pinned.as_str()], json!([]), json!([null])),
        (&[both.as_str()], json!(["ghcr.io/a/c:v1"]), json!(["v1"])),
    ] {
        bench.write("docker-archive:a.tar", &[named(artifact.clone(), names)]).unwrap();
        let stored = Stored::archive(&bench.path("a.tar"));
        assert_eq!(stored.json("manifest.json")[0]["RepoTags"], tags, "{names:?}");
        let index = stored.json("index.json");
        let entries = index["manifests"].as_array().unwrap().iter();
        let found = entries.map(|e| e["annotations"]["org.opencontainers.image.ref.name"].clone());
        assert_eq!(found.collect::<Value>(), refs, "{names:?}");
    }
    let wrong = format!("ghcr.io/a/b@{}", index().digest());
    let written = bench.write("docker-archive:b.tar", &[named(artifact, &[&wrong])]);
    assert_says(written, &["the image's digest is"]);
    assert_eq!(bench.listing(), ["a.tar"]);
}

#[test]
fn a_failing_export_leaves_the_old_file_or_none() {
    let bench = Bench::new();
    bench.write("docker-archive:old.tar:x", &[named(one("x"), &[])]).unwrap();
    let before = digest_of(&bench, "old.tar");
    for place in ["docker-archive:old.tar:x", "docker-archive:new.tar:x", "oci-archive:new.tar"] {
        let written = bench.write(place, &[named(broken("linux/amd64"), &[])]);
        assert_says(written, &["write blob sha256:", "has digest"]);
    }
    assert_eq!(bench.listing(), ["old.tar"]);
    assert_eq!(digest_of(&bench, "old.tar"), before);
    for (place, texts) in [
        (
            "oci-archive:no/such/folder.tar",
            &["no/such/folder.tar", "its folder does not exist"][..],
        ),
        ("oci-archive:store", &["it is a folder", "hint: for an image layout write oci:"]),
    ] {
        assert_says(bench.write(place, &[named(one("x"), &[])]), texts);
    }
}

#[test]
fn what_docker_cannot_load_is_refused_before_anything_is_written() {
    let bench = Bench::new();
    let zstd = image_with("linux/amd64", "x", Encoding::Zstd { level: 3 });
    let zstd = [named(Artifact::Image(zstd), &["x"])];
    let error = assert_says(
        bench.write("docker-archive:a.tar", &zstd),
        &["zstd", "hint: build with --compression gzip"],
    );
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let chart = other(gondola::oci::MediaType::new("text/plain"), "text/plain", None);
    let written = bench.write("docker-archive:a.tar", &[named(chart.clone(), &["x"])]);
    assert_says(written, &["nothing of it is an image"]);
    assert_eq!(bench.listing(), [""; 0]);
    for images in [zstd, [named(chart, &["x"])], [named(index_with_others(), &["x"])]] {
        bench.write("oci-archive:a.tar", &images).unwrap();
        assert_same(&bench.read("oci-archive:a.tar", "all").unwrap(), &images[0].artifact);
    }
    for encoding in [GZIP, Encoding::None] {
        let image = Artifact::Image(image_with("linux/amd64", "x", encoding));
        bench.write("docker-archive:a.tar", &[named(image, &["x"])]).unwrap();
    }
}

#[test]
fn all_images_of_an_archive_come_back_with_their_names() {
    let bench = Bench::new();
    let images = [
        named(one("x"), &["x:v1", "ghcr.io/a/x:v1"]),
        named(index(), &["y"]),
        named(one("z"), &[]),
    ];
    for place in ["docker-archive:a.tar", "oci:layout", "oci-archive:b.tar"] {
        bench.write(place, &images).unwrap();
        let found = bench.read_all(place).unwrap();
        assert_eq!(found.len(), images.len());
        for (found, expect) in found.iter().zip(&images) {
            assert_eq!(found.references, expect.references);
            assert_same(&found.artifact, &expect.artifact);
        }
    }
    let named_one = bench.read_all("docker-archive:a.tar:y").unwrap();
    assert_eq!(named_one[0].references, images[1].references);
    assert_eq!(named_one.len(), 1);
}

#[test]
fn a_link_stays_and_a_pipe_is_written_to() {
    let bench = Bench::new();
    fs::write(bench.path("real.tar"), "old").unwrap();
    std::os::unix::fs::symlink("real.tar", bench.path("link.tar")).unwrap();
    bench.write("oci-archive:link.tar:v1", &[named(one("x"), &[])]).unwrap();
    assert!(fs::symlink_metadata(bench.path("link.tar")).unwrap().is_symlink());
    assert_same(&bench.read("oci-archive:real.tar:v1", "all").unwrap(), &one("x"));

    succeed("mkfifo", &[bench.path("pipe")]);
    let pipe = bench.path("pipe");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        fs::File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    });
    bench.write("oci-archive:pipe:v1", &[named(one("x"), &[])]).unwrap();
    assert_eq!(reader.join().unwrap(), fs::read(bench.path("real.tar")).unwrap());
    assert_eq!(bench.listing(), ["link.tar", "pipe", "real.tar"]);
}

#[test]
fn skopeo_reads_both_formats_of_our_archives() {
    let skopeo = need!(program("skopeo"));
    let bench = Bench::new();
    let images = [named(index(), &["ghcr.io/a/two:v2"]), named(one("x"), &["one:v1", "one:v2"])];
    bench.write("docker-archive:a.tar", &images).unwrap();
    let file = bench.path("a.tar").display().to_string();
    for source in [
        format!("oci-archive:{file}:v2"),
        format!("docker-archive:{file}:ghcr.io/a/two:v2"),
        format!("docker-archive:{file}:docker.io/library/one:v2"),
    ] {
        let folder = format!("dir:{}", bench.path("out").display());
        let mut copy = Command::new(&skopeo);
        copy.args(["copy", "-q", "--override-arch", "amd64", &source, &folder]);
        let output = copy.output().unwrap();
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
