//! `--chmod`: octal, or as the `chmod` program has it.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What becomes of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// These and no others.
    Exact(u32),
    /// One change after the other.
    Changes(Vec<Change>),
}

/// A change such as `go-w` or `a+X`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The bits that it may touch.
    who: u32,
    operation: u8,
    permissions: Vec<u8>,
}

impl Chmod {
    /// The permissions of something that has `mode`.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Self::Exact(exact) => *exact,
            Self::Changes(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, is_folder))
            }
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let bits = self.permissions.iter().fold(0, |bits, letter| {
            bits | match letter {
                b'r' => 0o444,
                b'w' => 0o222,
                b'x' => 0o111,
                b'X' if is_folder || mode & 0o111 != 0 => 0o111,
                b's' => 0o6000,
                b't' => 0o1000,
                b'u' => spread(mode >> 6),
                b'g' => spread(mode >> 3),
                b'o' => spread(mode),
                _ => 0,
            }
        });
        let bits = bits & self.who;
        match self.operation {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            // A folder keeps its special bits unless they are named, as in coreutils.
            _ if is_folder => mode & !(self.who & 0o777) | bits,
            _ => mode & !self.who | bits,
        }
    }
}

/// Three bits for everybody.
fn spread(bits: u32) -> u32 {
    (bits & 7) * 0o111
}

impl FromStr for Chmod {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::Usage, format!("use --chmod={text}")).because(
                "expected octal digits up to 7777, or changes such as u=rwX,go=rX with commas",
            )
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let exact = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return exact.map(Self::Exact).ok_or_else(wrong);
        }
        let clauses = text.split(',').map(clause).collect::<Option<Vec<_>>>();
        clauses.map(|clauses| Self::Changes(clauses.concat())).ok_or_else(wrong)
    }
}

/// Reads `ugo+rwx-X`: who, and one or more changes.
fn clause(text: &str) -> Option<Vec<Change>> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in text[..start].bytes() {
        who |= match letter {
            b'u' => 0o4700,
            b'g' => 0o2070,
            b'o' => 0o1007,
            b'a' => 0o7777,
            _ => return None,
        };
    }
    if start == 0 {
        who = 0o7777;
    }
    let mut changes: Vec<Change> = Vec::new();
    for letter in text[start..].bytes() {
        match letter {
            b'+' | b'-' | b'=' => {
                changes.push(Change { who, operation: letter, permissions: Vec::new() });
            }
            b'r' | b'w' | b'x' | b'X' | b's' | b't' | b'u' | b'g' | b'o' => {
                changes.last_mut()?.permissions.push(letter);
            }
            _ => return None,
        }
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_change_as_chmod_changes_them() {
        for (text, before, is_folder, expected) in [
            ("755", 0o600, false, 0o755),
            ("04755", 0o600, false, 0o4755),
            ("0", 0o600, false, 0),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o710, false, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s,+t", 0o755, false, 0o5755),
            ("u-x+w", 0o555, false, 0o655),
            ("o=", 0o777, false, 0o770),
        ] {
            let chmod: Chmod = text.parse().unwrap();
            assert_eq!(chmod.apply(before, is_folder), expected, "{text} {before:o}");
        }
        for bad in ["", "888", "10000", "rwx", "u~x", "z+x", "u+q", "7a"] {
            assert!(bad.parse::<Chmod>().is_err(), "{bad}");
        }
    }
}
