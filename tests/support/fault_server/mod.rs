//! A scripted registry in memory: right by default, wrong in just the ways that a test asks for.
//!
//! [`Quirks`] say what is always different, as in registries that exist; a [`Rule`] makes a
//! [`Fault`] meet certain requests. Every request is recorded.

mod auth;
mod content;
mod fault;
mod quirks;
mod state;
mod uploads;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use gondola::oci::Digest;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use tempfile::TempDir;

pub use fault::{Answer, Change, Fault, Rule};
pub use quirks::{Auth, Location, Mount, Quirks, Scopes, TokenAuth};

use super::http::{HttpServer, Reply};
use super::need::Need;
use super::tls::Certificates;
use state::{Call, State};

/// Longer than it takes to hand bytes to a client on the same machine.
const FLUSHED: Duration = Duration::from_millis(20);

/// A running scripted registry.
pub struct FaultServer {
    server: HttpServer,
    state: Arc<Mutex<State>>,
    certificates: Option<(Certificates, TempDir)>,
}

/// A request that the server had.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// The last value of each field.
    pub query: BTreeMap<String, String>,
    /// Every `scope` that a token is asked for.
    pub scopes: Vec<String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The bytes of the body that were read.
    pub body: Bytes,
    /// The status of the answer; 0 while there is none.
    pub status: u16,
    pub at: Instant,
}

impl Seen {
    /// A header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl FaultServer {
    /// Starts on plain HTTP.
    pub fn start(quirks: Quirks) -> Self {
        Self::listen(quirks, None)
    }

    /// Starts with TLS and a certificate of an unknown authority.
    pub fn start_tls(quirks: Quirks) -> Need<Self> {
        let folder = TempDir::with_prefix("gondola-fault-").unwrap();
        let certificates = Certificates::make(folder.path())?;
        Ok(Self::listen(quirks, Some((certificates, folder))))
    }

    fn listen(quirks: Quirks, certificates: Option<(Certificates, TempDir)>) -> Self {
        let state = Arc::new(Mutex::new(State::new(quirks)));
        let shared = Arc::clone(&state);
        let tls = certificates.as_ref().map(|(files, _)| files.server_config());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = HttpServer::start(tls, move |request| serve(Arc::clone(&shared), request));
        state.lock().unwrap().base = format!("{scheme}://{}", server.address());
        Self { server, state, certificates }
    }

    /// The host and port.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// The origin, with its scheme.
    pub fn origin(&self) -> String {
        self.state.lock().unwrap().base.clone()
    }

    /// The name of an image here.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The authority that signed this server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.certificates.as_ref().expect("a server with TLS").0.authority()
    }

    /// Adds a fault. Of several that meet a request the earliest added happens.
    pub fn inject(&self, rule: Rule) -> &Self {
        self.state.lock().unwrap().rules.push(rule);
        self
    }

    /// Changes what is always so.
    pub fn change(&self, change: impl FnOnce(&mut Quirks)) {
        change(&mut self.state.lock().unwrap().quirks);
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.put_blob_as(repository, &digest, bytes);
        digest
    }

    /// Puts a blob into a repository under any digest.
    pub fn put_blob_as(&self, repository: &str, digest: &Digest, bytes: impl Into<Bytes>) {
        let key = (repository.to_owned(), digest.to_string());
        self.state.lock().unwrap().blobs.insert(key, bytes.into());
    }

    /// Puts a manifest into a repository, under a tag or digest and under its digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        selector: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let mut state = self.state.lock().unwrap();
        for selector in [selector, digest.as_str()] {
            let key = (repository.to_owned(), selector.to_owned());
            state.manifests.insert(key, (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    /// A blob's bytes, as stored.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        let key = (repository.to_owned(), digest.to_string());
        self.state.lock().unwrap().blobs.get(&key).cloned()
    }

    /// A manifest's bytes, by tag or digest.
    pub fn manifest(&self, repository: &str, selector: &str) -> Option<Bytes> {
        let key = (repository.to_owned(), selector.to_owned());
        self.state.lock().unwrap().manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// The tags of a repository, sorted.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.state.lock().unwrap().tags(repository)
    }

    /// Every request until now, in the order of arrival.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The requests of a method whose path contains a text.
    pub fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let wanted = |it: &Seen| it.method == method && it.path.contains(path);
        self.requests().into_iter().filter(wanted).collect()
    }

    /// `METHOD path` of every request but those to the version check and the token server.
    pub fn story(&self) -> Vec<String> {
        let own = |it: &Seen| it.path != "/v2/" && it.path != "/token";
        self.requests()
            .iter()
            .filter(|it| own(it))
            .map(|it| format!("{} {}", it.method, it.path))
            .collect()
    }

    /// Forgets the requests until now.
    pub fn forget(&self) {
        self.state.lock().unwrap().forget();
    }

    /// The most requests that were open at once.
    pub fn peak(&self) -> usize {
        self.state.lock().unwrap().peak
    }

    /// Makes every token given until now invalid.
    pub fn expire_tokens(&self) {
        self.state.lock().unwrap().tokens.clear();
    }
}

/// What to do with the connection.
enum Outcome {
    Answer(Answer),
    /// The answer breaks off after so many bytes of its body.
    Cut(Answer, usize),
    /// The answer comes in pieces.
    Drip(Answer, usize, Duration),
    Close,
}

async fn serve(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let call = Call::of(&parts);
    let (index, fault) = state.lock().unwrap().arrive(&call);
    let outcome = answer(&state, call, body, fault, index).await;
    let status = match &outcome {
        Outcome::Answer(answer) | Outcome::Cut(answer, _) | Outcome::Drip(answer, ..) => {
            answer.status
        }
        Outcome::Close => 0,
    };
    state.lock().unwrap().leave(index, status);
    match outcome {
        Outcome::Answer(answer) if parts.method == hyper::Method::HEAD => {
            reply(Outcome::Answer(headers_alone(answer)))
        }
        outcome => reply(outcome),
    }
}

async fn answer(
    state: &Mutex<State>,
    mut call: Call,
    mut body: Incoming,
    fault: Option<Fault>,
    index: usize,
) -> Outcome {
    let limit = match &fault {
        Some(Fault::CutRequest(bytes) | Fault::AnswerAfter(bytes, _)) => *bytes,
        _ => usize::MAX,
    };
    if fault.is_none()
        && let Some(refusal) = state.lock().unwrap().refuse_before_body(&call)
    {
        return Outcome::Answer(refusal);
    }
    let whole = read(&mut body, limit, &mut call.body).await;
    if matches!(fault, Some(Fault::Stall)) {
        return std::future::pending().await;
    }
    let mut state = state.lock().unwrap();
    state.seen_body(index, &call.body);
    if !whole || matches!(fault, Some(Fault::CutRequest(_))) {
        state.broken(&call);
        return Outcome::Close;
    }
    match fault {
        Some(Fault::Answer(answer) | Fault::AnswerAfter(_, answer)) => Outcome::Answer(answer),
        Some(Fault::Expire(status)) => Outcome::Answer(state.expire(&call, status)),
        fault => faulty(state.respond(&call), fault),
    }
}

/// The proper answer, and what the fault makes of it.
fn faulty(mut answer: Answer, fault: Option<Fault>) -> Outcome {
    match fault {
        Some(Fault::Lose) => Outcome::Close,
        Some(Fault::CutAnswer(bytes)) => Outcome::Cut(answer, bytes),
        Some(Fault::Drip(bytes, pause)) => Outcome::Drip(answer, bytes, pause),
        Some(Fault::Change(changes)) => {
            for change in &changes {
                answer.change(change);
            }
            Outcome::Answer(answer)
        }
        _ => Outcome::Answer(answer),
    }
}

/// Reads at most `limit` bytes; false when the client went away before the end.
async fn read(body: &mut Incoming, limit: usize, into: &mut Bytes) -> bool {
    let mut bytes = BytesMut::new();
    let mut whole = true;
    while bytes.len() < limit {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data[..data.len().min(limit - bytes.len())]);
                }
            }
            Some(Err(_)) => {
                whole = false;
                break;
            }
            None => break,
        }
    }
    *into = bytes.freeze();
    whole
}

fn reply(outcome: Outcome) -> Reply {
    let (answer, pieces) = match outcome {
        Outcome::Close => return Err(closed()),
        Outcome::Answer(answer) => {
            let body =
                Full::new(answer.body.clone()).map_err(|never| match never {}).boxed_unsync();
            return Ok(head(&answer).body(body).expect("a well-formed answer"));
        }
        Outcome::Cut(answer, bytes) => {
            let kept = answer.body.slice(..bytes.min(answer.body.len()));
            // What was sent before must have left: an error discards what waits to be written.
            let end = stream::once(async {
                tokio::time::sleep(FLUSHED).await;
                Err(closed())
            });
            (answer, stream::iter([Ok(Frame::data(kept))]).chain(end).boxed())
        }
        Outcome::Drip(answer, bytes, pause) => {
            let chunks: Vec<_> = answer.body.chunks(bytes).map(Bytes::copy_from_slice).collect();
            let pieces = stream::iter(chunks).then(move |piece| async move {
                tokio::time::sleep(pause).await;
                Ok(Frame::data(piece))
            });
            (answer, pieces.boxed())
        }
    };
    let body = StreamBody::new(pieces).boxed_unsync();
    Ok(head(&answer).body(body).expect("a well-formed answer"))
}

/// The answer to a `HEAD`: a length that a fault changed need not be the body's.
fn headers_alone(answer: Answer) -> Answer {
    let length = answer.body.len().to_string();
    let told = ["content-length", "transfer-encoding"];
    let is_told = answer.headers.iter().any(|(name, _)| told.contains(&&*name.to_lowercase()));
    let answer = if is_told { answer } else { answer.header("Content-Length", length) };
    answer.body("")
}

fn head(answer: &Answer) -> hyper::http::response::Builder {
    let mut head = Response::builder().status(answer.status);
    let named = |name: &str| answer.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !named("content-length") && !named("transfer-encoding") && answer.status != 204 {
        head = head.header("Content-Length", answer.body.len());
    }
    answer.headers.iter().fold(head, |head, (name, value)| head.header(name, value))
}

fn closed() -> io::Error {
    io::Error::other("the script closes the connection")
}
