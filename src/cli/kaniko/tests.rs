//! What kaniko's flags come out as.

use std::path::Path;

use clap::Parser;

use super::*;
use crate::dockerfile::build::StepKind;
use crate::registry::Mirrors;

#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Executor {
    #[command(flatten)]
    args: KanikoArgs,
}

fn translated_in(words: &[&str], variables: &[(&str, &str)]) -> Result<Translation> {
    let words = ["executor"].iter().chain(words);
    let args = Executor::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args;
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    translate(&args, &variables.iter().map(owned).collect())
}

fn translated(words: &[&str]) -> Translation {
    translated_in(words, &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(words: &[&str]) -> String {
    translated_in(words, &[]).unwrap_err().to_string()
}

#[test]
fn a_pipeline_of_today_is_understood() {
    let build = translated(&[
        "--context=dir:///builds/app",
        "--dockerfile",
        "deploy/Dockerfile",
        "--destination=registry.test/a/b:1",
        "-d",
        "registry.test/a/b:latest",
        "--build-arg",
        "VERSION=1.2=3",
        "--build-arg=COMMIT",
        "--target=final",
        "--cache=true",
        "--label",
        "org.example.a=b c",
        "--secret",
        "id=npm,src=/run/npmrc",
        "--digest-file=/dev/termination-log",
        "--custom-platform=linux/arm64",
    ]);
    assert_eq!(build.context, ContextChoice::Folder("/builds/app".into()));
    assert_eq!(build.dockerfile, "deploy/Dockerfile");
    let names: Vec<_> = build.destinations.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["registry.test/a/b:1", "registry.test/a/b:latest"]);
    assert!(
        build.push && build.use_cache && !build.reproducible && build.purpose == Purpose::Build
    );
    assert_eq!(build.arguments["VERSION"], "1.2=3");
    assert_eq!(build.arguments["COMMIT"], "");
    assert_eq!(build.target.as_deref(), Some("final"));
    assert_eq!(build.labels["org.example.a"], "b c");
    assert_eq!(build.secrets["npm"], SecretChoice::File("/run/npmrc".into()));
    assert_eq!(build.files.digest.as_deref(), Some(Path::new("/dev/termination-log")));
    assert_eq!(build.platform.unwrap().to_string(), "linux/arm64");
    assert_eq!(build.notes, [""; 0]);
}

#[test]
fn every_flag_of_kaniko_is_taken() {
    let switches = [
        "log-timestamp",
        "force",
        "whitelist-var-run",
        "single-snapshot",
        "reproducible",
        "no-push",
        "no-push-cache",
        "cache",
        "compressed-caching",
        "pre-cleanup",
        "cleanup",
        "ignore-var-run",
        "use-new-run",
        "cache-copy-layers",
        "cache-run-layers",
        "skip-push-permission-check",
        "preserve-context",
        "materialize",
        "dryrun",
        "force-build-metadata",
        "skip-unused-stages",
        "insecure",
        "skip-tls-verify",
        "insecure-pull",
        "skip-tls-verify-pull",
        "push-ignore-immutable-tag-errors",
        "skip-default-registry-fallback",
    ];
    let values = [
        ("verbosity", "debug"),
        ("log-format", "text"),
        ("dockerfile", "D"),
        ("context", "dir://."),
        ("context-sub-path", "x"),
        ("bucket", "b"),
        ("snapshot-mode", "redo"),
        ("custom-platform", "linux/amd64"),
        ("image-fs-extract-retry", "3"),
        ("kaniko-dir", "/k"),
        ("tar-path", "/t"),
        ("target", "a"),
        ("cache-repo", "r.test/c"),
        ("cache-dir", "/c"),
        ("digest-file", "/d"),
        ("image-name-with-digest-file", "/n"),
        ("image-name-tag-with-digest-file", "/t"),
        ("oci-layout-path", "/o"),
        ("compression", "gzip"),
        ("image-format", "docker"),
        ("compression-level", "-1"),
        ("cache-ttl", "6h"),
        ("snapshotMode", "full"),
        ("customPlatform", "linux/amd64"),
        ("tarPath", "/t"),
        ("push-retry", "2"),
        ("image-download-retry", "2"),
        ("destination", "r.test/a"),
        ("build-arg", "a=b"),
        ("label", "a=b"),
        ("git", "branch=x"),
        ("ignore-path", "/x"),
        ("annotation", "a=b"),
        ("secret", "id=a"),
        ("insecure-registry", "r.test"),
        ("skip-tls-verify-registry", "r.test"),
        ("registry-certificate", "r.test=/c"),
        ("registry-client-cert", "r.test=/c,/k"),
        ("registry-map", "a.test=b.test;c.test=d.test/x"),
        ("registry-mirror", "m.test"),
        ("credential-helpers", "ecr"),
    ];
    for switch in switches {
        for value in ["", "=true", "=false", "=1", "=F"] {
            translated(&["-d", "r.test/a", &format!("--{switch}{value}")]);
        }
    }
    for (flag, value) in values {
        translated(&["-c", ".", "-d", "r.test/a", &format!("--{flag}"), value]);
        translated(&["-c", ".", "-d", "r.test/a", &format!("--{flag}={value}")]);
    }
    assert_eq!(switches.len() + values.len(), 68);
    translated(&["-v", "warn", "-f", "x", "-c", "y", "-b", "z", "-d", "r.test/a", "-d=r.test/b"]);
    let again = translated(&[
        "-d",
        "r.test/a",
        "--cache=false",
        "--cache",
        "--dockerfile=a",
        "--dockerfile=b",
    ]);
    assert_eq!((again.use_cache, again.dockerfile.as_str()), (true, "b"));
    assert!(Executor::try_parse_from(["executor", "--no-such-flag"]).is_err());
    assert!(Executor::try_parse_from(["executor", "--cache=perhaps"]).is_err());
}

#[test]
fn flags_of_kanikos_own_design_get_one_note_each() {
    let build = translated(&[
        "--no-push",
        "--snapshot-mode=redo",
        "--single-snapshot",
        "--use-new-run",
        "--compressed-caching=false",
        "--cleanup",
        "--ignore-var-run=false",
        "--ignore-path=/x",
        "--ignore-path=/y",
        "--force",
        "--kaniko-dir=/k",
    ]);
    let flags: Vec<_> = build.notes.iter().map(|note| note.split(' ').next().unwrap()).collect();
    let expected = [
        "--snapshot-mode",
        "--single-snapshot",
        "--use-new-run",
        "--compressed-caching",
        "--cleanup",
        "--ignore-var-run",
        "--ignore-path",
        "--force",
        "--kaniko-dir",
    ];
    assert_eq!(flags, expected);
}

#[test]
fn contexts_are_folders_archives_and_repositories() {
    let cases: [(&[&str], ContextChoice); 10] = [
        (&[], ContextChoice::Folder("/workspace/".into())),
        (&["-c", "."], ContextChoice::Folder(".".into())),
        (&["-c", "dir://x", "--context-sub-path", "a/b"], ContextChoice::Folder("x/a/b".into())),
        (&["-c", "tar:///x.tar.gz"], ContextChoice::Archive("/x.tar.gz".into(), None)),
        (
            &["-c", "tar://stdin", "--context-sub-path=a"],
            ContextChoice::Stdin(Some("a".to_owned())),
        ),
        (
            &["-c", "git://github.com/a/b.git"],
            ContextChoice::Git("https://github.com/a/b.git".to_owned()),
        ),
        (
            &["-c", "git://host.test/a/b#refs/heads/main"],
            ContextChoice::Git("https://host.test/a/b.git#refs/heads/main".to_owned()),
        ),
        (
            &["-c", "git://host.test/a.git#main#0123abc", "--context-sub-path", "x"],
            ContextChoice::Git("https://host.test/a.git#0123abc:x".to_owned()),
        ),
        (
            &["-c", "git://host.test/a.git", "--git=branch=dev", "--git", "single-branch=true"],
            ContextChoice::Git("https://host.test/a.git#dev".to_owned()),
        ),
        (
            &["-c", "git://host.test/a.git", "--context-sub-path", "x"],
            ContextChoice::Git("https://host.test/a.git#:x".to_owned()),
        ),
    ];
    for (words, expected) in cases {
        let words: Vec<_> = words.iter().copied().chain(["--no-push"]).collect();
        assert_eq!(translated(&words).context, expected, "{words:?}");
    }
    let plain = translated_in(
        &["--no-push", "-c", "git://host.test/a.git"],
        &[("GIT_PULL_METHOD", "http")],
    );
    assert_eq!(plain.unwrap().context, ContextChoice::Git("http://host.test/a.git".to_owned()));
}

#[test]
fn contexts_in_object_storage_are_refused_with_the_way_around() {
    let cases = [
        (
            "s3://bucket/x.tar.gz",
            "aws s3 cp s3://bucket/x.tar.gz - | gondola kaniko --context tar://stdin",
        ),
        (
            "gs://bucket/x.tar.gz",
            "gsutil cat gs://bucket/x.tar.gz | gondola kaniko --context tar://stdin",
        ),
        (
            "https://a.blob.core.windows.net/c/x.tar.gz",
            "curl -fsSL https://a.blob.core.windows.net/c/x.tar.gz |",
        ),
        ("ftp://x", "expected a folder, dir://, tar://, git:// or tar://stdin"),
    ];
    for (context, hint) in cases {
        let error = refused(&["--no-push", "-c", context]);
        assert!(error.contains(hint), "{error}");
    }
    let error = refused(&["--no-push", "--bucket", "b/x.tar.gz"]);
    assert!(error.contains("gsutil cat gs://b/x.tar.gz"), "{error}");
}

#[test]
fn registries_become_hosts_mirrors_certificates_and_attempts() {
    let build = translated_in(
        &[
            "-d",
            "push.test:5000/a",
            "--insecure",
            "--insecure-registry=one.test",
            "--skip-tls-verify-registry",
            "two.test",
            "--skip-tls-verify-pull",
            "--registry-certificate=r.test=/ca.pem",
            "--registry-client-cert",
            "r.test=/c.pem,/k.pem",
            "--registry-map=index.docker.io=hub.test;quay.io=q.test/x",
            "--registry-mirror",
            "mirror.test",
            "--push-retry=3",
            "--image-download-retry=1",
        ],
        &[("KANIKO_REGISTRY_MIRROR", "variable.test")],
    );
    let registries = build.unwrap().registries;
    assert_eq!(Vec::from_iter(registries.insecure), ["one.test", "push.test:5000", "two.test"]);
    assert!(registries.insecure_pull);
    assert_eq!(registries.certificates["r.test"], Path::new("/ca.pem"));
    assert_eq!(registries.client_certificates["r.test"].key, Path::new("/k.pem"));
    assert_eq!(registries.attempts, Some(4));
    Mirrors::parse(&registries.mirrors).unwrap();
    let expected = "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
        [[registry.mirror]]\nlocation = \"hub.test\"\n[[registry.mirror]]\nlocation = \"mirror.test\"\n\
        [[registry.mirror]]\nlocation = \"variable.test\"\n\
        [[registry]]\nprefix = \"quay.io\"\nlocation = \"quay.io\"\n[[registry.mirror]]\nlocation = \"q.test/x\"\n";
    assert_eq!(registries.mirrors, expected);
    let alone = translated(&[
        "--no-push",
        "--registry-mirror=a.test",
        "--registry-mirror=b.test",
        "--skip-default-registry-fallback",
    ]);
    let expected = "[[registry]]\nprefix = \"docker.io\"\nlocation = \"b.test\"\n[[registry.mirror]]\nlocation = \"a.test\"\n";
    assert_eq!(alone.registries.mirrors, expected);
    assert!(
        translated(&["--no-push", "-d", "push.test/a", "--insecure"])
            .registries
            .insecure
            .is_empty()
    );
}

#[test]
fn the_cache_is_below_the_first_destination_unless_it_is_named() {
    let cache = |words: &[&str]| translated(words).cache;
    let name = |words: &[&str]| cache(words).unwrap().repository.to_string();
    let usual = ["-d", "r.test/a/b:1", "-d", "other.test/c", "--cache=true"];
    let inferred = cache(&usual).unwrap();
    assert_eq!(inferred.repository.to_string(), "r.test/a/b/cache");
    assert!(inferred.push && inferred.without.is_empty());
    assert_eq!(inferred.longest_age.unwrap().as_secs(), 14 * 24 * 3600);
    assert_eq!(name(&["--no-push", "--cache", "--cache-repo=r.test:5000/x"]), "r.test:5000/x");
    assert_eq!(cache(&["--no-push", "-d", "r.test/a", "--cache"]), None);
    for off in [&["-d", "r.test/a"][..], &["-d", "r.test/a", "--cache=false"]] {
        assert_eq!(cache(off), None);
        let words = [off, &["--cache-repo=r.test/x", "--cache-ttl=1h"]].concat();
        let build = translated(&words);
        assert_eq!((build.cache, build.notes.len()), (None, 2), "{words:?}");
    }
    let all = [
        &usual[..],
        &["--cache-ttl=90m", "--no-push-cache", "--cache-copy-layers=false", "--cache-run-layers"],
    ];
    let all = cache(&all.concat()).unwrap();
    assert_eq!((all.push, all.longest_age.unwrap().as_secs()), (false, 5400));
    assert_eq!(Vec::from_iter(all.without), [StepKind::Copy]);
    // It is written to, so that what is said of pushing goes for it.
    let words = ["-d", "r.test/a", "--cache", "--cache-repo=c.test/x", "--insecure"];
    let insecure = translated(&words).registries.insecure;
    assert_eq!(Vec::from_iter(insecure), ["c.test", "r.test"]);
    let refused = |more: &str| refused(&["--no-push", "--cache", "--cache-repo=r.test/x", more]);
    assert!(refused("--cache-ttl=2 weeks").contains("such as 90s, 1h30m or 7d"));
    assert!(refused("--cache-repo=oci:/cache").contains("--store FOLDER"));
    assert!(refused("--cache-repo=R.test/X").contains("cannot read image name"));
}

#[test]
fn secrets_are_files_or_variables() {
    let cases = [
        ("id=a", SecretChoice::File("a".into())),
        ("id=a,src=/x", SecretChoice::File("/x".into())),
        ("id=a,type=file,source=/x", SecretChoice::File("/x".into())),
        ("id=a,env=TOKEN", SecretChoice::Variable("TOKEN".to_owned())),
        ("id=a,type=env", SecretChoice::Variable("a".to_owned())),
        ("type=env,id=a,src=TOKEN", SecretChoice::Variable("TOKEN".to_owned())),
    ];
    for (text, expected) in cases {
        assert_eq!(translated(&["--no-push", "--secret", text]).secrets["a"], expected, "{text}");
    }
    for text in ["src=/x", "id=", "id=a,src=/x,env=Y", "id=a,type=url", "id=a,x", "a"] {
        assert!(refused(&["--no-push", "--secret", text]).contains("id=NAME,src=FILE"), "{text}");
    }
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let cases: [(&[&str], &str); 12] = [
        (&[], "no --destination says where to; hint: add --destination NAME, or --no-push"),
        (&["-d", "UPPER"], "cannot read image name"),
        (&["--no-push", "--image-name-with-digest-file=/x"], "no --destination gives it one"),
        (&["--no-push", "-f", "https://x.test/Dockerfile"], "download it first"),
        (
            &["--no-push", "--digest-file", "https://x.test/d"],
            "curl --upload-file FILE https://x.test/d",
        ),
        (
            &["--no-push", "--tar-path=/x", "--image-format=oci"],
            "--oci-layout-path writes an OCI image",
        ),
        (&["--no-push", "--tar-path=/x", "--compression=zstd"], "cannot compress with zstd"),
        (&["--no-push", "--compression=lz4"], "expected gzip or zstd"),
        (&["--no-push", "--image-format=x"], "expected docker or oci"),
        (&["--no-push", "--verbosity=loud"], "there is no such level"),
        (&["--no-push", "--push-retry=x"], "expected a whole number"),
        (
            &["--no-push", "-c", "git://x.test/a", "--git=brnch=x"],
            "git contexts have no such option",
        ),
    ];
    for (words, expected) in cases {
        let error = refused(words);
        assert!(error.contains(expected), "{words:?}: {error}");
    }
    let error = translated_in(&[], &[("KANIKO_NO_PUSH", "perhaps")]).unwrap_err();
    assert!(error.to_string().contains("KANIKO_NO_PUSH"), "{error}");
    assert!(!translated_in(&[], &[("KANIKO_NO_PUSH", "1")]).unwrap().push);
}

#[test]
fn compression_and_logs_have_their_levels() {
    let encoding = |words: &[&str]| {
        let words: Vec<_> = words.iter().copied().chain(["--no-push"]).collect();
        translated(&words).encoding
    };
    assert_eq!(encoding(&[]), None);
    assert_eq!(encoding(&["--compression=zstd"]), Some("zstd".parse().unwrap()));
    assert_eq!(encoding(&["--compression-level=3"]), Some("gzip:3".parse().unwrap()));
    assert_eq!(
        encoding(&["--compression=zstd", "--compression-level", "7"]),
        Some("zstd:7".parse().unwrap())
    );
    let log = |words: &[&str]| {
        let words: Vec<_> = words.iter().copied().chain(["--no-push"]).collect();
        translated(&words).log
    };
    assert_eq!(log(&["-v", "error"]), Log { quiet: true, json: false });
    assert_eq!(log(&["--log-format=json"]), Log { quiet: false, json: true });
}
