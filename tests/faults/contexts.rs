//! Contexts that are repositories, and what of a folder goes along.

use std::path::Path;
use std::process::Command;

use super::support::{Need, Sandbox, Stored, need, program};

/// A repository with a submodule, behind a name by which gondola knows a repository: git itself is told
/// where that is.
struct Repositories {
    sandbox: Sandbox,
}

impl Repositories {
    fn new() -> Need<Self> {
        let git = program("git")?;
        let mut sandbox = Sandbox::new();
        let call = |folder: &str, words: &[&str]| {
            fs_err::create_dir_all(sandbox.path(folder)).unwrap();
            let who = ["user.name=me", "user.email=me@h", "init.defaultBranch=main"];
            let mut command = Command::new(&git);
            for setting in who.iter().chain(&["protocol.file.allow=always"]) {
                command.args(["-c", setting]);
            }
            command.args(words).current_dir(sandbox.path(folder)).env("HOME", "/nonexistent");
            let output = command.output().unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
        };
        let commit = |folder: &str, message: &str| {
            call(folder, &["add", "."]);
            call(folder, &["commit", "-q", "-m", message]);
        };
        call("below", &["init", "-q"]);
        sandbox.write("below/inside", "x");
        commit("below", "below");
        call("a", &["init", "-q"]);
        sandbox.write("a/Dockerfile", "FROM scratch\nCOPY . /\n");
        let below = sandbox.path("below").display().to_string();
        call("a", &["submodule", "--quiet", "add", &below, "module"]);
        commit("a", "first");
        call("a", &["tag", "v1"]);
        sandbox.write("a/new", "x");
        commit("a", "second");
        let settings = format!(
            "[url \"file://{}/\"]\n\tinsteadOf = https://git.test/\n[protocol \"file\"]\n\tallow = always\n",
            sandbox.work().display()
        );
        let file = sandbox.write("settings", settings);
        sandbox.set("GIT_CONFIG_GLOBAL", file.to_str().unwrap());
        Ok(Self { sandbox })
    }

    /// The files of the image of a context.
    fn files(&self, query: &str, more: &[&str]) -> Vec<String> {
        let context = format!("https://git.test/a.git{query}");
        let words = [&["build", "-o", "oci:out:t"][..], more, &[&*context]].concat();
        self.sandbox.gondola(&words).success();
        let image = Stored::folder(&self.sandbox.path("out")).image(Some("t"));
        image.files().into_keys().collect()
    }
}

fn link(sandbox: &Sandbox) {
    // The address ends with .git, and the folder does not.
    std::os::unix::fs::symlink("a", sandbox.path("a.git")).unwrap();
}

#[test]
fn the_query_of_a_repository_says_what_is_fetched() {
    let all = need!(Repositories::new());
    link(&all.sandbox);
    let has = |files: &[String], name: &str| files.iter().any(|file| file == name);
    let plain = all.files("", &[]);
    assert!(has(&plain, "module/inside") && has(&plain, "new"), "{plain:?}");
    assert!(!plain.iter().any(|file| file.starts_with(".git/")), "{plain:?}");
    let without = all.files("?submodules=false", &[]);
    assert!(!has(&without, "module/inside") && has(&without, "new"), "{without:?}");
    for (query, more) in [
        ("?keep-git-dir=1", &[][..]),
        ("?keep-git-dir=true&submodules=0", &[]),
        ("", &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]),
    ] {
        let kept = all.files(query, more);
        assert!(has(&kept, ".git/HEAD"), "{query} {more:?}: {kept:?}");
    }
    for query in ["?tag=v1", "?ref=v1", "#v1", "?tag=v1#refs/tags/v1"] {
        assert!(!has(&all.files(query, &[]), "new"), "{query}");
    }
    assert!(has(&all.files("?branch=main", &[]), "new"));
}

#[test]
fn a_query_that_is_not_understood_is_an_error() {
    let all = need!(Repositories::new());
    link(&all.sandbox);
    for (query, says) in [
        ("?nosuch=1", "unknown key nosuch"),
        ("?submodule=1", "did you mean submodules?"),
        ("?submodules=maybe", "expected true or false"),
        ("?ref=main#v1", "elsewhere in it stands v1"),
        ("?ref=main&commit=0000000", "expected 0000000"),
    ] {
        let context = format!("https://git.test/a.git{query}");
        let ran = all.sandbox.gondola(&["build", "-o", "oci:no:t", &context]);
        assert_ne!(ran.code, Some(0), "{query}");
        assert!(ran.stderr.contains(says), "{query}: {}", ran.stderr);
    }
    // The same address in ADD.
    let file = all
        .sandbox
        .write("ctx/Dockerfile", "FROM scratch\nADD https://git.test/a.git?nosuch=1 /\n");
    let folder = file.parent().unwrap_or(Path::new("/")).to_str().unwrap().to_owned();
    let ran = all.sandbox.gondola(&["build", "-o", "oci:no:t", &folder]).code(2);
    assert!(ran.stderr.contains("unknown key nosuch"), "{}", ran.stderr);
}
