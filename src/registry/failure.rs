//! Why a request gave nothing, before the action that it belonged to is known.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::host_name::is_loopback_host;
use super::retry;
use crate::error::{Error, ErrorKind};
use crate::oci::Repository;
use crate::secret;

const LONGEST_MESSAGE: usize = 300;
/// A server that wants to be left alone for this long is quoted.
const WORTH_TELLING: Duration = Duration::from_secs(10);

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry answered, and said no.
    Refused(Box<RegistryError>),
    /// There was no answer, or it broke off.
    Network(Box<NetworkError>),
    /// Anything else, complete already.
    Told(Error),
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct RegistryError {
    pub status: StatusCode,
    /// What the answer's body says.
    pub problems: Vec<Problem>,
    /// Method and path, without the query.
    pub request: String,
    pub host: String,
    /// The registry whose name was asked for, where this one answered in its place.
    pub in_place_of: Option<String>,
    pub retry_after: Option<Duration>,
    /// What the user should know besides, such as a credential helper that is missing.
    pub note: Option<String>,
    /// What the registry says of how much it gives in some time, where it counts that.
    pub allowance: Option<String>,
}

/// One entry of a registry's list of errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

/// A connection that could not be made, or that broke.
#[derive(Debug)]
pub(super) struct NetworkError {
    pub host: String,
    pub request: String,
    pub cause: Cause,
}

/// What went wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No server listens at the address.
    ConnectionRefused,
    /// The name has no address.
    UnknownName,
    /// No connection, or no sign of life, within the time allowed.
    TimedOut,
    /// The certificate is not signed by an issuer that is trusted.
    UnknownIssuer,
    /// The registry wants a certificate of ours, and took none that it was shown, if any.
    OurCertificate(Refused),
    /// TLS failed in another way.
    Tls(String),
    /// No connection is opened, as was asked for.
    Offline,
    /// The proxy on the way wants to know who asks. It is named as messages do that.
    ProxyDenied(String),
    /// The proxy on the way answered that it cannot reach the host, or nothing that makes sense.
    ProxyRefused,
    /// No connection came about by way of this proxy, which is named as messages do that.
    ByProxy(String, Box<Cause>),
    /// No connection for another reason.
    Unreachable(String),
    /// The connection was there and broke, or what came over it was not HTTP.
    Broken(String),
}

pub(super) type Outcome<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl Failure {
    /// The status, where there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status.as_u16()),
            _ => None,
        }
    }

    /// Whether the same request may do better the next time.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => retry::is_temporary(refusal.status),
            Self::Network(breakdown) => breakdown.cause.is_temporary(&breakdown.host),
            Self::Told(_) => false,
        }
    }

    /// The same of a place that was asked in the place of another.
    pub(super) fn asked_for(mut self, wanted: &Repository, asked: &Repository) -> Self {
        if let Self::Refused(refusal) = &mut self
            && wanted != asked
        {
            refusal.in_place_of = Some(wanted.registry().to_owned());
        }
        self
    }

    /// Whether a place said no that was asked in the place of another.
    pub(super) fn is_mirrors(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.in_place_of.is_some())
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Makes the error: "cannot `action`: …".
    pub(super) fn into_error(self, action: impl Into<String>) -> Error {
        match self {
            Self::Refused(refusal) => refusal.error(action.into()),
            Self::Network(breakdown) => breakdown.error(action.into()),
            Self::Told(error) => Error::new(error.kind(), action).caused_by(error),
        }
    }
}

impl RegistryError {
    /// Whether the list of errors has this code.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.problems.iter().any(|problem| problem.code.eq_ignore_ascii_case(code))
    }

    /// Whether the answer says that a token or password is too old.
    pub(super) fn says_expired(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 403)
            && self.problems.iter().any(|problem| {
                let text = format!("{} {}", problem.code, problem.message).to_ascii_lowercase();
                text.contains("expired")
            })
    }

    fn error(&self, action: String) -> Error {
        let kind = match self.status.as_u16() {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            408 | 429 | 499 | 500..=599 => ErrorKind::Network,
            _ => ErrorKind::Invalid,
        };
        let who = match &self.in_place_of {
            Some(registry) => format!("{}, the mirror of {registry},", self.host),
            None => "the registry".to_owned(),
        };
        let mut said = format!("{who} answered {}", self.status.as_u16());
        for problem in self.problems.iter().take(3) {
            for part in [problem.code.clone(), format!("({})", problem.message)] {
                if !matches!(part.as_str(), "" | "()") {
                    said.push(' ');
                    said.push_str(&part);
                }
            }
        }
        said = format!("{said} to {}", self.request);
        if let Some(allowance) = &self.allowance {
            said = format!("{said}; {allowance}");
        }
        let error = Error::new(kind, action).because(said);
        match self.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn hint(&self) -> Option<String> {
        if let Some(note) = &self.note {
            return Some(note.clone());
        }
        match self.status.as_u16() {
            401 | 403 => Some(format!("gondola login {}", self.host)),
            404 if self.has_code("NAME_UNKNOWN") => {
                Some(format!("create the repository first, or: gondola login {}", self.host))
            }
            413 => {
                Some("the registry or a proxy before it limits the size of a request".to_owned())
            }
            429 | 503
                if let Some(asked) = self.retry_after.filter(|asked| *asked >= WORTH_TELLING) =>
            {
                let asked =
                    jiff::SignedDuration::try_from(asked).unwrap_or(jiff::SignedDuration::MAX);
                Some(format!("try again in {asked:#}, or: gondola login {}", self.host))
            }
            429 => Some(format!("wait a while, or: gondola login {}", self.host)),
            500..=599 => Some(format!("{} has trouble of its own, try again later", self.host)),
            _ => None,
        }
    }
}

impl NetworkError {
    fn error(&self, action: String) -> Error {
        let Self { host, request, cause } = self;
        let (reason, hint) = match cause {
            Cause::ByProxy(proxy, cause) => (
                cause.of_proxy(proxy, host),
                "check the proxy and its address, or list the host in NO_PROXY".to_owned(),
            ),
            Cause::ProxyRefused => (
                format!("the proxy lets nobody through to {host}"),
                "check the proxy, or list the host in NO_PROXY".to_owned(),
            ),
            Cause::ConnectionRefused => (
                format!("{host} refuses connections"),
                format!("check that a registry listens at {host}"),
            ),
            Cause::UnknownName => (
                format!("the name of {host} has no address"),
                "check the name, the network and HTTPS_PROXY".to_owned(),
            ),
            Cause::TimedOut => (
                format!("{host} did not answer {request} in time"),
                "check the network and HTTPS_PROXY, then try again".to_owned(),
            ),
            Cause::UnknownIssuer => (
                format!("nobody that is trusted here signed the certificate of {host}"),
                format!(
                    "put its CA certificate at /etc/docker/certs.d/{host}/ca.crt, \
                     or allow it with --insecure-registry {host}"
                ),
            ),
            Cause::OurCertificate(refused) => refused.told(host),
            Cause::Tls(text) => (
                format!("TLS with {host} failed: {text}"),
                format!(
                    "check its certificate; a registry without TLS needs --insecure-registry {host}"
                ),
            ),
            Cause::Offline => (
                format!("{host} is not asked: --offline opens no connection"),
                "fetch it before, or leave --offline out".to_owned(),
            ),
            Cause::ProxyDenied(proxy) => (
                format!(
                    "the proxy {proxy} answered 407 to {request}: it wants a user and a password"
                ),
                "write them into its address, http://USER:PASSWORD@HOST:PORT, or list the host in \
                 NO_PROXY"
                    .to_owned(),
            ),
            Cause::Unreachable(text) => (
                format!("{host} cannot be reached: {text}"),
                "check the network and HTTPS_PROXY".to_owned(),
            ),
            Cause::Broken(text) => (
                format!("the connection to {host} broke during {request}: {text}"),
                "check the network, then try again".to_owned(),
            ),
        };
        Error::new(ErrorKind::Network, action).because(reason).hint(hint)
    }
}

impl Cause {
    /// Whether the next time may do better; `host` is what was connected to.
    fn is_temporary(&self, host: &str) -> bool {
        match self {
            // On this machine a server does not come up within a repetition.
            Self::ConnectionRefused => !is_loopback_host(host),
            Self::TimedOut | Self::Unreachable(_) | Self::Broken(_) | Self::ProxyRefused => true,
            Self::ByProxy(proxy, cause) => {
                cause.is_temporary(proxy.split(' ').next().unwrap_or_default())
            }
            Self::UnknownName
            | Self::UnknownIssuer
            | Self::OurCertificate(_)
            | Self::Tls(_)
            | Self::Offline
            | Self::ProxyDenied(_) => false,
        }
    }

    /// The same of a connection by way of a proxy: what has to do with connecting is the proxy's.
    pub(super) fn by_proxy(self, proxy: Option<String>) -> Self {
        match (self, proxy) {
            (Self::ProxyDenied(_), proxy) => Self::ProxyDenied(proxy.unwrap_or_default()),
            (
                cause @ (Self::ConnectionRefused
                | Self::UnknownName
                | Self::Unreachable(_)
                | Self::ProxyRefused),
                Some(proxy),
            ) => Self::ByProxy(proxy, Box::new(cause)),
            (cause, _) => cause,
        }
    }

    /// Why no connection came about by way of a proxy.
    fn of_proxy(&self, proxy: &str, host: &str) -> String {
        match self {
            Self::ConnectionRefused => format!("the proxy {proxy} refuses connections"),
            Self::UnknownName => format!("the name of the proxy {proxy} has no address"),
            Self::Unreachable(text) => format!("the proxy {proxy} cannot be reached: {text}"),
            _ => format!("the proxy {proxy} makes no connection to {host}"),
        }
    }

    /// Finds out what a failed request died of.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let connecting = error.is_connect();
        let mut innermost = None;
        let mut next: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(source) = next {
            if let Some(cause) = Self::of_source(source, connecting) {
                return cause;
            }
            innermost = Some(source.to_string());
            next = source.source();
        }
        let innermost = innermost.unwrap_or_else(|| "no reason is known".to_owned());
        if connecting { Self::Unreachable(innermost) } else { Self::Broken(innermost) }
    }

    fn of_source(source: &(dyn StdError + 'static), connecting: bool) -> Option<Self> {
        if let Some(tls) = source.downcast_ref::<rustls::Error>() {
            return Some(Self::of_tls(tls));
        }
        if let Some(io) = source.downcast_ref::<io::Error>() {
            // An error inside an I/O error is not among its sources.
            if let Some(inner) = io.get_ref()
                && let Some(cause) = Self::of_source(inner, connecting)
            {
                return Some(cause);
            }
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => Some(Self::ConnectionRefused),
                io::ErrorKind::TimedOut => Some(Self::TimedOut),
                _ => None,
            };
        }
        // What opens tunnels through proxies shows its errors as text alone.
        if connecting && source.to_string().ends_with("proxy authorization required") {
            return Some(Self::ProxyDenied(String::new()));
        }
        if connecting && source.to_string() == "tunnel error: unsuccessful" {
            return Some(Self::ProxyRefused);
        }
        (connecting && source.to_string().starts_with("dns error")).then_some(Self::UnknownName)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error as Tls};
        match error {
            Tls::InvalidCertificate(CertificateError::UnknownIssuer) => Self::UnknownIssuer,
            Tls::AlertReceived(alert) if let Some(refused) = Refused::of(*alert) => {
                Self::OurCertificate(refused)
            }
            Tls::InvalidMessage(_) => Self::Tls("the answer is not TLS".to_owned()),
            other => Self::Tls(shortened(&other.to_string())),
        }
    }
}

/// What a registry says of the certificate that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There was none.
    Missing,
    /// It does not count any more.
    Expired,
    /// Nobody whom the registry trusts signed it.
    UnknownIssuer,
    /// It is not taken, and no reason is given that helps.
    Other,
}

impl Refused {
    fn of(alert: rustls::AlertDescription) -> Option<Self> {
        use rustls::AlertDescription as Alert;
        match alert {
            Alert::CertificateRequired | Alert::NoCertificate => Some(Self::Missing),
            Alert::CertificateExpired => Some(Self::Expired),
            Alert::UnknownCA => Some(Self::UnknownIssuer),
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::AccessDenied => Some(Self::Other),
            _ => None,
        }
    }

    /// Why nothing is had of the host, and what to do about it.
    fn told(self, host: &str) -> (String, String) {
        let place = format!("certs.d/{host}/client.cert");
        match self {
            Self::Missing => (
                format!("{host} asks for a certificate, and got none"),
                format!("put one at /etc/docker/{place}, and its key beside it as client.key"),
            ),
            Self::Expired => (
                format!("{host} refuses the certificate that it was shown: it has expired"),
                format!("have {place} renewed by whoever signed it"),
            ),
            Self::UnknownIssuer => (
                format!("{host} does not know who signed the certificate that it was shown"),
                format!("put one at {place} that the registry's authority signed"),
            ),
            Self::Other => (
                format!("{host} refuses the certificate that it was shown, or misses one"),
                format!(
                    "put one that its authority signed at /etc/docker/{place}, and its key beside it as client.key; \
                     one that is there may have expired: openssl x509 -noout -text -in FILE"
                ),
            ),
        }
    }
}

/// Method and path of a request: what may be shown of it.
pub(super) fn describe(method: &reqwest::Method, url: &Url) -> String {
    format!("{method} {}", shortened(url.path()))
}

/// Reads the list of errors in an answer's body; a body of another form gives one line of it.
pub(super) fn problems(body: &[u8]) -> Vec<Problem> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(default)]
        errors: Vec<Problem>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        details: Option<String>,
    }
    let found = match serde_json::from_slice::<Response>(body) {
        Ok(answer) if !answer.errors.is_empty() => answer.errors,
        Ok(answer) => {
            let message = answer.message.or(answer.details);
            message.map(|message| Problem { code: String::new(), message }).into_iter().collect()
        }
        Err(_) => plain_text(body).into_iter().collect(),
    };
    let clean = |Problem { code, message }: Problem| Problem {
        code: shortened(&code),
        message: shortened(&secret::addresses(message.trim())),
    };
    found.into_iter().map(clean).collect()
}

fn plain_text(body: &[u8]) -> Option<Problem> {
    let text = std::str::from_utf8(body).ok()?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    // A page for browsers says nothing in its first line.
    if line.starts_with('<') || line.starts_with('{') {
        return None;
    }
    Some(Problem { code: String::new(), message: line.to_owned() })
}

/// A server's text as it may appear in a message: one line, bounded, nothing a terminal obeys.
pub(super) fn shortened(text: &str) -> String {
    let clean: String =
        text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() < text.len() { clean + "…" } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> RegistryError {
        RegistryError {
            problems: problems(body.as_bytes()),
            ..super::super::testing::refused(status)
        }
    }

    #[test]
    fn a_refusal_names_status_code_request_and_next_move() {
        let body = r#"{"errors":[{"code":"DENIED","message":"permission denied"}]}"#;
        let error =
            Failure::Refused(Box::new(refusal(403, body))).into_error("push ghcr.io/a/b:v1");
        assert_eq!(
            error.to_string(),
            "cannot push ghcr.io/a/b:v1: the registry answered 403 DENIED (permission denied) \
             to POST /v2/a/b/blobs/uploads/; hint: gondola login ghcr.io"
        );
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    #[test]
    fn kinds_follow_the_status() {
        for (status, kind) in [
            (401, ErrorKind::Denied),
            (403, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (429, ErrorKind::Network),
            (502, ErrorKind::Network),
            (400, ErrorKind::Invalid),
        ] {
            let error = Failure::Refused(Box::new(refusal(status, ""))).into_error("x");
            assert_eq!(error.kind(), kind, "{status}");
        }
    }

    #[test]
    fn bodies_of_other_forms_give_what_they_can() {
        for (body, expect) in [
            ("", None),
            ("<html>no</html>", None),
            ("Bad Gateway\n", Some("Bad Gateway")),
            (r#"{"message":"gone"}"#, Some("gone")),
            (r#"{"details":"slow down"}"#, Some("slow down")),
            ("{\"errors\":[{\"message\":\"a\\u001b[31m\"}]}", Some("a [31m")),
            ("[1,2", Some("[1,2")),
        ] {
            let found = problems(body.as_bytes());
            assert_eq!(found.first().map(|p| p.message.as_str()), expect, "{body}");
        }
        assert_eq!(shortened(&"x".repeat(1000)).chars().count(), LONGEST_MESSAGE + 1);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_says_is_one_bounded_line(body: Vec<u8>, text: String) {
            let json = serde_json::json!({"errors": [{"code": text, "message": text}]});
            for body in [body, text.clone().into_bytes(), json.to_string().into_bytes()] {
                for Problem { code, message } in problems(&body) {
                    for said in [code, message] {
                        proptest::prop_assert!(said.chars().count() <= LONGEST_MESSAGE + 1);
                        proptest::prop_assert!(!said.chars().any(char::is_control));
                    }
                }
            }
        }
    }

    #[test]
    fn expired_credentials_are_told_from_other_refusals() {
        let body =
            r#"{"errors":[{"code":"DENIED","message":"Your Authorization Token has expired"}]}"#;
        assert!(refusal(400, body).says_expired());
        assert!(refusal(403, body).says_expired());
        assert!(!refusal(404, body).says_expired());
        assert!(!refusal(403, r#"{"errors":[{"code":"DENIED"}]}"#).says_expired());
    }
}
