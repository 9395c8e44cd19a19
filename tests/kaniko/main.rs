//! Pipelines that were written for kaniko's executor.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod effects;
mod flags;
mod places;
mod registries;
mod submodules;

use std::process::{Command, Stdio};

use bytes::Bytes;
use fs_err as fs;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use support::{
    Answer, Busybox, Fault, FaultServer, HttpServer, Quirks, Registry, Rule, Run, Sandbox, Stored,
    need, program, run,
};

/// A context whose Dockerfile executes nothing, so that no sandbox is needed.
fn context(sandbox: &Sandbox) {
    sandbox.write("ctx/hello.txt", "hello\n");
    sandbox.write(
        "ctx/deploy/Dockerfile",
        "ARG SAYS=nothing\nFROM scratch AS base\nARG SAYS\nENV SAYS=$SAYS\nCOPY hello.txt /\n\
         FROM base AS other\nENV OTHER=1\nFROM base AS last\nENV LAST=1\n",
    );
}

/// The program under the name that kaniko's image gives it.
fn executor(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let link = sandbox.path("executor");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gondola"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    Run::of(command.args(arguments).stdin(Stdio::null()))
}

#[test]
fn the_executor_pushes_to_its_destinations_and_writes_what_they_are_called() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    context(&sandbox);
    let (first, second) = (registry.image("a/app:1"), registry.image("b/app:latest"));
    let ran = executor(
        &sandbox,
        &[
            "--context=dir://ctx",
            "--dockerfile",
            "deploy/Dockerfile",
            "--destination",
            &first,
            "--destination",
            &second,
            "--build-arg=SAYS=hi there",
            "--target=other",
            "--label",
            "org.example.a=b",
            "--annotation=org.example.note=c d",
            "--digest-file=new/digest",
            "--image-name-with-digest-file=names",
            "--image-name-tag-with-digest-file=tagged",
            "--tar-path=app.tar",
            "--oci-layout-path=layout",
            "--snapshot-mode=redo",
            "--cache=true",
            "--reproducible",
        ],
    )
    .success();
    assert!(ran.stderr.contains("--snapshot-mode is accepted and has no effect"), "{}", ran.stderr);

    let digest = fs::read_to_string(sandbox.path("new/digest")).unwrap();
    let (name, other) = (registry.image("a/app"), registry.image("b/app"));
    assert_eq!(
        fs::read_to_string(sandbox.path("names")).unwrap(),
        format!("{name}@{digest}\n{other}@{digest}\n")
    );
    assert_eq!(
        fs::read_to_string(sandbox.path("tagged")).unwrap(),
        format!("{name}:1@{digest}\n{other}:latest@{digest}\n")
    );
    for pushed in [&first, &second] {
        let source = format!("docker://{pushed}");
        let arguments = ["inspect", "--tls-verify=false", "--format={{.Digest}}", &source];
        assert_eq!(run("skopeo", &arguments).trim(), digest);
    }
    let raw = format!("docker://{first}");
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &raw]);
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["annotations"]["org.example.note"], "c d");
    let image = Stored::folder(&sandbox.path("layout")).image(Some("1"));
    let config = &image.config["config"];
    let variables: Vec<_> =
        config["Env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert!(
        variables.contains(&"SAYS=hi there") && variables.contains(&"OTHER=1"),
        "{variables:?}"
    );
    assert!(!variables.contains(&"LAST=1"));
    assert_eq!(config["Labels"]["org.example.a"], "b");
    assert_eq!(image.config["created"], "1970-01-01T00:00:00Z");
    assert!(sandbox.path("app.tar").is_file());
}

#[test]
fn contexts_come_as_archives_and_over_stdin() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    let archive = sandbox.path("ctx.tar.gz");
    let folder = sandbox.path("ctx");
    run("tar", &["-czf", archive.to_str().unwrap(), "-C", folder.to_str().unwrap(), "."]);
    let arguments = |context: &'static str, layout: &'static str| {
        [
            "kaniko",
            "--no-push",
            "--reproducible",
            "-f",
            "deploy/Dockerfile",
            "--oci-layout-path",
            layout,
            "-c",
            context,
        ]
    };
    sandbox.gondola(&arguments("dir://ctx", "one")).success();
    sandbox.gondola(&arguments("tar://ctx.tar.gz", "two")).success();
    let mut piped = sandbox.command(&arguments("tar://stdin", "three"));
    Run::of(piped.stdin(fs::File::open(&archive).unwrap().into_file())).success();
    let layers =
        |name: &str| Stored::folder(&sandbox.path(name)).image(None).manifest["layers"].clone();
    assert_eq!(layers("one"), layers("two"));
    assert_eq!(layers("two"), layers("three"));
}

#[test]
fn the_argument_for_the_time_is_the_images() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    let words = ["kaniko", "--no-push", "-f", "deploy/Dockerfile", "-c", "ctx", "--reproducible"];
    for (layout, time) in [("two", "2"), ("three", "3")] {
        let layout = format!("--oci-layout-path={layout}");
        let argument = format!("--build-arg=SOURCE_DATE_EPOCH={time}");
        sandbox.gondola(&[&words[..], &[&layout, &argument]].concat()).success();
    }
    let created =
        |name: &str| Stored::folder(&sandbox.path(name)).image(None).config["created"].clone();
    assert_eq!(created("two"), "1970-01-01T00:00:02Z");
    assert_eq!(created("three"), "1970-01-01T00:00:03Z");
}

#[test]
fn the_cache_repository_serves_machines_that_begin_with_nothing() {
    let registry = need!(Registry::plain());
    let mut sandbox = Sandbox::new();
    let base = registry.image("library/busybox:latest");
    need!(Busybox::default().push(&sandbox.path("base"), &base));
    sandbox.write("ctx/a", "a");
    let file = format!("FROM {base}\nCOPY a /\nRUN cat /proc/sys/kernel/random/uuid > /when\n");
    sandbox.write("ctx/Dockerfile", file);
    let mut number = 0;
    let mut build = |more: &[&str]| {
        number += 1;
        let home = sandbox.path(&format!("home-{number}"));
        sandbox.set("GONDOLA_HOME", home.to_str().unwrap());
        let layout = format!("--oci-layout-path=layout-{number}");
        let words = [&["--context=ctx", &layout][..], more].concat();
        executor(&sandbox, &words).success();
        let image = Stored::folder(&sandbox.path(&format!("layout-{number}"))).image(None);
        let when = image.files()["when"].bytes.clone();
        (image.digest, when)
    };
    let name = registry.image("app:1");
    let pushed = ["--cache=true", "-d", &name];
    let first = build(&pushed);
    assert_eq!(registry.tags("app/cache"), ["steps"]);
    assert_eq!(build(&pushed), first);
    assert_ne!(build(&["-d", &name]).1, first.1);

    let other = format!("--cache-repo={}", registry.image("other"));
    let named = ["--no-push", "--cache=true", &other];
    let without_copies = build(&[&named[..], &["--cache-copy-layers=false"]].concat());
    let writes = || registry.count("PUT", "/v2/other/manifests/", &[201]);
    assert_eq!((registry.tags("other"), writes()), (vec!["steps".to_owned()], 1));
    let second = build(&[&named[..], &["--no-push-cache"]].concat());
    assert_eq!(writes(), 1);
    assert_ne!(second.1, first.1);
    assert_eq!(second.1, without_copies.1);
    let third = format!("--cache-repo={}", registry.image("third"));
    let alone = ["--no-push", "--cache=true", &third, "--cache-run-layers=false"];
    assert_ne!(build(&alone).1, build(&alone).1);
}

#[test]
fn a_folder_of_an_archive_or_repository_is_the_context() {
    let program = need!(program("git"));
    let mut sandbox = Sandbox::new();
    context(&sandbox);
    fs::create_dir(sandbox.path("whole")).unwrap();
    fs::rename(sandbox.path("ctx"), sandbox.path("whole/ctx")).unwrap();
    sandbox.write("whole/hello.txt", "not this one\n");
    let whole = sandbox.path("whole");
    let whole = whole.to_str().unwrap();
    run("tar", &["-cf", sandbox.path("whole.tar").to_str().unwrap(), "-C", whole, "."]);
    run("tar", &["-czf", sandbox.path("whole.tar.gz").to_str().unwrap(), "-C", whole, "ctx"]);
    let git = |words: &[&str]| run(&program, &[&["-C", whole][..], words].concat());
    git(&["init", "--quiet", "-b", "main"]);
    git(&["add", "."]);
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    git(&[&identity[..], &["commit", "--quiet", "-m", "one"]].concat());
    git(&["update-server-info"]);
    let root = sandbox.path("whole/.git");
    let server = HttpServer::start(None, move |request| {
        let path = request.uri().path().trim_start_matches("/whole.git/").to_owned();
        let found = fs::read(root.join(path));
        async move {
            let status = if found.is_ok() { 200 } else { 404 };
            let body = Full::new(Bytes::from(found.unwrap_or_default()));
            let body = body.map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder().status(status).body(body).unwrap())
        }
    });
    sandbox.set("GIT_PULL_METHOD", "http");
    let remote = format!("git://{}/whole.git#refs/heads/main", server.address());
    let usual = ["kaniko", "--no-push", "--reproducible", "-f", "deploy/Dockerfile"];
    let build = |more: &[&str], input: Option<&str>| {
        let _ = fs::remove_dir_all(sandbox.path("out"));
        let words = [&usual[..], &["--oci-layout-path=out"], more].concat();
        let mut command = sandbox.command(&words);
        if let Some(input) = input {
            command.stdin(fs::File::open(sandbox.path(input)).unwrap().into_file());
        }
        Run::of(&mut command)
    };
    let below = "--context-sub-path=ctx";
    for (place, input) in [
        ("dir://whole", None),
        ("tar://whole.tar", None),
        ("tar://whole.tar.gz", None),
        ("tar://stdin", Some("whole.tar.gz")),
        (&remote, None),
    ] {
        build(&["--context", place, below], input).success();
        let image = Stored::folder(&sandbox.path("out")).image(None);
        assert_eq!(image.files()["hello.txt"].bytes, b"hello\n", "{place}");
    }
    let ran = build(&["--context=tar://whole.tar", "--context-sub-path=nowhere"], None);
    ran.code(1).says("cannot use the folder nowhere: the archive has none of this name");
}

#[test]
fn the_image_has_the_format_that_was_asked_for() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    let base = registry.image("library/busybox:latest");
    need!(Busybox::default().push(&sandbox.path("base"), &base));
    sandbox.write("ctx/Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\n"));
    for (format, manifest, layer) in [
        ("docker", ".docker.distribution.manifest.v2+json", ".docker.image.rootfs.diff.tar.gzip"),
        ("oci", ".oci.image.manifest.v1+json", ".oci.image.layer.v1.tar+gzip"),
    ] {
        let name = registry.image(&format!("{format}:1"));
        executor(&sandbox, &["-c", "ctx", "-d", &name, "--image-format", format]).success();
        let source = format!("docker://{name}");
        let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &source]);
        let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(raw["mediaType"], format!("application/vnd{manifest}"));
        for found in raw["layers"].as_array().unwrap() {
            assert_eq!(found["mediaType"], format!("application/vnd{layer}"));
        }
    }
}

#[test]
fn a_tag_that_must_not_be_moved_is_a_failure_unless_that_is_ignored() {
    let registry = FaultServer::start(Quirks::default());
    let sandbox = Sandbox::new();
    context(&sandbox);
    let answer =
        Answer::error(400, "TAG_INVALID", "the tag exists and the repository is immutable");
    let rule = Rule::new("PUT", "/app/manifests/fixed", Fault::Answer(answer));
    registry.inject(rule.always());
    let (fixed, other) = (registry.image("app:fixed"), registry.image("app:other"));
    let words = ["-c", "ctx", "-f", "deploy/Dockerfile", "-d", &fixed, "-d", &other];
    executor(&sandbox, &words).code(1).says("TAG_INVALID");
    let ignoring = [&words[..], &["--push-ignore-immutable-tag-errors"]].concat();
    let ran = executor(&sandbox, &ignoring).success().says(&format!("{fixed} stays as it is"));
    assert_eq!(registry.tags("app"), ["other"], "{}", ran.stderr);
    // Whatever else goes wrong is a failure all the same.
    let denied = Fault::Answer(Answer::error(403, "DENIED", "no"));
    registry.inject(Rule::new("PUT", "/new/manifests/one", denied).always());
    let one = registry.image("new:one");
    let words = ["-c", "ctx", "-f", "deploy/Dockerfile", "-d", &one];
    let ignoring = [&words[..], &["--push-ignore-immutable-tag-errors"]].concat();
    executor(&sandbox, &ignoring).code(1).says("DENIED");
}

#[test]
fn what_kaniko_fetches_and_gondola_does_not_is_refused_before_anything_happens() {
    let sandbox = Sandbox::new();
    executor(&sandbox, &["--context=s3://bucket/x.tar.gz", "--no-push"])
        .code(1)
        .says("aws s3 cp s3://bucket/x.tar.gz - | gondola kaniko --context tar://stdin");
    executor(&sandbox, &["--context=."]).code(2).says("--destination");
    executor(&sandbox, &["--no-such-flag"]).code(2).says("--no-such-flag");
    for (word, instead) in [
        ("-t=x", "write --destination NAME"),
        ("--push", "--no-push builds without a push"),
        ("--platform=linux/arm64", "write --custom-platform"),
        ("--no-cache", "kaniko reuses nothing unless it is told to"),
        ("--iidfile=x", "write --digest-file FILE"),
        ("--squash", "write --single-snapshot"),
    ] {
        executor(&sandbox, &[word]).code(2).says(instead);
    }
    assert!(executor(&sandbox, &["version"]).success().stdout.contains("gondola"));
    assert!(!sandbox.store().exists());
}
