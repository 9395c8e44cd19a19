//! `RUN` and what it sees, and the images that come out.

use serde_json::{Value, json};

use super::bench::{Bench, text};
use super::support::{Busybox, need, run};

#[test]
fn histories_and_configurations_are_as_buildkit_writes_them() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nARG A=1\nENV B=$A C=2\nWORKDIR /w\nCOPY --chown=app a.txt .\nRUN true\n\
         LABEL l=v\nEXPOSE 80\nUSER app\nCMD [\"./main\"]\n",
    );
    bench.write("a.txt", "a");
    let image = bench.build(&["--label", "given=yes"]);
    let history = image.config["history"].as_array().unwrap();
    let texts: Vec<&str> =
        history.iter().map(|entry| entry["created_by"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        [
            "busybox",
            "ARG A=1",
            "ENV B=1 C=2",
            "WORKDIR /w",
            "COPY --chown=app a.txt . # buildkit",
            "RUN |1 A=1 /bin/sh -c true # buildkit",
            "LABEL l=v",
            "EXPOSE [80/tcp]",
            "USER app",
            "CMD [\"./main\"]",
        ]
    );
    let empty: Vec<bool> =
        history.iter().map(|entry| entry["empty_layer"].as_bool().unwrap_or(false)).collect();
    let expected = [false, true, true, false, false, false, true, true, true, true];
    assert_eq!(empty, expected);
    assert_eq!(image.layers.len(), 4);
    assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
    let config = &image.config["config"];
    assert_eq!(config["Labels"], json!({"given": "yes", "l": "v"}));
    assert_eq!(config["User"], "app");
    assert_eq!(config["Env"], json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "B=1", "C=2"]));
}

#[test]
fn a_step_sees_its_environment_user_folder_and_no_host() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nARG GIVEN\nENV E=env\nWORKDIR /home/app\nUSER app\n\
         RUN echo $GIVEN $E $(pwd) $(id -u):$(id -g) $HOME > out\n\
         RUN --network=none ls /sys/class/net > net 2>&1 || true\n",
    );
    let mut command = bench.sandbox.command(&bench.arguments(&["--build-arg", "GIVEN"]));
    command.env("GIVEN", "from-host").env("LEAK", "secret");
    super::support::Run::of(&mut command).success();
    let image = bench.build(&["--build-arg", "GIVEN=typed"]);
    let out = text(&image, "home/app/out");
    assert!(out.starts_with("typed env /home/app "), "{out}");
    assert!(out.trim().ends_with("/home/app"), "{out}");
}

#[test]
fn a_step_has_the_host_name_of_buildkit_and_no_variable_of_it() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN env > /env; cat /proc/sys/kernel/hostname > /name\n");
    let image = bench.build(&[]);
    assert_eq!(text(&image, "name"), "buildkitsandbox\n");
    assert_eq!(text(&image, "env").lines().find(|line| line.starts_with("HOSTNAME")), None);
    assert!(text(&image, "env").contains("HOME=/root\n"));
}

#[test]
fn a_user_is_of_the_groups_that_the_image_gives_him_also_with_one_id() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nRUN echo 'joe:x:1234:1234::/home/joe:/bin/sh' >> /etc/passwd; \
         echo 'staff:x:50:joe' >> /etc/group; mkdir -p /home/joe; chown 1234 /home/joe\n\
         USER joe\nRUN cd; id -G > groups; touch x; chgrp 50 x; chgrp 33 x || touch refused\n\
         USER root\nRUN mkdir /d && chgrp 8 /d && chmod g+s /d && touch /d/f && mkdir /d/s\n",
    );
    let check = || {
        let image = bench.image();
        let groups = text(&image, "home/joe/groups");
        let mut groups: Vec<u32> =
            groups.split_whitespace().map(|id| id.parse().unwrap()).collect();
        groups.sort_unstable();
        assert_eq!(groups, [50, 1234]);
        let files = image.files();
        let owner = |path: &str| (files[path].uid, files[path].gid);
        assert_eq!((owner("home/joe/x"), owner("home/joe/refused")), ((1234, 50), (1234, 1234)));
        assert_eq!((owner("d"), owner("d/f"), owner("d/s")), ((0, 8), (0, 8), (0, 8)));
        assert_eq!(files["d/s"].mode & 0o7777, 0o2755);
    };
    bench.run(&[]).success();
    check();
    let mut command = need!(bench.command_of_nobody(&["--no-cache"]));
    fs_err::remove_dir_all(bench.sandbox.path("out")).unwrap();
    super::support::Run::of(&mut command).success();
    check();
}

#[test]
fn heredocs_run_in_the_shell_or_as_programs() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nRUN <<EOF\necho one > /one\necho two >> /one\nEOF\n\
         RUN <<'EOF'\n#!/bin/sh -e\necho $0 > /script\nEOF\n\
         RUN cat <<A > /both && cat <<B >> /both\na\nA\nb\nB\n",
    );
    let image = bench.build(&[]);
    assert_eq!(text(&image, "one"), "one\ntwo\n");
    assert_eq!(text(&image, "script"), "/dev/pipes/EOF\n");
    assert_eq!(text(&image, "both"), "a\nb\n");
    assert!(!image.files().keys().any(|path| path.starts_with("dev/")), "stubs are left");
}

#[test]
fn secrets_and_mounts_leave_nothing_behind() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox AS other\nRUN echo o > /o\nFROM busybox\n\
         RUN --mount=type=secret,id=s,required cat /run/secrets/s | wc -c > /size\n\
         RUN --mount=type=secret,id=s,env=S test ${#S} = 7 && echo ok > /env\n\
         RUN --mount=type=bind,rw,target=/ctx echo changed > /ctx/a.txt && cat /ctx/a.txt > /seen\n\
         RUN --mount=from=other,target=/deep/other cat /deep/other/o > /o\n\
         RUN --mount=type=tmpfs,target=/mem echo x > /mem/x\n",
    );
    bench.write("a.txt", "a");
    bench.write(".dockerignore", "secret.txt\n");
    let secret = bench.sandbox.write("secret.txt", "hunter2");
    let given = format!("id=s,src={}", secret.display());
    let image = bench.build(&["--secret", &given]);
    assert_eq!(text(&image, "size").trim(), "7");
    assert_eq!(text(&image, "env"), "ok\n");
    assert_eq!(text(&image, "seen"), "changed\n");
    assert_eq!(text(&image, "o"), "o\n");
    let files = image.files();
    for gone in ["run/secrets", "ctx", "deep", "mem"] {
        assert!(!files.contains_key(gone), "{gone} is left in {:?}", files.keys());
    }
    assert_eq!(fs_err::read(bench.sandbox.path("ctx/a.txt")).unwrap(), b"a");
    let everything: Vec<u8> = files.values().flat_map(|entry| entry.bytes.clone()).collect();
    let hidden = |bytes: &[u8]| !bytes.windows(7).any(|window| window == b"hunter2");
    assert!(hidden(&everything));
    assert!(hidden(image.config.to_string().as_bytes()));
}

#[test]
fn triggers_of_a_base_are_executed_first() {
    let onbuild = json!(["COPY a.txt /triggered", "RUN echo ran >> /order", "ENV T=1"]);
    let config = [("OnBuild".to_owned(), onbuild)].into();
    let bench = need!(Bench::with_base(&Busybox { config, ..Busybox::default() }));
    bench.write("a.txt", "a");
    bench.file("FROM busybox\nRUN echo own >> /order\n");
    let image = bench.build(&[]);
    assert_eq!(text(&image, "triggered"), "a");
    assert_eq!(text(&image, "order"), "ran\nown\n");
    assert_eq!(image.config["config"]["OnBuild"], Value::Null);
}

#[test]
fn scratch_stages_and_targets_are_images_of_their_own() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox AS build\nRUN echo built > /app\nFROM scratch AS small\n\
         COPY --from=build /app /app\nENTRYPOINT [\"/app\"]\nFROM busybox AS broken\nRUN exit 7\n",
    );
    let image = bench.build(&["--target", "Small"]);
    let files: Vec<String> = image.files().into_keys().collect();
    assert_eq!(files, ["app"]);
    assert_eq!(image.config["config"]["Entrypoint"], json!(["/app"]));
    bench.run(&[]).code(1).says("exit code 7");
}

#[test]
fn annotations_are_on_manifests_and_on_the_index_over_several() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nLABEL a=1\n");
    let annotation = ["--annotation", "org.example.a=b=c"];
    let one = bench.build(&annotation);
    assert_eq!(one.manifest["annotations"]["org.example.a"], "b=c");
    assert_eq!(one.config["config"]["Labels"], json!({"a": "1"}));
    bench.file("FROM scratch\nCOPY a /\n");
    bench.write("a", "a");
    let name = bench.registry.image("several:1");
    let words = ["build", "-f", "ctx/Dockerfile", "--platform", "linux/amd64,linux/arm64"];
    let words = words.into_iter().chain(annotation).chain(["-t", &name, "--push", "ctx"]);
    bench.sandbox.gondola(&words.collect::<Vec<_>>()).success();
    let raw = |name: &str| -> Value {
        let source = format!("docker://{name}");
        let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &source]);
        serde_json::from_str(&raw).unwrap()
    };
    let index = raw(&name);
    assert_eq!(index["annotations"]["org.example.a"], "b=c");
    for entry in index["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap();
        let manifest = raw(&bench.registry.image(&format!("several@{digest}")));
        assert_eq!(manifest["annotations"]["org.example.a"], "b=c");
    }
    bench.run(&["--annotation", "nothing"]).code(2).says("expected NAME=VALUE");
}

#[test]
fn several_platforms_share_what_does_not_depend_on_them() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM --platform=$BUILDPLATFORM busybox AS build\nRUN echo once >> /n\nARG TARGETARCH\n\
         RUN echo $TARGETARCH > /arch\nFROM scratch\nCOPY --from=build /arch /n /\n",
    );
    bench.run(&["--platform", "linux/amd64,linux/arm64"]).success();
    let images = super::support::Stored::folder(&bench.sandbox.path("out")).images(Some("t"));
    let arches: Vec<String> = images.iter().map(|image| text(image, "arch")).collect();
    assert_eq!(arches, ["amd64\n", "arm64\n"]);
    let platforms: Vec<String> = images.iter().map(super::support::ReadImage::platform).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
}

#[test]
fn commands_without_words_and_empty_lists_are_told_apart() {
    let bench = need!(Bench::new());
    let config = |file: &str| {
        bench.file(&format!(
            "FROM scratch AS base\nENTRYPOINT [\"/e\"]\nCMD [\"c\"]\nFROM base\n{file}"
        ));
        let image = bench.build(&[]);
        let history = image.config["history"].as_array().unwrap();
        let history = history.iter().rev().take(2).rev();
        let said: Vec<String> =
            history.map(|entry| entry["created_by"].as_str().unwrap().to_owned()).collect();
        let config = &image.config["config"];
        (config["Entrypoint"].clone(), config["Cmd"].clone(), said.join("; "))
    };
    let shell = json!(["/bin/sh", "-c", ""]);
    let said = r#"ENTRYPOINT ["/bin/sh" "-c" ""]; CMD ["/bin/sh" "-c" ""]"#;
    assert_eq!(config("ENTRYPOINT\nCMD\n"), (shell.clone(), shell, said.to_owned()));
    let said = "ENTRYPOINT []; CMD []";
    assert_eq!(config("ENTRYPOINT []\nCMD []\n"), (json!(null), json!(null), said.to_owned()));
}
