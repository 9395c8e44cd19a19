//! Tokens: what they allow, and how they are asked for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Deserialize;
use url::form_urlencoded;

use super::Secret;
use super::identity::Login;
use super::payload::Payload;
use super::request::{Request, Target};
use super::scopes::Scopes;
use crate::error::{Error, ErrorKind, Result};

/// Every token lives at least this long, whatever its giver says; the specification says so.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// A token is not used any more when this much of its life, or less, is left.
const MARGIN: Duration = Duration::from_secs(10);

/// A token, ready to be sent.
#[derive(Clone)]
pub(super) struct Token {
    pub header: HeaderValue,
    born: Instant,
    life: Duration,
}

impl Token {
    /// A token that the user was given; whether it still lives, its giver knows.
    pub(super) fn given(token: &Secret) -> Result<Self> {
        Ok(Self { header: bearer(token.reveal())?, born: Instant::now(), life: Duration::MAX })
    }

    /// Whether the token will do for a request at `now` that needs it for about `needed`.
    pub(super) fn lasts(&self, now: Instant, needed: Duration) -> bool {
        // A token that never lives long enough is good while it is fresh.
        let margin = needed.max(MARGIN).min(self.life / 2);
        now.duration_since(self.born) + margin < self.life
    }
}

/// Makes a bearer header that is marked as sensitive.
pub(super) fn bearer(token: &str) -> Result<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

pub(super) fn sensitive(text: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Error::new(ErrorKind::Invalid, "use the credentials")
            .because("they have characters that no header may have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The request that trades a user's password, or nothing, for a token.
pub(super) fn get(realm: &Url, service: Option<&str>, scopes: &Scopes, login: &Login) -> Request {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Login::Password { user, .. } = login {
            query.append_pair("account", user);
        }
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes.texts() {
            query.append_pair("scope", &scope);
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    Request::new(Method::GET, Target::Realm(url))
}

/// The request that trades an identity token for a token.
pub(super) fn post(
    realm: &Url,
    service: Option<&str>,
    scopes: &Scopes,
    identity: &Secret,
) -> Request {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("client_id", "gondola");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    let scopes = scopes.texts();
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    form.append_pair("refresh_token", identity.reveal());
    Request::new(Method::POST, Target::Realm(realm.clone()))
        .header("content-type", "application/x-www-form-urlencoded")
        .payload(Payload::Bytes(Bytes::from(form.finish())))
}

/// Reads the answer of a token's giver.
pub(super) fn read(body: &[u8]) -> Result<Token> {
    #[derive(Deserialize)]
    struct Given {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
    }
    let fail = |why: &str| Error::new(ErrorKind::Invalid, "read the token").because(why);
    // The parser's message could quote the token.
    let given: Given =
        serde_json::from_slice(body).map_err(|_| fail("it is not the JSON expected"))?;
    let text =
        [given.token, given.access_token].into_iter().flatten().find(|text| !text.is_empty());
    let text = text.ok_or_else(|| fail("the answer has neither token nor access_token"))?;
    let life = given.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let life = life.unwrap_or_default().max(SHORTEST_LIFE);
    Ok(Token { header: bearer(&text)?, born: Instant::now(), life })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_given_up_before_they_end() {
        for (body, life) in [
            (r#"{"token":"a","expires_in":300}"#, 300),
            (r#"{"token":"","access_token":"a"}"#, 60),
            (r#"{"token":"a","expires_in":5}"#, 60),
            (r#"{"token":"a","expires_in":-5}"#, 60),
            (r#"{"token":"a","expires_in":300.5}"#, 300),
        ] {
            let token = read(body.as_bytes()).unwrap();
            assert_eq!(token.header.to_str().unwrap(), "Bearer a");
            let lasts = |age, needed| {
                let now = token.born + Duration::from_secs(age);
                token.lasts(now, Duration::from_secs(needed))
            };
            assert!(lasts(0, 0) && lasts(life - 11, 0) && !lasts(life - 9, 0), "{body}");
            assert!(lasts(life / 2 - 1, 30) && !lasts(life - 29, 30), "{body}");
            assert!(lasts(0, 100_000), "{body}");
        }
    }

    #[test]
    fn answers_that_hold_no_token_are_refused_without_quoting_them() {
        for body in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":5}"#,
            r#""hunter2""#,
            "{\"token\":\"hunter2\\n\"}",
        ] {
            let error = read(body.as_bytes()).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn requests_for_tokens_name_service_and_scopes() {
        let realm = Url::parse("https://a.io/token?x=1").unwrap();
        let scopes = Scopes::parse("repository:a/b:pull repository:c:pull");
        let login = Login::Password { user: "me".to_owned(), password: Secret::new("p") };
        let Target::Realm(url) = get(&realm, Some("a.io"), &scopes, &login).target else {
            panic!()
        };
        assert_eq!(
            url.as_str(),
            "https://a.io/token?x=1&account=me&service=a.io&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        );
        let Payload::Bytes(form) = post(&realm, None, &scopes, &Secret::new("i d")).payload else {
            panic!()
        };
        assert_eq!(
            form,
            "grant_type=refresh_token&client_id=gondola&scope=repository%3Aa%2Fb%3Apull+repository%3Ac%3Apull&refresh_token=i+d"
        );
    }
}
