//! Places where little is allowed, and steps that end badly: each works or says in one line what is
//! missing, and nothing is left behind.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Docker, GONDOLA, LOCKED_DOWN, Lines, Run, Sandbox, go, need, program, root};

fn finding(findings: &str, isolation: &str) -> Value {
    let findings: Value = serde_json::from_str(findings).unwrap();
    let mut all = findings.as_array().unwrap().iter();
    all.find(|finding| finding["isolation"] == isolation).unwrap().clone()
}

#[test]
fn a_container_under_dockers_profile_is_told_what_works_and_why_not() {
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    let image = docker.image_with_gondola(&sandbox.path("image"), &[]);
    let doctor = ["/usr/bin/gondola", "doctor", "--json"];
    let run = |options: &[&str]| {
        docker.docker(&[&["run", "--rm"], options, &[image.as_str()], &doctor].concat())
    };
    let as_root = run(&["--network=none", "--env=GONDOLA_HOME=/tmp/store", "--env=HOME=/tmp"]);
    assert_eq!(finding(&as_root, "in-container")["works"], true, "{as_root}");
    let as_nobody = run(&LOCKED_DOWN);
    assert_eq!(finding(&as_nobody, "in-container")["works"], false, "{as_nobody}");
    for said in [as_root, as_nobody] {
        assert_eq!(finding(&said, "toolchain")["works"], true, "{said}");
        for isolation in ["ns-root", "ns-subuid", "ns", "ns-copy"] {
            let finding = finding(&said, isolation);
            assert_eq!(finding["works"], false, "{said}");
            assert!(!finding["reason"].as_str().unwrap().contains('\n'), "{finding}");
        }
        let blocked = finding(&said, "ns");
        assert!(blocked["fix"].as_str().unwrap().contains("seccomp=unconfined"), "{blocked}");
    }
}

#[test]
fn root_without_the_rights_that_cri_o_takes_is_told_what_to_do() {
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    let image = docker.image_with_gondola(&sandbox.path("image"), &[]);
    let said = docker.docker(&[
        "run",
        "--rm",
        "--network=none",
        "--env=HOME=/tmp",
        "--cap-drop=MKNOD",
        "--cap-drop=SETFCAP",
        "--cap-drop=SYS_CHROOT",
        "--security-opt=seccomp=unconfined",
        &image,
        GONDOLA,
        "doctor",
        "--json",
    ]);
    for (isolation, reason, fix) in
        [("in-container", "CAP_SYS_CHROOT", "SYS_CHROOT"), ("ns", "CAP_SETFCAP", "SETFCAP")]
    {
        let finding = finding(&said, isolation);
        assert_eq!(finding["works"], false, "{said}");
        assert!(finding["reason"].as_str().unwrap().contains(reason), "{finding}");
        assert!(finding["fix"].as_str().unwrap().contains(fix), "{finding}");
    }
}

#[test]
fn a_locked_down_container_builds_the_same_image_as_the_host() {
    let go = need!(go());
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    let image = docker.image_with_gondola(&sandbox.path("image"), &[]);
    let module = sandbox.go_module("hello", "hello");
    let here = sandbox.gondola(&["build", "-t", "hello", "./hello"]).success();
    let goroot = support::run(go, &["env", "GOROOT"]);
    let go_mount = format!("--volume={}:/usr/local/go:ro", goroot.trim());
    let source = format!("--volume={}:/hello:ro", module.display());
    let path = "--env=PATH=/usr/local/go/bin:/usr/bin";
    let options = [&["run", "--rm", &go_mount, &source, path][..], &LOCKED_DOWN].concat();
    let build = [image.as_str(), "/usr/bin/gondola", "build", "-t", "hello", "/hello"];
    let there = docker.docker(&[&options[..], &build].concat());
    let digest = |line: &str| line.trim().rsplit_once('@').unwrap().1.to_owned();
    assert_eq!(digest(&there), digest(here.line()));
}

/// What steps look at where nothing can be mounted.
const LOOK: &str = "set -e; test \"$(readlink /proc/self/exe)\" = /bin/busybox; \
    grep -q ^Name: /proc/self/status; echo error >/dev/stderr; echo output >/dev/stdout; \
    test \"$(echo input | cat /dev/fd/0)\" = input; echo gone >/dev/null; ls /proc/self/fd/0; \
    test \"$(stat -c %a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty | sort -u)\" = 666; \
    test $(stat -c %a /dev/shm) = 1777; echo x >/dev/shm/x; test -s /etc/resolv.conf; \
    grep -q localhost /etc/hosts; test \"$(cat /etc/hostname)\" = \"$(hostname)\"";

/// A Dockerfile whose steps run commands of busybox, and a container of docker's engine that builds it.
struct Contained {
    docker: Docker,
    sandbox: Sandbox,
    image: String,
}

impl Contained {
    fn new(busybox: &Path) -> support::Need<Self> {
        let docker = Docker::start()?;
        let sandbox = Sandbox::new();
        let image = docker.image_with_gondola(&sandbox.path("image"), &[]);
        fs::create_dir_all(sandbox.path("context/shown")).unwrap();
        fs::copy(busybox, sandbox.path("context/busybox")).unwrap();
        fs::write(sandbox.path("context/shown/file"), "shown").unwrap();
        fs::write(sandbox.path("context/token"), SECRET).unwrap();
        Ok(Self { docker, sandbox, image })
    }

    /// `docker run` with options, and in it a build of these steps.
    fn build(&self, steps: &str, options: &[&str]) -> Command {
        let text = format!(
            "FROM scratch\nCOPY busybox /bin/busybox\n\
             RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n{steps}"
        );
        fs::write(self.sandbox.path("context/Dockerfile"), text).unwrap();
        let context = format!("--volume={}:/context:ro", self.sandbox.path("context").display());
        let out = format!("--volume={}:/out", self.sandbox.work().display());
        let run = ["run", "--network=none", "--env=HOME=/tmp", &context, &out];
        let build = [GONDOLA, "build", "-f", "/context/Dockerfile", "--progress=plain"];
        let more =
            ["-o", "oci:/out/result:x", "--secret", "id=token,src=/context/token", "/context"];
        let image = [self.image.as_str()];
        self.docker.command(&[&run[..], options, &image, &build, &more].concat())
    }
}

#[test]
fn steps_in_a_container_under_dockers_profile_find_what_every_step_does() {
    let busybox = need!(program("busybox"));
    let contained = need!(Contained::new(&busybox));
    let steps = format!("RUN {LOOK}\nUSER 1000:1000\nRUN {LOOK}\n");
    // With less, devices cannot be made.
    for options in [&["--rm"][..], &["--rm", "--cap-drop=MKNOD", "--cap-drop=SETFCAP"]] {
        let run = Run::of(&mut contained.build(&steps, options)).success();
        let said = run.stderr.matches("sandbox in-container: most steps").count();
        assert_eq!(said, 1, "{}", run.stderr);
        assert!(run.stderr.contains("steps are no boundary"), "{}", run.stderr);
    }
}

const SECRET: &str = "hunter2-and-more";

/// Mounts over what is there, and where nothing is; beside a file of the step's own.
const MOUNTS: &str = r#"
RUN mkdir -p /etc /work/old /cache && echo kept >/work/old/file && echo mine >/etc/token && echo own >/cache/own
RUN --mount=type=secret,id=token,target=/etc/token --mount=type=secret,id=token,uid=1000,gid=1000 \
    --mount=type=cache,target=/cache --mount=type=bind,source=shown,target=/work/old \
    --mount=type=bind,source=shown/file,target=/work/one --mount=type=tmpfs,target=/t <<EOF
set -e
cmp /etc/token /run/secrets/token
test "$(cat /etc/token)" = hunter2-and-more
test "$(stat -c '%a %u' /run/secrets/token)" = "400 1000"
ln -s /run/secrets/token /link; test "$(cat /link)" = hunter2-and-more; rm /link
cd /run; test "$(cat secrets/token)" = hunter2-and-more
test "$(ls /work/old)" = file; test "$(cat /work/old/file)" = shown; test "$(cat /work/one)" = shown
test ! -e /cache/own; echo new >/cache/new; echo gone >/t/gone
echo stays >/work/stays
EOF
RUN <<EOF
#!/bin/cat
EOF
USER 1000:1000
RUN --mount=type=secret,id=token,uid=1000 --mount=type=cache,target=/cache,uid=1000 \
    test "$(cat /run/secrets/token)" = hunter2-and-more && test -s /cache/new
RUN --mount=type=secret,id=token ! cat /run/secrets/token
"#;

fn is_left(line: &str) -> bool {
    !line.contains("/bin") && !line.starts_with("config ")
}

#[test]
fn mounts_of_steps_in_a_container_under_dockers_profile_leave_nothing() {
    let busybox = need!(program("busybox"));
    let contained = need!(Contained::new(&busybox));
    Run::of(&mut contained.build(MOUNTS, &["--rm"])).success();
    let lines = Lines::of_image(&contained.sandbox.path("result"));
    let left: Vec<_> = lines.lines.values().map(String::as_str).filter(|it| is_left(it)).collect();
    let expected = [
        "d 0755 0:0 /cache",
        "f 0644 0:0 /cache/own own\\n",
        "d 0755 0:0 /etc",
        "f 0644 0:0 /etc/token mine\\n",
        "d 0755 0:0 /work",
        "d 0755 0:0 /work/old",
        "f 0644 0:0 /work/old/file kept\\n",
        "f 0644 0:0 /work/stays stays\\n",
    ];
    assert_eq!(left, expected);
}

#[test]
fn a_container_that_is_killed_has_no_secret_on_its_disk() {
    let busybox = need!(program("busybox"));
    let contained = need!(Contained::new(&busybox));
    let steps =
        "RUN --mount=type=secret,id=token wc -c /run/secrets/token && echo seen && sleep 600\n";
    let mut build = contained.build(steps, &["--name=killed"]);
    let mut build = build.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(build.stderr.take().unwrap()).lines();
    let said: Vec<_> =
        lines.map_while(|line| line.ok().filter(|line| !line.ends_with("seen"))).collect();
    assert!(said.iter().any(|line| line.contains("16 /run/secrets/token")), "{said:?}");
    contained.docker.docker(&["kill", "killed"]);
    build.wait().unwrap();
    let disk = contained.docker.command(&["export", "killed"]).output().unwrap().stdout;
    let holds = |text: &[u8]| disk.windows(text.len()).any(|part| part == text);
    // What a step is run on is there, its secret is not. Where the secret was may be cleared already.
    assert!(holds(b"/fs/bin/busybox"));
    assert!(!holds(SECRET.as_bytes()));
}

/// Every file below a folder that is no folder, with its number and when it was changed.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let (mut found, mut pending) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let file = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), file);
        }
    }
    found
}

#[test]
fn a_changed_line_copies_no_other_file_in_a_container_under_dockers_profile() {
    let busybox = need!(program("busybox"));
    let contained = need!(Contained::new(&busybox));
    let store = contained.sandbox.store();
    fs::create_dir_all(&store).unwrap();
    let volume = format!("--volume={}:/store", store.display());
    let options = ["--rm", "--env=GONDOLA_HOME=/store", &volume];
    let build = || {
        let steps = "COPY shown/file /src/file\nRUN cat /src/file >/made; rm /bin/yes\n";
        Run::of(&mut contained.build(steps, &options)).success();
        let trees = fs::read_dir(store.join("gondola/rootfs/working")).unwrap();
        let trees: Vec<_> = trees.map(|tree| tree.unwrap().path().join("fs")).collect();
        assert_eq!(trees.len(), 1, "{trees:?}");
        files(&trees[0])
    };
    let before = build();
    fs::write(contained.sandbox.path("context/shown/file"), "changed").unwrap();
    let after = build();
    // What the step removed the first time came back, and went again.
    let is_other = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let other: Vec<_> = after.keys().filter(is_other).collect();
    assert_eq!(other, [Path::new("src/file")]);
    assert_eq!(before.len(), after.len());
    // It is in its layer and in the tree.
    let copies = files(&store.join("gondola/rootfs")).into_keys();
    let copies = copies.filter(|path| path.ends_with("bin/busybox"));
    assert_eq!(copies.count(), 2);
    let lines = Lines::of_image(&contained.sandbox.path("result"));
    let made = lines.lines.values().any(|line| line == "f 0644 0:0 /made changed");
    assert!(made, "{:?}", lines.lines);
}

/// A Dockerfile whose one step runs a command of busybox.
fn dockerfile(sandbox: &Sandbox, busybox: &Path, command: &str) {
    fs::copy(busybox, sandbox.path("busybox")).unwrap();
    let text = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n\
         RUN [\"/bin/sh\", \"-c\", {command:?}]\n"
    );
    sandbox.write("Dockerfile", text);
}

/// The processes whose command line holds a word.
fn processes(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = entries.filter_map(|path| fs::read(path.join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(word)).collect()
}

fn assert_nothing_is_left(sandbox: &Sandbox, word: &str) {
    assert_eq!(processes(word), Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(sandbox.store().to_str().unwrap()), "{mounts}");
    // Every lock is free: nothing of the store is in use.
    sandbox.gondola(&["cache", "prune", "--all"]).success();
}

#[test]
fn a_terminated_build_leaves_no_process_mount_or_lock() {
    let busybox = need!(program("busybox"));
    let sandbox = Sandbox::new();
    let word = format!("{}98765", std::process::id());
    let command = format!(
        "/bin/busybox sleep {word} & /bin/busybox setsid /bin/busybox sleep {word} & \
         echo started; exec /bin/busybox sleep {word}"
    );
    dockerfile(&sandbox, &busybox, &command);
    for signal in [Signal::TERM, Signal::INT] {
        let mut build = sandbox.command(&["build", "-t", "x", "--progress=plain", "."]);
        let mut build = build.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(build.stderr.take().unwrap()).lines();
        let said: Vec<_> = lines
            .by_ref()
            .map_while(|line| line.ok().filter(|line| !line.ends_with("started")))
            .collect();
        assert!(!processes(&word).is_empty(), "{said:?}");
        kill_process(Pid::from_child(&build), signal).unwrap();
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        assert_eq!(build.wait().unwrap().code(), Some(130), "{rest:?}");
        assert!(rest.iter().any(|line| line.contains(": stopped after ")), "{rest:?}");
        assert_nothing_is_left(&sandbox, &word);
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let busybox = need!(program("busybox"));
    need!(root("a small file system"));
    let sandbox = Sandbox::new();
    let word = format!("full{}", std::process::id());
    let command = format!("/bin/busybox dd if=/dev/zero of=/{word} bs=1M count=64");
    dockerfile(&sandbox, &busybox, &command);
    fs::create_dir_all(sandbox.store()).unwrap();
    // The file system is this process's alone, and goes with it.
    let script = "mount -t tmpfs -o size=16m small \"$GONDOLA_HOME\" && \"$0\" build -t x .; code=$?; \
        \"$0\" cache prune --all >/dev/null || code=prune; exit $code";
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_gondola")]);
    wrapped.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    let run = support::Run::of(&mut wrapped).code(1);
    run.says("No space left on device").says("the disk of the store is full: free some space at ");
    assert_nothing_is_left(&sandbox, &word);
}

#[test]
fn after_a_build_was_killed_in_a_step_the_next_finds_the_right_files() {
    let busybox = need!(program("busybox"));
    need!(root("steps without namespaces"));
    let sandbox = Sandbox::new();
    let build = ["build", "-t", "x", "--progress=plain", "--sandbox=in-container", "."];
    dockerfile(&sandbox, &busybox, "echo first >/file");
    sandbox.gondola(&build).success();
    let word = format!("{}", 20 + std::process::id() % 20);
    let command = format!(
        "echo planted >/planted; /bin/busybox chmod 700 /bin; echo started; \
         exec /bin/busybox sleep {word}"
    );
    dockerfile(&sandbox, &busybox, &command);
    let mut killed = sandbox.command(&build);
    let mut killed = killed.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(killed.stderr.take().unwrap()).lines();
    let said: Vec<_> =
        lines.map_while(|line| line.ok().filter(|line| !line.ends_with("started"))).collect();
    assert!(!said.is_empty());
    kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
    killed.wait().unwrap();
    let look = "test ! -e /planted && test \"$(/bin/busybox stat -c %a /bin)\" = 755";
    dockerfile(&sandbox, &busybox, look);
    sandbox.gondola(&build).success();
    // A step that fails leaves its files to the next as they were before it.
    dockerfile(&sandbox, &busybox, "echo planted >/planted; /bin/busybox chmod 700 /bin; false");
    sandbox.gondola(&build).code(1);
    dockerfile(&sandbox, &busybox, &format!("{look} && true"));
    sandbox.gondola(&build).success();
}

#[test]
fn a_disk_that_is_full_while_files_are_put_back_makes_no_wrong_image() {
    let busybox = need!(program("busybox"));
    need!(root("a small file system"));
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1000");
    dockerfile(&sandbox, &busybox, "echo first >/file; echo more >>/bin/other; rm /bin/large");
    let text = fs::read_to_string(sandbox.path("Dockerfile")).unwrap();
    let text = text.replace("RUN", "COPY large /bin/large\nRUN");
    fs::write(sandbox.path("Dockerfile"), &text).unwrap();
    fs::write(sandbox.path("large"), "1".repeat(1 << 20)).unwrap();
    fs::write(sandbox.path("Dockerfile.next"), text.replace("first", "second")).unwrap();
    fs::create_dir_all(sandbox.store()).unwrap();
    // The file system is this process's alone, and goes with it.
    let script = "build() { \"$0\" build -t x --sandbox=in-container \"$@\" .; }
        mount -t tmpfs -o size=48m small \"$GONDOLA_HOME\" && build >&2 || exit 9
        dd if=/dev/zero of=\"$GONDOLA_HOME/filler\" bs=4096 2>/dev/null
        build -f Dockerfile.next >&2; echo $?
        rm \"$GONDOLA_HOME/filler\" && build -f Dockerfile.next";
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_gondola")]);
    wrapped.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    let run = support::Run::of(&mut wrapped).success();
    let digest = |text: &str| text.trim().rsplit_once('@').unwrap().1.to_owned();
    let mut fresh = Sandbox::new();
    fresh.set("SOURCE_DATE_EPOCH", "1000");
    for name in ["busybox", "large", "Dockerfile.next"] {
        fs::copy(sandbox.path(name), fresh.path(name)).unwrap();
    }
    let expected = fresh.gondola(&[
        "build",
        "-t",
        "x",
        "--sandbox=in-container",
        "-f",
        "Dockerfile.next",
        ".",
    ]);
    let expected = expected.success();
    assert_eq!(digest(&run.stdout), digest(&expected.stdout), "{run:?}");
}
