//! The documents that others read, compared with the files of `fixtures/documents`: `BLESS=1` writes these
//! anew. A change of a file means that readers have to be looked after: see the page of
//! `gondola::pipeline::documents`.

#![cfg(test)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Run, Sandbox, go, need};

/// What differs from run to run, by the field that holds it.
const PASSING: [(&str, &str); 6] = [
    ("time", "0"),
    ("seconds", "0"),
    ("size", "1"),
    ("bytes", "1"),
    ("total_bytes", "1"),
    ("version", "\"go1.0\""),
];

/// Compares a document with its golden file.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/documents").join(name);
    #[expect(clippy::disallowed_methods, reason = "asks for new golden files")]
    let is_new = std::env::var_os("BLESS").is_some();
    if is_new {
        fs_err::write(&golden, text).unwrap();
    }
    assert_eq!(text, fs_err::read_to_string(golden).unwrap(), "{name}");
}

/// A document without what differs from run to run: digests, times, sizes, versions of Go, and paths, which
/// become what they are relative to the test's folder.
fn masked(sandbox: &Sandbox, document: &mut Value) {
    let folder = sandbox.work().display().to_string();
    match document {
        Value::Array(all) => all.iter_mut().for_each(|value| masked(sandbox, value)),
        Value::Object(all) => {
            for (name, value) in all.iter_mut() {
                let passing = PASSING.iter().find(|(passing, _)| passing == name);
                match passing.map(|(_, mask)| serde_json::from_str::<Value>(mask).unwrap()) {
                    // Versions of documents are numbers, and stay.
                    Some(mask) if mask.is_string() == value.is_string() => *value = mask,
                    _ if name == "program" => *value = "/go/bin/go".into(),
                    _ => masked(sandbox, value),
                }
            }
        }
        Value::String(text) => {
            let shown = text.replace(&folder, "/work");
            let mut parts = shown.split("sha256:");
            let first = parts.next().unwrap_or_default().to_owned();
            let rest = parts.map(|part| format!("sha256:{}", part.get(64..).unwrap_or(part)));
            *text = rest.fold(first, |all, part| all + &part);
        }
        _ => {}
    }
}

fn pretty(sandbox: &Sandbox, text: &str) -> String {
    let mut document: Value = serde_json::from_str(text).unwrap();
    masked(sandbox, &mut document);
    serde_json::to_string_pretty(&document).unwrap() + "\n"
}

/// A Dockerfile that needs nothing of elsewhere, with steps of which some are known.
fn dockerfile() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
    sandbox.write("ctx/a.txt", "a");
    sandbox.write(
        "ctx/Dockerfile",
        "FROM scratch AS files\nCOPY a.txt /a.txt\nFROM files\nWORKDIR /w\nRUN [\"/bin/x\"]\n\
         COPY --from=files /a.txt /b.txt\nFROM files\nCOPY --from=1 /w /w\n",
    );
    sandbox
}

const DOCKERFILE: [&str; 7] =
    ["build", "-f", "ctx/Dockerfile", "-t", "example.com/app:v1", "--platform", "linux/amd64"];

#[test]
fn the_plan_of_a_dockerfile() {
    let sandbox = dockerfile();
    sandbox.gondola(&[&DOCKERFILE[..], &["--target", "files", "ctx"]].concat()).success();
    let flags = ["--dry-run", "--json", "-o", "oci:out", "--metadata-file", "meta.json", "ctx"];
    let ran = sandbox.gondola(&[&DOCKERFILE[..], &flags].concat()).success();
    assert_golden("plan-dockerfile.json", &pretty(&sandbox, &ran.stdout));
}

#[test]
fn the_plan_of_a_go_package() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let flags = ["--go", "host", "--platform", "linux/amd64,linux/arm64", "--base", "scratch"];
    let ran =
        sandbox.gondola(&[&["build", "--dry-run", "--json"], &flags[..], &["./hello"]].concat());
    assert_golden("plan-go.json", &pretty(&sandbox, &ran.success().stdout));
}

#[test]
fn progress_with_explanations() {
    let sandbox = dockerfile();
    let flags = ["--progress", "json", "--explain", "--target", "files", "-o", "oci:out:t"];
    let ran = sandbox.gondola(&[&DOCKERFILE[..], &flags, &["ctx"]].concat()).success();
    let warned =
        sandbox.gondola(&[&DOCKERFILE[..], &flags, &["--rm", "--memory=1", "ctx"]].concat());
    let failed: Run =
        sandbox.gondola(&["build", "--progress", "json", "-f", "none", "ctx"]).code(1);
    let mut text = String::new();
    for ran in [ran, warned.success(), failed] {
        // How often a task tells how far it has come is a matter of time.
        let lines = ran.stderr.lines().filter(|line| !line.contains("\"advanced\""));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        // Layers are packed while others are told of.
        lines[1..].sort_by_key(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            ["event", "kind", "name"].map(|field| event[field].to_string())
        });
        for line in &lines {
            let mut event: Value = serde_json::from_str(line).unwrap();
            masked(&sandbox, &mut event);
            if let Some(task) = event.get_mut("task") {
                *task = 0.into();
            }
            text += &(event.to_string() + "\n");
        }
    }
    assert_golden("progress.jsonl", &text);
}

#[test]
fn the_metadata_of_an_image_and_of_an_index() {
    let sandbox = dockerfile();
    sandbox.write("one", "x");
    let build = |platform: &str| {
        let flags = ["--metadata-file", "meta.json", "--platform", platform, "--prebuilt", "one"];
        sandbox.gondola(&[&["build", "-t", "example.com/one:v1"], &flags[..]].concat()).success();
        pretty(&sandbox, &fs_err::read_to_string(sandbox.path("meta.json")).unwrap())
    };
    assert_golden("metadata.json", &build("linux/amd64"));
    assert_golden("metadata-index.json", &build("linux/amd64,linux/arm64"));
}

#[test]
fn the_metadata_of_an_image_that_nobody_named_has_the_name_that_it_got() {
    let sandbox = Sandbox::new();
    sandbox.write("ctx/Dockerfile", "FROM scratch\nLABEL a=b\n");
    let built = sandbox.gondola(&["build", "--metadata-file", "meta.json", "ctx"]).success();
    let text = fs_err::read_to_string(sandbox.path("meta.json")).unwrap();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["image.name"], "docker.io/library/ctx:latest");
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(built.line(), format!("docker.io/library/ctx:latest@{digest}"));
    sandbox.gondola(&["inspect", "ctx"]).success();
    // Every key is docker's.
    let keys: Vec<&String> = metadata.as_object().unwrap().keys().collect();
    let known = ["containerimage.config.digest", "containerimage.descriptor"];
    assert_eq!(keys, [&known[..], &["containerimage.digest", "image.name"]].concat());
}

#[test]
fn the_metadata_of_several_images() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("one", "1");
    sandbox.go_module("two", "2");
    let flags = ["--go", "host", "--platform", "linux/amd64", "--metadata-file", "meta.json"];
    sandbox.gondola(&[&["build"], &flags[..], &["./one", "./two"]].concat()).success();
    let text = fs_err::read_to_string(sandbox.path("meta.json")).unwrap();
    assert_golden("metadata-several.json", &pretty(&sandbox, &text));
}
