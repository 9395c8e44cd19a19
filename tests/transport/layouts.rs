//! Image layouts: what is written into one beside what is there.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use fs_err as fs;
use gondola::error::ErrorKind;
use gondola::image::Artifact;
use gondola::transport;
use serde_json::{Value, json};

use super::bench::{Bench, assert_same, assert_says, broken, image, index, named, run};
use super::support::{Stored, need, program, run as succeed};

fn one(content: &str) -> Artifact {
    Artifact::Image(image("linux/amd64", content))
}

/// The entries of `index.json`: tag, full name, digest.
fn entries(bench: &Bench) -> Vec<(Value, Value, String)> {
    let index = Stored::folder(&bench.path("layout")).json("index.json");
    let entries = index["manifests"].as_array().unwrap().iter();
    let entry = |entry: &Value| {
        let note = |key: &str| entry["annotations"][key].clone();
        let digest = entry["digest"].as_str().unwrap().to_owned();
        (note("org.opencontainers.image.ref.name"), note("io.containerd.image.name"), digest)
    };
    entries.map(entry).collect()
}

#[test]
fn a_layout_has_one_entry_for_each_name() {
    let bench = Bench::new();
    let (first, second) = (one("first"), one("second"));
    let images = [
        named(first.clone(), &["hello", "hello:v2", "ghcr.io/a/hello"]),
        named(second.clone(), &[]),
    ];
    bench.write("oci:layout", &images).unwrap();
    let digest = |artifact: &Artifact| artifact.digest().to_string();
    let expect = [
        (json!("latest"), json!("docker.io/library/hello:latest"), digest(&first)),
        (json!("v2"), json!("docker.io/library/hello:v2"), digest(&first)),
        (json!("latest"), json!("ghcr.io/a/hello:latest"), digest(&first)),
        (Value::Null, Value::Null, digest(&second)),
    ];
    assert_eq!(entries(&bench), expect);
    for (place, expect) in [
        ("oci:layout:v2", &first),
        ("oci:layout:ghcr.io/a/hello:latest", &first),
        ("oci:layout:hello:v2", &first),
        (&format!("oci:layout:{}", second.digest()), &second),
        (&format!("oci:layout:@{}", second.digest()), &second),
    ] {
        assert_same(&bench.read(place, "all").unwrap(), expect);
    }
    assert_says(
        bench.read("oci:layout", "all"),
        &["docker.io/library/hello:v2, ghcr.io/a/hello:latest", "hint: write"],
    );
    assert_says(
        bench.read("oci:layout:v3", "all"),
        &["find v3", "docker.io/library/hello:v2, ghcr.io/a/hello:latest"],
    );
}

#[test]
fn a_tag_in_the_place_stands_for_the_names() {
    for (place, names, tag, full) in [
        ("oci:layout:v9", &["ghcr.io/a/hello:v1"][..], json!("v9"), json!("ghcr.io/a/hello:v9")),
        ("oci:layout:v9", &[], json!("v9"), Value::Null),
        ("oci:layout:hi:v9", &["hello"], json!("hi:v9"), json!("docker.io/library/hi:v9")),
    ] {
        let bench = Bench::new();
        bench.write(place, &[named(one("x"), names)]).unwrap();
        let [entry] = &entries(&bench)[..] else { panic!("{place}") };
        assert_eq!((&entry.0, &entry.1), (&tag, &full), "{place} {names:?}");
    }
}

#[test]
fn what_is_in_a_layout_stays_but_for_the_same_name() {
    let bench = Bench::new();
    bench.write("oci:layout", &[named(one("old"), &["a:v1", "b:v1", "a:v2"])]).unwrap();
    let file = bench.path("layout/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    index["annotations"] = json!({"kept": "yes"});
    index["future"] = json!([1, {"x": null}]);
    index["manifests"][2]["later"] = json!(true);
    let foreign = json!({"mediaType": "text/plain", "digest": Value::String(format!("sha256:{}", "0".repeat(64))), "size": 7,
        "annotations": {"org.opencontainers.image.ref.name": "v1-plain"}});
    index["manifests"].as_array_mut().unwrap().push(foreign.clone());
    fs::write(&file, index.to_string()).unwrap();

    let new = one("new");
    bench.write("oci:layout", &[named(new.clone(), &["b:v1"])]).unwrap();
    let after: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let before = index["manifests"].as_array().unwrap();
    let entries = after["manifests"].as_array().unwrap();
    assert_eq!(entries[..3], [before[0].clone(), before[2].clone(), foreign]);
    assert_eq!(entries[3]["digest"], new.digest().as_str());
    assert_eq!(entries.len(), 4);
    assert_eq!(
        (&after["annotations"], &after["future"]),
        (&index["annotations"], &index["future"])
    );
    assert_same(&bench.read("oci:layout:b:v1", "all").unwrap(), &new);
    assert_same(&bench.read("oci:layout:v2", "all").unwrap(), &one("old"));
}

#[test]
fn a_tag_without_a_full_name_is_replaced_by_the_same_tag() {
    let bench = Bench::new();
    for (place, names) in [
        ("oci:layout:v1", &[][..]),
        ("oci:layout:v1", &["ghcr.io/a/b"]),
        ("oci:layout:v1", &[]),
        ("oci:layout", &[]),
        ("oci:layout", &[]),
    ] {
        bench.write(place, &[named(one("same"), names)]).unwrap();
    }
    let tags: Vec<Value> = entries(&bench).into_iter().map(|entry| entry.0).collect();
    assert_eq!(tags, [json!("v1"), Value::Null]);
}

#[test]
fn a_failing_write_leaves_a_layout_as_it_was() {
    let bench = Bench::new();
    bench.write("oci:layout:v1", &[named(index(), &[])]).unwrap();
    let before = format!("{:?}", Stored::folder(&bench.path("layout")));
    for place in ["oci:layout:v1", "oci:new/deep/layout:v1"] {
        let images = [named(broken("linux/amd64"), &[])];
        assert_says(bench.write(place, &images), &["write the image layout", "sha256:"]);
    }
    assert_eq!(format!("{:?}", Stored::folder(&bench.path("layout"))), before);
    assert_eq!(bench.listing(), ["layout"]);
}

#[test]
fn a_folder_with_other_things_is_no_layout() {
    let bench = Bench::new();
    fs::create_dir(bench.path("docs")).unwrap();
    fs::write(bench.path("docs/letter.txt"), "dear").unwrap();
    fs::write(bench.path("file"), "x").unwrap();
    let write = |place: &str| bench.write(place, &[named(index(), &[])]);
    let error = assert_says(write("oci:docs"), &["it has other files", "hint: name a folder"]);
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_says(write("oci:file"), &["write the image layout"]);
    assert_says(write("oci:file/layout"), &["write the image layout"]);
    assert_eq!(fs::read_dir(bench.path("docs")).unwrap().count(), 1);
    fs::create_dir(bench.path("empty")).unwrap();
    write("oci:empty:v1").unwrap();
    assert_same(&bench.read("oci:empty:v1", "all").unwrap(), &index());
}

#[test]
fn writers_at_once_keep_all_names() {
    let bench = Bench::new();
    let names: Vec<String> = (0..12).map(|number| format!("oci:layout:v{number}")).collect();
    run(async {
        let writes = names.iter().map(|name| {
            let (place, context) = (bench.place(name), bench.context.clone());
            let images = [named(one(name), &[])];
            tokio::spawn(async move { transport::write(&place, &images, &context).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
    });
    assert_eq!(entries(&bench).len(), names.len());
    for name in &names {
        assert_same(&bench.read(name, "all").unwrap(), &one(name));
    }
}

#[test]
fn files_get_the_mode_that_the_umask_leaves() {
    let bench = Bench::new();
    fs::write(bench.path("ordinary"), "x").unwrap();
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode();
    let ordinary = mode("ordinary");
    let artifact = one("x");
    bench.write("oci:layout:v1", &[named(artifact.clone(), &[])]).unwrap();
    bench.write("oci-archive:x.tar:v1", &[named(artifact.clone(), &[])]).unwrap();
    let blob = format!("layout/blobs/sha256/{}", artifact.digest().hex());
    for name in ["layout/index.json", "layout/oci-layout", &blob, "x.tar"] {
        assert_eq!(mode(name), ordinary, "{name}");
    }
}

#[test]
fn other_tools_read_our_layouts_and_we_read_theirs() {
    let skopeo = need!(program("skopeo"));
    let bench = Bench::new();
    bench.write("oci:layout:v1", &[named(index(), &[])]).unwrap();
    bench.write("oci:layout:lone", &[named(one("x"), &[])]).unwrap();
    let at = |name: &str, tag: &str| format!("oci:{}:{tag}", bench.path(name).display());
    let shown = succeed(&skopeo, &["inspect", "--raw", &at("layout", "v1")]);
    assert_eq!(shown.as_bytes(), &index().document_bytes()[..]);
    succeed(&skopeo, &["copy", "--all", "-q", &at("layout", "v1"), &at("theirs", "v2")]);
    assert_same(&bench.read("oci:theirs:v2", "all").unwrap(), &index());
    succeed(&skopeo, &["copy", "-q", &at("layout", "lone"), &at("layout", "second")]);
    assert_same(&bench.read("oci:layout:second", "all").unwrap(), &one("x"));
    bench.write("oci:theirs:v3", &[named(one("x"), &[])]).unwrap();
    succeed(&skopeo, &["inspect", &at("theirs", "v3")]);
}

#[test]
fn umoci_unpacks_our_layouts() {
    let umoci = need!(program("umoci"));
    let bench = Bench::new();
    bench.write("oci:layout:v1", &[named(one("from gondola"), &[])]).unwrap();
    let mut unpack = Command::new(umoci);
    unpack.current_dir(bench.folder()).args([
        "raw",
        "unpack",
        "--rootless",
        "--image",
        "layout:v1",
        "root",
    ]);
    let output = unpack.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(bench.path("root/hello.txt")).unwrap(), "from gondola");
}
