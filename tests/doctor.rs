//! What works on this machine, as `gondola doctor` tells it, and what is chosen by it.

#![cfg(test)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use fs_err as fs;
use serde_json::Value;
use support::{
    BaseImage, Docker, GONDOLA, Ranged, Registry, Run, Sandbox, install, need, program, root,
};

#[test]
fn doctor_tells_of_every_isolation_why_it_does_not_work_and_what_to_do() {
    let sandbox = Sandbox::new();
    let text = sandbox.gondola(&["doctor"]).success().stdout;
    let json = sandbox.gondola(&["doctor", "--json"]).success().stdout;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let (verdict, findings) = findings.as_array().unwrap().split_last().unwrap();
    let summary = verdict["summary"].as_str().unwrap();
    assert!(text.ends_with(&format!("\n\n{summary}\n")), "{summary} in {text}");
    let steps = findings.iter().find(|found| found["works"] == true).unwrap()["isolation"].clone();
    assert!(verdict["steps"].is_null() || verdict["steps"] == steps, "{verdict}");
    let isolations: Vec<&str> =
        findings.iter().map(|found| found["isolation"].as_str().unwrap()).collect();
    assert_eq!(
        isolations,
        ["ns-root", "ns-subuid", "ns", "ns-copy", "in-container", "proot", "toolchain"]
    );
    for found in findings {
        let isolation = found["isolation"].as_str().unwrap();
        assert!(text.contains(isolation), "{isolation} in {text}");
        if found["works"] == false {
            assert!(found["reason"].is_string(), "{found}");
        }
    }
    assert!(findings.iter().any(|found| found["works"] == true), "{text}");
}

#[test]
fn root_without_the_right_to_mount_is_told_which_one_it_lacks() {
    need!(root("giving up a capability"));
    let setpriv = need!(program("setpriv"));
    let sandbox = Sandbox::new();
    let mut command = std::process::Command::new(setpriv);
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(env!("CARGO_BIN_EXE_gondola")).args(["doctor", "--json"]);
    let json = Run::of(command.env_clear().envs(sandbox.environment())).success().stdout;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let found = findings.as_array().unwrap().iter().find(|found| found["isolation"] == "ns-root");
    let found = found.unwrap();
    assert_eq!(found["works"], false);
    assert_eq!(found["reason"], "root of this container lacks CAP_SYS_ADMIN");
    assert!(found["fix"].as_str().unwrap().contains("docker run --cap-add SYS_ADMIN"), "{found}");
}

#[test]
fn a_store_that_cannot_be_written_to_is_a_finding() {
    need!(root("becoming another user"));
    let setpriv = need!(program("setpriv"));
    let sandbox = Sandbox::new();
    let copy = for_everybody(&sandbox);
    let doctor = |more: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
        command.arg(&copy).arg("doctor").args(more).env_clear().envs(sandbox.environment());
        command
    };
    let text = Run::of(&mut doctor(&[])).success().stdout;
    assert!(text.contains("\nstore        no     "), "{text}");
    assert!(text.contains("Permission denied") && text.contains("fix: set GONDOLA_HOME"), "{text}");
    assert!(text.contains("\ntoolchain "), "{text}");
    let json = Run::of(&mut doctor(&["--json"])).success().stdout;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let (_, findings) = findings.as_array().unwrap().split_last().unwrap();
    let (last, isolations) = findings.split_last().unwrap();
    assert_eq!(last["store"], sandbox.store().to_str().unwrap());
    assert_eq!(last["works"], false);
    assert_eq!(isolations.len(), 7);
    let without = doctor(&["--json"]).env_remove("HOME").env_remove("GONDOLA_HOME").output();
    let json = String::from_utf8(without.unwrap().stdout).unwrap();
    assert!(json.contains("none of GONDOLA_HOME"), "{json}");
}

/// The program where every user may start it, and a store and a home that anybody may write to.
fn for_everybody(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.work();
    let folder = folder.parent().unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("gondola");
    install(env!("CARGO_BIN_EXE_gondola"), &copy);
    copy
}

#[test]
fn a_user_with_a_range_of_ids_unpacks_what_he_pulls_and_runs_it() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    let ranged = need!(Ranged::new(&sandbox.work()));
    let program = for_everybody(&sandbox);
    fs::create_dir(sandbox.store()).unwrap();
    Ranged::give(&sandbox.store());
    Ranged::give(&sandbox.home());
    let name = registry.image("base:latest");
    need!(BaseImage::default().push(&sandbox.path("base"), &name));
    let gondola = |arguments: &[&str]| {
        let mut command = ranged.command(&program);
        command.args(arguments).env_clear().envs(sandbox.environment()).current_dir("/");
        Run::of(&mut command)
    };
    if !gondola(&["doctor"]).success().stdout.contains("ns-subuid    works") {
        return support::Missing::because("a range of ids cannot be entered here").skip();
    }
    let pulled = gondola(&["pull", "--unpack", &name]).success();
    assert!(pulled.line().starts_with(&format!("{name}@sha256:")), "{pulled:?}");
    let unpacked = sandbox.store().join("gondola/rootfs/mapped");
    assert!(fs::read_dir(unpacked).unwrap().count() > 0);
    // In the form that is used from then on.
    gondola(&["run", "--rm", "--pull=never", &name, "/nowhere"]).code(127);
    assert!(!sandbox.store().join("gondola/rootfs/recorded").exists());
    gondola(&["cache", "prune", "--all"]).success();
}

/// What is remembered of trials: "ns works" and the like.
fn remembered(sandbox: &Sandbox) -> BTreeMap<String, PathBuf> {
    let folder = sandbox.store().join("gondola/isolation");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let row = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let isolation = name.split_once('-').unwrap().1.to_owned();
        (format!("{isolation} {}", fs::read_to_string(&path).unwrap().trim()), path)
    };
    entries.map(row).collect()
}

#[test]
fn a_failed_command_forgets_nothing_of_what_works_here() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("root")).unwrap();
    let run = ["run", "--rm", "--rootfs", "root", "/nowhere"];
    if sandbox.gondola(&run).code != Some(127) {
        return support::Missing::because("no sandbox works here").skip();
    }
    let known = remembered(&sandbox);
    assert!(known.keys().any(|row| row.ends_with(" works")), "{known:?}");
    sandbox.gondola(&["pull", "no.such.host.invalid/image"]).code(1);
    sandbox.gondola(&["run", "--rm", "--pull=never", "nosuchimage"]).code(125);
    sandbox.gondola(&["run", "--rm", "--ulimit", "nofile=99999999999", "--rootfs", "root", "/x"]);
    sandbox.gondola(&["run", "--rm", "-v", "/no/such/source:/x", "--rootfs", "root", "/x"]);
    assert_eq!(remembered(&sandbox), known);
}

#[test]
fn only_the_sandbox_that_fails_by_itself_is_forgotten() {
    need!(root("a machine without ranges of ids for this user"));
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("root")).unwrap();
    let run = |more: &[&str]| {
        let all = [&["run", "--rm"], more, &["--rootfs", "root", "/nowhere"]].concat();
        sandbox.gondola(&all)
    };
    if run(&[]).code != Some(127) || run(&["--sandbox=ns-subuid"]).code == Some(127) {
        return support::Missing::because("root has a range of ids, or no sandbox").skip();
    }
    let known = remembered(&sandbox);
    let works = known.iter().find(|(row, _)| row.ends_with(" works")).unwrap().1;
    // As if a range had worked until now.
    let situation = works.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0;
    let ranged = works.with_file_name(format!("{situation}-ns-subuid"));
    fs::write(&ranged, "works\n").unwrap();
    run(&["--sandbox=ns-subuid"]).code(125);
    let others = |rows: BTreeMap<String, PathBuf>| -> Vec<String> {
        rows.into_keys().filter(|row| !row.starts_with("ns-subuid")).collect()
    };
    assert!(!ranged.exists(), "{:?}", remembered(&sandbox));
    assert_eq!(others(remembered(&sandbox)), others(known));
    run(&[]).code(127);
}

/// A container in which an isolation does not work, until the fix is followed.
struct Place {
    options: &'static [&'static str],
    isolation: &'static str,
    /// What the fix must have, so that it is the one that is meant.
    fix: &'static str,
}

/// An emptyDir, and a volume of GitLab's runner: everybody may write to it.
const STORE: [&str; 2] = ["--env=GONDOLA_HOME=/store", "--tmpfs=/store:exec,mode=1777"];

/// What stands in a fix between a name and the next part.
fn part<'a>(fix: &'a str, name: &str) -> &'a str {
    let parts = fix.split("; ").filter_map(|part| part.strip_prefix(name));
    parts.last().unwrap_or_else(|| panic!("no {name:?} in {fix}")).trim()
}

/// The flags of `docker run` that a fix says, sorted.
fn by_docker(fix: &str) -> Vec<String> {
    let mut flags = Vec::new();
    for word in part(fix, "docker run ").split(' ') {
        match word.strip_prefix("--") {
            Some(_) => flags.push(word.to_owned()),
            None => flags.last_mut().unwrap().extend(["=", word]),
        }
    }
    flags.sort();
    flags
}

/// What a runtime makes of the fields of a pod that a fix says.
fn by_kubernetes(fix: &str) -> Vec<String> {
    let text = part(fix, "Kubernetes: ");
    let (fields, folder) = match text.strip_suffix("an emptyDir for GONDOLA_HOME") {
        Some(rest) => (rest.trim_end_matches(" and "), true),
        None => (text, false),
    };
    let mut flags = Vec::new();
    let fields: Value = serde_saphyr::from_str(fields).unwrap_or(Value::Null);
    for (name, value) in fields["securityContext"].as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("runAsUser", id) => flags.push(format!("--user={id}")),
            ("capabilities", sets) => flags.extend(strings(&sets["add"], "--cap-add=")),
            ("seccompProfile", profile) if profile["type"] == "Unconfined" => {
                flags.push("--security-opt=seccomp=unconfined".to_owned());
            }
            other => panic!("{other:?} in {fix}"),
        }
    }
    assert!(folder || !flags.is_empty(), "nothing of a pod in {fix}");
    flags.extend(STORE.iter().filter(|_| folder).map(|flag| (*flag).to_owned()));
    flags.sort();
    flags
}

/// What GitLab's runner makes of the settings that a fix says.
fn by_gitlab(fix: &str) -> Vec<String> {
    let text = part(fix, "GitLab's runner: ").strip_suffix(" of [runners.docker]").unwrap();
    let text = text.replace(", with the variable GONDOLA_HOME: /store,", "");
    let mut flags = Vec::new();
    // A setting's value may have commas, and no equals signs with blanks around.
    let mut rest = text.as_str();
    while let Some((name, after)) = rest.split_once(" = ") {
        let end = after.find(" = ").map_or(after.len(), |at| after[..at].rfind(", ").unwrap());
        let value: Value = serde_json::from_str(&after[..end]).unwrap();
        match name {
            "user" => flags.push(format!("--user={}", value.as_str().unwrap())),
            "cap_add" => flags.extend(strings(&value, "--cap-add=")),
            "security_opt" => flags.extend(strings(&value, "--security-opt=")),
            "volumes" if value == serde_json::json!(["/store"]) => {
                flags.extend(STORE.map(str::to_owned));
            }
            _ => panic!("{name} in {fix}"),
        }
        rest = after[end..].trim_start_matches(", ");
    }
    assert!(rest.is_empty() && !flags.is_empty(), "{rest:?} in {fix}");
    flags.sort();
    flags
}

/// Has systemd read the settings of a service that a fix says, where there is one to ask.
fn check_service(sandbox: &Sandbox, fix: &str) {
    let settings = part(fix, "systemd: ").strip_suffix(" of [Service]").unwrap();
    let settings = settings.replace(", ", "\n");
    let unit = format!("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n{settings}\n");
    let file = sandbox.write("fix.service", unit);
    if let Ok(analyze) = program("systemd-analyze") {
        let read = Run::of(Command::new(analyze).arg("verify").arg(file)).success();
        // Unknown settings are no failure.
        assert!(!read.stderr.contains("fix.service"), "{settings}: {}", read.stderr);
    }
}

fn strings(list: &Value, mark: &str) -> Vec<String> {
    let words = list.as_array().unwrap().iter();
    words.map(|word| format!("{mark}{}", word.as_str().unwrap())).collect()
}

#[test]
fn a_fix_that_is_proposed_helps_in_the_next_container() {
    let busybox = need!(program("busybox"));
    let docker = need!(Docker::start());
    let sandbox = Sandbox::new();
    let image = docker.image_with_gondola(&sandbox.path("image"), &[]);
    let context = sandbox.path("context");
    fs::create_dir_all(&context).unwrap();
    fs::copy(busybox, context.join("busybox")).unwrap();
    let steps = "FROM scratch\nCOPY busybox /bin/sh\nCOPY --chown=5:6 busybox /d/f\n\
                 RUN [\"/bin/sh\", \"-c\", \"echo built >/x\"]\n";
    fs::write(context.join("Dockerfile"), steps).unwrap();
    let source = format!("--volume={}:/context:ro", context.display());
    let usual = ["run", "--rm", "--network=none", "--env=HOME=/tmp", "--env=GONDOLA_HOME=/tmp/s"];
    let command = |options: &[&str], words: &[&str]| {
        let all = [&usual[..], &[source.as_str()], options, &[image.as_str(), GONDOLA], words];
        Run::of(&mut docker.command(&all.concat()))
    };
    let found = |options: &[&str], isolation: &str| {
        let json = command(options, &["doctor", "--json"]).success().stdout;
        let findings: Value = serde_json::from_str(&json).unwrap();
        let all = findings.as_array().unwrap();
        let found = all.iter().find(|found| found["isolation"] == isolation).unwrap().clone();
        (found, all.last().unwrap()["summary"].as_str().unwrap().to_owned())
    };
    for Place { options, isolation, fix } in [
        Place { options: &[], isolation: "ns", fix: "seccomp=unconfined" },
        Place { options: &[], isolation: "ns-root", fix: "--cap-add SYS_ADMIN" },
        Place { options: &["--user=4321"], isolation: "ns", fix: "--tmpfs /store" },
        Place { options: &["--user=4321"], isolation: "in-container", fix: "--user 0" },
        Place { options: &["--cap-drop=ALL"], isolation: "in-container", fix: "--cap-add CHOWN" },
        Place {
            options: &["--security-opt=seccomp=unconfined"],
            isolation: "ns",
            fix: "--volume gondola:/store",
        },
    ] {
        let case = format!("{isolation} with {options:?}");
        let (before, summary) = found(options, isolation);
        assert_eq!(before["works"], false, "{case}: {before}");
        let told = before["fix"].as_str().unwrap();
        assert!(told.contains(fix), "{case}: {told}");
        if isolation == "ns" {
            let better = "better: ns (everything; file owners are recorded), by its fix";
            assert!(summary.ends_with(better), "{case}: {summary}");
        }
        if told.contains("systemd: ") {
            check_service(&sandbox, told);
        }
        // Each is tried once, whoever says it.
        let ways: BTreeSet<Vec<String>> =
            [by_docker(told), by_kubernetes(told), by_gitlab(told)].into_iter().collect();
        for way in ways {
            let words: Vec<&str> = way.iter().map(String::as_str).collect();
            let with = [options, &words].concat();
            let (after, _) = found(&with, isolation);
            assert_eq!(after["works"], true, "{case}: {after} with {with:?}");
            let sandbox = format!("--sandbox={isolation}");
            let build = ["build", "-t", "x", "-f", "/context/Dockerfile", &sandbox, "/context"];
            command(&with, &build).success();
        }
    }
    let (ids, _) = found(&[], "ns-subuid");
    assert_ne!(ids["fix"].as_str().map(|fix| fix.starts_with("sudo")), Some(true), "{ids}");
    assert!(ids["reason"].as_str().unwrap().contains("system-call filter"), "{ids}");
}
