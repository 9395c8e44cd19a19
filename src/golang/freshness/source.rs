//! The part of a Go file that decides which other files and packages a build needs.

use super::stat::Contents;

/// Stands for everything in a Go file up to its last import, and its `//go:embed` lines.
///
/// The build constraints, the package clause, the imports, the C code and flags of cgo and the
/// `//go:debug` lines are all in there. Two versions of a file with equal outlines differ only in
/// what is compiled, never in what is read. A file that is no Go is all outline.
pub(super) fn outline(source: &[u8]) -> Contents {
    let end = end_of_imports(source).unwrap_or(source.len());
    let mut outline = source[..end].to_vec();
    for line in source[end..].split(|&byte| byte == b'\n') {
        let mut rest = line;
        while let Some(at) = rest.iter().position(|&byte| byte == b'/') {
            if rest[at..].starts_with(b"//go:embed") {
                outline.push(b'\n');
                outline.extend_from_slice(line);
                break;
            }
            rest = &rest[at + 1..];
        }
    }
    Contents::of(&outline)
}

/// Where the last import ends, or the package clause if there is none.
fn end_of_imports(source: &[u8]) -> Option<usize> {
    let mut scanner = Scanner { source, at: 0 };
    if source.starts_with(b"\xef\xbb\xbf") {
        scanner.at = 3;
    }
    scanner.space()?;
    if scanner.word() != b"package" {
        return None;
    }
    scanner.space()?;
    if scanner.word().is_empty() {
        return None;
    }
    loop {
        let end = scanner.at;
        scanner.space()?;
        if scanner.word() != b"import" {
            return Some(end);
        }
        scanner.space()?;
        if scanner.next_is(b'(') {
            scanner.space()?;
            while !scanner.next_is(b')') {
                scanner.import()?;
                scanner.space()?;
            }
        } else {
            scanner.import()?;
        }
    }
}

struct Scanner<'a> {
    source: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.source[self.at..]
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let found = self.rest().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Passes over white space, semicolons and comments; none if a comment has no end.
    fn space(&mut self) -> Option<()> {
        loop {
            let rest = self.rest();
            if rest.starts_with(b"//") {
                self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                self.at += 2 + rest[2..].windows(2).position(|pair| pair == b"*/")? + 2;
            } else if rest.first().is_some_and(|byte| b" \t\r\n;".contains(byte)) {
                self.at += 1;
            } else {
                return Some(());
            }
        }
    }

    /// Takes an identifier, which is empty if there is none.
    fn word(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Takes one import: an optional name and a string.
    fn import(&mut self) -> Option<()> {
        if !self.next_is(b'.') {
            self.word();
        }
        self.space()?;
        let quote = match self.rest().first() {
            Some(quote @ (b'"' | b'`')) => *quote,
            _ => return None,
        };
        self.at += 1;
        let length = self.rest().iter().position(|&byte| byte == quote || byte == b'\n')?;
        self.at += length;
        self.next_is(quote).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"// Copyright.

//go:build linux

package main // the program

import "fmt"
import (
	_ "embed" /* ) */
	str "strings"; . `os`
)

//go:embed a.txt
var text string

func main() { fmt.Println(str.ToUpper(text), Args) }
"#;

    #[test]
    fn the_outline_ends_with_the_last_import() {
        let end = end_of_imports(BASE.as_bytes()).unwrap();
        assert!(BASE[..end].ends_with(". `os`\n)"), "{:?}", &BASE[..end]);
        for (source, expect) in [
            ("package x", Some(9)),
            ("package x;func f() {}", Some(9)),
            ("\u{feff}package x\n", Some(12)),
            ("package x\nimport \"a\"\nimportant()", Some(20)),
            ("package x\nimport", None),
            ("package x\nimport (\"a\"", None),
            ("package x\nimport \"a\nb\"", None),
            ("package", None),
            ("/* package x", None),
            ("", None),
            ("no go", None),
        ] {
            assert_eq!(end_of_imports(source.as_bytes()), expect, "{source}");
        }
    }

    #[test]
    fn only_what_decides_on_other_files_changes_the_outline() {
        let base = outline(BASE.as_bytes());
        for (from, to, same) in [
            ("str.ToUpper(text)", "text", true),
            ("func main()", "// main\nfunc main()", true),
            ("var text string", "var text, other string", true),
            ("linux", "darwin", false),
            ("package main", "package other", false),
            ("\"fmt\"", "\"log\"", false),
            ("`os`", "`io`", false),
            ("a.txt", "b.txt", false),
            ("var text", "\t//go:embed c\nvar text", false),
        ] {
            assert!(BASE.contains(from), "{from}");
            let changed = outline(BASE.replacen(from, to, 1).as_bytes());
            assert_eq!(changed == base, same, "{from} -> {to}");
        }
        assert_ne!(outline(b"no go 1"), outline(b"no go 2"));
    }

    proptest::proptest! {
        #[test]
        fn junk_has_an_outline_too(bytes in proptest::collection::vec(0..=255u8, 0..200)) {
            outline(&bytes);
            outline(&[b"package p\nimport (".as_slice(), &bytes].concat());
        }
    }
}
