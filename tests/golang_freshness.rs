//! Records of builds: every way in which they go stale, and the ways in which they must not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "support/go.rs"]
mod go;
mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use go::{Bench, copy, environment, fixture};
use gondola::golang::{Built, Check, Record, Recorded, StartedAt, Toolchain};
use support::Sandbox;

/// A module with everything that a build can read.
const MODULE: &[(&str, &str)] = &[
    (
        "app/go.mod",
        "module example.com/app\n\ngo 1.22\n\nrequire example.com/local v0.0.0\n\
         replace example.com/local => ../local\n",
    ),
    (
        "app/cmd/app/main.go",
        "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.com/app/lib\"\n)\n\n\
         //go:embed notes/*.txt\nvar note string\n\nfunc main() { println(lib.Name(), note) }\n",
    ),
    ("app/cmd/app/notes/one.txt", "one"),
    ("app/cmd/app/notes/other.md", "not embedded"),
    (
        "app/lib/lib.go",
        "package lib\n\nimport (\n\t\"embed\"\n\n\t\"example.com/local\"\n)\n\n\
         //go:embed tree all:every\nvar Files embed.FS\n\n\
         func Name() string { return local.Name + asm() }\n",
    ),
    ("app/lib/lib_windows.go", "package lib\n\nconst Windows = true\n"),
    ("app/lib/lib_test.go", "package lib\n"),
    ("app/lib/asm.go", "package lib\n\nfunc asm() string { return \"\" }\n"),
    ("app/lib/tree/a/b.txt", "b"),
    ("app/lib/every/.hidden", "hidden"),
    ("app/lib/plain/readme.md", "no package"),
    ("app/tool/tool.go", "package tool\n\nfunc Unused() {}\n"),
    ("app/README.md", "app"),
    ("local/go.mod", "module example.com/local\n\ngo 1.22\n"),
    ("local/local.go", "package local\n\nconst Name = \"local\"\n"),
];

/// What a check is expected to say, with the files that a compilation is needed for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Current,
    Touched,
    ContentsOnly(&'static str),
    Stale(&'static str),
}

use Verdict::{ContentsOnly, Current, Stale, Touched};

fn assert_verdict(check: &Check, expect: Verdict, edit: &str) {
    let fits = match (check, expect) {
        (Check::Current, Current) | (Check::Touched, Touched) => true,
        (Check::ContentsOnly(paths), ContentsOnly(end)) => {
            paths.len() == 1 && paths[0].ends_with(end)
        }
        (Check::Stale(why), Stale(part)) => why.contains(part),
        _ => false,
    };
    assert!(fits, "after {edit}: {check:?}, expected {expect:?}");
}

/// Waits until the file system's clock has moved past every change so far.
fn settle(bench: &Bench) -> StartedAt {
    let stamp = || {
        let file = tempfile::NamedTempFile::new_in(bench.folder.path()).unwrap();
        let found = file.as_file().metadata().unwrap();
        (found.ctime(), found.ctime_nsec())
    };
    let before = stamp();
    while stamp() == before {
        std::hint::spin_loop();
    }
    StartedAt::now(&bench.builder.out_dir).unwrap()
}

async fn record_since(bench: &Bench, dir: &str, patterns: &[&str], since: &StartedAt) -> Record {
    let dir = bench.dir().join(dir);
    let packages = bench.list_in(&dir, patterns).await.unwrap();
    let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let platforms = [bench.platform.clone()];
    let trace = bench.builder.trace(&dir, &patterns, &packages, &platforms).await.unwrap();
    let inputs = Record::of(trace, since).unwrap();
    // What is kept is what was written down.
    serde_json::from_slice(&serde_json::to_vec(&inputs).unwrap()).unwrap()
}

async fn record(bench: &Bench, dir: &str, patterns: &[&str]) -> Record {
    let since = settle(bench);
    let inputs = record_since(bench, dir, patterns, &since).await;
    assert_eq!(inputs.check(), Check::Current);
    inputs
}

fn module() -> Bench {
    let bench = Bench::empty();
    for (path, text) in MODULE {
        bench.write(path, text);
    }
    bench
}

fn sh(bench: &Bench, script: &str) {
    let status = Command::new("sh").arg("-ec").arg(script).current_dir(bench.dir()).status();
    assert!(status.unwrap().success(), "{script}");
}

/// Applies each edit to a folder of its own and compares what the record says then.
async fn assert_edits(dir: &str, patterns: &[&str], edits: &[(&str, Verdict)]) {
    let bench = module();
    sh(&bench, "mkdir ../kept; cp -a . ../kept");
    for (edit, expect) in edits {
        sh(&bench, "find . -mindepth 1 -delete; rm -f ../go.work; cp -a ../kept/. .");
        let inputs = record(&bench, dir, patterns).await;
        sh(&bench, edit);
        assert_verdict(&inputs.check(), *expect, edit);
    }
}

#[tokio::test]
async fn edits_of_sources_are_seen_for_what_they_are() {
    let lib = "app/lib/lib.go";
    let edits = [
        ("true", Current),
        ("touch app/lib/lib.go", Touched),
        ("cp app/lib/lib.go x; mv x app/lib/lib.go", Touched),
        ("chmod 600 app/lib/lib.go", Touched),
        ("sed -i 's/asm()/asm() + \"!\"/' app/lib/lib.go", ContentsOnly(lib)),
        (
            "sed 's/local.Name/local.name/' app/lib/lib.go >x; cat x >app/lib/lib.go",
            ContentsOnly(lib),
        ),
        ("echo '// the end' >> app/lib/lib.go", ContentsOnly(lib)),
        ("echo 'syntax error' >> app/lib/lib.go", ContentsOnly(lib)),
        ("sed -i 's/true/false/' app/lib/lib_windows.go", ContentsOnly("app/lib/lib_windows.go")),
        ("sed -i 's/\"embed\"/_ \"fmt\"/' app/lib/lib.go", Stale("lib.go changed")),
        ("sed -i '1i //go:build linux\\n' app/lib/lib.go", Stale("lib.go changed")),
        ("sed -i 's/^package lib/package lob/' app/lib/lib.go", Stale("lib.go changed")),
        ("sed -i 's/embed tree/embed  tree/' app/lib/lib.go", Stale("lib.go changed")),
        ("printf '//go:embed x\\nvar x string\\n' >> app/lib/lib.go", Stale("lib.go changed")),
        ("echo 'package lib' > app/lib/new.go", Stale("app/lib has other files")),
        ("echo > app/lib/new_arm64.s", Stale("app/lib has other files")),
        ("rm app/lib/lib_windows.go", Stale("app/lib has other files")),
        ("mv app/lib/asm.go app/lib/asm_linux.go", Stale("app/lib has other files")),
        ("mv app/lib/asm.go app/lib/_asm.go", Stale("app/lib has other files")),
        ("mv app/lib app/bil", Stale("No such file")),
        ("echo 'package lib' > app/lib/new_test.go", Stale("app/lib has other files")),
        ("echo 'func TestX() {}' >> app/lib/lib_test.go", Touched),
        ("echo 'broken' > app/lib/lib_test.go", Stale("lib_test.go changed")),
        ("echo > app/lib/.lib.go.swp; echo > app/lib/lib.go~; echo > app/lib/_x.go", Touched),
        ("echo > app/lib/notes.txt; mkdir app/lib/sub", Touched),
        ("echo changed > app/README.md; echo > app/new.md", Current),
        ("echo > app/tool/tool.go", Current),
        ("sed -i 's/\"local\"/\"loc\"/' local/local.go", ContentsOnly("local/local.go")),
        ("echo > app/cmd/app/default.pgo", Stale("cmd/app has other files")),
    ];
    assert_edits("app", &["./cmd/app"], &edits).await;
}

#[tokio::test]
async fn edits_of_embedded_files_are_seen_for_what_they_are() {
    let edits = [
        ("echo 1 > app/cmd/app/notes/one.txt", ContentsOnly("notes/one.txt")),
        ("touch app/cmd/app/notes/one.txt", Touched),
        ("echo > app/cmd/app/notes/two.txt", Stale("notes has other files")),
        ("echo > app/cmd/app/notes/two.md; echo > app/cmd/app/notes/other.md", Touched),
        ("rm app/cmd/app/notes/one.txt", Stale("notes has other files")),
        ("mv app/cmd/app/notes x", Stale("cmd/app has other files")),
        ("cd app/cmd/app/notes; mv one.txt x; ln -s x one.txt", Stale("notes has other files")),
        ("echo x > app/lib/tree/a/b.txt", ContentsOnly("tree/a/b.txt")),
        ("echo x > app/lib/tree/a/c.txt", Stale("tree/a has other files")),
        ("mkdir app/lib/tree/a/c", Stale("tree/a has other files")),
        ("echo > app/lib/tree/a/go.mod", Stale("tree/a has other files")),
        ("echo > app/lib/tree/a/.swp; mkdir app/lib/tree/.git", Touched),
        ("echo > app/lib/every/.hidden", ContentsOnly("every/.hidden")),
        ("echo > app/lib/every/.more", Stale("every has other files")),
        ("mkdir app/lib/every/.git", Touched),
    ];
    assert_edits("app", &["./cmd/app"], &edits).await;
}

#[tokio::test]
async fn a_module_file_counts_wherever_it_has_a_say() {
    let edits = [
        ("touch app/go.mod", Touched),
        ("echo '// x' >> app/go.mod", Stale("app/go.mod changed")),
        ("echo > app/go.sum", Stale("app/go.sum changed")),
        ("echo '// x' >> local/go.mod", Stale("local/go.mod changed")),
        ("mkdir app/vendor; echo > app/vendor/modules.txt", Stale("modules.txt changed")),
        ("mkdir app/vendor", Current),
        ("echo 'go 1.22' > go.work", Stale("go.work changed")),
        ("echo 'go 1.22' > app/go.work", Stale("go.work changed")),
        ("echo 'go 1.22' > ../go.work", Stale("go.work changed")),
        ("echo 'module x' > app/lib/go.mod", Stale("app/lib/go.mod changed")),
        ("echo 'module x' > app/cmd/go.mod", Stale("cmd/go.mod changed")),
        ("echo 'module x' > go.mod", Current),
        ("rm app/go.mod", Stale("app/go.mod changed")),
    ];
    assert_edits("app", &["./cmd/app"], &edits).await;
}

#[tokio::test]
async fn a_wildcard_sees_new_programs_and_passes_over_what_no_program_needs() {
    let edits = [
        ("mkdir app/new; echo 'package main' > app/new/main.go", Stale("other files")),
        ("mkdir app/cmd/new", Stale("other files")),
        ("echo 'package cmd' > app/cmd/cmd.go", Stale("other files")),
        ("echo 'package main' > app/tool/tool.go", Stale("tool.go changed")),
        ("echo '// more' >> app/tool/tool.go", Touched),
        ("mkdir app/testdata app/_x app/.x app/vendor; echo > app/testdata/main.go", Touched),
        ("echo > app/lib/plain/more.md", Touched),
        ("sed -i 's/asm()/asm() + \"!\"/' app/lib/lib.go", ContentsOnly("lib.go")),
    ];
    assert_edits("app", &["./..."], &edits).await;
    assert_edits("app", &["example.com/app/..."], &edits[..2]).await;
    let narrow = [
        ("mkdir app/new; echo 'package main' > app/new/main.go", Current),
        ("mkdir app/cmd/new", Stale("other files")),
    ];
    assert_edits("app", &["./cmd/..."], &narrow).await;
}

#[tokio::test]
async fn an_import_path_may_become_a_folder() {
    let edits = [
        ("mkdir -p app/example.com/app/cmd/app", Stale("example.com/app/cmd/app changed")),
        ("true", Current),
    ];
    assert_edits("app", &["example.com/app/cmd/app"], &edits).await;
}

#[tokio::test]
async fn a_program_that_a_check_calls_current_is_what_go_would_build() {
    let bench = module();
    let inputs = record(&bench, "app", &["./cmd/app"]).await;
    let program = async || {
        let packages = bench.list_in(&bench.dir().join("app"), &["./cmd/app"]).await.unwrap();
        let built = bench.builder.compile(&packages, &bench.platform).await.unwrap();
        fs_err::read(&built.binaries[0].path).unwrap()
    };
    let before = program().await;
    sh(&bench, "touch app/lib/*; echo '// x' >> app/lib/lib_test.go; echo > app/cmd/app/notes/a");
    assert_verdict(&inputs.check(), Touched, "touching");
    assert!(program().await == before, "the program changed");
}

fn assert_hashes(built: &Built, when: &str) {
    for binary in &built.binaries {
        let hash = blake3::hash(&fs_err::read(&binary.path).unwrap());
        assert_eq!(binary.contents, Some(*hash.as_bytes()), "{when}: {}", binary.path.display());
    }
}

#[tokio::test]
async fn a_program_has_the_hash_of_its_bytes_compiled_left_alone_or_recalled() {
    // A build ID of the linker's making, and one that says nothing of the bytes.
    for ldflags in [Vec::new(), vec!["-buildid=same/same".to_owned()]] {
        let mut bench = Bench::new("multi");
        bench.builder.flags.ldflags = ldflags;
        let server = |text: &str| {
            let main = format!("package main\n\nfunc main() {{ println(\"{text}\") }}\n");
            bench.write("cmd/server/main.go", &main);
        };
        server("one");
        let packages = bench.list(&["./cmd/..."]).await.unwrap();
        let since = StartedAt::now(&bench.builder.out_dir).unwrap();
        let built = bench.builder.compile(&packages, &bench.platform).await.unwrap();
        assert_hashes(&built, "compiled");
        let inputs = record_since(&bench, ".", &["./cmd/..."], &since).await;
        let mut programs = built.programs.clone();
        drop(built);
        assert_hashes(&bench.builder.reuse(&packages, &programs).unwrap(), "recalled");
        for text in ["two", "two", "six"] {
            server(text);
            let since = StartedAt::now(&bench.builder.out_dir).unwrap();
            let recorded = Recorded::new(&inputs, since, &programs);
            let built = bench.builder.compile_recorded(&packages, &bench.platform, Some(&recorded));
            let built = built.await.unwrap();
            assert_hashes(&built, text);
            assert_eq!(go::output(&built.binaries[1].path), format!("{text}\n"));
            programs.clone_from(&built.programs);
        }
    }
}

/// Whether 2 GiB are free for each processor.
fn has_room() -> bool {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap();
    let free = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let free: u64 = free.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    free / std::thread::available_parallelism().unwrap().get() as u64 > 2 << 20
}

#[tokio::test]
async fn go_collects_less_garbage_where_little_is_compiled_again_and_nobody_says_how_often() {
    if !has_room() {
        eprintln!("skipped: there are no 2 GiB of memory for each processor");
        return;
    }
    let mut bench = Bench::new("multi");
    let (log, tool) = (bench.folder.path().join("log"), bench.folder.path().join("tool"));
    let script = format!("#!/bin/sh\necho \"$GOGC\" >> {}\nexec \"$@\"\n", log.display());
    fs_err::write(&tool, script).unwrap();
    fs_err::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    bench.builder.flags.flags = vec![format!("-toolexec={}", tool.display())];
    let packages = bench.list(&["./cmd/server"]).await.unwrap();
    let since = settle(&bench);
    let built = bench.builder.compile(&packages, &bench.platform).await.unwrap();
    let inputs = record_since(&bench, ".", &["./cmd/server"], &since).await;
    let mut text = 0;
    for (own, expected) in [(None, "400"), (Some("77"), "77")] {
        let read = fs_err::read_to_string(&log).unwrap();
        assert!(text > 0 || read.lines().all(str::is_empty), "at first: {read}");
        fs_err::remove_file(&log).unwrap();
        text += 1;
        let main = format!("package main\n\nfunc main() {{ println({text}) }}\n");
        bench.write("cmd/server/main.go", &main);
        bench.builder.flags.env.extend(own.map(|own| ("GOGC".to_owned(), own.to_owned())));
        let recorded = Recorded::new(&inputs, settle(&bench), &built.programs);
        let compiled = bench.builder.compile_recorded(&packages, &bench.platform, Some(&recorded));
        drop(compiled.await.unwrap());
        let read = fs_err::read_to_string(&log).unwrap();
        assert!(
            read.lines().all(|line| line == expected) && !read.is_empty(),
            "{expected}: {read}"
        );
    }
}

#[tokio::test]
async fn folders_of_others_are_looked_at_while_go_works() {
    let bench = Bench::empty();
    bench.write("go.mod", "module example.com/app\n\ngo 1.22\n\nrequire example.com/dep v1.0.0\n");
    let vendored = "# example.com/dep v1.0.0\n## explicit; go 1.22\nexample.com/dep\n";
    bench.write("vendor/modules.txt", vendored);
    let write = |dep: &str, main: &str| {
        let dep = format!("package dep\n\nconst Name = \"{dep}\"\n");
        bench.write("vendor/example.com/dep/dep.go", &dep);
        let main = format!(
            "package main\n\nimport \"example.com/dep\"\n\nfunc main() {{ println(dep.Name, {main}) }}\n"
        );
        bench.write("main.go", &main);
    };
    write("a", "1");
    let inputs = record(&bench, ".", &["."]).await;
    let packages = bench.list(&["."]).await.unwrap();
    bench.write(
        "main.go",
        &fs_err::read_to_string(bench.dir().join("main.go")).unwrap().replace('1', "2"),
    );
    for (is_other, expected) in [(false, "a 2\n"), (true, "b 3\n")] {
        if is_other {
            write("b", "3");
        }
        let since = settle(&bench);
        let check = inputs.check_before_compiling();
        assert!(matches!(&check, Check::ContentsOnly(paths) if paths.len() == 1), "{check:?}");
        let recorded = Recorded::new(&inputs, since, &[]);
        let built = bench.builder.compile_recorded(&packages, &bench.platform, Some(&recorded));
        let built = built.await.unwrap();
        assert_eq!(go::output(&built.binaries[0].path), expected);
        // Where they were others, go was asked what it reads.
        assert_eq!(built.traces.len(), usize::from(is_other));
    }
}

/// Writes two programs, of which `a` needs a vendored module.
fn write_vendored(sandbox: &Sandbox, main: u8, vendored: u8) {
    let module = "module ex.com/app\n\ngo 1.22\n\nrequire ex.com/v v1.0.0\n";
    sandbox.write("go.mod", module);
    let modules = "# ex.com/v v1.0.0\n## explicit; go 1.22\nex.com/v\n";
    sandbox.write("vendor/modules.txt", modules);
    sandbox.write("vendor/ex.com/v/x.go", "package v\n\nconst X = 1\n");
    let text = format!("package v\n\nconst Y = {vendored}\n");
    sandbox.write("vendor/ex.com/v/y.go", text);
    let text = format!(
        "package main\n\nimport \"ex.com/v\"\n\nfunc main() {{ println(v.X, v.Y, {main}) }}\n"
    );
    sandbox.write("cmd/a/main.go", text);
    sandbox.write("cmd/c/main.go", "package main\n\nfunc main() {}\n");
}

#[test]
fn a_change_of_ones_own_and_a_vendored_one_at_once_are_compiled_once() {
    let sandbox = Sandbox::new();
    let explained = |patterns: &[&str]| {
        let ran = sandbox.gondola(&[&["build", "--explain"], patterns].concat()).success();
        let lines = ran.stderr.lines().filter(|line| line.starts_with("explain: compile "));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        assert_eq!(lines.len(), patterns.len(), "{}", ran.stderr);
        lines
    };
    let both = ["./cmd/a", "./cmd/c"];
    let (first, own) = ("it is compiled for the first time", "cmd/a/main.go changed");
    let other = "a file in vendor/ex.com/v changed";
    let with_others = "nothing it is made of changed, and it is compiled together with others";
    let at_once = format!("{own}; {other}");
    for (main, vendored, why) in [
        (1, 1, [first, first]),
        (2, 2, [&at_once, with_others]),
        (2, 3, [other, with_others]),
        (3, 4, [&at_once, with_others]),
    ] {
        write_vendored(&sandbox, main, vendored);
        let made = explained(&both);
        for (made, why) in made.iter().zip(why) {
            let told = made.split_once(": executed: ").map(|(_, told)| told.to_owned());
            let place = format!("{}/", sandbox.work().display());
            assert_eq!(told.map(|told| told.replace(&place, "")).as_deref(), Some(why), "{made}");
        }
        let again = explained(&both);
        assert!(again.iter().all(|line| line.ends_with(": unchanged")), "{again:?}");
    }
}

#[tokio::test]
async fn an_edit_within_one_tick_and_of_the_same_length_is_not_missed() {
    let bench = module();
    let text = |value: usize| format!("package local\n\nconst Name = \"{value:05}\"\n");
    let mut missed = Vec::new();
    for round in 0..20 {
        bench.write("local/local.go", &text(round));
        let since = StartedAt::now(&bench.builder.out_dir).unwrap();
        let inputs = record_since(&bench, "app", &["./cmd/app"], &since).await;
        bench.write("local/local.go", &text(round + 50));
        if matches!(inputs.check(), Check::Current | Check::Touched) {
            missed.push(round);
        }
    }
    assert_eq!(missed, Vec::<usize>::new());
}

#[tokio::test]
async fn a_file_changed_while_it_is_compiled_makes_the_record_worthless() {
    for change in [
        "echo '// x' >> local/local.go",
        "touch app/cmd/app/main.go",
        "echo > app/lib/x.go; rm app/lib/x.go",
        "echo >> app/go.mod",
    ] {
        let bench = module();
        let since = settle(&bench);
        sh(&bench, change);
        let inputs = record_since(&bench, "app", &["./cmd/app"], &since).await;
        assert_verdict(&inputs.check(), Stale("while it was compiled"), change);
        let again = record(&bench, "app", &["./cmd/app"]).await;
        assert_eq!(again.check(), Check::Current);
    }
}

#[tokio::test]
async fn a_record_is_refreshed_without_asking_go() {
    let bench = module();
    let inputs = record(&bench, "app", &["./cmd/app"]).await;
    sh(&bench, "echo '// x' >> local/local.go; touch app/go.mod; echo 2 > app/lib/tree/a/b.txt");
    assert!(matches!(inputs.check(), Check::ContentsOnly(paths) if paths.len() == 2));
    let since = settle(&bench);
    let refreshed = inputs.refreshed(&since).unwrap();
    assert_eq!(refreshed.check(), Check::Current);
    assert_eq!(refreshed.packages(), inputs.packages());

    sh(&bench, "echo '// y' >> local/local.go");
    let late = refreshed.refreshed(&since).unwrap();
    assert_verdict(&late.check(), Stale("while it was compiled"), "a late edit");
    sh(&bench, "echo > app/lib/new.go");
    assert!(refreshed.refreshed(&settle(&bench)).is_none());
}

#[tokio::test]
async fn links_to_sources_are_followed() {
    let bench = module();
    sh(
        &bench,
        "mv app/lib/asm.go a.go; sed s/ret/ret/ a.go >b.go; ln -s ../../a.go app/lib/asm.go",
    );
    sh(&bench, "mv app/cmd real; ln -s ../real app/cmd; sed 's/\"\"/\"c\"/' a.go >c.go");
    let inputs = record(&bench, "app", &["./cmd/app"]).await;
    let link = bench.dir().join("app/lib/asm.go");
    for (target, expect) in
        [("b.go", Touched), ("c.go", ContentsOnly("asm.go")), ("gone.go", Stale("asm.go changed"))]
    {
        fs_err::remove_file(&link).unwrap();
        symlink(Path::new("../..").join(target), &link).unwrap();
        assert_verdict(&inputs.check(), expect, target);
    }
    sh(&bench, "ln -sf ../../a.go app/lib/asm.go; echo '// x' >> real/app/main.go");
    assert_verdict(&inputs.check(), ContentsOnly("app/main.go"), "an edit behind a link");
}

#[tokio::test]
async fn a_workspace_and_a_vendor_folder_are_part_of_the_record() {
    for (name, pattern, edits) in [
        (
            "workspace",
            "./app",
            &[
                ("sed -i s/hello/hi/ shared/shared.go", ContentsOnly("shared.go")),
                ("echo '// x' >> go.work", Stale("go.work changed")),
                ("echo > go.work.sum", Stale("go.work.sum changed")),
                ("echo '// x' >> shared/go.mod", Stale("shared/go.mod changed")),
                ("echo '// x' >> unused/go.mod", Stale("unused/go.mod changed")),
            ][..],
        ),
        (
            "vendored",
            ".",
            &[
                ("echo '// x' >> main.go", ContentsOnly("main.go")),
                ("echo '// x' >> vendor/github.com/google/uuid/uuid.go", Stale("google/uuid")),
                (
                    "echo 'package uuid' > vendor/github.com/google/uuid/new.go",
                    Stale("google/uuid"),
                ),
                ("echo '# x' >> vendor/modules.txt", Stale("modules.txt changed")),
                ("rm -r vendor", Stale("vendor")),
            ][..],
        ),
    ] {
        for (edit, expect) in edits {
            let bench = Bench::new(name);
            if name == "workspace" {
                sh(&bench, "mkdir unused; printf 'module unused\\n\\ngo 1.22\\n' > unused/go.mod");
                sh(&bench, "echo 'use ./unused' >> go.work");
            }
            let inputs = record(&bench, ".", &[pattern]).await;
            sh(&bench, edit);
            assert_verdict(&inputs.check(), *expect, edit);
        }
    }
}

#[tokio::test]
async fn a_workspace_that_is_named_or_turned_off_is_the_one_that_counts() {
    let mut bench = Bench::new("workspace");
    sh(
        &bench,
        "sed 's#\\./#/src/#' go.work > ../named.work; sed -i \"s#/src/#$PWD/#\" ../named.work",
    );
    sh(&bench, "rm go.work");
    let named = bench.folder.path().join("named.work");
    bench.builder.flags.env.insert("GOWORK".into(), named.display().to_string());
    let inputs = record(&bench, "app", &["."]).await;
    sh(&bench, "echo 'go 1.22' > go.work");
    assert_eq!(inputs.check(), Check::Current);
    sh(&bench, "echo '// x' >> ../named.work");
    assert_verdict(&inputs.check(), Stale("named.work changed"), "an edit of the workspace");

    bench.builder.flags.env.insert("GOWORK".into(), "off".into());
    bench.write("shared/cmd/main.go", "package main\n\nfunc main() {}\n");
    let inputs = record(&bench, "shared", &["./cmd"]).await;
    sh(&bench, "echo 'broken' > go.work");
    assert_eq!(inputs.check(), Check::Current);
}

#[tokio::test]
async fn the_toolchain_is_part_of_the_record() {
    let mut bench = Bench::new("hello");
    let real = bench.builder.toolchain.root().to_owned();
    // A toolchain of links, with a version and one package of its own.
    sh(&bench, "mkdir -p ../go/src ../go/bin ../go/pkg/tool");
    let root = bench.folder.path().join("go");
    let link = |name: &str| symlink(real.join(name), root.join(name)).unwrap();
    for entry in fs_err::read_dir(real.join("src")).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "errors" {
            link(&format!("src/{}", name.display()));
        }
    }
    for name in ["pkg/include", "lib"].into_iter().filter(|name| real.join(name).exists()) {
        link(name);
    }
    for name in ["VERSION", "go.env", "src/errors", "bin/go"] {
        copy(&real.join(name), &root.join(name));
    }
    for entry in fs_err::read_dir(real.join("pkg/tool")).unwrap() {
        let folder = entry.unwrap().file_name();
        sh(&bench, &format!("mkdir ../go/pkg/tool/{}", folder.display()));
        for tool in fs_err::read_dir(real.join("pkg/tool").join(&folder)).unwrap() {
            let tool = tool.unwrap().file_name();
            link(&format!("pkg/tool/{}/{}", folder.display(), tool.display()));
        }
    }
    let mut env = environment();
    env.insert("GOROOT".into(), root.display().to_string());
    bench.builder.toolchain = Toolchain::at(&root.join("bin/go"), &env, &bench.dir()).unwrap();
    assert_eq!(bench.builder.toolchain.root(), root);
    for (edit, expect) in [
        ("echo '// x' >> ../go/src/errors/errors.go", Stale("src/errors")),
        ("echo 'package errors' > ../go/src/errors/new.go", Stale("src/errors")),
        ("echo >> ../go/VERSION", Stale("VERSION changed")),
        ("echo '#' >> ../go/go.env", Stale("go.env changed")),
        ("touch ../go/bin/go", Stale("go/bin")),
        ("for d in ../go/pkg/tool/*; do rm $d/link; cp /bin/true $d/link; done", Stale("pkg/tool")),
    ] {
        let inputs = record(&bench, ".", &["."]).await;
        sh(&bench, edit);
        assert_verdict(&inputs.check(), expect, edit);
    }
}

#[tokio::test]
async fn what_only_go_can_know_is_left_to_it() {
    let mut bench = Bench::new("hello");
    for (flags, expect) in [
        (&["-toolexec=env"][..], Check::ContentsOnly(Vec::new())),
        (&["-buildvcs=false"], Check::ContentsOnly(Vec::new())),
        (&["-trimpath=true"], Check::Current),
    ] {
        bench.builder.flags.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let since = settle(&bench);
        let inputs = record_since(&bench, ".", &["."], &since).await;
        assert_eq!(inputs.check(), expect, "{flags:?}");
    }
    fs_err::write(bench.folder.path().join("overlay"), "{}").unwrap();
    bench.builder.flags.flags = vec!["-overlay=../overlay".to_owned()];
    let since = settle(&bench);
    let inputs = record_since(&bench, ".", &["."], &since).await;
    assert_verdict(&inputs.check(), Stale("cannot be listed"), "an overlay");
}

#[test]
fn another_request_has_another_key() {
    let bench = Bench::new("hello");
    let key = |builder: &gondola::golang::Builder, dir: &str, patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
        builder.request_key(Path::new(dir), &patterns, std::slice::from_ref(&bench.platform))
    };
    let base = key(&bench.builder, "/a", &["x"]);
    assert_eq!(key(&bench.builder, "/a", &["x"]), base);
    assert_ne!(key(&bench.builder, "/b", &["x"]), base);
    assert_ne!(key(&bench.builder, "/a", &["y"]), base);
    let mut tagged = bench.builder.clone();
    tagged.flags.tags.push("t".into());
    assert_ne!(key(&tagged, "/a", &["x"]), base);
    let mut quick = bench.builder.clone();
    quick.flags.jobs = Some(1);
    assert_eq!(key(&quick, "/a", &["x"]), base);
}

#[tokio::test]
async fn an_unreadable_folder_is_not_taken_for_an_unchanged_one() {
    let bench = Bench::new("hello");
    let inputs = record(&bench, ".", &["."]).await;
    fs_err::rename(bench.dir(), bench.folder.path().join("away")).unwrap();
    assert!(matches!(inputs.check(), Check::Stale(_)));
    copy(&fixture("hello"), &bench.dir());
    assert!(matches!(inputs.check(), Check::Touched));
    let closed = std::fs::Permissions::from_mode(0o000);
    fs_err::set_permissions(bench.dir().join("main.go"), closed).unwrap();
    // The mode alone changed, or, without root's rights, the file cannot be read.
    assert!(matches!(inputs.check(), Check::Touched | Check::Stale(_)));
}

#[tokio::test]
async fn every_platform_of_a_build_is_part_of_its_record() {
    let bench = module();
    bench.write("app/lib/lib_windows.go", "package lib\n\nimport _ \"example.com/app/win\"\n");
    bench.write("app/win/win.go", "package win\n");
    let dir = bench.dir().join("app");
    let patterns = ["./cmd/app".to_owned()];
    let packages = bench.list_in(&dir, &["./cmd/app"]).await.unwrap();
    for (platforms, expect) in [
        (&["linux/amd64"][..], Current),
        (&["linux/amd64", "windows/amd64"], ContentsOnly("win/win.go")),
    ] {
        bench.write("app/win/win.go", "package win\n");
        let since = settle(&bench);
        let platforms: Vec<_> = platforms.iter().map(|text| text.parse().unwrap()).collect();
        let trace = bench.builder.trace(&dir, &patterns, &packages, &platforms).await.unwrap();
        let inputs = Record::of(trace, &since).unwrap();
        assert_eq!(inputs.check(), Check::Current);
        bench.write("app/win/win.go", "package win\n\nvar X = 1\n");
        assert_verdict(&inputs.check(), expect, "an edit for windows");
    }
}

/// An archive of uncompressed files, as module proxies serve them.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        let (name_len, size) =
            (u16::try_from(name.len()).unwrap(), u32::try_from(text.len()).unwrap());
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        common.extend(name_len.to_le_bytes());
        common.extend([0, 0]);
        directory.extend([b"PK\x01\x02\x14\x00".as_slice(), &common, &[0; 10]].concat());
        directory.extend(u32::try_from(archive.len()).unwrap().to_le_bytes());
        directory.extend(name.as_bytes());
        archive.extend([b"PK\x03\x04".as_slice(), &common, name.as_bytes()].concat());
        archive.extend(text.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let end = [u32::try_from(directory.len()).unwrap(), u32::try_from(archive.len()).unwrap()];
    archive.extend(&directory);
    archive.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count].concat());
    archive.extend(end.map(u32::to_le_bytes).concat());
    archive.extend([0, 0]);
    archive
}

#[tokio::test]
async fn the_module_cache_is_part_of_the_record() {
    let mut bench = Bench::empty();
    let folder = bench.folder.path().to_owned();
    let proxy = folder.join("proxy/example.com/dep/@v");
    let module = "module example.com/dep\n\ngo 1.22\n";
    let archive = zip(&[
        ("example.com/dep@v1.0.0/go.mod", module),
        ("example.com/dep@v1.0.0/dep.go", "package dep\n\nconst Name = \"dep\"\n"),
    ]);
    fs_err::create_dir_all(&proxy).unwrap();
    fs_err::write(proxy.join("v1.0.0.info"), "{\"Version\":\"v1.0.0\"}").unwrap();
    fs_err::write(proxy.join("v1.0.0.mod"), module).unwrap();
    fs_err::write(proxy.join("v1.0.0.zip"), archive).unwrap();
    bench.write("go.mod", "module example.com/app\n\ngo 1.22\n\nrequire example.com/dep v1.0.0\n");
    let main = "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Name) }\n";
    bench.write("main.go", main);
    let text = bench.failure(&["."]).await;
    assert!(text.contains("missing go.sum entry"), "{text}");

    let mut env = environment();
    let cache = folder.join("modules");
    for (key, value) in [
        ("GOPROXY", format!("file://{}", folder.join("proxy").display())),
        ("GOSUMDB", "off".to_owned()),
        ("GOMODCACHE", cache.display().to_string()),
    ] {
        env.insert(key.to_owned(), value);
    }
    bench.builder.toolchain = Toolchain::find(&env, &bench.dir()).unwrap();
    // The modules are fetched and go.sum is written while the record's build runs.
    bench.builder.flags.flags = vec!["-mod=mod".to_owned(), "-modcacherw".to_owned()];
    let since = settle(&bench);
    assert_eq!(bench.build_and_run(".").await, "dep\n");
    let inputs = record_since(&bench, ".", &["."], &since).await;
    assert_verdict(&inputs.check(), Stale("go.sum changed while"), "fetching a module");

    for (edit, expect) in [
        ("echo '// x' >> ../modules/example.com/dep@v1.0.0/dep.go", Stale("dep@v1.0.0")),
        ("rm -r ../modules", Stale("dep@v1.0.0")),
    ] {
        let inputs = record(&bench, ".", &["."]).await;
        sh(&bench, edit);
        assert_verdict(&inputs.check(), expect, edit);
    }
}
