//! Values that came from the command line or the environment, and users and queries of addresses, are
//! nowhere but where a format demands them: in the history and configuration of an image, and in the
//! configuration of a container, which its owner alone may read.

#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use fs_err as fs;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use support::{Busybox, HttpServer, Need, PASSWORD, Registry, RegistryAuth, RegistryOptions, Run};
use support::{Sandbox, USER, go, need, program, succeed};

/// How every planted value begins: nothing compressed has it by chance. What follows says through which
/// channel it came.
const TOKEN: &str = "tk7zq";

/// Every planted value in some bytes.
fn planted(bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    let found = text.match_indices(TOKEN).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    found.collect()
}

/// Panics if a run has shown a planted value.
#[track_caller]
fn shows_nothing(ran: &Run) {
    let found = planted(format!("{}{}", ran.stdout, ran.stderr).as_bytes());
    assert!(found.is_empty(), "{found:?} in\n{}\n{}", ran.stdout, ran.stderr);
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(files(&entry.path()));
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
    all
}

/// The planted values in the files below a folder, each with the files that have it; compressed ones
/// are read, too, and names of files count.
fn kept(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for path in files(folder) {
        // What ended programs leave is tidied up meanwhile.
        let Ok(bytes) = fs::read(&path) else { continue };
        let mut unpacked = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let _ = MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked);
        }
        let name = path.display().to_string();
        for bytes in [&bytes[..], &unpacked, name.as_bytes()] {
            found.extend(planted(bytes).into_iter().map(|token| (token, path.clone())));
        }
    }
    found
}

/// Panics if a planted value is kept that the formats of images do not demand.
#[track_caller]
fn keeps_only(folder: &Path, allowed: &[&str]) {
    let found = kept(folder);
    let wrong = found.iter().filter(|(token, _)| !allowed.contains(&token.as_str()));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const VIEWS: [&[&str]; 4] =
    [&["--progress", "plain"], &["--progress", "json"], &["--progress", "tty"], &["--quiet"]];

/// A server of files that wants a user, a password and a query, and of a repository.
fn server(folder: PathBuf) -> HttpServer {
    HttpServer::start(None, move |request| {
        let path = request.uri().path().to_owned();
        let file = folder.join(path.trim_start_matches('/'));
        let is_let_in = !path.starts_with("/private.git")
            || request.headers().get("authorization").is_some_and(|value| {
                // me:tk7zqgitpassword
                value == "Basic bWU6dGs3enFnaXRwYXNzd29yZA=="
            });
        let (status, location, bytes) = match path.as_str() {
            "/moved" => (302, "/file?sig=tk7zqredirect", Vec::new()),
            "/insecure" => {
                (302, "ftp://me:tk7zqelsewhere@127.0.0.1/?sig=tk7zqredirect", Vec::new())
            }
            _ if !is_let_in => (401, "", Vec::new()),
            _ => match fs::read(file) {
                Ok(bytes) => (200, "", bytes),
                Err(_) => (404, "", Vec::new()),
            },
        };
        async move {
            let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
            let mut answer = Response::builder().status(status);
            if status == 302 {
                answer = answer.header("location", location);
            }
            if status == 401 {
                answer = answer.header("www-authenticate", "Basic realm=\"x\"");
            }
            Ok(answer.body(body.boxed_unsync()).unwrap())
        }
    })
}

/// A bare repository as a folder of a server has it.
fn repository(sandbox: &Sandbox, to: &Path) -> Need<()> {
    let git = program("git")?;
    let run = |folder: &Path, words: &[&str]| {
        let mut command = Command::new(&git);
        command.env_clear().envs(sandbox.environment()).current_dir(folder);
        let author = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        succeed(command.args(author).args(words))
    };
    let work = sandbox.write("repository/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let work = work.parent().unwrap();
    run(work, &["init", "--quiet", "-b", "main", "."]);
    run(work, &["add", "."]);
    run(work, &["commit", "--quiet", "-m", "one"]);
    run(work, &["clone", "--quiet", "--bare", ".", to.to_str().unwrap()]);
    run(to, &["update-server-info"]);
    Ok(())
}

/// A folder with a context, a registry with the base `busybox`, and what builds it.
struct Place {
    registry: Registry,
    sandbox: Sandbox,
    mirror: String,
}

impl Place {
    fn new() -> Need<Self> {
        let registry = Registry::plain()?;
        let mut sandbox = Sandbox::new();
        sandbox.set("TERM", "xterm");
        sandbox.set("HTTP_PROXY", "http://me:tk7zqproxyenv@127.0.0.1:9");
        sandbox.set("FROM_ENV", "tk7zqfromenv");
        sandbox.set("SECRET_ENV", "tk7zqsecretenv");
        Busybox::default()
            .push(&sandbox.path("base"), &registry.image("library/busybox:latest"))?;
        let mirror = format!("docker.io={}", registry.host());
        sandbox.write("ctx/file", "x");
        Ok(Self { registry, sandbox, mirror })
    }

    fn build(&self, file: &str, more: &[&str]) -> Run {
        self.sandbox.write("ctx/Dockerfile", file);
        let mut all = vec!["build", "--mirror", &self.mirror, "-f", "ctx/Dockerfile"];
        all.extend(["-t", "example.com/app:v1"]);
        // A check has no results.
        if !more.contains(&"--check") {
            all.extend(["--timings", "timings.html", "--metadata-file", "metadata.json"]);
        }
        all.extend(more);
        all.push("ctx");
        self.sandbox.gondola(&all)
    }
}

const ARGUMENTS: [&str; 18] = [
    "--build-arg",
    "TAG=tk7zqtag",
    "--build-arg",
    "COPIED=tk7zqcopied",
    "--build-arg",
    "MADE=tk7zqmade",
    "--build-arg",
    "UNUSED=tk7zqunused",
    "--build-arg",
    "FROM_ENV",
    "--build-arg",
    "https_proxy=http://me:tk7zqproxyarg@127.0.0.1:9",
    "--secret",
    "id=one,env=SECRET_ENV",
    "--build-arg",
    "FOLDER=tk7zqfolder",
    "--build-arg",
    "LABELLED=tk7zqlabelled",
];

#[test]
fn builds_of_dockerfiles_show_and_keep_no_value() {
    let place = need!(Place::new());
    let file = "ARG TAG=latest\nFROM busybox AS one\nARG COPIED FROM_ENV MADE FOLDER LABELLED\n\
                ENV KEPT=$MADE\nLABEL of=$LABELLED\nWORKDIR /$FOLDER\nCOPY file /$COPIED\n\
                RUN --mount=type=secret,id=one test -f /run/secrets/one && test -n \"$FROM_ENV\"\n";
    for view in VIEWS {
        let ran = place.build(file, &[&ARGUMENTS[..], view].concat()).success();
        shows_nothing(&ran);
    }
    let again =
        place.build(file, &[&ARGUMENTS[..], &["--progress", "json", "--no-cache"]].concat());
    let again = again.success();
    shows_nothing(&again);
    // What is written is shown.
    for written in ["COPY file /$COPIED", "WORKDIR /$FOLDER"] {
        assert!(again.stderr.contains(written), "{}", again.stderr);
    }
    for page in ["timings.html", "metadata.json"] {
        let found = planted(&fs::read(place.sandbox.path(page)).unwrap());
        assert!(found.is_empty(), "{page}: {found:?}");
    }
    // The history names all arguments that a RUN sees; the rest is configuration and names of files.
    let by_format = ["tk7zqcopied", "tk7zqmade", "tk7zqfromenv", "tk7zqfolder", "tk7zqlabelled"];
    keeps_only(&place.sandbox.store(), &by_format);
    let records = place.sandbox.store().join("gondola/records");
    assert!(!files(&records).is_empty());
    keeps_only(&records, &[]);
    for command in [&["images"][..], &["images", "--json"], &["cache", "du"], &["doctor"]] {
        shows_nothing(&place.sandbox.gondola(command));
    }
    let name = place.registry.image("team/app:v1");
    for command in [
        &["tag", "example.com/app:v1", &name][..],
        &["push", &name, "--progress", "json"],
        &["copy", &name, "oci:copy", "--progress", "plain"],
    ] {
        shows_nothing(&place.sandbox.gondola(command).success());
    }
    keeps_only(&place.registry.storage(), &by_format);
    for request in place.registry.log() {
        assert!(planted(request.path.as_bytes()).is_empty(), "{request:?}");
    }
}

#[test]
fn failing_builds_show_no_value() {
    let place = need!(Place::new());
    let one = |line: &str| {
        format!(
            "FROM busybox\nARG COPIED FROM_ENV MADE FOLDER LABELLED\nENV ENVED=x$MADE\n{line}\n"
        )
    };
    for line in [
        "COPY $COPIED /x",
        "COPY ./$COPIED/../${COPIED}more/ /x",
        "COPY $ENVED /x",
        "COPY --chown=$COPIED file /x",
        "COPY --chmod=$COPIED file /x",
        "COPY file $COPIED\nCOPY file /$COPIED/below",
        "ADD --checksum=$COPIED https://127.0.0.1:1/a /x",
        "ADD https://me:$COPIED@127.0.0.1:1/$FOLDER?sig=$MADE /x",
        "COPY https://me:$COPIED@127.0.0.1:1/?sig=$MADE /x",
        "ADD https://me:tk7zqwritten@127.0.0.1:1/a?sig=tk7zqsignature /x",
        "USER $COPIED\nRUN true",
        "USER $COPIED\nCOPY --chown=$COPIED file /x",
        "STOPSIGNAL $COPIED/x",
        "EXPOSE $COPIED",
        "ENV X=${NOTHING:?$COPIED}",
        "ARG X=${NOTHING:?$COPIED}",
        "WORKDIR /etc/passwd/$COPIED\nRUN true",
        "RUN --mount=type=bind,source=$COPIED,target=/x true",
        "RUN --mount=type=cache,target=/x,uid=$COPIED true",
        "RUN exit 3",
    ] {
        for view in VIEWS {
            let ran = place.build(&one(line), &[&ARGUMENTS[..], view].concat());
            assert_ne!(ran.code, Some(0), "{line}\n{}", ran.stderr);
            shows_nothing(&ran);
        }
    }
    for file in [
        "ARG TAG\nFROM busybox:$TAG\n",
        "ARG TAG\nFROM 127.0.0.1:1/a/$TAG\n",
        "ARG TAG\nFROM busybox:$TAG@x\n",
        "ARG TAG\nFROM --platform=$TAG busybox\n",
        "ARG TAG\nARG X=${NOTHING:?$TAG}\nFROM busybox\n",
        "ARG TAG\nFROM ${NOTHING:?$TAG}\n",
    ] {
        for view in VIEWS {
            let ran = place.build(file, &[&ARGUMENTS[..], view].concat());
            assert_ne!(ran.code, Some(0), "{file}\n{}", ran.stderr);
            shows_nothing(&ran);
        }
    }
    // What comes from the file is shown.
    place.build(&one("ARG D=dir\nCOPY $D/x /x"), &[]).says("copy dir/x");
    // A file that is called like a value is called so in its layer, and in the list of what that holds.
    let records = place.sandbox.store().join("gondola/records");
    let _ = fs::remove_dir_all(records.join("listing"));
    keeps_only(&records, &[]);
}

#[test]
fn the_linter_shows_no_value() {
    let place = need!(Place::new());
    place.sandbox.write("ctx/.dockerignore", "tk7zq*\n");
    let file =
        "FROM busybox\nARG COPIED FOLDER\nCOPY $COPIED /x\nWORKDIR $FOLDER\nEXPOSE $COPIED\n";
    let ran = place.build(file, &[&ARGUMENTS[..], &["--check"]].concat());
    shows_nothing(&ran);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("left out"), "{ran:?}");
}

#[test]
fn addresses_show_and_keep_neither_user_nor_query() {
    let place = need!(Place::new());
    let served = place.sandbox.path("served");
    fs::create_dir_all(&served).unwrap();
    fs::write(served.join("file"), "FROM scratch\n").unwrap();
    need!(repository(&place.sandbox, &served.join("private.git")));
    let started = server(served);
    let host = started.address();
    let url = |path: &str| format!("http://tk7zquser:tk7zqpassword@{host}{path}?sig=tk7zqquery");
    let git = format!("http://me:tk7zqgitpassword@{host}/private.git");
    for (file, is_built) in [
        (format!("FROM scratch\nADD {} /\n", url("/file")), true),
        (format!("FROM scratch\nADD {} /\n", url("/moved")), true),
        (format!("FROM scratch\nADD {} /\n", url("/insecure")), false),
        (format!("FROM scratch\nADD {} /\n", url("/missing")), false),
        (
            format!("FROM scratch\nADD --checksum=sha256:{} {} /\n", "0".repeat(64), url("/file")),
            false,
        ),
        (format!("FROM scratch\nADD {git} /a\n"), true),
        (format!("FROM scratch\nADD --keep-git-dir=true {git} /a\n"), true),
        (format!("FROM scratch\nADD {git}#nothing /a\n"), false),
    ] {
        for view in VIEWS {
            let ran = place.build(&file, &[&["--no-cache"][..], view].concat());
            assert_eq!(ran.code == Some(0), is_built, "{file}\n{}", ran.stderr);
            shows_nothing(&ran);
        }
    }
    let with_fragment = |path: &str| format!("{}#tk7zqfragment", url(path));
    let contexts =
        [with_fragment("/file"), with_fragment("/missing"), git.clone(), format!("{git}#nothing")];
    for context in contexts {
        for view in VIEWS {
            let all = [&["build", "-t", "x", &context][..], view].concat();
            shows_nothing(&place.sandbox.gondola(&all));
            let context = format!("c={context}");
            let all =
                [&["build", "-t", "x", "--build-context", &context, "ctx"][..], view].concat();
            shows_nothing(&place.sandbox.gondola(&all));
        }
    }
    // The history has an instruction as it is written; nothing else has an address whole.
    for (token, path) in kept(&place.sandbox.store()) {
        let text = fs::read(&path).unwrap();
        let is_config = serde_json::from_slice::<serde_json::Value>(&text)
            .is_ok_and(|value| value.get("history").is_some());
        assert!(is_config, "{token} in {}", path.display());
    }
}

#[test]
fn git_is_not_told_passwords_on_its_command_line() {
    let mut sandbox = Sandbox::new();
    let served = sandbox.path("served");
    fs::create_dir_all(&served).unwrap();
    need!(repository(&sandbox, &served.join("private.git")));
    let git = need!(program("git"));
    let log = sandbox.path("words");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\nexec {} \"$@\"\n",
        log.display(),
        git.display()
    );
    let wrapper = sandbox.write("bin/git", script);
    fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", wrapper.parent().unwrap().display(), sandbox.environment()["PATH"]);
    sandbox.set("PATH", &path);
    let started = server(served);
    let context = format!("http://me:tk7zqgitpassword@{}/private.git", started.address());
    sandbox.gondola(&["build", "-t", "x", &context]).success();
    let words = fs::read(log).unwrap();
    assert!(!words.is_empty() && planted(&words).is_empty(), "{}", String::from_utf8_lossy(&words));
}

#[test]
fn mistakes_on_the_command_line_are_told_without_values() {
    let sandbox = Sandbox::new();
    sandbox.write("ctx/Dockerfile", "FROM scratch\n");
    sandbox.write("variables", "GOOD=tk7zqfile\nBAD NAME=tk7zqfile\n");
    sandbox.write("bare", "a line tk7zqfile\n");
    let destination = "--destination=127.0.0.1:1/a";
    for arguments in [
        &["build", "--env", "=tk7zqx", "."][..],
        &["build", "--env", "tk7zqx", "."],
        &["build", "--label", "=tk7zqx", "-f", "ctx/Dockerfile", "ctx"],
        &["build", "--go-env", "=tk7zqx", "."],
        &["build", "--cmd", "[tk7zqx", "."],
        &["build", "-f", "ctx/Dockerfile", "--secret", "id=a,tk7zqx", "ctx"],
        &["build", "-f", "ctx/Dockerfile", "--build-arg", "A=1", "ctx", "TOKEN=tk7zqx"],
        &["build", "-f", "ctx/Dockerfile", "--build-context", "https://u:tk7zqx@h/?tk7zqy", "ctx"],
        &["build", "-f", "ctx/Dockerfile", "--build-args=TOKEN=tk7zqx", "ctx"],
        &["build", "-eTOKEN=tk7zqx", "ctx"],
        &["build", "--e", "TOKEN=tk7zqx", "ctx"],
        &["run", "-e", "=tk7zqx", "image"],
        &["run", "-e", "A B=tk7zqx", "image"],
        &["run", "--env-file", "variables", "image"],
        &["run", "--env-file", "bare", "image"],
        &["run", "--label", "=tk7zqx", "image"],
        &["pull", "https://u:tk7zqx@h/a?tk7zqy"],
        &["push", "https://u:tk7zqx@h/a?tk7zqy"],
        &["kaniko", "--context=dir://ctx", destination, "--label", "=tk7zqx"],
        &["kaniko", "--context=dir://ctx", destination, "--secret", "id=a,tk7zqx"],
        &["kaniko", "--context=https://u:tk7zqx@h/a?tk7zqy", destination],
        &["kaniko", "--context=s3://b/a?tk7zqy", destination],
        &["kaniko", "--context=dir://ctx", destination, "--tar-path=https://u:tk7zqx@h/a?tk7zqy"],
        &["kaniko", "--context=dir://ctx", destination, "--dockerfile=https://u:tk7zqx@h/a?tk7zqy"],
        &["kaniko", "--context=git://h/a", destination, "--git", "token=tk7zqx"],
        &["run", "--add-host", "tk7zqx", "image"],
        &["run", "--add-host", "name:tk7zqx", "image"],
        &["build", "-f", "ctx/Dockerfile", "--add-host", "name:tk7zqx", "ctx"],
        &["exec", "-e", "A B=tk7zqx", "nobody", "true"],
        &["login", "127.0.0.1:1", "-u", "me", "-p", "tk7zqx"],
    ] {
        let ran = sandbox.gondola(arguments);
        assert_ne!(ran.code, Some(0), "{arguments:?}");
        shows_nothing(&ran);
    }
}

#[test]
fn a_plan_shows_no_value() {
    let sandbox = Sandbox::new();
    let file = "FROM scratch\nARG V\nENV E=$V\nCOPY df /${V}/x\nWORKDIR /wd-$V\nRUN echo $V ${E}\n";
    sandbox.write("df", file);
    for json in [&[][..], &["--json"]] {
        let value = format!("V={TOKEN}plan");
        let plan = ["build", "--dry-run", "-f", "df", "--build-arg", &value, "."];
        let ran = sandbox.gondola(&[&plan[..], json].concat()).success();
        shows_nothing(&ran);
        assert!(ran.stdout.contains("WORKDIR /wd-$V"), "{}", ran.stdout);
    }
}

/// With a scheme and without one; nobody answers there.
#[test]
fn whoever_stands_before_a_host_is_not_shown_wherever_it_is_written() {
    let sandbox = Sandbox::new();
    let who = format!("{TOKEN}user:{TOKEN}password@127.0.0.1:1");
    sandbox.write("df", "FROM scratch\nCOPY df /\n");
    let commands = [
        "copy https://WHO/x oci:a",
        "copy oci:a https://WHO/x",
        "copy docker://WHO/x oci:a",
        "pull WHO/x",
        "push WHO/x",
        "inspect https://WHO/x",
        "run https://WHO/x",
        "run WHO/x",
        "login WHO",
        "logout WHO",
        "rmi WHO/x",
        "images --insecure-registry WHO",
        "--mirror docker.io=https://WHO pull busybox",
        "--mirror docker.io=WHO pull busybox",
        "build -f df -t WHO/x .",
        "build -f df -o https://WHO/x .",
        "build -f df --cache-repo WHO/x .",
        "build -f df --build-context a=docker-image://WHO/x .",
        "build -f https://WHO/df .",
        "build https://WHO/x.git",
        "build --base https://WHO/x --prebuilt df",
        "build --base WHO/x --prebuilt df",
        "build --go WHO/x",
        "kaniko -c . -f df --registry-mirror=WHO --no-push",
        "kaniko -c . -f df --registry-map=docker.io=WHO --no-push",
        "kaniko -c . -f df -d WHO/x",
        "kaniko -c . -f df --insecure-registry=WHO --no-push",
    ];
    for command in commands {
        let words: Vec<String> = command.split(' ').map(|word| word.replace("WHO", &who)).collect();
        shows_nothing(&sandbox.gondola(&words));
    }
}

#[test]
fn containers_keep_their_variables_for_their_owner_alone() {
    let place = need!(Place::new());
    place.sandbox.write("variables", "FILED=tk7zqfile\n");
    let run = |more: &[&str]| {
        let mut all =
            vec!["run", "--mirror", &place.mirror, "-e", "TYPED=tk7zqtyped", "-e", "FROM_ENV"];
        all.extend(["--env-file", "variables", "--name", "named"]);
        all.extend(more);
        place.sandbox.gondola(&all)
    };
    let command = ["busybox", "sh", "-c", "test -n \"$TYPED$FROM_ENV$FILED\""];
    for view in VIEWS {
        shows_nothing(&run(&[view, &command[..]].concat()).success());
        for command in
            [&["ps", "-a"][..], &["ps", "-a", "--json"], &["logs", "named"], &["restart", "named"]]
        {
            shows_nothing(&place.sandbox.gondola(&[command, view].concat()));
        }
        holds_configurations_alone(&place.sandbox.store());
        place.sandbox.gondola(&["rm", "-f", "named"]).success();
    }
    shows_nothing(&run(&["busybox", "/nothing"]));
    place.sandbox.gondola(&["rm", "-f", "named"]);
    shows_nothing(&run(&["-w", "/etc/passwd", "busybox", "true"]));
}

/// Panics if a planted value is elsewhere than in the configuration of a container, or others may read
/// that.
#[track_caller]
fn holds_configurations_alone(store: &Path) {
    for (token, path) in kept(store) {
        assert_eq!(path.file_name().unwrap(), "config.json", "{token} in {}", path.display());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn further_programs_show_and_keep_no_value() {
    let place = need!(Place::new());
    let run = ["run", "-d", "--mirror", &place.mirror, "-e", "TYPED=tk7zqtyped", "--name", "named"];
    let forever = ["busybox", "sleep", "1000"];
    shows_nothing(&place.sandbox.gondola(&[&run[..], &forever].concat()).success());
    for view in VIEWS {
        let exec = ["exec", "-e", "LATER=tk7zqlater", "-e", "FROM_ENV"];
        let test = ["named", "sh", "-c", "test -n \"$TYPED$FROM_ENV$LATER\""];
        shows_nothing(&place.sandbox.gondola(&[&exec[..], view, &test].concat()).success());
        shows_nothing(&place.sandbox.gondola(&[&exec[..], view, &["named", "/nothing"]].concat()));
    }
    holds_configurations_alone(&place.sandbox.store());
    shows_nothing(&place.sandbox.gondola(&["rm", "-f", "named"]).success());
}

#[test]
fn passwords_of_registries_are_neither_shown_nor_kept() {
    let auth = RegistryAuth::Htpasswd;
    let registry = need!(Registry::start(RegistryOptions { auth, ..RegistryOptions::default() }));
    let mut sandbox = Sandbox::new();
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let name = registry.image("team/app:v1");
    sandbox.gondola(&["build", "-t", &name, "ctx"]).success();
    sandbox.set("CI_REGISTRY", registry.host());
    sandbox.set("CI_REGISTRY_USER", USER);
    for (password, is_right) in [("tk7zqwrong", false), (PASSWORD, true)] {
        sandbox.set("CI_REGISTRY_PASSWORD", password);
        let login = ["login", registry.host(), "-u", USER, "-p", password];
        for view in VIEWS {
            for command in [&["push", &name][..], &["pull", &name], &login] {
                let ran = sandbox.gondola(&[command, view].concat());
                assert_eq!(ran.code == Some(0), is_right, "{ran:?}");
                shows_nothing(&ran);
                assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(PASSWORD), "{ran:?}");
            }
        }
    }
    for path in files(&sandbox.store()) {
        let bytes = fs::read(&path).unwrap();
        let kept = planted(&bytes).len() + bytes_with(&bytes, PASSWORD.as_bytes());
        assert_eq!(kept, 0, "{}", path.display());
    }
    assert!(registry.log().iter().all(|request| planted(request.path.as_bytes()).is_empty()));
}

fn bytes_with(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

#[test]
fn builds_with_kanikos_flags_show_no_value() {
    let place = need!(Place::new());
    place.sandbox.write(
        "ctx/Dockerfile",
        "FROM scratch\nARG COPIED FROM_ENV\nCOPY file /$COPIED\nLABEL a=$FROM_ENV\n",
    );
    let name = format!("--destination={}", place.registry.image("team/app:v1"));
    for view in VIEWS {
        let all = ["kaniko", "--context=dir://ctx", &name, "--build-arg=COPIED=tk7zqcopied"];
        let more = ["--build-arg", "FROM_ENV", "--build-arg=UNUSED=tk7zqunused", "--cache=true"];
        shows_nothing(&place.sandbox.gondola(&[&all[..], &more, view].concat()).success());
        let wrong = ["kaniko", "--context=dir://ctx", "--no-push", "--dockerfile=Wrong"];
        place.sandbox.write("ctx/Wrong", "FROM scratch\nARG COPIED\nCOPY $COPIED /\n");
        let wrong = [&wrong[..], &["--build-arg=COPIED=tk7zqcopied"], view].concat();
        shows_nothing(&place.sandbox.gondola(&wrong).code(1));
    }
    keeps_only(&place.registry.storage(), &["tk7zqcopied", "tk7zqfromenv"]);
}

#[test]
fn builds_of_go_packages_show_no_value() {
    need!(go());
    let mut sandbox = Sandbox::new();
    sandbox.go_module("hello", "hi");
    sandbox.set("HTTPS_PROXY", "http://me:tk7zqproxyenv@127.0.0.1:9");
    let flags = ["--env", "KEPT=tk7zqkept", "--ldflags", "-X main.token=tk7zqlinked"];
    let more =
        ["--go-env", "GOTOKEN=tk7zqgoenv", "--timings", "timings.html", "-t", "example.com/app"];
    for view in VIEWS {
        let all = [&["build"][..], &flags, &more, view, &["./hello"]].concat();
        shows_nothing(&sandbox.gondola(&all).success());
    }
    assert!(planted(&fs::read(sandbox.path("timings.html")).unwrap()).is_empty());
    sandbox.write("hello/more.go", "package main\n\nfunc f() { undefinedName() }\n");
    for view in VIEWS {
        let all = [&["build"][..], &flags, &more, view, &["./hello"]].concat();
        shows_nothing(&sandbox.gondola(&all).code(1));
    }
    keeps_only(&sandbox.store(), &["tk7zqkept"]);
}
