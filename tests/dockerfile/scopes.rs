//! Whose caches a step sees: what somebody leaves there reaches nobody else.

use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::{Bench, serve, text};
use super::support::{Need, Run, Stored, need, program, run};

/// Says who was there before, and leaves a name.
const FILE: &str = "FROM busybox\nENV GOLANG_VERSION=1.2.3 GOPATH=/go\nARG who fail\n\
    RUN mkdir -p /root/.cache/go-build /go/pkg/mod \
    && ls /root/.cache/go-build/ /go/pkg/mod/ | grep -v : | sort -u | tr '\\n' ' ' > /seen \
    && touch /root/.cache/go-build/$who /go/pkg/mod/$who && test -z \"$fail\"\n";

fn bench() -> Need<Bench> {
    let bench = Bench::new()?;
    bench.file(FILE);
    Ok(bench)
}

/// Builds as `who`, with variables `NAME=VALUE`, and answers who was there before.
#[track_caller]
fn visit(bench: &Bench, variables: &str, who: &str, more: &[&str]) -> String {
    let out = bench.sandbox.path("out");
    let _ = fs_err::remove_dir_all(&out);
    let who = format!("who={who}");
    let arguments = [&["--no-cache", "--build-arg", &who], more].concat();
    let mut command = bench.sandbox.command(&bench.arguments(&arguments));
    set(&mut command, variables);
    Run::of(&mut command).success();
    text(&bench.image(), "seen").trim().to_owned()
}

fn set(command: &mut Command, variables: &str) {
    command.envs(variables.split_whitespace().filter_map(|pair| pair.split_once('=')));
}

const GITHUB: &str = "GITHUB_ACTIONS=true GITHUB_REPOSITORY=o/r";
const GITLAB: &str = "GITLAB_CI=true CI_PROJECT_PATH=g/p CI_DEFAULT_BRANCH=main";

/// A protected branch and two proposals.
fn refs() -> [[String; 3]; 2] {
    let pull = |number: u8| {
        format!(
            "{GITHUB} GITHUB_EVENT_NAME=pull_request GITHUB_REF=refs/pull/{number}/merge \
             GITHUB_BASE_REF=main GITHUB_REF_PROTECTED=false"
        )
    };
    let merge = |number: u8| {
        format!(
            "{GITLAB} CI_PIPELINE_SOURCE=merge_request_event CI_MERGE_REQUEST_IID={number} \
             CI_COMMIT_REF_NAME=main CI_COMMIT_REF_PROTECTED=true"
        )
    };
    let main = format!(
        "{GITHUB} GITHUB_EVENT_NAME=push GITHUB_REF=refs/heads/main GITHUB_REF_PROTECTED=true"
    );
    let protected = format!(
        "{GITLAB} CI_PIPELINE_SOURCE=push CI_COMMIT_REF_NAME=main CI_COMMIT_REF_PROTECTED=true"
    );
    [[main, pull(1), pull(2)], [protected, merge(1), merge(2)]]
}

#[test]
fn a_proposal_reads_the_default_branchs_caches_and_nobody_reads_its_own() {
    for [main, first, second] in refs() {
        let bench = need!(bench());
        assert_eq!(visit(&bench, &first, "early", &[]), "");
        assert_eq!(visit(&bench, &main, "main", &[]), "");
        assert_eq!(visit(&bench, &first, "first", &[]), "early main");
        assert_eq!(visit(&bench, &second, "second", &[]), "main");
        assert_eq!(visit(&bench, &main, "again", &[]), "main");
        assert_eq!(visit(&bench, &first, "first", &[]), "again early first main");
    }
}

#[test]
fn where_nothing_can_be_mounted_over_another_a_proposal_has_its_own_caches_alone() {
    let [[main, first, _], _] = refs();
    let bench = need!(bench());
    let copy = ["--sandbox", "ns-copy"];
    assert_eq!(visit(&bench, &main, "main", &copy), "");
    assert_eq!(visit(&bench, &first, "first", &copy), "");
    assert_eq!(visit(&bench, &first, "first", &copy), "first");
    assert_eq!(visit(&bench, &main, "main", &copy), "main");
}

#[test]
fn a_failed_step_leaves_what_it_wrote_in_its_own_scope() {
    let [[main, first, _], _] = refs();
    let bench = need!(bench());
    let mut command = bench.sandbox.command(&bench.arguments(&[
        "--build-arg",
        "who=failed",
        "--build-arg",
        "fail=yes",
    ]));
    set(&mut command, &first);
    Run::of(&mut command).code(1);
    assert_eq!(visit(&bench, &main, "main", &[]), "");
    assert_eq!(visit(&bench, &first, "first", &[]), "failed main");
}

#[test]
fn what_runs_with_a_branchs_rights_for_anybody_keeps_nothing() {
    let [[main, ..], _] = refs();
    let bench = need!(bench());
    let target = main.replace("=push", "=pull_request_target");
    assert_eq!(visit(&bench, &target, "target", &[]), "");
    assert_eq!(visit(&bench, &main, "main", &[]), "");
    assert_eq!(visit(&bench, &target, "target", &[]), "");
}

#[test]
fn a_folder_that_is_made_anew_at_the_same_path_finds_nothing() {
    let bench = need!(bench());
    assert_eq!(visit(&bench, "", "first", &[]), "");
    assert_eq!(visit(&bench, "", "first", &[]), "first");
    let context = bench.sandbox.path("ctx");
    fs_err::rename(&context, bench.sandbox.path("old")).unwrap();
    bench.file(FILE);
    assert_eq!(visit(&bench, "", "second", &[]), "");
    // Nor does a link from among somebody's files.
    fs_err::rename(&context, bench.sandbox.path("victim")).unwrap();
    std::os::unix::fs::symlink("victim", &context).unwrap();
    assert_eq!(visit(&bench, "", "third", &[]), "");
}

#[test]
fn who_names_a_scope_shares_it_and_a_file_cannot_name_one() {
    let bench = need!(bench());
    let named = ["--cache-scope", "ours"];
    assert_eq!(visit(&bench, "", "folder", &[]), "");
    assert_eq!(visit(&bench, "", "typed", &named), "");
    assert_eq!(visit(&bench, "GONDOLA_CACHE_SCOPE=ours", "set", &[]), "typed");
    bench.file(&FILE.replace("ENV ", "ENV GONDOLA_CACHE_SCOPE=ours "));
    assert_eq!(visit(&bench, "", "folder", &[]), "folder");
    bench.run(&["--cache-scope", ""]).code(2).says("cache scope");
    bench.run(&["--cache-scope", "a", "--no-shared-caches"]).code(2);
}

#[test]
fn archives_and_standard_input_find_nothing() {
    let bench = need!(bench());
    let tar = need!(program("tar"));
    let archive = bench.sandbox.path("ctx.tar");
    let context = bench.sandbox.path("ctx");
    run(tar, &["-cf", archive.to_str().unwrap(), "-C", context.to_str().unwrap(), "."]);
    let alone = bench.sandbox.write("alone", FILE);
    let seen = |input: &Path, who: &str, context: &str| {
        let _ = fs_err::remove_dir_all(bench.sandbox.path("out"));
        let who = format!("who={who}");
        let words = ["build", "--mirror", bench.mirror(), "--no-cache", "--build-arg", &who];
        let mut command =
            bench.sandbox.command(&[&words[..], &["-o", "oci:out:t", context]].concat());
        command.stdin(Stdio::from(fs_err::File::open(input).unwrap().into_file()));
        Run::of(&mut command).success();
        let image = Stored::folder(&bench.sandbox.path("out")).image(Some("t"));
        text(&image, "seen").trim().to_owned()
    };
    for who in ["first", "second"] {
        for (input, context) in [(&archive, "-"), (&alone, "-"), (&alone, "ctx.tar")] {
            assert_eq!(seen(input, who, context), "", "{who} {context}");
        }
    }
    // They are gone with the build.
    assert!(!bench.sandbox.store().join("build-caches").exists());
}

#[test]
fn a_ref_of_a_repository_reads_the_default_branch_and_leaves_nothing_there() {
    let bench = need!(bench());
    let git = need!(program("git"));
    let repository = bench.sandbox.path("r.git");
    let context = bench.sandbox.path("ctx");
    let at = |arguments: &[&str]| {
        let own = ["-c", "user.name=x", "-c", "user.email=x@x", "-C", context.to_str().unwrap()];
        run(&git, &[&own[..], arguments].concat())
    };
    at(&["init", "--quiet", "-b", "main", "."]);
    at(&["add", "."]);
    at(&["commit", "--quiet", "-m", "x"]);
    at(&["branch", "topic"]);
    at(&["branch", "other"]);
    at(&["clone", "--quiet", "--bare", ".", repository.to_str().unwrap()]);
    run(&git, &["-C", repository.to_str().unwrap(), "update-server-info"]);
    let server =
        serve(move |path| fs_err::read(repository.join(path.strip_prefix("/r.git/")?)).ok());
    let address = super::bench::url(&server, "/r.git");
    let seen = |reference: &str, who: &str| {
        let _ = fs_err::remove_dir_all(bench.sandbox.path("out"));
        let (who, address) = (format!("who={who}"), format!("{address}{reference}"));
        let words = ["build", "--mirror", bench.mirror(), "--no-cache", "--build-arg", &who];
        bench.sandbox.gondola(&[&words[..], &["-o", "oci:out:t", &address]].concat()).success();
        text(&bench.image(), "seen").trim().to_owned()
    };
    assert_eq!(seen("", "main"), "");
    assert_eq!(seen("#topic", "topic"), "main");
    assert_eq!(seen("#other", "other"), "main");
    assert_eq!(seen("", "main"), "main");
    assert_eq!(seen("#topic", "topic"), "main topic");
}

#[test]
fn results_of_steps_that_had_a_cache_are_found_by_their_own_scope_alone() {
    let bench = need!(Bench::new());
    let when = "cat /proc/sys/kernel/random/uuid";
    bench.file(&format!(
        "FROM busybox AS go\nENV GOLANG_VERSION=1.2.3 GOPATH=/go\nRUN {when} > /when\nWORKDIR /w\n\
         FROM busybox\nRUN {when} > /plain\nCOPY --from=go /when /when\n"
    ));
    let build = |variables: &str| {
        let _ = fs_err::remove_dir_all(bench.sandbox.path("out"));
        let mut command = bench.sandbox.command(&bench.arguments(&[]));
        set(&mut command, variables);
        Run::of(&mut command).success();
        let image = bench.image();
        (text(&image, "when"), text(&image, "plain"))
    };
    let [[main, first, second], _] = refs();
    let of_first = build(&first);
    assert_eq!(build(&first), of_first);
    let of_main = build(&main);
    assert_ne!(of_main.0, of_first.0);
    // What had no cache is the same for all.
    assert_eq!(of_main.1, of_first.1);
    assert_eq!(build(&second), of_main);
    assert_eq!(build(&first), of_first);
    assert_eq!(build(&main), of_main);
    let folder = build("");
    assert_ne!(folder.0, of_main.0);
    assert_eq!(build(""), folder);
}

#[test]
fn builds_without_shared_caches_find_nothing_and_leave_nothing() {
    let bench = need!(bench());
    let step = "RUN --mount=type=cache,target=/c,id=one ls /c > /mounted && touch /c/$who\n";
    bench.file(&format!("{FILE}{step}"));
    let mounted = || text(&bench.image(), "mounted").trim().to_owned();
    assert_eq!(visit(&bench, "", "known", &[]), "");
    let alone = ["--no-shared-caches"];
    for _ in 0..2 {
        assert_eq!(visit(&bench, "", "stranger", &alone), "");
        assert_eq!(mounted(), "");
    }
    assert_eq!(visit(&bench, "", "known", &[]), "known");
    assert_eq!(mounted(), "known");
}

#[test]
fn nothing_is_kept_of_what_apt_downloads() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nRUN mkdir -p /usr/bin /etc/apt/apt.conf.d && touch /usr/bin/apt-get \
         /etc/apt/apt.conf.d/docker-clean\nRUN test ! -e /run/gondola && test -z \"$APT_CONFIG\"\n",
    );
    bench.build(&[]);
    assert!(!bench.sandbox.store().join("build-caches").exists());
}

#[test]
fn caches_of_all_scopes_are_counted_and_pruned() {
    let [[main, first, _], _] = refs();
    let bench = need!(bench());
    bench.file(&FILE.replace("&& touch", "&& echo 12345 > /go/pkg/mod/$who && touch"));
    visit(&bench, &main, "main", &[]);
    visit(&bench, &first, "first", &[]);
    let size = || {
        let said = bench.sandbox.gondola(&["cache", "du", "--json"]).success().stdout;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["cache-mounts"]["bytes"].as_u64().unwrap()
    };
    assert!(size() >= 12, "{}", size());
    bench.sandbox.gondola(&["cache", "prune", "--all"]).success();
    assert_eq!(size(), 0);
    assert_eq!(visit(&bench, &first, "first", &[]), "");
}
