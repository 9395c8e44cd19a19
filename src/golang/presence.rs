//! Whether a folder has a Go program, told without the go command.

use std::io::Read as _;
use std::path::Path;

/// A package clause that comes later than this is not looked for.
const LONGEST_HEADER: u64 = 1 << 20;

/// Whether a folder itself holds a file of `package main`.
pub fn has_program(folder: &Path) -> bool {
    files(folder).any(|name| is_of_program(&folder.join(name)))
}

/// Whether a folder itself holds anything that the go command would have a word to say about: Go files, a
/// module, a workspace.
pub fn has_sources(folder: &Path) -> bool {
    let is_module = |name: &&str| fs_err::symlink_metadata(folder.join(name)).is_ok();
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    ["go.mod", "go.work"].iter().any(is_module)
        || names.any(|name| Path::new(&name).extension().is_some_and(|end| end == "go"))
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

/// The first of these files that is for some builds alone: by its name (`x_linux.go`), or by a constraint
/// before its package clause. Files that are named one by one are all compiled.
pub(super) fn conditional<'a>(folder: &Path, names: &'a [String]) -> Option<&'a str> {
    let is_one = |name: &&String| {
        is_for_a_platform(name)
            || header(&folder.join(name)).is_some_and(|text| has_constraint(&text))
    };
    names.iter().find(is_one).map(String::as_str)
}

/// Files of a folder that belong to a package of a module, and that nobody can name on a command line.
pub(super) fn unnamed_sources(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| {
            let end = Path::new(name).extension().and_then(|end| end.to_str());
            end.is_some_and(|end| ["s", "S", "c", "cc", "cpp", "m", "syso"].contains(&end))
                && !name.starts_with(['_', '.'])
        })
        .collect();
    names.sort();
    names
}

/// What the go command takes for operating systems in names of files.
const SYSTEMS: &str = "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd \
    plan9 solaris wasip1 windows zos";
/// Likewise, for architectures.
const ARCHITECTURES: &str = "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc ppc64 ppc64le \
    riscv riscv64 s390 s390x sparc sparc64 wasm";

/// Whether a name ends with `_SYSTEM` or `_ARCHITECTURE`, behind something else.
fn is_for_a_platform(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let last = stem.rsplit_once('_').map(|(_, last)| last);
    last.is_some_and(|last| {
        [SYSTEMS, ARCHITECTURES].iter().any(|all| all.split(' ').any(|it| it == last))
    })
}

/// Whether a line before the package clause says for which builds a file is.
fn has_constraint(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("package"));
    lines.any(|line| line.starts_with("//go:build") || line.starts_with("// +build"))
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
    fn files_for_some_builds_are_told_by_name_and_constraint() {
        let folder = tempfile::tempdir().unwrap();
        let first = |name: &str, text: &str| {
            fs_err::write(folder.path().join(name), text).unwrap();
            conditional(folder.path(), &[name.to_owned()]).is_some()
        };
        for name in ["x_linux.go", "x_windows_arm64.go", "x_386.go", "a_b_js.go"] {
            assert!(first(name, "package main\n"), "{name}");
        }
        for name in ["linux.go", "main.go", "x_linuxy.go", "x_linux_y.go"] {
            assert!(!first(name, "package main\n//go:build linux\n"), "{name}");
        }
        for text in
            ["//go:build ignore\n\npackage main\n", "// a\n// +build linux\n\npackage main\n"]
        {
            assert!(first("y.go", text), "{text}");
        }
        fs_err::write(folder.path().join("f.s"), "").unwrap();
        assert_eq!(unnamed_sources(folder.path()), ["f.s"]);
        assert!(has_sources(folder.path()));
        let empty = tempfile::tempdir().unwrap();
        assert!(!has_sources(empty.path()));
        fs_err::write(empty.path().join("go.mod"), "module m\n").unwrap();
        assert!(has_sources(empty.path()));
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
