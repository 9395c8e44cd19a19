//! What goes wrong, and what is said then.

use super::bench::Bench;
use super::support::{Run, need, root};

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
fn a_step_for_another_processor_is_told_when_the_first_step_begins() {
    let bench = need!(Bench::new());
    bench.file("FROM scratch\nCOPY Dockerfile /x\nRUN [\"/x\"]\n");
    let said = "Dockerfile:3: what this step executes is for linux/s390x, and this machine is ";
    let ran = bench.run(&["--platform", "linux/s390x", "--progress", "plain"]).code(1);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let at = |part: &str| lines.iter().position(|line| line.contains(part));
    let (told, failed) = (at(said), at("Dockerfile:3:1: error: "));
    assert!(told.is_some() && told < failed, "{}", ran.stderr);
    // What is known is not executed, and nothing is told of it.
    bench.file("FROM scratch\nCOPY Dockerfile /x\n");
    let ran = bench.run(&["--platform", "linux/s390x"]).success();
    assert!(!ran.stderr.contains("emulator"), "{}", ran.stderr);
    bench.file("FROM scratch\nCOPY Dockerfile /x\nRUN [\"/x\"]\n");
    let ran = bench.run(&[]);
    assert!(!ran.stderr.contains("emulator"), "{}", ran.stderr);
}

#[test]
fn a_failing_step_says_which_how_and_what_it_wrote_last() {
    let bench = need!(Bench::new());
    bench
        .file("FROM busybox\nWORKDIR /w\nRUN echo before; \\\n    echo 'went wrong' >&2; exit 3\n");
    bench.run(&[]).code(1).says(
        "Dockerfile:3:1: error: [3/3] cannot execute the step: it ended with exit code 3, and said last:\n\
         \x20 |\n\
         3 | RUN echo before; \\\n\
         \x20 | ^^^^^^^^^^^^^^^^^^\n\
         \x20 =   before\n\
         \x20 =   went wrong\n\
         \x20 = help: --shell-on-failure opens a shell where it failed\n",
    );
    bench.file("FROM busybox\nRUN [\"/nonexistent\"]\n");
    bench.run(&[]).code(1).says("cannot run /nonexistent: ");
}

#[test]
fn what_cannot_be_executed_is_pointed_at() {
    let bench = need!(Bench::new());
    bench.write("main.go", "x");
    bench.write("secret.key", "x");
    bench.write(".dockerignore", "*.key\n");
    std::os::unix::fs::symlink("nowhere", bench.sandbox.path("ctx/deadlink1")).unwrap();
    for (code, file, said) in [
        (
            1,
            "COPY main.go mian.go /\n",
            ":14: error: [stage-1 2/2] cannot copy mian.go: there is no such file or folder\n  |\n3 | COPY main.go mian.go /\n  |              ^^^^^^^ did you mean main.go?\n",
        ),
        (
            1,
            "ADD ../../x.go /\n",
            "^^^^^^^^^^\n  = help: a source never leads out of its tree: this one means /x.go\n",
        ),
        (1, "COPY secret.key /\n", "cannot copy secret.key: the ignore file leaves it out\n"),
        (
            1,
            "COPY deadlink* /x/\n",
            "cannot copy deadlink*: deadlink1 is a link whose target nowhere is not there\n",
        ),
        (1, "COPY --from=busybox /nothere /\n", "  |                     ^^^^^^^^\n"),
        (1, "COPY --from=bsae /a /\n", "  |             ^^^^ did you mean the stage base?\n"),
        (1, "COPY --chown=nobodyhere main.go /\n", "  |              ^^^^^^^^^^\n"),
        (2, "COPY --chmod=rwx main.go /\n", "  |              ^^^\n"),
        (
            2,
            "COPY https://example.com/a /\n",
            "  |      ^^^^^^^^^^^^^^^^^^^^^ ADD takes addresses\n",
        ),
        (2, "ADD --checksum=sha256:00 main.go /\n", "  |                ^^^^^^^^^\n"),
        (
            1,
            "RUN --mount=from=base,source=/nothere,target=/x true\n",
            "cannot copy /nothere: there is no such file or folder\n  |\n3 | RUN --mount=from",
        ),
        (
            2,
            "RUN --mount=type=secret,id=token,required true\n",
            "  = help: --secret id=token,src=FILE\n",
        ),
        (2, "RUN --security=insecure true\n", "  |                ^^^^^^^^ "),
    ] {
        bench.file(&format!("FROM busybox AS base\nFROM base\n{file}"));
        let ran = bench.run(&[]).code(code);
        assert!(ran.stderr.contains("Dockerfile:3:"), "{file}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{file}: {}", ran.stderr);
        assert!(!bench.sandbox.path("out").exists(), "{file} left something");
    }
}

#[test]
fn a_missing_base_and_a_wrong_target_are_told_apart() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox AS one\nFROM missing-base:1\n");
    bench.run(&[]).code(1).says("Dockerfile:2:6: error: ");
    bench.file("FROM busybox AS one\nFROM onee\n");
    bench.run(&[]).code(1).says("     ^^^^ did you mean the stage one?");
    bench.file("FROM busybox AS one\nRUN true\n");
    bench.run(&["--target", "onee"]).code(2).says("did you mean one?");
    let ran = bench.run(&["--no-cache-filter", "onee"]).code(2);
    ran.says("cannot use --no-cache-filter onee: ").says("did you mean one?");
    for stage in ["one", "ONE", "0"] {
        bench.run(&["--no-cache-filter", stage]).success();
    }
}

#[test]
fn a_context_that_cannot_be_used_is_named_as_it_was_given() {
    let bench = need!(Bench::new());
    bench.file("FROM scratch\nCOPY . /\n");
    let nowhere = bench.sandbox.path("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let named = format!("dir={nowhere}");
    let ran = bench.run(&["--build-context", &named]).code(1);
    ran.says(&format!("cannot use --build-context {named}: there is no such folder"));
    let ran = bench.sandbox.gondola(&["build", "-f", "ctx/Dockerfile", nowhere]).code(1);
    ran.says(&format!("cannot use the build context {nowhere}: there is no such folder"));
    bench.write(".dockerignore", "# comment\n\n*.o\n[a-\n");
    let ran = bench.run(&[]).code(2);
    ran.says("cannot read .dockerignore:4: cannot use the pattern \"[a-\"");
    bench.write("Dockerfile.dockerignore", "!\n");
    bench.run(&[]).code(2).says("cannot read Dockerfile.dockerignore:1: ");
}

#[test]
fn a_dockerfile_that_may_not_be_read_is_named() {
    let bench = need!(Bench::new());
    bench.file("FROM scratch\n");
    let mut command = need!(bench.command_of_nobody(&[]));
    let file = bench.sandbox.path("ctx/Dockerfile");
    fs_err::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let ran = Run::of(&mut command).code(1);
    ran.says(&format!("cannot read {}: this user may not read it", file.display()));
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
