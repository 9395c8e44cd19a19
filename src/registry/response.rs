//! An answer: its status, its headers, and its body, which is read with a bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{StatusCode, Url};

use super::failure::{self, Cause, Failure, NetworkError, Outcome, RegistryError};
use super::host_name::authority;
use super::retry;
use super::waiting::Waiting;
use crate::error::{Error, ErrorKind};
use crate::oci::{Digest, MediaType};
use crate::secret;

/// How much of an error's body is read.
const LONGEST_REFUSAL: u64 = 64 * 1024;

/// An answer of a registry, its body not read yet.
pub(super) struct Response {
    raw: reqwest::Response,
    /// Method and path as first asked for, for messages.
    request: String,
    /// The host as the user names it.
    registry: Arc<str>,
    /// Whether the answer comes from where the request was first sent.
    from_registry: bool,
    idle: Duration,
    waiting: Arc<Waiting>,
}

/// Where an answer came from and what it answers.
pub(super) struct Origin {
    pub request: String,
    pub registry: Arc<str>,
    pub from_registry: bool,
}

impl Response {
    /// A body that comes to a stop is waited for as long as `idle` says.
    pub(super) fn new(
        raw: reqwest::Response,
        origin: Origin,
        idle: Duration,
        waiting: Arc<Waiting>,
    ) -> Self {
        let Origin { request, registry, from_registry } = origin;
        Self { raw, request, registry, from_registry, idle, waiting }
    }

    /// Whether no other host answered in the registry's place.
    pub(super) fn is_from_registry(&self) -> bool {
        self.from_registry
    }

    /// The host as the user names it.
    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    pub(super) fn status(&self) -> StatusCode {
        self.raw.status()
    }

    /// Where the answer came from, after redirects.
    pub(super) fn url(&self) -> &Url {
        self.raw.url()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.raw.headers()
    }

    /// A header as text; one that is no text counts as absent.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The size of the body, where the answer says it.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The media type of the body, where the answer says it.
    pub(super) fn media_type(&self) -> Option<MediaType> {
        self.header(CONTENT_TYPE.as_str()).map(MediaType::new)
    }

    /// The digest that the registry computed, where it is one.
    pub(super) fn content_digest(&self) -> Option<Digest> {
        self.header("docker-content-digest")?.parse().ok()
    }

    /// Method and path as first asked for; names the host where another one answered.
    pub(super) fn describe(&self) -> String {
        if self.from_registry {
            return self.request.clone();
        }
        format!("{} (redirected to {})", self.request, authority(self.url()))
    }

    /// The next piece of the body; `None` is its end.
    pub(super) async fn chunk(&mut self) -> Outcome<Option<Bytes>> {
        let about = (&*self.registry, self.request.as_str());
        let cause = match self.waiting.within(self.idle, about, self.raw.chunk()).await {
            Some(Ok(chunk)) => return Ok(chunk),
            Some(Err(error)) => Cause::of(&error),
            None => Cause::TimedOut,
        };
        Err(self.broke(cause))
    }

    /// The failure of an answer that broke off.
    pub(super) fn broke(&self, cause: Cause) -> Failure {
        let (host, request) = (authority(self.url()), self.describe());
        Failure::Network(Box::new(NetworkError { host, request, cause }))
    }

    /// The whole body, which must not exceed `limit` bytes.
    pub(super) async fn body(&mut self, limit: u64) -> Outcome<Bytes> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                let what = format!("read the answer to {}", self.describe());
                return Err(Error::new(ErrorKind::Invalid, what)
                    .because(format!("it has more than {limit} bytes"))
                    .into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Reads a body of no interest, so that the connection can be used again.
    pub(super) async fn discard(mut self) {
        let _ = self.body(LONGEST_REFUSAL).await;
    }

    /// Makes the failure of an answer that is no success.
    pub(super) async fn refuse(mut self) -> Failure {
        let mut body = Vec::new();
        // A refusal whose body breaks off is a refusal all the same.
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > LONGEST_REFUSAL {
                break;
            }
        }
        let mut problems = failure::problems(&body);
        if !self.from_registry {
            // The address of another host has a signature in its query, which the host may quote.
            let query: Vec<_> = self.url().query_pairs().map(|(_, value)| value).collect();
            for problem in &mut problems {
                problem.message =
                    secret::mask(&problem.message, query.iter().map(|value| &**value));
            }
        }
        Failure::Refused(Box::new(RegistryError {
            status: self.status(),
            problems,
            request: self.describe(),
            host: self.registry.to_string(),
            in_place_of: None,
            retry_after: retry::retry_after(self.headers()),
            note: None,
            allowance: retry::allowance(self.headers()),
        }))
    }

    /// The answer where it has one of the statuses in `wanted`, else the failure.
    pub(super) async fn expect(self, wanted: &[u16]) -> Outcome<Self> {
        if wanted.contains(&self.status().as_u16()) { Ok(self) } else { Err(self.refuse().await) }
    }
}
