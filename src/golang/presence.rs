//! Whether a folder has a Go program, told without the go command.

use std::path::Path;

/// Whether a folder itself holds a file of `package main`.
pub fn has_program(folder: &Path) -> bool {
    let Ok(entries) = fs_err::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let counts =
            name.ends_with(".go") && !name.ends_with("_test.go") && !name.starts_with(['_', '.']);
        counts && fs_err::read_to_string(path).is_ok_and(|text| is_main(&text))
    })
}

/// Whether the package clause is that of a program. A comment that begins a line with the very
/// words would be taken for it: nobody writes one above the clause.
fn is_main(text: &str) -> bool {
    let clause = text.lines().map(str::trim).find(|line| line.starts_with("package "));
    clause.is_some_and(|line| line.split_whitespace().nth(1) == Some("main"))
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
        assert!(!has_program(folder.path()));
        write("d.go", "//go:build linux\n\npackage main // import \"x\"\n");
        assert!(has_program(folder.path()));
        assert!(!has_program(&folder.path().join("missing")));
    }
}
