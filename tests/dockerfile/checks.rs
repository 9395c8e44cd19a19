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

/// Whether what a file uses is set: by its base, which is in the store, by a trigger of that, by the file itself,
/// or by nobody. What is said of the last.
const USES: [(&str, &str); 10] = [
    ("ARG TOOL_VERSION=2\nFROM r.test/base\nENV X=$TOOL_VERSION\n", ""),
    ("FROM r.test/base\nARG APP_HOMES=1\nENV X=$APP_HOME Y=$APP_HOMES\n", ""),
    ("FROM r.test/base\nENV X=$LATER Y=${ASKED}z\n", ""),
    ("ARG MORE=1\nFROM r.test/base AS one\nENV MORE=2\nFROM one\nENV X=$MORE$APP_HOME\n", ""),
    ("ARG APP_HOME=1\nFROM named\nENV X=$APP_HOME\n", ""),
    ("ARG APP_HOME=1\nFROM r.test/base AS other\nFROM scratch\nENV A=1\n", ""),
    ("FROM r.test/base\nENV X=$APP_HMOE\n", "did you mean $APP_HOME?"),
    ("ARG OTHER=1\nFROM r.test/base\nENV X=$OTHER\n", "repeat ARG OTHER here"),
    ("FROM r.test/base\nENV X=$NOWHERE\n", "declare it above: ARG NOWHERE"),
    ("ARG APP_HOME=1\nFROM r.test/base AS base\nFROM scratch\nENV X=$APP_HOME\n", "repeat ARG"),
];

/// Checks a Dockerfile.
fn check(sandbox: &Sandbox, file: &str, context: &[&str]) -> Run {
    sandbox.write("ctx/Dockerfile", file);
    sandbox.gondola(&[&["build", "--check"], context, &["ctx"]].concat())
}

#[test]
fn a_variable_of_the_base_is_one_that_is_set() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "base/Dockerfile",
        "FROM scratch\nENV TOOL_VERSION=1 APP_HOME=/srv\nONBUILD ENV LATER=1\nONBUILD ARG ASKED\n",
    );
    sandbox.gondola(&["build", "-t", "r.test/base", "base"]).success();
    let context = ["--build-context", "named=docker-image://r.test/base"];
    for (file, says) in USES {
        let shown = |ran: &Run| {
            let finds = ran.stderr.contains("UndefinedVar");
            assert_eq!(finds, !says.is_empty(), "{file}: {}", ran.stderr);
            assert!(ran.stderr.contains(says), "{file}: {}", ran.stderr);
        };
        shown(&build(&sandbox, file, &context).success());
        shown(&check(&sandbox, file, &context).success());
        let fails = !says.is_empty();
        let strict = format!("# check=error=true;skip=InvalidDefaultArgInFrom\n{file}");
        for ran in [build(&sandbox, &strict, &context), check(&sandbox, &strict, &context)] {
            shown(&ran);
            assert_eq!(ran.code != Some(0), fails, "{file}: {}", ran.stderr);
        }
        let skipped = format!("# check=skip=UndefinedVar\n{file}");
        let ran = build(&sandbox, &skipped, &context).success();
        assert!(!ran.stderr.contains("UndefinedVar"), "{file}: {}", ran.stderr);
    }
}
