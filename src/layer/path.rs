//! Paths inside a layer.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The longest path that Linux takes, without the closing NUL.
const LONGEST_PATH: usize = 4095;
/// The longest file name that Linux file systems take.
const LONGEST_NAME: usize = 255;
/// What the name of a whiteout begins with.
const WHITEOUT: &[u8] = b".wh.";
/// The name that hides everything that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path inside a layer: relative to the image's root, parts joined by `/`, any bytes but NUL.
///
/// No part is empty, `.` or `..`; the root itself has no path. The order of paths is their order in
/// the archive: a directory stands before what is in it, whiteouts stand before their siblings,
/// and all that is in a directory stands together.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Box<[u8]>);

impl TreePath {
    /// Checks a path that is relative already and in its shortest form.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self> {
        let path: Vec<u8> = path.into();
        match fault(&path) {
            None => Ok(Self(path.into_boxed_slice())),
            Some(fault) => Err(wrong(&path, fault)),
        }
    }

    /// Takes a path as people and archives write it: leading `/` and `./`, a trailing `/`, doubled
    /// slashes and `.` parts do not matter. `..` stays an error.
    pub fn normalized(path: impl AsRef<[u8]>) -> Result<Self> {
        let path = path.as_ref();
        let parts: Vec<&[u8]> =
            path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
        let joined = parts.join(&b'/');
        match fault(&joined) {
            None => Ok(Self(joined.into_boxed_slice())),
            Some(fault) => Err(wrong(path, fault)),
        }
    }

    /// Takes the bytes of a path that was checked before.
    pub(super) fn checked(path: &[u8]) -> Self {
        Self(path.into())
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as text, with what is not UTF-8 replaced.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// The last part.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().expect("a path has a part")
    }

    /// The directory that this is in; `None` directly below the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// The path of `name` in this directory; `name` may have several parts.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self> {
        Self::new([&self.0, name.as_ref()].join(&b'/'))
    }

    /// Whether this lies, at any depth, in the directory `ancestor`.
    pub fn is_below(&self, ancestor: &Self) -> bool {
        let ancestor = ancestor.as_bytes();
        self.0.len() > ancestor.len()
            && self.0.starts_with(ancestor)
            && self.0[ancestor.len()] == b'/'
    }

    /// The path whose presence in this layer removes `self` as lower layers have it.
    ///
    /// See "Whiteouts" in the [layer specification][spec].
    ///
    /// [spec]: https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
    pub fn whiteout(&self) -> Result<Self> {
        let name = [WHITEOUT, self.name()].concat();
        match self.parent() {
            Some(parent) => parent.join(name),
            None => Self::new(name),
        }
    }

    /// The path whose presence in this layer hides all that lower layers have in `directory`
    /// (`None` is the root).
    pub fn opaque(directory: Option<&Self>) -> Result<Self> {
        match directory {
            Some(directory) => directory.join(OPAQUE),
            None => Self::new(OPAQUE),
        }
    }

    /// What this path does to lower layers, if its name is a whiteout's.
    pub fn as_whiteout(&self) -> Option<Whiteout> {
        let name = self.name();
        if name == OPAQUE {
            return Some(Whiteout::Opaque(self.parent()));
        }
        let removed = name.strip_prefix(WHITEOUT)?;
        let removed = match self.parent() {
            Some(parent) => parent.join(removed),
            None => Self::new(removed),
        };
        removed.ok().map(Whiteout::Removed)
    }
}

/// What an entry with a whiteout's name does to lower layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// This path is gone.
    Removed(TreePath),
    /// All that lower layers have in this directory is gone; `None` is the root.
    Opaque(Option<TreePath>),
}

fn fault(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it names nothing below the root");
    }
    if path.len() > LONGEST_PATH {
        return Some("it is longer than 4095 bytes");
    }
    if path.contains(&0) {
        return Some("it has a NUL byte");
    }
    path.split(|b| *b == b'/').find_map(|part| match part {
        b"" => Some("it has an empty part"),
        b"." => Some("it has a part \".\""),
        b".." => Some("it has a part \"..\""),
        part if part.len() > LONGEST_NAME => Some("it has a part longer than 255 bytes"),
        _ => None,
    })
}

/// How much of a wrong path an error message shows.
const SHOWN: usize = 200;

fn wrong(path: &[u8], fault: &str) -> Error {
    let mut shown = path[..path.len().min(SHOWN)].escape_ascii().to_string();
    if path.len() > SHOWN {
        shown.push('…');
    }
    Error::new(ErrorKind::Invalid, format!("use \"{shown}\" as a path in a layer")).because(fault)
}

/// The order of two paths, given by their bytes.
pub(super) fn order(one: &[u8], other: &[u8]) -> Ordering {
    let same = common_start(one, other);
    // The first part that differs begins behind the last slash that both have.
    let start = one[..same].iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let whiteouts = other[start..].starts_with(WHITEOUT).cmp(&one[start..].starts_with(WHITEOUT));
    // A slash ends a part, so it sorts below every byte that can follow instead.
    let rank = |path: &[u8]| path.get(same).map(|b| if *b == b'/' { 0 } else { *b });
    whiteouts.then_with(|| rank(one).cmp(&rank(other)))
}

/// How many bytes two paths begin with that are the same. Paths that are compared often have whole
/// folders in common.
fn common_start(one: &[u8], other: &[u8]) -> usize {
    const WORD: usize = 8;
    let (words, others) = (one.as_chunks::<WORD>().0, other.as_chunks::<WORD>().0);
    let mut same = 0;
    while same < words.len().min(others.len()) && words[same] == others[same] {
        same += 1;
    }
    same *= WORD;
    while same < one.len().min(other.len()) && one[same] == other[same] {
        same += 1;
    }
    same
}

/// The bytes of the directory that a path is in; empty directly below the root.
pub(super) fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(&[], |slash| &path[..slash])
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        order(&self.0, &other.0)
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for TreePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_str_lossy().escape_debug())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    #[test]
    fn paths_are_checked_at_construction() {
        let long_part = "x".repeat(256);
        let long_path = "x/".repeat(2048) + "x";
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "a/.", "./a", "..", "a/../b", "a\0", &long_part,
            &long_path,
        ] {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "...", "a/..b", "a b\n", "käse", &"x".repeat(255)] {
            assert_eq!(path(good).as_bytes(), good.as_bytes());
        }
        assert_eq!(TreePath::new(&b"a/\xff"[..]).unwrap().as_bytes(), b"a/\xff");
    }

    #[test]
    fn an_error_quotes_the_path_and_says_what_is_wrong() {
        let error = TreePath::normalized("/a/../\x1b[1m").unwrap_err().to_string();
        let expected = "cannot use \"/a/../\\x1b[1m\" as a path in a layer: it has a part \"..\"";
        assert_eq!(error, expected);
    }

    #[test]
    fn normalizing_drops_what_does_not_matter() {
        for (found, expected) in
            [("/a", "a"), ("./a/./b/", "a/b"), ("//a///b", "a/b"), ("a", "a"), (".a", ".a")]
        {
            assert_eq!(TreePath::normalized(found).unwrap(), path(expected), "{found}");
        }
        for bad in ["", "/", "./", ".", "../a", "a/..", "a/../../b"] {
            assert!(TreePath::normalized(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_comes_before_its_content_which_stays_together() {
        let sorted = [
            ".wh.z",
            "a",
            "a/.wh..wh..opq",
            "a/.wh.b",
            "a/!",
            "a/b",
            "a/b/.wh.a",
            "a/b/c",
            "a/b-c",
            "a/b.c",
            "a-b",
            "a.b",
            "b",
        ];
        let mut paths: Vec<TreePath> = sorted.iter().rev().map(|text| path(text)).collect();
        paths.sort();
        assert_eq!(paths, sorted.map(path));
    }

    #[test]
    fn whiteouts_round_trip() {
        for text in ["a", "a/b", "a/.wh.b"] {
            let whiteout = path(text).whiteout().unwrap();
            assert_eq!(whiteout.as_whiteout(), Some(Whiteout::Removed(path(text))));
        }
        let opaque = TreePath::opaque(Some(&path("a/b"))).unwrap();
        assert_eq!(opaque, path("a/b/.wh..wh..opq"));
        assert_eq!(opaque.as_whiteout(), Some(Whiteout::Opaque(Some(path("a/b")))));
        let root = TreePath::opaque(None).unwrap();
        assert_eq!(root.as_whiteout(), Some(Whiteout::Opaque(None)));
        for ordinary in ["a", "a.wh.b", ".wh.a/b", ".wh.", ".wh..", ".wh..."] {
            let removes = path(ordinary).as_whiteout();
            assert!(removes.is_none(), "{ordinary}: {removes:?}");
        }
    }

    fn parts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[ab!-]{1,3}|\\.wh\\.[ab]", 1..4)
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_parts_with_whiteouts_first(a in parts(), b in parts()) {
            let key = |parts: &[String]| -> Vec<(bool, String)> {
                parts.iter().map(|part| (!part.starts_with(".wh."), part.clone())).collect()
            };
            let order = path(&a.join("/")).cmp(&path(&b.join("/")));
            prop_assert_eq!(order, key(&a).cmp(&key(&b)));
        }
    }
}
