//! What the scripted registry holds, and how a call finds its way.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;

use super::auth::Token;
use super::fault::{Answer, Fault, Rule};
use super::uploads::Upload;
use super::{Quirks, Seen};

/// Everything behind the server.
pub(super) struct State {
    pub base: String,
    pub quirks: Quirks,
    pub rules: Vec<Rule>,
    /// By repository and digest.
    pub blobs: BTreeMap<(String, String), Bytes>,
    /// Media type and bytes, by repository and tag or digest.
    pub manifests: BTreeMap<(String, String), (String, Bytes)>,
    pub uploads: BTreeMap<String, Upload>,
    pub tokens: BTreeMap<String, Token>,
    pub seen: Vec<Seen>,
    pub peak: usize,
    forgotten: usize,
    open: usize,
    serial: u64,
}

/// A request, taken apart.
pub(super) struct Call {
    pub method: Method,
    pub path: String,
    /// The path with its query, as sent.
    pub target: String,
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Version,
    Token,
    Uploads(&'a str),
    Upload(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Manifest(&'a str, &'a str),
    Referrers(&'a str, &'a str),
    Tags(&'a str),
    Unknown,
}

impl Call {
    pub fn of(parts: &Parts) -> Self {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &parts.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let all = headers.entry(name.as_str().to_owned()).or_default();
            all.push_str(if all.is_empty() { "" } else { ", " });
            all.push_str(&value);
        }
        let query = parts.uri.query().unwrap_or_default();
        let target = parts.uri.path_and_query().map_or("/", |both| both.as_str());
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            target: target.to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers,
            body: Bytes::new(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The scopes in the query.
    fn scopes(&self) -> Vec<String> {
        let values = self.query.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value);
        values.flat_map(|value| value.split(' ')).map(str::to_owned).collect()
    }

    pub fn writes(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }

    pub fn target(&self) -> Target<'_> {
        match self.path.as_str() {
            "/v2/" | "/v2" => return Target::Version,
            "/token" => return Target::Token,
            _ => {}
        }
        let Some(path) = self.path.strip_prefix("/v2/") else { return Target::Unknown };
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Target::Tags(repository);
        }
        if let Some((repository, id)) = path.rsplit_once("/blobs/uploads/") {
            let open = id.is_empty();
            return if open { Target::Uploads(repository) } else { Target::Upload(repository, id) };
        }
        if let Some((repository, digest)) = path.rsplit_once("/blobs/") {
            return Target::Blob(repository, digest);
        }
        if let Some((repository, selector)) = path.rsplit_once("/manifests/") {
            return Target::Manifest(repository, selector);
        }
        if let Some((repository, digest)) = path.rsplit_once("/referrers/") {
            return Target::Referrers(repository, digest);
        }
        Target::Unknown
    }
}

impl Target<'_> {
    /// The repository that the call is about.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Version | Self::Token | Self::Unknown => None,
            Self::Uploads(repository)
            | Self::Upload(repository, _)
            | Self::Blob(repository, _)
            | Self::Manifest(repository, _)
            | Self::Referrers(repository, _)
            | Self::Tags(repository) => Some(repository),
        }
    }
}

impl State {
    pub fn new(quirks: Quirks) -> Self {
        Self {
            base: String::new(),
            quirks,
            rules: Vec::new(),
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            uploads: BTreeMap::new(),
            tokens: BTreeMap::new(),
            seen: Vec::new(),
            peak: 0,
            forgotten: 0,
            open: 0,
            serial: 0,
        }
    }

    /// Records a call and finds the fault that meets it.
    pub fn arrive(&mut self, call: &Call) -> (usize, Option<Fault>) {
        self.open += 1;
        self.peak = self.peak.max(self.open);
        self.seen.push(Seen {
            method: call.method.to_string(),
            path: call.path.clone(),
            query: call.query.iter().cloned().collect(),
            scopes: call.scopes(),
            headers: call.headers.clone(),
            body: Bytes::new(),
            status: 0,
            at: Instant::now(),
        });
        let mut rules = self.rules.iter_mut();
        let rule = rules
            .find_map(|rule| rule.meets(&call.method, &call.target).then(|| rule.fault.clone()));
        (self.forgotten + self.seen.len() - 1, rule)
    }

    pub fn seen_body(&mut self, index: usize, body: &Bytes) {
        if let Some(seen) = self.recorded(index) {
            seen.body = body.clone();
        }
    }

    pub fn leave(&mut self, index: usize, status: u16) {
        self.open -= 1;
        if let Some(seen) = self.recorded(index) {
            seen.status = status;
        }
    }

    /// Forgets the requests until now.
    pub fn forget(&mut self) {
        self.forgotten += self.seen.len();
        self.seen.clear();
    }

    fn recorded(&mut self, index: usize) -> Option<&mut Seen> {
        self.seen.get_mut(index.checked_sub(self.forgotten)?)
    }

    /// A number never given before.
    pub fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// What a call is answered before its body is read, if it must not go on.
    pub fn refuse_before_body(&mut self, call: &Call) -> Option<Answer> {
        if self.quirks.refuses_authorization && call.header("authorization").is_some() {
            return Some(Answer::error(400, "UNSUPPORTED", "Authorization is not wanted here"));
        }
        if self.checks_after_body() { None } else { self.authorize(call) }
    }

    /// The proper answer to a call whose body was read.
    pub fn respond(&mut self, call: &Call) -> Answer {
        if self.checks_after_body()
            && let Some(refusal) = self.authorize(call)
        {
            return refusal;
        }
        if self.quirks.csrf && call.writes() && call.header("cookie").is_some() {
            return Answer::error(403, "DENIED", "CSRF token invalid");
        }
        let answer = self.route(call);
        if self.quirks.csrf { answer.header("Set-Cookie", "sid=1; Path=/") } else { answer }
    }

    fn route(&mut self, call: &Call) -> Answer {
        match (call.method.as_str(), call.target()) {
            ("GET" | "HEAD", Target::Version) => Answer::status(200).body("{}"),
            (_, Target::Token) => self.token(call),
            ("POST", Target::Uploads(repository)) => self.open_upload(call, repository),
            ("GET", Target::Upload(_, id)) => self.upload_status(call, id),
            ("PATCH", Target::Upload(_, id)) => self.patch_upload(call, id),
            ("PUT", Target::Upload(_, id)) => self.finish_upload(call, id),
            ("DELETE", Target::Upload(_, id)) => self.cancel_upload(id),
            ("GET" | "HEAD", Target::Blob(repository, digest)) => {
                self.get_blob(call, repository, digest)
            }
            ("GET" | "HEAD", Target::Manifest(repository, selector)) => {
                self.get_manifest(call, repository, selector)
            }
            ("PUT", Target::Manifest(repository, selector)) => {
                self.put_manifest(call, repository, selector)
            }
            ("GET", Target::Referrers(repository, digest)) => {
                self.list_referrers(call, repository, digest)
            }
            ("GET", Target::Tags(repository)) => self.list_tags(call, repository),
            (_, Target::Unknown) => Answer::error(404, "NAME_UNKNOWN", "no such path"),
            _ => Answer::error(405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }
}
