//! `gondola.lock`: which images the tags stand for that a build was made with.
//!
//! ```text
//! # comments and empty lines stay
//! golang:1.26@sha256:…
//! registry.example/team/golang:1.27@sha256:…
//! ```
//! One image on a line, as `name:tag@digest`: people read it, and update bots find it. It is written
//! where a tag was looked up that it does not have, and with `--pull`; what it has is never asked of
//! a registry. Any image may stand in it; today it is toolchains that are looked up there.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::disk::{self, Unfinished};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::{Digest, Reference};

/// The file's name.
const NAME: &str = "gondola.lock";

/// What is written above the first image.
const HEADER: &str = "# The images that gondola builds with here. Keep this file under version \
                      control;\n# \"gondola build --pull\" looks the tags up again.\n";

/// A file longer than this is not one of ours.
const LARGEST: u64 = 1 << 20;

/// A lock file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockFile {
    path: PathBuf,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// A comment, or nothing.
    Other(String),
    /// A name with a tag, and its digest.
    Image(Reference, Digest),
}

impl LockFile {
    /// Reads the lock file of a folder; one that is not there is empty.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let action = || format!("read {}", path.display());
        let text = match disk::read_text(&path, LARGEST) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.cannot(action)?,
        };
        let lines = text.lines().enumerate().map(|(index, line)| {
            parse(line).map_err(|why| {
                Error::new(ErrorKind::Usage, format!("read {}:{}", path.display(), index + 1))
                    .because(why)
                    .hint("write name:tag@sha256:…, or remove the line to have it looked up")
            })
        });
        let lines = lines.collect::<Result<_>>()?;
        Ok(Self { path, lines })
    }

    /// The digest that a name with a tag stands for.
    pub(super) fn get(&self, name: &Reference) -> Option<&Digest> {
        self.lines.iter().find_map(|line| match line {
            Line::Image(of, digest) if of == name => Some(digest),
            _ => None,
        })
    }

    /// Has a name with a tag stand for a digest, in its place in the alphabet.
    pub(super) fn set(&mut self, name: &Reference, digest: Digest) {
        let line = Line::Image(name.clone(), digest);
        let same = |line: &Line| matches!(line, Line::Image(of, _) if of == name);
        let behind =
            |line: &Line| matches!(line, Line::Image(of, _) if of.familiar() > name.familiar());
        if let Some(index) = self.lines.iter().position(same) {
            self.lines[index] = line;
        } else if let Some(index) = self.lines.iter().position(behind) {
            self.lines.insert(index, line);
        } else {
            self.lines.push(line);
        }
    }

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self) -> Result<()> {
        let action = || format!("write {}", self.path.display());
        let file = Unfinished::beside(&self.path, 0o666)
            // The name of the unfinished file says nothing to anybody.
            .map_err(|error| std::io::Error::from(error.kind()));
        let mut file = file.cannot(action)?;
        file.write_all(self.text().as_bytes()).cannot(action)?;
        file.persist(&self.path).cannot(action)
    }

    /// The file, for people.
    pub(super) fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    fn text(&self) -> String {
        let is_image = |line: &Line| matches!(line, Line::Image(..));
        let header = if self.lines.iter().all(is_image) { HEADER } else { "" };
        let lines = self.lines.iter().map(|line| match line {
            Line::Other(text) => format!("{text}\n"),
            Line::Image(name, digest) => {
                format!("{}\n", name.with_digest(digest.clone()).familiar())
            }
        });
        std::iter::once(header.to_owned()).chain(lines).collect()
    }
}

/// Reads a line; the error says what is wrong with it.
fn parse(line: &str) -> std::result::Result<Line, String> {
    let text = line.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(Line::Other(line.trim_end().to_owned()));
    }
    let reference: Reference = text.parse().map_err(|error: Error| error.to_string())?;
    match (reference.without_digest(), reference.digest()) {
        (Some(name), Some(digest)) => Ok(Line::Image(name, digest.clone())),
        _ => Err(format!("found \"{}\", expected name:tag@digest", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: &str) -> Digest {
        format!("sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    #[test]
    fn lines_are_sorted_replaced_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let text = || fs_err::read_to_string(&path).unwrap();
        let set = |name: &str, digit: &str| {
            let mut lock = LockFile::read(folder.path()).unwrap();
            lock.set(&name.parse().unwrap(), digest(digit));
            lock.write().unwrap();
        };
        let (a, b, c) = (digest("a"), digest("b"), digest("c"));
        set("golang:1.27", "b");
        assert_eq!(text(), format!("{HEADER}golang:1.27@{b}\n"));
        set("golang:1.26", "a");
        set("ghcr.io/x/go:1", "c");
        let lines = format!("ghcr.io/x/go:1@{c}\ngolang:1.26@{a}\ngolang:1.27@{b}\n");
        assert_eq!(text(), format!("{HEADER}{lines}"));

        fs_err::write(&path, format!("# ours\n\ngolang:1.26@{a}\n  # and\ngolang:1.27@{b}\n"))
            .unwrap();
        set("golang:1.27", "c");
        set("zzz:1", "a");
        assert_eq!(
            text(),
            format!("# ours\n\ngolang:1.26@{a}\n  # and\ngolang:1.27@{c}\nzzz:1@{a}\n")
        );
        let lock = LockFile::read(folder.path()).unwrap();
        assert_eq!(lock.get(&"docker.io/library/golang:1.27".parse().unwrap()), Some(&c));
        assert_eq!(lock.get(&"golang:1.28".parse().unwrap()), None);
    }

    #[test]
    fn what_is_no_pinned_image_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        for bad in [
            "golang:1.26",
            "golang@sha256:aa",
            "golang:1.26 latest",
            &format!("golang@{}", digest("a")),
        ] {
            fs_err::write(folder.path().join(NAME), format!("# x\n{bad}\n")).unwrap();
            let error = LockFile::read(folder.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
            assert!(error.to_string().contains("gondola.lock:2: "), "{error}");
        }
    }
}
