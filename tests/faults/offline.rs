//! `--offline`: nothing is connected to, and all that is missing is told at once.

use std::process::Command;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;

use super::support::{
    BaseImage, Busybox, HttpServer, Need, Registry, Run, Sandbox, go, need, program,
};

/// Runs the program, and gives the calls by which it and its children opened connections to other
/// machines, or to this one's ports.
fn traced(sandbox: &Sandbox, arguments: &[&str]) -> Need<(Run, Vec<String>)> {
    let strace = program("strace")?;
    let log = sandbox.path("trace");
    let plain = sandbox.command(arguments);
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]).arg(&log);
    command.arg(plain.get_program()).args(plain.get_args());
    command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    let ran = Run::of(&mut command);
    let text = fs_err::read_to_string(&log).unwrap();
    let lines = text.lines().filter(|line| line.contains("AF_INET")).map(str::to_owned);
    Ok((ran, lines.collect()))
}

#[test]
fn a_build_whose_bases_are_here_opens_no_connection() {
    need!(go());
    let sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    let registry = need!(Registry::plain());
    let base = registry.image("base:v1");
    need!(BaseImage::default().push(&sandbox.path("base"), &base));
    let words = ["build", "--base", &base, "-o", "oci:out:t", "./hello"];
    let online = sandbox.gondola(&words).success().line().to_owned();
    drop(registry);
    let offline = [&words[..], &["--offline"]].concat();
    let (ran, connections) = need!(traced(&sandbox, &offline));
    assert_eq!(ran.success().line(), online);
    assert_eq!(connections, [""; 0]);
    // Compiled anew, and still nobody is asked.
    let (ran, connections) = need!(traced(&sandbox, &[&offline[..], &["--no-cache"]].concat()));
    assert_eq!(ran.success().line(), online);
    assert_eq!(connections, [""; 0]);
}

#[test]
fn all_that_a_build_of_go_lacks_is_told_at_once() {
    need!(go());
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    sandbox.write(
        "hello/go.mod",
        "module example.com/hello\n\ngo 1.21\n\nrequire example.com/Dep v1.0.0\n",
    );
    sandbox.write(
        "hello/go.sum",
        "example.com/Dep v1.0.0 h1:ffffffffffffffffffffffffffffffffffffffffffc=\n\
         example.com/Dep v1.0.0/go.mod h1:ffffffffffffffffffffffffffffffffffffffffffc=\n",
    );
    sandbox.write(
        "hello/main.go",
        "package main\n\nimport \"example.com/Dep\"\n\nfunc main() { println(dep.Text) }\n",
    );
    let modules = sandbox.path("modules");
    sandbox.set("GOMODCACHE", modules.to_str().unwrap());
    let base = ["build", "--offline", "--base", "r.test/base:v1", "./hello"];
    let (ran, connections) = need!(traced(&sandbox, &base));
    let said = ran.code(1).stderr;
    assert_eq!(connections, [""; 0]);
    for part in [
        "2 things are not here",
        "the base r.test/base:v1: gondola pull r.test/base:v1",
        "the module example.com/Dep@v1.0.0: go -C ",
        "hello mod download",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let image = [&base[..], &["--go", "r.test/golang:9", "--platform", "linux/arm64"]].concat();
    let said = sandbox.gondola(&image).code(1).stderr;
    for part in [
        "3 things are not here",
        "gondola pull --platform linux/arm64 r.test/base:v1",
        "Go of r.test/golang:9: gondola pull r.test/golang:9",
        "the module example.com/Dep@v1.0.0: gondola build, without --offline",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // With the modules beside the sources nothing is missing but the base.
    sandbox.write("hello/vendor/example.com/Dep/dep.go", "package dep\n\nconst Text = \"x\"\n");
    sandbox.write(
        "hello/vendor/modules.txt",
        "# example.com/Dep v1.0.0\n## explicit\nexample.com/Dep\n",
    );
    let said = sandbox.gondola(&base).code(1).stderr;
    assert!(said.contains("one thing is not here"), "{said}");
    sandbox.gondola(&["build", "--offline", "./hello"]).success();
}

#[test]
fn a_dockerfile_without_a_network_has_its_bases_and_steps_or_says_what_it_lacks() {
    let sandbox = Sandbox::new();
    let registry = need!(Registry::plain());
    need!(
        Busybox::default().push(&sandbox.path("base"), &registry.image("library/busybox:latest"))
    );
    sandbox
        .write("ctx/Dockerfile", "FROM busybox\nRUN ls /sys/class/net > /net\nRUN echo $A > /a\n");
    let mirror = format!("docker.io={}", registry.host());
    let build = |more: &[&str]| {
        let words = ["build", "--mirror", &mirror, "-o", "oci:out:t", "ctx"];
        [&words[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    sandbox.gondola(&build(&[])).success();
    drop(registry);
    // A step that is known has the result that it had; one that is not is executed without a network.
    sandbox.write(
        "ctx/Dockerfile",
        "FROM busybox\nRUN ls /sys/class/net > /net\nRUN test -z \"$(ls /sys/class/net | grep -v lo)\"\n",
    );
    let words = build(&["--offline"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (ran, connections) = need!(traced(&sandbox, &words));
    ran.success();
    assert_eq!(connections, [""; 0]);
    sandbox.write(
        "ctx/Dockerfile",
        "FROM r.test/a AS one\nFROM busybox\nCOPY --from=one /x /x\nCOPY --from=r.test/b:v2 /y /y\n",
    );
    let said = sandbox.gondola(&words).code(1).stderr;
    for part in [
        "2 things are not here",
        "the base r.test/a:latest: gondola pull r.test/a:latest",
        "the image r.test/b:v2: gondola pull r.test/b:v2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (file, says) in [
        (
            "FROM scratch\nADD http://r.test/f /f\n",
            "one thing is not here, which this command fetches:\n  the address http://r.test/f: gondola build",
        ),
        ("FROM scratch\nADD https://r.test/a.git /f\n", "--offline opens no connection"),
    ] {
        sandbox.write("ctx/Dockerfile", file);
        let (ran, connections) = need!(traced(&sandbox, &words));
        ran.code(1).says(says);
        assert_eq!(connections, [""; 0], "{file}");
    }
}

#[test]
fn modules_that_no_proxy_may_see_are_not_fetched_past_it() {
    need!(go());
    let mut sandbox = Sandbox::new();
    sandbox.set("GOPRIVATE", "r.test").set("GIT_TERMINAL_PROMPT", "0");
    sandbox.write(
        "hello/go.mod",
        "module example.com/hello\n\ngo 1.21\n\nrequire r.test/dep v1.0.0\n",
    );
    let main = "package main\n\nimport _ \"r.test/dep\"\n\nfunc main() {}\n";
    sandbox.write("hello/main.go", main);
    // Else it stops at what go.sum lacks.
    let words = ["build", "--offline", "--mod=mod", "-o", "oci:out:t", "./hello"];
    let (ran, connections) = need!(traced(&sandbox, &words));
    ran.code(1);
    assert_eq!(connections, [""; 0]);
}

#[test]
fn all_that_a_dockerfile_lacks_is_told_at_once_for_all_platforms_before_a_step() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "ctx/Dockerfile",
        "# syntax=r.test/syntax:1\nARG BASE=r.test/base\nFROM --platform=$BUILDPLATFORM r.test/tools AS tools\n\
         RUN [\"/never\"]\nFROM scratch AS files\nARG FROM=http://r.test\nENV NAME=f\nCOPY Dockerfile /\n\
         ADD $FROM/$NAME /f\nADD https://r.test/a.git#v1 /g\nONBUILD ADD http://r.test/later /l\n\
         FROM files\nARG TOKEN\nADD http://r.test/f http://r.test/$TOKEN /two/\nCOPY --from=r.test/copied /x /x\n\
         RUN --mount=from=r.test/mounted,target=/m --mount=from=named,target=/c [\"/never\"]\n\
         COPY --from=tools /x /y\nFROM $BASE\nCOPY --from=2 / /\n\
         FROM r.test/unused\nADD http://r.test/unused /\n",
    );
    let words = [
        "build",
        "--offline",
        "--platform=linux/amd64,linux/arm64",
        "--build-context=named=https://r.test/context.git",
        "--build-context=other=http://r.test/other.tar",
        "--build-arg=TOKEN=hunter2",
        "--target=3",
        "-o=oci:out",
        "ctx",
    ];
    let (ran, connections) = need!(traced(&sandbox, &words));
    let ran = ran.code(1);
    assert_eq!(connections, [""; 0]);
    let host = if cfg!(target_arch = "x86_64") { "" } else { " --platform linux/arm64" };
    let both = "--platform linux/amd64,linux/arm64";
    let lines = [
        format!("the base r.test/tools:latest: gondola pull{host} r.test/tools:latest"),
        format!("the base r.test/base:latest: gondola pull {both} r.test/base:latest"),
        format!("the image r.test/copied:latest: gondola pull {both} r.test/copied:latest"),
        format!("the image r.test/mounted:latest: gondola pull {both} r.test/mounted:latest"),
        "the context named, which is https://r.test/context.git: git clone it, and".to_owned(),
        "the context other, which is http://r.test/other.tar: gondola build, without".to_owned(),
        "the address http://r.test/f: gondola build, without --offline".to_owned(),
        "the address http://r.test/later: gondola build, without --offline".to_owned(),
        "the repository https://r.test/a.git: git clone it, and".to_owned(),
        "the address http://r.test/$TOKEN: gondola build, without --offline".to_owned(),
    ];
    for line in &lines {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
    let says = format!("{} things are not here", lines.len());
    assert!(ran.stderr.contains(&says), "{says}: {}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("COPY"), "{}", ran.stderr);
    // Refused before anything is kept.
    assert!(!sandbox.store().exists());
}

#[test]
fn what_was_downloaded_before_is_added_without_a_network() {
    let server = HttpServer::start(None, |_| async {
        let body = Full::new(Bytes::from("hello")).map_err(|never| match never {});
        Ok(Response::new(body.boxed_unsync()))
    });
    let sandbox = Sandbox::new();
    let address = server.address().to_string();
    sandbox.write("ctx/Dockerfile", format!("FROM scratch\nADD http://{address}/f /f\n"));
    sandbox.gondola(&["build", "ctx"]).success();
    drop(server);
    sandbox.write("ctx/Dockerfile", format!("FROM scratch\nADD http://{address}/f /again\n"));
    sandbox.gondola(&["build", "--offline", "ctx"]).success();
    sandbox.write("ctx/Dockerfile", format!("FROM scratch\nADD http://{address}/other /again\n"));
    sandbox.gondola(&["build", "--offline", "ctx"]).code(1).says("/other: gondola build, without");
}

#[test]
fn no_command_opens_a_connection_that_may_not() {
    let mut sandbox = Sandbox::new();
    sandbox.set("HTTPS_PROXY", "http://127.0.0.1:1").set("GIT_TERMINAL_PROMPT", "0");
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    sandbox.gondola(&["build", "-t", "r.test/app", "ctx"]).success();
    for words in [
        &["pull", "r.test/other"][..],
        &["push", "r.test/app"],
        &["copy", "r.test/other", "oci:copy"],
        &["copy", "store:r.test/app", "r.test/other"],
        &["inspect", "r.test/other"],
        &["run", "--pull=always", "r.test/other"],
        &["run", "r.test/other"],
        &["login", "-u", "me", "-p", "pw", "r.test"],
        &["build", "https://r.test/a.git"],
        &["build", "https://r.test/ctx.tar.gz"],
        &["build", "--push", "-t", "r.test/app", "ctx"],
        &["build", "--pull", "ctx"],
        &["kaniko", "--context", "ctx", "--destination", "r.test/app"],
    ] {
        let all = [&["--offline"][..], words].concat();
        let (ran, connections) = need!(traced(&sandbox, &all));
        assert_ne!(ran.code, Some(0), "{words:?}");
        assert!(ran.stderr.contains("--offline"), "{words:?}: {}", ran.stderr);
        assert_eq!(connections, [""; 0], "{words:?}");
    }
    for words in [&["images"][..], &["inspect", "store:r.test/app"], &["build", "ctx"]] {
        let all = [&["--offline"][..], words].concat();
        let (ran, connections) = need!(traced(&sandbox, &all));
        ran.success();
        assert_eq!(connections, [""; 0], "{words:?}");
    }
}
