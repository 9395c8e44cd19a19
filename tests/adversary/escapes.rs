//! Ways out: what a program inside tries against the host, and what a Dockerfile or an image tries
//! with links in the places where gondola itself writes and mounts.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use gondola::oci::Digest;

use super::sniff::{everywhere, judge};
use super::support::Need;
use super::world::{Bench, Findings, Session, holds, open_to_all, run};
use super::{Attack, archive};

pub const ATTACKS: &[Attack] = &[
    ("ways out of a step and a container", ways_out),
    ("links where the program writes and mounts", links),
    ("processes that outlive their step", outliving),
];

/// No fewer than the attacker's program has.
const ACTIONS: usize = 70;
const SECRET: &str = "what-only-the-host-may-know";

/// What the attacker looks for on the host, and must neither find nor change.
struct Canary {
    _folder: tempfile::TempDir,
    file: PathBuf,
    process: Child,
    _socket: UnixListener,
    socket: String,
}

impl Canary {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gondola-canary-").tempdir().unwrap();
        open_to_all(folder.path());
        let file = folder.path().join("canary");
        fs::write(&file, SECRET).unwrap();
        let mut process = Command::new("sleep");
        process.arg("100000").env("CANARY", SECRET).stdin(Stdio::null());
        let socket = format!("gondola-canary-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(socket.as_bytes()).unwrap();
        Self {
            file,
            process: process.spawn().unwrap(),
            _socket: UnixListener::bind_addr(&address).unwrap(),
            socket,
            _folder: folder,
        }
    }

    /// Where everything is, for the attacker.
    fn variables(&self) -> Vec<(&'static str, String)> {
        use std::os::linux::fs::MetadataExt as _;
        let device = fs::metadata(&self.file).unwrap().st_dev();
        vec![
            ("CANARY_FILE", self.file.display().to_string()),
            ("CANARY_TEXT", SECRET.to_owned()),
            ("CANARY_PID", self.process.id().to_string()),
            ("CANARY_SOCKET", self.socket.clone()),
            ("CANARY_DEVICE", device.to_string()),
            ("CANARY_PROGRAM", env!("CARGO_BIN_EXE_gondola").to_owned()),
        ]
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an attacker could change of the machine without anybody's notice.
fn machine() -> Vec<String> {
    let files = ["kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "kernel/domainname"];
    let texts =
        files.map(|file| fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default());
    let program = fs::read(env!("CARGO_BIN_EXE_gondola")).unwrap();
    texts.into_iter().chain([Digest::of(&program).to_string()]).collect()
}

fn ways_out(session: &Session, findings: &mut Findings) -> Need<()> {
    let before = machine();
    let mut canary = Canary::new();
    everywhere(session, findings, |place, inside, findings| {
        let found = inside.attack(&canary.variables(), &["escapes"], &[]);
        judge(findings, &place.to_string(), found, ACTIONS);
    })?;
    let untouched = |holds: bool, why: &str| if holds { Ok(()) } else { Err(why.to_owned()) };
    let text = fs::read_to_string(&canary.file).unwrap_or_default();
    findings.judge("the host's file", untouched(text == SECRET, "it was changed"));
    let lives = matches!(canary.process.try_wait(), Ok(None));
    findings.judge("the host's process", untouched(lives, "it was ended"));
    findings.judge("the machine", untouched(machine() == before, "it was changed"));
    Ok(())
}

/// A Dockerfile that would have gondola write, read or mount outside. `LINK` in an image leads to a
/// folder of the host, and so do the usual places of the layer of [`context`].
const PLANS: [(&str, &str); 20] = [
    ("nothing but a step", "RUN true"),
    ("copying through a link", "COPY secret-free /LINK/new"),
    ("copying into a linked folder", "COPY . /LINK/"),
    ("copying with --link through a link", "COPY --link secret-free /LINK/new"),
    ("unpacking through a link", "ADD some.tar /LINK/"),
    ("a working folder through a link", "WORKDIR /LINK/new/deeper"),
    ("a cache through a link", "RUN --mount=type=cache,target=/LINK/new true"),
    (
        "a cache of a name with dots",
        "RUN --mount=type=cache,id=../../../../x,target=/x echo x > /x/y",
    ),
    (
        "a cache from above",
        "RUN --mount=type=cache,from=scratch,source=../../..,target=/x ls -lR /x > /seen",
    ),
    ("a mount from above", "RUN --mount=type=bind,source=../../../..,target=/x cp -r /x /seen"),
    ("a mount of a linked folder", "RUN --mount=type=bind,source=outside,target=/x cp -r /x /seen"),
    ("a mount through a link", "RUN --mount=type=bind,source=secret-free,target=/LINK/new true"),
    ("a writable mount", "RUN --mount=type=bind,rw,source=.,target=/x echo taken > /x/secret-free"),
    ("memory through a link", "RUN --mount=type=tmpfs,target=/LINK/new touch /LINK/new/x"),
    ("a secret through a link", "RUN --mount=type=secret,id=s,target=/LINK/new true"),
    ("a file from above", "COPY ../../outside/canary /seen"),
    ("a linked file", "COPY outside/canary /seen"),
    (
        "links that a step plants",
        "RUN rm -rf /run /etc/hosts; ln -s /LINK /run; ln -s /LINK/canary /etc/hosts; true\nRUN true",
    ),
    (
        "a linked list of users",
        "RUN rm -f /etc/passwd && ln -s /LINK/canary /etc/passwd\nUSER app\nRUN id > /seen; true",
    ),
    (
        "a home through a link",
        "RUN rm -rf /root; ln -s /LINK /root\nWORKDIR /root/new\nRUN touch ~/x; true",
    ),
];

fn links(session: &Session, findings: &mut Findings) -> Need<()> {
    for isolation in ["ns-root", "ns", "ns-copy", "in-container"] {
        let bench = Bench::new(session)?;
        let outside = bench.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), format!("app:x:7:7:{SECRET}:/:/bin/sh\n")).unwrap();
        context(&bench, &outside);
        let before = listing(&outside);
        for (name, plan) in PLANS {
            let plan = plan.replace("/LINK", "/link");
            let file = format!("FROM busybox\nADD hostile.tar /\n{plan}\n");
            bench.sandbox.write("ctx/Dockerfile", &file);
            bench.forget();
            let secret = format!("id=s,src={}", bench.sandbox.path("ctx/secret-free").display());
            let more = ["--sandbox", isolation, "--secret", &secret, "--progress", "plain"];
            let outcome = run(&mut bench.build("ctx", &more)).and_then(|ended| {
                if ended.stderr.contains(SECRET) {
                    return Err("the host's file is in a message".to_owned());
                }
                if ended.code != Some(0) {
                    return ended.failed_in_words();
                }
                let found = holds(&bench.image(), SECRET);
                found.map_or(Ok(()), |path| Err(format!("/{path} has the host's file")))
            });
            let outcome = outcome.and_then(|()| unchanged(&outside, &before, &bench));
            findings.judge(&format!("{name}, {isolation}"), outcome);
            if !before.iter().eq(listing(&outside).iter()) {
                // The others would only find the same.
                break;
            }
        }
        findings.judge(
            &format!("a container, {isolation}"),
            container(&bench, isolation, &outside, &before),
        );
    }
    Ok(())
}

/// A context with links to outside, and the layer that puts links where gondola works.
fn context(bench: &Bench, outside: &Path) {
    bench.sandbox.write("ctx/secret-free", "as it was");
    symlink(outside, bench.sandbox.path("ctx/outside")).unwrap();
    bench.sandbox.write("ctx/some.tar", archive::archive(&[archive::file("new", "x")]));
    let to = outside.to_str().unwrap();
    let canary = format!("{to}/canary");
    let entries = [
        archive::symlink("link", to),
        archive::symlink("proc", to),
        archive::symlink("sys", to),
        archive::symlink("dev", to),
        archive::symlink("etc/resolv.conf", &canary),
        archive::symlink("etc/hosts", &canary),
        archive::symlink("etc/hostname", &canary),
        archive::symlink("etc/mtab", &canary),
    ];
    bench.sandbox.write("ctx/hostile.tar", archive::archive(&entries));
}

/// Runs the image with everything that containers mount.
fn container(
    bench: &Bench,
    isolation: &str,
    outside: &Path,
    before: &[String],
) -> Result<(), String> {
    bench.sandbox.write("ctx/Dockerfile", "FROM busybox\nADD hostile.tar /\n");
    bench.forget();
    run(&mut bench.build("ctx", &["--sandbox", isolation]))?.succeeded()?;
    let words =
        ["run", "--rm", "--sandbox", isolation, "--tmpfs", "/link/memory", "-v", "/link/own"];
    let host = format!("{}:/link/bound", bench.sandbox.path("ctx/secret-free").display());
    let rest = ["-v", &host, "-w", "/link/folder", "--add-host", "a:1.2.3.4", "oci:out:t", "true"];
    let ended = run(&mut bench.sandbox.command(&[&words[..], &rest].concat()))?;
    if ended.stderr.contains(SECRET) || ended.stdout.contains(SECRET) {
        return Err("the host's file is in a message".to_owned());
    }
    unchanged(outside, before, bench)
}

/// One line for everything in a folder.
fn listing(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut lines: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            let text = fs::read(entry.path()).map(|bytes| Digest::of(&bytes).to_string());
            let owner = (found.uid(), found.gid(), found.mode(), found.mtime(), found.nlink());
            format!("{} {owner:?} {}", entry.path().display(), text.unwrap_or_default())
        })
        .collect();
    lines.sort();
    lines
}

fn unchanged(outside: &Path, before: &[String], bench: &Bench) -> Result<(), String> {
    let after = listing(outside);
    if after != before {
        return Err(format!("the folder outside was changed: {after:?}"));
    }
    let context = fs::read_to_string(bench.sandbox.path("ctx/secret-free")).unwrap_or_default();
    if context == "as it was" { Ok(()) } else { Err("the context was changed".to_owned()) }
}

/// Steps and containers that leave daemons behind: none may live on.
fn outliving(session: &Session, findings: &mut Findings) -> Need<()> {
    let bench = Bench::new(session)?;
    let number = 700_000_000 + u64::from(std::process::id());
    let daemon = format!("sh -c 'trap \"\" HUP INT TERM; setsid sleep {number} >/dev/null 2>&1 &'");
    bench.sandbox.write("ctx/Dockerfile", format!("FROM busybox\nRUN {daemon}\nCMD [\"sh\"]\n"));
    for isolation in ["ns-root", "ns", "ns-copy", "in-container"] {
        let ended = run(&mut bench.build("ctx", &["--sandbox", isolation, "--no-cache"]));
        findings.judge(&format!("a step, {isolation}"), ended.and_then(|_| nobody(number)));
        let words = ["run", "--rm", "--sandbox", isolation, "oci:out:t", "sh", "-c", &daemon];
        let ended = run(&mut bench.sandbox.command(&words));
        findings.judge(&format!("a container, {isolation}"), ended.and_then(|_| nobody(number)));
    }
    Ok(())
}

/// That no process has a number among its words.
fn nobody(number: u64) -> Result<(), String> {
    let word = number.to_string();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(&word) && !words.contains("gondola") {
            return Err(format!("{} lives on: {words}", path.display()));
        }
    }
    Ok(())
}
