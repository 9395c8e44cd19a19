//! `.dockerignore`: which files of a context are left out, by moby's rules.
//!
//! Patterns are rooted at the context; the last one that matches wins; one that begins with `!`
//! brings back. `*` and `?` stop at slashes, `**` does not. A file is left out with the folder that
//! it is in, unless a later pattern brings it back. The same patterns stand behind `--exclude` and
//! `--parents`.

use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::glob::{self, character};

/// A list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    list: Vec<Pattern>,
    brings_back: bool,
}

/// Which patterns matched a folder: what is in it need not ask again.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Vec<bool>);

#[derive(Clone, Debug)]
struct Pattern {
    /// It begins with `!`.
    brings_back: bool,
    /// As it was cleaned.
    text: String,
    shape: Shape,
}

/// The forms that patterns are told apart by.
#[derive(Clone, Debug)]
enum Shape {
    Exact,
    /// All that begins with this.
    Prefix(String),
    /// All that ends with this, and what is this without its leading slash.
    Suffix(String),
    Pieces(Vec<Piece>),
}

/// A part of a pattern.
#[derive(Clone, Debug)]
enum Piece {
    Literal(u32),
    /// One character but a slash.
    One,
    /// Any characters but slashes.
    Many,
    /// Whole folders, or none.
    Folders,
    /// Anything.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

/// The patterns of an ignore file, each with the number of its line.
fn lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let meant = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    let meant = meant.map(|(index, line)| (index + 1, line.trim()));
    meant.filter(|(_, line)| !line.is_empty()).map(|(number, line)| (number, normalize(line)))
}

fn normalize(line: &str) -> String {
    let (mark, pattern) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    if pattern.is_empty() {
        return mark.to_owned();
    }
    let cleaned = glob::clean(pattern);
    let rooted = if cleaned.len() > 1 { cleaned.strip_prefix('/') } else { None };
    format!("{mark}{}", rooted.unwrap_or(&cleaned))
}

impl Patterns {
    /// Reads an ignore file, which messages call `name`; errs on a pattern that means nothing.
    pub fn of_file(name: &str, text: &str) -> Result<Self> {
        let mut patterns = Self::default();
        for (number, line) in lines(text) {
            patterns.push(&line).cannot(|| format!("read {name}:{number}"))?;
        }
        Ok(patterns)
    }

    /// Reads patterns; errs on one that means nothing.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut all = Self::default();
        for written in patterns {
            all.push(written.as_ref())?;
        }
        Ok(all)
    }

    fn push(&mut self, written: &str) -> Result<()> {
        let written = written.trim();
        if !written.is_empty() {
            let pattern = Pattern::new(written)?;
            self.brings_back |= pattern.brings_back;
            self.list.push(pattern);
        }
        Ok(())
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether something in a folder that matches may be brought back; `.` is all of the context.
    pub fn may_bring_back_below(&self, folder: &str) -> bool {
        let reaches = |pattern: &Pattern| {
            pattern.brings_back && (folder == "." || pattern.may_reach_below(folder))
        };
        self.brings_back && self.list.iter().any(reaches)
    }

    /// Whether something in a folder may match.
    pub fn may_match_below(&self, folder: &str) -> bool {
        self.list.iter().any(|pattern| !pattern.brings_back && pattern.may_reach_below(folder))
    }

    /// Whether a path matches, whose folder got `parent`; the verdict is for what is in it.
    ///
    /// A pattern that could change nothing is passed over and counts as not matched, as moby has it.
    pub fn matches(&self, path: &str, parent: Option<&Verdict>) -> (bool, Verdict) {
        let mut matched = false;
        let mut verdict = Verdict(vec![false; self.list.len()]);
        for (index, pattern) in self.list.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.0.get(index) == Some(&true));
            if !inherited && pattern.brings_back != matched {
                continue;
            }
            let hit = inherited || pattern.matches(path);
            verdict.0[index] = hit;
            if hit {
                matched = !pattern.brings_back;
            }
        }
        (matched, verdict)
    }

    /// Whether a path matches, itself or through a folder that it is in.
    pub fn matches_path(&self, path: &str) -> bool {
        let mut verdict = None;
        let mut matched = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let (found, next) = self.matches(&path[..end], verdict.as_ref());
            (matched, verdict) = (found, Some(next));
        }
        matched
    }
}

impl Pattern {
    fn new(written: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Usage, format!("use the pattern {written:?}")).because(why)
        };
        let cleaned = glob::clean(written);
        let (brings_back, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err(bad("nothing stands behind the !")),
            Some(rest) => (true, rest.to_owned()),
            None => (false, cleaned),
        };
        if glob::matches(text.as_bytes(), b".").is_err() {
            return Err(bad("it has a [ without an end, or ends with a backslash"));
        }
        let shape = Shape::of(&text);
        Ok(Self { brings_back, text, shape })
    }

    /// Whether a path below a folder may match, judged by the part before the first wildcard.
    fn may_reach_below(&self, folder: &str) -> bool {
        let plain = self.text.split(['*', '?', '[', '\\']).next().unwrap_or_default();
        let is_whole = plain.len() == self.text.len();
        let below = plain.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        below || !is_whole && format!("{folder}/").starts_with(plain)
    }

    fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact => path == self.text,
            Shape::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Shape::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Shape::Pieces(pieces) => fits(pieces, path.as_bytes()),
        }
    }
}

impl Shape {
    fn of(text: &str) -> Self {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if plain(text) {
            return Self::Exact;
        }
        if let Some(suffix) = text.strip_prefix("**")
            && plain(suffix)
        {
            return Self::Suffix(suffix.to_owned());
        }
        if let Some(prefix) = text.strip_suffix("**")
            && plain(prefix)
        {
            return Self::Prefix(prefix.to_owned());
        }
        Self::Pieces(pieces(text.as_bytes()))
    }
}

fn pieces(text: &[u8]) -> Vec<Piece> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (piece, size) = piece(rest);
        pieces.push(piece);
        rest = &rest[size..];
    }
    pieces
}

/// The piece that a pattern begins with, and its length.
fn piece(text: &[u8]) -> (Piece, usize) {
    match text {
        [b'*', b'*', b'/'] | [b'*', b'*'] => (Piece::Rest, text.len()),
        [b'*', b'*', b'/', ..] => (Piece::Folders, 3),
        [b'*', b'*', ..] => (Piece::Folders, 2),
        [b'*', ..] => (Piece::Many, 1),
        [b'?', ..] => (Piece::One, 1),
        [b'[', class @ ..] => class_piece(class),
        [b'\\', escaped @ ..] if !escaped.is_empty() => {
            let (found, size) = character(escaped);
            (Piece::Literal(found), size + 1)
        }
        _ => {
            let (found, size) = character(text);
            (Piece::Literal(found), size.max(1))
        }
    }
}

/// Reads a class behind its bracket. It has an end: the pattern was checked.
fn class_piece(class: &[u8]) -> (Piece, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    let end = |at: &mut usize| {
        *at += usize::from(class.get(*at) == Some(&b'\\'));
        let (found, size) = character(&class[(*at).min(class.len())..]);
        *at += size;
        found
    };
    while at < class.len() && class[at] != b']' {
        let low = end(&mut at);
        let high = if class.get(at) == Some(&b'-') {
            at += 1;
            end(&mut at)
        } else {
            low
        };
        ranges.push((low, high));
    }
    (Piece::Class { negated, ranges }, at + 2)
}

/// Whether pieces make up a whole path. Remembers what failed, so that many stars cost no more than
/// their number times the length of the path.
fn fits(pieces: &[Piece], path: &[u8]) -> bool {
    let width = path.len() + 1;
    let mut failed = vec![false; (pieces.len() + 1) * width];
    fits_from(pieces, path, 0, &mut failed)
}

fn fits_from(pieces: &[Piece], path: &[u8], at: usize, failed: &mut [bool]) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return at == path.len() };
    let slot = pieces.len() * (path.len() + 1) + at;
    if failed[slot] {
        return false;
    }
    let (found, size) = character(&path[at..]);
    let is_end = at == path.len();
    let fits = match first {
        Piece::Literal(wanted) => {
            !is_end && found == *wanted && fits_from(rest, path, at + size, failed)
        }
        Piece::One => !is_end && path[at] != b'/' && fits_from(rest, path, at + size, failed),
        Piece::Class { negated, ranges } => {
            let hit = ranges.iter().any(|(low, high)| (*low..=*high).contains(&found));
            !is_end && hit != *negated && fits_from(rest, path, at + size, failed)
        }
        Piece::Many => {
            fits_from(rest, path, at, failed)
                || !is_end && path[at] != b'/' && fits_from(pieces, path, at + size, failed)
        }
        Piece::Rest => true,
        Piece::Folders => {
            let behind_slash = |end: &usize| path[*end - 1] == b'/';
            fits_from(rest, path, at, failed)
                || (at + 1..=path.len())
                    .filter(behind_slash)
                    .any(|end| fits_from(rest, path, end, failed))
        }
    };
    failed[slot] = !fits;
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(patterns: &[&str], path: &str) -> bool {
        Patterns::new(patterns).unwrap().matches_path(path)
    }

    #[test]
    fn an_ignore_file_is_read_line_by_line() {
        let text = "\u{feff}# comment\n  /a/b/ \n\n! c \n#d\n ./e/../f\n !/g\n/\n # kept\n**/\r\n";
        let expected =
            [(2, "a/b"), (4, "!c"), (6, "f"), (7, "!g"), (8, "/"), (9, "# kept"), (10, "**")];
        let found: Vec<(usize, String)> = lines(text).collect();
        let found: Vec<_> = found.iter().map(|(number, line)| (*number, line.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn patterns_match_as_mobys() {
        let cases: &[(&str, &str, bool)] = &[
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "dir/file", true),
            ("**file", "file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc?def", "abc/def", false),
            ("a\\*", "a*", true),
            ("a\\", "a", false),
            ("*/b", "a/b", true),
            ("*", "a/b", true),
            ("/a", "a", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", "dist/x", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "ab", false),
            ("docs/*.md", "docs/x.md", true),
        ];
        for (pattern, path, expected) in cases {
            if pattern.ends_with('\\') {
                assert!(Patterns::new([pattern]).is_err(), "{pattern}");
                continue;
            }
            assert_eq!(matched(&[pattern], path), *expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_wins_and_children_can_come_back() {
        assert!(!matched(&["*", "!keep"], "keep"));
        assert!(!matched(&["*", "!keep"], "keep/file"));
        assert!(matched(&["*", "!keep", "keep/secret"], "keep/secret"));
        assert!(!matched(&["dir", "!dir/file"], "dir/file"));
        assert!(matched(&["dir", "!dir/file"], "dir/other"));
        assert!(matched(&["!file", "file"], "file"));
        assert!(!matched(&["**/*.md", "!README.md"], "README.md"));
        assert!(matched(&["**/*.md", "!README.md"], "docs/README.md"));
    }

    #[test]
    fn a_folder_that_was_not_excluded_brings_nothing_back() {
        // Moby passes over a pattern that could not change the verdict on the folder, and so the
        // folder's children do not inherit it.
        assert!(matched(&["**/*.x", "!dir"], "dir/f.x"));
    }

    #[test]
    fn what_means_nothing_is_an_error() {
        for bad in ["[", "a[", "!", "[-", "a\\"] {
            assert!(Patterns::new([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = Patterns::of_file(".dockerignore", "# x\n\n*.o\n a[b \n[\n").unwrap_err();
        let expected = "cannot read .dockerignore:4: cannot use the pattern \"a[b\": it has a [";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!matched(&[&pattern], &"a".repeat(500)));
    }
}
