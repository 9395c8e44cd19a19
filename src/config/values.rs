//! How single values are read: lists that one word can stand for, and texts that are checked at
//! once, so that an error names their place.
//!
//! A key without a value (`tags:`) counts as a key that is not there.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StringDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, SeqAccess, Visitor};

use crate::layer::Encoding;
use crate::oci::{PlatformSet, name_template};

/// A list, or one text that stands for a list of one.
struct OneOrMore<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneOrMoreVisitor(PhantomData))
    }
}

struct OneOrMoreVisitor<T>(PhantomData<T>);

fn one<'de, T: Deserialize<'de>, E: serde::de::Error>(text: String) -> Result<OneOrMore<T>, E> {
    let from: StringDeserializer<E> = text.into_deserializer();
    T::deserialize(from).map(|value| OneOrMore(vec![value]))
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        one(text.to_owned())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        one(number.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        one(number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element()? {
            values.push(value);
        }
        Ok(OneOrMore(values))
    }
}

fn list<'de, T, D>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<OneOrMore<T>>::deserialize(from)?.map(|list| list.0))
}

/// A text that `C` has looked at.
struct Checked<C>(String, PhantomData<C>);

/// What a text must be, and the form in which it is kept.
trait Check {
    /// Accepts the text, or says what is wrong with it.
    fn check(text: String) -> Result<String, String>;
}

impl<'de, C: Check> Deserialize<'de> for Checked<C> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = C::check(String::deserialize(from)?).map_err(D::Error::custom)?;
        Ok(Self(text, PhantomData))
    }
}

impl<C> PartialEq for Checked<C> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<C> Eq for Checked<C> {}

impl<C> PartialOrd for Checked<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C> Ord for Checked<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

fn checked<'de, C: Check, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Checked<C>>::deserialize(from)?.map(|text| text.0))
}

fn checked_list<'de, C, D>(from: D) -> Result<Option<Vec<String>>, D::Error>
where
    C: Check,
    D: Deserializer<'de>,
{
    Ok(list::<Checked<C>, D>(from)?.map(|texts| texts.into_iter().map(|text| text.0).collect()))
}

fn show(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

fn require(is_right: bool, text: String, expected: &str) -> Result<String, String> {
    if is_right { Ok(text) } else { Err(format!("found {}, expected {expected}", show(&text))) }
}

macro_rules! check {
    ($name:ident($text:ident) $body:block) => {
        struct $name;

        impl Check for $name {
            fn check($text: String) -> Result<String, String> $body
        }
    };
}

check!(Any(text) { Ok(text) });

check!(NotEmpty(text) { require(!text.trim().is_empty(), text, "a text that is not empty") });

check!(Absolute(text) {
    // Images for Windows have drives.
    let on_drive = matches!(text.as_bytes(), [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic());
    require(text.starts_with('/') || on_drive, text, "an absolute path such as /data")
});

check!(Tag(text) {
    name_template::check(&text).map(|()| text).map_err(|error| error.to_string())
});

check!(Port(text) {
    let (number, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    let port = number.parse::<u16>().ok().filter(|port| is_number && *port > 0);
    match port {
        Some(port) if matches!(protocol, "tcp" | "udp" | "sctp") => Ok(format!("{port}/{protocol}")),
        _ => require(false, text, "a port such as 8080, 8080/tcp or 53/udp"),
    }
});

check!(Signal(text) {
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b));
    require(is_word, text, "a signal such as SIGTERM or 15")
});

check!(Addition(text) {
    let mut parts = text.rsplit(':');
    let last = parts.next().unwrap_or_default();
    let is_mode = (3..=4).contains(&last.len()) && last.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let destination = if is_mode { parts.next().unwrap_or_default() } else { last };
    let has_source = parts.next().is_some_and(|source| !source.is_empty());
    require(has_source && destination.starts_with('/'), text, "SRC:/DST or SRC:/DST:MODE, such as config/app.toml:/etc/app.toml:0644")
});

check!(Name(text) {
    let is_right = !text.is_empty() && !text.contains(['=', '\0']);
    require(is_right, text, "a name, which is not empty and has no \"=\"")
});

/// Reads a port as `ports` does, for what the command line says; errs with what was found and expected.
pub fn read_port(text: String) -> Result<String, String> {
    Port::check(text)
}

/// Reads an absolute path as `volumes` does.
pub fn read_folder(text: String) -> Result<String, String> {
    Absolute::check(text)
}

/// A text, as it is.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked::<NotEmpty, D>(from)
}

/// Texts, as they are.
pub(super) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    checked_list::<Any, D>(from)
}

/// Texts that are not empty.
pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    checked_list::<NotEmpty, D>(from)
}

/// An absolute path.
pub(super) fn folder<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked::<Absolute, D>(from)
}

/// Absolute paths.
pub(super) fn folders<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    checked_list::<Absolute, D>(from)
}

/// Image names, in which `{name}` stands for the image's short name.
pub(super) fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    checked_list::<Tag, D>(from)
}

/// Ports, kept as `NUMBER/PROTOCOL`.
pub(super) fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    checked_list::<Port, D>(from)
}

/// A signal.
pub(super) fn signal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked::<Signal, D>(from)
}

/// `SRC:DST[:MODE]`.
pub(super) fn additions<'de, D>(from: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    checked_list::<Addition, D>(from)
}

/// Build tags: items, or several in one text between commas or spaces.
pub(super) fn build_tags<'de, D>(from: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    let split = |texts: Vec<String>| {
        let words = texts.iter().flat_map(|text| text.split([',', ' ']));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    Ok(texts(from)?.map(split))
}

/// `all`, or platforms as a list or between commas.
pub(super) fn platforms<'de, D>(from: D) -> Result<Option<PlatformSet>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Platforms;

    impl Check for Platforms {
        fn check(text: String) -> Result<String, String> {
            text.parse::<PlatformSet>().map(|_| text).map_err(|error| error.to_string())
        }
    }

    let Some(texts) = checked_list::<Platforms, D>(from)? else { return Ok(None) };
    if texts.is_empty() {
        return Err(D::Error::custom("the list of platforms is empty"));
    }
    let set = texts.join(",").parse::<PlatformSet>();
    set.map(Some).map_err(|_| D::Error::custom("\"all\" cannot stand among other platforms"))
}

/// How layers are compressed.
pub(super) fn compression<'de, D>(from: D) -> Result<Option<Encoding>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Parsed(Encoding);

    impl<'de> Deserialize<'de> for Parsed {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            text.parse().map(Self).map_err(D::Error::custom)
        }
    }

    Ok(Option::<Parsed>::deserialize(from)?.map(|parsed| parsed.0))
}

/// Names and values.
pub(super) fn pairs<'de, D>(from: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let pairs = Option::<BTreeMap<Checked<Name>, String>>::deserialize(from)?.unwrap_or_default();
    Ok(pairs.into_iter().map(|(name, value)| (name.0, value)).collect())
}

/// A section, which is empty when its key has no value.
pub(super) fn section<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_completed_and_checked() {
        for (text, expect) in [("8080", "8080/tcp"), ("53/udp", "53/udp"), ("1/sctp", "1/sctp")] {
            assert_eq!(read_port(text.to_owned()).unwrap(), expect);
        }
        for bad in ["", "0", "65536", "80/http", "a", "80/"] {
            assert!(read_port(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
