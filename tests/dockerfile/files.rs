//! `COPY` and `ADD`.

use super::bench::{Bench, serve, text, url};
use super::support::{Entry, ReadImage, need, program, run};

fn lines(image: &ReadImage, below: &str) -> Vec<String> {
    let line = |(path, entry): (&String, &Entry)| {
        format!("{path} {:o} {}:{}", entry.mode & 0o7777, entry.uid, entry.gid)
    };
    let files = image.files();
    files.iter().filter(|(path, _)| path.starts_with(below)).map(line).collect()
}

#[test]
fn parents_and_excludes_choose_what_is_copied() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nCOPY --parents a/./b/c.txt d/*.md /p/\nCOPY --exclude=*.md --exclude=b a /e/\n\
         COPY --parents **/*.txt /all/\n",
    );
    for name in ["a/b/c.txt", "a/x.md", "a/y.txt", "d/z.md"] {
        bench.write(name, name);
    }
    let image = bench.build(&[]);
    let paths = |below: &str| -> Vec<String> {
        let lines = lines(&image, below);
        lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(paths("p"), ["p", "p/b", "p/b/c.txt", "p/d", "p/d/z.md"]);
    assert_eq!(paths("e/"), ["e/y.txt"]);
    assert_eq!(paths("all/"), ["all/a", "all/a/b", "all/a/b/c.txt", "all/a/y.txt"]);
}

#[test]
fn heredocs_are_files() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nENV WHO=you\nCOPY --chmod=755 <<one <<-'two' /h/\nhello $WHO\none\n\tkept $WHO\n\
         two\nCOPY <<EOF /single\nx\nEOF\n",
    );
    let image = bench.build(&[]);
    assert_eq!(text(&image, "h/one"), "hello you\n");
    assert_eq!(text(&image, "h/two"), "kept $WHO\n");
    assert_eq!(text(&image, "single"), "x\n");
    assert_eq!(lines(&image, "h/one"), ["h/one 755 0:0"]);
}

#[test]
fn archives_are_unpacked_by_add_alone_and_by_their_content() {
    let bench = need!(Bench::new());
    let tar = need!(program("tar"));
    bench.write("t/one", "1");
    let context = bench.sandbox.path("ctx");
    let archive = context.join("a.bin");
    let words =
        ["--owner=12", "--group=34", "--mode=0604", "-czf", archive.to_str().unwrap(), "-C"];
    run(tar, &[&words[..], &[context.join("t").to_str().unwrap(), "one"]].concat());
    bench.file(
        "FROM busybox\nADD a.bin /unpacked\nADD --unpack=false a.bin /kept\nCOPY a.bin /copied\n\
         ADD --chown=5:6 a.bin /owned/\nADD --chmod=700 a.bin /strict/\n",
    );
    let image = bench.build(&[]);
    assert_eq!(lines(&image, "unpacked"), ["unpacked 755 0:0", "unpacked/one 604 12:34"]);
    assert_eq!(lines(&image, "owned"), ["owned 755 5:6", "owned/one 604 5:6"]);
    assert_eq!(lines(&image, "strict"), ["strict 755 0:0", "strict/one 604 12:34"]);
    let files = image.files();
    assert_eq!(files["kept"].bytes, fs_err::read(&archive).unwrap());
    assert_eq!(files["copied"].bytes, files["kept"].bytes);
}

#[test]
fn addresses_are_downloaded_checked_and_asked_for_once() {
    let bench = need!(Bench::new());
    let server = serve(|_| Some(b"remote".to_vec()));
    let url = url(&server, "/dir/file.txt");
    bench.file(&format!(
        "FROM busybox\nADD {url} /x/\nADD --chmod=644 {url} /named\nADD {url}%5B1%5D/ /y/\n"
    ));
    let image = bench.build(&[]);
    assert_eq!(text(&image, "y/file.txt[1]"), "remote");
    assert_eq!(text(&image, "x/file.txt"), "remote");
    assert_eq!(lines(&image, "x/file.txt"), ["x/file.txt 600 0:0"]);
    assert_eq!(lines(&image, "named"), ["named 644 0:0"]);
    let digest = gondola::oci::Digest::of(b"remote");
    bench.file(&format!("FROM busybox\nADD --checksum={digest} {url} /x\n"));
    bench.build(&[]);
    let wrong = gondola::oci::Digest::of(b"other");
    bench.file(&format!("FROM busybox\nADD --checksum={wrong} {url} /x\n"));
    bench.run(&[]).code(1).says(digest.as_str());
}

#[test]
fn repositories_are_added_without_their_history() {
    let bench = need!(Bench::new());
    let git = need!(program("git"));
    let repository = bench.sandbox.path("repo.git");
    fs_err::create_dir(&repository).unwrap();
    let at = repository.to_str().unwrap();
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    run(&git, &["-C", at, "init", "--quiet", "-b", "main"]);
    fs_err::create_dir(repository.join("sub")).unwrap();
    fs_err::write(repository.join("sub/f"), "from git").unwrap();
    run(&git, &["-C", at, "add", "."]);
    run(&git, &[&["-C", at][..], &identity, &["commit", "--quiet", "-m", "one"]].concat());
    let head = run(&git, &["-C", at, "rev-parse", "HEAD"]);
    run(&git, &["-C", at, "update-server-info"]);
    let root = repository.join(".git");
    let server =
        serve(move |path| fs_err::read(root.join(path.trim_start_matches("/repo.git/"))).ok());
    let url = url(&server, "/repo.git");
    bench.file(&format!(
        "FROM busybox\nADD {url}#main:sub /g\nADD --checksum={} {url} /h\n",
        head.trim()
    ));
    let image = bench.build(&[]);
    assert_eq!(text(&image, "g/f"), "from git");
    assert_eq!(text(&image, "h/sub/f"), "from git");
    assert!(!image.files().keys().any(|path| path.contains(".git")), "{:?}", image.files().keys());
    for (name, said) in [("mian", "; hint: did you mean main?"), ("nope", "\n"), ("0123abcd", "\n")]
    {
        let words = ["build", "-o", "oci:other:t", &format!("{url}#{name}")];
        let said =
            format!("cannot fetch {url}: the repository has no branch, tag or commit {name}{said}");
        bench.sandbox.gondola(&words).code(1).says(&said);
    }
}

#[test]
fn a_destination_through_links_of_the_image_stays_inside() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN ln -s ../../../../etc /up\nCOPY a.txt /up/\nCOPY a.txt /sbin/tool\nCOPY --link a.txt /sbin/linked\n");
    bench.write("a.txt", "a");
    let image = bench.build(&[]);
    assert_eq!(text(&image, "etc/a.txt"), "a");
    assert_eq!(text(&image, "bin/tool"), "a");
    assert_eq!(text(&image, "sbin/linked"), "a");
}
