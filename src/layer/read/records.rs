//! The records of a PAX extended header.

use super::entry::ListedEntry;
use super::fields::Fault;

/// Splits `<length> <key>=<value>\n` records.
pub(super) fn parse(mut body: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    const FAULT: Fault = "a record of its extended header is broken";
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|b| *b == b' ').ok_or(FAULT)?;
        let length = decimal(&body[..space]).ok_or(FAULT)?;
        let length = usize::try_from(length).map_err(|_| FAULT)?;
        if length <= space + 1 || length > body.len() {
            return Err(FAULT);
        }
        let record = body[space + 1..length].strip_suffix(b"\n").ok_or(FAULT)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(FAULT)?;
        let key = std::str::from_utf8(&record[..equals]).map_err(|_| FAULT)?;
        if key.is_empty() {
            return Err(FAULT);
        }
        records.push((key.to_owned(), record[equals + 1..].to_vec()));
        body = &body[length..];
    }
    Ok(records)
}

/// What records say of an entry beside what [`ListedEntry`] holds.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) link: Option<Vec<u8>>,
    /// The number of bytes stored, where the header's field does not count.
    pub(super) stored: Option<u64>,
}

/// Puts records over the fields of `entry`. An empty value leaves the field as it is.
pub(super) fn apply(
    records: Vec<(String, Vec<u8>)>,
    entry: &mut ListedEntry,
) -> Result<Overrides, Fault> {
    const NUMBER: Fault = "a number in its extended header cannot be read";
    let mut overrides = Overrides::default();
    let mut sparse_size = None;
    for (key, value) in records {
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            entry.xattrs.insert(name.to_owned(), value);
            continue;
        }
        if value.is_empty() {
            continue;
        }
        let number = || decimal(&value).ok_or(NUMBER);
        match key.as_str() {
            "path" | "GNU.sparse.name" => entry.path = without_nul(value)?,
            "linkpath" => overrides.link = Some(without_nul(value)?),
            "size" => overrides.stored = Some(number()?),
            "uid" => entry.uid = number()?,
            "gid" => entry.gid = number()?,
            "mtime" => entry.mtime = seconds(&value).ok_or(NUMBER)?,
            "GNU.sparse.size" | "GNU.sparse.realsize" => sparse_size = Some(number()?),
            _ => {}
        }
    }
    if let Some(size) = overrides.stored {
        entry.size = size;
    }
    if let Some(size) = sparse_size {
        (entry.size, entry.sparse) = (size, true);
    }
    Ok(overrides)
}

fn without_nul(text: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if text.contains(&0) { Err("a path in its extended header has a NUL byte") } else { Ok(text) }
}

/// Digits alone: no sign, no blanks.
fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Errs on empty text, and on more than 64 bits.
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional sign and fraction, rounded down.
fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let has_fraction = fraction.iter().any(|b| *b != b'0');
    Some(if negative { -whole - i64::from(has_fraction) } else { whole })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_may_hold_any_byte() {
        let records = parse(b"6 a=b\n9 key=\n=\n5 c=\n").unwrap();
        let expected = [("a", &b"b"[..]), ("key", b"\n="), ("c", b"")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_vec()));
        assert_eq!(records, expected);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn broken_records_are_refused() {
        for body in [
            &b"6 a=b"[..],
            b"7 a=b\n",
            b"5 a=b\n",
            b"6 abc\n",
            b"5 =b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"2 a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b" a=b\n",
            b"a=b\n",
            b"6 \xff=b\n",
            b"99999999999999999999 a=b\n",
            b"999999999999999999999999999999 a=b\n",
            b"6 a=b\n\0",
        ] {
            assert!(parse(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.9", Some(12)),
            ("12.", Some(12)),
            ("-1", Some(-1)),
            ("-1.0", Some(-1)),
            ("-1.5", Some(-2)),
            ("-9223372036854775807.9", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            (".5", None),
            ("1e3", None),
            ("1.-5", None),
            ("1.2.3", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(
            body in prop::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9', Just(b' ')], 0..60)
        ) {
            drop(parse(&body));
            let _ = seconds(&body);
        }
    }
}
