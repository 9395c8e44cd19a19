//! What works on this machine, as `gondola doctor` tells it.

#![cfg(test)]

mod support;

use serde_json::Value;
use support::Sandbox;

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
