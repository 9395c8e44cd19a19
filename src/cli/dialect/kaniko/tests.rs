//! What kaniko's flags come out as.

use std::path::Path;

use super::context::ContextChoice;
use super::*;
use crate::cli::dialect::tests::{Typed, session, typed};
use crate::dockerfile::convert::{SecretSource, StepKind};
use crate::registry::{MirrorRule, Mirrors, Secret};

fn read_in(words: &[&str], variables: &[(&str, &str)]) -> Result<KanikoBuild> {
    let Typed::Kaniko(args) = typed("kaniko", words).unwrap() else { unreachable!("asked for") };
    super::read(&session(Environment::with(variables)), &args)
}

pub(super) fn read(words: &[&str]) -> KanikoBuild {
    read_in(words, &[]).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn refused(words: &[&str]) -> String {
    read_in(words, &[]).unwrap_err().to_string()
}

impl KanikoBuild {
    fn source(&self) -> &DockerfileSource {
        match &self.request.source {
            Source::Dockerfile(source) => source,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pipeline_of_today_is_understood() {
    let build = read(&[
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
        "id=npm,src=/proc/self/maps",
        "--digest-file=/dev/termination-log",
        "--custom-platform=linux/arm64",
    ]);
    let (request, source) = (&build.request, build.source());
    assert_eq!(source.recipe.context, ContextSource::Folder("/builds/app".into()));
    assert_eq!(source.recipe.file, FileSource::Path("/builds/app/deploy/Dockerfile".into()));
    assert_eq!(source.packaging.tags, ["registry.test/a/b:1", "registry.test/a/b:latest"]);
    assert!(request.outputs.push && !request.caches.off && build.purpose == Purpose::Build);
    assert_eq!(source.recipe.epoch, None);
    assert_eq!(source.recipe.arguments["VERSION"], "1.2=3");
    assert_eq!(source.recipe.arguments["COMMIT"], "");
    assert_eq!(source.recipe.target.as_deref(), Some("final"));
    assert_eq!(source.packaging.labels["org.example.a"], "b c");
    assert_eq!(source.recipe.secrets["npm"], SecretSource::File("/proc/self/maps".into()));
    let digest = request.outputs.kaniko.digest.as_deref();
    assert_eq!(digest, Some(Path::new("/dev/termination-log")));
    assert_eq!(source.packaging.platforms, Some("linux/arm64".parse().unwrap()));
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
        ("secret", "id=/proc/self/maps"),
        ("insecure-registry", "r.test"),
        ("skip-tls-verify-registry", "r.test"),
        ("registry-certificate", "r.test=/c"),
        ("registry-client-cert", "r.test=/c,/k"),
        ("registry-map", "a.test=b.test;c.test=d.test/x"),
        ("registry-mirror", "m.test"),
        ("credential-helpers", "env"),
    ];
    for switch in switches {
        for value in ["", "=true", "=false", "=1", "=F"] {
            read(&["-d", "r.test/a", &format!("--{switch}{value}")]);
        }
    }
    for (flag, value) in values {
        read(&["-c", ".", "-d", "r.test/a", &format!("--{flag}"), value]);
        read(&["-c", ".", "-d", "r.test/a", &format!("--{flag}={value}")]);
    }
    // Of the two others one is refused, and one excludes --context.
    assert_eq!(switches.len() + values.len(), 66);
    read(&["-d", "r.test/a", "--materialize=false", "--bucket=tar://b"]);
    read(&["-v", "warn", "-f", "x", "-c", "y", "-d", "r.test/a", "-d=r.test/b"]);
    read(&["-b", "tar://z", "-d", "r.test/a"]);
    let again =
        read(&["-d", "r.test/a", "--cache=false", "--cache", "--dockerfile=a", "--dockerfile=b"]);
    assert!(!again.request.caches.off);
    assert_eq!(again.source().recipe.file, FileSource::Path("/workspace/b".into()));
    assert!(typed("kaniko", &["--no-such-flag"]).is_err());
    assert!(typed("kaniko", &["--cache=perhaps"]).is_err());
}

#[test]
fn flags_of_kanikos_own_design_get_one_note_each() {
    let build = read(&[
        "--no-push",
        "--snapshot-mode=redo",
        "--use-new-run",
        "--compressed-caching=false",
        "--cleanup",
        "--pre-cleanup",
        "--force",
        "--force",
        "--cache-dir=/c",
    ]);
    let flags: BTreeSet<_> =
        build.notes.iter().map(|note| note.split(' ').next().unwrap()).collect();
    let expected = BTreeSet::from([
        "--snapshot-mode",
        "--use-new-run",
        "--compressed-caching",
        "--cleanup",
        "--pre-cleanup",
        "--force",
        "--cache-dir",
    ]);
    assert_eq!(flags, expected);
}

fn chosen(words: &[&str], variables: &[(&str, &str)]) -> ContextChoice {
    let Typed::Kaniko(build) = typed("kaniko", words).unwrap() else { unreachable!("asked for") };
    context::choose(&build.args, &Environment::with(variables).variables).unwrap()
}

/// A context as the test below writes it.
fn shown(choice: ContextChoice) -> String {
    match choice {
        ContextChoice::Folder(path) => path.display().to_string(),
        ContextChoice::Archive(path, below) => format!("archive {} {below:?}", path.display()),
        ContextChoice::Stdin(below) => format!("stdin {below:?}"),
        ContextChoice::Git(git) => git.address,
        ContextChoice::Address(address) => address,
    }
}

#[test]
fn contexts_are_folders_archives_and_repositories() {
    const COMMIT: &str = "0123456789012345678901234567890123456789";
    let exact = format!("git://h.test/a#{COMMIT}");
    let as_it_is = format!("https://h.test/a.git?keep-git-dir=1&submodules=0#{COMMIT}");
    let cases: [(&[&str], &str); 15] = [
        (&[], "/workspace/"),
        (&["-c", "."], "."),
        (&["-c", "dir://x", "--context-sub-path", "a/b"], "x/a/b"),
        (&["-c", "tar:///x.tar.gz"], "archive /x.tar.gz None"),
        (&["-c", "tar://stdin", "--context-sub-path=a"], "stdin Some(\"a\")"),
        (&["-c", "https://h.test/x.tar.gz"], "https://h.test/x.tar.gz"),
        (&["-b", "https://h.test/x.tar.gz"], "https://h.test/x.tar.gz"),
        (
            &["-c", "https://a.blob.core.windows.net/c/x?sig=1"],
            "https://a.blob.core.windows.net/c/x?sig=1",
        ),
        (
            &["-c", "git://github.com/a/b.git"],
            "https://github.com/a/b.git?keep-git-dir=1&submodules=0",
        ),
        (
            &["-c", "git://host.test/a/b#refs/heads/main", "--git=recurse-submodules=true"],
            "https://host.test/a/b.git?keep-git-dir=1&submodules=1#refs/heads/main",
        ),
        (
            &["-c", "git://host.test/a.git#main#0123abc", "--context-sub-path", "x"],
            "https://host.test/a.git?keep-git-dir=1&submodules=0#0123abc:x",
        ),
        (
            &[
                "-c",
                "git://host.test/a.git#main",
                "--git=branch=dev",
                "--git",
                "single-branch=true",
            ],
            "https://host.test/a.git?keep-git-dir=1&submodules=0#dev",
        ),
        (
            &["-c", "git://h.test/a.git", "--git=recurse-submodules=false,branch=a,b,depth=1"],
            "https://h.test/a.git?keep-git-dir=1&submodules=0#a,b",
        ),
        (&["-c", &exact, "--git=branch=dev"], &as_it_is),
        (
            &["-c", "git://host.test/a.git", "--context-sub-path", "x"],
            "https://host.test/a.git?keep-git-dir=1&submodules=0#:x",
        ),
    ];
    for (words, expected) in cases {
        let words: Vec<_> = words.iter().copied().chain(["--no-push"]).collect();
        assert_eq!(shown(chosen(&words, &[])), expected, "{words:?}");
    }
    let plain = chosen(&["-c", "git://host.test/a.git"], &[("GIT_PULL_METHOD", "http")]);
    assert!(shown(plain).starts_with("http://host.test/a.git?"));
}

#[test]
fn a_repository_is_fetched_as_its_options_and_variables_say() {
    let git = |words: &[&str], variables: &[(&str, &str)]| {
        let words = [&["-c", "git://h.test/a", "--no-push"], words].concat();
        match chosen(&words, variables) {
            ContextChoice::Git(git) => git,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(git(&[], &[]).depth, None);
    assert_eq!(git(&["--git=recurse-submodules=false,depth=1"], &[]).depth, Some(1));
    assert_eq!(git(&["--git=depth=7", "--git", "depth=0"], &[]).depth, None);
    assert!(git(&["--git=insecure-skip-tls=true"], &[]).unverified);
    let user = ("GIT_USERNAME", "me");
    let password = ("GIT_PASSWORD", "hunter2");
    let login = |user: &str, password: &str| Some((user.to_owned(), Secret::new(password)));
    assert_eq!(git(&[], &[]).login, None);
    assert_eq!(git(&[], &[user, password]).login, login("me", "hunter2"));
    let token = git(&[], &[user, password, ("GIT_TOKEN", "hunter3")]);
    assert_eq!(token.login, login("hunter3", ""));
    for (option, why) in [
        ("depth=x", "expected a whole number"),
        ("recurse-submodules=perhaps", "recurse-submodules=perhaps"),
        ("brnch=x", "git contexts have no such option"),
        ("depth", "expected a whole number"),
    ] {
        for context in ["git://x.test/a", ".", "tar://a.tar", "https://x.test/a.tar"] {
            let error = refused(&["--no-push", "-c", context, "--git", option]);
            assert!(error.contains(why), "{context}: {error}");
        }
    }
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
            "az storage blob download --blob-url https://a.blob.core.windows.net/c/x.tar.gz",
        ),
        ("az://c/x.tar.gz", "expected a folder, dir://, tar://, tar://stdin, git:// or https://"),
        ("ftp://x", "expected a folder, dir://, tar://, tar://stdin, git:// or https://"),
        ("http://x.test/a.tar.gz", "curl -fsSL http://x.test/a.tar.gz | gondola kaniko"),
    ];
    for (context, hint) in cases {
        let error = refused(&["--no-push", "-c", context]);
        assert!(error.contains(hint), "{error}");
    }
    let error = refused(&["--no-push", "--bucket", "b/x.tar.gz"]);
    assert!(error.contains("gsutil cat gs://b/x.tar.gz"), "{error}");
    let error = refused(&["--no-push", "-b", "b", "-c", "."]);
    assert!(error.contains("cannot use --bucket with --context"), "{error}");
    let address = "https://h.test/a.tar.gz";
    let error = refused(&["--no-push", "-c", address, "--context-sub-path=x"]);
    assert!(error.contains("curl -fsSL https://h.test/a.tar.gz |"), "{error}");
}

#[test]
fn registries_become_hosts_mirrors_certificates_and_attempts() {
    let build = read_in(
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
    let rule = |prefix: &str, location: &str, mirrors: &[&str]| MirrorRule {
        prefix: prefix.to_owned(),
        location: location.to_owned(),
        mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
    };
    let expected = [
        rule("docker.io", "docker.io", &["hub.test", "mirror.test", "variable.test"]),
        rule("quay.io", "quay.io", &["q.test/x"]),
    ];
    assert_eq!(registries.mirrors, Mirrors::listed(expected).unwrap());
    let alone = read(&[
        "--no-push",
        "--registry-mirror=a.test",
        "--registry-mirror=b.test",
        "--skip-default-registry-fallback",
    ]);
    let expected = [rule("docker.io", "b.test", &["a.test"])];
    assert_eq!(alone.registries.mirrors, Mirrors::listed(expected).unwrap());
    assert!(read(&["--no-push", "-d", "push.test/a", "--insecure"]).registries.insecure.is_empty());
}

#[test]
fn the_cache_is_below_the_first_destination_unless_it_is_named() {
    let cache = |words: &[&str]| read(words).source().cache.clone();
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
        let build = read(&words);
        assert_eq!((&build.source().cache, build.notes.len()), (&None, 2), "{words:?}");
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
    let insecure = read(&words).registries.insecure;
    assert_eq!(Vec::from_iter(insecure), ["c.test", "r.test"]);
    let refused = |more: &str| refused(&["--no-push", "--cache", "--cache-repo=r.test/x", more]);
    assert!(refused("--cache-ttl=2 weeks").contains("such as 90s, 1h30m or 7d"));
    assert!(refused("--cache-repo=oci:/cache").contains("--store FOLDER"));
    assert!(refused("--cache-repo=R.test/X").contains("cannot read image name"));
}

#[test]
fn secrets_are_files_or_variables() {
    let secret = |text: &str| {
        let build = read_in(&["--no-push", "--secret", text], &[("TOKEN", "t")]).unwrap();
        build.source().recipe.secrets.values().next().cloned()
    };
    assert_eq!(secret("id=TOKEN"), Some(SecretSource::Value("t".to_owned())));
    let file = "/proc/self/maps";
    assert_eq!(secret(&format!("id={file}")), Some(SecretSource::File(file.into())));
    assert!(refused(&["--no-push", "--secret", "id=a"]).contains("src=/work/a: No such file"));
    assert!(refused(&["--no-push", "--secret", "src=/x"]).contains("id=NAME,src=FILE"));
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let cases: [(&[&str], &str); 18] = [
        (&["--no-push", "--snapshot-mode=fast"], "expected full, redo or time"),
        (&["--no-push", "--ignore-path=.."], "write a path of the image"),
        (&["--no-push", "--materialize"], "write --oci-layout-path DIR"),
        (&["--no-push", "--credential-helpers=x"], "expected env, google, ecr, acr or gitlab"),
        (&["--no-push", "--credential-helpers=ecr"], "no program docker-credential-ecr-login"),
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
        (&["--no-push", "--image-fs-extract-retry=x"], "expected a whole number"),
        (
            &["--no-push", "-c", "git://x.test/a", "--git=brnch=x"],
            "git contexts have no such option",
        ),
    ];
    for (words, expected) in cases {
        let error = refused(words);
        assert!(error.contains(expected), "{words:?}: {error}");
    }
    let error = read_in(&[], &[("KANIKO_NO_PUSH", "perhaps")]).unwrap_err();
    assert!(error.to_string().contains("KANIKO_NO_PUSH"), "{error}");
    assert!(!read_in(&[], &[("KANIKO_NO_PUSH", "1")]).unwrap().request.outputs.push);
}

#[test]
fn compression_and_logs_have_their_levels() {
    let encoding = |words: &[&str]| {
        let words: Vec<_> = words.iter().copied().chain(["--no-push"]).collect();
        read(&words).source().packaging.encoding
    };
    assert_eq!(encoding(&[]), Encoding::default());
    assert_eq!(encoding(&["--compression=zstd"]), "zstd".parse().unwrap());
    assert_eq!(encoding(&["--compression-level=3"]), "gzip:3".parse().unwrap());
    assert_eq!(
        encoding(&["--compression=zstd", "--compression-level", "7"]),
        "zstd:7".parse().unwrap()
    );
    let log = |words: &[&str]| {
        let Typed::Kaniko(build) = typed("kaniko", words).unwrap() else { unreachable!() };
        super::log(&build.args).unwrap()
    };
    assert_eq!(log(&["-v", "error"]), Log { quiet: true, ..Log::default() });
    assert_eq!(log(&["--log-format=json"]), Log { json: true, ..Log::default() });
    assert_eq!(log(&["--log-format=text"]), Log { plain: true, ..Log::default() });
    assert_eq!(log(&["--verbosity=debug"]), Log { explains: true, ..Log::default() });
    assert!(read(&["--no-push", "-v", "trace"]).request.caches.explain);
    assert!(!read(&["--no-push", "-v", "info"]).request.caches.explain);
    assert_eq!(log(&["--log-timestamp"]), Log { dated: true, ..Log::default() });
}

#[test]
fn nothing_of_earlier_builds_counts_without_the_cache_and_bases_are_looked_up_each_time() {
    let caches = |words: &[&str]| read(&[&["-d", "r.test/a"], words].concat()).request.caches;
    for (words, off) in [
        (&[][..], true),
        (&["--cache=false"], true),
        (&["--cache"], false),
        (&["--cache=true", "--cache-ttl=2h"], false),
    ] {
        let caches = caches(words);
        assert_eq!((caches.off, caches.pull), (off, true), "{words:?}");
    }
    let hours = |words: &[&str]| caches(words).longest_age.unwrap().as_secs() / 3600;
    assert_eq!((hours(&["--cache"]), hours(&["--cache", "--cache-ttl=2h"])), (336, 2));
}

#[test]
fn what_is_left_out_of_layers_is_said_by_three_flags() {
    let layers =
        |words: &[&str]| read(&[&["--no-push"], words].concat()).source().recipe.layers.clone();
    let without =
        |words: &[&str]| layers(words).without.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(without(&[]), ["var/run"]);
    assert_eq!(without(&["--whitelist-var-run"]), ["var/run"]);
    assert_eq!(without(&["--ignore-var-run=false"]), [""; 0]);
    assert_eq!(without(&["--whitelist-var-run=false"]), [""; 0]);
    assert_eq!(without(&["--ignore-path=/x/", "--ignore-path", "y"]), ["var/run", "x", "y"]);
    assert!(layers(&["--single-snapshot"]).single && !layers(&[]).single);
}

#[test]
fn several_targets_are_built_and_the_first_makes_the_image() {
    for words in [&["--target=prod,test"][..], &["--target", "prod", "--target=test"]] {
        let build = read(&[&["--no-push"], words].concat());
        let recipe = &build.source().recipe;
        assert_eq!(
            (recipe.target.as_deref(), &recipe.also[..]),
            (Some("prod"), &["test".to_owned()][..])
        );
        assert_eq!(build.notes, [""; 0]);
    }
}

#[test]
fn credentials_are_looked_for_where_kaniko_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".docker/config.json");
    fs_err::create_dir_all(file.parent().unwrap()).unwrap();
    fs_err::write(&file, "{}").unwrap();
    let at = folder.path().to_str().unwrap();
    let places = |words: &[&str], variables: &[(&str, &str)]| {
        read_in(&[&["--no-push"], words].concat(), variables).unwrap().credentials
    };
    let found = Some(folder.path().join(".docker"));
    assert_eq!(places(&["--kaniko-dir", at], &[]).docker_folder, found);
    assert_eq!(places(&[], &[("KANIKO_DIR", at)]).docker_folder, found);
    let both = [("KANIKO_DIR", at), ("DOCKER_CONFIG", "/other")];
    assert_eq!(places(&[], &both).docker_folder, None);
    assert_eq!(places(&["--kaniko-dir=/nowhere"], &[]).docker_folder, None);
    let helpers = |words: &[&str]| format!("{:?}", places(words, &[]).helpers);
    assert_eq!(helpers(&[]), "{Env, Gitlab}");
    assert_eq!(helpers(&["--credential-helpers="]), "{}");
    assert_eq!(helpers(&["--credential-helpers=env"]), "{Env}");
    fs_err::write(folder.path().join("docker-credential-ecr-login"), "").unwrap();
    let ecr = places(&["--credential-helpers=ecr"], &[("PATH", at)]).helpers;
    assert_eq!(format!("{ecr:?}"), "{Ecr}");
}

#[test]
fn a_dry_run_writes_nothing_and_says_so() {
    let words = ["--no-push", "-d=r.test/a", "--dryrun", "--tar-path=/t", "--digest-file=/d"];
    let build = read(&words);
    assert_eq!(build.purpose, Purpose::Plan);
    let note = "--dryrun: nothing is built, so --tar-path, --digest-file writes no file";
    assert_eq!(build.notes, [note]);
}

#[test]
fn a_push_has_one_image_and_the_flags_about_registries() {
    let push = |words: &[&str]| {
        let Typed::Kaniko(args) = typed("kaniko", words).unwrap() else { unreachable!() };
        push::read(&session(Environment::with(&[])), &args).map_err(|error| error.to_string())
    };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let read = push(&["push", at, "-d", "r.test/a", "-d=r.test/b:1", "--insecure"]).unwrap();
    assert_eq!(read.image, Location::Layout { folder: folder.path().to_owned(), tag: None });
    assert_eq!((read.destinations.len(), read.registries.insecure.len()), (2, 1));
    let cases: [(&[&str], &str); 6] = [
        (&["push", at], "no --destination says where to"),
        (&["push", "-d", "r.test/a"], "gondola kaniko push PATH --destination NAME"),
        (&["push", at, at, "-d", "r.test/a"], "expected the path of one image"),
        (&["push", "/nowhere", "-d", "r.test/a"], "there is no such file or folder"),
        (&["push", at, "-d", "r.test/a", "-f", "x"], "cannot use --dockerfile with push"),
        (&[".", "-d", "r.test/a"], "write --context ."),
    ];
    for (words, expected) in cases {
        let error = push(words).unwrap_err();
        assert!(error.contains(expected), "{words:?}: {error}");
    }
}
