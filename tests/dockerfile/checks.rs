//! What the linter finds, where the file says that it must find nothing.

use super::support::{Run, Sandbox};

/// Builds a Dockerfile that needs nothing but itself.
fn build(sandbox: &Sandbox, file: &str, more: &[&str]) -> Run {
    sandbox.write("ctx/Dockerfile", file);
    let _ = fs_err::remove_dir_all(sandbox.path("out"));
    let mut all = vec!["build", "-o", "oci:out:t"];
    all.extend(more);
    all.push("ctx");
    sandbox.gondola(&all)
}

#[test]
fn findings_fail_a_build_where_the_file_or_the_command_line_says_so() {
    let sandbox = Sandbox::new();
    let (skip, error) = ("skip=FromAsCasing", "error=true");
    let argument = |text: &str| format!("BUILDKIT_DOCKERFILE_CHECK={text}");
    for (directive, given, fails) in [
        (String::new(), None, false),
        (format!("# check={error}\n"), None, true),
        (format!("# check={skip};{error}\n"), None, false),
        (format!("# check={error};{skip}\n"), None, false),
        (format!("# check=skip=StageNameCasing;{error}\n"), None, true),
        ("# check=error=false\n".to_owned(), None, false),
        (String::new(), Some(error.to_owned()), true),
        (String::new(), Some(format!("{skip};{error}")), false),
        (format!("# check={error}\n"), Some("error=false".to_owned()), false),
    ] {
        let file = format!("{directive}FROM scratch as base\nENV A=1\n");
        let given = given.map(|text| argument(&text));
        let more: Vec<&str> = given.iter().flat_map(|text| ["--build-arg", text]).collect();
        let ran = build(&sandbox, &file, &more);
        let case = format!("{directive:?} {given:?}: {}", ran.stderr);
        assert_eq!(sandbox.path("out").exists(), !fails, "{case}");
        assert_eq!(ran.code == Some(0), !fails, "{case}");
        if fails {
            let line = if directive.is_empty() { 1 } else { 2 };
            let shown = format!("Dockerfile:{line}:14: error: ");
            assert!(ran.stderr.contains(&shown), "{case}");
            assert!(ran.stderr.contains("[FromAsCasing]"), "{case}");
        }
        assert!(!ran.stderr.contains("has no effect"), "{case}");
    }
}

#[test]
fn a_wrong_directive_fails_a_build() {
    let sandbox = Sandbox::new();
    let file = "# check=error=perhaps\nFROM scratch\nENV A=1\n";
    let ran = build(&sandbox, file, &[]);
    assert_ne!(ran.code, Some(0));
    ran.says("Dockerfile:1:9: error: check's error cannot be \"perhaps\"");
    assert!(!sandbox.path("out").exists());
}

#[test]
fn every_finding_of_a_failed_build_is_shown() {
    let sandbox = Sandbox::new();
    let file = "# check=error=true\nFROM scratch as base\nMAINTAINER me\nENV A 1\n";
    let ran = build(&sandbox, file, &[]);
    assert_ne!(ran.code, Some(0));
    for rule in ["FromAsCasing", "LegacyKeyValueFormat", "MaintainerDeprecated"] {
        assert!(ran.stderr.contains(&format!("[{rule}]")), "{rule}: {}", ran.stderr);
    }
}
