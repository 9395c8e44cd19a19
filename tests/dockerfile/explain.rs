//! `--explain`: why a step is executed again, without a value.

use super::bench::Bench;
use super::support::{Busybox, Run, need};

/// The explanations of a build, each after its `explain: `.
#[track_caller]
fn explained(bench: &Bench, more: &[&str]) -> Vec<String> {
    let run: Run = bench.run(&[&["--explain"], more].concat()).success();
    let lines = run.stderr.lines().filter_map(|line| line.strip_prefix("explain: "));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn step<'a>(lines: &'a [String], name: &str) -> &'a str {
    let found = lines.iter().find(|line| line.starts_with("step") && line.contains(name));
    let line = found.unwrap_or_else(|| panic!("nothing is said of {name}: {lines:#?}"));
    line.split_once(": ").unwrap().1
}

#[test]
fn each_step_says_where_it_came_from_and_what_changed() {
    let bench = need!(Bench::new());
    bench.write("src/main.go", "one");
    bench.write("src/go.mod", "m");
    let file = "FROM busybox\nARG TOKEN\nENV MODE=fast\nWORKDIR /w\nCOPY src /src/\n\
                RUN --mount=type=bind,source=src,target=/b echo $MODE\n";
    bench.file(file);
    let first = explained(&bench, &["--build-arg", "TOKEN=hunter2"]);
    for name in ["WORKDIR", "COPY", "RUN"] {
        assert_eq!(step(&first, name), "executed: it is executed for the first time");
    }
    assert!(first[0].starts_with("resolve docker.io/library/busybox"), "{first:#?}");
    let second = explained(&bench, &["--build-arg", "TOKEN=hunter2"]);
    for name in ["WORKDIR", "COPY", "RUN"] {
        assert_eq!(step(&second, name), "found in the store");
    }
    let other = explained(&bench, &["--build-arg", "TOKEN=other"]);
    assert_eq!(step(&other, "COPY"), "found in the store");
    assert_eq!(step(&other, "RUN"), "executed: the argument or variable TOKEN changed");

    bench.write("src/main.go", "two");
    bench.write("src/new.go", "new");
    fs_err::remove_file(bench.sandbox.path("ctx/src/go.mod")).unwrap();
    let edited = explained(&bench, &["--build-arg", "TOKEN=other"]);
    let files = "src/main.go changed; src/new.go was added; src/go.mod was removed";
    assert_eq!(step(&edited, "WORKDIR"), "found in the store");
    assert_eq!(step(&edited, "COPY"), format!("executed: {files}"));
    assert_eq!(step(&edited, "RUN"), format!("executed: a step below it changed; {files}"));

    bench.file(&file.replace("echo $MODE", "echo other"));
    let rewritten = explained(&bench, &["--build-arg", "TOKEN=other"]);
    let why = "executed: the instruction is another one; the command changed";
    assert_eq!(step(&rewritten, "RUN"), why);
    let fresh = explained(&bench, &["--no-cache"]);
    assert_eq!(step(&fresh, "RUN"), "executed: --no-cache");
}

#[test]
fn no_value_is_kept_or_told_for_an_explanation() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nARG TOKEN\nENV SECRET=swordfish\nCOPY <<EOF /a\nopensesame\nEOF\nRUN true\n",
    );
    bench.write("src", "x");
    let lines = explained(&bench, &["--build-arg", "TOKEN=hunter2"]).join("\n");
    let records = bench.sandbox.store().join("gondola/records/step-materials");
    let mut kept = 0;
    for entry in fs_err::read_dir(&records).unwrap() {
        let text = fs_err::read_to_string(entry.unwrap().path()).unwrap();
        kept += 1;
        for value in ["hunter2", "opensesame"] {
            assert!(!text.contains(value) && !lines.contains(value), "{value} in {text}");
        }
    }
    assert_eq!(kept, 6, "two steps, each with a note, its slot and its place");
}

#[test]
fn the_nearest_earlier_build_is_compared_and_not_the_last() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nARG MODE\nCOPY src /src/\nRUN echo $MODE\nRUN cat /src/x\n");
    let built = |mode: &str, x: &str, y: &str| {
        bench.write("src/x", x);
        bench.write("src/y", y);
        let lines = explained(&bench, &["--build-arg", &format!("MODE={mode}")]);
        ["COPY", "RUN echo", "RUN cat"].map(|name| step(&lines, name).to_owned())
    };
    let executed = |whys: [&str; 3]| whys.map(|why| format!("executed: {why}"));
    let first = "it is executed for the first time";
    let (below, mode) = ("a step below it changed", "the argument or variable MODE changed");
    let both = "src/x changed; src/y changed";
    let below_and_mode = format!("{below}; {mode}");
    assert_eq!(built("a", "1", "1"), executed([first; 3]));
    assert_eq!(built("b", "2", "2"), executed([both, &below_and_mode, &below_and_mode]));
    assert_eq!(built("a", "1", "3"), executed(["src/y changed", below, below]));
    assert_eq!(built("b", "2", "4"), executed(["src/y changed", below, below]));
    assert_eq!(built("b", "2", "4"), ["found in the store"; 3]);
}

#[test]
fn an_instruction_that_takes_turns_is_compared_with_the_nearest_that_was_there() {
    let bench = need!(Bench::new());
    let run = |command: &str, argument: &str| {
        bench.file(&format!("FROM busybox\nARG A\nRUN {command}\n"));
        step(&explained(&bench, &["--build-arg", &format!("A={argument}")]), "RUN").to_owned()
    };
    run("echo one", "1");
    run("echo two", "2");
    let why = "executed: the instruction is another one; the command changed";
    assert_eq!(run("echo three", "1"), why);
    assert_eq!(run("echo four", "2"), why);
}

#[test]
fn a_base_that_moved_is_named_by_both_digests() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nCOPY a /\n");
    bench.write("a", "1");
    let image = bench.registry.image("library/busybox:latest");
    let before = need!(Busybox::default().push(&bench.sandbox.path("same"), &image));
    explained(&bench, &[]);
    let again = explained(&bench, &["--pull"]);
    assert!(again[0].ends_with("found in the registry: it was looked up again"), "{again:#?}");

    let other = Busybox { issue: Some("moved".to_owned()), ..Busybox::default() };
    let after = need!(other.push(&bench.sandbox.path("moved"), &image));
    assert_ne!(before, after);
    let kept = explained(&bench, &[]);
    assert!(kept[0].ends_with("found in the store: it was looked up before"), "{kept:#?}");
    assert_eq!(step(&kept, "COPY"), "found in the store");
    let moved = explained(&bench, &["--pull"]);
    let resolved = format!("which is {after}: found in the registry: it moved from {before}");
    assert!(moved[0].ends_with(&resolved), "{moved:#?}");
    let why = format!("executed: the base moved from {before} to {after}");
    assert_eq!(step(&moved, "COPY"), why);
}

#[test]
fn the_flag_that_passes_over_earlier_results_is_told_as_it_was_given() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox AS one\nRUN true\nFROM one\nRUN echo two\n");
    explained(&bench, &[]);
    let filtered = explained(&bench, &["--no-cache-filter", "one"]);
    assert_eq!(step(&filtered, "RUN true"), "executed: --no-cache-filter");
    assert_eq!(step(&filtered, "RUN echo two"), "found in the store");
    let all = explained(&bench, &["--no-cache", "--no-cache-filter", "one"]);
    assert_eq!(step(&all, "RUN true"), "executed: --no-cache");
    assert_eq!(step(&all, "RUN echo two"), "executed: --no-cache");
}
