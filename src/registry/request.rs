//! A request to a registry, before it is known how the registry is reached.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use super::payload::Payload;
use super::scopes::ScopeRequest;

/// How fast an upload is taken to be when a token for it is chosen.
const SLOW_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
const LONGEST_NEED: Duration = Duration::from_mins(2);

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
        let slow =
            Duration::from_secs(payload.length().unwrap_or_default() / SLOW_BYTES_PER_SECOND);
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
