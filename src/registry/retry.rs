//! When a request is repeated, and after how long.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// How often a failed request is repeated, and after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is sent at most.
    pub attempts: u32,
    /// The pause before the first repeat; it doubles with every further one.
    pub first_pause: Duration,
    /// The longest pause, also where the server asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_mins(1),
        }
    }
}

impl RetryPolicy {
    /// Whether there is an attempt after the one of this number, counted from 1, where the server
    /// asked to be left alone for some time.
    ///
    /// A server that asks for more than all pauses together is going to refuse every attempt.
    pub(super) fn allows(&self, attempt: u32, asked: Option<Duration>) -> bool {
        let longest = self.longest_pause.saturating_mul(self.attempts.saturating_sub(1));
        attempt < self.attempts && asked.is_none_or(|asked| asked <= longest)
    }

    /// The pause after the failed attempt number `attempt`, counted from 1.
    ///
    /// What the server asked for is kept to. Otherwise the pause is random, between half and all
    /// of the doubled one, so that clients that failed together do not come back together.
    pub(super) fn pause(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            return asked.min(self.longest_pause);
        }
        let doubled = self.first_pause.saturating_mul(1 << attempt.saturating_sub(1).min(10));
        let full = doubled.min(self.longest_pause);
        full / 2 + full.mul_f64(random_fraction() / 2.0)
    }
}

/// A number from 0 up to 1. `RandomState` is seeded by the operating system.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 40;
    f64::from(u32::try_from(bits).expect("24 bits are left")) / f64::from(1_u32 << 24)
}

/// Whether an answer with this status may be different the next time.
pub(super) fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// How long the server wants to be left alone.
///
/// A date is read against the answer's own `Date`: the local clock plays no part, so it need not
/// be right.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let when = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = headers.get(DATE)?.to_str().ok()?;
    let now = jiff::fmt::rfc2822::parse(now).ok()?.timestamp();
    Some(Duration::try_from(when.duration_since(now)).unwrap_or_default())
}

/// What a registry says of how much it gives in some time: Docker Hub's `ratelimit-limit` and
/// `ratelimit-remaining`, each `NUMBER;w=SECONDS`.
pub(super) fn allowance(headers: &HeaderMap) -> Option<String> {
    let read = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        let (number, window) = text.split_once(";w=").unwrap_or((text, ""));
        Some((number.trim().parse::<u64>().ok()?, window.trim().parse::<u64>().ok()))
    };
    let (left, window) = read("ratelimit-remaining")?;
    let (all, of_limit) = read("ratelimit-limit")?;
    let what = format!("{left} of {all} pulls are left");
    Some(match window.or(of_limit).and_then(|seconds| i64::try_from(seconds).ok()) {
        Some(seconds) => {
            let window = jiff::SignedDuration::from_secs(seconds);
            format!("{what}, counted over {window:#}")
        }
        None => what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_and_end_at_the_longest() {
        let policy = RetryPolicy {
            attempts: 9,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(1),
        };
        for (attempt, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (400, 1000)] {
            let pause = policy.pause(attempt, None).as_millis();
            assert!((full / 2..=full).contains(&pause), "{attempt}: {pause}");
        }
        assert_eq!(policy.pause(1, Some(Duration::from_millis(700))).as_millis(), 700);
        assert_eq!(policy.pause(1, Some(Duration::from_hours(1))).as_millis(), 1000);
    }

    #[test]
    fn a_server_that_wants_to_be_left_alone_for_longer_than_all_pauses_is_left() {
        let policy = RetryPolicy {
            attempts: 3,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_mins(1),
        };
        for (attempt, asked, expect) in [
            (1, None, true),
            (2, None, true),
            (3, None, false),
            (1, Some(0), true),
            (2, Some(120), true),
            (1, Some(121), false),
            (1, Some(u64::MAX), false),
        ] {
            let asked = asked.map(Duration::from_secs);
            assert_eq!(policy.allows(attempt, asked), expect, "{attempt} {asked:?}");
        }
    }

    #[test]
    fn what_is_left_of_an_allowance_is_read() {
        let read = |limit: &str, left: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", limit.parse().unwrap());
            headers.insert("ratelimit-remaining", left.parse().unwrap());
            allowance(&headers)
        };
        for (limit, left, expect) in [
            ("100;w=21600", "0;w=21600", Some("0 of 100 pulls are left, counted over 6h")),
            ("200", "3", Some("3 of 200 pulls are left")),
            ("100;w=soon", "1;w=later", Some("1 of 100 pulls are left")),
            ("many", "0", None),
        ] {
            assert_eq!(read(limit, left).as_deref(), expect, "{limit} {left}");
        }
        assert_eq!(allowance(&HeaderMap::new()), None);
    }

    #[test]
    fn jitter_differs_from_call_to_call() {
        let fractions: Vec<f64> = (0..20).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|f| (0.0..1.0).contains(f)), "{fractions:?}");
        assert!(fractions.iter().any(|f| (f - fractions[0]).abs() > 1e-6), "{fractions:?}");
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let headers = |after: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            retry_after(&headers).map(|pause| pause.as_secs())
        };
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(headers("17", None), Some(17));
        assert_eq!(headers("Sun, 06 Nov 1994 08:49:57 GMT", now), Some(20));
        assert_eq!(headers("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0));
        assert_eq!(headers("Sun, 06 Nov 1994 08:49:57 GMT", None), None);
        assert_eq!(headers("soon", now), None);
        assert_eq!(headers("-1", now), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
