//! Patterns of file names as Go's `filepath.Match` has them, and Go's way of cleaning paths.
//!
//! ```text
//! *        any characters but /
//! ?        one character but /
//! [a-z]    one character of a class, [^a-z] one that is not in it
//! \c       the character c
//! ```

/// Why a pattern means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;

/// Whether the whole of `name` matches `pattern`.
pub fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let (mut pattern, mut name) = (pattern, name);
    while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(left) = match_chunk(chunk, name)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        let later = if star { match_later(chunk, name, pattern.is_empty())? } else { None };
        if let Some(left) = later {
            name = left;
            continue;
        }
        // What is left must be a pattern all the same.
        while !pattern.is_empty() {
            let (_, chunk, rest) = next_chunk(pattern);
            match_chunk(chunk, b"")?;
            pattern = rest;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Whether a name stands for others: it has `*`, `?` or `[` that is not escaped.
pub fn has_wildcards(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// Splits off the stars at the begin and everything up to the next star.
fn next_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|b| **b == b'*').count();
    let pattern = &pattern[stars..];
    let (mut in_class, mut at) = (false, 0);
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    let (chunk, rest) = pattern.split_at(at.min(pattern.len()));
    (stars > 0, chunk, rest)
}

/// Tries a chunk behind a star: at every place that the star may reach.
fn match_later<'a>(
    chunk: &[u8],
    name: &'a [u8],
    is_last: bool,
) -> Result<Option<&'a [u8]>, BadPattern> {
    for skipped in 0..name.len() {
        if name[skipped] == b'/' {
            break;
        }
        if let Some(left) = match_chunk(chunk, &name[skipped + 1..])?
            && (!is_last || left.is_empty())
        {
            return Ok(Some(left));
        }
    }
    Ok(None)
}

/// Matches a chunk without stars against the begin of a name; returns what is left of the name.
/// After a mismatch the chunk is still read, to find what is wrong with it.
fn match_chunk<'a>(chunk: &[u8], name: &'a [u8]) -> Result<Option<&'a [u8]>, BadPattern> {
    let (mut chunk, mut name, mut failed) = (chunk, name, false);
    while let Some((&first, rest)) = chunk.split_first() {
        failed |= name.is_empty();
        match first {
            b'[' => {
                let (wanted, size) = character(name);
                name = &name[if failed { 0 } else { size }..];
                let (hit, rest) = match_class(rest, wanted)?;
                failed |= !hit;
                chunk = rest;
            }
            b'?' => {
                let size = if failed { 0 } else { character(name).1 };
                failed |= name.first() == Some(&b'/');
                name = &name[size..];
                chunk = rest;
            }
            _ => {
                let (literal, rest) = if first == b'\\' {
                    rest.split_first().map(|(b, rest)| (*b, rest)).ok_or(BadPattern)?
                } else {
                    (first, rest)
                };
                if !failed {
                    failed = name[0] != literal;
                    name = &name[1..];
                }
                chunk = rest;
            }
        }
    }
    Ok((!failed).then_some(name))
}

/// Reads a class up to its end; says whether the character is in it.
fn match_class(class: &[u8], wanted: u32) -> Result<(bool, &[u8]), BadPattern> {
    let (negated, mut class) = match class.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, class),
    };
    let (mut hit, mut ranges) = (false, 0);
    loop {
        if let Some(rest) = class.strip_prefix(b"]")
            && ranges > 0
        {
            return Ok((hit != negated, rest));
        }
        let (low, rest) = class_end(class)?;
        let (high, rest) = match rest.strip_prefix(b"-") {
            Some(rest) => class_end(rest)?,
            None => (low, rest),
        };
        hit |= (low..=high).contains(&wanted);
        ranges += 1;
        class = rest;
    }
}

/// One end of a range; something of the class must follow.
fn class_end(class: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    if matches!(class.first(), None | Some(b'-' | b']')) {
        return Err(BadPattern);
    }
    let class = class.strip_prefix(b"\\").unwrap_or(class);
    if class.is_empty() {
        return Err(BadPattern);
    }
    let (found, size) = character(class);
    let rest = &class[size..];
    if rest.is_empty() { Err(BadPattern) } else { Ok((found, rest)) }
}

/// The first character and its length; a byte that is no UTF-8 counts as one that is none.
pub fn character(bytes: &[u8]) -> (u32, usize) {
    let longest = bytes.len().min(4);
    let valid = (1..=longest).find_map(|size| std::str::from_utf8(&bytes[..size]).ok());
    match valid.and_then(|text| text.chars().next()) {
        Some(found) => (found.into(), found.len_utf8()),
        None => (u32::from(char::REPLACEMENT_CHARACTER), longest.min(1)),
    }
}

/// Shortens a path as Go's `path.Clean` does: no empty parts, no `.`, and `..` takes the part
/// before it away. What is empty becomes `.`; above the root there is nothing.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// A path taken as relative to a working folder. A trailing slash stays.
pub fn in_folder(working_folder: &str, path: &str) -> String {
    let whole =
        if path.starts_with('/') { path.to_owned() } else { format!("/{working_folder}/{path}") };
    clean(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let cases: &[(&str, &str, bool)] = &[
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("abc", "abd", false),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "x", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*/*", "a/b", true),
        ];
        for (pattern, name, expected) in cases {
            let found = matches(pattern.as_bytes(), name.as_bytes());
            assert_eq!(found, Ok(*expected), "{pattern} {name}");
        }
    }

    #[test]
    fn what_means_nothing_is_said_whatever_the_name() {
        for bad in ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "a\\", "*[", "[a-b-c]"]
        {
            for name in ["a", "zzzz", "ab"] {
                assert_eq!(matches(bad.as_bytes(), name.as_bytes()), Err(BadPattern), "{bad}");
            }
        }
    }

    #[test]
    fn wildcards_can_be_escaped() {
        for (name, expected) in [
            ("a", false),
            ("a*", true),
            ("a\\*", false),
            ("a\\\\*", true),
            ("[", true),
            ("?", true),
        ] {
            assert_eq!(has_wildcards(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("a//b/./c/", "a/b/c"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("/", "/"),
            ("a/..", "."),
            ("../../x/..", "../.."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
