//! What flags make of an image: each is built without the flag and with it.

use fs_err as fs;

use crate::support::{Busybox, ReadImage, Registry, Run, Sandbox, Stored, need};
use crate::{context, executor};

/// Builds with these words; the image, which is not pushed.
fn built(sandbox: &Sandbox, words: &[&str]) -> ReadImage {
    let _ = fs::remove_dir_all(sandbox.path("out"));
    let usual = ["--no-push", "--oci-layout-path=out"];
    executor(sandbox, &[&usual[..], words].concat()).success();
    Stored::folder(&sandbox.path("out")).image(None)
}

/// A flag, and what only an image that was built with it has.
type Case = (&'static [&'static str], fn(&ReadImage) -> bool);

#[test]
fn flags_about_the_image_show_in_it() {
    let mut sandbox = Sandbox::new();
    context(&sandbox);
    sandbox.write("ctx/Dockerfile", "FROM scratch\nCOPY deploy/Dockerfile /other\n");
    sandbox.write("ctx/below/deploy/Dockerfile", "FROM scratch\nCOPY only /\n");
    sandbox.write("ctx/below/only", "here");
    sandbox.set("SAYS", "the environment");
    let cases: [Case; 14] = [
        (&["--label=a=b"], |it| it.config["config"]["Labels"]["a"] == "b"),
        (&["--annotation=a=b"], |it| it.manifest["annotations"]["a"] == "b"),
        (&["--custom-platform=linux/s390x"], |it| it.config["architecture"] == "s390x"),
        (&["--customPlatform=linux/s390x"], |it| it.config["architecture"] == "s390x"),
        (&["--reproducible"], |it| it.config["created"] == "1970-01-01T00:00:00Z"),
        (&["--compression=zstd"], |it| {
            it.manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
        }),
        (&["--image-format=docker"], |it| {
            it.manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
        }),
        (&["--target=other"], |it| it.config["config"]["Env"].to_string().contains("OTHER=1")),
        (&["--build-arg=SAYS=hi"], |it| it.config["config"]["Env"].to_string().contains("SAYS=hi")),
        (&["--build-arg=SAYS"], |it| {
            it.config["config"]["Env"].to_string().contains("SAYS=the environment")
        }),
        (&["--dockerfile=Dockerfile"], |it| it.entry("other").is_some()),
        (&["--context-sub-path=below"], |it| it.entry("only").is_some()),
        (&["--ignore-path=/hello.txt"], |it| it.layers.is_empty()),
        (&["--ignore-path", "hello.txt/", "--single-snapshot"], |it| it.layers.is_empty()),
    ];
    let usual = ["-c", "ctx", "-f", "deploy/Dockerfile"];
    let plain = built(&sandbox, &usual);
    for (words, shows) in cases {
        assert!(!shows(&plain), "{words:?} shows without it");
        let image = built(&sandbox, &[&usual[..], words].concat());
        assert!(shows(&image), "{words:?}: {} {}", image.manifest, image.config);
    }
    let levels = ["1", "9"].map(|level| {
        let level = format!("--compression-level={level}");
        built(&sandbox, &[&usual[..], &[&level]].concat()).manifest["layers"][0].clone()
    });
    assert_ne!(levels[0]["digest"], levels[1]["digest"]);
}

/// Steps that leave a file which a later one removes, and files where nothing is to be left.
const STEPS: &str = "COPY secret /secret\n\
     RUN rm /var/run && mkdir -p /var/run/app /left/out && echo a >/left/out/a && echo b >/kept && ln /kept /other\n\
     RUN rm /secret && rm /kept && echo c >>/left/out/a\nWORKDIR /srv\n";

#[test]
fn a_single_snapshot_is_one_layer_without_what_a_later_step_removed() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    let base = registry.image("library/busybox:latest");
    need!(Busybox::default().push(&sandbox.path("base"), &base));
    sandbox.write("ctx/secret", "hunter2");
    sandbox.write(
        "ctx/Dockerfile",
        format!("FROM {base} AS below\n{STEPS}FROM below\nCOPY secret /x\n"),
    );
    let below = Stored::folder(&sandbox.path("base")).image(None).layers.len();
    let has = |image: &ReadImage, path: &str| {
        let mut all = image.layers[below..].iter().flatten();
        all.any(|entry| entry.path.trim_end_matches('/') == path)
    };
    let plain = built(&sandbox, &["-c", "ctx"]);
    assert_eq!(plain.layers.len(), below + 5);
    assert!(has(&plain, "secret") && has(&plain, "left/out/a") && !has(&plain, "var/run/app"));

    let single = built(&sandbox, &["-c", "ctx", "--single-snapshot"]);
    assert_eq!(single.layers.len(), below + 1);
    assert!(!has(&single, "secret") && !has(&single, "kept"));
    let (one, many) = (single.files(), plain.files());
    assert_eq!(one.keys().collect::<Vec<_>>(), many.keys().collect::<Vec<_>>());
    for (path, entry) in &one {
        let other = &many[path];
        assert_eq!((&entry.bytes, entry.mode, entry.kind), (&other.bytes, other.mode, other.kind));
    }
    assert_eq!(one["other"].bytes, b"b\n");
    // What says who made which layer fits.
    for image in [&plain, &single] {
        let history = image.config["history"].as_array().unwrap();
        let made = history.iter().filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!(made, image.layers.len(), "{history:?}");
    }

    let words = ["-c", "ctx", "--ignore-path=/left", "--ignore-path=/srv"];
    let ignored = built(&sandbox, &words);
    assert!(!has(&ignored, "left") && !has(&ignored, "left/out/a") && has(&ignored, "x"));
    // The layer of WORKDIR had nothing else.
    assert_eq!(ignored.layers.len(), below + 4);
    let single = built(&sandbox, &[&words[..], &["--single-snapshot"]].concat());
    assert!(!has(&single, "left") && single.layers.len() == below + 1);
    for flag in ["--ignore-var-run=false", "--whitelist-var-run=false"] {
        assert!(has(&built(&sandbox, &["-c", "ctx", flag]), "var/run/app"), "{flag}");
    }
}

#[test]
fn all_targets_are_built_and_a_step_s_exit_code_is_the_builds() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    let base = registry.image("library/busybox:latest");
    need!(Busybox::default().push(&sandbox.path("base"), &base));
    let file = format!(
        "FROM {base} AS prod\nENV IS=prod\nFROM {base} AS test\nRUN echo tested && exit 7\n\
         FROM {base} AS fine\nENV IS=fine\nFROM {base} AS never\nRUN exit 9\n"
    );
    sandbox.write("ctx/Dockerfile", file);
    let run = |words: &[&str]| executor(&sandbox, &[&["-c", "ctx", "--no-push"], words].concat());
    run(&["--target=prod"]).success();
    run(&["--target", "prod,test"]).code(7).says("it ended with exit code 7");
    run(&["--target=prod", "--target=test"]).code(7);
    run(&["--target=prod,nosuch"]).code(2).says("has no stage of that name");
    let image = built(&sandbox, &["-c", "ctx", "--target=fine,prod"]);
    assert!(image.config["config"]["Env"].to_string().contains("IS=fine"));
    run(&[]).code(9);
}

#[test]
fn without_the_cache_nothing_is_reused_and_with_it_for_its_time() {
    let registry = need!(Registry::plain());
    let sandbox = Sandbox::new();
    let base = registry.image("library/busybox:latest");
    need!(Busybox::default().push(&sandbox.path("base"), &base));
    let file = format!("FROM {base}\nRUN cat /proc/sys/kernel/random/uuid >/when\n");
    sandbox.write("ctx/Dockerfile", file);
    let when = |words: &[&str]| {
        built(&sandbox, &[&["-c", "ctx"], words].concat()).files()["when"].bytes.clone()
    };
    let first = when(&[]);
    let second = when(&["--cache=false"]);
    assert_ne!(first, second);
    assert_eq!(when(&["--cache=true"]), second);
    assert_eq!(when(&["--cache=true", "--cache-ttl=1h"]), second);
    // As if it had been executed two hours ago.
    let records = sandbox.store().join("gondola/records/step");
    let mut changed = 0;
    for file in files_below(&records) {
        let text = fs::read_to_string(&file).unwrap();
        let Some((before, rest)) = text.split_once("\"executed\":") else { continue };
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap();
        let time: u64 = rest[..end].parse().unwrap();
        fs::write(&file, format!("{before}\"executed\":{}{}", time - 7200, &rest[end..])).unwrap();
        changed += 1;
    }
    assert!(changed > 0, "no record says when its step was executed");
    assert_eq!(when(&["--cache=true"]), second);
    let third = when(&["--cache=true", "--cache-ttl=1h"]);
    assert_ne!(third, second);
    // A base is looked up each time.
    let moved = Busybox { issue: Some("moved".to_owned()), ..Busybox::default() };
    need!(moved.push(&sandbox.path("moved"), &base));
    let image = built(&sandbox, &["-c", "ctx", "--cache=true"]);
    assert_eq!(image.files()["etc/issue"].bytes, b"moved");
}

/// All files below a folder.
fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files_below(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    let words = [
        "-c=ctx",
        "-f=deploy/Dockerfile",
        "-d=127.0.0.1:9/app:1",
        "--no-push",
        "--dryrun",
        "--tar-path=app.tar",
        "--oci-layout-path=layout",
        "--digest-file=new/digest",
    ];
    let ran: Run = executor(&sandbox, &words).success();
    assert!(ran.stdout.contains("COPY hello.txt /"), "{}", ran.stdout);
    assert!(ran.stdout.contains("no --cache"), "{}", ran.stdout);
    ran.says("--dryrun: nothing is built, so --tar-path, --oci-layout-path, --digest-file writes");
    for path in ["app.tar", "layout", "new"] {
        assert!(!sandbox.path(path).exists(), "{path}");
    }
    assert!(!sandbox.store().exists());
}

#[test]
fn each_line_has_the_time_of_the_day_where_that_is_asked_for() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    let lines = |words: &[&str]| {
        let usual = ["-c", "ctx", "-f", "deploy/Dockerfile", "--no-push", "--force"];
        executor(&sandbox, &[&usual[..], words].concat()).success().stderr
    };
    let is_dated = |line: &str| {
        line.split(' ').next().is_some_and(|first| first.parse::<jiff::Timestamp>().is_ok())
    };
    let plain = lines(&[]);
    assert!(plain.lines().any(|line| line.starts_with('[')), "{plain}");
    assert!(!plain.lines().any(is_dated), "{plain}");
    let dated = lines(&["--log-timestamp"]);
    assert!(!dated.is_empty() && dated.lines().all(is_dated), "{dated}");
}

#[test]
fn the_log_has_the_form_and_the_level_that_are_asked_for() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    let log = |words: &[&str]| {
        let usual = ["-c", "ctx", "-f", "deploy/Dockerfile", "--no-push", "--force"];
        executor(&sandbox, &[&usual[..], words].concat()).success().stderr
    };
    let is_object = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    let why = "no --cache";
    let plain = log(&["--log-format=text"]);
    assert!(plain.contains("COPY hello.txt") && !plain.contains(why), "{plain}");
    assert!(!plain.lines().any(is_object) && !plain.contains('\u{1b}'), "{plain}");
    let objects = log(&["--log-format=json"]);
    assert!(objects.contains("COPY hello.txt") && objects.lines().all(is_object), "{objects}");
    let quiet = log(&["--verbosity=error"]);
    assert!(!quiet.contains("COPY hello.txt"), "{quiet}");
    let detailed = log(&["--verbosity", "debug"]);
    assert!(detailed.contains(why), "{detailed}");
}

#[test]
fn a_secret_is_seen_by_the_step_that_mounts_it_and_by_nobody_else() {
    let registry = need!(Registry::plain());
    let mut sandbox = Sandbox::new();
    let base = registry.image("library/busybox:latest");
    need!(Busybox::default().push(&sandbox.path("base"), &base));
    sandbox.write("token", "hunter2");
    sandbox.set("TOKEN", "hunter3");
    let file = format!(
        "FROM {base}\nRUN --mount=type=secret,id=a --mount=type=secret,id=b \
         cat /run/secrets/a /run/secrets/b | sha256sum >/sum\n"
    );
    sandbox.write("ctx/Dockerfile", file);
    let words = ["-c", "ctx", "--secret=id=a,src=token", "--secret", "id=b,env=TOKEN"];
    let image = built(&sandbox, &words);
    let expected = gondola::oci::Digest::of(b"hunter2hunter3");
    let sum = String::from_utf8_lossy(&image.files()["sum"].bytes).into_owned();
    assert_eq!(sum.split(' ').next(), Some(expected.hex()));
    assert!(!image.files().contains_key("run/secrets/a"));
}
