//! The main job: a Go package becomes an image.

#![cfg(test)]

mod support;

use fs_err as fs;
use serde_json::Value;
use support::{BaseImage, Registry, Run, Sandbox, Stored, go, need, program, run};

/// Builds with `arguments` and reads the layout that comes out.
fn build(sandbox: &Sandbox, arguments: &[&str]) -> Stored {
    let mut all = vec!["build", "-o", "oci:out:t"];
    all.extend(arguments);
    sandbox.gondola(&all).success();
    Stored::folder(&sandbox.path("out"))
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn a_package_becomes_an_image_on_the_built_in_base() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let image = build(&sandbox, &["./hello"]).image(Some("t"));

    let config = &image.config["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/hello"]));
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Cmd"], Value::Null);
    assert!(texts(&config["Env"]).iter().any(|entry| entry.starts_with("PATH=")), "{config}");
    assert_eq!(image.config["created"], "1970-01-01T00:00:00Z");

    let binary = image.entry("usr/local/bin/hello").unwrap();
    assert_eq!((binary.mode, binary.uid, binary.gid, binary.mtime), (0o755, 0, 0, 0));
    assert!(image.entry("etc/ssl/certs/ca-certificates.crt").is_some());
    assert!(image.entry("usr/share/zoneinfo/Europe/Berlin").is_some());
    assert_eq!(image.entry("tmp").unwrap().mode, 0o1777);

    let made_by: Vec<&str> = image.config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["created_by"].as_str().unwrap())
        .collect();
    assert_eq!(made_by, ["gondola build static base", "gondola build example.com/hello"]);
}

#[test]
fn a_package_says_why_it_is_compiled_again() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let explained = || {
        let ran = sandbox.gondola(&["build", "--explain", "-o", "oci:out:t", "./hello"]).success();
        let line = ran.stderr.lines().find(|line| line.starts_with("explain: compile hello"));
        line.unwrap_or_else(|| panic!("{}", ran.stderr)).split_once(": ").unwrap().1.to_owned()
    };
    assert!(explained().ends_with("executed: it is compiled for the first time"));
    assert!(explained().ends_with("found in the store: unchanged"));
    let file = sandbox.path("hello/main.go");
    let file = if file.exists() { file } else { sandbox.path("main.go") };
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("hi", "ho")).unwrap();
    let why = explained();
    assert!(why.ends_with("main.go changed"), "{why}");
}

/// Why the package `hello` is compiled, as `--explain` says it.
#[track_caller]
fn why_compiled(sandbox: &Sandbox, more: &[&str]) -> String {
    let arguments = ["build", "--explain", "-o", "oci:out:t", "./hello"];
    let ran = sandbox.gondola(&[&arguments, more].concat()).success();
    let line = ran.stderr.lines().find(|line| line.starts_with("explain: compile hello"));
    let line = line.unwrap_or_else(|| panic!("{}", ran.stderr));
    line.rsplit_once("executed: ").unwrap_or_else(|| panic!("{line}")).1.to_owned()
}

#[test]
fn each_package_says_for_itself_why_it_is_compiled() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.write("go.mod", "module example.com/m\n\ngo 1.21\n");
    let main = |name: &str, of: &str, text: &str| {
        let needed = format!("import \"example.com/m/{of}\"\n\nvar _ = {of}.Name");
        let text = format!("package main\n\n{needed}\n\nfunc main() {{ println(\"{text}\") }}\n");
        sandbox.write(&format!("cmd/{name}/main.go"), text);
    };
    let library = |name: &str, imports: &str, value: u8| {
        let text = format!("package {name}\n\n{imports}\n\nconst Name = {value}\n");
        sandbox.write(&format!("{name}/{name}.go"), text);
    };
    main("one", "base", "1");
    main("two", "above", "2");
    library("base", "", 1);
    library("above", "import \"example.com/m/base\"\n\nvar _ = base.Name", 1);
    let explained = |patterns: &[&str]| {
        let arguments = ["build", "--explain"];
        let ran = sandbox.gondola(&[&arguments, patterns].concat()).success();
        let why = |name: &str| {
            let begin = format!("explain: compile {name} for ");
            let line = ran.stderr.lines().find(|line| line.starts_with(&begin));
            let line = line.unwrap_or_else(|| panic!("{}", ran.stderr));
            line.splitn(3, ": ").nth(2).unwrap().to_owned()
        };
        [why("one"), why("two")]
    };
    let both = &["./cmd/one", "./cmd/two"][..];
    let first = "executed: it is compiled for the first time";
    let others = "executed: nothing it is made of changed, and it is compiled together with others";
    assert_eq!(explained(both), [first, first]);
    main("one", "base", "3");
    assert_eq!(explained(both), ["executed: cmd/one/main.go changed", others]);
    // By what is known without asking go again.
    main("two", "above", "4");
    assert_eq!(explained(both), [others, "executed: cmd/two/main.go changed"]);
    library("above", "import \"example.com/m/base\"\n\nvar _ = base.Name", 2);
    assert_eq!(explained(both), [others, "executed: above/above.go changed"]);
    library("base", "", 2);
    let changed = "executed: base/base.go changed";
    assert_eq!(explained(both), [changed, changed]);
    assert_eq!(explained(both), ["found in the store: unchanged"; 2]);
}

/// A package that needs a vendored module of this version.
fn module_that_needs(sandbox: &Sandbox, version: &str) {
    let module = "module example.com/hello\n\ngo 1.21\n\nrequire example.com/dep";
    sandbox.write("hello/go.mod", format!("{module} {version}\n"));
    let list = format!("# example.com/dep {version}\n## explicit; go 1.21\nexample.com/dep\n");
    sandbox.write("hello/vendor/modules.txt", list);
}

#[test]
fn a_package_says_which_flag_variable_or_module_changed_and_no_value() {
    need!(go());
    let sandbox = Sandbox::new();
    module_that_needs(&sandbox, "v1.0.0");
    sandbox.write("hello/vendor/example.com/dep/dep.go", "package dep\n\nconst Name = 1\n");
    let main = "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Name) }\n";
    sandbox.write("hello/main.go", main);
    let why = |more: &[&str]| why_compiled(&sandbox, more);
    assert_eq!(why(&[]), "it is compiled for the first time");
    assert_eq!(why(&["--build-tags", "x"]), "the build tag x was added");
    assert_eq!(why(&["--ldflags=-s"]), "--ldflags was added");
    let (token, other) = (["--go-env", "TOKEN=hunter2"], ["--go-env", "TOKEN=swordfish"]);
    assert_eq!(why(&token), "the variable TOKEN was added");
    assert_eq!(why(&other), "the variable TOKEN changed");
    module_that_needs(&sandbox, "v1.1.0");
    assert_eq!(why(&other), "the module example.com/dep moved from v1.0.0 to v1.1.0");
    assert_eq!(why(&["--no-cache"]), "--no-cache");
    let records = sandbox.store().join("gondola/records/program-materials");
    let mut kept = 0;
    for entry in fs::read_dir(&records).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        kept += 1;
        assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");
    }
    assert_eq!(kept, 5, "four notes of one package, and their slots");
}

#[test]
fn a_package_is_compared_with_the_nearest_earlier_build_and_not_the_last() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let why = |a: u8, b: u8| {
        sandbox.write("hello/a.go", format!("package main\n\nvar A = {a}\n"));
        sandbox.write("hello/b.go", format!("package main\n\nvar B = {b}\n"));
        why_compiled(&sandbox, &[])
    };
    assert_eq!(why(1, 1), "it is compiled for the first time");
    assert_eq!(why(2, 2), "hello/a.go changed; hello/b.go changed");
    assert_eq!(why(1, 3), "hello/b.go changed");
    assert_eq!(why(2, 4), "hello/b.go changed");
    fs::remove_file(sandbox.path("hello/a.go")).unwrap();
    sandbox.write("hello/c.go", "package main\n\nvar C = 1\n");
    let gone = why_compiled(&sandbox, &[]);
    assert_eq!(gone, "hello/c.go was added; hello/a.go was removed");
}

#[test]
fn stdout_is_the_pinned_reference_alone() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let ran = sandbox.gondola(&["build", "-t", "example.com/hello:v1", "./hello"]).success();
    let (name, digest) = ran.line().split_once('@').unwrap();
    assert_eq!(name, "example.com/hello:v1");
    assert!(digest.starts_with("sha256:"), "{digest}");
    let quiet =
        sandbox.gondola(&["build", "-q", "-t", "example.com/hello:v1", "./hello"]).success();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), (ran.stdout.as_str(), ""));
}

#[test]
fn a_base_from_a_registry_gives_its_layers_user_and_environment() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let base = registry.image("base:v1");
    let digest = need!(BaseImage::default().push(&sandbox.path("base"), &base));
    let image = build(&sandbox, &["--base", &base, "-e", "ADDED=1", "./hello"]).image(Some("t"));

    let annotations = &image.manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.name"], base);
    assert_eq!(annotations["org.opencontainers.image.base.digest"], digest.as_str());
    let base_image = Stored::folder(&sandbox.path("base")).image(None);
    assert_eq!(image.config["config"]["User"], base_image.config["config"]["User"]);
    assert_eq!(image.layers.len(), base_image.layers.len() + 1);
    let env = texts(&image.config["config"]["Env"]);
    for inherited in texts(&base_image.config["config"]["Env"]) {
        assert!(env.contains(&inherited), "{inherited} in {env:?}");
    }
    assert!(env.contains(&"ADDED=1"), "{env:?}");

    // From a mirror it is the same image, under its own name.
    let mirror = format!("unreachable.example.com/team={}", registry.host());
    let base = "unreachable.example.com/team/base:v1";
    let mirrored = build(&sandbox, &["--mirror", &mirror, "--base", base, "./hello"]);
    let mirrored = mirrored.image(Some("t"));
    let annotations = &mirrored.manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.name"], base);
    assert_eq!(annotations["org.opencontainers.image.base.digest"], digest.as_str());
}

#[test]
fn a_base_that_moved_is_named_by_both_digests() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let base = registry.image("base:v1");
    let push = |folder: &str, image: BaseImage| image.push(&sandbox.path(folder), &base);
    let explained = || {
        let arguments = ["build", "--explain", "--base", &base, "-o", "oci:out:t", "./hello"];
        let ran = sandbox.gondola(&arguments).success();
        let line = ran.stderr.lines().find(|line| line.starts_with("explain: resolve"));
        line.unwrap_or_else(|| panic!("{}", ran.stderr)).to_owned()
    };
    let before = need!(push("base", BaseImage::default()));
    assert!(explained().ends_with("found in the registry: it is used for the first time"));
    assert!(explained().ends_with("found in the registry: it is the one of the build before"));
    let other = BaseImage { user: "1234".to_owned(), ..BaseImage::default() };
    let after = need!(push("other", other));
    assert_ne!(before, after);
    let moved = explained();
    assert!(moved.ends_with(&format!(": it moved from {before} to {after}")), "{moved}");
}

#[test]
fn several_platforms_become_an_index_in_the_order_that_was_asked_for() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let list = "linux/arm64,linux/amd64/v3,linux/arm/v7";
    let images = build(&sandbox, &["--platform", list, "./hello"]).images(Some("t"));
    let platforms: Vec<String> = images.iter().map(support::ReadImage::platform).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/amd64/v3", "linux/arm/v7"]);
    let machine = |image: &support::ReadImage| {
        let elf = &image.entry("usr/local/bin/hello").unwrap().bytes;
        u16::from_le_bytes([elf[18], elf[19]])
    };
    // The ELF machine numbers of AArch64, x86-64 and ARM.
    assert_eq!(images.iter().map(machine).collect::<Vec<_>>(), [183, 62, 40]);
}

#[test]
fn all_platforms_are_those_of_the_base() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let base = registry.image("base:v1");
    let offered = BaseImage::for_platforms(&["linux/amd64", "linux/arm64"]);
    need!(offered.push(&sandbox.path("base"), &base));
    let images =
        build(&sandbox, &["--base", &base, "--platform", "all", "./hello"]).images(Some("t"));
    let platforms: Vec<String> = images.iter().map(support::ReadImage::platform).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
}

#[test]
fn several_packages_become_several_images_or_one() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.write("go.mod", "module example.com/many\n\ngo 1.21\n");
    for name in ["api", "worker"] {
        let text = format!("package main\n\nfunc main() {{ println(\"{name}\") }}\n");
        sandbox.write(&format!("cmd/{name}/main.go"), text);
    }
    sandbox.write("lib/lib.go", "package lib\n");

    let ran = sandbox.gondola(&["build", "-t", "example.com/{name}:v1", "./..."]).success();
    let names: Vec<&str> = ran.stdout.lines().map(|line| line.split('@').next().unwrap()).collect();
    assert_eq!(names, ["example.com/api:v1", "example.com/worker:v1"]);

    sandbox
        .gondola(&["build", "-t", "example.com/app", "./..."])
        .code(2)
        .says("put {name} into it: example.com/{name}");

    let image = build(&sandbox, &["--bin", "./cmd/worker", "--bin", "./cmd/api"]).image(Some("t"));
    assert_eq!(image.config["config"]["Entrypoint"][0], "/usr/local/bin/worker");
    assert!(image.entry("usr/local/bin/api").is_some());

    let image = build(&sandbox, &["--one-image", "./cmd/..."]).image(Some("t"));
    assert_eq!(image.config["config"]["Entrypoint"][0], "/usr/local/bin/api");
}

#[test]
fn flags_say_what_the_image_holds_and_how_it_runs() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    sandbox.write("web/index.html", "<p>hi");
    sandbox.write("run.sh", "#!/bin/sh\n");
    let arguments = "--base scratch --user 7:8 --workdir /srv --port 8080 --port 53/udp --volume /data \
                     --label a=b --annotation c=d --stop-signal SIGINT --add web:/srv/web \
                     --add run.sh:/bin/run:0755 ./hello";
    let mut words: Vec<&str> = arguments.split_whitespace().collect();
    words.extend(["--entrypoint", r#"["/bin/run","x"]"#, "--cmd", "serve"]);
    let image = build(&sandbox, &words).image(Some("t"));
    let config = &image.config["config"];
    for (key, expect) in [
        ("Entrypoint", serde_json::json!(["/bin/run", "x"])),
        ("Cmd", serde_json::json!(["serve"])),
        ("User", serde_json::json!("7:8")),
        ("WorkingDir", serde_json::json!("/srv")),
        ("ExposedPorts", serde_json::json!({"8080/tcp": {}, "53/udp": {}})),
        ("Volumes", serde_json::json!({"/data": {}})),
        ("Labels", serde_json::json!({"a": "b"})),
        ("StopSignal", serde_json::json!("SIGINT")),
    ] {
        assert_eq!(config[key], expect, "{key}");
    }
    assert_eq!(image.manifest["annotations"]["c"], "d");
    assert_eq!(image.entry("srv/web/index.html").unwrap().bytes, b"<p>hi");
    assert_eq!(image.entry("bin/run").unwrap().mode, 0o755);
}

#[test]
fn gondola_yaml_says_the_same_and_the_command_line_wins() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let yaml = "base: scratch\ntags: [\"example.com/{name}:file\"]\nimage:\n  user: \"5\"\n  labels: {from: file}\n\
                builds:\n  - package: ./hello\n    name: greeter\n    image:\n      cmd: [serve]\n";
    sandbox.write("gondola.yaml", yaml);
    let ran = sandbox.gondola(&["build"]).success();
    assert!(ran.line().starts_with("example.com/greeter:file@"), "{}", ran.line());
    let image = build(&sandbox, &["--user", "6", "./hello"]).image(Some("t"));
    assert_eq!(image.config["config"]["User"], "6");
    assert_eq!(image.config["config"]["Cmd"][0], "serve");
    assert_eq!(image.config["config"]["Labels"]["from"], "file");

    sandbox.write("gondola.yaml", "imag:\n  user: x\n");
    sandbox.gondola(&["build", "./hello"]).code(2).says("gondola.yaml:1").says("image");
}

#[test]
fn the_settings_of_a_folder_count_wherever_it_is_built_from() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    sandbox.write("hello/web/page", "<p>hi");
    let yaml = "base: scratch\nimage: {ports: [\"83\"], user: \"77\", add: [\"web:/srv/web\"]}\n\
                builds:\n  - {package: ., image: {cmd: [serve]}}\n";
    sandbox.write("hello/gondola.yaml", yaml);
    let built = |folder: &str, word: &str| {
        let out = sandbox.path("out");
        let _ = fs_err::remove_dir_all(&out);
        let place = format!("oci:{}:t", out.display());
        let mut command = sandbox.command(&["build", "-o", &place, word]);
        let ran = Run::of(command.current_dir(sandbox.path(folder))).success();
        (Stored::folder(&out).image(Some("t")), ran)
    };
    let (inside, _) = built("hello", ".");
    assert_eq!(inside.config["config"]["User"], "77");
    assert!(inside.config["config"]["ExposedPorts"]["83/tcp"].is_object());
    assert_eq!(inside.config["config"]["Cmd"][0], "serve");
    for word in ["hello", "./hello/"] {
        assert_eq!(built("", word).0.digest, inside.digest, "{word}");
    }
    // The note says what is true, also where a Dockerfile lies beside the program.
    sandbox.write("hello/Dockerfile", "FROM scratch\n");
    let (image, ran) = built("", "hello");
    assert_eq!(image.config["config"]["User"], "77");
    ran.says("hello/gondola.yaml says how the Go program of hello is built");
    // That of the folder goes before the one here, which is said.
    sandbox.write("gondola.yaml", "image: {user: \"5\"}\n");
    let (image, ran) = built("", "hello");
    assert_eq!(image.config["config"]["User"], "77");
    ran.says("gondola.yaml here is not read: hello/gondola.yaml goes before it");
    fs_err::remove_file(sandbox.path("hello/gondola.yaml")).unwrap();
    let (image, _) = built("", "hello");
    assert_eq!(image.config["config"]["User"], "5");
    // A link that leads nowhere is an error, as a Dockerfile's is.
    std::os::unix::fs::symlink("nowhere", sandbox.path("hello/gondola.yaml")).unwrap();
    let lost = "cannot read hello/gondola.yaml: it is a link that leads to no file";
    sandbox.gondola(&["build", "hello"]).code(1).says(lost);
}

#[test]
fn an_entry_of_builds_is_found_however_it_is_spelled() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.write("go.mod", "module example.com/shop\n\ngo 1.21\n");
    for name in ["server", "other"] {
        sandbox.write(
            &format!("cmd/{name}/main.go"),
            "package main\n\nvar version = \"none\"\n\nfunc main() { println(\"version=\" + version) }\n",
        );
    }
    for entry in ["cmd/server", "./cmd/server", "example.com/shop/cmd/server", "./cmd/server/..."] {
        sandbox.write(
            "gondola.yaml",
            format!(
                "base: scratch\nbuilds:\n  - package: {entry}\n    name: front\n    \
                 tags: ['example.com/{{name}}:file']\n    go: {{ldflags: -X main.version=set}}\n    \
                 image: {{ports: [8080]}}\n"
            ),
        );
        for pattern in ["cmd/server", "./cmd/server", "./...", "example.com/shop/cmd/server", ""] {
            let mut arguments = vec!["build", "-o", "oci:out"];
            arguments.extend(Some(pattern).filter(|pattern| !pattern.is_empty()));
            let _ = fs_err::remove_dir_all(sandbox.path("out"));
            let ran = sandbox.gondola(&arguments).success();
            let case = format!("{entry}, {pattern}: {}", ran.stdout);
            assert!(ran.stdout.contains("example.com/front:file@"), "{case}");
            let digest = ran.stdout.lines().find(|line| line.contains("/front:")).unwrap();
            let digest = digest.split_once('@').unwrap().1;
            let written = Stored::folder(&sandbox.path("out"));
            let named = written.json("index.json")["manifests"].as_array().unwrap().clone();
            let entry = named.iter().find(|entry| entry["digest"] == digest).expect(&case);
            let manifest: Value = serde_json::from_slice(written.blob(entry)).unwrap();
            let config: Value = serde_json::from_slice(written.blob(&manifest["config"])).unwrap();
            assert!(config["config"]["ExposedPorts"]["8080/tcp"].is_object(), "{case}");
            assert_eq!(named.len(), if pattern == "./..." { 2 } else { 1 }, "{case}");
        }
    }
}

#[test]
fn one_package_may_be_two_images() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let yaml = "base: scratch\nbuilds:\n  - {package: ./hello, name: one}\n  - {package: hello, name: two}\n";
    sandbox.write("gondola.yaml", yaml);
    let ran = sandbox.gondola(&["build"]).success();
    for name in ["one:latest@", "two:latest@"] {
        assert!(ran.stdout.contains(name), "{}", ran.stdout);
    }
}

#[test]
fn an_image_of_dockers_types_with_a_zstd_layer_becomes_ocis() {
    need!(go());
    let skopeo = need!(program("skopeo"));
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    let base = registry.image("base:v1");
    need!(BaseImage::default().push(&sandbox.path("base"), &registry.image("base:oci")));
    let mut convert = std::process::Command::new(&skopeo);
    convert.args(["copy", "--format", "v2s2", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    convert.args([format!("docker://{}", registry.image("base:oci")), format!("docker://{base}")]);
    support::succeed(&mut convert);
    sandbox.go_module("hello", "hi");
    sandbox.write("ctx/Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\n"));
    let dockerfile = ["-f", "ctx/Dockerfile", "ctx"];
    let package = ["--base", &base, "./hello"];
    for (source, kind) in [(&dockerfile[..], "file"), (&package[..], "package")] {
        for (compression, manifest_type, suffix) in [
            ("zstd", "application/vnd.oci.image.manifest.v1+json", "+zstd"),
            ("gzip", "application/vnd.docker.distribution.manifest.v2+json", ".tar.gzip"),
            ("none", "application/vnd.docker.distribution.manifest.v2+json", ".diff.tar"),
        ] {
            let name = registry.image(&format!("app:{kind}-{compression}"));
            let mut arguments = vec!["build", "--push", "--compression", compression, "-t", &name];
            arguments.extend(source);
            sandbox.gondola(&arguments).success();
            let mut inspect = std::process::Command::new(&skopeo);
            inspect
                .args(["inspect", "--raw", "--tls-verify=false"])
                .arg(format!("docker://{name}"));
            let raw: Value = serde_json::from_str(&support::succeed(&mut inspect)).unwrap();
            assert_eq!(raw["mediaType"], manifest_type, "{kind} {compression}");
            let family = if compression == "zstd" { "vnd.oci." } else { "vnd.docker." };
            let layers = raw["layers"].as_array().unwrap();
            for part in layers.iter().chain([&raw["config"]]) {
                let found = part["mediaType"].as_str().unwrap();
                assert!(found.contains(family), "{kind} {compression}: {raw}");
            }
            let last = layers.last().unwrap()["mediaType"].as_str().unwrap();
            assert!(last.ends_with(suffix), "{kind} {compression}: {last}");
            // What reads it counts every layer, and has it whole.
            let mut copy = std::process::Command::new(&skopeo);
            copy.args(["copy", "--src-tls-verify=false"]).arg(format!("docker://{name}"));
            copy.arg(format!("dir:{}", sandbox.path(&format!("{kind}-{compression}")).display()));
            support::succeed(&mut copy);
            let mut config = std::process::Command::new(&skopeo);
            config.args(["inspect", "--config", "--tls-verify=false"]);
            let config = support::succeed(config.arg(format!("docker://{name}")));
            let config: Value = serde_json::from_str(&config).unwrap();
            let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
            assert_eq!(diff_ids.len(), layers.len(), "{kind} {compression}");
        }
    }
}

#[test]
fn linker_flags_and_build_tags_reach_the_compiler() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.write("go.mod", "module example.com/app\n\ngo 1.21\n");
    sandbox.write(
        "main.go",
        "package main\n\nvar version = \"none\"\n\nfunc main() { println(\"version=\" + version + extra) }\n",
    );
    sandbox.write("a.go", "//go:build !special\n\npackage main\n\nconst extra = \"\"\n");
    sandbox.write("b.go", "//go:build special\n\npackage main\n\nconst extra = \" special\"\n");
    let image = build(
        &sandbox,
        &["--base", "scratch", "--ldflags", "-X main.version=v7", "--build-tags", "special", "."],
    );
    let binary = sandbox.path("binary");
    let entry = image.image(Some("t")).entry("usr/local/bin/app").unwrap().clone();
    fs_err::write(&binary, entry.bytes).unwrap();
    run("chmod", &["+x", binary.to_str().unwrap()]);
    let ran = Run::of(&mut std::process::Command::new(&binary)).success();
    assert_eq!(ran.stderr, "version=v7 special\n");
}

#[test]
fn an_unchanged_program_is_neither_compiled_nor_packed_nor_pushed_again() {
    need!(go());
    let registry = need!(Registry::plain());
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let name = registry.image("hello:v1");
    let arguments = ["build", "-t", &name, "--push", "./hello"];
    let first = sandbox.gondola(&arguments).success();
    let uploads = registry.uploads();
    let requests = registry.log().len();
    assert!(uploads > 0);
    // Sources that were written a moment ago could change within the same tick of the clock.
    let second = sandbox.gondola(&arguments).success();
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(registry.uploads(), uploads, "{:?}", registry.log());
    assert!(registry.log().len() <= requests + 2, "{:?}", registry.log());

    // Without a compiler on the path nothing can be compiled: what changed must be noticed.
    sandbox.write("hello/main.go", "package main\n\nfunc main() { println(\"changed\") }\n");
    let third = sandbox.gondola(&arguments).success();
    assert_ne!(third.stdout, first.stdout);
    sandbox.set("PATH", "/nowhere");
    let on_host = [&arguments[..], &["--go", "host"]].concat();
    sandbox.gondola(&on_host).code(1).says("no folder of PATH has a program \"go\"");
}

#[test]
fn a_prebuilt_binary_is_packed_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "not even a program");
    let image =
        build(&sandbox, &["--prebuilt", "linux/arm64=app", "--base", "scratch"]).image(Some("t"));
    assert_eq!(image.platform(), "linux/arm64");
    assert_eq!(image.entry("usr/local/bin/app").unwrap().bytes, b"not even a program");
}

#[test]
fn every_compression_gives_the_same_files() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x".repeat(3 << 20));
    let mut seen = Vec::new();
    for how in ["gzip", "gzip:9", "zstd", "zstd:19", "none"] {
        let image =
            build(&sandbox, &["--prebuilt", "app", "--base", "scratch", "--compression", how]);
        let image = image.image(Some("t"));
        seen.push(image.config["rootfs"]["diff_ids"].clone());
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    let single = ["--prebuilt", "app", "--base", "scratch", "--gzip-single-member"];
    assert_eq!(build(&sandbox, &single).image(Some("t")).config["rootfs"]["diff_ids"], seen[0]);
}

#[test]
fn what_was_built_is_described_in_files() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let arguments = "build --prebuilt app -t example.com/app:v1 --iidfile iid --metadata-file meta.json \
                     --image-refs refs --timings page.html";
    let ran = sandbox.gondola(&arguments.split_whitespace().collect::<Vec<_>>()).success();
    let (_, digest) = ran.line().split_once('@').unwrap();
    let read = |name: &str| fs_err::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!(read("iid"), format!("{digest}\n"));
    assert_eq!(read("refs"), ran.stdout);
    let metadata: Value = serde_json::from_str(&read("meta.json")).unwrap();
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["image.name"], "example.com/app:v1");
    assert!(metadata["containerimage.config.digest"].is_string());
    let page = read("page.html");
    assert!(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"));
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs the network");
}

#[test]
fn progress_as_json_is_one_object_per_line() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let ran = sandbox.gondola(&["build", "--prebuilt", "app", "--progress", "json"]).success();
    assert!(ran.stderr.lines().count() > 1);
    for line in ran.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap().is_object(), "{line}");
    }
}

#[test]
fn the_layer_of_a_program_that_changed_may_be_on_its_way_early_and_arrives_whole() {
    need!(go());
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let name = registry.image("hello:v1");
    let arguments = ["build", "-t", &name, "--push", "./hello"];
    let streams = || registry.count("PATCH", "/blobs/uploads/", &[202]);
    sandbox.gondola(&arguments).success();
    // What this machine never built may be there already.
    assert_eq!((streams(), registry.uploads()), (0, 3), "{:?}", registry.log());

    sandbox.write("hello/main.go", "package main\n\nfunc main() { println(\"changed\") }\n");
    let changed = sandbox.gondola(&arguments).success();
    let sent = streams();
    assert!(sent <= 1, "{:?}", registry.log());
    assert_eq!(registry.uploads(), 5, "{:?}", registry.log());
    let pulled = sandbox.gondola(&["pull", "--store", "elsewhere", &name]).success();
    assert_eq!(pulled.stdout, changed.stdout);

    sandbox.gondola(&arguments).success();
    assert_eq!((streams(), registry.uploads()), (sent, 5), "{:?}", registry.log());
}

#[test]
fn skopeo_reads_what_was_pushed() {
    let skopeo = need!(program("skopeo"));
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let name = registry.image("app:v1");
    let ran = sandbox.gondola(&["build", "--prebuilt", "app", "-t", &name, "--push"]).success();
    let source = format!("docker://{name}");
    let seen = run(skopeo, &["inspect", "--tls-verify=false", &source]);
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert!(ran.line().ends_with(seen["Digest"].as_str().unwrap()), "{seen}");
}

#[test]
fn added_files_leave_the_folders_of_the_base_as_they_are() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("cfg/file", "y");
    let arguments = "--prebuilt app --add cfg:/tmp/cfg --add cfg:/home/nonroot/cfg --add cfg:/root/cfg \
                     --add cfg:/var/run/cfg --add cfg:/srv/cfg";
    let image = build(&sandbox, &arguments.split_whitespace().collect::<Vec<_>>()).image(Some("t"));
    let added = &image.layers[1];
    let find = |path: &str| added.iter().find(|entry| entry.path.trim_end_matches('/') == path);
    for untouched in ["home", "home/nonroot", "root", "var/run"] {
        assert!(find(untouched).is_none(), "{untouched} in {added:?}");
    }
    assert_eq!(find("tmp").unwrap().mode, 0o1777);
    assert_eq!(find("srv").unwrap().mode, 0o755);
    assert!(find("home/nonroot/cfg/file").is_some());

    for (add, says) in [
        ("app:/tmp", "images have a folder there"),
        ("app:/usr/local/bin", "images have a folder there"),
        ("app:/usr/local/bin/app", "the program prebuilt goes there"),
    ] {
        sandbox.gondola(&["build", "--prebuilt", "app", "--add", add]).code(2).says(says);
    }
}

#[test]
fn files_about_the_image_are_checked_before_anything_is_pushed() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let name = registry.image("app:v1");
    let push = ["build", "--prebuilt", "app", "-t", &name, "--push", "--iidfile"];
    sandbox.gondola(&[&push[..], &["nowhere/iid"]].concat()).code(2).says("nowhere/iid");
    assert_eq!(registry.uploads(), 0);
    sandbox.write("iid", "stale");
    sandbox.gondola(&["build", "--prebuilt", "missing", "--iidfile", "iid"]).code(1);
    assert!(!sandbox.path("iid").exists());
}

#[test]
fn a_file_that_cannot_be_written_keeps_every_tag_where_it_is() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.write("app", "no program");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY app /\n");
    let name = registry.image("refused:1");
    // A folder that is there and takes no file, from root neither.
    let refused = "/proc/self/result";
    let flags = ["--iidfile", "--metadata-file", "--image-refs", "--timings"];
    for what in [&["--prebuilt", "app"][..], &["-f", "Dockerfile", "."]] {
        for flag in flags {
            let build = [&["build", "--push", "-t", &name, flag, refused], what].concat();
            sandbox.gondola(&build).code(1).says("/proc/self/result");
        }
    }
    for flag in ["--digest-file", "--image-name-with-digest-file"] {
        let build = ["kaniko", "--context", ".", "--destination", &name, flag, refused];
        sandbox.gondola(&build).code(1).says("/proc/self/result");
    }
    let refused = "docker-archive:/proc/self/result";
    let both = ["build", "--push", "-t", &name, "-o", refused, "-f", "Dockerfile", "."];
    sandbox.gondola(&both).code(1);
    assert!(registry.tags("refused").is_empty());
    assert_eq!(registry.uploads(), 0);
}

#[test]
fn what_is_no_file_is_written_to_and_never_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "no program");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY app /\n");
    let device = sandbox.path("device");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    let flags = ["--iidfile", "--metadata-file", "--image-refs", "--timings"];
    for flag in flags {
        sandbox.gondola(&["build", "--prebuilt", "app", "-t", "x", flag, "device"]).success();
        assert!(fs::symlink_metadata(&device).unwrap().is_symlink(), "{flag}");
    }
    let tar = format!("docker-archive:{}", device.display());
    sandbox.gondola(&["build", "--prebuilt", "app", "-t", "x", "-o", &tar]).success();
    for flag in ["--digest-file", "--image-name-with-digest-file", "--tar-path"] {
        let build = ["kaniko", "--context", ".", "--no-push", "--destination", "x", flag, "device"];
        sandbox.gondola(&build).success();
    }
    assert!(fs::symlink_metadata(&device).unwrap().is_symlink());
    // Of the two lines one is the identifier and one the result.
    let printed = ["build", "--prebuilt", "app", "-t", "x", "--iidfile", "/proc/self/fd/1"];
    let printed = sandbox.gondola(&printed).success().stdout;
    assert!(printed.starts_with("sha256:"), "{printed}");
    assert_eq!(printed.lines().count(), 2, "{printed}");
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
    need!(go());
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
