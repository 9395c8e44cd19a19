//! Files that change while a build reads them: nothing is kept under a key that its own bytes do not
//! have, and no swap leads out of a context.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;

use super::bench::{Bench, text};
use super::support::{ReadImage, Run, Sandbox, Stored, need};

/// How long tests look for a bad moment: some seconds, or as many minutes as `GONDOLA_TEST_LONG` says.
#[expect(clippy::disallowed_methods, reason = "a test is asked by whoever starts it")]
fn time_to_look() -> Duration {
    let minutes = std::env::var("GONDOLA_TEST_LONG").ok().and_then(|text| text.parse().ok());
    minutes.map_or(Duration::from_secs(6), |minutes: u64| Duration::from_secs(60 * minutes))
}

/// A sandbox whose context `ctx` has a Dockerfile.
fn sandbox(dockerfile: &str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
    sandbox.write("ctx/Dockerfile", dockerfile);
    sandbox.write("ctx/.dockerignore", "Dockerfile\n.dockerignore\n");
    sandbox
}

const BUILD: [&str; 8] =
    ["build", "-f", "ctx/Dockerfile", "-o", "oci:out:t", "-t", "example.com/app:v1", "ctx"];

fn build(sandbox: &Sandbox) -> Run {
    let _ = fs::remove_dir_all(sandbox.path("out"));
    sandbox.gondola(&BUILD)
}

#[track_caller]
fn image(sandbox: &Sandbox) -> ReadImage {
    Stored::folder(&sandbox.path("out")).image(Some("t"))
}

#[track_caller]
fn built(sandbox: &Sandbox) -> ReadImage {
    build(sandbox).success();
    image(sandbox)
}

/// Writes over a file without another size or a moment in which it has one.
fn overwrite(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.file().write_all_at(text.as_bytes(), 0).unwrap();
}

#[test]
fn a_file_saved_after_its_step_is_never_kept_under_the_key_of_the_old_one() {
    let sandbox = sandbox("FROM scratch\nCOPY . /c/\n");
    // It keeps the packing busy: the small one comes after it.
    sandbox.write("ctx/big", noise().repeat(48));
    let small = sandbox.write("ctx/small", "old");
    let mut child = sandbox.command(&BUILD).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        let is_done = line.contains("COPY . /c/") && line.contains("done");
        said.push(line);
        if is_done {
            overwrite(&small, "new");
            break;
        }
    }
    said.extend(lines.map(Result::unwrap));
    assert!(child.wait().unwrap().success(), "{said:#?}");
    let raced = text(&image(&sandbox), "c/small");
    // Of the build that was raced either is right, but each key has its own bytes from now on.
    assert!(["old", "new"].contains(&raced.as_str()));
    overwrite(&small, "old");
    assert_eq!(text(&built(&sandbox), "c/small"), "old", "{said:#?}");
    overwrite(&small, "new");
    assert_eq!(text(&built(&sandbox), "c/small"), "new", "{said:#?}");
}

/// A megabyte that no compression makes small.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..131_072).flat_map(|_| next()).collect()
}

/// Calls `change` again and again at moments that nobody chooses, while `work` goes on.
fn while_changing<T>(change: impl Fn(u64) + Sync, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut moment = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                // Pauses of many lengths meet every part of a build in time.
                moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                thread::sleep(Duration::from_micros((moment >> 33) % 20_000));
                change(moment >> 20);
            }
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// What its layers hold.
fn diff_ids(image: &ReadImage) -> Vec<String> {
    let ids = image.config["rootfs"]["diff_ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn whatever_moment_files_change_in_every_key_has_its_own_bytes() {
    const NAMES: [&str; 3] = ["ctx/a", "ctx/d/b", "ctx/z"];
    let dockerfile =
        "FROM scratch AS one\nCOPY . /c/\nFROM scratch\nCOPY d /d/\nCOPY --from=one /c /e/\n";
    let sandbox = sandbox(dockerfile);
    let versions = ["first version", "other version"];
    let set = |files: &Sandbox, choice: usize| {
        for (bit, name) in NAMES.iter().enumerate() {
            files.write(name, versions[(choice >> bit) & 1]);
        }
    };
    // What the contents give where nothing changes: each from a store of its own.
    let calm = |choice: usize| {
        let calm = self::sandbox(dockerfile);
        set(&calm, choice);
        let image = built(&calm);
        (image.digest.clone(), diff_ids(&image))
    };
    let (expected, layers): (Vec<_>, Vec<_>) = (0..8).map(calm).unzip();
    set(&sandbox, 0);
    let paths = NAMES.map(|name| sandbox.path(name));
    let change = |moment: u64| {
        let which = usize::try_from(moment % 3).unwrap();
        let version = usize::try_from(moment / 3 % 2).unwrap();
        overwrite(&paths[which], versions[version]);
    };
    let end = Instant::now() + time_to_look();
    let (mut builds, mut gave_up) = (0, 0);
    while Instant::now() < end {
        let run = while_changing(change, || build(&sandbox));
        builds += 1;
        if run.code == Some(0) {
            // A file may have been saved between two steps, but each has read one state alone.
            for (step, found) in diff_ids(&image(&sandbox)).iter().enumerate() {
                let is_one = layers.iter().any(|layers| layers[step] == *found);
                assert!(is_one, "build {builds}, step {step}: {}", run.stderr);
            }
        } else {
            gave_up += 1;
            assert!(run.stderr.contains("it changed meanwhile"), "{}", run.stderr);
            assert!(run.stderr.contains("build again when nothing"), "{}", run.stderr);
        }
        let choice = builds % 8;
        set(&sandbox, choice);
        assert_eq!(built(&sandbox).digest, expected[choice], "after {builds} builds");
    }
    for (choice, digest) in expected.iter().enumerate() {
        set(&sandbox, choice);
        assert_eq!(&built(&sandbox).digest, digest, "of {builds} builds {gave_up} gave up");
    }
    assert!(builds > 5 && gave_up < builds, "of {builds} builds {gave_up} gave up");
}

#[test]
fn a_file_that_never_stays_the_same_is_a_clear_error() {
    let sandbox = sandbox("FROM scratch\nCOPY . /c/\n");
    let path = sandbox.write("ctx/log", "x".repeat(1 << 20));
    let mut failed = None;
    for _ in 0..20 {
        let stop = AtomicBool::new(false);
        let run = thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    overwrite(&path, &format!("{number:020}"));
                }
            });
            let run = build(&sandbox);
            stop.store(true, Ordering::Relaxed);
            run
        });
        if run.code != Some(0) {
            failed = Some(run);
            break;
        }
    }
    let run = failed.expect("one of twenty builds meets a change");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert_eq!(run.stderr.matches("the build begins again").count(), 2, "{}", run.stderr);
    assert!(run.stderr.contains("ctx/log: it changed meanwhile"), "{}", run.stderr);
    assert!(run.stderr.contains("build again when nothing writes there"), "{}", run.stderr);
    assert!(!sandbox.path("out").exists(), "nothing is left of it");
}

#[test]
fn no_swap_of_files_or_folders_for_links_brings_anything_from_outside() {
    let sandbox = sandbox("FROM scratch\nCOPY . /c/\nCOPY d/f /f\nADD d /d/\n");
    for (name, text) in [("ctx/d/f", "inside"), ("outside/f", "secret")] {
        sandbox.write(name, text);
    }
    let (folder, file, aside) =
        (sandbox.path("ctx/d"), sandbox.path("ctx/d/f"), sandbox.path("aside"));
    let swap = |moment: u64| {
        let (what, to) = match moment % 2 {
            0 => (&folder, "../outside"),
            _ => (&file, "../../outside/f"),
        };
        fs::rename(what, &aside).unwrap();
        symlink(to, what).unwrap();
        thread::sleep(Duration::from_micros(moment % 5000));
        fs::remove_file(what).unwrap();
        fs::rename(&aside, what).unwrap();
    };
    let end = Instant::now() + time_to_look();
    let (mut builds, mut images) = (0, 0);
    while Instant::now() < end {
        let run = while_changing(swap, || build(&sandbox));
        builds += 1;
        if run.code != Some(0) {
            continue;
        }
        images += 1;
        for (path, entry) in image(&sandbox).files() {
            assert_ne!(entry.bytes, b"secret", "{path} of build {builds}: {}", run.stderr);
        }
    }
    assert!(images > 0, "none of {builds} builds gave an image");
    assert_eq!(text(&built(&sandbox), "f"), "inside");
}

#[test]
fn a_dockerfile_that_is_a_link_is_followed_out_of_the_context_only_where_it_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("ctx/a", "x");
    sandbox.write("elsewhere/Dockerfile", "FROM scratch\nCOPY a /outside\n");
    sandbox.write("ctx/docker/File", "FROM scratch\nCOPY a /inside\n");
    let link = sandbox.path("ctx/Dockerfile");
    let build = |more: &[&str]| {
        let _ = fs::remove_dir_all(sandbox.path("out"));
        let begin = ["build", "-o", "oci:out:t", "-t", "example.com/app:v1"];
        sandbox.gondola(&[&begin, more, &["ctx"]].concat())
    };
    symlink("../elsewhere/Dockerfile", &link).unwrap();
    let run = build(&[]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let why = "it is a link to ../elsewhere/Dockerfile, and the context has no such file";
    assert!(run.stderr.contains(why), "{}", run.stderr);
    build(&["-f", "ctx/Dockerfile"]).success();
    assert_eq!(text(&image(&sandbox), "outside"), "x");
    fs::remove_file(&link).unwrap();
    symlink("docker/File", &link).unwrap();
    build(&[]).success();
    assert_eq!(text(&image(&sandbox), "inside"), "x");
}

#[test]
fn a_context_that_is_a_link_to_a_folder_is_followed() {
    let sandbox = sandbox("FROM scratch\nCOPY --from=other f /\nCOPY f /g\n");
    sandbox.write("ctx/f", "x");
    sandbox.write("named/f", "y");
    symlink("ctx", sandbox.path("link")).unwrap();
    symlink("named", sandbox.path("other")).unwrap();
    let arguments =
        ["build", "-f", "link/Dockerfile", "--build-context", "other=other", "-o", "oci:out:t"];
    sandbox.gondola(&[&arguments[..], &["-t", "example.com/app:v1", "link"]].concat()).success();
    assert_eq!(text(&image(&sandbox), "f"), "y");
    assert_eq!(text(&image(&sandbox), "g"), "x");
}

#[test]
fn a_step_sees_the_very_files_of_a_context_that_its_key_was_made_of() {
    let bench = need!(Bench::new());
    let dockerfile = "FROM busybox\nARG BUILD\n\
        RUN --mount=type=bind,target=/src cat /src/a /src/a > /twice\n\
        RUN --mount=type=bind,target=/src --mount=type=bind,source=a,target=/a,rw \
        cat /a /src/a > /both && echo changed > /a\n";
    bench.file(dockerfile);
    bench.write(".dockerignore", "Dockerfile\n.dockerignore\n");
    let path = bench.write("a", "first\n");
    let versions = ["first\n", "other\n"];
    let change = |moment: u64| overwrite(&path, versions[usize::try_from(moment % 2).unwrap()]);
    let end = Instant::now() + time_to_look() / 2;
    let mut builds = 0;
    while Instant::now() < end {
        let _ = fs::remove_dir_all(bench.sandbox.path("out"));
        builds += 1;
        // What was not executed yet is.
        let number = format!("BUILD={builds}");
        let run = while_changing(change, || bench.run(&["--build-arg", &number]));
        if run.code == Some(0) {
            let twice = text(&bench.image(), "twice");
            assert!(versions.iter().any(|version| twice == version.repeat(2)), "{twice:?}");
        }
        // Each key that was used has its own bytes.
        for version in versions {
            overwrite(&path, version);
            let image = bench.build(&["--build-arg", &number]);
            for name in ["twice", "both"] {
                assert_eq!(text(&image, name), version.repeat(2), "{name} after {builds} builds");
            }
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), versions[1], "a step wrote to the context");
    }
    assert!(builds > 0);
}
