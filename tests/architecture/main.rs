//! The shape of the code: who uses whom, how long a file gets, and how JSON comes out.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

/// Lines that a source file may have before its tests begin.
const LONGEST_FILE: usize = 800;

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

/// The top-level module that a file belongs to; `None` for the crate's two roots.
fn module_of(file: &Path) -> Option<String> {
    let parts = parts(file);
    match parts.as_slice() {
        [root] if root == "lib.rs" || root == "main.rs" => None,
        [first, ..] => Some(first.trim_end_matches(".rs").to_owned()),
        [] => unreachable!("a file has a name"),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

/// The first words of a path's continuation: one, or those of a `{group, of::several}`.
fn first_words(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else { return vec![leading_word(text)] };
    let mut words = Vec::new();
    let mut depth = 0;
    let mut at_start = true;
    for (offset, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if at_start && is_word(c) => {
                words.push(leading_word(&group[offset..]));
                at_start = false;
            }
            _ => {}
        }
    }
    words
}

/// What a file reaches through `crate::…`, or through enough `super::`s to leave its own module.
fn reached(code: &str, depth: usize, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (offset, _) in code.match_indices("crate::") {
        if !code[..offset].ends_with(is_word) {
            found.extend(first_words(&code[offset + "crate::".len()..]));
        }
    }
    let climb = "super::".repeat(depth);
    for (offset, _) in code.match_indices(climb.as_str()) {
        let rest = code[offset + climb.len()..].trim_start_matches("super::");
        found.extend(first_words(rest).into_iter().filter(|word| modules.contains(word)));
    }
    found
}

/// A file without its comments: documentation may point upwards.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| match line.trim_start() {
        comment if comment.starts_with("//") => "",
        _ => line.split(" // ").next().unwrap_or_default(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_use_each_other_only_along_the_listed_arrows() {
    let listed: BTreeMap<_, _> = listed_arrows().into_iter().collect();
    let modules: BTreeSet<_> = listed.keys().cloned().collect();
    let mut wrong = Vec::new();
    for file in source_files(&source_root()) {
        let Some(module) = module_of(&file) else { continue };
        let Some(allowed) = listed.get(&module) else {
            wrong.push(format!("{module} is not in the list in src/lib.rs"));
            continue;
        };
        let parts = parts(&file);
        let depth = parts.len() - usize::from(parts.last().is_some_and(|name| name == "mod.rs"));
        for used in reached(&code_of(&file), depth, &modules) {
            if used != module && !allowed.contains(&used) {
                wrong.push(format!("src/{} uses crate::{used}", parts.join("/")));
            }
        }
    }
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

/// A dependency that turns on serde_json's `preserve_order` would change every canonical document.
#[test]
fn json_objects_come_out_with_sorted_keys() {
    let value: serde_json::Value = serde_json::from_str(r#"{"b":1,"a":{"d":2,"c":3}}"#).unwrap();
    assert_eq!(value.to_string(), r#"{"a":{"c":3,"d":2},"b":1}"#);
}

#[test]
fn the_reader_of_paths_sees_groups_and_climbs() {
    let modules = ["oci", "layer"].map(str::to_owned).into();
    let cases: [(&str, usize, &[&str]); 7] = [
        ("use crate::oci::Digest;", 1, &["oci"]),
        (
            "use crate::{error::Error, oci::{Digest, Platform}, layer};",
            2,
            &["error", "layer", "oci"],
        ),
        ("fn f() -> crate::layer::Tree", 1, &["layer"]),
        ("use super::super::oci::Digest;", 2, &["oci"]),
        ("use super::oci::Digest;", 2, &[]),
        ("use super::{layer::Tree};", 1, &["layer"]),
        ("use other_crate::oci;", 1, &[]),
    ];
    for (code, depth, expected) in cases {
        let found: Vec<_> = reached(code, depth, &modules).into_iter().collect();
        assert_eq!(found, expected, "{code}");
    }
}
