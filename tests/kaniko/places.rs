//! Where contexts, bases and credentials come from, and what is pushed later.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fs_err as fs;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;

use crate::support::{
    Busybox, HttpServer, PASSWORD, Registry, RegistryAuth, RegistryOptions, Sandbox, Stored, USER,
    basic, need, program, run,
};
use crate::{context, executor};

/// A registry that only its user may use.
fn protected() -> crate::support::Need<Registry> {
    Registry::start(RegistryOptions { auth: RegistryAuth::Htpasswd, ..RegistryOptions::default() })
}

#[test]
fn credentials_come_from_variables_with_the_registrys_name_and_from_kanikos_folder() {
    let registry = need!(protected());
    let mut sandbox = Sandbox::new();
    context(&sandbox);
    let name = registry.image("app:1");
    let push = |sandbox: &Sandbox, words: &[&str]| {
        let usual = ["-c", "ctx", "-f", "deploy/Dockerfile", "-d", &name];
        executor(sandbox, &[&usual[..], words].concat())
    };
    push(&sandbox, &[]).code(1);
    sandbox.set("KANIKO_127_0_0_1_USER", USER).set("KANIKO_127_0_0_1_PASSWORD", PASSWORD);
    push(&sandbox, &[]).success();
    push(&sandbox, &["--credential-helpers=env"]).success();
    push(&sandbox, &["--credential-helpers="]).code(1);
    push(&sandbox, &["--credential-helpers=gitlab"]).code(1);
    // These are kaniko's own.
    sandbox.gondola(&["pull", &name]).code(1);
    sandbox.set("KANIKO_127_0_0_1_PASSWORD", "wrong");
    push(&sandbox, &[]).code(1).says("KANIKO_127_0_0_1_PASSWORD");
    sandbox.unset("KANIKO_127_0_0_1_USER");
    let auth = format!(
        r#"{{"auths":{{"{}":{{"username":"{USER}","password":"{PASSWORD}"}}}}}}"#,
        registry.host()
    );
    sandbox.write("kaniko/.docker/config.json", auth);
    push(&sandbox, &[]).code(1);
    push(&sandbox, &["--kaniko-dir=kaniko"]).success();
    let folder = sandbox.path("kaniko");
    sandbox.set("KANIKO_DIR", folder.to_str().unwrap());
    push(&sandbox, &[]).success();
}

#[test]
fn an_image_is_pushed_later_and_a_login_is_kept() {
    let registry = need!(protected());
    let sandbox = Sandbox::new();
    context(&sandbox);
    let words = ["-c=ctx", "-f=deploy/Dockerfile", "--no-push", "--tar-path=app.tar"];
    executor(&sandbox, &[&words[..], &["--oci-layout-path=layout"]].concat()).success();
    let digest = Stored::folder(&sandbox.path("layout")).image(None).digest.to_string();
    let (one, two) = (registry.image("a:1"), registry.image("b:2"));
    let push = |path: &str| executor(&sandbox, &["push", path, "-d", &one, "--destination", &two]);
    push("layout").code(1);
    let login = ["login", registry.host(), "-u", USER, "-p", PASSWORD];
    executor(&sandbox, &login).success();
    let ran = push("layout").success();
    let at = |name: &str| format!("{name}@{digest}");
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), [at(&one), at(&two)]);
    assert_eq!(
        (registry.tags("a"), registry.tags("b")),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
    push("app.tar").success();
    sandbox.gondola(&["kaniko", "push", "app.tar", "-d", &one]).success();
    executor(&sandbox, &["push", "app.tar"]).code(2).says("--destination");
    executor(&sandbox, &["push", "app.tar", "-d", &one, "--cache"]).code(2).says("--cache");
    executor(&sandbox, &["ctx", "-d", &one]).code(2).says("write --context ctx");
}

#[test]
fn a_certificate_that_is_none_is_named_as_it_was_typed() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    sandbox.write("bad.pem", "no certificate\n");
    let words = ["-c=ctx", "-f=deploy/Dockerfile", "--no-push"];
    for flag in [
        "--registry-certificate=r.test=bad.pem",
        "--registry-client-cert=r.test=bad.pem,bad.pem",
        "--registry-certificate=r.test=nosuch.pem",
    ] {
        let ran = executor(&sandbox, &[&words[..], &[flag]].concat()).code(1);
        let file = if flag.contains("nosuch") { "nosuch.pem" } else { "bad.pem" };
        assert!(ran.stderr.contains(file) && !ran.stderr.contains("ca.crt"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("/tmp/."), "{}", ran.stderr);
    }
}

#[test]
fn bases_come_from_mirrors_and_maps_and_from_nowhere_else() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    need!(
        Busybox::default().push(&sandbox.path("base"), &registry.image("library/busybox:latest"))
    );
    let host = registry.host();
    let build = |base: &str, words: &[&str]| {
        sandbox.write("ctx/Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\n"));
        executor(&sandbox, &[&["-c=ctx", "--no-push"], words].concat())
    };
    let mirror = format!("--registry-mirror={host}");
    let alone = "--skip-default-registry-fallback";
    build("busybox", &[&mirror, alone]).success();
    build("busybox:nosuch", &[&mirror, alone]).code(1).says("answered 404");
    assert!(registry.count("GET", "/v2/library/busybox/manifests/nosuch", &[404]) > 0);
    let map = format!("--registry-map=quay.test={host}/library");
    build("quay.test/busybox", &[&map, alone]).success();
    let several = format!("--registry-map=docker.io={host};gone.test={host}");
    build("gone.test/library/busybox", &[&several, alone]).success();
}

#[test]
fn a_repository_keeps_its_history_and_is_read_with_the_users_token() {
    let git_program = need!(program("git"));
    let mut sandbox = Sandbox::new();
    sandbox.write("whole/Dockerfile", "FROM scratch\nCOPY . /\n");
    let whole = sandbox.path("whole");
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
        let at = ["-C", whole.to_str().unwrap()];
        run(&git_program, &[&at[..], &identity, words].concat())
    };
    git(&["init", "--quiet", "-b", "main"]);
    for message in ["one", "two"] {
        sandbox.write("whole/file", message);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", message]);
    }
    git(&["tag", "v1", "HEAD~1"]);
    git(&["update-server-info"]);
    let root = sandbox.path("whole/.git");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let server = HttpServer::start(None, move |request| {
        let path = request.uri().path().trim_start_matches("/whole.git/").to_owned();
        let who = request.headers().get("authorization").cloned();
        let who = who.map(|value| value.to_str().unwrap().to_owned());
        let found = fs::read(root.join(path));
        let allowed = who.is_some();
        seen.lock().unwrap().extend(who);
        async move {
            let status = match (allowed, &found) {
                (false, _) => 401,
                (true, Ok(_)) => 200,
                (true, Err(_)) => 404,
            };
            let body = if status == 200 { found.unwrap_or_default() } else { Vec::new() };
            let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
            let response = Response::builder().status(status);
            let response = response.header("www-authenticate", "Basic realm=\"x\"");
            Ok(response.body(body).unwrap())
        }
    });
    sandbox.set("GIT_PULL_METHOD", "http");
    let remote = format!("git://{}/whole.git", server.address());
    let build = |sandbox: &Sandbox, words: &[&str]| {
        let _ = fs::remove_dir_all(sandbox.path("out"));
        let usual = ["--no-push", "--oci-layout-path=out", "-c", &remote];
        executor(sandbox, &[&usual[..], words].concat())
    };
    build(&sandbox, &[]).code(1);
    sandbox.set("GIT_TOKEN", "hunter2");
    let ran = build(&sandbox, &[]).success();
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    assert!(asked.lock().unwrap().contains(&basic("hunter2", "")), "{asked:?}");
    let files = Stored::folder(&sandbox.path("out")).image(None).files();
    assert_eq!(files["file"].bytes, b"two");
    assert!(files.contains_key(".git/HEAD"), "{:?}", files.keys());
    let text = |entry: &str| String::from_utf8_lossy(&files[entry].bytes).into_owned();
    assert!(!text(".git/config").contains("hunter2"));
    let unpacked = sandbox.path("unpacked");
    for (path, entry) in files.iter().filter(|(_, entry)| entry.kind == '0') {
        let at = unpacked.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, &entry.bytes).unwrap();
    }
    for folder in ["refs", "objects"] {
        fs::create_dir_all(unpacked.join(".git").join(folder)).unwrap();
    }
    let count =
        run(&git_program, &["-C", unpacked.to_str().unwrap(), "rev-list", "--count", "HEAD"]);
    assert_eq!(count.trim(), "2");

    sandbox.unset("GIT_TOKEN").set("GIT_USERNAME", "me").set("GIT_PASSWORD", "p:w");
    build(&sandbox, &["--git=branch=v1,recurse-submodules=false,depth=1"]).success();
    assert!(asked.lock().unwrap().contains(&basic("me", "p:w")), "{asked:?}");
    let files = Stored::folder(&sandbox.path("out")).image(None).files();
    assert_eq!(files["file"].bytes, b"one");
}

#[test]
fn an_archive_on_a_server_is_a_context_over_https_alone() {
    let sandbox = Sandbox::new();
    for (context, hint) in [
        ("http://127.0.0.1:9/x.tar.gz", "curl -fsSL http://127.0.0.1:9/x.tar.gz | gondola kaniko"),
        ("az://c/x.tar.gz", "expected a folder, dir://"),
        ("gs://b/x.tar.gz", "gsutil cat gs://b/x.tar.gz |"),
    ] {
        let ran = executor(&sandbox, &["--no-push", "-c", context]);
        assert_ne!(ran.code, Some(0));
        ran.says(hint);
    }
    // Nobody listens: it is what is fetched, at least.
    let ran = executor(&sandbox, &["--no-push", "-c=https://127.0.0.1:9/x.tar.gz"]).code(1);
    ran.says("https://127.0.0.1:9/x.tar.gz");
}
