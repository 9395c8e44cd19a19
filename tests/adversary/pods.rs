//! Steps as root of the container that the program runs in. They are no boundary; but what is answered in the
//! kernel's place gives nothing that the kernel would not.

use std::process::Command;

use fs_err as fs;

use super::Attack;
use super::support::{Need, program, root};
use super::world::{Bench, Findings, Session, run};

pub const ATTACKS: &[Attack] = &[("what is answered in a pod", answers)];

const SECRET: &str = "what-only-the-host-may-know";

/// What Docker leaves to root of a container.
const OF_DOCKER: &str = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,\
                         +setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";

/// Attempts, as commands of a shell, each of which prints `held` where it is held off.
fn attempts(canary: &str) -> Vec<(&'static str, String)> {
    let unread = |path: &str| {
        format!("if grep -q {SECRET} {path} 2>/dev/null; then echo reached; else echo held; fi")
    };
    let same = |listing: &str| {
        format!("if [ \"$({listing} 2>&1)\" = \"$(ls /)\" ]; then echo held; else {listing}; fi")
    };
    let all = "for folder in /proc/[0-9]*; do cat $folder/environ; done 2>/dev/null | grep -a -q";
    vec![
        ("environments", format!("if {all} {SECRET}; then echo reached; else echo held; fi")),
        ("the root of process 1", unread(&format!("/proc/$PPID/root{canary}"))),
        ("the same by itself", unread(&format!("/proc/self/../$PPID/root{canary}"))),
        ("the folder of process 1", unread(&format!("/proc/$PPID/cwd/../../../../../..{canary}"))),
        (
            "the same for one of its threads",
            unread(&format!("/proc/$PPID/task/$PPID/root{canary}")),
        ),
        (
            "what process 1 has open",
            "ls /proc/$PPID/fd/ >/dev/null 2>&1 && echo reached; echo held".to_owned(),
        ),
        ("its memory", "(: <>/proc/$PPID/mem) 2>/dev/null && echo reached; echo held".to_owned()),
        (
            "by the terminals",
            "ls /dev/pts/../fd/0 >/dev/null 2>&1 && readlink /dev/pts/../fd/0; echo held"
                .to_owned(),
        ),
        ("an absolute link", unread("/proc/self/cwd/absolute")),
        ("a relative link", unread("/proc/self/cwd/relative")),
        ("a link in the root", unread("/proc/self/root/work/absolute")),
        ("a link by a descriptor", format!("exec 9</work; {}", unread("/proc/self/fd/9/absolute"))),
        ("a link of a link", unread("/proc/thread-self/cwd/self/cwd/absolute")),
        ("above the root", same("ls /proc/self/root/..")),
        ("above the folder", same("ls /proc/self/cwd/../..")),
        ("above a descriptor", format!("exec 9</work; {}", same("ls /proc/self/fd/9/.."))),
        (
            "a link to write to",
            "echo x >/proc/self/cwd/written 2>/dev/null; [ -s /made ] && echo held".to_owned(),
        ),
        ("its own link", "[ \"$(cat /proc/self/cwd/own)\" = mine ] && echo held".to_owned()),
        (
            "its own file",
            "cd /work; [ \"$(cat /proc/self/cwd/file)\" = mine ] && echo held".to_owned(),
        ),
        (
            "its own secret",
            "[ \"$(cat /proc/self/root/run/secrets/s)\" = token ] && echo held".to_owned(),
        ),
        (
            "a changed secret",
            "exec 9</run/secrets/s; echo x 2>/dev/null 1<>/proc/self/fd/9; \
            [ \"$(cat /run/secrets/s)\" = token ] && echo held"
                .to_owned(),
        ),
        (
            "its own environment",
            "[ -n \"$(cat /proc/self/environ | tr -d '\\0')\" ] && echo held".to_owned(),
        ),
    ]
}

fn answers(session: &Session, findings: &mut Findings) -> Need<()> {
    root("changing the root directory")?;
    let setpriv = program("setpriv")?;
    let mut bench = Bench::new(session)?;
    bench.sandbox.set("CANARY", SECRET);
    let canary = bench.sandbox.write("canary", SECRET);
    let canary = fs::canonicalize(canary).unwrap().display().to_string();
    bench.sandbox.write("token", "token");
    let attempts = attempts(&canary);
    let mut script = String::from("cd /work\n");
    script.extend(attempts.iter().map(|(name, command)| {
        format!("( {command}; ) 2>&1 | tail -n 1 | sed 's|^|>> {name} = |'\n")
    }));
    let up = "../".repeat(12);
    let file = format!(
        "FROM busybox\nRUN mkdir /work && cd /work && ln -s {canary} absolute && \
         ln -s {up}{canary} relative && ln -s /made written && echo mine >/mine && ln -s /mine own && \
         cp /mine file && ln -s /proc/self self\n\
         RUN --mount=type=secret,id=s <<'EOF'\n{script}EOF\n"
    );
    bench.sandbox.write("ctx/Dockerfile", file);
    let more = [
        "--sandbox",
        "in-container",
        "--progress",
        "plain",
        "--no-cache",
        "--secret",
        "id=s,src=token",
    ];
    let build = bench.build("ctx", &more);
    let mut command = Command::new(setpriv);
    command.args(["--bounding-set", OF_DOCKER, "--inh-caps", "-all"]);
    command.arg(build.get_program()).args(build.get_args());
    command.env_clear().envs(bench.sandbox.environment()).current_dir(bench.sandbox.work());
    let ended = match run(&mut command) {
        Ok(ended) => ended,
        Err(why) => {
            findings.judge("the build", Err(why));
            return Ok(());
        }
    };
    for (name, _) in attempts {
        let said = format!(">> {name} = ");
        let answer = ended.stderr.lines().find_map(|line| line.split_once(&said)).map(|it| it.1);
        findings.judge(
            name,
            match answer {
                Some("held") => Ok(()),
                Some(other) => Err(other.to_owned()),
                None => Err(format!("no answer: {}", ended.said())),
            },
        );
    }
    Ok(())
}
