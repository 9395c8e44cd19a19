//! That each flag does what its help says, shown by some test here.

use std::collections::BTreeSet;

use crate::support::{Sandbox, Stored};
use crate::{context, executor};

/// The tests in which flags have their effects.
const TESTS: [&str; 5] = [
    include_str!("main.rs"),
    include_str!("effects.rs"),
    include_str!("places.rs"),
    include_str!("registries.rs"),
    include_str!("submodules.rs"),
];

/// Flags that are gondola's own, or whose values are refused: other tests have them.
const OTHERS: [&str; 6] =
    ["--help", "--store", "--cache-scope", "--no-shared-caches", "--bucket", "--materialize"];

/// The flags of kaniko, each with the first words of its help.
fn flags(sandbox: &Sandbox) -> Vec<(String, String)> {
    let help = sandbox.gondola(&["kaniko", "-h"]).success().stdout;
    let global = sandbox.gondola(&["version", "-h"]).success().stdout;
    // A flag, or two of its names, and below it what it does.
    let of = |text: &str| {
        let lines = text.lines().zip(text.lines().skip(1));
        let flag = |(line, below): (&str, &str)| {
            let line = line.strip_prefix("  ").filter(|_| below.starts_with("          "))?;
            let line = line.trim_start();
            let line = line.split_once(", ").map_or(line, |(_, long)| long);
            let flag = line.split([' ', '[']).next().filter(|flag| flag.starts_with("--"))?;
            Some((flag.to_owned(), below.trim().to_owned()))
        };
        lines.filter_map(flag).filter(|(flag, _)| !flag.ends_with('.')).collect::<Vec<_>>()
    };
    let everywhere: BTreeSet<String> = of(&global).into_iter().map(|(flag, _)| flag).collect();
    of(&help).into_iter().filter(|(flag, _)| !everywhere.contains(flag)).collect()
}

#[test]
fn each_flag_has_a_test_that_shows_its_effect_or_none_by_nature() {
    let sandbox = Sandbox::new();
    let all = flags(&sandbox);
    assert!(all.len() > 65, "{all:?}");
    for (flag, help) in &all {
        if help.starts_with("Has no effect") || OTHERS.contains(&flag.as_str()) {
            continue;
        }
        let is_used = |text: &&str| {
            text.match_indices(flag.as_str()).any(|(at, _)| {
                let behind = text[at + flag.len()..].chars().next();
                !behind.is_some_and(|c| c == '-' || c.is_ascii_alphanumeric())
            })
        };
        assert!(TESTS.iter().any(is_used), "{flag} is in no test: {help}");
    }
}

/// What is accepted with no effect, each with a value.
const WITHOUT_EFFECT: [&str; 12] = [
    "--compressed-caching=false",
    "--cleanup",
    "--pre-cleanup",
    "--force",
    "--force-build-metadata",
    "--preserve-context",
    "--skip-push-permission-check",
    "--skip-unused-stages",
    "--use-new-run",
    "--cache-dir=/nowhere",
    "--image-fs-extract-retry=3",
    "--snapshot-mode=time",
];

#[test]
fn what_has_no_effect_by_nature_says_so_and_has_none() {
    let sandbox = Sandbox::new();
    context(&sandbox);
    let name = |flag: &&str| flag.split('=').next().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = WITHOUT_EFFECT.iter().map(name).collect();
    let listed = flags(&sandbox).into_iter().filter(|(_, help)| help.starts_with("Has no effect"));
    assert_eq!(listed.map(|(flag, _)| flag).collect::<BTreeSet<_>>(), ours);
    let build = |more: &[&str]| {
        let _ = fs_err::remove_dir_all(sandbox.path("out"));
        let usual = ["-c=ctx", "-f=deploy/Dockerfile", "--no-push", "--oci-layout-path=out"];
        let usual = [&usual[..], &["--reproducible"]].concat();
        let ran = executor(&sandbox, &[&usual[..], more].concat()).success();
        (Stored::folder(&sandbox.path("out")).image(None).digest, ran.stderr)
    };
    let (plain, _) = build(&[]);
    for flag in WITHOUT_EFFECT {
        let (digest, said) = build(&[flag]);
        assert_eq!(digest, plain, "{flag}");
        let notes = said.matches("is accepted and has no effect").count();
        assert_eq!(notes, 1, "{flag}: {said}");
        assert!(said.contains(&name(&flag)), "{flag}: {said}");
    }
    let words = ["-c=ctx", "-f=deploy/Dockerfile", "--no-push", "--materialize"];
    executor(&sandbox, &words).code(2).says("write --oci-layout-path DIR");
}
