//! What is executed again, and what is not.

use super::bench::{Bench, text};
use super::support::{Stored, need};

const FILE: &str = "FROM busybox\nWORKDIR /w\nCOPY a.txt .\nRUN cat a.txt > b && cat /proc/sys/kernel/random/uuid > when\n\
                    COPY c.txt .\nENV X=1\nLABEL l=1\n";

fn prepared() -> super::support::Need<Bench> {
    let bench = Bench::new()?;
    bench.file(FILE);
    bench.write("a.txt", "a");
    bench.write("c.txt", "c");
    Ok(bench)
}

#[test]
fn an_unchanged_build_executes_nothing_and_gives_the_same_image() {
    let bench = need!(prepared());
    let first = bench.build(&[]);
    let ran = bench.run(&[]).success();
    assert_eq!(ran.stderr.matches("skipped, cached").count(), 4, "{}", ran.stderr);
    let second = Stored::folder(&bench.sandbox.path("out")).image(Some("t"));
    assert_eq!(first.digest, second.digest);
    // A touched file is the same file.
    bench.write("a.txt", "a");
    assert_eq!(bench.build(&[]).digest, first.digest);
}

#[test]
fn a_step_is_executed_again_when_what_it_reads_changes_and_only_then() {
    let bench = need!(prepared());
    let when = |image: &super::support::ReadImage| text(image, "w/when");
    let first = bench.build(&[]);
    bench.write("c.txt", "other");
    let second = bench.build(&[]);
    assert_eq!(when(&first), when(&second));
    assert_eq!(text(&second, "w/c.txt"), "other");
    bench.file(&FILE.replace("LABEL l=1", "LABEL l=2"));
    assert_eq!(when(&first), when(&bench.build(&[])));
    bench.write("a.txt", "changed");
    let third = bench.build(&[]);
    assert_ne!(when(&first), when(&third));
    assert_eq!(text(&third, "w/b"), "changed");
    bench.file(&FILE.replace("RUN cat", "ENV N=1\nRUN cat"));
    assert_ne!(when(&third), when(&bench.build(&[])));
}

#[test]
fn a_stage_that_comes_out_the_same_leaves_later_ones_alone() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox AS made\nCOPY a.txt /\nRUN wc -c < /a.txt > /size\nFROM busybox\n\
         COPY --from=made /size /size\nRUN cat /proc/sys/kernel/random/uuid > /when\n",
    );
    bench.write("a.txt", "one");
    let first = bench.build(&[]);
    bench.write("a.txt", "two");
    let second = bench.build(&[]);
    assert_eq!(text(&first, "when"), text(&second, "when"));
    bench.write("a.txt", "three");
    assert_ne!(text(&first, "when"), text(&bench.build(&[]), "when"));
}

#[test]
fn the_cache_can_be_passed_by_whole_or_for_a_stage() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM one AS two\nRUN cat /proc/sys/kernel/random/uuid > /two\n",
    );
    let times = |more: &[&str]| {
        let image = bench.build(more);
        (text(&image, "one"), text(&image, "two"))
    };
    let first = times(&[]);
    let filtered = times(&["--no-cache-filter", "TWO"]);
    assert_eq!(first.0, filtered.0);
    assert_ne!(first.1, filtered.1);
    let all = times(&["--no-cache"]);
    assert_ne!(all.0, first.0);
}

#[test]
fn two_builds_from_nothing_give_the_same_digest() {
    let file = "FROM busybox AS a\nWORKDIR /x/y\nCOPY . .\nRUN mkdir d && echo 1 > d/f && ln d/f d/g\n\
                FROM busybox\nCOPY --from=a /x /z\nRUN echo 2 > /z/new && rm -r /home\nCMD [\"sh\"]\n";
    let digest = || -> super::support::Need<gondola::oci::Digest> {
        let bench = Bench::new()?;
        bench.file(file);
        bench.write("s/t", "t");
        Ok(bench.build(&[]).digest)
    };
    let first = need!(digest());
    assert_eq!(first, need!(digest()));
}

#[test]
fn a_base_is_looked_up_once_and_again_when_asked() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN true\n");
    bench.build(&[]);
    let asked = || {
        let log = bench.registry.log();
        log.iter().filter(|line| line.path.ends_with("/busybox/manifests/latest")).count()
    };
    let before = asked();
    assert!(before > 0);
    bench.build(&[]);
    assert_eq!(asked(), before);
    bench.build(&["--pull"]);
    assert!(asked() > before);
}

#[test]
fn lost_results_are_made_again() {
    let bench = need!(prepared());
    let first = bench.build(&[]);
    // The kept files of steps are gone, but their layers are there.
    let kept = bench.sandbox.store().join("gondola/rootfs");
    fs_err::remove_dir_all(kept).unwrap();
    bench.write("c.txt", "other");
    let second = bench.build(&[]);
    assert_eq!(text(&first, "w/when"), text(&second, "w/when"));
    assert_eq!(text(&second, "w/c.txt"), "other");
    fs_err::remove_dir_all(bench.sandbox.store()).unwrap();
    assert_eq!(text(&bench.build(&[]), "w/c.txt"), "other");
}

#[test]
fn what_a_run_leaves_in_a_cache_mount_is_there_for_the_next() {
    let bench = need!(Bench::new());
    let step = "RUN --mount=type=cache,target=/c,id=one echo x >> /c/n && wc -l < /c/n";
    bench.file(&format!("FROM busybox\n{step} > /first\n{step} > /second\n"));
    let image = bench.build(&[]);
    assert_eq!((text(&image, "first"), text(&image, "second")), ("1\n".into(), "2\n".into()));
    assert!(!image.files().contains_key("c"));
    let image = bench.build(&["--no-cache"]);
    assert_eq!(text(&image, "first"), "3\n");
}

const GO: &str = "ENV GOLANG_VERSION=1.2.3 GOPATH=/go\n";
const FILL: &str = "RUN mkdir -p /root/.cache/go-build /go/pkg/mod && echo b >> /root/.cache/go-build/n && \
                    echo m >> /go/pkg/mod/n && cat /root/.cache/go-build/n /go/pkg/mod/n | wc -l > /count\n";

#[test]
fn steps_of_images_with_go_find_gos_caches_as_they_were_left() {
    let bench = need!(Bench::new());
    bench.file(&format!("FROM busybox\n{GO}{FILL}"));
    let image = bench.build(&[]);
    assert_eq!(text(&image, "count"), "2\n");
    let files = image.files();
    assert!(!files.contains_key("root/.cache") && !files.contains_key("go"), "{:?}", files.keys());
    assert_eq!(text(&bench.build(&["--no-cache"]), "count"), "4\n");
    let without = bench.build(&["--no-go-cache"]);
    assert_eq!(text(&without, "count"), "2\n");
    assert_eq!(text(&without, "go/pkg/mod/n"), "m\n");
}

#[test]
fn gos_caches_are_left_alone_where_somebody_would_miss_them() {
    let bench = need!(Bench::new());
    bench.file(&format!(
        "FROM busybox AS build\n{GO}{FILL}FROM busybox\nCOPY --from=build /go/pkg/mod /mod\n"
    ));
    let image = bench.build(&[]);
    assert_eq!(text(&image, "mod/n"), "m\n");
    bench.file(&format!(
        "FROM busybox\n{GO}RUN mkdir -p /go/pkg/mod && echo old > /go/pkg/mod/n\n{FILL}"
    ));
    let image = bench.build(&["--no-go-cache"]);
    assert_eq!(text(&image, "go/pkg/mod/n"), "old\nm\n");
    bench.file(&format!("FROM busybox\n{GO}{FILL}CMD [\"go\", \"run\", \".\"]\n"));
    assert_eq!(text(&bench.build(&[]), "go/pkg/mod/n"), "m\n");
}

#[test]
fn gos_caches_can_be_removed_by_a_step_and_nothing_of_them_is_in_the_image() {
    let bench = need!(Bench::new());
    let clean = "RUN rm -rf /root/.cache /root/.config /go/pkg && test ! -e /go/pkg\n";
    let filled = "RUN test -s /go/pkg/mod/n && test -s /root/.cache/go-build/n\n";
    bench.file(&format!("FROM busybox\n{GO}{FILL}{clean}{filled}RUN rm -r /go/pkg/mod/*\n"));
    let image = bench.build(&[]);
    let files = image.files();
    let left = files.keys().find(|path| path.starts_with("go") || path.starts_with("root/."));
    assert_eq!(left, None);
    assert!(!files.keys().any(|path| path.starts_with("run/gondola")), "{:?}", files.keys());
}

#[test]
fn every_context_has_caches_of_its_own() {
    let bench = need!(Bench::new());
    let file = format!("FROM busybox\n{GO}{FILL}");
    bench.file(&file);
    bench.build(&[]);
    bench.sandbox.write("other/Dockerfile", &file);
    let build = ["build", "--mirror", bench.mirror(), "--no-cache", "-f", "other/Dockerfile"];
    bench.sandbox.gondola(&[&build[..], &["-o", "oci:other.out:t", "other"]].concat()).success();
    let image = Stored::folder(&bench.sandbox.path("other.out")).image(Some("t"));
    assert_eq!(text(&image, "count"), "2\n");
}

#[test]
fn steps_that_filled_a_lost_cache_are_executed_again_when_a_later_one_fails() {
    let bench = need!(Bench::new());
    let again = "they are executed again";
    bench.write("a", "1");
    bench.file(&format!(
        "FROM busybox AS modules\n{GO}RUN echo m > /go/pkg/mod/n\n\
         FROM modules\nCOPY a /\nRUN grep m /go/pkg/mod/n\n"
    ));
    bench.run(&[]).success();
    bench.write("a", "2");
    let ran = bench.run(&[]).success();
    assert!(!ran.stderr.contains(again), "{}", ran.stderr);
    fs_err::remove_dir_all(bench.sandbox.store().join("build-caches")).unwrap();
    bench.write("a", "3");
    bench.run(&[]).success().says(again);
    // A step that fails for a reason of its own is no reason to execute others.
    bench.file(&format!(
        "FROM busybox AS modules\n{GO}RUN echo m > /go/pkg/mod/n\n\
         FROM modules\nCOPY a /\nRUN grep m /go/pkg/mod/n && exit 9\n"
    ));
    let ran = bench.run(&[]).code(1);
    assert!(!ran.stderr.contains(again), "{}", ran.stderr);
    ran.says("exit code 9");
}

#[test]
fn folders_that_caches_need_belong_to_the_steps_user() {
    let bench = need!(Bench::new());
    bench.file(&format!(
        "FROM busybox\n{GO}RUN mkdir -p /etc /home/joe && echo joe:x:1000:1000::/home/joe:/bin/sh >> /etc/passwd \\\n\
         && chown 1000:1000 /home/joe\nUSER joe\nRUN mkdir -p ~/.cache/lint && echo x > ~/.cache/lint/f\n"
    ));
    let image = bench.build(&[]);
    let files = image.files();
    let cache = &files["home/joe/.cache"];
    assert_eq!((cache.uid, cache.gid), (1000, 1000));
    let inside = files.keys().filter(|path| path.starts_with("home/joe/"));
    let expected = ["home/joe/.cache", "home/joe/.cache/lint", "home/joe/.cache/lint/f"];
    assert_eq!(inside.collect::<Vec<_>>(), expected);
}

#[test]
fn without_an_account_the_caches_are_where_the_steps_home_is() {
    let bench = need!(Bench::new());
    bench.file(&format!(
        "FROM busybox\n{GO}RUN rm /etc/passwd\nRUN echo at $HOME > /where; mkdir -p $HOME/.cache/go-build && echo x > $HOME/.cache/go-build/f\n\
         COPY a /\nRUN cp $HOME/.cache/go-build/f /kept\n"
    ));
    bench.write("a", "1");
    let image = bench.build(&[]);
    let files = image.files();
    assert_eq!(text(&image, "where"), "at /\n");
    assert!(!files.contains_key(".cache/go-build/f"), "{:?}", files.keys());
    assert_eq!(text(&image, "kept"), "x\n");
}
