//! Challenges: what a registry asks for in `WWW-Authenticate`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use reqwest::Url;

/// One challenge: a scheme and its parameters, their names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawChallenge {
    pub scheme: String,
    pub parameters: BTreeMap<String, String>,
}

/// How a registry wants to be shown who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token, which `realm` gives out.
    Bearer {
        realm: Url,
        service: Option<String>,
        /// What the token must allow for the request that was turned down.
        scope: Option<String>,
    },
}

/// Picks the demand to meet: a token where there is one to be had, else a password.
///
/// Schemes that are not known are skipped, and so are realms that no request can be sent to. The
/// error says why there is nothing left.
pub(super) fn choose<'a>(
    registry: &Url,
    headers: impl Iterator<Item = &'a str>,
) -> Result<Challenge, String> {
    let challenges: Vec<RawChallenge> = headers.flat_map(parse).collect();
    let mut refused = None;
    for challenge in challenges.iter().filter(|challenge| challenge.scheme == "bearer") {
        match bearer(registry, challenge) {
            Ok(found) => return Ok(found),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    if challenges.iter().any(|challenge| challenge.scheme == "basic") {
        return Ok(Challenge::Basic);
    }
    Err(refused.unwrap_or_else(|| {
        let schemes: Vec<&str> = challenges.iter().map(|found| found.scheme.as_str()).collect();
        if schemes.is_empty() {
            return "it does not say how to authenticate".to_owned();
        }
        format!("it asks for {}, which gondola does not speak", schemes.join(", "))
    }))
}

fn bearer(registry: &Url, challenge: &RawChallenge) -> Result<Challenge, String> {
    let text = challenge.parameters.get("realm").ok_or("its challenge names no realm")?;
    let realm = registry.join(text).map_err(|_| "the realm of its challenge is no address")?;
    check_realm(registry, &realm)?;
    Ok(Challenge::Bearer {
        realm,
        service: challenge.parameters.get("service").cloned(),
        scope: challenge.parameters.get("scope").cloned(),
    })
}

/// A realm gets the user's password. A registry must not be able to have it sent in the clear, nor
/// make this machine talk to addresses that only it can reach.
fn check_realm(registry: &Url, realm: &Url) -> Result<(), String> {
    let host = realm.host_str().unwrap_or_default();
    match (registry.scheme(), realm.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => {
            return Err(format!("it speaks https and sends us to {host} over http for a token"));
        }
        (_, other) => return Err(format!("the realm of its challenge has scheme {other}")),
    }
    let home = registry.host_str().unwrap_or_default();
    let allowed = match reach(host) {
        _ if host == home => true,
        Reach::Public => true,
        Reach::Private => reach(home) != Reach::Public,
        Reach::LinkLocal => false,
    };
    if allowed {
        return Ok(());
    }
    Err(format!("it sends us to the private address {host} for a token"))
}

#[derive(PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    LinkLocal,
}

fn reach(host: &str) -> Reach {
    if host == "localhost" || host.ends_with(".localhost") {
        return Reach::Private;
    }
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) if v4.is_link_local() => Reach::LinkLocal,
        Ok(IpAddr::V4(v4)) if v4.is_private() || v4.is_loopback() || v4.is_unspecified() => {
            Reach::Private
        }
        Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Reach::LinkLocal,
        Ok(IpAddr::V6(v6)) if v6.is_unique_local() || v6.is_loopback() || v6.is_unspecified() => {
            Reach::Private
        }
        _ => Reach::Public,
    }
}

/// Reads the challenges of one header; whatever has no meaning is skipped.
///
/// The grammar is RFC 9110's, where a comma separates challenges and parameters alike: a word that
/// an equals sign follows is a parameter, any other word is a scheme.
pub(super) fn parse(header: &str) -> Vec<RawChallenge> {
    let mut challenges: Vec<RawChallenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let Some(first) = rest.chars().next() else { return challenges };
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            // Nothing that a challenge has: go on behind it.
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, behind) = rest.split_at(end);
        let value = behind.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, behind) = read_value(value.trim_start_matches([' ', '\t']));
                challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = behind;
            }
            (Some(value), None) => rest = value,
            (None, _) => {
                let scheme = word.to_ascii_lowercase();
                challenges.push(RawChallenge { scheme, parameters: BTreeMap::new() });
                rest = behind;
            }
        }
    }
}

/// Reads a quoted text, or everything up to a comma or blank.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(header: &str) -> String {
        let challenges = parse(header).into_iter().map(|challenge| {
            let parameters: Vec<String> = challenge
                .parameters
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{}[{}]", challenge.scheme, parameters.join(";"))
        });
        challenges.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        for (header, expect) in [
            ("", ""),
            ("Basic", "basic[]"),
            (r#"Basic realm="x y""#, "basic[realm=x y]"),
            (
                r#"Bearer realm="https://a.io/token",service="a.io",scope="repository:a/b:pull,push""#,
                "bearer[realm=https://a.io/token;scope=repository:a/b:pull,push;service=a.io]",
            ),
            ("Bearer realm=https://a.io/token", "bearer[realm=https://a.io/token]"),
            (
                r#"Negotiate, Basic realm="x", Bearer realm="y""#,
                "negotiate[] basic[realm=x] bearer[realm=y]",
            ),
            ("NTLM TlRMTVNTUAAC==, Basic realm=x", "ntlm[tlrmtvntuaac==] basic[realm=x]"),
            (r#"bearer REALM = "y" , error="a \"b\"""#, r#"bearer[error=a "b";realm=y]"#),
            (r#"Bearer realm="unclosed"#, "bearer[realm=unclosed]"),
            (r#"Bearer realm="y",,scope="""#, "bearer[realm=y;scope=]"),
            ("=x", "x[]"),
            ("\u{e4} Basic", "basic[]"),
        ] {
            assert_eq!(show(header), expect, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_confuses_the_parser(header in r#"([a-zA-Z]{1,9}|[ ,="\\;]|[^a]){0,40}"#) {
            for challenge in parse(&header) {
                proptest::prop_assert!(challenge.scheme.chars().all(is_token));
            }
        }
    }

    #[test]
    fn a_token_is_preferred_and_unknown_schemes_are_skipped() {
        let registry = Url::parse("https://r.io/v2/").unwrap();
        let pick = |headers: &[&str]| choose(&registry, headers.iter().copied());
        let bearer = |realm: &str| {
            Ok(Challenge::Bearer { realm: Url::parse(realm).unwrap(), service: None, scope: None })
        };
        assert_eq!(
            pick(&["Basic realm=x", "Bearer realm=\"https://a.io/t\""]),
            bearer("https://a.io/t")
        );
        assert_eq!(pick(&["Negotiate, Basic realm=x"]), Ok(Challenge::Basic));
        assert_eq!(pick(&["Bearer realm=\"/token\""]), bearer("https://r.io/token"));
        assert_eq!(pick(&["Bearer realm=\"null://x\", Basic realm=x"]), Ok(Challenge::Basic));
        for (headers, part) in [
            (&[][..], "does not say"),
            (&["Negotiate"], "negotiate"),
            (&["Bearer service=x"], "names no realm"),
            (&["Bearer realm=\"null://x\""], "scheme null"),
            (&["Bearer realm=\"http://a.io/t\""], "over http"),
            (&["Bearer realm=\"https://10.0.0.1/t\""], "private"),
            (&["Bearer realm=\"https://169.254.169.254/t\""], "private"),
            (&["Bearer realm=\"https://[::ffff:127.0.0.1]/t\""], "private"),
            (&["Bearer realm=\"https://localhost/t\""], "private"),
        ] {
            let why = pick(headers).unwrap_err();
            assert!(why.contains(part), "{headers:?}: {why}");
        }
    }

    #[test]
    fn private_registries_may_have_private_realms() {
        for (registry, realm, expect) in [
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/t", true),
            ("http://localhost:5000/", "http://127.0.0.1:5001/t", true),
            ("https://10.0.0.1/", "https://10.0.0.2/t", true),
            ("https://10.0.0.1/", "https://169.254.169.254/t", false),
            ("http://127.0.0.1:5000/", "https://a.io/t", true),
        ] {
            let header = format!("Bearer realm=\"{realm}\"");
            let found = choose(&Url::parse(registry).unwrap(), [header.as_str()].into_iter());
            assert_eq!(found.is_ok(), expect, "{registry} {realm}");
        }
    }
}
