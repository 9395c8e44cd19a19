//! What goes wrong, and what is said then.

use super::bench::Bench;
use super::support::{need, root};

#[test]
fn mistakes_are_told_with_their_line_before_anything_is_executed() {
    let bench = need!(Bench::new());
    for (file, said) in [
        ("FROM busybox\nCOPPY a b\n", "Dockerfile:2:1: error: there is no instruction"),
        ("FROM busybox\nCOPY --from=nothere: a b\n", "Dockerfile:2"),
        ("FROM busybox AS a\nCOPY --from=b x /\nFROM busybox AS b\nFROM a\n", "comes later"),
        ("FROM $NOTHING\n", "Dockerfile:1"),
        ("FROM busybox\nRUN --security=insecure true\n", "Dockerfile:2"),
        ("FROM busybox\nRUN cat <<EOF\nx\n", "Dockerfile:2"),
        ("\0\u{1}\u{2}", "Dockerfile:1"),
        ("", "Dockerfile"),
    ] {
        bench.file(file);
        let ran = bench.run(&[]);
        assert_ne!(ran.code, Some(0), "{file:?}");
        assert!(ran.stderr.contains(said), "{file:?}: {}", ran.stderr);
        assert!(!bench.sandbox.path("out").exists(), "{file:?} left something");
    }
}

#[test]
fn a_failing_step_says_which_how_and_what_it_wrote_last() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nWORKDIR /w\nRUN echo before; echo 'went wrong' >&2; exit 3\n");
    let ran = bench.run(&[]).code(1);
    for said in [
        "[3/3] RUN echo before",
        "(Dockerfile:3)",
        "exit code 3",
        "went wrong",
        "--shell-on-failure",
    ] {
        assert!(ran.stderr.contains(said), "no {said:?} in {}", ran.stderr);
    }
    bench.file("FROM busybox\nRUN [\"/nonexistent\"]\n");
    bench.run(&[]).code(1).says("/nonexistent");
}

#[test]
fn missing_and_ignored_files_are_named() {
    let bench = need!(Bench::new());
    bench.write("main.go", "x");
    bench.write("secret.key", "x");
    bench.write(".dockerignore", "*.key\n");
    bench.file("FROM busybox\nCOPY mian.go /\n");
    bench.run(&[]).code(1).says("did you mean main.go?");
    bench.file("FROM busybox\nCOPY secret.key /\n");
    bench.run(&[]).code(1).says("copy secret.key");
    bench.file("FROM busybox\nCOPY --from=busybox /nothere /\n");
    bench.run(&[]).code(1).says("nothere");
}

#[test]
fn secrets_that_were_not_given_and_users_that_are_not_there_are_named() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN --mount=type=secret,id=token,required true\n");
    bench.run(&[]).code(2).says("--secret id=token,src=FILE");
    bench.write("a", "a");
    bench.file("FROM busybox\nCOPY --chown=nobodyhere a /\n");
    bench.run(&[]).code(1).says("find the user nobodyhere");
}

#[test]
fn a_missing_base_and_a_wrong_target_are_told_apart() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox AS one\nFROM missing-base:1\n");
    bench.run(&[]).code(1).says("Dockerfile:2");
    bench.file("FROM busybox AS one\nRUN true\n");
    bench.run(&["--target", "onee"]).code(2).says("did you mean one?");
}

#[test]
fn go_flags_and_all_platforms_do_not_go_with_a_dockerfile() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\n");
    bench.run(&["--base", "scratch"]).code(2).says("--base");
    bench.run(&["--platform", "all"]).code(2).says("write them out");
    bench.run(&["--platform", "windows/amd64"]).code(1).says("Windows");
}

#[test]
fn a_foreign_step_says_what_is_missing() {
    need!(root("a look at binfmt"));
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN true\n");
    // The base is this machine's: nothing is offered for the other platform.
    let ran = bench.run(&["--platform", "linux/s390x"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("s390x"), "{}", ran.stderr);
}

#[test]
fn check_reports_and_builds_nothing() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nMAINTAINER x\nCMD echo hi\n");
    bench.run(&["--check"]).success().says("MaintainerDeprecated");
    assert!(!bench.sandbox.path("out").exists());
    bench.file("FROM busybox\nCOPPY a b\n");
    bench.run(&["--check"]).code(2).says("there is no instruction");
}
