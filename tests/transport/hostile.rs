//! Layouts and archives that lie, are broken, or mean harm: an error each, and nothing else.

use std::path::Path;

use fs_err as fs;
use gondola::error::ErrorKind;
use gondola::image::Artifact;
use gondola::oci::{Descriptor, Digest, Document, Index, MediaType};
use serde_json::{Value, json};

use super::bench::{Bench, assert_says, image, index, named};
use super::foreign::Archive;
use super::support::run as succeed;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes a layout whose one tag names `document`, which is stored with `others`.
fn layout(folder: &Path, entry: &Value, blobs: &[&[u8]]) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("oci-layout"), LAYOUT).unwrap();
    for bytes in blobs {
        fs::write(folder.join("blobs/sha256").join(Digest::of(bytes).hex()), bytes).unwrap();
    }
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

fn entry(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const CONFIG: &str =
    r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

/// A manifest with further fields, as text.
fn manifest(config: &Value, layers: &Value, more: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":{layers}{more}}}"#)
}

fn config_entry() -> Value {
    entry("application/vnd.oci.image.config.v1+json", CONFIG.as_bytes())
}

/// Reads a layout with one entry and these blobs.
#[track_caller]
fn refused(entry: &Value, blobs: &[&str], texts: &[&str]) -> ErrorKind {
    let bench = Bench::new();
    let blobs: Vec<&[u8]> = blobs.iter().map(|text| text.as_bytes()).collect();
    layout(&bench.path("layout"), entry, &blobs);
    assert_says(bench.read("oci:layout", "all"), texts).kind()
}

#[test]
fn entries_that_lie_are_refused() {
    let good = manifest(&config_entry(), &json!([]), "");
    let sized = |size: Value| json!({"mediaType": MANIFEST, "digest": Digest::of(good.as_bytes()), "size": size});
    let of_digest = |digest: &str| json!({"mediaType": MANIFEST, "digest": digest, "size": 2});
    for (entry, texts, kind) in [
        (sized(json!(good.len() + 1)), &["expected", "bytes"][..], ErrorKind::Corrupt),
        (sized(json!(u64::MAX)), &["at most 8388608 are taken"], ErrorKind::Invalid),
        (sized(json!(-1)), &["index.json is broken"], ErrorKind::Invalid),
        (entry(MANIFEST, b"absent"), &["blobs/sha256/", "is missing"], ErrorKind::NotFound),
        (entry("", b"absent"), &["blobs/sha256/", "is missing"], ErrorKind::NotFound),
        (of_digest("sha256:../../../etc/passwd"), &["64 lower-case"], ErrorKind::Invalid),
        (of_digest(&format!("md5:{}", "0".repeat(32))), &["is broken"], ErrorKind::Invalid),
        (of_digest(&format!("sha512:{}", "0".repeat(128))), &["is missing"], ErrorKind::NotFound),
    ] {
        assert_eq!(refused(&entry, &[&good, CONFIG], texts), kind, "{entry}");
    }
}

#[test]
fn documents_that_lie_are_refused() {
    let (config, none) = (config_entry(), json!([]));
    let absent = json!([entry("application/vnd.oci.image.layer.v1.tar", b"not there")]);
    let mut large = config.clone();
    large["size"] = json!(9 << 20);
    let deep = format!(",\"x\":{}{}", "[".repeat(9000), "]".repeat(9000));
    let both = manifest(&config, &none, ",\"manifests\":[]");
    let is_index = manifest(&config, &none, &format!(",\"mediaType\":\"{INDEX}\""));
    for (media_type, document, texts, kind) in [
        (MANIFEST, "<html>", &["it is no JSON object"][..], ErrorKind::Invalid),
        (MANIFEST, "{}", &["missing field"], ErrorKind::Invalid),
        (MANIFEST, &manifest(&config, &none, &deep), &["recursion limit"], ErrorKind::Invalid),
        (
            MANIFEST,
            &is_index,
            &["it calls itself application/vnd.oci.image.index"],
            ErrorKind::Invalid,
        ),
        (
            "text/plain",
            "{}",
            &["its type is text/plain, expected a manifest"],
            ErrorKind::Unsupported,
        ),
        ("", &both, &["expected a manifest or an index"], ErrorKind::Unsupported),
        (MANIFEST, &manifest(&config, &absent, ""), &["is missing"], ErrorKind::NotFound),
        (MANIFEST, &manifest(&large, &none, ""), &["9437184 bytes, at most"], ErrorKind::Invalid),
        (
            INDEX,
            r#"{"schemaVersion":2,"manifests":[{"size":1}]}"#,
            &["missing field"],
            ErrorKind::Invalid,
        ),
    ] {
        let entry = entry(media_type, document.as_bytes());
        assert_eq!(refused(&entry, &[document, CONFIG], texts), kind, "{texts:?}");
    }
    let lacks_config = manifest(&config, &none, "");
    refused(&entry(MANIFEST, lacks_config.as_bytes()), &[&lacks_config], &["is missing"]);
    let wrong_config =
        manifest(&entry("application/vnd.oci.image.config.v1+json", b"[]"), &none, "");
    refused(&entry(MANIFEST, wrong_config.as_bytes()), &[&wrong_config, "[]"], &["cannot read"]);
}

#[test]
fn content_that_is_not_what_its_name_says_is_noticed() {
    let bench = Bench::new();
    bench
        .write("oci:layout:v1", &[named(Artifact::Image(image("linux/amd64", "x")), &[])])
        .unwrap();
    let artifact = bench.read("oci:layout:v1", "all").unwrap();
    let blob = |digest: &Digest| bench.path("layout/blobs/sha256").join(digest.hex());
    let image = artifact.as_image().unwrap();
    // A layer of the right size is noticed when its bytes are used.
    let layer = blob(&image.layers[0].descriptor.digest);
    let mut bytes = fs::read(&layer).unwrap();
    bytes[20] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    let read = bench.read("oci:layout:v1", "all").unwrap();
    for place in ["store:x", "oci-archive:a.tar", "oci:copy", "docker-archive:a.tar:x"] {
        assert_says(bench.write(place, &[named(read.clone(), &[])]), &["has digest"]);
    }
    assert_eq!(bench.listing(), ["layout"]);
    assert!(bench.context.store.names().unwrap().is_empty());
    // One of another size at once, and so is any document.
    fs::write(&layer, b"short").unwrap();
    assert_says(bench.read("oci:layout:v1", "all"), &["found 5 bytes, expected"]);
    fs::write(&layer, &bytes).unwrap();
    let config = blob(image.config.digest());
    let text = fs::read_to_string(&config).unwrap().replace("amd64", "arm64");
    fs::write(&config, text).unwrap();
    let error = assert_says(bench.read("oci:layout:v1", "all"), &["found digest"]);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn indexes_do_not_nest_or_repeat_without_end() {
    let bench = Bench::new();
    let mut artifact = Artifact::Image(image("linux/amd64", "x"));
    for _ in 0..9 {
        let entries = vec![artifact.descriptor().clone()];
        let document = Document::new(MediaType::OCI_INDEX, Index::new(entries));
        artifact = Artifact::Index { document, children: vec![artifact] };
    }
    bench.write("oci:deep", &[named(artifact, &[])]).unwrap();
    assert_says(bench.read("oci:deep", "all"), &["more than 8 other indexes"]);
    assert_says(bench.read("oci:deep", "linux/amd64"), &["more than 8 other indexes"]);

    // Three indexes, each of which lists the next one a hundred times.
    let leaf = Artifact::Image(image("linux/amd64", "x"));
    let mut blobs: Vec<Vec<u8>> =
        leaf.documents().iter().map(|(_, bytes)| bytes.to_vec()).collect();
    let image = leaf.as_image().unwrap();
    blobs.push(image.config.bytes().to_vec());
    let mut below = leaf.descriptor().clone();
    for _ in 0..3 {
        let document = Document::new(MediaType::OCI_INDEX, Index::new(vec![below; 100]));
        blobs.push(document.bytes().to_vec());
        below = document.descriptor().clone();
    }
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    layout(&bench.path("wide"), &json!(below), &blobs);
    bench.write("oci:wide", &[named(leaf, &["x"])]).unwrap();
    let place = format!("oci:wide:{}", below.digest);
    assert_says(bench.read(&place, "all"), &["more than 4096 documents"]);
}

#[test]
fn what_is_no_layout_says_why() {
    let bench = Bench::new();
    let write = |name: &str, text: &str| {
        let path = bench.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("empty/x", "");
    write("old/oci-layout", r#"{"imageLayoutVersion":"0.9"}"#);
    write("junk/oci-layout", "junk");
    write("bare/oci-layout", LAYOUT);
    write("none/oci-layout", LAYOUT);
    write("none/index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    write("pipe/oci-layout", LAYOUT);
    succeed("mkfifo", &[bench.path("pipe/index.json")]);
    for (place, texts) in [
        ("oci:nowhere", &["nowhere", "it is no image layout"][..]),
        ("oci:empty", &["there is no file oci-layout"]),
        ("oci:old", &["version \"0.9\", expected 1.0.0"]),
        ("oci:junk", &["oci-layout file is broken"]),
        ("oci:bare", &["it has no index.json"]),
        ("oci:none", &["lists nothing"]),
        ("oci:none:v1", &["find v1 in", "it holds nothing"]),
        ("oci:pipe", &["it is a named pipe"]),
        ("store:nowhere", &["find docker.io/library/nowhere:latest"]),
        ("store:", &["it was not said which image", "hint: write store:NAME"]),
        ("docker:x", &["hint: run docker save -o FILE NAME, and read docker-archive:FILE"]),
    ] {
        assert_says(bench.read(place, "all"), texts);
    }
}

#[test]
fn archives_that_lie_are_refused() {
    use tar::EntryType::{GNUSparse, Link, Regular, Symlink};
    let item = |config: &str, layers: Value| json!([{"Config": config, "Layers": layers}]);
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let with =
        |manifest: &Value| Archive::new().json("manifest.json", manifest).file("c.json", config);
    let whole = with(&item("c.json", json!([]))).bytes();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("traversal", Archive::new().raw(b"../../etc/x", Regular, 1, b"x").bytes(), &["leads out of the archive"]),
        ("absolute", Archive::new().raw(b"/etc/x", Regular, 1, b"x").bytes(), &["leads out of the archive"]),
        ("link out", Archive::new().link(Symlink, "a/layer.tar", "../../../etc/passwd").bytes(), &["a link out of the archive"]),
        ("hard link out", Archive::new().link(Link, "a", "/etc/passwd").bytes(), &["a link out of the archive"]),
        ("loop", Archive::new().link(Symlink, "manifest.json", "b").link(Symlink, "b", "manifest.json").bytes(), &["a link to itself"]),
        ("dangling", Archive::new().link(Symlink, "manifest.json", "b").bytes(), &["neither an oci-layout nor a manifest.json"]),
        ("sparse", Archive::new().raw(b"s", GNUSparse, 0, b"").bytes(), &["sparse"]),
        ("cut", whole[..540].to_vec(), &["ends"]),
        ("claims too much", Archive::new().raw(b"manifest.json", Regular, 1 << 40, b"").bytes(), &["ends before it does"]),
        ("long name", Archive::new().raw(b"././@LongLink", tar::EntryType::GNULongName, 3 << 20, &vec![b'a'; 3 << 20]).bytes(), &["longer than allowed"]),
        ("empty", Vec::new(), &["it has none"]),
        ("text", b"hello, this is no archive at all. ".repeat(40), &["a number in its header"]),
        ("nothing of ours", Archive::new().file("x", b"x").bytes(), &["neither an oci-layout nor a manifest.json"]),
        ("junk manifest", Archive::new().file("manifest.json", b"{").bytes(), &["manifest.json is broken"]),
        ("config elsewhere", with(&item("../c.json", json!([]))).bytes(), &["no such member"]),
        ("config absent", with(&item("d.json", json!([]))).bytes(), &["read d.json", "no such member"]),
        ("layer absent", Archive::new().json("manifest.json", &item("c.json", json!(["l.tar"])))
            .file("c.json", br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#).bytes(),
            &["read l.tar", "no such member"]),
        ("counts differ", with(&item("c.json", json!(["c.json"]))).bytes(), &["1 layers, but its config names 0"]),
        ("layout version", Archive::new().file("oci-layout", b"{}").bytes(), &["oci-layout file is broken"]),
        ("layout alone", Archive::new().file("oci-layout", LAYOUT.as_bytes()).bytes(), &["no index.json"]),
    ];
    for (case, bytes, texts) in cases {
        let bench = Bench::new();
        fs::write(bench.path("a.tar"), &bytes).unwrap();
        fs::write(bench.path("z.tar"), zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
        for place in ["docker-archive:a.tar", "oci-archive:a.tar"] {
            let Err(error) = bench.read(place, "all") else { panic!("{case}: no error") };
            for text in texts {
                assert!(error.to_string().contains(text), "{case}: no {text:?} in: {error}");
            }
        }
        // Unpacked, the same archives fail as well, be it with other words.
        let error = bench.read("docker-archive:z.tar", "all").expect_err(case);
        assert!(error.to_string().starts_with("cannot read"), "{case}: {error}");
    }
}

#[test]
fn a_layer_that_is_not_the_one_of_the_config_is_noticed() {
    let bench = Bench::new();
    let diff_id = Digest::of(b"the layer");
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:v1"], "Layers": ["l.tar"]}]);
    let archive = Archive::new().json("manifest.json", &manifest).json("c.json", &config);
    fs::write(bench.path("a.tar"), archive.file("l.tar", b"the liar!").bytes()).unwrap();
    let read = bench.read("docker-archive:a.tar", "all").unwrap();
    assert_says(bench.write("store:x", &[named(read, &[])]), &["has digest"]);
}

#[test]
fn a_blob_with_a_wrong_name_stops_the_unpacking() {
    let bench = Bench::new();
    let name = format!("blobs/sha256/{}", Digest::of(b"another").hex());
    let bytes = Archive::new().file(&name, b"content").bytes();
    fs::write(bench.path("a.tar"), zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    let error = assert_says(bench.read("oci-archive:a.tar", "all"), &["a.tar", &name, "found"]);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn an_archive_without_some_images_gives_those_that_it_has() {
    let bench = Bench::new();
    let (whole, files) = (index(), bench.path("layout"));
    bench.write("oci:layout:v1", &[named(whole.clone(), &[])]).unwrap();
    let arm: &Descriptor = whole.images()[1].manifest.descriptor();
    fs::remove_file(files.join("blobs/sha256").join(arm.digest.hex())).unwrap();
    let texts = ["is missing", "hint: the image for linux/arm64 was left out", "--platform"];
    assert_says(bench.read("oci:layout:v1", "all"), &texts);
    let found = bench.read("oci:layout:v1", "linux/amd64").unwrap();
    assert_eq!(found.digest(), whole.images()[0].manifest.digest());
}

#[test]
fn an_image_without_all_its_layers_is_refused_wherever_it_goes() {
    use super::support::{FaultServer, Quirks};
    let server = FaultServer::start(Quirks::default());
    let place = server.image("app:v1");
    let whole = image("linux/amd64", "one");
    Bench::new().write(&place, &[named(Artifact::Image(whole.clone()), &[])]).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(whole.manifest.bytes()).unwrap();
    manifest["layers"].as_array_mut().unwrap().pop();
    let media_type = whole.manifest.media_type().as_str();
    server.put_manifest("app", "v1", media_type, manifest.to_string());
    let error = Bench::new().read(&place, "all").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("it has 1 layers, its config names 2"), "{error}");
}
