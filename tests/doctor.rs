//! What works on this machine, as `gondola doctor` tells it.

#![cfg(test)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;
use support::{Run, Sandbox, need, program, root};

#[test]
fn doctor_tells_of_every_rung_why_it_does_not_work_and_what_to_do() {
    let sandbox = Sandbox::new();
    let text = sandbox.gondola(&["doctor"]).success().stdout;
    let json = sandbox.gondola(&["doctor", "--json"]).success().stdout;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let findings = findings.as_array().unwrap();
    let rungs: Vec<&str> = findings.iter().map(|found| found["rung"].as_str().unwrap()).collect();
    assert_eq!(rungs, ["ns-root", "ns-subuid", "ns", "ns-copy", "chroot", "proot", "toolchain"]);
    for found in findings {
        let rung = found["rung"].as_str().unwrap();
        assert!(text.contains(rung), "{rung} in {text}");
        if found["works"] == false {
            assert!(found["reason"].is_string(), "{found}");
        }
    }
    assert!(findings.iter().any(|found| found["works"] == true), "{text}");
}

#[test]
fn a_store_that_cannot_be_written_to_is_a_finding() {
    need!(root("becoming another user"));
    let setpriv = need!(program("setpriv"));
    let sandbox = Sandbox::new();
    let folder = sandbox.work();
    let folder = folder.parent().unwrap();
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("gondola");
    support::install(env!("CARGO_BIN_EXE_gondola"), &copy);
    let doctor = |more: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
        command.arg(&copy).arg("doctor").args(more).env_clear().envs(sandbox.environment());
        command
    };
    let text = Run::of(&mut doctor(&[])).success().stdout;
    assert!(text.contains("\nstore      no     "), "{text}");
    assert!(text.contains("Permission denied") && text.contains("fix: set GONDOLA_HOME"), "{text}");
    assert!(text.contains("\ntoolchain "), "{text}");
    let json = Run::of(&mut doctor(&["--json"])).success().stdout;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let (last, rungs) = findings.as_array().unwrap().split_last().unwrap();
    assert_eq!(last["store"], sandbox.store().to_str().unwrap());
    assert_eq!(last["works"], false);
    assert_eq!(rungs.len(), 7);
    let without = doctor(&["--json"]).env_remove("HOME").env_remove("GONDOLA_HOME").output();
    let json = String::from_utf8(without.unwrap().stdout).unwrap();
    assert!(json.contains("none of GONDOLA_HOME"), "{json}");
}
