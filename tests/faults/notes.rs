//! What users of other tools take to count, and what a file does that costs time: told, with what to do.

use super::support::{Busybox, Registry, Sandbox, Stored, go, need};

/// What a build says, beside its progress.
fn notes(sandbox: &Sandbox, more: &[&str]) -> String {
    let words = [&["build", "-o", "oci:out:t"][..], more, &["./hello"]].concat();
    sandbox.gondola(&words).success().stderr
}

#[test]
fn variables_of_the_go_command_that_do_not_count_are_told() {
    need!(go());
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    for (name, value, settled) in [
        ("GOARCH", other, &["--platform", "linux/amd64"][..]),
        ("GOOS", "windows", &["--platform", "linux/amd64"]),
        ("GOFLAGS", "-tags=hunter2", &["--go-flag=-buildvcs=false"]),
        ("CGO_ENABLED", "1", &["--go-env", "CGO_ENABLED=0"]),
        ("GOEXPERIMENT", "hunter2", &["--go-env", "GOEXPERIMENT="]),
    ] {
        let mut sandbox = Sandbox::new();
        sandbox.go_module("hello", "hi");
        let says = format!("{name} of the environment changes nothing here");
        assert!(!notes(&sandbox, &[]).contains(&says), "{name}");
        sandbox.set(name, value);
        let said = notes(&sandbox, &[]);
        assert!(said.contains(&says) && !said.contains("hunter2"), "{said}");
        assert!(!notes(&sandbox, settled).contains(&says), "{name} {settled:?}");
    }
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let host = if other == "arm64" { "amd64" } else { "arm64" };
    sandbox.set("GOARCH", host).set("GOOS", "linux").set("CGO_ENABLED", "0");
    assert!(!notes(&sandbox, &[]).contains("of the environment"));
}

#[test]
fn what_ko_would_read_or_fill_in_is_told() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let ko = "use ko";
    assert!(!notes(&sandbox, &[]).contains(ko));
    sandbox.write(".ko.yaml", "defaultBaseImage: x\n");
    assert!(notes(&sandbox, &[]).contains(".ko.yaml is not read"));
    for flags in ["-X main.v={{.Git.Tag}}", "-X main.v=${VERSION}"] {
        let said = notes(&sandbox, &["--ldflags", flags]);
        assert!(said.contains("goes into the program as it is"), "{said}");
    }
    sandbox.write("gondola.yaml", "go: {ldflags: [\"-X main.v={{.Git.Tag}}\"]}\n");
    assert!(notes(&sandbox, &[]).contains("goes into the program as it is"));
    sandbox.write("gondola.yaml", "go: {ldflags: [-s]}\n");
    assert!(!notes(&sandbox, &[]).contains("goes into the program as it is"));
}

#[test]
fn a_secret_that_may_be_executed_is_executed_and_no_other() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    need!(
        Busybox::default().push(&sandbox.path("base"), &registry.image("library/busybox:latest"))
    );
    sandbox.write("secret", "#!/bin/sh\necho it ran > /out\n");
    let mirror = format!("docker.io={}", registry.host());
    for (mode, runs) in [("0700", true), ("0555", true), ("0400", false)] {
        sandbox.write(
            "ctx/Dockerfile",
            format!(
                "FROM busybox\nRUN --mount=type=secret,id=s,mode={mode},target=/s /s || true\n"
            ),
        );
        let words =
            ["build", "--mirror", &mirror, "--secret", "id=s,src=secret", "-o", "oci:out:t", "ctx"];
        sandbox.gondola(&words).success();
        let image = Stored::folder(&sandbox.path("out")).image(Some("t"));
        assert_eq!(image.files().contains_key("out"), runs, "{mode}");
    }
}

#[test]
fn an_added_folder_that_cannot_be_is_told_before_anything_is_compiled() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    sandbox.write("hello/web/a", "x");
    std::os::unix::fs::symlink("/etc/passwd", sandbox.path("hello/web/link")).unwrap();
    let ran = sandbox.gondola(&["build", "--add", "hello/web:/srv", "./hello"]).code(1);
    assert!(ran.stderr.contains("leads out of the folder"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("compile"), "{}", ran.stderr);
}

#[test]
fn ignore_rules_with_exceptions_are_no_reason_to_warn_of_the_whole_context() {
    let sandbox = Sandbox::new();
    sandbox.write("ctx/sub/a", "x");
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY . /\n");
    let check = || sandbox.gondola(&["build", "--check", "ctx"]).stderr;
    sandbox.write("ctx/.dockerignore", "*\n!sub\n");
    assert!(!check().contains("CopyIgnoredFile"));
    sandbox.write("ctx/.dockerignore", "*\n");
    assert!(check().contains("CopyIgnoredFile"));
}
