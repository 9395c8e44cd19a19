//! One request to one registry, until it has an answer: both schemes, redirects, repeats.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::Semaphore;

use super::auth::{Authenticator, ScopeRequest, TokenClient};
use super::connections::{Connections, is_loopback_host};
use super::failure::{self, Cause, Failure, NetworkError, Outcome};
use super::payload::{Meter, Payload};
use super::response::{Origin, Response, authority};
use super::upload::KnownStrategy;
use super::{Credentials, Options, RetryPolicy, Timeouts, retry, tls};
use crate::error::{Error, ErrorKind, Result};

const MOST_REDIRECTS: usize = 10;
/// How fast an upload is taken to be when a token for it is chosen.
const SLOW_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
const LONGEST_NEED: Duration = Duration::from_mins(2);

/// A registry, and what was learned about it.
pub(super) struct Host {
    /// The host as references name it.
    pub name: Arc<str>,
    /// Where it is served, with the port.
    authority: String,
    /// How it may be spoken to, the preferred scheme first.
    schemes: Vec<Scheme>,
    chosen: OnceLock<Scheme>,
    /// Bounds how many blobs move at once.
    pub blobs: Arc<Semaphore>,
    pub auth: Authenticator,
    /// How blobs are sent to it.
    pub strategy: KnownStrategy,
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

/// A request, which can be sent as often as needed.
pub(super) struct Request {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub payload: Payload,
    pub repeat: Repeat,
    /// What the sender must show.
    pub need: ScopeRequest,
}

/// What a request is sent to.
#[derive(Clone)]
pub(super) enum Target {
    /// A path, with its query, on the registry.
    Path(String),
    /// An address that the registry gave; another host than its own gets no credentials.
    Url(Url),
    /// The address of one who gives out tokens, and gets the credentials for that.
    Realm(Url),
}

/// Whether a request may be sent again when it is unclear what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It may: twice is the same as once.
    Safe,
    /// It may not; the caller finds out what became of it.
    Never,
}

impl Request {
    pub(super) fn new(method: Method, target: Target) -> Self {
        let (headers, need) = (HeaderMap::new(), ScopeRequest::default());
        Self { method, target, headers, payload: Payload::Empty, repeat: Repeat::Safe, need }
    }

    /// Says what a token must allow.
    #[must_use]
    pub(super) fn need(mut self, need: ScopeRequest) -> Self {
        self.need = ScopeRequest { lasting: self.need.lasting, ..need };
        self
    }

    #[must_use]
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("header values are made here, of ASCII");
        self.headers.insert(name, value);
        self
    }

    #[must_use]
    pub(super) fn payload(mut self, payload: Payload) -> Self {
        // A token that ends while a body is under way means sending it again.
        let slow = Duration::from_secs(payload.length() / SLOW_BYTES_PER_SECOND);
        self.need.lasting = slow.min(LONGEST_NEED);
        self.payload = payload;
        self
    }

    #[must_use]
    pub(super) fn once(mut self) -> Self {
        self.repeat = Repeat::Never;
        self
    }
}

impl Host {
    pub(super) fn new(name: &str, options: &Options) -> Self {
        let authority = match name {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let schemes = if options.insecure.iter().any(|listed| listed == name || listed == "*") {
            vec![Scheme::Https, Scheme::Http]
        } else if !is_loopback_host(authority) {
            vec![Scheme::Https]
        } else if tls::folders_for(&options.certificate_dirs, authority).is_empty() {
            vec![Scheme::Http, Scheme::Https]
        } else {
            // Somebody went to the trouble of a certificate.
            vec![Scheme::Https, Scheme::Http]
        };
        Self {
            name: name.into(),
            authority: authority.to_owned(),
            schemes,
            chosen: OnceLock::new(),
            blobs: Arc::new(Semaphore::new(options.jobs.max(1))),
            auth: Authenticator::default(),
            strategy: KnownStrategy::default(),
        }
    }

    /// The schemes to try: one, once an answer came.
    fn candidates(&self) -> &[Scheme] {
        self.chosen.get().map_or(&self.schemes, std::slice::from_ref)
    }

    fn url(&self, scheme: Scheme, path: &str) -> Result<Url> {
        let scheme = match scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        let text = format!("{scheme}://{}{path}", self.authority);
        Url::parse(&text).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("ask {}", self.authority)).caused_by(error)
        })
    }
}

/// Sends requests.
pub(super) struct Exchange {
    connections: Connections,
    credentials: Credentials,
    retry: RetryPolicy,
    timeouts: Timeouts,
}

impl Exchange {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            connections: Connections::new(options),
            credentials: options.credentials.clone(),
            retry: options.retry,
            timeouts: options.timeouts,
        }
    }

    pub(super) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Sends a request, with what the registry demands, and gives the answer, whatever it says.
    ///
    /// Answers that are temporary by their status, and broken connections, are repeated here where
    /// the request allows it, and are failures in the end. So is a refusal for want of credentials.
    pub(super) async fn send(&self, host: &Host, request: &Request) -> Outcome<Response> {
        let mut attempt = 1;
        loop {
            match settle(self.send_authorized(host, request).await).await {
                Err(failure) if self.repeats(request, &failure, attempt) => {
                    self.pause(attempt, failure.retry_after()).await;
                }
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    /// Sends a request with a header of the caller's and no other, by the same rules.
    pub(super) async fn send_as(
        &self,
        host: &Host,
        request: &Request,
        header: Option<&HeaderValue>,
    ) -> Outcome<Response> {
        let mut attempt = 1;
        loop {
            match settle(self.send_by_scheme(host, request, header).await).await {
                Err(failure) if self.repeats(request, &failure, attempt) => {
                    self.pause(attempt, failure.retry_after()).await;
                }
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    /// Finds out what a registry demands and gets what `need` takes, before it is needed.
    pub(super) async fn warm_up(&self, host: &Host, need: &ScopeRequest) -> Outcome<()> {
        if host.chosen.get().is_none() {
            self.ask_at_root(host, need).await?;
        }
        host.auth.header(self.token_client(host), need).await.map(|_| ())
    }

    /// Asks a registry at its root, once, whether it wants to know who asks.
    async fn ask_at_root(&self, host: &Host, need: &ScopeRequest) -> Outcome<()> {
        let ask = async || -> Outcome<()> {
            let root = Request::new(Method::GET, Target::Path("/v2/".to_owned()));
            let answer = self.send_as(host, &root, None).await?;
            if answer.status() == StatusCode::UNAUTHORIZED && answer.is_from_registry() {
                host.auth.challenged(&answer, need)?;
            }
            answer.discard().await;
            Ok(())
        };
        host.auth.root_asked.get_or_try_init(ask).await.copied()
    }

    /// What to show a registry that turned a stranger away without a challenge: some hide what they
    /// have, and challenge at their root alone.
    async fn introduction(
        &self,
        host: &Host,
        need: &ScopeRequest,
        answer: &Response,
    ) -> Outcome<Option<HeaderValue>> {
        let is_denial = answer.status() == StatusCode::UNAUTHORIZED;
        if !is_denial && !self.credentials.may_have(&host.name, &need.path).await {
            return Ok(None);
        }
        // Where the root says nothing, the answer that is here stands.
        if self.ask_at_root(host, need).await.is_err() {
            return Ok(None);
        }
        host.auth.header(self.token_client(host), need).await
    }

    fn repeats(&self, request: &Request, failure: &Failure, attempt: u32) -> bool {
        request.repeat == Repeat::Safe && self.may_repeat(failure, attempt)
    }

    /// Whether what failed at this attempt, counted from 1, is worth another one.
    pub(super) fn may_repeat(&self, failure: &Failure, attempt: u32) -> bool {
        failure.is_temporary() && self.retry.allows(attempt, failure.retry_after())
    }

    fn token_client<'a>(&'a self, host: &'a Host) -> TokenClient<'a> {
        TokenClient { exchange: self, credentials: &self.credentials, host }
    }

    /// Sends a request with what is known to be demanded, and once more when more is demanded.
    async fn send_authorized(&self, host: &Host, request: &Request) -> Outcome<Response> {
        let token_client = self.token_client(host);
        let mut shown = host.auth.header(token_client, &request.need).await?;
        let mut answer = self.send_by_scheme(host, request, shown.as_ref()).await?;
        if shown.is_none() && turns_strangers_away(&answer) {
            shown = self.introduction(host, &request.need, &answer).await?;
            if shown.is_some() {
                answer.discard().await;
                answer = self.send_by_scheme(host, request, shown.as_ref()).await?;
            }
        }
        let status = answer.status().as_u16();
        let may_be_expired = shown.is_some() && matches!(status, 400 | 403);
        if !answer.is_from_registry() || (status != 401 && !may_be_expired) {
            return Ok(answer);
        }
        let (need, failure) = if status == 401 {
            let need = host.auth.challenged(&answer, &request.need)?;
            (need, answer.refuse().await)
        } else {
            (request.need.clone(), answer.refuse().await)
        };
        // The answer to a HEAD has no body that could say what is wrong.
        let untold = status == 400 && request.method == Method::HEAD;
        let is_final = status != 401 && !untold;
        if matches!(&failure, Failure::Refused(refusal) if is_final && !refusal.says_expired()) {
            return Err(failure);
        }
        if let Some(shown) = &shown {
            host.auth.forget(token_client, shown).await;
        }
        match host.auth.header(token_client, &need).await? {
            Some(better) if shown.as_ref() != Some(&better) => {
                let answer = self.send_by_scheme(host, request, Some(&better)).await?;
                match answer.status() {
                    StatusCode::UNAUTHORIZED => self.note(host, &need, answer.refuse().await).await,
                    _ => Ok(answer),
                }
            }
            _ => self.note(host, &need, failure).await,
        }
    }

    /// Adds to a refusal what went wrong with the search for credentials.
    async fn note(
        &self,
        host: &Host,
        need: &ScopeRequest,
        mut failure: Failure,
    ) -> Outcome<Response> {
        if let Failure::Refused(refusal) = &mut failure {
            refusal.note = self.credentials.find(&host.name, &need.path).await?.note;
        }
        Err(failure)
    }

    /// Sends to the address, or to the path by the first scheme that the host speaks.
    async fn send_by_scheme(
        &self,
        host: &Host,
        request: &Request,
        header: Option<&HeaderValue>,
    ) -> Outcome<Response> {
        let path = match &request.target {
            Target::Url(url) => {
                let home = host.url(host.candidates()[0], "/")?;
                return self.follow(host, &home, url.clone(), request, header).await;
            }
            Target::Realm(url) => {
                return self.follow(host, url, url.clone(), request, header).await;
            }
            Target::Path(path) => path,
        };
        let mut first = None;
        let candidates = host.candidates();
        for (index, scheme) in candidates.iter().enumerate() {
            let url = host.url(*scheme, path)?;
            let outcome = self.follow(host, &url, url.clone(), request, header).await;
            let is_last = index + 1 == candidates.len();
            match outcome {
                Err(failure) if is_last => return Err(more_telling(first, failure)),
                Err(Failure::Network(breakdown)) => {
                    first = first.or(Some(Failure::Network(breakdown)));
                }
                Ok(answer) if !is_last && may_want_tls(&answer) => {
                    first = first.or(Some(answer.refuse().await));
                }
                Ok(answer) => {
                    // Two requests may find out at once; they find the same.
                    let _ = host.chosen.set(*scheme);
                    return Ok(answer);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(first.expect("there is at least one scheme, and it failed"))
    }

    /// Sends the request and follows redirects, by rules of our own: the credentials go to `home`
    /// and nowhere else.
    async fn follow(
        &self,
        host: &Host,
        home: &Url,
        first: Url,
        request: &Request,
        header: Option<&HeaderValue>,
    ) -> Outcome<Response> {
        let described = failure::describe(&request.method, &first);
        let mut url = first;
        let mut method = request.method.clone();
        let mut payload = request.payload.clone();
        for _ in 0..=MOST_REDIRECTS {
            let from_registry = keeps_credentials(home, &url);
            let mut headers = request.headers.clone();
            if let Some(value) = header.filter(|_| from_registry) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response = self.send_one(&url, &method, headers, &payload).await?;
            let origin =
                Origin { request: described.clone(), registry: host.name.clone(), from_registry };
            let answer = Response::new(response, origin, self.timeouts.idle);
            let Some(next) = redirect(&answer)? else { return Ok(answer) };
            if answer.status() == StatusCode::SEE_OTHER && method != Method::HEAD {
                (method, payload) = (Method::GET, Payload::Empty);
            }
            answer.discard().await;
            url = next;
        }
        Err(Error::new(ErrorKind::Invalid, format!("follow redirects of {}", host.name))
            .because(format!("{described} was redirected more than {MOST_REDIRECTS} times"))
            .into())
    }

    async fn send_one(
        &self,
        url: &Url,
        method: &Method,
        headers: HeaderMap,
        payload: &Payload,
    ) -> Outcome<reqwest::Response> {
        let client = self.connections.client(url)?;
        let (body, source_error) = payload.open().await?;
        let mut builder = client.request(method.clone(), url.clone()).headers(headers);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        if *method != Method::GET && *method != Method::HEAD {
            builder = builder.header(CONTENT_LENGTH, payload.length());
        }
        if let Payload::Part(_) = payload {
            builder = builder.header(CONTENT_TYPE, "application/octet-stream");
        }
        let through = || self.connections.proxy(url);
        let cause = match self.watch(builder.send(), payload.meter()).await {
            Some(Ok(response)) => match through() {
                Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    Cause::ProxyDenied(proxy)
                }
                _ => return Ok(response),
            },
            Some(Err(error)) => match Cause::of(&error) {
                Cause::ProxyDenied(_) => Cause::ProxyDenied(through().unwrap_or_default()),
                other => other,
            },
            None => Cause::TimedOut,
        };
        if let Some(error) = source_error.take() {
            return Err(error.into());
        }
        let request = failure::describe(method, url);
        Err(Failure::Network(Box::new(NetworkError { host: authority(url), request, cause })))
    }

    /// Waits for an answer for as long as a body is moving, or an answer may still come.
    async fn watch<F: Future>(&self, sending: F, meter: Option<&Meter>) -> Option<F::Output> {
        let mut sending = std::pin::pin!(sending);
        let mut moved = 0;
        loop {
            if let Ok(output) = tokio::time::timeout(self.timeouts.answer, &mut sending).await {
                return Some(output);
            }
            match meter.map(Meter::moved) {
                Some(now) if now > moved => moved = now,
                _ => return None,
            }
        }
    }

    /// Waits before the attempt after `attempt`.
    pub(super) async fn pause(&self, attempt: u32, asked: Option<Duration>) {
        tokio::time::sleep(self.retry.pause(attempt, asked)).await;
    }
}

/// An answer that is temporary is a failure.
async fn settle(outcome: Outcome<Response>) -> Outcome<Response> {
    match outcome {
        Ok(answer) if retry::is_temporary(answer.status()) => Err(answer.refuse().await),
        outcome => outcome,
    }
}

/// Of the failures of two schemes, the one that helps.
fn more_telling(first: Option<Failure>, last: Failure) -> Failure {
    let Some(first) = first else { return last };
    match &last {
        Failure::Network(breakdown) if breakdown.cause != Cause::UnknownIssuer => first,
        // Here was a server that speaks this scheme.
        _ => last,
    }
}

/// Whether a plain answer is the complaint of a server that speaks TLS.
fn may_want_tls(answer: &Response) -> bool {
    answer.url().scheme() == "http"
        && answer.status() == StatusCode::BAD_REQUEST
        && answer.header("docker-distribution-api-version").is_none()
}

/// Whether an answer without a challenge may be what strangers get.
fn turns_strangers_away(answer: &Response) -> bool {
    let is_silent = !answer.headers().contains_key(WWW_AUTHENTICATE);
    answer.is_from_registry() && is_silent && matches!(answer.status().as_u16(), 401 | 403 | 404)
}

/// Where an answer redirects to.
fn redirect(answer: &Response) -> Outcome<Option<Url>> {
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
