//! Documents that are none: whatever stands in the place of a file that gondola reads, it ends soon
//! and says what it found; and what the shell made of `<(…)` is read.

#![cfg(test)]

mod support;

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use support::{Run, Sandbox, go, need, program, succeed};

/// Longer than any of the runs takes, and shorter than anybody waits.
const PATIENCE: Duration = Duration::from_secs(30);
/// The memory that a run may have, in KiB: reading without end comes to an end.
const MEMORY: &str = "6000000";

const BUILD_CONTEXT: [&str; 4] = ["build", "-f", "context/Dockerfile", "context"];
const BUILD_APP: [&str; 4] = ["build", "--go", "host", "./app"];
const PULL: [&str; 2] = ["pull", "127.0.0.1:1/x"];

/// What stands in a document's place, and what is said of it.
const IMPOSTORS: [(&str, &str); 5] = [
    ("pipe", "it is a named pipe"),
    ("zero", "it is a device"),
    ("folder", "it is a folder"),
    ("socket", "it is a socket"),
    ("sparse", "bytes"),
];

fn put(kind: &str, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match kind {
        "pipe" => drop(succeed(Command::new("mkfifo").arg(path))),
        "zero" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "socket" => {
            // The folder by its descriptor: the path of a socket has 107 bytes at most.
            let folder = fs::File::open(path.parent().unwrap()).unwrap();
            let short = format!("/proc/self/fd/{}", folder.file().as_raw_fd());
            let short = Path::new(&short).join(path.file_name().unwrap());
            drop(std::os::unix::net::UnixListener::bind(short).unwrap());
        }
        "sparse" => fs::File::create(path).unwrap().set_len(1 << 30).unwrap(),
        other => unreachable!("{other}"),
    }
}

fn take_away(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// Runs the program; errs where it does not come to an end of its own.
fn ends(sandbox: &Sandbox, arguments: &[&str]) -> Result<Run, String> {
    let program = env!("CARGO_BIN_EXE_gondola");
    let mut command = Command::new("sh");
    command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    command.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$@\""), "sh", program]);
    command.args(arguments).stdin(Stdio::null());
    match Run::within(&mut command, PATIENCE) {
        Ok(run) if run.code.is_none() => {
            Err(format!("{arguments:?} was ended by a signal: {run:?}"))
        }
        Ok(run) => Ok(run),
        Err(said) => Err(format!("{arguments:?} did not end; it said {said:?}")),
    }
}

/// A document: where it is in the working folder, and who reads it.
struct Document {
    path: &'static str,
    arguments: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
    /// What takes another form than a file there, and is not refused as such.
    except: &'static [&'static str],
}

const fn read_by(path: &'static str, arguments: &'static [&'static str]) -> Document {
    Document { path, arguments, variable: None, except: &[] }
}

impl Document {
    const fn named_by(self, name: &'static str, value: &'static str) -> Self {
        Self { variable: Some((name, value)), ..self }
    }

    const fn except(self, except: &'static [&'static str]) -> Self {
        Self { except, ..self }
    }

    /// Puts each impostor in the document's place; answers what went wrong.
    fn check(&self, sandbox: &mut Sandbox) -> Vec<String> {
        if let Some((name, value)) = self.variable {
            let value = sandbox.path(value).display().to_string();
            sandbox.set(name, &value);
        }
        let impostors = IMPOSTORS.iter().filter(|(kind, _)| !self.except.contains(kind));
        let found = impostors.filter_map(|(kind, says)| {
            let path = sandbox.path(self.path);
            put(kind, &path);
            let ran = ends(sandbox, self.arguments);
            take_away(&path);
            let wrong = match ran {
                Err(wrong) => wrong,
                Ok(ran) if !matches!(ran.code, Some(1 | 2 | 125)) => format!("{ran:?}"),
                Ok(ran) if !ran.stderr.contains(says) || ran.stderr.contains("panicked") => {
                    format!("{:?} said {}", self.arguments, ran.stderr)
                }
                Ok(_) => return None,
            };
            Some(format!("{} is a {kind}: {wrong}", self.path))
        });
        let found = found.collect();
        if let Some((name, _)) = self.variable {
            sandbox.unset(name);
        }
        found
    }
}

fn check_all(sandbox: &mut Sandbox, documents: impl IntoIterator<Item = Document>) {
    let wrong: Vec<_> = documents.into_iter().flat_map(|one| one.check(sandbox)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_build_of_a_dockerfile_reads() {
    let mut sandbox = Sandbox::new();
    sandbox.write("context/Dockerfile", "FROM scratch\nCOPY a /a\n");
    sandbox.write("context/a", "a");
    let documents = [
        read_by("doc", &["build", "-f", "doc", "context"]),
        read_by("other/Dockerfile", &["build", "-f", "other/Dockerfile", "other"]),
        read_by("context/.dockerignore", &BUILD_CONTEXT).except(&["zero", "folder", "socket"]),
        read_by("context/Dockerfile.dockerignore", &BUILD_CONTEXT),
    ];
    check_all(&mut sandbox, documents);
    sandbox.write("secret/Dockerfile", "FROM scratch\nRUN --mount=type=secret,id=s [\"/none\"]\n");
    let secret = read_by(
        "doc",
        &[
            "build",
            "--sandbox",
            "in-container",
            "--secret",
            "id=s,src=doc",
            "-f",
            "secret/Dockerfile",
            "secret",
        ],
    );
    check_all(&mut sandbox, [secret]);
}

#[test]
fn what_a_build_of_go_reads() {
    need!(go());
    let mut sandbox = Sandbox::new();
    sandbox.go_module("app", "hi");
    sandbox.write("none/main.go", "package main\n\nfunc main() {}\n");
    sandbox.write("vendored/go.mod", "module example.com/v\n\ngo 1.21\n");
    sandbox.write("vendored/main.go", "package main\n\nfunc main() {}\n");
    let documents = [
        read_by("doc", &["build", "--config", "doc", "./app"]),
        read_by("gondola.yaml", &BUILD_APP),
        read_by("none/go.mod", &["build", "--go", "host", "./none"]).except(&["folder"]),
        read_by("app/go.sum", &BUILD_APP).except(&["folder"]),
        read_by("go.work", &BUILD_APP).except(&["folder"]),
        read_by("vendored/vendor/modules.txt", &["build", "--go", "host", "./vendored"]),
    ];
    check_all(&mut sandbox, documents);
}

#[test]
fn what_other_tools_left_for_registries() {
    let mut sandbox = Sandbox::new();
    let documents = [
        read_by("docker/config.json", &["logout", "127.0.0.1:1"])
            .named_by("DOCKER_CONFIG", "docker"),
        read_by("registries.conf", &PULL).named_by("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
    ];
    check_all(&mut sandbox, documents);
}

#[test]
fn what_images_and_containers_are_made_of() {
    let mut sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.gondola(&["build", "--prebuilt", "app", "-o", "oci:layout"]).success();
    let documents = [
        read_by("doc", &["run", "--sandbox", "in-container", "--env-file", "doc", "oci:layout"]),
        read_by("doc", &["copy", "docker-archive:doc", "oci:out"]).except(&["sparse"]),
        read_by("doc", &["copy", "oci-archive:doc", "oci:out"]).except(&["sparse"]),
        read_by("doc", &["build", "--prebuilt", "doc"]).except(&["folder", "sparse"]),
        read_by("doc", &["build", "--prebuilt", "app", "--add", "doc:/doc"])
            .except(&["folder", "sparse"]),
    ];
    check_all(&mut sandbox, documents);
    let layout = sandbox.path("layout");
    for name in ["oci-layout", "index.json"] {
        let kept = fs::read(layout.join(name)).unwrap();
        fs::remove_file(layout.join(name)).unwrap();
        let path: &'static str = Box::leak(format!("layout/{name}").into_boxed_str());
        check_all(&mut sandbox, [read_by(path, &["copy", "oci:layout", "oci:out"])]);
        fs::write(layout.join(name), kept).unwrap();
    }
    let blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256")).unwrap().collect();
    for blob in blobs {
        let path = blob.unwrap().path();
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let name = path.strip_prefix(sandbox.work()).unwrap().display().to_string();
        let name: &'static str = Box::leak(name.into_boxed_str());
        let blob = read_by(name, &["copy", "oci:layout", "oci:out"]).except(&["sparse"]);
        check_all(&mut sandbox, [blob]);
        fs::write(&path, kept).unwrap();
    }
}

/// Runs a script of bash that starts the program as `"$@"`; what it says and how it ends.
fn script(sandbox: &Sandbox, script: &str) -> Run {
    let mut command = Command::new("bash");
    command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_gondola")]).stdin(Stdio::null());
    Run::of(&mut command)
}

#[test]
fn what_the_shell_made_of_a_program_is_read() {
    need!(program("bash"));
    let sandbox = Sandbox::new();
    sandbox.write("app", "x");
    sandbox.write("context/a", "a");
    let ids = [
        "\"$@\" build -q -f <(echo FROM scratch; echo COPY a /a) context",
        "(echo FROM scratch; echo COPY a /a) | \"$@\" build -q -f /dev/stdin context",
        "\"$@\" build -q -f - context < <(echo FROM scratch; echo COPY a /a)",
    ];
    for one in ids {
        let ran = script(&sandbox, one).success();
        assert!(ran.line().contains("sha256:"), "{one}: {ran:?}");
    }
    let ran = script(&sandbox, "\"$@\" build --prebuilt app --config <(echo nonsense: 1)").code(2);
    let _ = ran.says("nonsense");
    script(&sandbox, "\"$@\" build --prebuilt app -o docker-archive:- | cat > x.tar").success();
    let ran = script(&sandbox, "\"$@\" copy docker-archive:<(cat x.tar) oci:out").success();
    assert!(sandbox.path("out/index.json").is_file(), "{ran:?}");
}

#[test]
fn signals_end_the_wait_for_a_pipe() {
    let sandbox = Sandbox::new();
    sandbox.write("context/a", "a");
    for (signal, file) in [("TERM", "/dev/stdin"), ("INT", "-"), ("HUP", "/dev/fd/0")] {
        let mut command = sandbox.command(&["build", "-f", file, "context"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It waits for its input, when nothing else is left to do.
        let status = format!("/proc/{}/status", child.id());
        let began = Instant::now();
        let catches = || {
            let text = fs::read_to_string(&status).unwrap();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() & 1 << 14 != 0
        };
        while !catches() {
            assert!(began.elapsed() < PATIENCE, "it never listened");
            std::thread::yield_now();
        }
        succeed(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("SIG{signal} did not end the wait for {file}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let _ = Run::ended(&command, output).code(130).says(" came");
    }
}
