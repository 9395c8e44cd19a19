//! Each rule: what it finds, and what it lets pass.

use super::*;
use crate::dockerfile::source::Source;
use crate::dockerfile::{check, parse};

/// What the base images of these tests have set.
fn environment(base: &Origin) -> Option<Vec<String>> {
    let Origin::Image(reference) = base else { return None };
    (reference.repository().path() == "library/alpine").then(|| vec!["PATH=/bin".to_owned()])
}

fn checked(text: &str, ignored: &[&str]) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let inputs = Inputs::native("linux/amd64".parse().unwrap());
    let found = check(
        &source,
        &LintContext {
            inputs: &inputs,
            contexts: &BTreeSet::new(),
            stages: None,
            environment: &environment,
            ignored: &|path| ignored.contains(&path),
        },
    );
    let shown = found.iter().map(|one| {
        let at = source.position(one.span.start);
        format!("{}:{} {}", at.line, at.column, one.rule.unwrap_or(&one.message))
    });
    shown.collect()
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let cases: [(&str, &[&str]); 36] = [
        ("FROM a\ncopy a b\nRUN c", &["2:1 ConsistentInstructionCasing"]),
        ("from a\ncopy a b\nRUN c", &["3:1 ConsistentInstructionCasing"]),
        ("FROM a\nCopy a b", &["2:1 ConsistentInstructionCasing"]),
        ("FROM a AS x\nFROM b AS X", &["2:11 StageNameCasing", "2:11 DuplicateStageName"]),
        ("FROM a\nEXPOSE 8080:80 9", &["2:8 ExposeInvalidFormat"]),
        ("FROM a\nEXPOSE 80/TCP", &["2:8 ExposeProtoCasing"]),
        ("FROM a as x", &["1:8 FromAsCasing"]),
        ("from a AS x", &["1:8 FromAsCasing"]),
        ("FROM --platform=linux/amd64 a", &["1:17 FromPlatformFlagConstDisallowed"]),
        (
            "ARG V\nFROM a:$V\nFROM b",
            &["2:6 InvalidDefaultArgInFrom", "2:6 \"a:\" is no name of an image"],
        ),
        ("ARG V\nFROM $V", &["2:6 InvalidDefaultArgInFrom"]),
        ("ARG V=1\nFROM a\nENV X=$V", &["3:7 UndefinedVar"]),
        ("FROM a\nENV X=$TARGETOS", &["2:7 UndefinedVar"]),
        ("FROM a\nCMD x\n", &["2:1 JSONArgsRecommended"]),
        ("FROM a\nENTRYPOINT x\n", &["2:1 JSONArgsRecommended"]),
        ("FROM a\nENV a b\nLABEL c d", &["2:5 LegacyKeyValueFormat", "3:7 LegacyKeyValueFormat"]),
        ("FROM a\nMAINTAINER x", &["2:1 MaintainerDeprecated"]),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", &["2:1 MultipleInstructionsDisallowed"]),
        ("FROM a\nENTRYPOINT [\"x\"]\nENTRYPOINT [\"y\"]", &["2:1 MultipleInstructionsDisallowed"]),
        ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD y", &["2:1 MultipleInstructionsDisallowed"]),
        ("FROM a\nRUN x \\\n\n  y", &["3:1 NoEmptyContinuation"]),
        ("FROM --platform=$TARGETPLATFORM a", &["1:17 RedundantTargetPlatform"]),
        ("FROM --platform=${TARGETPLATFORM} a", &["1:17 RedundantTargetPlatform"]),
        (
            "FROM a AS scratch\nFROM b AS context",
            &["1:11 ReservedStageName", "2:11 ReservedStageName"],
        ),
        (
            "FROM a\nARG NPM_TOKEN\nENV DB_Password=x",
            &["2:5 SecretsUsedInArgOrEnv", "3:5 SecretsUsedInArgOrEnv"],
        ),
        ("FROM a AS Build", &["1:11 StageNameCasing"]),
        ("FROM a:${V:-1}", &["1:8 UndefinedArgInFrom"]),
        (
            "FROM alpine\nCOPY a$b-${c} /d$e",
            &["2:7 UndefinedVar", "2:10 UndefinedVar", "2:17 UndefinedVar"],
        ),
        ("FROM alpine\nENV PATH=/x:$PAHT", &["2:13 UndefinedVar"]),
        ("FROM scratch\nCOPY <<EOF /x\n $y\nEOF", &["3:2 UndefinedVar"]),
        ("FROM scratch\nRUN --mount=type=cache,target=/$y z", &["2:32 UndefinedVar"]),
        ("FROM scratch\nARG A=$B\nWORKDIR /$A$C", &["2:7 UndefinedVar", "3:12 UndefinedVar"]),
        ("FROM a\nWORKDIR x\nWORKDIR y", &["2:9 WorkdirRelativePath"]),
        (
            "FROM a\nCOPY hidden ./hidden/../b /c\nADD /hidden http://hidden /d",
            &["2:6 CopyIgnoredFile", "3:5 CopyIgnoredFile"],
        ),
        (
            "# check=experimental=all\n# wrong words\nARG A=1\n# neither\nFROM a AS x",
            &["3:1 InvalidDefinitionDescription", "5:1 InvalidDefinitionDescription"],
        ),
        ("FROM a\nCOPY --from=b:c:d x y", &["2:13 \"b:c:d\" is no name of an image"]),
    ];
    for (text, expected) in cases {
        assert_eq!(checked(text, &["hidden"]), expected, "{text}");
    }
}

#[test]
fn what_is_well_lets_every_rule_pass() {
    let cases = [
        "ARG V=1\nFROM --platform=$BUILDPLATFORM golang:$V AS build\nARG TARGETARCH\nWORKDIR /src\nCOPY go.mod .\n\
         RUN GOARCH=$TARGETARCH go build \\\n  # comment\n  -o /app .\nFROM scratch\nCOPY --from=build /app /\nCMD [\"/app\"]\n",
        "FROM --platform=linux/arm64 a AS tools-arm64",
        "ARG X=arm64\nFROM --platform=linux/$X a",
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x",
        "FROM a AS b\nSHELL [\"/bin/bash\", \"-c\"]\nFROM b\nENTRYPOINT x",
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
        "FROM a\nENV PUBLIC_KEY=x KEYBOARD=y\nARG TOKEN_FILE AUTH_VERSION",
        "FROM alpine\nARG a\nCOPY $a x",
        "FROM alpine AS b\nARG a=1\nFROM b\nCOPY $a x",
        "FROM unknown\nCOPY $GOPATH/x y\nWORKDIR ${GOPATH:?}\n",
        "FROM alpine\nRUN echo $undefined\nCMD [\"$undefined\"]",
        "FROM a\nCMD [\"x\"]\nFROM b\nCMD [\"y\"]",
        "# A description\nARG X=1\nFROM a:$X\n# another\nARG Y",
        "ARG X\nFROM a$X",
        "FROM a\nEXPOSE $PORT 80/udp",
        "FROM a AS b\nFROM c\nCOPY --from=b hidden y",
    ];
    for text in cases {
        assert_eq!(checked(text, &["hidden"]), [""; 0], "{text}");
    }
}

#[test]
fn rules_are_skipped_for_the_file_or_for_one_instruction() {
    let cases: [(&str, &[&str]); 9] = [
        ("# check=skip=all\nFROM a as x\ncmd y", &[]),
        ("# check=skip=FromAsCasing,JSONArgsRecommended\nFROM a as x\nCMD y", &[]),
        ("# check = skip=FromAsCasing\nFROM a as x\nCMD y", &["3:1 JSONArgsRecommended"]),
        ("FROM a as x\n# check=skip=JSONArgsRecommended // here\nCMD y", &["1:8 FromAsCasing"]),
        ("FROM a\n# check=skip=all\nCMD y\nENV a b", &["4:5 LegacyKeyValueFormat"]),
        ("# check=skip\nFROM a", &["1:9 \"skip\" is no option of check"]),
        ("# check=skp=all\nFROM a", &["1:9 check has no option skp"]),
        ("# check=error=perhaps\nFROM a", &["1:9 check's error cannot be \"perhaps\""]),
        ("# check=skip=all;error=true a remark\nFROM a as x", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(checked(text, &[]), expected, "{text}");
    }
}

#[test]
fn findings_can_be_errors() {
    let source = Source::new("Dockerfile", "# check=error=true\nFROM a as x\n");
    let mut inputs = Inputs::native("linux/amd64".parse().unwrap());
    let levels = |inputs: &Inputs| -> Vec<Level> {
        let lint_context = LintContext {
            inputs,
            contexts: &BTreeSet::new(),
            stages: None,
            environment: &environment,
            ignored: &|_| false,
        };
        check(&source, &lint_context).iter().map(|one| one.level).collect()
    };
    assert_eq!(levels(&inputs), [Level::Error]);
    inputs.arguments.insert("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "error=false".to_owned());
    assert_eq!(levels(&inputs), [Level::Warning]);
}

#[test]
fn a_file_with_errors_is_still_looked_at() {
    let found = checked("FROM a as x\nCOPPY a b\nMAINTAINER y\n", &[]);
    assert_eq!(
        found,
        ["1:8 FromAsCasing", "2:1 there is no instruction COPPY", "3:1 MaintainerDeprecated"]
    );
}

#[test]
fn only_the_stages_that_are_built_are_executed() {
    let file = parse(&Source::new("Dockerfile", "FROM a\nCMD x\nFROM b\nCMD y")).unwrap();
    let inputs = Inputs::native("linux/amd64".parse().unwrap());
    let contexts = BTreeSet::new();
    let lint_context = LintContext {
        inputs: &inputs,
        contexts: &contexts,
        stages: Some(&[1]),
        environment: &environment,
        ignored: &|_| false,
    };
    let found = lint(&file, &lint_context);
    assert_eq!(found.len(), 1);
    assert_eq!(file.source.position(found[0].span.start).line, 4);
}

#[test]
fn every_rule_can_be_named() {
    let names: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), 21);
    assert!(names.contains("JSONArgsRecommended"));
}
