//! Versions of Go, and which of two is the newer.

use std::fmt;

/// A version such as `1.26`, `1.27rc1` or `1.26.4`. Older ones compare as smaller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    stage: Stage,
    /// As it was written, without `go`: a tag of the golang image.
    text: String,
}

/// How far a minor version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The language as such, older than whatever implements it.
    Language,
    Beta(u32),
    Candidate(u32),
    Patch(u32),
}

impl Version {
    /// Reads what follows `go` or `toolchain` in `go.mod`, or what `go version` and a `VERSION` file
    /// say. What somebody appended to it (`-custom`, ` X:loopvar`) does not count.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("go").unwrap_or(text);
        let text = text.split(['-', '+', ' ']).next().unwrap_or_default();
        let (major, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (minor, end) = rest.split_at(digits);
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        let stage = if let Some(number) = end.strip_prefix("beta") {
            Stage::Beta(number.parse().ok()?)
        } else if let Some(number) = end.strip_prefix("rc") {
            Stage::Candidate(number.parse().ok()?)
        } else if let Some(number) = end.strip_prefix('.') {
            Stage::Patch(number.parse().ok()?)
        } else if end.is_empty() {
            // Before 1.21 the first release of a minor version had no patch number.
            if (major, minor) < (1, 21) { Stage::Patch(0) } else { Stage::Language }
        } else {
            return None;
        };
        Some(Self { major, minor, stage, text: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn versions_are_ordered_as_the_go_command_orders_them() {
        let ordered = [
            "1",
            "1.9.7",
            "1.20rc1",
            "1.20",
            "1.20.3",
            "1.21",
            "1.21beta1",
            "1.21rc1",
            "1.21rc2",
            "1.21.0",
            "1.21.10",
            "1.22",
            "1.100.0",
            "2.0.0",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn what_is_appended_does_not_count() {
        for text in ["go1.26.4", "1.26.4", "go1.26.4-acme", "go1.26.4 X:loopvar", " 1.26.4\n"] {
            assert_eq!(version(text).to_string(), "1.26.4");
        }
        for bad in ["", "go", "default", "devel go1.27-abc", "1.x", "1.2.x", "1.2.3.4", "1.21gamma"]
        {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
