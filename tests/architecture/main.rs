//! The shape of the code: who uses whom, how long a file gets, and how JSON comes out.

#![cfg(test)]

mod reading;
mod rust;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

use uses::{Arrow, Sources, arrows_between_neighbours, circles, leads};

/// Arrows that close a circle, each with the reason why it stays for now.
const CIRCLES: [(&str, &str, &str); 0] = [];

/// Lines that a source file may have before its tests begin.
const LONGEST_FILE: usize = 600;

/// The list in the crate's documentation, in its order: a module and the modules that it may use.
fn listed_arrows() -> Vec<(String, BTreeSet<String>)> {
    let documentation = fs::read_to_string(source_root().join("lib.rs")).unwrap();
    let lines = documentation.lines().filter_map(|line| line.strip_prefix("//! "));
    let arrows = lines.filter_map(|line| {
        let (module, uses) = line.split_once(':')?;
        let name = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (name(module) && uses.split_whitespace().all(name))
            .then(|| (module.to_owned(), uses.split_whitespace().map(str::to_owned).collect()))
    });
    arrows.collect()
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every `.rs` file below `folder`, sorted.
fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The path below `src/`, in parts: `layer/tree.rs` is `["layer", "tree.rs"]`.
fn parts(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(source_root()).unwrap();
    relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

/// The source files, with their paths below `src/`.
fn sources(with_tests: bool) -> Sources {
    let files: Vec<_> = source_files(&source_root())
        .into_iter()
        .map(|file| (parts(&file).join("/"), fs::read_to_string(&file).unwrap()))
        .filter(|(path, _)| path != "main.rs")
        .collect();
    let texts = files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    Sources::read(texts, with_tests)
}

#[test]
fn modules_use_each_other_only_along_the_listed_arrows() {
    let listed: BTreeMap<_, _> = listed_arrows().into_iter().collect();
    let mut wrong = BTreeSet::new();
    for (module, path, defined) in sources(true).uses() {
        let (Some(first), Some(used)) = (module.first(), defined.first()) else { continue };
        match listed.get(first) {
            None => {
                wrong.insert(format!("{first} is not in the list in src/lib.rs"));
            }
            Some(allowed) if used != first && !allowed.contains(used) => {
                wrong.insert(format!("{} uses {used}: {}", module.join("::"), path.join("::")));
            }
            Some(_) => {}
        }
    }
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "not in the list in src/lib.rs:\n  {}", wrong.join("\n  "));
}

#[test]
fn the_list_of_arrows_points_downwards() {
    let mut above = BTreeSet::new();
    let listed = listed_arrows();
    assert!(listed.len() > 5, "the list in src/lib.rs was not found");
    for (module, uses) in listed {
        let missing: Vec<_> = uses.difference(&above).collect();
        assert!(missing.is_empty(), "{module} is listed before {missing:?}, which it may use");
        above.insert(module);
    }
}

fn shown((from, to): &Arrow) -> (String, String) {
    (from.join("::"), to.join("::"))
}

fn is_exception(arrow: &Arrow) -> bool {
    let (from, to) = shown(arrow);
    CIRCLES.iter().any(|(a, b, _)| (*a, *b) == (from.as_str(), to.as_str()))
}

#[test]
fn no_file_uses_its_neighbours_in_a_circle() {
    let arrows = arrows_between_neighbours(&sources(false));
    let counted = arrows.keys().filter(|arrow| !is_exception(arrow)).cloned().collect();
    let circles: Vec<_> = circles(&counted)
        .into_iter()
        .map(|arrow| {
            let names: Vec<_> = arrows[arrow].iter().map(String::as_str).collect();
            let (from, to) = shown(arrow);
            format!("{from} -> {to}: {}", names.join(", "))
        })
        .collect();
    assert!(circles.is_empty(), "part of a circle:\n  {}", circles.join("\n  "));
}

#[test]
fn each_exception_closes_a_circle() {
    let arrows = arrows_between_neighbours(&sources(false));
    let (exceptions, counted): (BTreeSet<_>, _) = arrows.into_keys().partition(is_exception);
    let closing: Vec<_> =
        exceptions.iter().filter(|(from, to)| leads(&counted, to, from)).map(shown).collect();
    let needless: Vec<_> = CIRCLES
        .iter()
        .map(|(from, to, _)| ((*from).to_owned(), (*to).to_owned()))
        .filter(|arrow| !closing.contains(arrow))
        .collect();
    assert!(needless.is_empty(), "these close no circle any more: {needless:?}");
}

#[test]
fn no_file_is_longer_than_one_concept_needs() {
    let too_long: Vec<_> = source_files(&source_root())
        .into_iter()
        .filter_map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
            (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", parts(&file).join("/")))
        })
        .collect();
    assert!(too_long.is_empty(), "longer than {LONGEST_FILE} lines before the tests: {too_long:?}");
}

/// The paths that a text names between backticks and in links, as far as they can be files of this
/// project: placeholders and other people's paths cannot.
fn named_paths(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let is_path = |word: &&str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_./-".contains(&b);
        word.contains(['/', '.']) && word.bytes().all(|b| plain(b) || b.is_ascii_uppercase())
    };
    let is_ours = |word: &&str| {
        let first = word.split('/').next().unwrap_or_default();
        let is_placeholder = |part: &str| part.starts_with("NAME");
        !matches!(first, "" | "." | "..")
            && word.contains('/')
            && !word.split('/').any(is_placeholder)
            && bases().iter().any(|base| base.join(first).is_dir())
    };
    let links: BTreeSet<String> =
        links.filter(|link| is_path(link) && !link.contains("..")).map(str::to_owned).collect();
    let words = quoted.flat_map(|quoted| quoted.split([' ', ',', ';'])).filter(is_path);
    words.filter(is_ours).map(str::to_owned).chain(links).collect()
}

/// Where named paths begin.
fn bases() -> [PathBuf; 3] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [root.to_owned(), root.join("src"), root.join(".github")]
}

#[test]
fn each_path_that_the_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for document in ["README.md", ".github/CONTRIBUTING.md"] {
        let named = named_paths(&fs::read_to_string(root.join(document)).unwrap());
        count += named.len();
        let is_there = |path: &&String| bases().iter().any(|base| base.join(path).exists());
        let missing: Vec<_> = named.iter().filter(|path| !is_there(path)).collect();
        assert!(missing.is_empty(), "{document} names what is not there: {missing:?}");
    }
    assert!(count > 40, "only {count} paths were found");
    let named =
        named_paths("`cli/mod.rs` `tests/NAME.rs` `cmd/server` `/proc/x` [log](CHANGELOG.md)");
    assert_eq!(named, ["CHANGELOG.md", "cli/mod.rs"].map(str::to_owned).into());
}

/// What a thread of the tests has open for writing while another forks cannot be started: see
/// `install` of tests/support.
#[test]
fn tests_do_not_write_the_programs_that_they_start() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (mut copies, mut wrong) = (0, Vec::new());
    for file in source_files(&tests).iter().filter(|file| !file.ends_with("architecture/main.rs")) {
        let text = fs::read_to_string(file).unwrap();
        for line in text.lines().filter(|line| line.contains("fs::copy(")) {
            copies += 1;
            if ["CARGO_BIN_EXE", "current_exe", "payload"].iter().any(|name| line.contains(name))
                && !line.contains("ctx/payload")
            {
                wrong.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(copies > 0 && wrong.is_empty(), "{copies} copies, by fs::copy: {wrong:#?}");
}

/// A dependency that turns on serde_json's `preserve_order` would change every canonical document.
#[test]
fn json_objects_come_out_with_sorted_keys() {
    let value: serde_json::Value = serde_json::from_str(r#"{"b":1,"a":{"d":2,"c":3}}"#).unwrap();
    assert_eq!(value.to_string(), r#"{"a":{"c":3,"d":2},"b":1}"#);
}
