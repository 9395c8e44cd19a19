//! Processes on the host's own files, and what a locked-down place allows.

use std::path::Path;
use std::process::{Command, ExitCode};

use fs_err as fs;
use gondola::sandbox::{
    Access, Findings, Isolation, Launcher, Mount, Network, ProbeOptions, Root, Spec, probe,
};

use super::LAYERED;
use super::context::Context;

type Row = (&'static str, &'static [Isolation], fn(&Context));
const HOST: &[Isolation] = &[Isolation::Toolchain];

pub const CASES: &[Row] = &[
    ("only_listed_files_of_the_host_can_be_used", HOST, files),
    ("no_socket_without_network_and_no_odd_one_with_it", HOST, sockets),
    ("a_confined_process_has_no_rights_and_no_variables", HOST, rights),
    ("a_confined_process_leaves_no_orphans", HOST, orphans),
    ("go_builds_under_confinement", HOST, go_build),
    (
        "the_probe_says_what_works_and_why_not",
        &[Isolation::Ns, Isolation::NsRoot, Isolation::NsSubuid],
        probes,
    ),
    ("the_probe_explains_a_locked_down_container", LAYERED, locked_down),
];

fn host(context: &Context, arguments: &[&str]) -> Spec {
    let payload = context.base.join("payload");
    let argv = [payload.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
    let root = Root::Host { read: vec![payload.clone()], write: Vec::new() };
    let mut spec = Spec::new(root, argv);
    spec.network = Network::None;
    spec
}

fn files(context: &Context) {
    let (open, shut) = (context.folder.join("open"), context.folder.join("shut"));
    for folder in [&open, &shut] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
    }
    let base = context.base.display();
    let (open_text, shut_text) = (open.display(), shut.display());
    let asked = [
        (format!("r:{open_text}/file"), "ok"),
        (format!("w:{open_text}/new"), "ok"),
        (format!("r:{base}/payload"), "ok"),
        (format!("r:{base}/etc/group"), "ok"),
        (format!("w:{base}/etc/group"), "EACCES"),
        (format!("r:{shut_text}/file"), "EACCES"),
        (format!("w:{shut_text}/new"), "EACCES"),
        ("r:/etc/passwd".to_owned(), "EACCES"),
        ("w:/dev/null".to_owned(), "ok"),
    ];
    let arguments: Vec<_> =
        ["probe"].into_iter().chain(asked.iter().map(|(arg, _)| arg.as_str())).collect();
    let mut spec = host(context, &arguments);
    if let Root::Host { read, write } = &mut spec.root {
        read.push(context.base.join("etc"));
        write.push(open);
    }
    let output = context.output_of(&spec);
    for (line, (arg, answer)) in output.lines().zip(&asked) {
        assert_eq!(line, format!("{arg} {answer}"));
    }
    assert_eq!(output.lines().count(), asked.len());
}

fn sockets(context: &Context) {
    let (inet, packet) = (libc::AF_INET.to_string(), libc::AF_PACKET.to_string());
    let answer = |network, family: &str| {
        let mut spec = host(context, &["socket", family]);
        spec.network = network;
        context.output_of(&spec)
    };
    assert_eq!(answer(Network::None, &inet), "socket EPERM\n");
    assert_eq!(answer(Network::Host, &inet), "socket ok\n");
    assert_eq!(answer(Network::Host, &packet), "socket EPERM\n");
}

fn rights(context: &Context) {
    let fields = ["status", "CapPrm", "CapEff", "NoNewPrivs", "Seccomp"];
    let mut spec = host(context, &fields);
    if let Root::Host { read, .. } = &mut spec.root {
        read.push("/proc".into());
    }
    let none = "0000000000000000";
    let expected = format!("CapPrm {none}\nCapEff {none}\nNoNewPrivs 1\nSeccomp 2\n");
    assert_eq!(context.output_of(&spec), expected);
    let mut spec = host(context, &["env"]);
    spec.env.insert("ONLY".to_owned(), "this".to_owned());
    assert_eq!(context.output_of(&spec), "ONLY=this\n");
}

fn orphans(context: &Context) {
    let lock = context.host_file("lock", "");
    let script =
        format!("flock {} sh -c 'echo held >&2; exec sleep 1000' & read x", lock.display());
    let mut spec = host(context, &[]);
    spec.argv = ["/bin/sh", "-c", &script].map(str::to_owned).into();
    spec.env.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    spec.root = Root::Host { read: vec!["/".into()], write: vec![lock.clone()] };
    let outcome = context.run_spec(&spec);
    assert!(outcome.error.is_empty() || outcome.error == "held\n", "{outcome:?}");
    let file = fs::File::open(&lock).unwrap();
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, operation).unwrap();
}

fn go_build(context: &Context) {
    let output =
        Command::new("go").args(["env", "GOROOT"]).env("HOME", &context.folder).output().unwrap();
    let goroot = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let source = context.folder.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("go.mod"), "module m\n\ngo 1.21\n").unwrap();
    fs::write(source.join("main.go"), "package main\n\nfunc main() { println(\"built\") }\n")
        .unwrap();
    let (cache, scratch) = (context.folder.join("cache"), context.folder.join("tmp"));
    for folder in [&cache, &scratch] {
        fs::create_dir(folder).unwrap();
    }
    let mut spec = host(context, &[]);
    let target = scratch.join("m").display().to_string();
    let go = format!("{goroot}/bin/go");
    spec.argv = [&go, "build", "-trimpath", "-o", &target, "."].map(str::to_owned).into();
    spec.cwd = source.display().to_string();
    spec.root = Root::Host {
        read: vec![goroot.clone().into(), source.clone()],
        write: vec![cache.clone(), scratch.clone()],
    };
    let variables = [
        ("GOROOT", goroot.as_str()),
        ("PATH", &format!("{goroot}/bin")),
        ("HOME", scratch.to_str().unwrap()),
        ("GOCACHE", cache.to_str().unwrap()),
        ("TMPDIR", scratch.to_str().unwrap()),
        ("CGO_ENABLED", "0"),
        ("GOTOOLCHAIN", "local"),
        ("GOENV", "off"),
        ("GOTELEMETRY", "off"),
        ("GOFLAGS", "-buildvcs=false"),
    ];
    spec.env = variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let outcome = context.run_spec(&spec);
    assert!(outcome.exit.is_success(), "{outcome:?}");
    let output = Command::new(&target).output().unwrap();
    assert_eq!(output.stderr, b"built\n");
}

fn findings(context: &Context) -> Findings {
    probe(&ProbeOptions { launcher: &context.launcher, folder: &context.folder }).unwrap()
}

fn works(findings: &Findings, isolation: Isolation) -> bool {
    findings.0.iter().find(|finding| finding.isolation == isolation).unwrap().works
}

fn probes(context: &Context) {
    let before = fs::read_dir(&context.folder).unwrap().count();
    let findings = findings(context);
    assert!(works(&findings, context.isolation), "{findings:?}");
    assert!(works(&findings, Isolation::Toolchain), "{findings:?}");
    let root = context.isolation == Isolation::NsRoot;
    assert_eq!(
        (works(&findings, Isolation::NsRoot), works(&findings, Isolation::InContainer)),
        // Root of a user namespace may change its root directory, too; devices are answered for.
        (root, rustix::process::geteuid().is_root())
    );
    for finding in findings.0.iter().filter(|finding| !finding.works) {
        assert!(finding.reason.as_ref().is_some_and(|reason| !reason.is_empty()), "{finding:?}");
    }
    if context.isolation == Isolation::Ns {
        let ranges =
            findings.0.iter().find(|finding| finding.isolation == Isolation::NsSubuid).unwrap();
        assert!(ranges.reason.as_ref().unwrap().contains("has no range for"), "{ranges:?}");
        assert!(ranges.fix.as_ref().unwrap().contains("usermod --add-subuids"), "{ranges:?}");
        assert_eq!(findings.best(), Some(Isolation::Ns));
    }
    assert_eq!(fs::read_dir(&context.folder).unwrap().count(), before);
}

/// In a container under Docker's default profile: here, in the sandbox itself.
fn locked_down(context: &Context) {
    let mut spec = context.spec(&[]);
    spec.argv = ["/gondola-test", "--probe", "/tmp"].map(str::to_owned).into();
    spec.user = "app".to_owned();
    let read_only = |path: &str, target: &str| Mount::Bind {
        source: fs::canonicalize(path).unwrap(),
        subpath: None,
        target: target.to_owned(),
        access: Access::ReadOnly,
    };
    spec.mounts = vec![
        read_only("/proc/self/exe", "/gondola-test"),
        Mount::Tmpfs { target: "/tmp".to_owned(), size_bytes: None, mode: 0o1777 },
    ];
    for folder in ["/usr/lib", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists())
    {
        spec.mounts.push(read_only(folder, folder));
    }
    let output = context.output_of(&spec);
    let findings: serde_json::Value = serde_json::from_str(&output).unwrap();
    let finding = |isolation: &str| {
        let mut all = findings.as_array().unwrap().iter();
        all.find(|finding| finding["isolation"] == isolation).unwrap().clone()
    };
    let blocked = finding("ns");
    assert_eq!(blocked["works"], false);
    let reason = blocked["reason"].as_str().unwrap();
    assert!(reason.contains("blocked by a system-call filter"), "{reason}");
    assert!(blocked["fix"].as_str().unwrap().contains("seccomp=unconfined"));
    assert_eq!(finding("toolchain")["works"], true, "{output}");
}

/// Run inside the sandbox by [`locked_down`].
pub fn print_findings(folder: &str) -> ExitCode {
    let launcher = Launcher::new("/usr/bin");
    let options = ProbeOptions { launcher: &launcher, folder: Path::new(folder) };
    println!("{}", serde_json::to_string(&probe(&options).unwrap()).unwrap());
    ExitCode::SUCCESS
}
