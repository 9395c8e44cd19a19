//! Flags that docker has, too, and what is said of those that have no effect.

use super::bench::{Bench, text};
use super::support::{BaseImage, Busybox, Run, Stored, need};
use serde_json::json;

#[test]
fn steps_have_the_limits_and_the_shared_memory_that_were_asked_for() {
    let bench = need!(Bench::new());
    let look = "ulimit -Sn > /soft; ulimit -Hn > /hard; df -k /dev/shm | tail -1 > /shm";
    bench.file(&format!("FROM busybox\nRUN {look}\n"));
    let numbers = |more: &[&str]| {
        let image = bench.build(more);
        let shm = text(&image, "shm");
        let shm = shm.split_whitespace().nth(1).unwrap().to_owned();
        (text(&image, "soft").trim().to_owned(), text(&image, "hard").trim().to_owned(), shm)
    };
    assert_eq!(numbers(&[]).2, "65536");
    // The step's result depends on it, so that of before does not count.
    let asked = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--shm-size", "3m"];
    assert_eq!(numbers(&asked), ("100".into(), "200".into(), "3072".into()));
    let mut command = need!(bench.command_of_nobody(&asked));
    let _ = fs_err::remove_dir_all(bench.sandbox.path("out"));
    Run::of(&mut command).success();
    assert_eq!(text(&bench.image(), "hard"), "200\n");
    bench.run(&["--ulimit", "nofiles=1"]).code(2).says("one of core");
    bench.run(&["--shm-size", "much"]).code(2).says("k, m or g");
}

#[test]
fn flags_for_control_groups_are_accepted_and_said_to_have_no_effect() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN true\n");
    for flags in [&["--memory", "1g"][..], &["--cgroup-parent=/x"], &["--isolation=default"]] {
        bench.run(flags).success().says("has no effect");
    }
    let ran = bench.run(&["--rm", "--force-rm", "--compress"]).success();
    assert!(!ran.stderr.contains("no effect"), "{}", ran.stderr);
}

#[test]
fn arguments_that_no_stage_takes_are_warned_of() {
    let onbuild = json!(["ARG TRIGGERED"]);
    let config = [("OnBuild".to_owned(), onbuild)].into();
    let bench = need!(Bench::with_base(&Busybox { config, ..Busybox::default() }));
    bench
        .file("ARG GLOBAL\nFROM scratch AS unneeded\nARG ELSEWHERE\nFROM busybox\nARG VERSION=1\n");
    let used = ["GLOBAL=1", "ELSEWHERE=1", "VERSION=2", "TRIGGERED=1"];
    let predefined = ["http_proxy=", "NO_PROXY=x", "SOURCE_DATE_EPOCH=1", "TARGETARCH=x"];
    let buildkits = ["BUILDKIT_INLINE_CACHE=1"];
    let known = used.iter().chain(&predefined).chain(&buildkits);
    let known: Vec<&str> = known.flat_map(|argument| ["--build-arg", argument]).collect();
    let ran = bench.run(&known).success();
    assert!(!ran.stderr.contains("has no effect"), "{}", ran.stderr);
    let unknown = ["--build-arg", "VERSON=3", "--build-arg", "OTHER=1"];
    let ran = bench.run(&[&known[..], &unknown].concat()).success();
    assert_eq!(ran.stderr.matches("has no effect").count(), 2, "{}", ran.stderr);
    ran.says("--build-arg VERSON has no effect").says("did you mean VERSION?");
    // Builds for several platforms warn once.
    bench.file("FROM scratch\n");
    let both = ["--platform", "linux/amd64,linux/arm64", "--build-arg", "OTHER=1"];
    let ran = bench.run(&both).success();
    assert_eq!(ran.stderr.matches("has no effect").count(), 1, "{}", ran.stderr);
}

#[test]
fn the_argument_for_the_time_counts_more_than_the_variable() {
    let bench = need!(Bench::new());
    bench.write("a", "a");
    bench.file("FROM scratch\nCOPY a /a\n");
    let time = |more: &[&str]| {
        let image = bench.build(more);
        let created = image.config["created"].as_str().unwrap().to_owned();
        (created, image.entry("a").unwrap().mtime)
    };
    let argument = ["--build-arg", "SOURCE_DATE_EPOCH=2"];
    assert_eq!(time(&argument), ("1970-01-01T00:00:02Z".to_owned(), 2));
    assert_eq!(time(&[]), ("2023-11-14T22:13:20Z".to_owned(), 1_700_000_000));
    assert_eq!(time(&["--build-arg", "SOURCE_DATE_EPOCH"]).1, 1_700_000_000);
    assert!(time(&["--build-arg", "SOURCE_DATE_EPOCH="]).1 > 1_700_000_000);
    let ran = bench.run(&["--build-arg", "SOURCE_DATE_EPOCH=yesterday"]).code(2);
    ran.says("cannot use SOURCE_DATE_EPOCH: found \"yesterday\"");
}

#[test]
fn platforms_are_named_as_buildkit_names_them() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM scratch\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT\n\
         LABEL t=$TARGETPLATFORM:$TARGETARCH:$TARGETVARIANT\n",
    );
    for (asked, platform, arguments) in [
        ("linux/arm", "linux/arm/v7", "linux/arm/v7:arm:v7"),
        ("armel", "linux/arm/v6", "linux/arm/v6:arm:v6"),
        ("linux/arm64/v8", "linux/arm64", "linux/arm64:arm64:"),
        ("arm64", "linux/arm64", "linux/arm64:arm64:"),
        ("aarch64", "linux/arm64", "linux/arm64:arm64:"),
        ("linux/amd64/v1", "linux/amd64", "linux/amd64:amd64:"),
        ("linux/i386", "linux/386", "linux/386:386:"),
    ] {
        let image = bench.build(&["--platform", asked]);
        assert_eq!(image.platform(), platform, "{asked}");
        assert_eq!(image.config["config"]["Labels"]["t"], arguments, "{asked}");
    }
    fs_err::remove_dir_all(bench.sandbox.path("out")).unwrap();
    bench.run(&["--platform", "arm,linux/arm64/v8"]).success();
    let stored = Stored::folder(&bench.sandbox.path("out"));
    let index = stored.named(Some("t"));
    let index: serde_json::Value = serde_json::from_slice(stored.blob(&index)).unwrap();
    let platforms = index["manifests"].as_array().unwrap().iter().map(|it| it["platform"].clone());
    let expected = [
        json!({"os": "linux", "architecture": "arm", "variant": "v7"}),
        json!({"os": "linux", "architecture": "arm64"}),
    ];
    assert_eq!(platforms.collect::<Vec<_>>(), expected);
    // What is built is for what was asked for, whatever it is based on.
    bench.file("FROM --platform=linux/arm64/v8 scratch\nLABEL a=b\n");
    assert_eq!(bench.build(&["--platform", "arm"]).platform(), "linux/arm/v7");
    let own = bench.build(&[]).platform();
    bench.file("FROM scratch\nLABEL a=b\n");
    assert_eq!(bench.build(&[]).platform(), own);
}

#[test]
fn a_variant_that_says_nothing_does_not_come_from_the_base() {
    let bench = need!(Bench::new());
    let name = bench.registry.image("arm:1");
    let base = BaseImage::for_platforms(&["linux/arm64/v8"]);
    need!(base.push(&bench.sandbox.path("arm"), &name));
    bench.file(&format!("FROM --platform=aarch64 {name}\nLABEL a=b\n"));
    let platform = || {
        let image = bench.build(&[]);
        (image.platform(), image.config.get("variant").cloned())
    };
    assert_eq!(platform(), ("linux/arm64".to_owned(), None));
}

#[test]
fn ten_thousand_variables_are_kept_in_their_order() {
    let bench = need!(Bench::new());
    let lines = (0..10_000).map(|number| format!("ENV N{number}={number}"));
    bench.file(&format!("FROM scratch\n{}\n", lines.collect::<Vec<_>>().join("\n")));
    let image = bench.build(&[]);
    let variables = image.config["config"]["Env"].as_array().unwrap();
    assert_eq!(variables.len(), 10_001);
    let found = variables[1..].iter().map(|variable| variable.as_str().unwrap().to_owned());
    assert!(found.eq((0..10_000).map(|number| format!("N{number}={number}"))));
}

#[test]
fn a_secret_is_named_by_its_id() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nRUN --mount=type=secret,id=token,required cat /run/secrets/token > /t\n",
    );
    bench.run(&["--secret", "token"]).code(2).says("a part of it is no KEY=VALUE").says("id=NAME");
    let mut command = bench.sandbox.command(&bench.arguments(&["--secret", "id=token"]));
    Run::of(command.env("token", "of the environment")).success();
    assert_eq!(text(&bench.image(), "t"), "of the environment");
    bench.sandbox.write("token", "of a file");
    assert_eq!(text(&bench.build(&["--no-cache", "--secret", "id=token"]), "t"), "of a file");
}

#[test]
fn files_that_replace_each_other_are_warned_of_and_the_last_stays() {
    let bench = need!(Bench::new());
    for name in ["a.txt", "b.txt"] {
        bench.write(name, name);
    }
    for copy in ["COPY a.txt b.txt /x", "ADD a.txt b.txt /x", "COPY *.txt /x"] {
        bench.file(&format!("FROM busybox\n{copy}\n"));
        let ran = bench.run(&["--no-cache"]).success();
        ran.says("each of 2 files replaced the one before it");
        assert_eq!(text(&bench.image(), "x"), "b.txt", "{copy}");
        let _ = fs_err::remove_dir_all(bench.sandbox.path("out"));
    }
    for copy in ["COPY a.txt b.txt /x/", "COPY a.txt b.txt /home", "COPY a.txt /x"] {
        bench.file(&format!("FROM busybox\n{copy}\n"));
        let ran = bench.run(&["--no-cache"]).success();
        assert!(!ran.stderr.contains("replaced"), "{}", ran.stderr);
    }
}
