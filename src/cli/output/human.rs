//! Sizes, times and names for people: the one place that decides how they look.

use std::borrow::Cow;
use std::time::Duration;

/// A size in decimal units, as registries count: `512 B`, `1.2 kB`, `40.1 MB`, `123 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut scale, mut unit) = (1_u128, 0);
    let count = u128::from(count);
    // A size that would round to 1000 of a unit is 1.0 of the next one.
    while unit + 1 < UNITS.len() && count * 2 >= scale * 1999 {
        scale *= 1000;
        unit += 1;
    }
    let tenths = (count * 10 + scale / 2) / scale;
    let name = UNITS[unit];
    if unit == 0 {
        format!("{count} {name}")
    } else if tenths < 1000 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", (count + scale / 2) / scale)
    }
}

/// A length of time: `8ms`, `1.2s`, `1m05s`, `2h03m`.
pub fn duration(time: Duration) -> String {
    let millis = (time.as_micros() + 500) / 1000;
    let tenths = (millis + 50) / 100;
    let seconds = (millis + 500) / 1000;
    if millis == 0 && !time.is_zero() {
        "<1ms".to_owned()
    } else if millis < 1000 {
        format!("{millis}ms")
    } else if tenths < 600 {
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else if seconds < 3600 {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    } else {
        let minutes = (seconds + 30) / 60;
        format!("{}h{:02}m", minutes / 60, minutes % 60)
    }
}

/// A length of time in one unit, as docker's tables have it: `5 seconds`, `About an hour`, `3 weeks`.
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if hours < 1 => format!("{minutes} minutes"),
        _ if hours < 2 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// Bytes per second, `30.8 MB/s`; nothing for times too short to divide by.
pub fn rate(count: u64, time: Duration) -> Option<String> {
    let millis = u64::try_from(time.as_millis()).ok().filter(|millis| *millis > 0)?;
    let per_second = u128::from(count) * 1000 / u128::from(millis);
    (count > 0).then(|| format!("{}/s", bytes(u64::try_from(per_second).unwrap_or(u64::MAX))))
}

/// Rows as columns, two spaces apart, without trailing white space.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text from outside as one line that cannot steer a terminal.
pub fn line(text: &str) -> Cow<'_, str> {
    replace(text, steers)
}

/// Text from outside as lines that cannot steer a terminal: line breaks and tabs stay.
pub fn block(text: &str) -> Cow<'_, str> {
    replace(text.trim_end_matches(['\n', '\r']), |c| steers(c) && !matches!(c, '\n' | '\t'))
}

fn replace(text: &str, unwanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&unwanted) {
        return Cow::Borrowed(text);
    }
    let visible = |c| if unwanted(c) { char::REPLACEMENT_CHARACTER } else { c };
    Cow::Owned(text.replace("\r\n", "\n").chars().map(visible).collect())
}

/// Whether a character can move the cursor, change colours or reverse the reading order.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_names_one_unit() {
        for (seconds, expect) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3700, "About an hour"),
            (7200, "2 hours"),
            (200_000, "2 days"),
            (1_300_000, "2 weeks"),
            (6_000_000, "2 months"),
            (70_000_000, "2 years"),
        ] {
            assert_eq!(about(Duration::from_secs(seconds)), expect);
        }
    }

    #[test]
    fn sizes_have_three_digits_at_most_and_never_a_thousand_of_a_unit() {
        for (count, expect) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1250, "1.3 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (40_123_456, "40.1 MB"),
            (254_000_000, "254 MB"),
            (1_000_000_000, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), expect, "{count}");
        }
    }

    #[test]
    fn times_never_show_sixty_of_a_unit() {
        for (micros, expect) in [
            (0, "0ms"),
            (400, "<1ms"),
            (8_000, "8ms"),
            (999_400, "999ms"),
            (999_600, "1.0s"),
            (1_240_000, "1.2s"),
            (59_949_000, "59.9s"),
            (59_960_000, "1m00s"),
            (65_000_000, "1m05s"),
            (3_599_600_000, "1h00m"),
            (7_380_000_000, "2h03m"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), expect, "{micros}");
        }
    }

    #[test]
    fn rates_need_bytes_and_time() {
        assert_eq!(rate(30_800_000, Duration::from_secs(1)).as_deref(), Some("30.8 MB/s"));
        assert_eq!(rate(1, Duration::from_micros(10)), None);
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(rate(u64::MAX, Duration::from_millis(1)).as_deref(), Some("18.4 EB/s"));
    }

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
        assert_eq!(block("a\r\n\tb\u{7}\n"), "a\n\tb\u{fffd}");
        assert!(matches!(line("./cmd/app ünï"), Cow::Borrowed(_)));
    }
}
