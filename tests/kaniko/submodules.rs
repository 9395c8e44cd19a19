//! A context that is a repository with submodules, which have some of their own.

use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use fs_err as fs;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;

use crate::executor;
use crate::support::{HttpServer, Sandbox, Stored, need, program, run};

/// Answers as git's own server does.
fn answer(
    root: &Path,
    (method, path, query): (&str, &str, &str),
    kind: &str,
    body: &[u8],
) -> Vec<u8> {
    use std::io::Write as _;
    let mut command = Command::new("/usr/lib/git-core/git-http-backend");
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    // A repository is asked for by a name that ends with .git.
    let path = path.replacen(".git/", "/", 1);
    command.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    command.env("CONTENT_TYPE", kind).env("CONTENT_LENGTH", body.len().to_string());
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
    command.env("GIT_CONFIG_VALUE_0", "*");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn submodules_are_fetched_down_to_the_last_or_not_at_all() {
    let git = need!(program("git"));
    if !Path::new("/usr/lib/git-core/git-http-backend").exists() {
        return crate::support::Missing::because("there is no git-http-backend").skip();
    }
    let mut sandbox = Sandbox::new();
    let at = |name: &str, words: &[&str]| {
        let folder = sandbox.path(name);
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
        let local = ["-c", "protocol.file.allow=always", "-C", folder.to_str().unwrap()];
        run(&git, &[&local[..], &identity, words].concat())
    };
    for (name, below) in [("deep", None), ("sub", Some("deep")), ("whole", Some("sub"))] {
        sandbox.write(&format!("{name}/of-{name}"), name);
        sandbox.write(&format!("{name}/Dockerfile"), "FROM scratch\nCOPY . /\n");
        at(name, &["init", "--quiet", "-b", "main"]);
        if let Some(below) = below {
            let from = sandbox.path(below);
            at(name, &["submodule", "--quiet", "add", from.to_str().unwrap(), below]);
            let url = [&format!("submodule.{below}.url"), &format!("../{below}")];
            at(name, &["config", "-f", ".gitmodules", url[0], url[1]]);
        }
        at(name, &["add", "."]);
        at(name, &["commit", "--quiet", "-m", name]);
    }
    let root = sandbox.work();
    let server = HttpServer::start(None, move |request| {
        let root = root.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            let kind = head.headers.get("content-type").and_then(|kind| kind.to_str().ok());
            let asked =
                (head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
            let answer = answer(&root, asked, kind.unwrap_or_default(), &body);
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
            let lines = String::from_utf8_lossy(&answer[..end]).into_owned();
            let mut response = Response::builder();
            for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
                response = match name {
                    "Status" => response.status(value[..3].parse::<u16>().unwrap()),
                    name => response.header(name, value),
                };
            }
            let body = Bytes::copy_from_slice(answer.get(end + 4..).unwrap_or_default());
            let body = Full::new(body).map_err(|never| match never {});
            Ok(response.body(body.boxed_unsync()).unwrap())
        }
    });
    let remote = format!("git://{}/whole", server.address());
    sandbox.set("GIT_PULL_METHOD", "http");
    for (flag, expected) in [
        ("--git=recurse-submodules=true", &["of-whole", "sub/deep/of-deep", "sub/of-sub"][..]),
        (
            "--git=branch=main,recurse-submodules=true,depth=1",
            &["of-whole", "sub/deep/of-deep", "sub/of-sub"],
        ),
        ("--git=recurse-submodules=false", &["of-whole"]),
        ("--git=branch=main", &["of-whole"]),
    ] {
        let _ = fs::remove_dir_all(sandbox.path("out"));
        executor(&sandbox, &["--no-push", "--oci-layout-path=out", "-c", &remote, flag]).success();
        let files = Stored::folder(&sandbox.path("out")).image(None).files();
        let found: Vec<&str> = files.keys().map(String::as_str).collect();
        let found: Vec<&str> = found
            .into_iter()
            .filter(|path| {
                !path.contains(".git") && path.rsplit('/').next().unwrap().starts_with("of-")
            })
            .collect();
        assert_eq!(found, expected, "{flag}");
    }
}
