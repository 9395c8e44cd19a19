//! Wrong input, missing rights, full disks: a clear error, the right exit code, nothing half done.

#![cfg(test)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal};
use support::{
    BaseImage, HttpServer, Registry, RegistryAuth, RegistryOptions, Run, Sandbox, go, need,
    program, root, run,
};

/// The names in a folder, hidden ones too.
fn listing(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let name = |entry: std::io::Result<fs_err::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries.map(|e| name(e).into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every error has the form "cannot …", on one paragraph of stderr, and nothing on stdout.
fn fails(ran: Run, code: i32, says: &[&str]) {
    let ran = ran.code(code);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("cannot ") || code == 2, "{}", ran.stderr);
    says.iter().fold(ran, |ran, text| ran.says(text));
}

#[test]
fn an_image_without_a_name_is_pushed_nowhere() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    // Whatever leaves the program has to pass by here.
    let proxy = HttpServer::start(None, move |request| {
        seen.lock().unwrap().push(request.uri().to_string());
        async { Err(std::io::Error::other("there is nothing behind")) }
    });
    let mut sandbox = Sandbox::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
        sandbox.set(name, &format!("http://{}", proxy.address()));
    }
    sandbox.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    sandbox.write("module/go.mod", "module example.com/module\n\ngo 1.21\n");
    sandbox.write("module/main.go", "package main\n\nfunc main() {}\n");
    for (words, name) in [
        (&["-f", "context/Dockerfile", "context"][..], "context"),
        (&["--base", "scratch", "./module"], "module"),
    ] {
        let words = [&["build", "--push"], words].concat();
        let says = format!("cannot push {name}: no name says which registry it goes to");
        let hint = format!("add --tag REGISTRY/{name}");
        fails(sandbox.gondola(&words), 2, &[&says, &hint]);
    }
    assert_eq!(*asked.lock().unwrap(), [""; 0]);
}

#[test]
fn packages_that_cannot_be_built() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.write("lib/go.mod", "module example.com/lib\n\ngo 1.21\n");
    sandbox.write("lib/lib.go", "package lib\n");
    sandbox.write("broken/go.mod", "module !!\n");
    sandbox.write("broken/main.go", "package main\n\nfunc main() {}\n");
    sandbox.write("typo/go.mod", "module example.com/typo\n\ngo 1.21\n");
    sandbox.write("typo/main.go", "package main\n\nfunc main() { undefinedName() }\n");
    let outside = "package main\n\nimport _ \"example.com/outside\"\n\nfunc main() {}\n";
    sandbox.write("bare/main.go", outside);
    sandbox.write("empty/go.mod", "module example.com/empty\n\ngo 1.21\n");
    for (arguments, says) in [
        (&["./nowhere"][..], &["nowhere"][..]),
        (&["./lib"], &["not a main package"]),
        (&["./lib/..."], &["no main package"]),
        (&["./broken"], &["malformed module path"]),
        (&["./typo"], &["undefined: undefinedName", "example.com/typo"]),
        (&["./bare"], &["example.com/outside", "go mod init"]),
        (&["./empty"], &["no Go files"]),
        (&["example.com/unknown"], &["example.com/unknown"]),
    ] {
        let mut all = vec!["build", "-o", "docker-archive:out.tar"];
        all.extend(arguments);
        let ran = sandbox.gondola(&all);
        assert!(matches!(ran.code, Some(1 | 2)), "{arguments:?}: {ran:?}");
        let code = ran.code.unwrap();
        fails(ran, code, says);
        assert!(!sandbox.path("out.tar").exists(), "{arguments:?}");
    }
    let names = sandbox.gondola(&["images", "--json"]).success();
    assert_eq!(names.stdout.trim(), "[]");
}

#[test]
fn no_go_says_where_to_get_it() {
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    sandbox.set("PATH", "/nowhere");
    fails(sandbox.gondola(&["build", "--go", "host", "./hello"]), 1, &["\"go\"", "hint: "]);
}

#[test]
fn wrong_words_are_refused_before_anything_is_made() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    for (arguments, says) in [
        ("build --prebuilt app -t UPPER/case", "upper-case"),
        ("build --prebuilt app -t a:b:c", "image name"),
        ("build --prebuilt app --platform linus", "platform"),
        ("build --prebuilt app --base Bad", "upper-case"),
        ("build --prebuilt app -e NOVALUE", "NAME=VALUE"),
        ("build --prebuilt app --port 99999", "cannot use --port: found \"99999\""),
        ("build --prebuilt app --port 80/http --dry-run", "cannot use --port: found \"80/http\""),
        ("build --prebuilt app --volume rel", "expected an absolute path"),
        ("build --prebuilt app --compression gzip:11", "gzip"),
        ("build --prebuilt app --cmd [x", "JSON array"),
        ("build --prebuilt app --add nocolon", "nocolon"),
        ("build --prebuilt app -o nowhere:x", "nowhere"),
        ("build --prebuilt app --unknown-flag", "--unknown-flag"),
        ("build --prebuilt app --config none.yaml", "none.yaml"),
        ("pull UPPER", "upper-case"),
        ("copy nowhere:x oci:y", "nowhere"),
        ("tag missing other", "missing"),
        ("rmi missing", "missing"),
        ("push missing", "missing"),
        ("frobnicate", "frobnicate"),
    ] {
        let ran = sandbox.gondola(&arguments.split_whitespace().collect::<Vec<_>>());
        assert!(matches!(ran.code, Some(1 | 2)), "{arguments}: {ran:?}");
        assert_eq!(ran.stdout, "", "{arguments}");
        ran.says(says);
    }
    assert!(!sandbox.path("y").exists());
    sandbox.gondola(&["build", "--prebuilt", "missing"]).code(1).says("missing");
}

#[test]
fn bases_that_cannot_be_had() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let base = registry.image("base:v1");
    let only = BaseImage::for_platforms(&["linux/amd64", "linux/arm64"]);
    need!(only.push(&sandbox.path("base"), &base));
    let build = |base: &str, platform: &str| {
        sandbox.gondola(&["build", "--prebuilt", "app", "--base", base, "--platform", platform])
    };
    let missing = registry.image("nothing:v9");
    fails(build(&missing, "linux/amd64"), 1, &[&missing, "404"]);
    fails(build(&base, "linux/s390x"), 1, &["linux/s390x", "linux/amd64", "linux/arm64"]);
    // A port that nobody listens on.
    fails(build("127.0.0.1:1/base", "linux/amd64"), 1, &["127.0.0.1:1"]);
}

#[test]
fn registries_that_refuse() {
    let options = RegistryOptions { auth: RegistryAuth::Htpasswd, ..RegistryOptions::default() };
    let registry = need!(Registry::start(options));
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let name = registry.image("app:v1");
    let host = registry.host();
    let push = ["build", "--prebuilt", "app", "-t", &name, "--push"];
    fails(sandbox.gondola(&push), 1, &["401", &format!("gondola login {host}")]);

    let login = |password: &str| {
        let mut command =
            sandbox.command(&["login", host, "-u", support::USER, "--password-stdin"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), password.as_bytes()).unwrap();
        Run::ended(&command, child.wait_with_output().unwrap())
    };
    let refused = login("wrong-password");
    assert!(!refused.stderr.contains("wrong-password"), "{}", refused.stderr);
    fails(refused, 1, &["401"]);
    assert!(!sandbox.home().join(".docker/config.json").exists());

    login(support::PASSWORD).success();
    sandbox.gondola(&push).success();
    let stored = fs_err::read_to_string(sandbox.home().join(".docker/config.json")).unwrap();
    assert!(stored.contains(host), "{stored}");
    sandbox.gondola(&["logout", host]).success();
    let other = registry.image("app:v2");
    fails(sandbox.gondola(&["build", "--prebuilt", "app", "-t", &other, "--push"]), 1, &["401"]);
    assert_eq!(registry.tags("app"), ["v1"]);
}

#[test]
fn a_registry_with_an_unknown_certificate_says_where_to_put_it() {
    let options = RegistryOptions { tls: true, ..RegistryOptions::default() };
    let registry = need!(Registry::start(options));
    let mut sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let name = registry.image("app:v1");
    let push = ["build", "--prebuilt", "app", "-t", &name, "--push"];
    fails(sandbox.gondola(&push), 1, &["certificate", "certs.d"]);
    sandbox.gondola(&[&push[..], &["--insecure-registry", registry.host()]].concat()).success();
    sandbox.set("SSL_CERT_FILE", registry.authority().to_str().unwrap());
    sandbox.gondola(&push).success();
}

#[test]
fn a_folder_that_cannot_be_written_gets_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("file", "in the way");
    for (code, output) in [
        (2, "docker-archive:nowhere/out.tar"),
        (2, "oci-archive:nowhere/out.tar"),
        (1, "oci:file/layout"),
    ] {
        let ran = sandbox.gondola(&["build", "--prebuilt", "app", "-o", output]);
        fails(ran, code, &[output.split_once(':').unwrap().1]);
    }
    assert_eq!(listing(&sandbox.work()), ["app", "file"]);
    let mut store = sandbox.command(&["build", "--prebuilt", "app"]);
    store.env("GONDOLA_HOME", sandbox.path("file"));
    fails(Run::of(&mut store), 1, &["GONDOLA_HOME"]);
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    need!(root("to mount a small disk"));
    let sandbox = Sandbox::new();
    sandbox.write("app", vec![7; 1000]);
    let noise: Vec<u8> =
        (0..4_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    sandbox.write("noise", noise);
    let disk = sandbox.path("disk");
    fs_err::create_dir(&disk).unwrap();
    let disk = Mounted::tmpfs(&disk, "4m");
    let build = ["build", "--prebuilt", "app", "--base", "scratch", "--add", "noise:/noise"];

    let out = format!("docker-archive:{}/out.tar", disk.0);
    fails(sandbox.gondola(&[&build[..], &["-o", &out]].concat()), 1, &["out.tar", "No space left"]);
    assert!(listing(Path::new(&disk.0)).is_empty());

    let mut store = sandbox.command(&build);
    store.env("GONDOLA_HOME", format!("{}/store", disk.0));
    fails(Run::of(&mut store), 1, &["No space left"]);
    let mut images = sandbox.command(&["images", "--json"]);
    images.env("GONDOLA_HOME", format!("{}/store", disk.0));
    assert_eq!(Run::of(&mut images).success().stdout.trim(), "[]");
}

/// A small disk, gone when the test is.
struct Mounted(String);

impl Mounted {
    fn tmpfs(folder: &Path, size: &str) -> Self {
        let folder = folder.to_str().unwrap().to_owned();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &folder]);
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_corrupt_store_is_noticed_and_mended() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x".repeat(100_000));
    let build = ["build", "--prebuilt", "app", "-t", "app", "-o", "oci:out:t"];
    let first = sandbox.gondola(&build).success();
    for entry in fs_err::read_dir(sandbox.store().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs_err::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let writable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs_err::set_permissions(&path, writable).unwrap();
        fs_err::write(&path, bytes).unwrap();
    }
    sandbox.gondola(&["cache", "verify"]).code(1).says("corrupt");
    fs_err::remove_dir_all(sandbox.path("out")).unwrap();
    // The run that notices says so and takes the corrupt blobs away; the next makes them anew.
    fails(sandbox.gondola(&build), 1, &["the store's copy of sha256:", "hint: it was removed"]);
    assert_eq!(sandbox.gondola(&build).success().stdout, first.stdout);
    support::Stored::folder(&sandbox.path("out")).image(Some("t"));
}

#[test]
fn an_interrupted_build_ends_with_130_and_leaves_no_file() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    // A base on a server that takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("{}/base", silent.local_addr().unwrap());
    for (signal, name) in [("INT", "Ctrl-C"), ("TERM", "SIGTERM")] {
        let arguments =
            ["build", "--prebuilt", "app", "--base", &base, "-o", "docker-archive:out.tar"];
        let mut command = sandbox.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // Its request says that it is under way.
        let (connection, _) = silent.accept().unwrap();
        run("kill", &["-s", signal, &child.id().to_string()]);
        let ran = Run::ended(&command, child.wait_with_output().unwrap());
        drop(connection);
        fails(ran, 130, &[name]);
    }
    assert_eq!(listing(&sandbox.work()), ["app"]);
}

/// Whether a process has a file in a folder open.
fn has_open(process: u32, folder: &Path) -> bool {
    let open = fs_err::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    open.filter_map(|file| fs_err::read_link(file.path()).ok())
        .any(|file| file.starts_with(folder) && file != folder)
}

#[test]
fn an_export_that_is_interrupted_takes_its_unfinished_files_away() {
    let sandbox = Sandbox::new();
    fs_err::File::create(sandbox.path("app")).unwrap().set_len(400 << 20).unwrap();
    sandbox
        .gondola(&["build", "--prebuilt", "app", "--compression", "none", "-t", "app"])
        .success();
    for output in ["docker-archive:out.tar", "oci:out"] {
        let mut command = sandbox.command(&["copy", "store:app", output]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It is under way when it has a file there open, with a name or without one yet.
        while !has_open(child.id(), &sandbox.work()) {
            assert_eq!(child.try_wait().unwrap(), None, "the export ended without a trace");
        }
        run("kill", &["-s", "INT", &child.id().to_string()]);
        let ran = Run::ended(&command, child.wait_with_output().unwrap());
        fails(ran, 130, &["Ctrl-C"]);
        assert_eq!(listing(&sandbox.work()), ["app"], "{output}");
    }
}

#[test]
fn two_builds_of_the_same_thing_at_once_agree() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let spawn = || {
        let mut command = sandbox.command(&["build", "-t", "hello", "./hello"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        (command, child)
    };
    let running: Vec<_> = (0..2).map(|_| spawn()).collect();
    let ended = running.into_iter().map(|(command, child)| {
        Run::ended(&command, child.wait_with_output().unwrap()).success().stdout
    });
    let ended: Vec<String> = ended.collect();
    assert_eq!(ended[0], ended[1]);
}

#[test]
fn files_for_results_are_refused_in_the_same_words_and_before_anything_is_built() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY app /\n");
    fs_err::create_dir(sandbox.path("folder")).unwrap();
    let folder = "cannot write {}: it is a folder, expected a file";
    for (place, code, expected) in [
        ("nowhere/x", 2, "cannot write {}: its folder does not exist"),
        ("folder", 2, folder),
        ("/proc/self/result", 1, "cannot write {}: No such file or directory"),
    ] {
        let path = sandbox.path(place);
        let expected = expected.replace("{}", path.to_str().unwrap());
        for flag in ["--iidfile", "--metadata-file", "--image-refs", "--timings"] {
            for what in [&["--prebuilt", "app"][..], &["."]] {
                let ran = sandbox.gondola(&[&["build", flag, place], what].concat());
                assert!(!ran.stderr.contains(".gondola-"), "{}", ran.stderr);
                fails(ran, code, &[&format!("error: {expected}\n")]);
            }
        }
        if place != "nowhere/x" {
            let words = ["kaniko", "--context", ".", "--no-push", "--digest-file", place];
            fails(sandbox.gondola(&words), code, &[&format!("error: {expected}\n")]);
        }
    }
    assert_eq!(sandbox.gondola(&["images", "-q"]).success().stdout, "");
}

#[test]
fn a_secret_that_cannot_be_read_is_told_though_no_step_asks_for_it() {
    let sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM scratch\nENV A=b\n");
    fs_err::create_dir(sandbox.path("folder")).unwrap();
    for (file, why) in
        [("nowhere", "No such file or directory"), ("folder", "it is a folder, expected a file")]
    {
        let secret = format!("id=token,src={file}");
        let path = sandbox.path(file);
        let says = format!("cannot use --secret id=token,src={}: {why}", path.display());
        for words in [
            &["build", "--secret", &secret, "."][..],
            &["build", "--check", "--secret", &secret, "."],
            &["kaniko", "--context", ".", "--no-push", "--secret", &secret],
        ] {
            fails(sandbox.gondola(words), 1, &[&says]);
        }
    }
    fails(sandbox.gondola(&["build", "--ssh", "a=nowhere", "."]), 1, &["cannot use --ssh a="]);
    let unset = sandbox.gondola(&["build", "--secret", "id=token,env=NOT_SET", "."]).success();
    unset.says("the secret token is empty: the variable NOT_SET is not set");
}

#[test]
fn a_check_that_would_have_a_result_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM scratch\n");
    for flag in [
        &["--push"][..],
        &["-o", "oci:out"],
        &["--iidfile", "out"],
        &["--metadata-file", "out"],
        &["--image-refs", "out"],
        &["--timings", "out"],
    ] {
        let ran = sandbox.gondola(&[&["build", "--check"], flag, &["."]].concat());
        fails(ran, 2, &["with --check: ", "no image is built"]);
        assert!(!sandbox.path("out").exists());
    }
    sandbox.gondola(&["build", "--check", "--push=false", "-t", "a", "."]).success();
}

#[test]
fn a_stop_signal_that_there_is_none_of_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    for text in ["STOPSIGNAL SIGTREM", "ARG NAME=SIGTREM\nSTOPSIGNAL $NAME"] {
        sandbox.write("Dockerfile", format!("FROM scratch\n{text}\n"));
        fails(sandbox.gondola(&["build", "."]), 2, &["SIGTREM", "none of that name", "SIGTERM"]);
    }
    let words = ["build", "--prebuilt", "app", "--stop-signal", "SIGTREM"];
    fails(sandbox.gondola(&words), 2, &["--stop-signal", "SIGTREM", "none of that name"]);
}

#[test]
fn names_that_would_tear_a_file_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM scratch\n");
    sandbox.write("app", "x");
    sandbox.write("odd.yaml", "image: {env: {\"A B\": c}}\n");
    for (words, code) in [
        (&["build", "--add-host", "a b:10.0.0.1", "."][..], 2),
        (&["build", "--add-host", "a\n10.0.0.2 c=10.0.0.1", "."], 2),
        (&["build", "--build-arg", "A B=c", "."], 2),
        (&["build", "--prebuilt", "app", "-e", "A\nB=c"], 2),
        (&["run", "--add-host", "a\tb:10.0.0.1", "image"], 125),
        (&["run", "--hostname", "a\nb", "image"], 125),
        (&["run", "-e", "A B=c", "image"], 125),
        (&["build", "--prebuilt", "app", "--config", "odd.yaml"], 2),
        (&["login", "-u", "a\nb", "-p", "x", "127.0.0.1:1"], 2),
    ] {
        fails(
            sandbox.gondola(words),
            code,
            &[" has no '"].map(|s| if words[0] == "login" { "user name" } else { s }),
        );
    }
}

#[test]
fn a_mirror_and_other_values_are_refused_by_their_own_grammar() {
    let sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM scratch\n");
    for (words, says) in [
        ("--mirror x", "cannot use --mirror x: expected FROM=TO"),
        ("--add-host x", "cannot use --add-host: expected NAME:IP"),
        ("--build-context x", "cannot use --build-context x: expected NAME=PLACE"),
        ("--ulimit x", "cannot use --ulimit x: expected NAME=SOFT[:HARD]"),
        ("--jobs x", "cannot use --jobs x: expected a number"),
        ("--push=perhaps", "cannot use --push perhaps: expected true or false"),
        ("-t A:b", "error: cannot read image name \"A:b\": \"A\" has upper-case letters"),
        ("--platform x", "cannot use --platform x: it is neither an operating system"),
    ] {
        let words: Vec<&str> = ["build"].into_iter().chain(words.split(' ')).chain(["."]).collect();
        fails(sandbox.gondola(&words), 2, &[says]);
    }
    fails(sandbox.gondola(&["build", "--config", "none.yaml"]), 1, &["none.yaml: No such file"]);
}

#[test]
fn quiet_lists_print_what_other_commands_take() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    for name in ["one", "two"] {
        sandbox.gondola(&["build", "--prebuilt", "app", "-t", name]).success();
    }
    sandbox.gondola(&["build", "--prebuilt", "app", "-e", "A=b", "-t", "three"]).success();
    let json = sandbox.gondola(&["images", "--json"]).success().stdout;
    let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let whole: Vec<&str> =
        listed.as_array().unwrap().iter().map(|row| row["digest"].as_str().unwrap()).collect();
    for words in [&["images", "-q", "--digests"][..], &["images", "--quiet", "--no-trunc"]] {
        let said = sandbox.gondola(words).success().stdout;
        assert_eq!(said.lines().collect::<Vec<_>>(), whole);
    }
    let short = sandbox.gondola(&["images", "-q"]).success().stdout;
    let short: Vec<&str> = short.lines().collect();
    assert!(short.iter().zip(&whole).all(|(short, whole)| whole[7..].starts_with(short)));
    assert_eq!(short.len(), 3);
    for words in [&["ps", "-q"][..], &["ps", "--quiet", "-a"]] {
        assert_eq!(sandbox.gondola(words).success().stdout, "");
    }
    sandbox.gondola(&[&["rmi"], &short[..]].concat()).success();
    assert_eq!(sandbox.gondola(&["images", "-q"]).success().stdout, "");
    fails(sandbox.gondola(&["rmi", short[0]]), 1, &["cannot remove"]);
}

#[test]
fn what_prune_removes_is_said_in_json() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.gondola(&["build", "--prebuilt", "app", "-t", "one"]).success();
    sandbox.gondola(&["rmi", "one"]).success();
    let prune = |more: &[&str]| -> serde_json::Value {
        let words = [&["cache", "prune", "--all", "--json"], more].concat();
        serde_json::from_str(&sandbox.gondola(&words).success().stdout).unwrap()
    };
    let du = sandbox.gondola(&["cache", "du", "--json"]).success().stdout;
    let du: serde_json::Value = serde_json::from_str(&du).unwrap();
    assert!(du["unnamed"]["count"].as_u64().unwrap() > 0 && du.get("bases").is_none(), "{du}");
    let mut would = prune(&["--dry-run"]);
    assert_eq!((&would["version"], &would["dry_run"]), (&1.into(), &true.into()));
    assert_eq!(would["unnamed"]["count"], du["unnamed"]["count"]);
    assert!(would["bytes"].as_u64().unwrap() > 0);
    would["dry_run"] = false.into();
    assert_eq!(prune(&[]), would);
    assert_eq!(prune(&[])["unnamed"]["count"], 0);
}

#[test]
fn a_folder_without_a_module_is_a_program_wherever_it_is() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.write("lone/main.go", "package main\n\nfunc main() {}\n");
    sandbox.write("lone/f.s", "");
    sandbox.write("here/x.txt", "");
    sandbox.write("several/main.go", "package main\n\nfunc main() { println(x) }\n");
    sandbox.write("several/x_windows.go", "package main\n\nconst x = 1\n");
    fs_err::create_dir(sandbox.path("empty")).unwrap();
    let absolute = sandbox.path("lone").display().to_string();
    let build = |word: &str| {
        let mut command = sandbox.command(&["build", "-o", "oci:out", word]);
        Run::of(command.current_dir(sandbox.path("here")))
    };
    for word in ["../lone", "../lone/", &absolute] {
        build(word).success().says("f.s of").says("is not compiled");
        fs_err::remove_dir_all(sandbox.path("here/out")).unwrap();
    }
    fails(build("../lone/..."), 1, &["go.mod"]);
    fails(build("../several"), 2, &["x_windows.go is for some builds alone", "go mod init"]);
    fails(build("../empty"), 1, &["neither a Dockerfile nor a Go program"]);
}

/// Command lines that read, refuse or explain, and their exit codes: at least one of each command. `@` stands
/// for a registry that has nothing.
const READERS: [(&str, i32); 57] = [
    ("--help", 0),
    ("--version", 0),
    ("frobnicate", 2),
    ("build --help", 0),
    ("build --json ctx", 2),
    ("build --nosuch ctx", 2),
    ("build --secret x ctx", 2),
    ("build --platform x ctx", 2),
    ("build --mod=vendor ctx", 2),
    ("build -t A/B ctx", 2),
    ("build -f nosuch ctx", 1),
    ("build wrong", 2),
    ("build ./nowhere", 1),
    ("build --check ctx", 0),
    ("build --dry-run ctx", 0),
    ("build --offline --push ctx", 2),
    ("run --help", 0),
    ("run -p x y", 125),
    ("ps", 0),
    ("ps -a --json", 0),
    ("logs x", 1),
    ("stop x", 1),
    ("start x", 1),
    ("restart x", 1),
    ("exec x y", 125),
    ("rm x", 1),
    ("stats --no-stream", 0),
    ("stats x", 1),
    ("shim x", 1),
    ("kaniko", 2),
    ("kaniko --help", 0),
    ("kaniko --no-push --dryrun -c ctx", 0),
    ("kaniko --no-push --materialize -c ctx", 2),
    ("kaniko --no-push -c ctx --secret x", 2),
    ("push @/x", 1),
    ("pull @/x", 1),
    ("copy oci:nowhere oci:there", 1),
    ("copy @/x oci:there", 1),
    ("tag x y", 1),
    ("images", 0),
    ("ls --json", 0),
    ("rmi --all", 0),
    ("rmi x", 1),
    ("inspect x:", 2),
    ("inspect @/x", 1),
    ("inspect --files oci:image", 0),
    ("inspect --files --json @/image:v1", 0),
    ("login @", 2),
    ("logout @", 0),
    ("cache du --json", 0),
    ("cache verify", 0),
    ("cache prune", 0),
    ("cache prune --all --dry-run", 0),
    ("doctor", 0),
    ("doctor --json", 0),
    ("completions bash", 0),
    ("version --json", 0),
];

/// What the command lines read.
fn write_what_is_read(sandbox: &Sandbox, registry: &Registry) {
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\nRUN [\"/nothing\"]\n");
    sandbox.write("wrong/Dockerfile", "FROM scratch\nNONSENSE\n");
    sandbox.write("one/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let name = registry.image("image:v1");
    sandbox.gondola(&["build", "--push", "-t", &name, "-o", "oci:image", "one"]).success();
    fs_err::remove_dir_all(sandbox.store()).unwrap();
}

#[test]
fn what_reads_or_refuses_or_explains_leaves_no_file() {
    let registry = need!(Registry::plain());
    let mut sandbox = Sandbox::new();
    write_what_is_read(&sandbox, &registry);
    sandbox.unset("GONDOLA_HOME");
    let help = sandbox.gondola(&["--help"]).success().stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap().lines();
    let listed = listed.take_while(|line| !line.is_empty());
    for verb in listed.map(|line| line.split_whitespace().next().unwrap()) {
        let is_walked = READERS.iter().any(|(line, _)| line.split(' ').next() == Some(verb));
        assert!(is_walked, "{verb} is not walked");
    }
    let before = listing(&sandbox.work());
    for (line, code) in READERS {
        let line = line.replace('@', registry.host());
        let words: Vec<&str> = line.split(' ').collect();
        sandbox.gondola(&words).code(code);
        assert_eq!(listing(&sandbox.home()), [""; 0], "{line}");
        assert_eq!(listing(&sandbox.work()), before, "{line}");
    }
}

#[test]
fn what_reads_or_refuses_or_explains_needs_no_home_that_can_be_written_to() {
    use std::os::unix::fs::PermissionsExt as _;
    need!(root("becoming another user"));
    let setpriv = need!(program("setpriv"));
    let registry = need!(Registry::plain());
    let mut sandbox = Sandbox::new();
    write_what_is_read(&sandbox, &registry);
    sandbox.unset("GONDOLA_HOME");
    let readable = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(sandbox.work().parent().unwrap(), readable).unwrap();
    run("chmod", &["-R", "a+rX", sandbox.work().to_str().unwrap()]);
    let copy = sandbox.work().parent().unwrap().join("gondola");
    support::install(env!("CARGO_BIN_EXE_gondola"), &copy);
    for (line, code) in READERS {
        let line = line.replace('@', registry.host());
        let mut command = Command::new(&setpriv);
        command.args(["--reuid=54321", "--regid=54321", "--clear-groups"]).arg(&copy);
        command.args(line.split(' ')).current_dir(sandbox.work());
        let ran = Run::of(command.env_clear().envs(sandbox.environment()).stdin(Stdio::null()));
        let ran = ran.code(code);
        let is_of_home = ran.stderr.contains("Permission denied");
        // What would have to be kept is not.
        let writes = line.starts_with("pull");
        assert!(writes || !is_of_home, "{line}: {}", ran.stderr);
        assert_eq!(listing(&sandbox.home()), [""; 0], "{line}");
    }
}

#[test]
fn a_store_that_is_empty_stays_so() {
    let sandbox = Sandbox::new();
    fs_err::create_dir_all(sandbox.store()).unwrap();
    sandbox.write("ctx/Dockerfile", "FROM scratch\nRUN [\"/nothing\"]\n");
    for (words, code) in [
        (&["images"][..], 0),
        (&["doctor"], 0),
        (&["build", "--secret", "x", "ctx"], 2),
        (&["build", "-f", "nosuch", "ctx"], 1),
    ] {
        sandbox.gondola(words).code(code);
        assert_eq!(listing(&sandbox.store()), [""; 0], "{words:?}");
    }
    sandbox.gondola(&["ls", "r.test/app"]).success().says("tags of a registry are not listed");
}

#[test]
fn two_results_in_one_file_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("there", "old");
    std::os::unix::fs::symlink("there", sandbox.path("link")).unwrap();
    for (words, says) in [
        (&["--iidfile", "f", "--metadata-file", "./f"][..], "cannot write the metadata to "),
        (&["--iidfile", "there", "--image-refs", "link"], "cannot write the pinned reference to "),
        (&["-o", "oci-archive:f", "--iidfile", "f"], "cannot write the archive to "),
        (&["-o", "oci-archive:f:a", "-o", "oci-archive:f:b"], "the archive is written there, too"),
        (&["--timings", "f", "--iidfile", "f"], "cannot write the page of --timings to "),
    ] {
        let words = [&["build", "--prebuilt", "app", "-t", "a"], words].concat();
        fails(sandbox.gondola(&words), 2, &[says, "name another file"]);
        assert!(!sandbox.path("f").exists());
        assert_eq!(fs_err::read(sandbox.path("there")).unwrap(), b"old");
    }
    let both = ["--iidfile", "/dev/null", "--metadata-file", "/dev/null"];
    sandbox.gondola(&[&["build", "--prebuilt", "app", "-t", "a"], &both[..]].concat()).success();
}

#[test]
fn flags_that_contradict_each_other_or_come_to_nothing_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("Dockerfile", "FROM scratch\n");
    sandbox.write("variables", "A=b\n# none\n\n=hunter2\n");
    sandbox.write("single/gondola.yaml", "compression: zstd\ngzip-single-member: true\n");
    let prebuilt = "build --prebuilt app -t a";
    for (words, code, says) in [
        ("build --sandbox ns --sandbox-min ns-root .", 2, "ns isolates less than ns-root"),
        (
            "build --sandbox ns --sandbox-min ns-root --check .",
            2,
            "--sandbox ns with --sandbox-min",
        ),
        ("run --sandbox proot --sandbox-min ns x", 125, "proot isolates less than ns"),
        ("-q --progress json images", 2, "cannot use --quiet with --progress"),
        ("build --check --json .", 2, "cannot use --json without --dry-run"),
        ("build --dry-run=false --json .", 2, "cannot use --json without --dry-run"),
        ("build --check --dry-run .", 2, "cannot use --dry-run with --check"),
        (&format!("{prebuilt} --gzip-single-member --compression zstd"), 2, "compression is zstd"),
        (&format!("{prebuilt} --gzip-single-member --compression none"), 2, "compression is none"),
        ("build --gzip-single-member --compression=zstd:3 .", 2, "compression is zstd"),
        (&format!("{prebuilt} --config single/gondola.yaml"), 2, "use gzip-single-member"),
        ("build --cgo --go-env CGO_ENABLED=0 --package .", 2, "the opposite of the other"),
        ("run --env-file variables x", 125, "cannot use --env-file variables:4 =…: expected NAME"),
        ("login r.test", 2, "--username is missing, and stdin is no terminal"),
        ("login -u me r.test", 2, "--password-stdin is missing"),
        ("login --password-stdin r.test", 2, "--username is missing, and stdin holds the password"),
        ("--bogus run x", 125, "--bogus"),
        ("--jobs=x run x", 125, "cannot use --jobs x: expected a number"),
        ("frobnicate run x", 2, "frobnicate"),
        (&format!("{prebuilt}{{nme}}"), 2, "{name} is all that can stand in braces"),
        ("build -t {nme} .", 2, "cannot read image name \"{nme}\": {name} is all that can stand"),
    ] {
        let ran = sandbox.gondola(&words.split(' ').collect::<Vec<_>>());
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{words}: {}", ran.stderr);
        ran.says(says);
    }
    fails(sandbox.gondola(&["build", ""]), 2, &["cannot use \"\" as CONTEXT|PACKAGE: it is empty"]);
    sandbox
        .gondola(&["build", "--prebuilt", "app", "--explain", "-t", "a"])
        .success()
        .says("--explain is accepted and has no effect");
}

#[test]
fn a_name_behind_docker_s_scheme_is_one_in_a_registry() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    // Nobody listens on port 1.
    sandbox.gondola(&["build", "--prebuilt", "app", "-t", "127.0.0.1:1/x:v1"]).success();
    sandbox.gondola(&["inspect", "127.0.0.1:1/x:v1"]).success();
    fails(sandbox.gondola(&["inspect", "docker://127.0.0.1:1/x:v1"]), 1, &["refuses connections"]);
}

#[test]
fn a_result_that_nobody_can_get_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    let shell = |script: &str| {
        let program = sandbox.command(&[""; 0]).get_program().to_owned();
        let mut command = Command::new("/bin/sh");
        command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
        Run::of(command.args(["-c", script, "sh"]).arg(program))
    };
    let closed = shell("exec \"$1\" build -q --prebuilt app -t a >&-");
    closed.code(2).says("cannot write the result to stdout: it is closed");
    // Nothing was built, or sent, before that was noticed.
    assert!(!sandbox.path("store").join("index.json").exists());
    shell("exec \"$1\" build --prebuilt app -o oci-archive:- >&-").code(2).says("it is closed");
    // Where there is no result, none is lost.
    shell("exec \"$1\" ps -q >&-").success();
    shell("exec \"$1\" images >/dev/null").success();
}

/// Fills a pipe that nobody reads.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// Whether a process has said what a signal does to it.
fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
    let caught = u64::from_str_radix(caught.unwrap_or("0").trim(), 16).unwrap();
    caught >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn a_reader_that_has_stopped_keeps_nobody_from_ending_the_program() {
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (reader, writer) = full_pipe();
        // The server answers never, so that the build is at work when the signal comes.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("{}/base:1", silent.local_addr().unwrap());
        let mut command = sandbox.command(&["build", "--prebuilt", "app", "--base", &base]);
        command.stdout(Stdio::null()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        while !catches(child.id(), signal) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        rustix::process::kill_process(Pid::from_child(&child), signal).unwrap();
        // The harness ends a test that hangs.
        assert_eq!(child.wait().unwrap().code(), Some(130));
        drop(reader);
    }
}

#[test]
fn a_pipe_that_does_not_block_gets_the_whole_result() {
    use std::io::Read as _;

    let sandbox = Sandbox::new();
    let noise = (0..750_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    sandbox.write("app", noise.collect::<Vec<u8>>());
    sandbox.gondola(&["build", "--prebuilt", "app", "-t", "app"]).success();
    for arguments in [&["completions", "bash"][..], &["copy", "store:app", "docker-archive:-"]] {
        let expected = sandbox.command(arguments).output().unwrap();
        assert!(expected.status.success(), "{arguments:?}");
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut command = sandbox.command(arguments);
        let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert!(child.wait().unwrap().success(), "{arguments:?}");
        assert!(found == expected.stdout, "{arguments:?}");
        assert!(found.len() > 64 << 10, "{arguments:?}: too little to fill a pipe");
    }
}

#[test]
fn a_store_that_cannot_be_made_is_named_with_the_way_out() {
    let mut sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY app /\n");
    let place = "/proc/self/nowhere/store";
    sandbox.set("GONDOLA_HOME", place);
    let tag: &[&str] = &["tag", "a", "b"];
    for arguments in [&["build", "--prebuilt", "app"][..], &["build", "-f", "Dockerfile"], tag] {
        let ran = sandbox.gondola(arguments);
        if arguments == tag {
            // It only looks for an image, and there is none.
            ran.code(1);
        } else {
            fails(ran, 1, &[place, "set GONDOLA_HOME to a folder that can be"]);
        }
    }
}

#[test]
fn flags_that_all_commands_have_are_known_to_each() {
    let sandbox = Sandbox::new();
    let help = sandbox.gondola(&["cache"]).code(2);
    assert!(
        help.stderr.contains("Usage: ") && !help.stderr.contains("[default: false]"),
        "{}",
        help.stderr
    );
    sandbox.gondola(&["build", "--stor", "x"]).code(2).says("--store");
    sandbox.gondola(&["-q", "kaniko", "version"]).success();
}
