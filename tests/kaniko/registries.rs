//! Flags about registries, each against one that makes it necessary.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::Response;

use crate::support::{
    Answer, BaseImage, Fault, FaultServer, HttpServer, Quirks, Registry, RegistryOptions, Rule,
    Run, Sandbox, basic, install_script, need,
};
use crate::{context, executor};

#[test]
fn certificates_of_a_registry_are_trusted_as_the_flags_say() {
    let options = RegistryOptions { tls: true, ..RegistryOptions::default() };
    let registry = need!(Registry::start(options));
    let sandbox = Sandbox::new();
    context(&sandbox);
    let (host, name) = (registry.host(), registry.image("app:1"));
    let trusted = format!("--registry-certificate={host}={}", registry.authority().display());
    let skipped = format!("--skip-tls-verify-registry={host}");
    let insecure = format!("--insecure-registry={host}");
    let unknown = "nobody that is trusted here signed the certificate";
    let push = |flag: &[&str]| {
        let usual = ["-c=ctx", "-f=deploy/Dockerfile", "-d", &name];
        executor(&sandbox, &[&usual[..], flag].concat())
    };
    push(&[]).code(1).says(unknown);
    let both: [&str; 3] = [&trusted, &skipped, &insecure];
    for flag in [&both[..], &["--skip-tls-verify", "--insecure"]].concat() {
        push(&[flag]).success();
    }
    sandbox.write("from/Dockerfile", format!("FROM {name}\nCOPY Dockerfile /\n"));
    let pull = |flag: &[&str]| {
        executor(&sandbox, &[&["-c=from", "--no-push", "-d=r.test/x"], flag].concat())
    };
    for flag in [&[][..], &["--skip-tls-verify"], &["--insecure"]] {
        pull(flag).code(1).says(unknown);
    }
    for flag in [&both[..], &["--skip-tls-verify-pull", "--insecure-pull"]].concat() {
        pull(&[flag]).success();
    }
}

#[test]
fn a_certificate_is_shown_to_the_registry_that_it_is_for() {
    let options =
        RegistryOptions { tls: true, asks_for_certificate: true, ..RegistryOptions::default() };
    let registry = need!(Registry::start(options));
    let sandbox = Sandbox::new();
    context(&sandbox);
    let (host, name) = (registry.host(), registry.image("app:1"));
    need!(registry.certificates().sign(&sandbox.path("own"), "mine", (true, 9)));
    need!(registry.certificates().sign(&sandbox.path("own"), "old", (true, -1)));
    let trusted = format!("--registry-certificate={host}={}", registry.authority().display());
    let push = |flag: &str| {
        let usual = ["-c=ctx", "-f=deploy/Dockerfile", "-d", &name, &trusted];
        executor(&sandbox, &[&usual[..], &[flag]].concat())
    };
    push("--force").code(1).says("client.cert");
    push(&format!("--registry-client-cert={host}=own/mine.cert,own/mine.key")).success();
    push("--registry-client-cert=r.test=own/mine.cert,own/mine.key").code(1);
    push(&format!("--registry-client-cert={host}=own/old.cert,own/old.key"))
        .code(1)
        .says("own/old.cert: it expired at ");
    push(&format!("--registry-client-cert={host}=own/mine.cert,own/old.key"))
        .code(1)
        .says("own/old.key is the key of another certificate");
}

/// A build with a flag.
type Build<'a> = &'a dyn Fn(&str) -> Run;

#[test]
fn requests_are_repeated_as_often_as_the_flags_say() {
    let registry = FaultServer::start(Quirks::default());
    let sandbox = Sandbox::new();
    context(&sandbox);
    let base = registry.image("base:v1");
    need!(BaseImage::default().push(&sandbox.path("base"), &base));
    sandbox.write("from/Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\n"));
    let fail = |method: &str, path: &str, times: usize| {
        let later = Answer::error(503, "UNAVAILABLE", "later");
        registry.inject(Rule::new(method, path, Fault::Answer(later)).times(times));
    };
    let name = registry.image("app:1");
    let push =
        |flag: &str| executor(&sandbox, &["-c=ctx", "-f=deploy/Dockerfile", "-d", &name, flag]);
    let pull = |flag: &str| executor(&sandbox, &["-c=from", "--no-push", flag]);
    let cases: [(&str, &str, &str, Build<'_>); 2] = [
        ("--push-retry", "PUT", "/app/manifests/1", &push),
        ("--image-download-retry", "GET", "/base/manifests/", &pull),
    ];
    for (flag, method, path, build) in cases {
        fail(method, path, 2);
        build(&format!("{flag}=1")).code(1).says("later");
        fail(method, path, 2);
        build(&format!("{flag}=2")).success();
        fail(method, path, 2);
        build(&format!("{flag}=0")).success();
        build(&format!("{flag}=x")).code(2).says("expected a whole number");
    }
    push("--image-fs-extract-retry=x").code(2).says("expected a whole number");
}

/// Registries whose credentials a program has: the helper's name, its program, and the registry.
const HELPERS: [(&str, &str, &str); 5] = [
    ("google", "gcr", "gcr.io"),
    ("google", "gcr", "europe-docker.pkg.dev"),
    ("ecr", "ecr-login", "1234.dkr.ecr.eu-central-1.amazonaws.com"),
    ("ecr", "ecr-login", "public.ecr.aws"),
    ("acr", "acr-env", "mine.azurecr.io"),
];

#[test]
fn credentials_come_from_the_programs_of_the_clouds() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    // Whatever leaves the program has to pass by here.
    let proxy = HttpServer::start(None, move |request| {
        let who = request.headers().get("authorization");
        let who = who.map(|value| value.to_str().unwrap().to_owned());
        let status = if who.is_some() { 404 } else { 401 };
        seen.lock().unwrap().push((request.uri().host().unwrap_or_default().to_owned(), who));
        async move {
            let body = Full::new(bytes::Bytes::new()).map_err(|never| match never {});
            let response = Response::builder().status(status);
            let response = response.header("www-authenticate", "Basic realm=\"x\"");
            Ok(response.body(body.boxed_unsync()).unwrap())
        }
    });
    let mut sandbox = Sandbox::new();
    sandbox.set("HTTP_PROXY", &format!("http://{}", proxy.address()));
    // Nobody listens there, so that plain http is what is left.
    sandbox.set("HTTPS_PROXY", "http://127.0.0.1:9");
    let plain = sandbox.environment()["PATH"].clone();
    for (helper, program, host) in HELPERS {
        sandbox.set("PATH", &plain);
        let flag = format!("--credential-helpers={helper}");
        let insecure = format!("--insecure-registry={host}");
        sandbox.write("ctx/Dockerfile", format!("FROM {host}/p/base\n"));
        let words = ["-c=ctx", "--no-push", "--image-download-retry=1", &insecure];
        let build = |sandbox: &Sandbox, more: &[&str]| {
            asked.lock().unwrap().clear();
            let ran = executor(sandbox, &[&words[..], more].concat());
            assert_ne!(ran.code, Some(0), "{}", ran.stderr);
            (asked.lock().unwrap().clone(), ran)
        };
        let (requests, ran) = build(&sandbox, &[&flag]);
        assert!(requests.is_empty(), "{requests:?}");
        ran.code(2).says(&format!("there is no program docker-credential-{program} on PATH"));
        let folder = sandbox.path(&format!("programs-{program}"));
        // It says of whom it was asked.
        install_script(
            "#!/bin/sh\nread -r server\n\
             printf '{\"ServerURL\":\"%s\",\"Username\":\"of %s\",\"Secret\":\"hunter2\"}' \"$server\" \"$server\"\n",
            folder.join(format!("docker-credential-{program}")),
        );
        sandbox.set("PATH", &format!("{}:{plain}", folder.display()));
        let known = (host.to_owned(), Some(basic(&format!("of {host}"), "hunter2")));
        for more in [&[&*flag][..], &[]] {
            let (requests, ran) = build(&sandbox, more);
            assert!(requests.contains(&known), "{host}: {requests:?} {}", ran.stderr);
            assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        }
        let other = if helper == "google" { "env" } else { "gitlab" };
        for more in ["--credential-helpers=", &format!("--credential-helpers={other}")] {
            let (requests, _) = build(&sandbox, &[more]);
            assert!(requests.iter().all(|(_, who)| who.is_none()), "{more}: {requests:?}");
        }
    }
}
