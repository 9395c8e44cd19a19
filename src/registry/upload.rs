//! Uploads: one PUT where that works, else one PATCH, else chunks.
//!
//! ```text
//!   POST ─► Location ─► PUT ?digest=…  (body)                              whole
//!                   ├─► PATCH (body) ─► Location ─► PUT ?digest=…           streamed
//!                   └─► PATCH (chunk) ─► Location ─► PATCH … ─► PUT ?digest=…  in chunks
//! ```
//!
//! The address of the next request is taken from each answer anew. Where the end of a request is
//! unclear, the registry is asked what it has before anything is sent again.

use std::sync::Arc;

use reqwest::{Method, Url};

use super::client::{Client, request};
use super::failure::{Failure, Outcome};
use super::location::location;
use super::payload::{Meter, Part, Payload, Pieces};
use super::request::{Request, Target};
use super::response::Response;
use super::scopes::need;
use super::upload_strategy::UploadStrategy;
use super::{Access, BlobSource};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Digest, Repository};

/// What GitHub's registry takes at most.
const CHUNK: u64 = 4 * 1024 * 1024;
/// Chunks are not made smaller than this, however often a registry says that they are too large.
const SMALLEST_CHUNK: u64 = 256 * 1024;
/// Chunks are held in memory: a registry that demands larger ones is out of reach.
const LARGEST_CHUNK: u64 = 64 * 1024 * 1024;

/// An upload that the registry opened.
#[derive(Clone)]
pub(super) struct Session {
    /// Where the next request goes to.
    pub url: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// The smallest chunk that it takes, but for the last one.
    smallest_chunk: u64,
}

impl Session {
    /// Reads the answer that opens an upload.
    pub(super) fn of(answer: &Response) -> Outcome<Self> {
        let smallest = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(Self { url: location(answer)?, offset: 0, smallest_chunk: smallest.unwrap_or_default() })
    }

    /// Takes in what an answer says about the session, after the bytes up to `sent` were sent.
    pub(super) fn go_on(&mut self, answer: &Response, sent: u64) -> Outcome<()> {
        self.url = location(answer)?;
        self.offset = answer.header("range").and_then(received).map_or(sent, |have| have.min(sent));
        Ok(())
    }

    /// Whether the registry has that many bytes.
    pub(super) fn has_all(&self, size: u64) -> bool {
        self.offset >= size
    }
}

/// Reads `0-499`, the bytes that a registry has; gives how many they are.
///
/// `0-0` is what registries say when they have nothing, as well as when they have one byte.
fn received(range: &str) -> Option<u64> {
    let text = range.strip_prefix("bytes=").unwrap_or(range);
    let (start, end) = text.split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    match (start.trim(), end) {
        ("0", 0) => Some(0),
        ("0", end) => end.checked_add(1),
        _ => None,
    }
}

/// Has a registry open an upload.
pub(super) async fn open(client: &Client, repository: &Repository) -> Outcome<Session> {
    let post = request(Method::POST, repository, "blobs/uploads/");
    let answer = client.send(repository, &post).await?.expect(&[202]).await?;
    let session = Session::of(&answer)?;
    answer.discard().await;
    Ok(session)
}

/// Ends an upload; the body is what the registry does not have yet.
pub(super) async fn finish(
    client: &Client,
    repository: &Repository,
    digest: &Digest,
    session: &Session,
    payload: Payload,
) -> Outcome<()> {
    let mut url = session.url.clone();
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    let put = Request::new(Method::PUT, Target::Url(url)).once();
    let put = put.need(need(repository, Access::Push)).payload(payload);
    let answer = client.send(repository, &put).await?.expect(&[200, 201, 204]).await?;
    let stored = answer.content_digest();
    answer.discard().await;
    match stored {
        Some(stored) if stored.algorithm() == digest.algorithm() && stored != *digest => {
            let why = format!("the registry stored {stored}, expected {digest}");
            Err(Error::new(ErrorKind::Corrupt, "store the blob").because(why).into())
        }
        _ => Ok(()),
    }
}

/// One blob on its way to one repository.
pub(super) struct Upload<'a> {
    pub client: &'a Client,
    pub repository: &'a Repository,
    pub digest: &'a Digest,
    pub size: u64,
    pub source: Arc<dyn BlobSource>,
    pub meter: Arc<Meter>,
}

/// What to do after a failure.
enum Next {
    /// Find out what the registry has, and go on from there.
    Repeat,
    /// The same, but in another way once: what failed may be the way or the moment.
    Doubt,
    /// Try in another way.
    Change(UploadStrategy),
    GiveUp,
}

/// Whether another way was tried because one PUT may not be what the registry takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    None,
    UnderWay,
    Failed,
}

impl Upload<'_> {
    /// Sends the blob, in `session` where the registry opened one already.
    pub(super) async fn run(&self, session: Option<Session>) -> Outcome<()> {
        let host = self.client.host(self.repository);
        let configured = self.client.options().chunk_size;
        let mut strategy =
            configured.map_or_else(|| host.strategy.get(), |_| UploadStrategy::Chunked);
        let mut chunk = configured.unwrap_or(CHUNK).clamp(1, LARGEST_CHUNK);
        let mut session = session;
        let mut trial = Trial::None;
        let mut attempt = 1;
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => open(self.client, self.repository).await?,
            };
            let Err((failure, left)) = self.send(strategy, current, chunk).await else {
                host.strategy.set(strategy);
                return Ok(());
            };
            let mut next = next(strategy, &failure);
            if trial == Trial::UnderWay && !matches!(next, Next::Repeat if failure.is_temporary()) {
                // It was not the way.
                (strategy, trial) = (UploadStrategy::Whole, Trial::Failed);
                next = Next::Repeat;
            }
            match next {
                Next::GiveUp => return Err(failure),
                Next::Change(UploadStrategy::Chunked) if strategy == UploadStrategy::Chunked => {
                    if chunk <= SMALLEST_CHUNK {
                        return Err(failure);
                    }
                    chunk /= 2;
                }
                Next::Change(other) => strategy = other,
                Next::Repeat | Next::Doubt => {
                    let sender = self.client.exchange().sender();
                    if !sender.retry().allows(attempt, failure.retry_after()) {
                        return Err(failure);
                    }
                    sender.pause(attempt, &failure).await;
                    attempt += 1;
                    if self.is_there().await? {
                        return Ok(());
                    }
                    session = self.resume(strategy, left).await;
                    if matches!(next, Next::Doubt) && trial == Trial::None {
                        (strategy, trial) = (UploadStrategy::Streamed, Trial::UnderWay);
                    }
                }
            }
        }
    }

    /// Sends the blob, or the rest of it, in one way. With a failure comes the session, as far as
    /// it is known.
    async fn send(
        &self,
        strategy: UploadStrategy,
        mut session: Session,
        chunk: u64,
    ) -> Result<(), (Failure, Session)> {
        let outcome = match strategy {
            UploadStrategy::Whole => self.put(&session, self.rest(0)).await,
            UploadStrategy::Streamed => self.patch_and_put(&mut session).await,
            UploadStrategy::Chunked => self.chunks_and_put(&mut session, chunk).await,
        };
        outcome.map_err(|failure| (failure, session))
    }

    fn request(&self, method: Method, url: Url) -> Request {
        let request = Request::new(method, Target::Url(url)).once();
        request.need(need(self.repository, Access::Push))
    }

    fn part(&self, offset: u64) -> Part {
        Part {
            source: self.source.clone(),
            offset,
            length: self.size - offset,
            meter: self.meter.clone(),
            buffers: self.client.buffers().clone(),
        }
    }

    fn rest(&self, offset: u64) -> Payload {
        Payload::Part(self.part(offset))
    }

    /// Ends an upload; the body is what the registry does not have yet.
    async fn put(&self, session: &Session, payload: Payload) -> Outcome<()> {
        finish(self.client, self.repository, self.digest, session, payload).await
    }

    async fn patch_and_put(&self, session: &mut Session) -> Outcome<()> {
        if session.offset < self.size {
            let mut patch = self.request(Method::PATCH, session.url.clone());
            if session.offset > 0 {
                let range = format!("{}-{}", session.offset, self.size - 1);
                patch = patch.header("content-range", &range);
            }
            let patch = patch.payload(self.rest(session.offset));
            let answer =
                self.client.send(self.repository, &patch).await?.expect(&[202, 204]).await?;
            session.go_on(&answer, self.size)?;
            answer.discard().await;
        }
        if session.offset < self.size {
            return Err(self.lost(session.offset));
        }
        self.put(session, Payload::Empty).await
    }

    async fn chunks_and_put(&self, session: &mut Session, chunk: u64) -> Outcome<()> {
        let chunk = chunk.max(session.smallest_chunk);
        if chunk > LARGEST_CHUNK {
            let why = format!("it takes no chunks of less than {chunk} bytes");
            let what = format!("send chunks to {}", self.repository.registry());
            return Err(Error::new(ErrorKind::Unsupported, what).because(why).into());
        }
        let mut pieces = Pieces::new(self.part(session.offset));
        while session.offset < self.size {
            let start = session.offset;
            let bytes = pieces.next(chunk).await?;
            let end = start + bytes.len() as u64;
            let patch = self
                .request(Method::PATCH, session.url.clone())
                .header("content-range", &format!("{start}-{}", end - 1))
                .header("content-type", "application/octet-stream")
                .payload(Payload::Bytes(bytes));
            let answer =
                self.client.send(self.repository, &patch).await?.expect(&[202, 204]).await?;
            session.go_on(&answer, end)?;
            answer.discard().await;
            if session.offset <= start {
                return Err(self.lost(session.offset));
            }
            self.meter.reached(session.offset, session.offset - start);
            if session.offset < end {
                pieces = Pieces::new(self.part(session.offset));
            }
        }
        self.put(session, Payload::Empty).await?;
        self.check_size().await
    }

    /// Some registries take every chunk, say that all is well, and keep the last chunk alone.
    async fn check_size(&self) -> Outcome<()> {
        let (client, repository, digest) = (self.client, self.repository, self.digest);
        let mut stored = match client.head_blob(repository, digest, Access::Push).await {
            // A registry that does not say the size is believed.
            Err(Failure::Refused(_)) => return Ok(()),
            outcome => outcome?,
        };
        if stored.is_some_and(|stored| stored != self.size) {
            // Some answer this question with any length, as there is no body.
            stored = client.blob_size(repository, digest).await?;
        }
        match stored {
            Some(stored) if stored == self.size => Ok(()),
            stored => {
                let stored = stored.unwrap_or_default();
                let why = format!("the registry stored {stored} of {} bytes", self.size);
                Err(Error::new(ErrorKind::Corrupt, "send the blob in chunks").because(why).into())
            }
        }
    }

    fn lost(&self, offset: u64) -> Failure {
        let why =
            format!("the registry has {offset} of {} bytes and says that all is well", self.size);
        Error::new(ErrorKind::Invalid, "send the blob").because(why).into()
    }

    /// Whether the blob arrived after all.
    async fn is_there(&self) -> Outcome<bool> {
        let (repository, digest) = (self.repository, self.digest);
        let stored = self.client.ask_for_blob(repository, digest, Access::Push).await?;
        Ok(stored.is_some_and(|stored| stored == 0 || stored == self.size))
    }

    /// Asks what a session has; `None` where a new one is needed.
    async fn resume(&self, strategy: UploadStrategy, session: Session) -> Option<Session> {
        if strategy == UploadStrategy::Whole {
            return None;
        }
        let get = self.request(Method::GET, session.url.clone());
        let answer = self.client.send(self.repository, &get).await.ok()?;
        if answer.status().as_u16() != 204 {
            answer.discard().await;
            return None;
        }
        let offset = answer.header("range").and_then(received)?;
        if offset > self.size {
            return None;
        }
        // The Location of this answer may be missing: the old one is good then.
        let url = location(&answer).unwrap_or(session.url);
        answer.discard().await;
        Some(Session { url, offset, smallest_chunk: session.smallest_chunk })
    }
}

/// Decides what to do after a failure.
fn next(strategy: UploadStrategy, failure: &Failure) -> Next {
    match (failure.status(), strategy) {
        // Registries that take no body here say so in these ways, among them old Artifactories.
        (Some(404 | 500 | 502), UploadStrategy::Whole) => Next::Doubt,
        _ if failure.is_temporary() => Next::Repeat,
        // A session that the registry forgot, or that another one of its servers has.
        (Some(404), _) | (Some(416), UploadStrategy::Chunked) => Next::Repeat,
        // GitHub's registry says with a 416 that a body is too large.
        (Some(413), _) | (Some(416), UploadStrategy::Streamed) => {
            Next::Change(UploadStrategy::Chunked)
        }
        (Some(400 | 405 | 411 | 415 | 416 | 501), UploadStrategy::Whole) => {
            Next::Change(UploadStrategy::Streamed)
        }
        _ => Next::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tell_what_a_registry_has() {
        for (range, expect) in [
            ("0-499", Some(500)),
            ("bytes=0-499", Some(500)),
            ("0-0", Some(0)),
            ("5-499", None),
            ("0-", None),
            ("0", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(received(range), expect, "{range}");
        }
    }

    #[test]
    fn a_failure_decides_how_to_go_on() {
        use super::super::testing::refused;
        let decide =
            |strategy, status| match next(strategy, &Failure::Refused(Box::new(refused(status)))) {
                Next::Repeat => "repeat",
                Next::Doubt => "doubt",
                Next::Change(UploadStrategy::Whole) => "whole",
                Next::Change(UploadStrategy::Streamed) => "streamed",
                Next::Change(UploadStrategy::Chunked) => "chunked",
                Next::GiveUp => "give up",
            };
        for (status, whole, streamed, chunked) in [
            (400, "streamed", "give up", "give up"),
            (401, "give up", "give up", "give up"),
            (403, "give up", "give up", "give up"),
            (404, "doubt", "repeat", "repeat"),
            (405, "streamed", "give up", "give up"),
            (413, "chunked", "chunked", "chunked"),
            (416, "streamed", "chunked", "repeat"),
            (429, "repeat", "repeat", "repeat"),
            (499, "repeat", "repeat", "repeat"),
            (500, "doubt", "repeat", "repeat"),
            (502, "doubt", "repeat", "repeat"),
            (503, "repeat", "repeat", "repeat"),
        ] {
            assert_eq!(decide(UploadStrategy::Whole, status), whole, "{status}");
            assert_eq!(decide(UploadStrategy::Streamed, status), streamed, "{status}");
            assert_eq!(decide(UploadStrategy::Chunked, status), chunked, "{status}");
        }
    }
}
