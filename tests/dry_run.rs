//! `gondola build --dry-run` of Go packages and of programs that were built elsewhere.

#![cfg(test)]

mod support;

use serde_json::{Value, json};
use support::{Run, Sandbox, go, need, state};

/// Plans with `arguments`, as a user whose Go has no caches yet; everything stays as it is.
#[track_caller]
fn plan(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let folder = sandbox.work();
    let folder = folder.parent().unwrap();
    let before = state(folder);
    let temporary = tempfile::tempdir().unwrap();
    let mut command = sandbox.command(&["build", "--dry-run", "--json"]);
    command.args(arguments).env_remove("GOCACHE").env("TMPDIR", temporary.path());
    let ran = Run::of(&mut command).success();
    assert_eq!(state(folder), before);
    assert_eq!(state(temporary.path()).len(), 1, "something is left of what go wrote");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The programs of the first image's first platform.
fn programs(plan: &Value) -> &Vec<Value> {
    plan["images"][0]["platforms"][0]["programs"].as_array().unwrap()
}

#[test]
fn a_package_is_planned_before_and_after_a_build_and_an_edit() {
    let go = need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let arguments = ["--go", "host", "-t", "example.com/hello:v1", "./hello"];
    let first = plan(&sandbox, &arguments);
    assert!(!sandbox.store().exists());
    assert_eq!((&first["version"], &first["source"]), (&json!(1), &json!("go_packages")));
    let image = &first["images"][0];
    assert_eq!(image["name"], "hello");
    assert_eq!(image["references"], json!(["example.com/hello:v1"]));
    assert_eq!(image["platforms"][0]["base"], json!({"kind": "static"}));
    let program = &programs(&first)[0];
    assert_eq!(
        (&program["name"], &program["package"]),
        (&json!("hello"), &json!("example.com/hello"))
    );
    assert_eq!(
        (&program["state"], &program["why"]),
        (&json!("runs"), &json!(["it is compiled for the first time"]),)
    );
    assert!(program["toolchain"]["version"].as_str().unwrap().starts_with("go1."), "{program}");
    let own = fs_err::canonicalize(go).unwrap();
    assert_eq!(program["toolchain"]["program"], own.to_str().unwrap());
    assert_eq!(first["outputs"], json!([{"kind": "store", "to": "example.com/hello:v1"}]));

    // A record of sources that were written a moment ago is worth nothing.
    for _ in 0..50 {
        sandbox.gondola(&[&["build"], &arguments[..]].concat()).success();
        if programs(&plan(&sandbox, &arguments))[0]["state"] == "known" {
            break;
        }
    }
    let known = plan(&sandbox, &arguments);
    assert_eq!(programs(&known)[0]["state"], "known", "{known:#}");
    assert!(programs(&known)[0].get("why").is_none());
    let fresh = plan(&sandbox, &[&["--no-cache"], &arguments[..]].concat());
    assert_eq!(programs(&fresh)[0]["why"], json!(["--no-cache"]));

    sandbox.go_module("hello", "bye");
    let edited = plan(&sandbox, &arguments);
    assert_eq!(programs(&edited)[0]["state"], "runs");
    let why = programs(&edited)[0]["why"].to_string();
    assert!(why.contains("main.go"), "{why}");
}

#[test]
fn modules_that_are_here_are_found_and_nothing_is_added_to_them() {
    need!(go());
    let sandbox = Sandbox::new();
    // Go 1.16 reads the go.mod of each module that is required before it says anything.
    let requires = "module example.com/app\n\ngo 1.16\n\nrequire example.com/lib v1.0.0\n";
    sandbox.write("app/go.mod", requires);
    sandbox.write("app/main.go", "package main\n\nfunc main() {}\n");
    let sum = "example.com/lib v1.0.0/go.mod h1:";
    let text = "module example.com/lib\n";
    let module = "modules/cache/download/example.com/lib/@v";
    sandbox.write(&format!("{module}/v1.0.0.mod"), text);
    sandbox.write(&format!("{module}/v1.0.0.info"), r#"{"Version":"v1.0.0"}"#);
    sandbox.write(&format!("{module}/list"), "v1.0.0\n");
    sandbox.write("app/go.sum", format!("{sum}{}\n", hash_of_go_mod(text)));
    let folder = sandbox.work();
    let before = state(&folder);
    let mut command = sandbox.command(&["build", "--dry-run", "--go", "host", "./app"]);
    command.env_remove("GOCACHE").env("GOMODCACHE", sandbox.path("modules"));
    command.env("GOPROXY", "off").env("GOFLAGS", "").env("GONOSUMDB", "*");
    let ran = Run::of(&mut command).success();
    assert!(ran.stdout.contains("runs    app, of example.com/app, with go1."), "{}", ran.stdout);
    assert_eq!(state(&folder), before);
}

/// What `go.sum` says of a `go.mod` after `h1:`.
fn hash_of_go_mod(text: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let file = gondola::oci::Digest::of(text.as_bytes());
    let list = sha2::Sha256::digest(format!("{}  go.mod\n", file.hex()));
    base64::engine::general_purpose::STANDARD.encode(list)
}

#[test]
fn what_cannot_come_to_an_end_is_said_before_anything_is_compiled() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    for (arguments, said) in [
        (&["--platform", "linux/amd64,linux/foo"][..], "cannot build for linux/foo: go1."),
        (&["--compression", "zstd", "-o", "docker-archive:a.tar"], "it has a zstd layer"),
    ] {
        for more in [&["--dry-run"][..], &[]] {
            let ran = sandbox.gondola(&[&["build", "./hello"], arguments, more].concat());
            assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{arguments:?}: {}", ran.stderr);
            assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
            assert!(!ran.stderr.contains("compile hello"), "{}", ran.stderr);
            assert!(!sandbox.path("a.tar").exists());
        }
    }
}

#[test]
fn programs_that_are_there_are_planned_and_others_are_errors() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let found = plan(
        &sandbox,
        &["--prebuilt", "linux/amd64=app", "--platform", "linux/amd64", "--iidfile", "iid"],
    );
    assert_eq!(found["source"], "prebuilt");
    let file = sandbox.path("app").display().to_string();
    assert_eq!(programs(&found), &[json!({"name": "app", "file": file, "state": "known"})]);
    let iid = sandbox.path("iid").display().to_string();
    let store = json!({"kind": "store", "to": "docker.io/library/app:latest"});
    assert_eq!(found["outputs"], json!([store, {"kind": "file", "to": iid}]));

    let before = state(&sandbox.work());
    for (arguments, code, said) in [
        (&["--prebuilt", "missing"][..], 1, "missing"),
        (
            &["--prebuilt", "linux/arm64=app", "--platform", "linux/amd64"],
            2,
            "--prebuilt linux/amd64=FILE",
        ),
        (&["--prebuilt", "app", "--push"], 2, "--tag"),
        (&["--prebuilt", "app", "--iidfile", "no/iid"], 2, "its folder does not exist"),
        (&["--prebuilt", "app", "--timings", "page.html"], 2, "--timings with --dry-run"),
    ] {
        let ran = sandbox.gondola(&[&["build", "--dry-run"], arguments].concat());
        assert_eq!((ran.code, &*ran.stdout), (Some(code), ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
    }
    sandbox.gondola(&["build", "--json", "--prebuilt", "app"]).code(2).says("--dry-run");
    assert_eq!(state(&sandbox.work()), before);
    assert!(!sandbox.store().exists());
}
