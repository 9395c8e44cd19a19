//! What each flag of each table really does.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{ArgAction, Command as ClapCommand, CommandFactory as _, FromArgMatches as _};

use super::*;
use crate::cli::commands::{Cli, Command};
use crate::cli::environment::Environment;
use crate::cli::flags::rows::FLAGS;
use crate::cli::flags::switch;
use crate::cli::flags::table::{Effect, Flag, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::output::ProgressMode;
use crate::cli::session::Session;
use crate::error::ErrorKind;

/// What was typed, of the commands with a table.
pub(super) enum Typed {
    Build(Box<Noted<gondola::BuildArgs>>),
    Run(Box<Noted<run::RunArgs>>),
    Kaniko(Box<Noted<kaniko::KanikoArgs>>),
}

/// Reads a command line as the program does.
pub(super) fn typed(verb: &str, words: &[&str]) -> Result<Typed, clap::Error> {
    let words = ["gondola", verb].into_iter().chain(words.iter().copied());
    let matches = switch::with_values(Cli::command()).try_get_matches_from(words)?;
    match Cli::from_arg_matches(&matches)?.command {
        Command::Build(args) => Ok(Typed::Build(args)),
        Command::Run(args) => Ok(Typed::Run(args)),
        Command::Kaniko(args) => Ok(Typed::Kaniko(args)),
        other => panic!("{other:?} has no table here"),
    }
}

/// A session with nothing but an environment.
pub(super) fn session(environment: Environment) -> Session {
    let matches = Cli::command().get_matches_from(["gondola", "version"]);
    let global = Cli::from_arg_matches(&matches).unwrap().global;
    Session::new("build".to_owned(), global, environment, None)
}

/// A folder with a package, a program and a Dockerfile.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    };
    write("package/go.mod", "module example.com/package\n");
    write("package/main.go", "package main\n\nfunc main() {}\n");
    write("program", "a program\n");
    write("context/Dockerfile", "FROM scratch\n");
    write("other.yaml", "image: {env: {OTHER: file}}\n");
    write("variables", "OF_A_FILE=1\n");
    write("kaniko/.docker/config.json", "{}");
    folder
}

/// What is typed so that a front end is meant, and the flag of it that says so.
fn beginning(front_end: FrontEnd) -> (&'static [&'static str], &'static str) {
    match front_end {
        FrontEnd::Prebuilt => (&["--prebuilt", "program"], "prebuilt"),
        FrontEnd::Dockerfile => (&["--file", "context/Dockerfile", "context"], "file"),
        _ => (&["--go", "host", "package"], "go"),
    }
}

/// A value that a flag can have.
fn value(name: &str) -> &'static str {
    match name {
        "platform" | "custom-platform" => "linux/s390x",
        "output" => "oci:out",
        "mod" => "vendor",
        "sandbox" | "sandbox-min" => "in-container",
        "compression" => "gzip:3",
        "add" => "package:/srv",
        "port" => "81",
        "volume" => "/data",
        "file" => "context/Dockerfile",
        "config" => "other.yaml",
        "prebuilt" => "program",
        "go" => "golang:1.27",
        "packages" | "bin" => "./package",
        "ssh" => "default=agent",
        "secret" => "id=a,src=program",
        "stop-signal" => "SIGINT",
        "network" => "none",
        "add-host" => "a:10.0.0.1",
        "ulimit" => "nofile=7",
        "shm-size" => "7m",
        "provenance" | "sbom" => "false",
        "build-arg" | "go-env" | "env" | "label" | "annotation" | "build-context" => "A=b",
        "cache-repo" | "cache-scope" | "tag" => "example.test/a",
        _ => "x",
    }
}

/// The words of a flag.
fn words(command: &ClapCommand, flag: &Flag) -> Vec<String> {
    let argument = argument(command, flag.name);
    match argument.get_action() {
        _ if argument.is_positional() => vec![value(flag.name).to_owned()],
        ArgAction::SetTrue => vec![format!("--{}", flag.name)],
        _ => vec![format!("--{}={}", flag.name, value(flag.name))],
    }
}

fn argument<'a>(command: &'a ClapCommand, name: &str) -> &'a clap::Arg {
    let found = command
        .get_arguments()
        .find(|argument| argument.get_id().as_str().replace('_', "-") == name);
    found.unwrap_or_else(|| panic!("{name} is no argument"))
}

/// The names of a command's own arguments.
fn arguments_of(verb: &str) -> Vec<String> {
    let program = Cli::command();
    let command = program.find_subcommand(verb).unwrap();
    let is_help = |argument: &&clap::Arg| matches!(argument.get_action(), ArgAction::Help);
    let own = command.get_arguments().filter(|argument| {
        if is_help(argument) {
            return false;
        }
        let name = argument.get_id().as_str().replace('_', "-");
        let long = argument.get_long().map(str::to_owned);
        assert!(long.is_none_or(|long| long == name), "{name} is another word on the command line");
        true
    });
    own.map(|argument| argument.get_id().as_str().replace('_', "-")).collect()
}

/// What can be run.
const RUNS: [FrontEnd; 3] = [FrontEnd::RunImage, FrontEnd::RunPackage, FrontEnd::RunFolder];

#[test]
fn the_table_is_in_order_and_names_nothing_twice() {
    let names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn every_argument_has_one_row() {
    let columns = [
        ("build", &FLAGS[..], gondola::FRONT_ENDS),
        ("run", &FLAGS[..], RUNS),
        ("kaniko", &kaniko::FLAGS[..], [FrontEnd::Dockerfile; 3]),
    ];
    for (verb, flags, columns) in columns {
        // A command has a flag whatever is built or run with it.
        let is_here = |flag: &&Flag| {
            let found = columns.map(|column| flag.effect(column).is_some());
            assert!(found.iter().all(|is_here| *is_here == found[0]), "{verb} {}", flag.name);
            found[0]
        };
        let rows: Vec<&str> = flags.iter().filter(is_here).map(|flag| flag.name).collect();
        let arguments = arguments_of(verb);
        let unique: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(unique.len(), rows.len(), "{verb}: a flag has two rows");
        let expected: BTreeSet<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(unique, expected, "{verb}");
    }
}

/// What a command line comes to: a request and notes, as text.
type Outcome = Result<(String, Vec<String>), (ErrorKind, String)>;

/// What a command line of `gondola build` comes to.
fn outcome(folder: &Path, words: &[String]) -> Outcome {
    outcome_in(&session_in(folder), &mut switch::with_values(Cli::command()), words)
}

/// A session in a folder, with nothing else.
fn session_in(folder: &Path) -> Session {
    session(Environment { folder: folder.to_owned(), ..Environment::with(&[]) })
}

/// The same with a session and a parser that are there: to make them takes longer than all else.
fn outcome_in(session: &Session, program: &mut ClapCommand, words: &[String]) -> Outcome {
    let words = ["gondola", "build"].into_iter().chain(words.iter().map(String::as_str));
    let wrong = |error: clap::Error| (ErrorKind::Usage, error.to_string());
    let matches = program.try_get_matches_from_mut(words).map_err(wrong)?;
    let Command::Build(build) = Cli::from_arg_matches(&matches).map_err(wrong)?.command else {
        unreachable!()
    };
    let asked =
        gondola::read(session, &build).map_err(|error| (error.kind(), error.to_string()))?;
    // What is done with the request, and where the page about it goes.
    let result = &build.args.result;
    let done = (build.args.dockerfile.check, result.dry_run, result.json, &result.timings);
    Ok((format!("{:?} {done:?}", asked.request), asked.notes))
}

#[test]
fn every_flag_does_for_every_front_end_what_its_row_says() {
    let project = project();
    let agent = std::os::unix::net::UnixListener::bind(project.path().join("agent"));
    let _agent = agent.unwrap();
    let program = Cli::command();
    let command = program.find_subcommand("build").unwrap();
    for front_end in gondola::FRONT_ENDS {
        let (beginning, decider) = beginning(front_end);
        for flag in &FLAGS {
            let Some(effect) = flag.effect(front_end) else { continue };
            let mut without: Vec<String> = beginning.iter().map(|&word| word.to_owned()).collect();
            if flag.name == decider {
                without.drain(..2);
            }
            // One positional argument is enough for a context, and one package for --bin.
            if matches!((flag.name, front_end), ("packages", FrontEnd::Dockerfile))
                || flag.name == "bin" && front_end == FrontEnd::Packages
            {
                without.pop();
            }
            // Of programs that are built, a base that is looked up is all that there is to explain.
            if flag.name == "explain" && front_end == FrontEnd::Prebuilt {
                without.push("--base=example.test/base".to_owned());
            }
            let mut with = without.clone();
            with.extend(words(command, flag));
            if let Effect::Needs(switch, why, instead) = effect {
                let (_, said) = outcome(project.path(), &with).unwrap_err();
                let name = flag.name;
                let expected = format!("use --{name} without --{switch}: {why}; hint: {instead}");
                assert_eq!(said, format!("cannot {expected}"));
                without.push(format!("--{switch}"));
                with.push(format!("--{switch}"));
            }
            let case = format!("{front_end:?} {with:?}");
            let plain = outcome(project.path(), &without);
            let found = outcome(project.path(), &with);
            let name = format!("--{}", flag.name);
            match (effect, found) {
                (
                    Effect::Applies | Effect::AppliesWithout(..) | Effect::Needs(..),
                    Ok((request, notes)),
                ) => {
                    if let Effect::AppliesWithout(switches, why, instead) = effect {
                        for switch in switches {
                            let both = [&with[..], &[format!("--{switch}")]].concat();
                            // A switch may be one of a Dockerfile's.
                            let Err((_, said)) = outcome(project.path(), &both) else {
                                panic!("{both:?}")
                            };
                            let expected = format!(
                                "cannot use {name} with --{switch}: {why}; hint: {instead}"
                            );
                            assert!(
                                said == expected || said.contains("Dockerfile is built"),
                                "{said}"
                            );
                        }
                    }
                    match plain {
                        Ok(plain) => assert_ne!(plain.0, request, "{case}"),
                        // Without it nothing names a program.
                        Err(_) => assert!(matches!(flag.name, "bin" | "prebuilt"), "{case}"),
                    }
                    assert_eq!(notes, [""; 0], "{case}");
                }
                (Effect::Fulfilled, found @ Ok(_)) => assert_eq!(found, plain, "{case}"),
                (Effect::Ignored(why), Ok((request, notes))) => {
                    assert_eq!(plain.unwrap().0, request, "{case}");
                    assert_eq!(notes, [format!("{name} is accepted and has no effect: {why}")]);
                }
                (Effect::Refused(..), Err((ErrorKind::Usage, said))) => {
                    let is_whole = said.contains("; hint: ") && said.contains(&name);
                    // The parser itself knows which positional arguments exclude a flag.
                    assert!(is_whole || said.contains("cannot be used with"), "{case}: {said}");
                }
                (effect, found) => panic!("{case}: {effect:?}, but {found:?}"),
            }
        }
    }
}

#[test]
fn no_flag_is_lost_beside_another() {
    let project = project();
    let agent = std::os::unix::net::UnixListener::bind(project.path().join("agent"));
    let _agent = agent.unwrap();
    let program = Cli::command();
    let command = program.find_subcommand("build").unwrap();
    let (session, mut parser) = (session_in(project.path()), switch::with_values(Cli::command()));
    let mut lost = Vec::new();
    for front_end in gondola::FRONT_ENDS {
        let (beginning, decider) = beginning(front_end);
        let begin: Vec<String> = beginning.iter().map(|&word| word.to_owned()).collect();
        let mut of = |more: &[&Vec<String>]| {
            let more = more.iter().flat_map(|words| words.iter().cloned());
            let words: Vec<String> = begin.iter().cloned().chain(more).collect();
            outcome_in(&session, &mut parser, &words)
        };
        let Ok(plain) = of(&[]) else { panic!("{begin:?}") };
        let alone = FLAGS.iter().filter(|flag| flag.name != decider).filter_map(|flag| {
            flag.effect(front_end)?;
            let words = words(command, flag);
            let found = of(&[&words]).ok()?;
            (found.0 != plain.0).then_some((flag.name, words, found))
        });
        let alone: Vec<_> = alone.collect();
        for (one, its, found) in &alone {
            for (other, others, _) in alone.iter().filter(|(other, ..)| other != one) {
                let Ok(both) = of(&[its, others]) else { continue };
                if both.0 == found.0 && both.1.is_empty() {
                    lost.push(format!("{front_end:?}: --{other} beside --{one}"));
                }
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// A value of a flag of `gondola run`, and what the request says then.
fn run_value(name: &str) -> (&'static str, &'static str) {
    match name {
        "words" => ("word", "arguments: [\"word\"]"),
        "detach" => ("", "detach: true"),
        "name" => ("x1", "name: Some(\"x1\")"),
        "rm" => ("", "remove: true"),
        "label" => ("A=b", "labels: {\"A\": \"b\"}"),
        "pull" => ("always", "pull: Always"),
        "platform" => ("linux/s390x", "architecture: \"s390x\""),
        "rootfs" => ("", "what: Folder("),
        "entrypoint" => ("x", "entrypoint: Some(\"x\")"),
        "interactive" => ("", "input: true"),
        "tty" => ("", "terminal: true"),
        "env" => ("A=b", "env: {\"A\": Some(\"b\")}"),
        "env-file" => ("variables", "env: {\"OF_A_FILE\": Some(\"1\")}"),
        "workdir" => ("/x", "workdir: Some(\"/x\")"),
        "user" => ("x", "user: Some(\"x\")"),
        "stop-signal" => ("USR1", "stop_signal: Some(StopSignal(10))"),
        "stop-timeout" => ("7", "stop_timeout: Some(Some(7s))"),
        "volume" => ("/v", "volumes: [Own { target: \"/v\" }]"),
        "mount" => ("type=tmpfs,target=/m", "volumes: [Tmpfs { target: \"/m\""),
        "tmpfs" => ("/t", "volumes: [Tmpfs { target: \"/t\""),
        "shm-size" => ("1m", "shared_memory_bytes: Some(1048576)"),
        "read-only" => ("", "read_only: true"),
        "network" => ("none", "network: Some(None)"),
        "publish" => ("81:80", "host: 0.0.0.0:81, container: 80"),
        "publish-all" => ("", "publish_all: true"),
        "hostname" => ("x", "hostname: Some(\"x\")"),
        "add-host" => ("a:10.0.0.1", "hosts: [(\"a\", 10.0.0.1)]"),
        "dns" => ("10.0.0.1", "name_servers: [10.0.0.1]"),
        "sandbox" => ("in-container", "preference: Only(InContainer)"),
        "sandbox-min" => ("in-container", "minimum: Some(InContainer)"),
        "timeout" => ("7", " timeout: Some(7s)"),
        "pids-limit" => ("7", "processes: Some(7)"),
        "ulimit" => ("nofile=7", "limits: [Limit {"),
        "init" => ("", ""),
        other => panic!("{other} has no value here"),
    }
}

/// The words of a flag that has this value.
fn with_value(name: &str, is_positional: bool, value: &str) -> String {
    match value {
        _ if is_positional => value.to_owned(),
        "" => format!("--{name}"),
        value => format!("--{name}={value}"),
    }
}

/// What a command line of `gondola run` comes to: a request, how it is isolated, and notes.
fn run_outcome(
    folder: &Path,
    words: &[&str],
) -> Result<(String, Vec<String>), crate::error::Error> {
    let Typed::Run(run) = typed("run", words).unwrap() else { unreachable!() };
    let environment = Environment { folder: folder.to_owned(), ..Environment::with(&[]) };
    let (request, notes) = run::read(&session(environment), &run)?;
    Ok((format!("{request:?} {:?}", run.args.isolation()?), notes))
}

#[test]
fn every_flag_of_run_does_for_what_is_run_what_its_row_says() {
    let project = project();
    let program = Cli::command();
    let command = program.find_subcommand("run").unwrap();
    let beginnings: [&[&str]; 3] = [&["image"], &["./package"], &["--rootfs", "context"]];
    for (front_end, words) in RUNS.into_iter().zip(beginnings) {
        for flag in &FLAGS {
            let Some(effect) = flag.effect(front_end) else { continue };
            let (value, says) = run_value(flag.name);
            let is_positional = argument(command, flag.name).is_positional();
            let added = with_value(flag.name, is_positional, value);
            // The flag that means a folder is there already.
            let without = if added == words[0] { &words[1..] } else { words };
            let with = if is_positional {
                [without, &[&added]].concat()
            } else {
                [&[added.as_str()], without].concat()
            };
            let case = format!("{front_end:?} {with:?}");
            let (plain, _) = run_outcome(project.path(), without).unwrap();
            match (effect, run_outcome(project.path(), &with)) {
                (Effect::Applies, Ok((request, notes))) => {
                    assert!(!plain.contains(says), "{case}: {says} in {plain}");
                    assert!(request.contains(says), "{case}: no {says} in {request}");
                    assert_eq!(notes, [""; 0], "{case}");
                }
                (Effect::Fulfilled, Ok((request, notes))) => {
                    assert_eq!((request, notes), (plain, Vec::new()), "{case}");
                }
                (Effect::Refused(why, instead), Err(error)) => {
                    let expected = format!("cannot use --{}: {why}; hint: {instead}", flag.name);
                    assert_eq!(error.to_string(), expected, "{case}");
                    assert_eq!(error.kind(), ErrorKind::Usage, "{case}");
                }
                (effect, found) => panic!("{case}: {effect:?}, but {found:?}"),
            }
        }
    }
}

#[test]
fn the_letter_h_is_the_host_name_of_run_and_help_of_the_others() {
    let project = project();
    let (request, _) = run_outcome(project.path(), &["-h", "db", "image"]).unwrap();
    assert!(request.contains("hostname: Some(\"db\")"), "{request}");
    for words in [&["run", "--help"][..], &["exec", "-h"], &["build", "-h"], &["-h"]] {
        let error = Cli::command().try_get_matches_from([&["gondola"], words].concat());
        assert_eq!(error.unwrap_err().kind(), clap::error::ErrorKind::DisplayHelp, "{words:?}");
    }
}

/// A value of a flag of kaniko's that applies, what it needs beside it, and what the build says then.
fn kaniko_value(name: &str) -> (&'static str, &'static [&'static str], &'static str) {
    const CACHE: &[&str] = &["--cache", "--cache-repo=r.test/c"];
    const PUSH: &[&str] = &["--no-push=false", "--destination=r.test/a:1"];
    match name {
        "cache" => ("", &["--cache-repo=r.test/c"], "cache: Some(CacheRepository"),
        "cache-copy-layers" => ("false", CACHE, "without: {Copy}"),
        "cache-run-layers" => ("false", CACHE, "without: {Run}"),
        "cache-repo" => ("r.test/c", &["--cache"], "\"r.test\""),
        "cache-ttl" => ("2h", CACHE, "longest_age: Some(7200s)"),
        "cache-scope" => ("x", &[], "scope: Some("),
        "dryrun" => ("", &[], "purpose: Plan"),
        "insecure" | "skip-tls-verify" => ("", PUSH, "insecure: {\"r.test\"}"),
        "insecure-pull" | "skip-tls-verify-pull" => ("", &[], "insecure_pull: true"),
        "no-push" => ("true", PUSH, "push: false"),
        "no-push-cache" => ("", CACHE, "push: false, longest_age"),
        "no-shared-caches" => ("", &[], "are_shared: false"),
        "push-ignore-immutable-tag-errors" => ("", &[], "immutable_tags: Keep"),
        "reproducible" => ("", &[], "epoch: Some(0)"),
        "skip-default-registry-fallback" => {
            ("", &["--registry-map=a.test=b.test"], "prefix: \"a.test\", location: \"b.test\"")
        }
        "bucket" => ("tar://a.tar", &["--context="], "Archive {"),
        "compression" => ("zstd", &[], "Zstd"),
        "compression-level" => ("8", &[], "level: 8"),
        "context" => ("package", &[], "/package\")"),
        "context-sub-path" => ("below", &[], "context/below\")"),
        "custom-platform" => ("linux/s390x", &[], "\"s390x\""),
        "digest-file" => ("/d", &[], "digest: Some(\"/d\")"),
        "dockerfile" => ("other/Dockerfile", &[], "other/Dockerfile\")"),
        "image-download-retry" | "push-retry" => ("2", &[], "attempts: Some(3)"),
        "image-format" => ("docker", &[], "docker.distribution.manifest"),
        "image-name-with-digest-file" => ("/n", &["-d=r.test/a"], " names: Some(\"/n\")"),
        "image-name-tag-with-digest-file" => ("/n", &["-d=r.test/a"], "tagged_names: Some(\"/n\")"),
        "log-format" => ("json", &[], "shown as Json"),
        "verbosity" => ("error", &[], "shown as Quiet"),
        "oci-layout-path" => ("/o", &[], "Layout { folder: \"/o\""),
        "tar-path" => ("/t", &[], "DockerArchive { file: \"/t\""),
        "annotation" => ("A=b", &[], "annotations: {\"A\": \"b\"}"),
        "label" => ("A=b", &[], "labels: {\"A\": \"b\"}"),
        "build-arg" => ("A=b", &[], "\"A\": \"b\""),
        "destination" => ("r.test/a:1", &[], "tags: [\"r.test/a:1\"]"),
        "git" => ("branch=x", &["--context=git://r.test/a.git"], "\"x\""),
        "insecure-registry" | "skip-tls-verify-registry" => {
            ("i.test", &[], "insecure: {\"i.test\"}")
        }
        "registry-certificate" => ("r.test=/c", &[], "certificates: {\"r.test\": \"/c\"}"),
        "registry-client-cert" => ("r.test=/c,/k", &[], "certificate: \"/c\", key: \"/k\""),
        "registry-map" => ("a.test=b.test", &[], "\"b.test\""),
        "registry-mirror" => ("m.test", &[], "\"m.test\""),
        "ignore-var-run" | "whitelist-var-run" => ("false", &[], "without: []"),
        "ignore-path" => ("/left/out", &[], "left/out"),
        "single-snapshot" => ("", &[], "single: true"),
        "log-timestamp" => ("", &[], "shown as Dated"),
        "kaniko-dir" => ("kaniko", &[], "/kaniko/.docker\")"),
        "credential-helpers" => ("env", &[], "helpers: {Env}"),
        "secret" => ("id=a,src=program", &[], "secrets: {\"a\":"),
        "target" => ("x", &[], "target: Some(\"x\")"),
        other => panic!("{other} has no value here"),
    }
}

#[test]
fn help_says_of_kanikos_flags_which_have_no_effect_and_which_are_refused() {
    let program = Cli::command();
    let command = program.find_subcommand("kaniko").unwrap();
    for flag in &kaniko::FLAGS {
        let help = argument(command, flag.name).get_help().unwrap().to_string();
        let begins = |word: &str| help.starts_with(word);
        let effect = flag.effect(FrontEnd::Dockerfile);
        assert_eq!(begins("Has no effect: "), matches!(effect, Some(Effect::Ignored(_))), "{help}");
        assert_eq!(begins("Refused: "), matches!(effect, Some(Effect::Refused(..))), "{help}");
    }
}

#[test]
fn every_flag_of_kaniko_that_applies_comes_into_its_build() {
    let project = project();
    let read = |words: &[&str]| {
        let usual = ["--no-push", "--context=context"];
        let words: Vec<&str> = usual.into_iter().chain(words.iter().copied()).collect();
        let Typed::Kaniko(build) = typed("kaniko", &words).unwrap() else { unreachable!() };
        let environment =
            Environment { folder: project.path().to_owned(), ..Environment::with(&[]) };
        let read = kaniko::read(&session(environment), &build);
        let read = read.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let shown = kaniko::progress(&build.args, ProgressMode::Auto);
        (format!("{read:?} shown as {shown:?}"), read.notes)
    };
    let mut wrong = Vec::new();
    for flag in &kaniko::FLAGS {
        let effect = flag.effect(FrontEnd::Dockerfile);
        // Words are of commands that build nothing.
        if matches!(effect, Some(Effect::Ignored(_) | Effect::Refused(..))) || flag.name == "words"
        {
            continue;
        }
        let (value, others, says) = kaniko_value(flag.name);
        let typed = with_value(flag.name, false, value);
        let (without, _) = read(others);
        let (with, notes) = read(&[others, &[&typed]].concat());
        assert_eq!(notes, [""; 0], "{typed}");
        if without.contains(says) {
            wrong.push(format!("{typed}: {says} without it"));
        }
        if !with.contains(says) {
            wrong.push(format!("{typed}: no {says} in {with}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_flag_of_kaniko_does_what_its_row_says() {
    let project = project();
    let read = |words: &[&str]| {
        let words: Vec<&str> =
            ["--no-push", "--context=context"].into_iter().chain(words.iter().copied()).collect();
        let Typed::Kaniko(build) = typed("kaniko", &words).unwrap() else { unreachable!() };
        let environment =
            Environment { folder: project.path().to_owned(), ..Environment::with(&[]) };
        kaniko::read(&session(environment), &build).map(|read| read.notes)
    };
    let program = Cli::command();
    let command = program.find_subcommand("kaniko").unwrap();
    for flag in &kaniko::FLAGS {
        let is_switch =
            argument(command, flag.name).get_num_args().is_some_and(|n| n.min_values() == 0);
        let word = match flag.name {
            "snapshot-mode" => "--snapshot-mode=redo".to_owned(),
            "image-fs-extract-retry" => "--image-fs-extract-retry=2".to_owned(),
            name if is_switch => format!("--{name}"),
            name => format!("--{name}=2h"),
        };
        let note = |why: &str| format!("--{} is accepted and has no effect: {why}", flag.name);
        match flag.effect(FrontEnd::Dockerfile).unwrap() {
            Effect::Ignored(why) => assert_eq!(read(&[&word]).unwrap(), [note(why)]),
            Effect::AppliesWith(switch, why) => {
                assert_eq!(read(&[&word]).unwrap(), [note(why)]);
                let with = read(&[&word, &format!("--{switch}")]).unwrap();
                assert_eq!(with, [""; 0], "{word}");
            }
            Effect::Refused(why, instead) => {
                let error = read(&[&word]).unwrap_err();
                let expected = format!("cannot use --{}: {why}; hint: {instead}", flag.name);
                assert_eq!(error.to_string(), expected);
            }
            effect => assert_eq!(effect, Effect::Applies, "{word}"),
        }
    }
}
