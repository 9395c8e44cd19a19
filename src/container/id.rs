//! Names of containers: random ids, and names that the user chooses.

use std::fmt;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Cannot as _, Error, ErrorKind, Result};

const ID_BYTES: usize = 32;
const SHORT_DIGITS: usize = 12;

/// The longest name; it becomes a host name's worth of text in tables.
const LONGEST_NAME: usize = 128;

/// What names a container for good: 64 hexadecimal digits, as docker's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Box<str>);

impl Id {
    /// Makes a new one.
    pub(super) fn random() -> Result<Self> {
        let mut bytes = [0; ID_BYTES];
        let mut filled = 0;
        while filled < ID_BYTES {
            filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
                .map_err(std::io::Error::from)
                .cannot(|| "get random bytes for a container's id")?;
        }
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The id that a container's folder is named after, if it is one.
    pub(super) fn of_folder(folder: &Path) -> Option<Self> {
        let name = folder.file_name()?.to_str()?;
        let right = name.len() == 2 * ID_BYTES && is_hex(name);
        right.then(|| Self(name.into()))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits that tables show.
    pub fn short(&self) -> &str {
        &self.0[..SHORT_DIGITS]
    }

    /// Whether `text` is the beginning of this id.
    pub(super) fn begins_with(&self, text: &str) -> bool {
        !text.is_empty() && self.0.starts_with(text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses a name that docker would not take either.
pub(super) fn check_name(name: &str) -> Result<()> {
    let wrong = |why: &str| {
        Err(Error::new(ErrorKind::Usage, format!("call a container \"{}\"", name.escape_debug()))
            .because(why)
            .hint("use letters, digits, \"_\", \".\" and \"-\", beginning with a letter or digit"))
    };
    let request = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    match name.as_bytes() {
        [] | [_] => wrong("a name has at least two characters"),
        [first, ..] if !first.is_ascii_alphanumeric() => wrong("it begins with something else"),
        bytes if !bytes.iter().all(|b| request(*b)) => wrong("it holds another character"),
        bytes if bytes.len() > LONGEST_NAME => wrong("it is longer than 128 characters"),
        _ => Ok(()),
    }
}

const QUALITIES: [&str; 32] = [
    "amber", "ample", "brisk", "calm", "clear", "crisp", "deft", "eager", "early", "fleet", "fond",
    "frank", "fresh", "gentle", "golden", "grand", "keen", "kind", "lucid", "merry", "mild",
    "nimble", "plain", "proud", "quick", "quiet", "ready", "sharp", "sleek", "steady", "sunny",
    "swift",
];
const THINGS: [&str; 32] = [
    "anchor", "barge", "basin", "bollard", "bridge", "buoy", "canal", "canoe", "cutter", "dinghy",
    "dock", "ferry", "galley", "harbor", "jetty", "keel", "ketch", "lagoon", "lantern", "lock",
    "mast", "mooring", "oar", "paddle", "palazzo", "pier", "quay", "rudder", "sail", "skiff",
    "tide", "wharf",
];

/// A name for a container that was given none; `taken` says which there are.
pub(super) fn suggest_name(id: &Id, taken: impl Fn(&str) -> bool) -> String {
    let byte = |at: usize| id.0.as_bytes().get(at..at + 2).map_or(0, hex_value);
    let name = format!("{}_{}", QUALITIES[byte(0) % 32], THINGS[byte(2) % 32]);
    let numbered = (2..).map(|number| format!("{name}{number}"));
    let mut candidates = std::iter::once(name.clone()).chain(numbered);
    candidates.find(|name| !taken(name)).expect("numbers do not end")
}

fn hex_value(digits: &[u8]) -> usize {
    let text = std::str::from_utf8(digits).unwrap_or("0");
    usize::from_str_radix(text, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_and_found_again_by_their_folder() {
        let (one, two) = (Id::random().unwrap(), Id::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 64);
        assert_eq!(Id::of_folder(&Path::new("/x").join(one.as_str())), Some(one.clone()));
        assert!(one.begins_with(one.short()) && !one.begins_with(""));
        for other in ["lock", ".removed-1", &"g".repeat(64), &"A".repeat(64)] {
            assert_eq!(Id::of_folder(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn names_are_what_docker_takes() {
        for good in ["my-go-app-container", "a1", "A.b_c"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", "_a", "a b", "a/b", "ä1", "a\n", &"a".repeat(129)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_suggested_name_is_a_good_one_that_is_free() {
        let id = Id::random().unwrap();
        let first = suggest_name(&id, |_| false);
        check_name(&first).unwrap();
        assert_eq!(suggest_name(&id, |name| name == first), format!("{first}2"));
    }
}
