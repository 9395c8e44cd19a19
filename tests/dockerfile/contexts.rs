//! Where files come from, and which of them count.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::bench::{Bench, serve, text, url};
use super::support::{ReadImage, Run, Stored, need, program, run};

const FILE: &str = "FROM busybox\nCOPY . /c/\n";

fn copied(image: &ReadImage) -> Vec<String> {
    let files = image.files().into_keys();
    files.filter_map(|path| path.strip_prefix("c/").map(str::to_owned)).collect()
}

#[test]
fn the_dockerfiles_own_ignore_file_comes_first() {
    let bench = need!(Bench::new());
    bench.file(FILE);
    bench.write("a", "a");
    bench.write("b", "b");
    bench.write(".dockerignore", "a\nDockerfile*\n");
    assert_eq!(copied(&bench.build(&[])), [".dockerignore", "b"]);
    bench.write("Dockerfile.dockerignore", "*\n!a\n");
    assert_eq!(copied(&bench.build(&[])), ["a"]);
}

/// Packs the context.
fn archive(tar: PathBuf, bench: &Bench) -> PathBuf {
    let archive = bench.sandbox.path("ctx.tar.gz");
    let context = bench.sandbox.path("ctx");
    run(tar, &["-czf", archive.to_str().unwrap(), "-C", context.to_str().unwrap(), "."]);
    archive
}

/// Builds with a file on standard input.
fn with_input(bench: &Bench, input: &Path, more: &[&str]) -> Run {
    let words = ["build", "--mirror", bench.mirror(), "-o", "oci:out:t"];
    let mut command = bench.sandbox.command(&[&words[..], more].concat());
    command.stdin(Stdio::from(fs_err::File::open(input).unwrap().into_file()));
    Run::of(&mut command)
}

#[test]
fn an_archive_on_stdin_is_the_context_and_text_is_the_dockerfile() {
    let bench = need!(Bench::new());
    let tar = need!(program("tar"));
    bench.file(FILE);
    bench.write("a", "a");
    let archive = archive(tar, &bench);
    let build = |input: &Path| {
        with_input(&bench, input, &["-"]).success();
        Stored::folder(&bench.sandbox.path("out")).image(Some("t"))
    };
    assert_eq!(copied(&build(&archive)), ["Dockerfile", "a"]);
    let file = bench.sandbox.write("alone", "FROM busybox\nRUN echo x > /x\n");
    assert_eq!(text(&build(&file), "x"), "x\n");
}

#[test]
fn a_context_on_stdin_is_called_that_and_links_in_it_lead_to_the_dockerfile() {
    let bench = need!(Bench::new());
    let tar = need!(program("tar"));
    bench.write("files/real", "FROM busybox\nRUN echo linked > /x\n");
    std::os::unix::fs::symlink("./files/real", bench.sandbox.path("ctx/Dockerfile")).unwrap();
    std::os::unix::fs::symlink("../Dockerfile", bench.sandbox.path("ctx/files/other")).unwrap();
    let archive = archive(tar, &bench);
    let build = |input: &Path, more: &[&str]| with_input(&bench, input, more);
    for more in [&["-"][..], &["-f", "files/other", "-"], &["-f", "Dockerfile", "ctx.tar.gz"]] {
        build(&archive, more).success();
        let image = Stored::folder(&bench.sandbox.path("out")).image(Some("t"));
        assert_eq!(text(&image, "x"), "linked\n", "{more:?}");
        fs_err::remove_dir_all(bench.sandbox.path("out")).unwrap();
    }
    let whole = fs_err::read(&archive).unwrap();
    let mut broken = whole.clone();
    broken.truncate(whole.len() / 2);
    for bytes in [&broken[..], b"BZh91AY&SYrest", b"\xfd7zXZ\0rest"] {
        let input = bench.sandbox.write("input", bytes);
        let ran = build(&input, &["-"]);
        assert_ne!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains("standard input"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("blobs/sha256"), "{}", ran.stderr);
    }
}

#[test]
fn an_archive_on_a_server_is_the_context_and_text_is_the_dockerfile() {
    let bench = need!(Bench::new());
    let tar = need!(program("tar"));
    bench.file(FILE);
    bench.write("a", "a");
    let archive = archive(tar, &bench);
    let server = serve(move |path| match path {
        "/ctx" => fs_err::read(&archive).ok(),
        "/alone" => Some(b"FROM busybox\nCOPY context /x\n".to_vec()),
        "/long" => Some(vec![b'x'; (16 << 20) + 1]),
        _ => None,
    });
    let build = |more: &[&str], path: &str| {
        let words = ["build", "--mirror", bench.mirror(), "-o", "oci:out:t", &url(&server, path)];
        let _ = fs_err::remove_dir_all(bench.sandbox.path("out"));
        bench.sandbox.gondola(&[&words[..], more].concat())
    };
    build(&[], "/ctx?token=secret").success();
    assert_eq!(copied(&bench.image()), ["Dockerfile", "a"]);
    build(&[], "/alone").success();
    assert_eq!(text(&bench.image(), "x"), "FROM busybox\nCOPY context /x\n");
    build(&[], "/long").code(2).says("no tar archive, and too long for a Dockerfile");
    let shown = url(&server, "/nothere");
    let ran = build(&[], "/nothere?token=secret").code(1).says(&shown).says("404");
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    bench.file("FROM busybox\nCOPY --from=t a /named\n");
    let named = format!("t={}", url(&server, "/ctx"));
    assert_eq!(text(&bench.build(&["--build-context", &named]), "named"), "a");
}

#[test]
fn a_folder_with_a_dockerfile_and_no_program_is_built_without_f() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN echo x > /x\n");
    let words = ["build", "--mirror", bench.mirror(), "-o", "oci:out:t", "ctx"];
    bench.sandbox.gondola(&words).success();
    let image = Stored::folder(&bench.sandbox.path("out")).image(Some("t"));
    assert_eq!(text(&image, "x"), "x\n");
}

#[test]
fn named_contexts_stand_for_folders_images_and_stages() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM unreachable.example.com/base:1 AS one\nRUN echo one > /one\nFROM nowhere AS replaced\n\
         RUN exit 1\nFROM one\nCOPY --from=files a /a\nCOPY --from=replaced /bin/busybox /b\n",
    );
    bench.sandbox.write("other/a", "other");
    let image = bench.registry.image("library/busybox:latest");
    let base = format!("unreachable.example.com/base:1=docker-image://{image}");
    let layout = "replaced=oci-layout://base:latest";
    let words =
        ["--build-context", &base, "--build-context", layout, "--build-context", "files=other"];
    let built = bench.build(&words);
    assert_eq!(text(&built, "a"), "other");
    assert_eq!(text(&built, "one"), "one\n");
    assert!(built.files().contains_key("b"));
}

#[test]
fn paths_and_links_do_not_lead_out_of_the_context() {
    let bench = need!(Bench::new());
    bench.sandbox.write("outside", "secret");
    bench.write("a", "a");
    std::os::unix::fs::symlink("../../outside", bench.sandbox.path("ctx/up")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", bench.sandbox.path("ctx/abs")).unwrap();
    bench.file("FROM busybox\nCOPY ../../a /a\n");
    assert_eq!(text(&bench.build(&[]), "a"), "a");
    for source in ["up", "abs", "../outside"] {
        bench.file(&format!("FROM busybox\nCOPY {source} /x\n"));
        bench.run(&[]).code(1).says("Dockerfile:2");
    }
}
