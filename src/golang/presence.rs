//! Whether a folder has a Go program, told without the go command.

use std::io::Read as _;
use std::path::Path;

/// A package clause that comes later than this is not looked for.
const LONGEST_HEADER: u64 = 1 << 20;

/// Whether a folder itself holds a file of `package main`.
pub fn has_program(folder: &Path) -> bool {
    files(folder).any(|name| is_of_program(&folder.join(name)))
}

/// The files of a folder that the go command looks at for a program, sorted; none where it holds no
/// program.
pub(super) fn program_files(folder: &Path) -> Vec<String> {
    if !has_program(folder) {
        return Vec::new();
    }
    let mut names: Vec<String> = files(folder).collect();
    names.sort();
    names
}

/// The names of the files that belong to a folder's package.
fn files(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| {
        Path::new(name).extension().is_some_and(|extension| extension == "go")
            && !name.ends_with("_test.go")
            && !name.starts_with(['_', '.'])
    })
}

fn is_of_program(file: &Path) -> bool {
    header(file).is_some_and(|text| is_main(&text))
}

/// How a file begins.
fn header(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    crate::disk::open(path).ok()?.take(LONGEST_HEADER).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the package clause, which nothing but comments may precede, is that of a program.
fn is_main(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let clause = after_comments(text).and_then(|text| text.strip_prefix("package"));
    let Some(rest) = clause.filter(|rest| !rest.starts_with(is_in_name)) else { return false };
    let name = after_comments(rest).and_then(|text| text.strip_prefix("main"));
    name.is_some_and(|rest| !rest.starts_with(is_in_name))
}

fn is_in_name(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

/// What follows white space and comments; nothing where one of them has no end.
fn after_comments(mut text: &str) -> Option<&str> {
    loop {
        text = text.trim_start_matches([' ', '\t', '\r', '\n']);
        text = if let Some(comment) = text.strip_prefix("//") {
            comment.split_once('\n')?.1
        } else if let Some(comment) = text.strip_prefix("/*") {
            comment.split_once("*/")?.1
        } else {
            return Some(text);
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_by_its_package_clause() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
        write("a.go", "// Package a is none.\npackage a\n");
        write("b_test.go", "package main\n");
        write("c.txt", "package main\n");
        fs_err::create_dir(folder.path().join("d.go")).unwrap();
        assert!(!has_program(folder.path()));
        write("e.go", "//go:build linux\n\npackage main // import \"x\"\n");
        assert!(has_program(folder.path()));
        assert!(!has_program(&folder.path().join("missing")));
    }

    #[test]
    fn the_clause_is_found_wherever_the_compiler_finds_it() {
        for (text, expected) in [
            ("package main; func main() {}", true),
            ("package main;import \"fmt\"", true),
            ("package main", true),
            ("package\tmain\n", true),
            ("package\n\n\tmain\n", true),
            ("package/* a */main// b\n", true),
            ("\u{feff}//go:build linux && !arm\r\n// +build linux\r\n\r\npackage main\r\n", true),
            ("/*\npackage other\n*/ package main\n", true),
            ("/* package main */ package other\n", false),
            ("// text\n/*\npackage main\n*/\npackage other\n", false),
            ("package mainly\n", false),
            ("package main_test\n", false),
            ("packagemain\n", false),
            ("package other // main\n", false),
            ("/* package main\n", false),
            ("// package main", false),
            ("func main() {}\npackage main\n", false),
            ("", false),
        ] {
            assert_eq!(is_main(text), expected, "{text:?}");
        }
    }
}
