//! Go packages through the host's own `go`: which are found, what is compiled, what goes wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "support/go.rs"]
mod go;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use go::{Bench, copy, environment, fixture, output};
use gondola::engine::materials::ToolchainOrigin;
use gondola::error::ErrorKind;
use gondola::golang::{BuildFlags, BuildInfo, Built, Package, Toolchain, build_id, checkout};
use gondola::oci::{Digest, Platform};
use gondola::pipeline::{
    self, BaseChoice, BuildContext, Caches, Grouping, ImageSettings, Outputs, Packaging, Programs,
    Request, Settings, Source, Target, ToolchainChoice,
};
use gondola::progress::{Event, Progress, Reporter};
use gondola::registry::{Client, Options};
use gondola::sandbox::{IsolationRequest, Launcher};
use gondola::store::Store;
use gondola::transport::Context;

fn import_paths(packages: &[Package]) -> Vec<&str> {
    packages.iter().map(|package| package.import_path.as_str()).collect()
}

#[tokio::test]
async fn packages_are_found_by_folder_import_path_and_wildcard() {
    let bench = Bench::new("multi");
    let server = "example.com/multi/cmd/server";
    let absolute = bench.dir().join("cmd/server");
    for pattern in [
        "./cmd/server",
        "cmd/server",
        server,
        "ko://example.com/multi/cmd/server",
        "ko://./cmd/server",
        absolute.to_str().unwrap(),
    ] {
        let packages = bench.list(&[pattern]).await.unwrap();
        assert_eq!(import_paths(&packages), [server], "{pattern}");
        assert_eq!(packages[0].program_name(), "server");
        assert_eq!(packages[0].module.as_deref(), Some("example.com/multi"));
    }
    let all = bench.list(&["./...", "./cmd/server"]).await.unwrap();
    assert_eq!(
        import_paths(&all),
        [
            "example.com/multi/agent/v2",
            "example.com/multi/cmd/client",
            server,
            "example.com/multi/tools/server",
        ]
    );
    assert_eq!(all[0].program_name(), "agent");
}

#[tokio::test]
async fn a_folder_in_another_module_is_found_from_outside_of_it() {
    let bench = Bench::empty();
    fs_err::create_dir(bench.dir()).unwrap();
    for name in ["hello", "multi"] {
        copy(&fixture(name), &bench.dir().join(name));
    }
    let packages = bench.list(&["hello", "./multi/cmd/..."]).await.unwrap();
    assert_eq!(
        import_paths(&packages),
        ["example.com/hello", "example.com/multi/cmd/client", "example.com/multi/cmd/server"]
    );
    let from_a_module = bench.list_in(&bench.dir().join("multi"), &["../hello"]).await.unwrap();
    assert_eq!(import_paths(&from_a_module), ["example.com/hello"]);
}

#[tokio::test]
async fn programs_of_one_module_are_built_together_even_with_equal_names() {
    let bench = Bench::new("multi");
    let built = bench.build(&["./..."]).await.unwrap();
    let printed: Vec<String> =
        built.binaries.iter().map(|binary| output(&binary.path).trim().to_owned()).collect();
    let expect = ["agent/v2", "cmd/client", "cmd/server", "tools/server"];
    assert_eq!(printed, expect.map(|name| format!("hello from {name}")));
    for binary in &built.binaries {
        assert_eq!(binary.path.file_name().unwrap(), binary.package.program_name());
        assert_eq!(binary.size, fs_err::metadata(&binary.path).unwrap().len());
    }
}

#[tokio::test]
async fn workspaces_and_vendored_dependencies_build_offline() {
    for (name, pattern, expect) in [
        ("workspace", "./app", "hello from a workspace\n"),
        ("vendored", ".", "4916f76b-ae58-54a2-ba09-5f7364f23376\n"),
    ] {
        assert_eq!(Bench::new(name).build_and_run(pattern).await, expect);
    }
}

#[tokio::test]
async fn an_unchanged_program_is_not_linked_again() {
    let bench = Bench::new("multi");
    let inode = |built: &Built| fs_err::metadata(&built.binaries[0].path).unwrap().ino();
    let first = bench.build(&["./cmd/server"]).await.unwrap();
    let before = inode(&first);
    drop(first);
    let again = bench.build(&["./cmd/server", "./cmd/client", "./tools/server"]).await.unwrap();
    assert_eq!(inode(&again), before);
    drop(again);
    bench.write("cmd/server/main.go", "package main\n\nfunc main() { println(\"new\") }\n");
    let changed = bench.build(&["./cmd/server"]).await.unwrap();
    assert_ne!(inode(&changed), before);
    assert_eq!(output(&changed.binaries[0].path), "new\n");
}

#[tokio::test]
async fn a_kept_program_is_recalled_while_it_is_the_same() {
    let bench = Bench::new("multi");
    let packages = bench.list(&["./cmd/..."]).await.unwrap();
    let built = bench.builder.compile(&packages, &bench.platform).await.unwrap();
    let programs = built.programs.clone();
    drop(built);
    let recalled = bench.builder.reuse(&packages, &programs).unwrap();
    assert_eq!(output(&recalled.binaries[1].path), "hello from cmd/server\n");
    assert_eq!(recalled.binaries[1].path.file_name().unwrap(), "server");
    // Building the same again moves the time of the program, and nothing else.
    drop(bench.builder.compile(&packages, &bench.platform).await.unwrap());
    assert!(bench.builder.reuse(&packages, &programs).is_some());

    bench.write("cmd/server/main.go", "package main\n\nfunc main() { println(\"new\") }\n");
    drop(bench.build(&["./cmd/server"]).await.unwrap());
    assert!(bench.builder.reuse(&packages, &programs).is_none());
    assert!(bench.builder.reuse(&packages[..1], &programs[..1]).is_some());
}

#[tokio::test]
async fn a_program_survives_while_another_process_builds_a_newer_one() {
    let bench = Bench::new("hello");
    let old = bench.build(&["."]).await.unwrap();
    bench.write("main.go", "package main\n\nfunc main() { println(\"new\") }\n");
    let new = bench.build(&["."]).await.unwrap();
    assert_eq!(output(&old.binaries[0].path), "hello from gondola\n");
    assert_eq!(output(&new.binaries[0].path), "new\n");
    let path = old.binaries[0].path.clone();
    drop(old);
    assert!(!path.exists());
}

#[tokio::test]
async fn equal_builds_at_once_do_not_disturb_each_other() {
    let bench = Bench::new("hello");
    let builds = (0..4).map(|_| bench.build(&["."]));
    for built in futures_util::future::join_all(builds).await {
        assert_eq!(output(&built.unwrap().binaries[0].path), "hello from gondola\n");
    }
}

#[tokio::test]
async fn the_folder_the_umask_and_the_locale_do_not_change_a_program() {
    let mut seen = Vec::new();
    for (depth, tz, umask) in [("a", "UTC", "022"), ("b/c/d", "Asia/Tokyo", "077")] {
        let mut bench = Bench::empty();
        let dir = bench.folder.path().join(depth);
        let status = Command::new("sh")
            .args(["-c", "umask $1; mkdir -p $3; cp -r $2/. $3", "sh", umask])
            .args([&fixture("vendored"), &dir])
            .status();
        assert!(status.unwrap().success());
        let mut env = environment();
        let home = bench.folder.path().display().to_string();
        for (key, value) in [
            ("TZ", tz),
            ("LC_ALL", depth),
            ("GOFLAGS", "-ldflags=-s"),
            ("GOAMD64", "v3"),
            ("CGO_ENABLED", if depth == "a" { "1" } else { "0" }),
            ("TMPDIR", &home),
            ("GOPATH", &home),
        ] {
            env.insert(key.into(), value.into());
        }
        bench.builder.toolchain = Toolchain::find(&env, &dir).unwrap();
        let packages = bench.list_in(&dir, &["."]).await.unwrap();
        let built = bench.builder.compile(&packages, &bench.platform).await.unwrap();
        seen.push(fs_err::read(&built.binaries[0].path).unwrap());
    }
    assert!(seen[0] == seen[1], "two programs from equal sources differ");
}

#[tokio::test]
async fn a_platform_and_flags_reach_the_compiler() {
    let mut bench = Bench::new("hello");
    bench.write("main.go", "package main\n\nvar v = \"unset\"\n\nfunc main() { println(v) }\n");
    bench.write("other.go", "//go:build extra\n\npackage main\n\nfunc init() { println(1) }\n");
    bench.builder.flags.ldflags = vec!["-s".into(), "-X main.v=set".into()];
    bench.builder.flags.tags = vec!["extra".into()];
    assert_eq!(bench.build_and_run(".").await, "1\nset\n");

    bench.platform = "windows/arm64".parse().unwrap();
    let built = bench.build(&["."]).await.unwrap();
    assert_eq!(built.binaries[0].path.file_name().unwrap(), "hello.exe");
    assert!(fs_err::read(&built.binaries[0].path).unwrap().starts_with(b"MZ"));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_go_with_the_package_and_the_next_move() {
    for (fixture, pattern, expect) in [
        ("multi", "example.com/nothing", "example.com/nothing"),
        ("multi", "nothing", "package nothing is not in std"),
        ("multi", "nothing", "hint: write a folder as ./folder"),
        ("multi", "./nothing", "directory not found; hint: check the folder"),
        ("multi", "./cmd", "no Go files in"),
        ("multi", "./greeting", "is not a main package"),
        ("multi", "./greeting/...", "no main package matches"),
        ("broken/module", ".", "go.mod:3: unknown directive: this"),
        ("broken/module", ".", "hint: correct the file"),
        ("broken/syntax", ".", "cannot compile example.com/syntax for linux/"),
        ("broken/syntax", ".", "main.go:3:15: undefined: undefinedName"),
    ] {
        let text = Bench::new(fixture).failure(&[pattern]).await;
        assert!(text.contains(expect), "{fixture} {pattern}: {text}");
    }
    let bench = Bench::empty();
    bench.write("main.go", "package main\n\nimport _ \"example.com/outside\"\n\nfunc main() {}\n");
    let text = bench.failure(&["."]).await;
    assert!(text.contains("example.com/outside") && text.contains("go mod init"), "{text}");
    bench.write("go.mod", "module x\n\ngo 1.999\n");
    let text = bench.failure(&["."]).await;
    assert!(text.contains("requires go >= 1.999") && text.contains("GOTOOLCHAIN=auto"), "{text}");
    let gone = bench.folder.path().join("gone");
    let error = bench.list_in(&gone, &["."]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_failed_build_leaves_no_program() {
    let bench = Bench::new("broken/syntax");
    bench.failure(&["."]).await;
    let runs = fs_err::read_dir(&bench.builder.out_dir).unwrap().filter_map(std::io::Result::ok);
    let names: Vec<_> = runs.map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["kept"]);
}

#[tokio::test]
async fn a_program_says_what_it_was_built_from() {
    let bench = Bench::new("vendored");
    let built = bench.build(&["."]).await.unwrap();
    let info = BuildInfo::read(&built.binaries[0].path).unwrap().unwrap();
    assert_eq!(info.path, "example.com/vendored");
    assert_eq!(info.main.as_ref().unwrap().path, "example.com/vendored");
    assert_eq!(info.dependencies[0].module.path, "github.com/google/uuid");
    assert_eq!(info.dependencies[0].module.version, "v1.6.0");

    let mut bench = Bench::new("hello");
    bench.write("main.go", "package main\n\nfunc main() { println() }\n");
    let go = bench.builder.toolchain.program().to_owned();
    for platform in ["linux/amd64", "linux/s390x", "windows/amd64", "darwin/arm64"] {
        bench.platform = platform.parse().unwrap();
        let built = bench.build(&["."]).await.unwrap();
        let path = &built.binaries[0].path;
        let info = BuildInfo::read(path).unwrap().unwrap();
        assert_eq!(info.go_version, bench.builder.toolchain.version());
        let (os, architecture) = platform.split_once('/').unwrap();
        assert_eq!(info.setting("GOOS"), Some(os));
        assert_eq!(info.setting("GOARCH"), Some(architecture));
        assert_eq!(info.setting("CGO_ENABLED"), Some("0"));
        assert_eq!(info.setting("vcs.revision"), None);

        let printed = Command::new(&go).args(["tool", "buildid"]).arg(path).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        assert_eq!(build_id(path).unwrap().as_deref(), Some(printed.trim()), "{platform}");
    }
    let text = bench.dir().join("go.mod");
    assert_eq!(BuildInfo::read(&text).unwrap(), None);
    assert_eq!(build_id(&text).unwrap(), None);
}

#[test]
fn the_revision_is_the_one_that_git_names() {
    let bench = Bench::new("hello");
    let git = |arguments: &str| {
        let output = Command::new("git")
            .args("-c user.name=t -c user.email=t@example.com".split(' '))
            .args(arguments.split(' '))
            .current_dir(bench.dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git("init -q");
    assert_eq!(checkout(&bench.dir()), None);
    git("add .");
    git("commit -q -m first");
    git("remote add origin https://token@git.example.com/a/hello.git");
    for step in [
        "status",
        "gc -q",
        "checkout -q -b side/branch",
        "commit -q --allow-empty -m x",
        "checkout -q --detach",
        "worktree add -q ../tree HEAD~1",
    ] {
        git(step);
        let found = checkout(&bench.dir()).unwrap();
        assert_eq!(found.revision, git("rev-parse HEAD"), "after git {step}");
        assert_eq!(found.source.as_deref(), Some("https://git.example.com/a/hello"));
    }
    let tree = checkout(&bench.folder.path().join("tree")).unwrap();
    assert_eq!(tree.revision, git("rev-parse HEAD~1"));
    assert_eq!(tree.source.as_deref(), Some("https://git.example.com/a/hello"));
}

#[tokio::test]
async fn the_vcs_stamp_is_there_when_it_is_asked_for() {
    let mut bench = Bench::new("hello");
    let script = "git init -q; git add .; \
                  git -c user.name=t -c user.email=t@example.com commit -q -m x";
    let status = Command::new("sh").args(["-ec", script]).current_dir(bench.dir()).status();
    assert!(status.unwrap().success());
    for stamp in [false, true] {
        bench.builder.flags.vcs_stamp = stamp;
        let built = bench.build(&["."]).await.unwrap();
        let info = BuildInfo::read(&built.binaries[0].path).unwrap().unwrap();
        let expect = stamp.then(|| checkout(&bench.dir()).unwrap().revision);
        assert_eq!(info.setting("vcs.revision"), expect.as_deref());
    }
}

#[tokio::test]
async fn c_code_is_compiled_when_it_is_asked_for() {
    if Command::new("gcc").arg("--version").output().is_err() {
        eprintln!("skipped c_code_is_compiled_when_it_is_asked_for: there is no gcc");
        return;
    }
    let mut seen = Vec::new();
    for folder in ["a", "b/c"] {
        let mut bench = Bench::empty();
        let main = "package main\n\n// static int answer(void) { return 42; }\n\
                    import \"C\"\n\nfunc main() { println(C.answer()) }\n";
        bench.write(&format!("{folder}/main.go"), main);
        bench.write(&format!("{folder}/go.mod"), "module example.com/c\n\ngo 1.22\n");
        let dir = bench.dir().join(folder);
        let without =
            bench.list_in(&dir, &["."]).await.map(|packages| import_paths(&packages).len());
        let text = without.unwrap_err().to_string();
        assert!(text.contains("build constraints exclude all Go files"), "{text}");
        assert!(text.contains("CGO_ENABLED=1"), "{text}");

        bench.builder.flags.cgo = true;
        let packages = bench.list_in(&dir, &["."]).await.unwrap();
        let built = bench.builder.compile(&packages, &bench.platform).await.unwrap();
        assert_eq!(output(&built.binaries[0].path), "42\n");
        seen.push(fs_err::read(&built.binaries[0].path).unwrap());
    }
    assert!(seen[0] == seen[1], "two programs from equal sources differ");
}

/// Tells when `go` reports a download.
struct Notes(Mutex<tokio::sync::mpsc::UnboundedSender<String>>);

impl Progress for Notes {
    fn event(&self, event: Event) {
        if let Event::Note(text) = event {
            self.0.lock().unwrap().send(text).unwrap();
        }
    }
}

#[tokio::test]
async fn an_abandoned_build_interrupts_go() {
    let mut bench = Bench::new("hello");
    let root = bench.folder.path().join("go");
    let ended = bench.folder.path().join("ended");
    fs_err::create_dir_all(root.join("bin")).unwrap();
    fs_err::create_dir_all(root.join("pkg/tool")).unwrap();
    fs_err::write(root.join("VERSION"), "go1.99\n").unwrap();
    let status = Command::new("mkfifo").arg(&ended).status().unwrap();
    assert!(status.success());
    let script = format!(
        "#!/usr/bin/env -S --default-signal=INT /bin/sh\ntrap 'echo interrupted > {}; exit 1' INT\n\
         [ $1 = build ] || exit 0\n\
         echo 'go: downloading example.com/x v1.0.0' >&2\nwhile :; do sleep 0.01; done\n",
        ended.display()
    );
    let go = root.join("bin/go");
    // Written by another process: a child of another test's would hold it open for a moment.
    let text = root.join("text");
    fs_err::write(&text, script).unwrap();
    let mut install = Command::new("install");
    assert!(install.args(["-m", "755"]).args([&text, &go]).status().unwrap().success());

    let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
    bench.builder.reporter = Reporter::new(Arc::new(Notes(Mutex::new(sender))));
    bench.builder.toolchain = Toolchain::at(&go, &environment(), &bench.dir()).unwrap();
    let package = Package {
        import_path: "example.com/hello".to_owned(),
        folder: bench.dir(),
        workdir: bench.dir(),
        module: None,
        files: Vec::new(),
    };
    tokio::select! {
        built = bench.builder.compile(std::slice::from_ref(&package), &bench.platform) => {
            panic!("go ended by itself: {built:?}")
        }
        note = notes.recv() => {
            assert_eq!(note.as_deref(), Some("go: downloading example.com/x v1.0.0"));
        }
    }
    let said = tokio::task::spawn_blocking(move || fs_err::read_to_string(ended).unwrap());
    assert_eq!(said.await.unwrap(), "interrupted\n");
    let left: Vec<PathBuf> = fs_err::read_dir(&bench.builder.out_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("kept"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What says how an image of `./cmd/server` of a folder is built, and with what.
fn request(folder: PathBuf, variables: &BTreeMap<String, String>) -> (BuildContext, Request) {
    let transport = Context {
        store: Store::open(&folder.join("../store")).unwrap(),
        client: Client::new(Options::default()).unwrap(),
        reporter: Reporter::silent(),
        host: Platform::host(),
        jobs: 1,
    };
    let launcher = Launcher::new(&variables["PATH"]);
    let (variables, programs) = (variables.clone(), folder.join("../programs"));
    let context = BuildContext { transport, variables, programs, launcher, cores: 2 };
    let settings = Settings {
        base: BaseChoice::Static,
        packaging: Packaging::default(),
        toolchain: ToolchainChoice::Host,
        go: BuildFlags::default(),
        image: ImageSettings::default(),
    };
    let patterns = vec!["./cmd/server".to_owned()];
    let target = Target { patterns, prebuilt: Vec::new(), grouping: Grouping::Separate, settings };
    let programs = Programs { folder, targets: vec![target], overrides: Vec::new(), created: 0 };
    let caches = Caches {
        off: false,
        off_by: None,
        longest_age: None,
        pull: false,
        explain: false,
        scope: None,
        are_shared: true,
    };
    let source = Source::GoPackages(programs);
    let isolation = IsolationRequest::default();
    (context, Request { source, caches, isolation, outputs: Outputs::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_materials_of_an_image_are_its_toolchain_revision_and_modules() {
    let bench = Bench::new("multi");
    let folder = fs_err::canonicalize(bench.dir()).unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e@example.com"]).args(arguments);
        let ran = git.current_dir(&folder).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "m"]);
    let commit = git(&["rev-parse", "HEAD"]);
    fs_err::write(folder.join("go.sum"), "").unwrap();
    let variables = environment();
    let (context, request) = request(folder.clone(), &variables);
    let published = pipeline::build(&context, request.clone(), None).await.unwrap();
    let [image] = &published[..] else { panic!("{published:?}") };
    let materials = &image.materials();
    assert_eq!(materials.revision.as_ref().unwrap().revision, commit);
    let toolchain = materials.toolchain.as_ref().unwrap();
    assert_eq!(toolchain.version, Toolchain::find(&variables, &folder).unwrap().version());
    assert_eq!(toolchain.origin, ToolchainOrigin::Host("go".to_owned()));
    let modules = BTreeMap::from([("example.com/multi".to_owned(), Some(Digest::of(b"")))]);
    assert_eq!(materials.modules, modules);
    assert!(materials.caches.contains("Go's caches") && materials.bases.is_empty());
    let sources = materials.contexts["local:src"].clone();
    let text = serde_json::to_string(materials).unwrap();
    assert!(!text.contains(folder.parent().unwrap().to_str().unwrap()), "{text}");
    // A build that finds everything knows as much.
    let again = pipeline::build(&context, request.clone(), None).await.unwrap();
    let told = |published: &[pipeline::Published]| -> Vec<_> {
        published.iter().map(|image| (image.pinned.clone(), image.materials())).collect()
    };
    assert_eq!(told(&again), told(&published));
    // What no compiler reads changes nothing; what one reads does.
    fs_err::write(folder.join("NOTES"), "x").unwrap();
    let noted = pipeline::build(&context, request.clone(), None).await.unwrap();
    assert_eq!(noted[0].materials().contexts["local:src"], sources);
    let source = folder.join("greeting/greeting.go");
    let text = fs_err::read_to_string(&source).unwrap();
    fs_err::write(&source, format!("{text}\n// changed\n")).unwrap();
    let edited = pipeline::build(&context, request.clone(), None).await.unwrap();
    assert_ne!(edited[0].materials().contexts["local:src"], sources);
    fs_err::write(&source, text).unwrap();
    let back = pipeline::build(&context, request, None).await.unwrap();
    assert_eq!(back[0].materials().contexts["local:src"], sources);
}
