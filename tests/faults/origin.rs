//! What an image says of where it came from.

use std::process::Command;

use super::support::{Sandbox, Stored, go, need, program, run};
use serde_json::Value;

const REVISION: &str = "org.opencontainers.image.revision";
const SOURCE: &str = "org.opencontainers.image.source";

/// Builds, and reads the image, or the index over several.
fn annotations(sandbox: &Sandbox, more: &[&str]) -> Value {
    let all = [&["build", "-o", "oci:out:t"][..], more].concat();
    sandbox.gondola(&all).success();
    let image = Stored::folder(&sandbox.path("out")).image(Some("t"));
    image.manifest["annotations"].clone()
}

/// Runs git in a repository, and gives what it prints.
type Git = Box<dyn Fn(&[&str]) -> String>;

/// A module in a repository, with a first commit.
fn repository() -> super::support::Need<(Sandbox, Git)> {
    go()?;
    let git = program("git")?;
    let sandbox = Sandbox::new();
    let folder = sandbox.go_module("hello", "hi");
    let call = move |words: &[&str]| {
        let who = ["-c", "user.name=me", "-c", "user.email=me@h", "-c", "init.defaultBranch=main"];
        let mut command = Command::new(&git);
        command.args(who).args(words).current_dir(&folder).env("HOME", "/nonexistent");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    call(&["init", "-q"]);
    call(&["remote", "add", "origin", "https://me:hunter2@example.com/a/hello.git"]);
    call(&["add", "."]);
    call(&["commit", "-q", "-m", "first"]);
    Ok((sandbox, Box::new(call)))
}

#[test]
fn a_commit_that_changes_nothing_keeps_the_digest_and_is_named_on_demand() {
    let (sandbox, git) = need!(repository());
    let digest = || sandbox.gondola(&["build", "./hello"]).success().line().to_owned();
    let before = digest();
    git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    assert_eq!(digest(), before);
    let commit = git(&["rev-parse", "HEAD"]);
    let plain = annotations(&sandbox, &["./hello"]);
    assert_eq!(plain.get(REVISION), None);
    assert_eq!(plain[SOURCE], "https://example.com/a/hello");
    assert_eq!(annotations(&sandbox, &["--revision", "./hello"])[REVISION], commit.as_str());
    sandbox.write("asked.yaml", "image: {revision: true}\n");
    let asked = ["--config", "asked.yaml", "./hello"];
    assert_eq!(annotations(&sandbox, &asked)[REVISION], commit.as_str());
    sandbox.gondola(&["build", "--revision", "-f", "Dockerfile", "."]).code(2);
}

#[test]
fn an_annotation_with_an_empty_value_is_none() {
    let (sandbox, _) = need!(repository());
    let without = |more: &[&str]| annotations(&sandbox, &[more, &["./hello"]].concat());
    assert_eq!(without(&["--annotation", &format!("{SOURCE}=")]).get(SOURCE), None);
    let none = [&*format!("{SOURCE}="), &format!("{REVISION}=")].map(str::to_owned);
    let both = ["--revision", "--annotation", &none[0], "--annotation", &none[1]];
    assert!(without(&both).as_object().is_none_or(serde_json::Map::is_empty));
    sandbox.write("empty.yaml", format!("image: {{annotations: {{{SOURCE}: \"\", a: b}}}}\n"));
    let of_file = without(&["--config", "empty.yaml"]);
    assert_eq!((of_file.get(SOURCE), &of_file["a"]), (None, &Value::from("b")));
    // The command line wins over the file.
    let typed = without(&["--config", "empty.yaml", "--annotation", "a="]);
    assert!(typed.as_object().is_none_or(serde_json::Map::is_empty), "{typed}");
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--annotation", &none[0], "./hello"];
    sandbox.gondola(&[&["build", "-o", "oci:index:t"][..], &platforms].concat()).success();
    let text = run(need!(program("cat")), &[sandbox.path("index/index.json").to_str().unwrap()]);
    assert!(!format!("{text:?}").contains(SOURCE));
    for blob in fs_err::read_dir(sandbox.path("index/blobs/sha256")).unwrap() {
        let bytes = fs_err::read(blob.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SOURCE));
    }
}
