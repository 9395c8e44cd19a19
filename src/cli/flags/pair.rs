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

/// The same for variables, whose names have a form.
pub fn set_variables(flag: &str, items: &[String]) -> Result<BTreeMap<String, String>> {
    let all = with_values(flag, items)?;
    check_names(flag, &all)?;
    Ok(all)
}

/// Reads lists of `FROM=TO`: places by those that they take the place of. Nothing of them is secret but
/// the users of addresses.
pub fn replacements(flag: &str, items: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match split(text) {
        Some((from, Some(to))) if !to.is_empty() => Ok((from.to_owned(), to.to_owned())),
        _ => {
            let shown = secret::addresses(text);
            Err(refuse(&format!("{flag} {}", shown.escape_debug()), "expected FROM=TO"))
        }
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
    let all: BTreeMap<_, _> = items.iter().map(pair).collect::<Result<_>>()?;
    all.keys().try_for_each(|name| check_name(flag, name))?;
    Ok(all)
}

/// Refuses names that no variable has; `flag` says where they stand.
pub fn check_names(flag: &str, all: &BTreeMap<String, String>) -> Result<()> {
    all.keys().try_for_each(|name| check_name(flag, name))
}

/// No program finds a variable whose name has blanks or ends of lines, and files of variables are torn by
/// them. What stands in the place of such a name may be anything, a value too: it is not shown.
fn check_name(flag: &str, name: &str) -> Result<()> {
    match name.chars().find(|letter| letter.is_whitespace() || letter.is_control()) {
        Some(odd) => Err(refuse(flag, format!("a variable's name has no {odd:?}"))),
        None => Ok(()),
    }
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

    #[test]
    fn names_of_variables_have_no_blanks_and_those_of_labels_may() {
        for text in ["A B=c", "A\n=c", " A=c", "A\u{1b}=c"] {
            let items = [text.to_owned()];
            let found = [
                set_variables("--env", &items).map(drop),
                variables("--env", &items, &BTreeMap::new()).map(drop),
            ];
            for error in found.map(Result::unwrap_err) {
                let error = error.to_string();
                assert!(
                    error.starts_with("cannot use --env: ") && !error.contains('\n'),
                    "{error}"
                );
                assert!(error.contains("a variable's name has no '"), "{error}");
            }
            assert!(labels("--label", &items).is_ok() && with_values("-", &items).is_ok());
        }
        assert!(set_variables("--env", &["A=b\nc".to_owned()]).is_ok());
    }

    #[test]
    fn a_replacement_that_is_none_is_refused_in_its_own_words() {
        for text in ["x", "=x", "x=", ""] {
            let error = replacements("--mirror", &[text.to_owned()]).unwrap_err().to_string();
            assert_eq!(error, format!("cannot use --mirror {text}: expected FROM=TO"));
        }
        assert_eq!(replacements("--mirror", &["a=b".to_owned()]).unwrap()["a"], "b");
    }
}
