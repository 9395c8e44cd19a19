//! Patterns of `//go:embed`, one path element at a time.

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What one place of a pattern accepts.
enum Part {
    /// Any number of characters.
    Star,
    /// One character within these ranges, or outside of them.
    Class { ranges: Vec<(char, char)>, negated: bool },
}

/// Whether a name matches one element of a pattern, by the rules of Go's `path.Match`.
///
/// A malformed pattern matches everything: it must not hide a file.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    parse(pattern).is_none_or(|parts| match_parts(&parts, &name))
}

fn match_parts(parts: &[Part], name: &[char]) -> bool {
    let (mut parts, mut name) = (parts, name);
    // Where to go on if what follows the last star does not match: one character further.
    let mut retry: Option<(&[Part], &[char])> = None;
    loop {
        match (parts, name) {
            ([], []) => return true,
            ([Part::Star, rest @ ..], _) => {
                retry = Some((rest, name));
                parts = rest;
            }
            ([part, rest @ ..], [first, after @ ..]) if part.accepts(*first) => {
                (parts, name) = (rest, after);
            }
            _ => match retry {
                Some((after_star, [_, from @ ..])) => {
                    retry = Some((after_star, from));
                    (parts, name) = (after_star, from);
                }
                _ => return false,
            },
        }
    }
}

impl Part {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Star => true,
            Self::Class { ranges, negated } => {
                let within = |&(low, high): &(char, char)| low <= character && character <= high;
                ranges.iter().any(within) != *negated
            }
        }
    }
}

/// Takes a pattern apart; none if it is malformed.
fn parse(pattern: &str) -> Option<Vec<Part>> {
    let mut characters = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(character) = characters.next() {
        let mut negated = false;
        let ranges = match character {
            '*' => {
                parts.push(Part::Star);
                continue;
            }
            '?' => vec![(char::MIN, char::MAX)],
            '[' => {
                negated = characters.next_if_eq(&'^').is_some();
                parse_ranges(&mut characters)?
            }
            '\\' => vec![single(characters.next()?)],
            literal => vec![single(literal)],
        };
        parts.push(Part::Class { ranges, negated });
    }
    Some(parts)
}

fn single(character: char) -> (char, char) {
    (character, character)
}

/// Reads the ranges of a class up to its `]`; there is at least one.
fn parse_ranges(characters: &mut Characters<'_>) -> Option<Vec<(char, char)>> {
    let mut ranges = Vec::new();
    loop {
        let first = characters.next()?;
        if first == ']' && !ranges.is_empty() {
            return Some(ranges);
        }
        let low = bound(first, characters)?;
        let high = match characters.next_if_eq(&'-') {
            Some(_) => {
                let last = characters.next()?;
                bound(last, characters)?
            }
            None => low,
        };
        ranges.push((low, high));
    }
}

/// An end of a range that begins with `first`.
fn bound(first: char, rest: &mut Characters<'_>) -> Option<char> {
    match first {
        '\\' => rest.next(),
        '-' | ']' => None,
        literal => Some(literal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_match_as_in_go() {
        for (pattern, name, expect) in [
            ("abc", "abc", true),
            ("abc", "abd", false),
            ("*", "", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*.html", "index.html", true),
            ("*.html", "index.htm", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expect, "{pattern} on {name}");
        }
        for malformed in ["[", "[]", "[a", "[-x]", "a\\"] {
            assert!(matches(malformed, "a"), "{malformed}");
        }
    }
}
