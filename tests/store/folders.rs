//! The drawing of the store's folders: one place, and everybody asks there.

use std::path::PathBuf;

use gondola::store::StorePlace;

use super::*;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// A file's code without its tests and comments.
fn own(code: &str) -> String {
    let lines = code.lines().take_while(|line| *line != "#[cfg(test)]");
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The strings of a file's code.
fn strings(code: &str) -> Vec<String> {
    let lines = own(code);
    let strings = lines.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    strings.map(str::to_owned).collect()
}

#[test]
fn no_other_file_spells_a_path_of_the_store() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let of_ours: Vec<&str> = StorePlace::ALL.iter().map(|place| place.path()).collect();
    // These words alone mean other things elsewhere.
    let plain = ["go", "programs", "blobs", "index.json", "oci-layout"];
    let mut wrong = Vec::new();
    for file in sources(&root).iter().filter(|file| !file.ends_with("store/layout.rs")) {
        let code = fs_err::read_to_string(file).unwrap();
        for string in strings(&code).into_iter().filter(|string| !plain.contains(&&**string)) {
            let spells = |path: &&str| string == *path || string.starts_with(&format!("{path}/"));
            if of_ours.iter().any(|path| !plain.contains(path) && spells(path)) {
                wrong.push(format!("{}: \"{string}\"", file.display()));
            }
        }
        let joins = ["root().join(\"", ".join(\"programs\")"];
        if joins.iter().any(|joins| own(&code).contains(joins)) {
            wrong.push(format!("{}: joins a path itself", file.display()));
        }
    }
    assert!(wrong.is_empty(), "ask StorePlace instead: {wrong:#?}");
}

#[test]
fn every_place_is_another_one() {
    let all: BTreeSet<&str> = StorePlace::ALL.iter().map(|place| place.path()).collect();
    assert_eq!(all.len(), StorePlace::ALL.len());
    let place = place();
    assert_eq!(place.store.place(StorePlace::Work), place.root().join("gondola/work"));
}
