//! What is not shown: secrets, the parts of addresses that may be some, and values that came from the
//! command line or the environment.
//!
//! ```text
//! Secret      prints as …, whatever prints it
//! address     https://me:pw@host/a?sig=x#y   →  https://…@host/a?…#…
//! addresses   the same for each address in a text, which keeps what follows a # there
//! users       me:pw@host/a, with a scheme or without  →  …@host/a
//! pair        NAME=value                     →  NAME=…
//! mask        what a message quotes of values  →  …
//! ```
//! All messages, labels and views take it from here, so that there is one form.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in the place of what is not shown.
pub const HIDDEN: &str = "…";

/// A text, or bytes, that print as `…`, whatever prints them.
#[derive(PartialEq, Eq)]
pub struct Secret<T: ?Sized = str>(Box<T>);

impl<T: ?Sized> Secret<T> {
    /// Takes something out of sight.
    pub fn new(value: impl Into<Box<T>>) -> Self {
        Self(value.into())
    }

    /// What it is, for the one who must send it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for Secret<T>
where
    Box<T>: Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<T: ?Sized> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// For the socket between a sandbox's caller and helper alone.
impl Serialize for Secret<[u8]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Secret<[u8]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The decoder's own message would quote a byte of the secret.
        BASE64.decode(text).map(Self::new).map_err(|_| D::Error::custom("a secret is not base64"))
    }
}

/// An address as it may be shown: without its user, its query, and what follows a `#` unless that
/// names a commit of a repository.
pub fn address(text: &str) -> String {
    let mut hidden = Vec::new();
    match text.find("://") {
        Some(colon) => hide(text, colon + 3..text.len(), &mut hidden),
        None => hide_query(text, 0..text.len(), &mut hidden),
    }
    if let Some(hash) = text.find('#') {
        let path = text[..hash].split('?').next().unwrap_or_default();
        if path.trim_end_matches('/').strip_suffix(".git").is_none() {
            hidden.push(hash + 1..text.len());
        }
    }
    without(text, &hidden)
}

/// A text as it may be shown in which there may be addresses: each without its user and query.
pub fn addresses(text: &str) -> String {
    without(text, &hidden_parts(text))
}

/// A text without the users and passwords in it that stand before a host, also where no scheme says that
/// it is an address: `me:pw@host/image`. Every error and every message passes through this.
pub fn users(text: &str) -> Cow<'_, str> {
    let hidden = users_in(text);
    if hidden.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(without(text, &hidden)) }
}

fn users_in(text: &str) -> Vec<Range<usize>> {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.match_indices('@') {
        let behind = &text[at + 1..];
        let is_host = behind.starts_with(|c: char| c.is_alphanumeric() || c == '[');
        if !is_host || DIGESTS.iter().any(|algorithm| behind.starts_with(algorithm)) {
            continue;
        }
        let before = &text[..at];
        let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>/,;()".contains(c);
        let word = before.rsplit(ends).next().unwrap_or_default();
        let begin = at - word.len();
        let begin = match word.find(':') {
            // `docker.io=me:pw@host` gives a host another one.
            Some(colon) => word[..colon].rfind('=').map_or(begin, |equals| begin + equals + 1),
            None if before[..begin].ends_with("//") => begin,
            None => continue,
        };
        match hidden.last_mut() {
            Some(last) if last.end > begin => last.end = at,
            _ => hidden.push(begin..at),
        }
    }
    hidden
}

/// What follows the `@` of a name that is pinned.
const DIGESTS: [&str; 2] = ["sha256:", "sha512:"];

/// The parts of a text that [`addresses`] leaves out, in order.
pub fn hidden_parts(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut from = 0;
    while let Some(colon) = text[from..].find("://") {
        let begin = from + colon + 3;
        let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>".contains(c);
        let end = text[begin..].find(ends).map_or(text.len(), |length| begin + length);
        hide(text, begin..end, &mut hidden);
        from = end;
    }
    hidden
}

/// Hides parts of an address, of which all behind its scheme is given.
fn hide(text: &str, rest: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let behind = &text[rest.clone()];
    let authority = behind.find(['/', '?', '#']).unwrap_or(behind.len());
    let user = behind[..authority].rfind('@').or_else(|| {
        // A password in which a slash was not encoded: what looks like the port is no number.
        let port = behind[..authority].split_once(':').map_or("", |(_, port)| port);
        let is_odd = !behind.starts_with('[') && port.bytes().any(|b| !b.is_ascii_digit());
        behind.rfind('@').filter(|_| is_odd)
    });
    if let Some(user) = user.filter(|user| *user > 0) {
        hidden.push(rest.start..rest.start + user);
    }
    hide_query(text, rest.start + user.unwrap_or_default()..rest.end, hidden);
}

fn hide_query(text: &str, rest: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let end = text[rest.clone()].find('#').map_or(rest.end, |hash| rest.start + hash);
    if let Some(mark) = text[rest.start..end].find('?')
        && rest.start + mark + 1 < end
    {
        hidden.push(rest.start + mark + 1..end);
    }
}

fn without(text: &str, hidden: &[Range<usize>]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for part in hidden.iter().filter(|part| !part.is_empty()) {
        shown.push_str(&text[from..part.start]);
        shown.push_str(HIDDEN);
        from = part.end;
    }
    shown + &text[from..]
}

/// What may be shown of `NAME=value`: its name. What has none is not shown at all.
pub fn pair(text: &str) -> String {
    match text.split_once('=') {
        Some((name, _)) => format!("{}={HIDDEN}", name.escape_debug()),
        None => HIDDEN.to_owned(),
    }
}

/// Pieces of a value from this length on are hidden, too: messages quote paths that were cleaned,
/// names without their endings, and the like.
const PIECE: usize = 6;
/// Shorter values are hidden only where they stand alone: any word has their letters.
const SHORT: usize = 4;

/// A message without what it quotes of values.
pub fn mask<'a>(message: &str, values: impl IntoIterator<Item = &'a str>) -> String {
    let mut hidden = vec![false; message.len()];
    for value in values {
        mark(message, value, &mut hidden);
    }
    let mut shown = String::with_capacity(message.len());
    let mut was_hidden = false;
    for (at, c) in message.char_indices() {
        match (hidden[at], was_hidden) {
            (false, _) => shown.push(c),
            (true, false) => shown.push_str(HIDDEN),
            (true, true) => {}
        }
        was_hidden = hidden[at];
    }
    shown
}

/// Marks the bytes of a message that are a value, or pieces of it.
fn mark(message: &str, value: &str, hidden: &mut [bool]) {
    let (text, value) = (message.as_bytes(), value.trim().as_bytes());
    let least = value.len().min(PIECE);
    let Some(end) = text.len().checked_sub(least).filter(|_| least > 0) else { return };
    // Values may be long, and most of their pieces are nowhere in the message.
    let quoted: BTreeSet<_> = text.windows(least).map(<[u8]>::to_ascii_lowercase).collect();
    let pieces = value.windows(least).enumerate();
    let pieces = pieces.filter(|(_, piece)| quoted.contains(&piece.to_ascii_lowercase()));
    let pieces: Vec<usize> = pieces.map(|(from, _)| from).collect();
    let mut at = 0;
    while at <= end {
        let alike = |from: &usize| {
            let both = text[at..].iter().zip(&value[*from..]);
            both.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
        };
        let longest = pieces.iter().map(alike).filter(|length| *length >= least).max();
        let longest = longest.unwrap_or_default();
        let stands_alone = || {
            let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let before = at.checked_sub(1).and_then(|before| text.get(before));
            !word(before) && !word(text.get(at + longest))
        };
        if longest > 0 && (value.len() >= SHORT || stands_alone()) {
            hidden[at..at + longest].fill(true);
            at += longest;
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret: Secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "… … Some(…)");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn secret_bytes_cross_a_socket_whole() {
        let secret: Secret<[u8]> = Secret::new(*b"hunter2\0\xff");
        let sent = serde_json::to_string(&secret).unwrap();
        let received: Secret<[u8]> = serde_json::from_str(&sent).unwrap();
        assert_eq!(received.reveal(), secret.reveal());
        assert_eq!(format!("{secret:?}"), "…");
        let error = serde_json::from_str::<Secret<[u8]>>("\"!!\"").unwrap_err();
        assert!(!error.to_string().contains('!'));
    }

    #[test]
    fn whoever_stands_before_a_host_is_not_shown() {
        for (whole, shown) in [
            ("pull me:pw@host/x: no", "pull …@host/x: no"),
            ("use docker.io=me:pw@host:5000", "use docker.io=…@host:5000"),
            ("place \"https://me:pw@h/x\"", "place \"https://…@h/x\""),
            ("https://token@h/x", "https://…@h/x"),
            ("docker://me:p@ss@h/x", "docker://…@h/x"),
            ("git@me:pw@h:x", "…@h:x"),
            ("me:pw@[::1]/x and you:pw@h", "…@[::1]/x and …@h"),
            (
                "app:v1@sha256:0a and h:5000/app:v1@sha512:0b",
                "app:v1@sha256:0a and h:5000/app:v1@sha512:0b",
            ),
            ("git@github.com:me/x.git", "git@github.com:me/x.git"),
            ("example.com/m@v1.2.3: x", "example.com/m@v1.2.3: x"),
            ("me@example.com", "me@example.com"),
            ("https://…@host", "https://…@host"),
            ("a:b@ c", "a:b@ c"),
            ("é:ü@host", "…@host"),
        ] {
            assert_eq!(users(whole), shown, "{whole}");
        }
    }

    #[test]
    fn addresses_show_neither_user_nor_query() {
        for (whole, shown) in [
            ("https://example.com/a", "https://example.com/a"),
            ("https://example.com:8443/a@v1", "https://example.com:8443/a@v1"),
            ("https://me@example.com/a", "https://…@example.com/a"),
            ("https://me:pw@example.com/a?sig=x&b#y", "https://…@example.com/a?…#…"),
            ("https://me:p@w@example.com/a", "https://…@example.com/a"),
            ("https://me:p/w@example.com/a", "https://…@example.com/a"),
            ("https://me:p?w@example.com/a", "https://…@example.com/a"),
            ("https://[::1]:5000/a@b?c", "https://[::1]:5000/a@b?…"),
            ("https://example.com?token=a b\"c", "https://example.com?…"),
            ("https://example.com/?", "https://example.com/?"),
            ("https://me:pw@h/a.git#main:sub", "https://…@h/a.git#main:sub"),
            ("https://h/a.git?token=x#main", "https://h/a.git?…#main"),
            ("ssh://git@h/a.git", "ssh://…@h/a.git"),
            ("git@h:a/b.git#v1", "git@h:a/b.git#v1"),
            ("no address?token=x", "no address?…"),
            ("plain", "plain"),
        ] {
            assert_eq!(address(whole), shown);
        }
    }

    #[test]
    fn addresses_in_texts_are_found() {
        for (text, shown) in [
            ("ADD https://u:p@h/a?s=1 /b", "ADD https://…@h/a?… /b"),
            ("RUN curl 'https://h/?k=v' -o \"x\"", "RUN curl 'https://h/?…' -o \"x\""),
            ("https://$U:$T@h/x and http://v@w", "https://…@h/x and http://…@w"),
            (
                "unable to access 'https://u:p@h/a.git/': no",
                "unable to access 'https://…@h/a.git/': no",
            ),
            (
                "see https://docs.example/#a for what is right?",
                "see https://docs.example/#a for what is right?",
            ),
            ("a://", "a://"),
            ("COPY ü://ä@ö ü", "COPY ü://…@ö ü"),
        ] {
            assert_eq!(addresses(text), shown);
        }
    }

    #[test]
    fn pairs_show_their_names() {
        for (text, shown) in [("A=b=c", "A=…"), ("=b", "=…"), ("ghp_x", "…"), ("A\n=", "A\\n=…")]
        {
            assert_eq!(pair(text), shown);
        }
    }

    #[test]
    fn messages_lose_what_they_quote_of_values() {
        for (message, value, shown) in [
            ("cannot copy s3cret: no such file", "s3cret", "cannot copy …: no such file"),
            ("cannot copy /a/TOPSECRET", "topsecret", "cannot copy /a/…"),
            ("cannot copy dir/name", "./dir/name/../name", "cannot copy …"),
            ("no folder production here", "production/config", "no folder … here"),
            ("cannot copy app-1: exit code 11", "1", "cannot copy app-…: exit code 11"),
            ("cannot copy a", "a", "cannot copy …"),
            ("äöü token-ü", "token-ü", "äöü …"),
            ("short", "much longer than that", "short"),
            ("nothing", "", "nothing"),
            ("nothing", "  ", "nothing"),
        ] {
            assert_eq!(mask(message, [value]), shown, "{value}");
        }
        assert_eq!(mask("a-token b-other c", ["token", "other"]), "a-… b-… c");
    }
}
