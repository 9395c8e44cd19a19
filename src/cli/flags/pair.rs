//! `NAME=VALUE`, and what a `NAME` alone means.

use std::collections::BTreeMap;

use super::refuse;
use crate::error::Result;
use crate::secret;

/// Reads lists in which every name has a value. The last of a name wins.
pub fn with_values(flag: &str, items: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match split(text) {
        Some((name, Some(value))) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(refuse(&display(flag, text), "expected NAME=VALUE")),
    };
    items.iter().map(pair).collect()
}

/// Reads lists of labels: one without a value is a word alone.
pub fn labels(flag: &str, items: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match split(text) {
        Some((name, value)) => Ok((name.to_owned(), value.unwrap_or_default().to_owned())),
        None => Err(refuse(&display(flag, text), "expected NAME or NAME=VALUE")),
    };
    items.iter().map(pair).collect()
}

/// Reads lists of variables: a name alone passes the caller's value on, if there is one.
pub fn variables(
    flag: &str,
    items: &[String],
    caller: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Option<String>>> {
    let pair = |text: &String| match split(text) {
        Some((name, Some(value))) => Ok((name.to_owned(), Some(value.to_owned()))),
        Some((name, None)) => Ok((name.to_owned(), caller.get(name).cloned())),
        None => Err(refuse(&display(flag, text), "expected NAME or NAME=VALUE")),
    };
    items.iter().map(pair).collect()
}

/// Splits at the first equals sign. A name is never empty.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    (!name.is_empty()).then_some((name, value))
}

/// Values are not shown.
fn display(flag: &str, text: &str) -> String {
    format!("{flag} {}", secret::pair(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// What a text gives `A` in each of the three, or that it is refused.
    fn read(text: &str) -> [String; 3] {
        let items = [text.to_owned()];
        let caller = BTreeMap::from([("A".to_owned(), "caller".to_owned())]);
        let value = |found: Result<BTreeMap<String, String>>| match found {
            Ok(found) => found["A"].clone(),
            Err(_) => "refused".to_owned(),
        };
        let variables = variables("--env", &items, &caller);
        let set = |found: BTreeMap<String, Option<String>>| {
            found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
        };
        [
            value(with_values("--env", &items)),
            value(labels("--label", &items)),
            value(variables.map(set)),
        ]
    }

    #[test]
    fn a_name_without_a_value_is_refused_empty_or_the_caller_s() {
        let cases = [
            ("A=b=c", ["b=c", "b=c", "b=c"]),
            ("A=", ["", "", ""]),
            ("A", ["refused", "", "caller"]),
            ("=b", ["refused"; 3]),
            ("", ["refused"; 3]),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
        let unset = variables("--env", &["B".to_owned()], &BTreeMap::new()).unwrap();
        assert_eq!(unset["B"], None);
        let twice = ["A=1", "A=2"].map(str::to_owned);
        assert_eq!(with_values("--env", &twice).unwrap()["A"], "2");
    }

    #[test]
    fn an_error_names_the_flag_and_shows_no_value() {
        let error = with_values("--env", &["=hunter2".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "cannot use --env =…: expected NAME=VALUE");
    }
}
