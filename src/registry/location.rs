//! Where an answer sends the next request, and what may be sent there.

use reqwest::Url;

use super::failure::Outcome;
use super::host_name::authority;
use super::response::Response;
use crate::error::{Error, ErrorKind};

/// The address that an answer sends the next request of an upload to.
pub(super) fn location(answer: &Response) -> Outcome<Url> {
    let Some(text) = answer.header("location") else {
        let what = format!("use the answer to {}", answer.describe());
        return Err(Error::new(ErrorKind::Invalid, what).because("it has no Location").into());
    };
    resolve_location(answer.url(), text)
}

/// Where an answer redirects to.
pub(super) fn redirect(answer: &Response) -> Outcome<Option<Url>> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.header("location") else { return Ok(None) };
    resolve_location(answer.url(), location).map(Some)
}

/// Resolves a `Location` against the address that answered.
///
/// From https only https is gone to. An http address on the very host that answered over https is
/// the mistake of a registry behind a proxy; it is taken as https.
pub(super) fn resolve_location(base: &Url, location: &str) -> Outcome<Url> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::Invalid, format!("follow a redirect of {}", authority(base)))
            .because(why)
            .into()
    };
    let mut url = base.join(location).map_err(|_| refuse("its Location is no address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("its Location is no http or https address"));
    }
    if base.scheme() == "https" && url.scheme() == "http" {
        if url.host_str() != base.host_str() {
            return Err(refuse("it leads from https to http"));
        }
        let port = url.port().filter(|port| *port != 80).or(base.port());
        url.set_scheme("https").expect("http and https are alike");
        url.set_port(port).expect("http addresses have ports");
    }
    Ok(url)
}

/// Whether credentials for `from` may be sent to `to`.
pub(super) fn keeps_credentials(from: &Url, to: &Url) -> bool {
    if from.host_str() != to.host_str() {
        return false;
    }
    let same =
        from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let upgraded = (from.scheme(), to.scheme()) == ("http", "https")
        && (from.port_or_known_default(), to.port_or_known_default()) == (Some(80), Some(443));
    same || upgraded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn locations_resolve_against_the_answer_and_never_leave_tls() {
        for (base, location, expect) in [
            (
                "https://a.io/v2/x/uploads/",
                "/v2/x/uploads/1?s=a%2Fb",
                "https://a.io/v2/x/uploads/1?s=a%2Fb",
            ),
            ("https://a.io/v2/x/uploads/", "1?s=2", "https://a.io/v2/x/uploads/1?s=2"),
            ("https://a.io/v2/x/", "//b.io/y", "https://b.io/y"),
            ("http://a.io:5000/v2/", "https://b.io/y", "https://b.io/y"),
            ("https://a.io/v2/", "http://a.io/y?q", "https://a.io/y?q"),
            ("https://a.io:8443/v2/", "http://a.io/y", "https://a.io:8443/y"),
        ] {
            assert_eq!(resolve_location(&url(base), location).unwrap().as_str(), expect);
        }
        for (base, location) in [
            ("https://a.io/v2/", "http://b.io/y"),
            ("https://a.io/v2/", "null://b.io/y"),
            ("https://a.io/v2/", "file:///etc/passwd"),
            ("https://a.io/v2/", "https://[::g]/"),
        ] {
            assert!(resolve_location(&url(base), location).is_err(), "{location}");
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for (from, to, expect) in [
            ("https://a.io/v2/", "https://a.io/other", true),
            ("https://a.io/v2/", "https://a.io:443/other", true),
            ("http://a.io/v2/", "https://a.io/other", true),
            ("https://a.io/v2/", "https://b.io/", false),
            ("https://a.io/v2/", "https://a.io:8443/", false),
            ("https://a.io/v2/", "https://cdn.a.io/", false),
            ("http://a.io:5000/v2/", "https://a.io/", false),
            ("https://a.io/v2/", "http://a.io/", false),
        ] {
            assert_eq!(keeps_credentials(&url(from), &url(to)), expect, "{from} {to}");
        }
    }
}
