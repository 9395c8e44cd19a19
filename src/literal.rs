//! Sizes, durations, switches and signals as people write them: docker's and Go's.
//!
//! ```text
//! size            512   64m   1.5GB   2 GiB      powers of 1024, whichever way the unit is spelled
//! Go's duration   90s   1h30m   1.5h   250ms
//! duration        the same, and days: 7d, 1d12h
//! switch          true, 1, t, TRUE …
//! fields          type=bind,"source=/a,b"   a line of CSV
//! signal          SIGTERM, TERM, 15, SIGRTMIN+3
//! ```

mod csv;
mod signal;

use std::time::Duration;

pub use csv::fields;
pub use signal::{signal, signal_name};

/// The letters of units, each 1024 times the one before.
const SIZE_UNITS: [u8; 5] = *b"kmgtp";

/// Reads a size as docker does: bytes, or a number with a unit. As in docker `k`, `kb` and `KiB` are
/// all 1024.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let wrong = "expected a number of bytes, or one with k, m or g behind it, such as 512m or 10g";
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_bytes() {
        [] | [b'b'] => 0,
        [letter] | [letter, b'b'] | [letter, b'i', b'b'] => {
            let power = SIZE_UNITS.iter().position(|unit| unit == letter).ok_or(wrong)?;
            10 * (power + 1)
        }
        _ => return Err(wrong),
    };
    let bytes = scaled(number, 1 << shift).ok_or(wrong)?;
    u64::try_from(bytes).ok().filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or("it is too large")
}

/// Reads a duration as Go does, `1m30s`. None is negative.
pub fn go_duration(text: &str) -> Option<Duration> {
    nanoseconds(text, go_unit)
}

/// Reads a duration as Go does, and days: `90s`, `1h30m`, `7d`.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let unit = |name: &str| if name == "d" { Some(86_400_000_000_000) } else { go_unit(name) };
    nanoseconds(text, unit).ok_or("expected numbers with their units, such as 90s, 1h30m or 7d")
}

/// Reads a switch as Go does.
pub fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false"),
    }
}

/// The nanoseconds of one of Go's units.
fn go_unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn nanoseconds(text: &str, unit_of: impl Fn(&str) -> Option<u64>) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0_u128;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(end);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        total += scaled(number, unit_of(&after[..unit])?)?;
        rest = &after[unit..];
        if rest.is_empty() {
            // The longest that Go has.
            let total = u64::try_from(total).ok().filter(|total| i64::try_from(*total).is_ok());
            return total.map(Duration::from_nanos);
        }
    }
}

/// A number such as `2`, `1.5` or `.5`, so many times; what is less than one is cut off.
fn scaled(number: &str, factor: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: String = fraction.chars().take(15).collect();
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let part = if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? };
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    Some(u128::from(whole) * u128::from(factor) + part * u128::from(factor) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_docker() {
        for (text, expect) in [
            ("0", 0),
            ("1024", 1024),
            ("1b", 1),
            ("1B", 1),
            ("1k", 1 << 10),
            ("1kb", 1 << 10),
            ("1KB", 1 << 10),
            ("1KiB", 1 << 10),
            ("64m", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1g", 1 << 30),
            ("10GB", 10 << 30),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("1.1", 1),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(size(text), Ok(expect), "{text}");
        }
        for bad in
            ["", " ", "b", "GB", "-1", "1x", "1kbb", "1ib", "1kib ", "1.2.3", ".", "1  k", "1e3"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(size("8191p").map(|bytes| bytes >> 50), Ok(8191));
        assert_eq!(size("8192p"), Err("it is too large"));
        assert!(size("99999999999999999999g").is_err());
    }

    #[test]
    fn durations_are_those_of_go_and_days() {
        for (text, seconds) in [
            ("0", 0.0),
            ("90s", 90.0),
            ("30m", 1800.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("+250ms", 0.25),
            (".5s", 0.5),
        ] {
            let expect = Duration::from_secs_f64(seconds);
            assert_eq!(go_duration(text), Some(expect), "{text}");
            assert_eq!(duration(text), Ok(expect), "{text}");
        }
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        assert_eq!(duration("1d12h"), Ok(Duration::from_hours(36)));
        assert_eq!(go_duration("7d"), None);
        let bad =
            ["", "h", "12", "-1h", "1.h.s", "..s", "1 h", "1µ", "2 weeks", "99999999999999999d"];
        for bad in bad {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_are_those_of_go() {
        for (text, expect) in [("1", true), ("T", true), ("True", true), ("f", false), ("0", false)]
        {
            assert_eq!(boolean(text), Ok(expect), "{text}");
        }
        for bad in ["", "yes", "on", "tRUE", "2"] {
            assert!(boolean(bad).is_err(), "{bad}");
        }
    }
}
