//! Sends one request, until it has an answer: both schemes, redirects, repeats.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::connections::Connections;
use super::failure::{self, Cause, Failure, NetworkError, Outcome};
use super::host_name::{authority, is_loopback_host};
use super::location::{keeps_credentials, redirect};
use super::payload::{Meter, Payload};
use super::request::{Repeat, Request, Target};
use super::response::{Origin, Response};
use super::waiting::Waiting;
use super::{Options, RetryPolicy, Timeouts, retry, tls};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::docker_hub;

const MOST_REDIRECTS: usize = 10;
/// So often a server is asked that does not answer at all.
const MOST_SILENCES: u32 = 2;

/// Where a registry is served, and what was learned about that.
pub(super) struct Endpoint {
    /// The host as references name it.
    pub name: Arc<str>,
    /// The host that serves it, with the port.
    authority: String,
    /// How it may be spoken to, the preferred scheme first.
    schemes: Vec<Scheme>,
    chosen: OnceLock<Scheme>,
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

impl Endpoint {
    pub(super) fn new(name: &str, options: &Options) -> Self {
        let authority = match name {
            docker_hub::NAME => docker_hub::HOST,
            other => other,
        };
        let schemes = if options.insecure.iter().any(|listed| listed == name || listed == "*") {
            vec![Scheme::Https, Scheme::Http]
        } else if !is_loopback_host(authority) {
            vec![Scheme::Https]
        } else if tls::folders_for(&options.certificate_dirs, authority).is_empty() {
            vec![Scheme::Http, Scheme::Https]
        } else {
            // A certificate for this host was put here: it speaks TLS.
            vec![Scheme::Https, Scheme::Http]
        };
        Self {
            name: name.into(),
            authority: authority.to_owned(),
            schemes,
            chosen: OnceLock::new(),
        }
    }

    /// Whether an answer came from it already.
    pub(super) fn has_answered(&self) -> bool {
        self.chosen.get().is_some()
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
pub(super) struct Sender {
    connections: Connections,
    retry: RetryPolicy,
    timeouts: Timeouts,
    offline: bool,
    waiting: Arc<Waiting>,
}

impl Sender {
    pub(super) fn new(options: &Options) -> Self {
        let (retry, timeouts) = (options.retry, options.timeouts);
        let waiting = Arc::new(Waiting::new(options.reporter.clone(), timeouts.patience));
        let connections = Connections::new(options);
        Self { connections, retry, timeouts, offline: options.offline, waiting }
    }

    /// Refuses to open a connection, where none may be.
    pub(super) fn check_online(&self, host: &str) -> Outcome<()> {
        if !self.offline {
            return Ok(());
        }
        let (host, request) = (host.to_owned(), String::new());
        Err(Failure::Network(Box::new(NetworkError { host, request, cause: Cause::Offline })))
    }

    pub(super) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Sends a request with this header for the registry's own eyes, and with no other.
    ///
    /// Answers that are temporary by their status, and broken connections, are repeated here where
    /// the request allows it, and are failures in the end.
    pub(super) async fn send(
        &self,
        to: &Endpoint,
        request: &Request,
        header: Option<&HeaderValue>,
    ) -> Outcome<Response> {
        let mut attempt = 1;
        loop {
            let outcome = self.send_once(to, request, header).await;
            if let Some(answer) = self.answer_or_retry(request, outcome, &mut attempt).await {
                return answer;
            }
        }
    }

    /// Gives the answer, or the failure that is final. Gives nothing where another attempt is due, for
    /// which this has waited; attempts are counted from 1.
    pub(super) async fn answer_or_retry(
        &self,
        request: &Request,
        outcome: Outcome<Response>,
        attempt: &mut u32,
    ) -> Option<Outcome<Response>> {
        let outcome = match outcome {
            Ok(answer) if retry::is_temporary(answer.status()) => Err(answer.refuse().await),
            outcome => outcome,
        };
        match outcome {
            Err(failure) if self.repeats(request, &failure, *attempt) => {
                self.pause(*attempt, &failure).await;
                *attempt += 1;
                None
            }
            outcome => Some(outcome),
        }
    }

    fn repeats(&self, request: &Request, failure: &Failure, attempt: u32) -> bool {
        request.repeat == Repeat::Safe && self.may_repeat(failure, attempt)
    }

    /// Whether what failed at this attempt, counted from 1, is worth another one.
    pub(super) fn may_repeat(&self, failure: &Failure, attempt: u32) -> bool {
        // A server that is silent for minutes is asked once more, and not as often as one that is busy.
        let is_late = matches!(failure, Failure::Network(it) if it.cause == Cause::TimedOut);
        failure.is_temporary()
            && (!is_late || attempt < MOST_SILENCES)
            && self.retry.allows(attempt, failure.retry_after())
    }

    /// Sends to the address, or to the path by the first scheme that the host speaks.
    pub(super) async fn send_once(
        &self,
        to: &Endpoint,
        request: &Request,
        header: Option<&HeaderValue>,
    ) -> Outcome<Response> {
        self.check_online(&to.name)?;
        let path = match &request.target {
            Target::Url(url) => {
                let home = to.url(to.candidates()[0], "/")?;
                return self.follow(to, &home, url.clone(), request, header).await;
            }
            Target::Realm(url) => {
                return self.follow(to, url, url.clone(), request, header).await;
            }
            Target::Path(path) => path,
        };
        let mut first = None;
        let candidates = to.candidates();
        for (index, scheme) in candidates.iter().enumerate() {
            let url = to.url(*scheme, path)?;
            let outcome = self.follow(to, &url, url.clone(), request, header).await;
            let is_last = index + 1 == candidates.len();
            match outcome {
                // Whoever asks for a certificate of ours speaks TLS, and complains of anything else.
                Err(Failure::Network(breakdown))
                    if matches!(breakdown.cause, Cause::OurCertificate(_)) =>
                {
                    return Err(Failure::Network(breakdown));
                }
                Err(failure) if is_last => return Err(more_telling(first, failure)),
                Err(Failure::Network(breakdown)) => {
                    first = first.or(Some(Failure::Network(breakdown)));
                }
                Ok(answer) if !is_last && may_want_tls(&answer) => {
                    first = first.or(Some(answer.refuse().await));
                }
                Ok(answer) => {
                    // Two requests may find out at once; they find the same.
                    let _ = to.chosen.set(*scheme);
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
        to: &Endpoint,
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
            let response = Box::pin(self.send_one(&url, &method, headers, &payload)).await?;
            let origin =
                Origin { request: described.clone(), registry: to.name.clone(), from_registry };
            let answer = self.answered(response, origin);
            let Some(next) = redirect(&answer)? else { return Ok(answer) };
            if answer.status() == StatusCode::SEE_OTHER && method != Method::HEAD {
                (method, payload) = (Method::GET, Payload::Empty);
            }
            answer.discard().await;
            url = next;
        }
        Err(Error::new(ErrorKind::Invalid, format!("follow redirects of {}", to.name))
            .because(format!("{described} was redirected more than {MOST_REDIRECTS} times"))
            .into())
    }

    /// An answer whose body comes within the limits that this sender has.
    pub(super) fn answered(&self, raw: reqwest::Response, origin: Origin) -> Response {
        Response::new(raw, origin, self.timeouts.idle, self.waiting.clone())
    }

    /// Sends one request to an address, and waits for the beginning of its answer.
    pub(super) async fn send_one(
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
        if *method != Method::GET
            && *method != Method::HEAD
            && let Some(length) = payload.length()
        {
            builder = builder.header(CONTENT_LENGTH, length);
        }
        if payload.is_of_blob() {
            builder = builder.header(CONTENT_TYPE, "application/octet-stream");
        }
        let through = || self.connections.proxy(url);
        let about = (authority(url), failure::describe(method, url));
        let cause = match self.watch(builder.send(), payload.meter(), &about).await {
            Some(Ok(response)) => match through() {
                Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    Cause::ProxyDenied(proxy)
                }
                _ => return Ok(response),
            },
            Some(Err(error)) => Cause::of(&error).by_proxy(through()),
            None => Cause::TimedOut,
        };
        if let Some(error) = source_error.take() {
            return Err(error.into());
        }
        let (host, request) = about;
        Err(Failure::Network(Box::new(NetworkError { host, request, cause })))
    }

    /// Waits for an answer for as long as a body is moving, or an answer may still come. `about` is the
    /// host and the request, which are told where that takes long.
    async fn watch<F: Future>(
        &self,
        sending: F,
        meter: Option<&Meter>,
        about: &(String, String),
    ) -> Option<F::Output> {
        let mut sending = std::pin::pin!(sending);
        let (mut moved, mut quiet) = (0, Duration::ZERO);
        while quiet < self.timeouts.answer {
            let step =
                self.waiting.next_look(quiet).min(self.timeouts.answer.saturating_sub(quiet));
            if let Ok(output) = tokio::time::timeout(step, &mut sending).await {
                return Some(output);
            }
            match meter.map(Meter::moved) {
                Some(now) if now > moved => (moved, quiet) = (now, Duration::ZERO),
                _ => {
                    quiet += step;
                    self.waiting.tell(&about.0, &about.1, quiet);
                }
            }
        }
        None
    }

    /// Waits before the attempt after `attempt`.
    pub(super) async fn pause(&self, attempt: u32, failure: &Failure) {
        let pause = self.retry.pause(attempt, failure.retry_after());
        self.waiting.tell_pause(failure, pause);
        tokio::time::sleep(pause).await;
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
