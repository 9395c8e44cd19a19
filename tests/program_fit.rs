//! Programs that cannot start on their base: foreign ones are refused, and of others it is told what the base lacks.

#![cfg(test)]

mod support;

use fs_err as fs;
use support::{BaseImage, Run, Sandbox, go, need, program, run};

/// What is said of a program that something is missing for.
const WARNING: &str = "will not start";

/// Packs a file for linux/amd64 on a base.
fn pack(sandbox: &Sandbox, file: &str, base: &str) -> Run {
    let prebuilt = format!("linux/amd64={file}");
    sandbox.gondola(&["build", "--prebuilt", &prebuilt, "--base", base, "-t", "x"])
}

/// A base with files whose text does not matter.
fn base(sandbox: &Sandbox, name: &str, files: &[&str]) -> String {
    let files = files.iter().map(|file| ((*file).to_owned(), String::new())).collect();
    BaseImage { files, ..BaseImage::default() }.write(&sandbox.path(name));
    format!("oci:{name}")
}

#[test]
fn a_program_for_another_machine_is_refused_and_nothing_is_written() {
    let go = need!(go());
    let env = need!(program("env"));
    let sandbox = Sandbox::new();
    let source = sandbox.write("main.go", "package main\n\nfunc main() { println(\"hi\") }\n");
    for (os, architecture, found) in [
        ("linux", "arm64", "found arm64, expected amd64"),
        ("linux", "s390x", "found s390x, expected amd64"),
        ("darwin", "amd64", "found Mach-O, for macOS"),
        ("windows", "amd64", "found PE, for Windows"),
    ] {
        let file = format!("{os}-{architecture}");
        run(
            &env,
            &[
                format!("GOOS={os}"),
                format!("GOARCH={architecture}"),
                "CGO_ENABLED=0".to_owned(),
                format!("GOCACHE={}", sandbox.path("cache").display()),
                go.display().to_string(),
                "build".to_owned(),
                "-o".to_owned(),
                sandbox.path(&file).display().to_string(),
                source.display().to_string(),
            ],
        );
        pack(&sandbox, &file, "static").code(2).says(found);
        pack(&sandbox, &file, "scratch").code(2).says("cannot pack");
    }
    sandbox.gondola(&["inspect", "x"]).code(1);
    let ran = sandbox.gondola(&["build", "--prebuilt", "linux/arm64=linux-arm64", "-t", "x"]);
    assert!(!ran.success().stderr.contains(WARNING));
}

#[test]
fn a_script_needs_its_interpreter() {
    let sandbox = Sandbox::new();
    sandbox.write("script", "#!/bin/sh\necho hi\n");
    for lacking in ["static", "scratch"] {
        let ran = pack(&sandbox, "script", lacking).success();
        assert!(ran.stderr.contains(WARNING) && ran.stderr.contains("/bin/sh"), "{}", ran.stderr);
    }
    let having = base(&sandbox, "having", &["bin/sh"]);
    assert!(!pack(&sandbox, "script", &having).success().stderr.contains(WARNING));
    // What is added counts as well.
    sandbox.write("sh", "a shell");
    let add = ["build", "--prebuilt", "script", "--base", "scratch", "--add", "sh:/bin/sh"];
    assert!(!sandbox.gondola(&add).success().stderr.contains(WARNING));
    sandbox.write("text", "hello");
    pack(&sandbox, "text", "static").success().says("is no program that Linux starts");
}

#[test]
fn a_dynamic_program_needs_its_loader_and_its_libraries() {
    let cc = need!(program("cc"));
    let sandbox = Sandbox::new();
    let source = sandbox.write("main.c", "int main(void) { return 0; }\n");
    let (dynamic, fixed) = (sandbox.path("dynamic"), sandbox.path("fixed"));
    let text = |path: &std::path::Path| path.display().to_string();
    run(&cc, &[text(&source), "-o".to_owned(), text(&dynamic)]);
    run(&cc, &["-static".to_owned(), text(&source), "-o".to_owned(), text(&fixed)]);
    let loader = "lib64/ld-linux-x86-64.so.2";
    let lacks_all = base(&sandbox, "none", &["etc/x"]);
    let lacks_library = base(&sandbox, "loader", &[loader]);
    let lacks_nothing = base(&sandbox, "all", &[loader, "usr/lib/x86_64-linux-gnu/libc.so.6"]);
    for (base, says) in [
        ("static", Some("/lib64/ld-linux-x86-64.so.2")),
        (&lacks_all, Some("/lib64/ld-linux-x86-64.so.2")),
        (&lacks_library, Some("it needs libc.so.6")),
        (&lacks_nothing, None),
    ] {
        // The second time the base is known.
        for _ in 0..2 {
            let ran = pack(&sandbox, "dynamic", base).success();
            let is_as_expected =
                says.map_or(!ran.stderr.contains(WARNING), |says| ran.stderr.contains(says));
            assert!(is_as_expected, "{base}: {}", ran.stderr);
            assert!(!pack(&sandbox, "fixed", base).success().stderr.contains(WARNING));
        }
    }
}

#[test]
fn a_package_with_cgo_is_warned_of_only_if_it_is_linked_dynamically() {
    need!(go());
    need!(program("cc"));
    let sandbox = Sandbox::new();
    let text = "package main\n\n// int one(void) { return 1; }\nimport \"C\"\n\nfunc main() { println(C.one()) }\n";
    sandbox.write("app/go.mod", "module example.com/app\n\ngo 1.21\n");
    sandbox.write("app/main.go", text);
    let build = |further: &[&str]| {
        let all = [&["build", "--go-env", "CGO_ENABLED=1", "-t", "x", "./app"], further].concat();
        sandbox.gondola(&all).success().stderr
    };
    let dynamic = build(&[]);
    assert!(dynamic.contains(WARNING), "{dynamic}");
    let fixed = build(&["--ldflags", "-linkmode external -extldflags -static"]);
    assert!(!fixed.contains(WARNING), "{fixed}");
    assert!(fs::metadata(sandbox.store()).is_ok());
}
