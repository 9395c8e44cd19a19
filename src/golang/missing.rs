//! Modules that a build wants and that are not here, found without the go command and without a network.

use std::collections::BTreeSet;
use std::path::Path;

use super::documents::LARGEST;
use super::modfile::directives;
use crate::disk;

/// The modules, `path@version`, that the files in a module's folder name and that the folder of modules
/// lacks. None where the module has its dependencies in `vendor`.
///
/// `go.sum` has a line for each module whose files a build may read; of these count those that `go.mod`
/// asks for.
pub fn missing_modules(folder: &Path, cache: &Path) -> Vec<String> {
    if folder.join("vendor/modules.txt").is_file() {
        return Vec::new();
    }
    let read = |name: &str| disk::read_text(&folder.join(name), LARGEST).unwrap_or_default();
    let required = required(&read("go.mod"));
    let sums = format!("{}\n{}", read("go.sum"), read("go.work.sum"));
    let all: BTreeSet<(&str, &str)> = sums.lines().filter_map(summed).collect();
    let asked = |of: &&(&str, &str)| required.is_empty() || required.contains(&full(of.0, of.1));
    let lacking = all.iter().filter(asked).filter(|(path, version)| !is_here(cache, path, version));
    lacking.map(|(path, version)| full(path, version)).collect()
}

fn full(path: &str, version: &str) -> String {
    format!("{path}@{version}")
}

/// A line of `go.sum` that is about a module's files, and not its `go.mod` alone.
fn summed(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    let (path, version) = (words.next()?, words.next()?);
    (!version.ends_with("/go.mod")).then_some((path, version))
}

/// What the `require` lines of a `go.mod` name.
fn required(text: &str) -> BTreeSet<String> {
    let lines = directives(text).into_iter();
    lines
        .filter_map(|words| match &words[..] {
            [verb, path, version, ..] if verb == "require" => Some(full(path, version)),
            _ => None,
        })
        .collect()
}

fn is_here(cache: &Path, path: &str, version: &str) -> bool {
    let (path, version) = (escaped(path), escaped(version));
    cache.join(full(&path, &version)).is_dir()
        || cache.join(format!("cache/download/{path}/@v/{version}.zip")).is_file()
}

/// A path as the folder of modules has it: capital letters are marked, for disks that know no case.
fn escaped(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_uppercase() {
            all.push('!');
        }
        all.push(letter.to_ascii_lowercase());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_sum_names_and_the_cache_lacks_is_missing() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
        write(
            "go.mod",
            "module m\n\nrequire (\n\ta.test/X v1.0.0\n\tb.test/y v0.2.0 // indirect\n\tc.test/z v1.0.0\n)\n",
        );
        write(
            "go.sum",
            "a.test/X v1.0.0 h1:a=\na.test/X v1.0.0/go.mod h1:b=\nb.test/y v0.2.0 h1:c=\n\
             c.test/z v1.0.0/go.mod h1:d=\nold.test/o v1.0.0 h1:e=\n",
        );
        let missing = || missing_modules(folder.path(), cache.path());
        assert_eq!(missing(), ["a.test/X@v1.0.0", "b.test/y@v0.2.0"]);
        fs_err::create_dir_all(cache.path().join("a.test/!x@v1.0.0")).unwrap();
        assert_eq!(missing(), ["b.test/y@v0.2.0"]);
        let zips = cache.path().join("cache/download/b.test/y/@v");
        fs_err::create_dir_all(&zips).unwrap();
        fs_err::write(zips.join("v0.2.0.zip"), "x").unwrap();
        assert_eq!(missing(), [""; 0]);
        fs_err::remove_dir_all(cache.path().join("cache")).unwrap();
        fs_err::create_dir(folder.path().join("vendor")).unwrap();
        write("vendor/modules.txt", "");
        assert_eq!(missing(), [""; 0]);
    }
}
