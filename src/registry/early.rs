//! Blobs that are sent while they are made: their digests are known when the last byte is.
//!
//! ```text
//!   made:   ──────────────────────────┤ digest
//!   sent:   POST ─► PATCH ────────────┴─► Location ─► PUT ?digest=…
//! ```
//!
//! This saves time and decides nothing. Whatever goes wrong here, a blob that is never finished
//! included, is no error: [`Client::push_blob`] sends the blob as if nothing had been. It waits for
//! what is under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use tokio::sync::watch;

use super::client::Client;
use super::failure::{Failure, Outcome};
use super::growing::{GrowingBlob, Growth};
use super::payload::{Growing, Meter, Payload};
use super::request::{Request, Target};
use super::scopes::need;
use super::upload::{self, Session};
use super::upload_strategy::UploadStrategy;
use super::{Access, BlobSource, OnBytes};
use crate::error::{Error, ErrorKind};
use crate::oci::{Descriptor, Digest, Repository};

/// Where less than this is left to send, it is not asked whether the registry has the blob.
const REST: u64 = 1 << 20;

/// A blob on its way to a repository while it is made.
pub(super) struct EarlyUpload {
    client: Client,
    repository: Repository,
    blob: GrowingBlob,
    meter: Arc<Meter>,
}

impl Client {
    /// Begins to send a blob that is being made. Must be called where tasks can be started.
    pub fn push_while_made(&self, repository: &Repository, blob: GrowingBlob, progress: OnBytes) {
        let host = self.host(repository);
        let takes_no_streams = host.refuses_streams.load(Ordering::Relaxed)
            || host.strategy.get() == UploadStrategy::Chunked
            || self.options().chunk_size.is_some();
        if takes_no_streams {
            return;
        }
        let (ended, end) = watch::channel(false);
        self.known_blobs().note_early(repository.clone(), blob.growth.clone(), end);
        let (client, repository) = (self.clone(), repository.clone());
        let meter = Arc::new(Meter::new(progress));
        let upload = EarlyUpload { client, repository, blob, meter };
        tokio::spawn(async move {
            upload.run().await;
            ended.send_replace(true);
        });
    }

    /// Begins to bring a small blob into a repository. Whoever pushes it later waits for that, and does
    /// it himself where it failed. Must be called where tasks can be started.
    pub fn push_early(
        &self,
        repository: &Repository,
        descriptor: Descriptor,
        source: Arc<dyn BlobSource>,
    ) {
        let (client, repository) = (self.clone(), repository.clone());
        tokio::spawn(async move {
            let nobody: OnBytes = Arc::new(|_| {});
            let _ = client.push_blob(&repository, &descriptor, source, &[], nobody).await;
        });
    }

    /// Begins to ask whether a repository has blobs: whoever pushes one that it has need not ask. Must be
    /// called where tasks can be started.
    pub fn look_early(&self, repository: &Repository, digests: Vec<Digest>) {
        let (client, repository) = (self.clone(), repository.clone());
        tokio::spawn(async move {
            for digest in digests {
                let found = client.ask_for_blob(&repository, &digest, Access::Push).await;
                if matches!(found, Ok(Some(_))) {
                    client.known_blobs().add(&repository, &digest);
                }
            }
        });
    }

    /// Whether a blob was made, and is sent to a repository, by [`Self::push_while_made`].
    pub fn is_sent_while_made(&self, repository: &Repository, digest: &Digest) -> bool {
        self.known_blobs().is_early(repository, digest)
    }

    /// Waits for the end of what was begun so.
    pub async fn end_early(&self) {
        self.known_blobs().end_early().await;
    }
}

impl EarlyUpload {
    async fn run(self) {
        let host = self.client.host(&self.repository);
        let _permit = host.blobs.acquire().await.expect("the semaphore is never closed");
        if self.blob.growth.borrow().digest.is_some() {
            // Nothing is won any more, and the registry may have it.
            return;
        }
        let Ok(mut session) = upload::open(&self.client, &self.repository).await else { return };
        let sent = tokio::select! {
            sent = self.send(&mut session) => sent,
            () = self.stalls() => Err(Error::new(ErrorKind::Network, "send a blob").into()),
        };
        if let Ok(Some(digest)) = sent {
            return self.client.known_blobs().add(&self.repository, &digest);
        }
        // What was not made says nothing of the registry; anything else would only happen again.
        let is_made = self.blob.growth.borrow().digest.is_some();
        if sent.is_err_and(|failure| is_made || matches!(failure, Failure::Refused(_))) {
            host.refuses_streams.store(true, Ordering::Relaxed);
        }
        let cancel = self.client.cancel(&self.repository, session);
        // Whoever does not answer that is not waited for.
        let _ = tokio::time::timeout(self.silence(), cancel).await;
    }

    fn silence(&self) -> Duration {
        self.client.options().timeouts.early
    }

    /// Waits until nothing more happens to a blob that is made; in vain while something does.
    async fn stalls(&self) {
        let mut growth = self.blob.growth.clone();
        if growth.wait_for(|growth| growth.digest.is_some()).await.is_err() {
            // It is not made: its sender hears of that.
            std::future::pending::<()>().await;
        }
        loop {
            let moved = self.meter.moved();
            tokio::time::sleep(self.silence()).await;
            if self.meter.moved() == moved {
                return;
            }
        }
    }

    /// Sends all of it; `None` where the registry turns out to have it.
    async fn send(&self, session: &mut Session) -> Outcome<Option<Digest>> {
        let patch = Request::new(Method::PATCH, Target::Url(session.url.clone())).once();
        let patch = patch.need(need(&self.repository, Access::Push));
        let patch = patch.payload(Payload::Growing(Growing {
            blob: self.blob.clone(),
            meter: self.meter.clone(),
            buffers: self.client.buffers().clone(),
        }));
        let answer = tokio::select! {
            answer = self.client.send(&self.repository, &patch) => answer?,
            () = self.is_there() => return Ok(None),
        };
        let answer = answer.expect(&[202, 204]).await?;
        let Growth { bytes, digest } = self.blob.growth.borrow().clone();
        let Some(digest) = digest else {
            let early = "the registry answered before the end";
            return Err(Error::new(ErrorKind::Invalid, "send a blob").because(early).into());
        };
        session.go_on(&answer, bytes)?;
        answer.discard().await;
        if !session.has_all(bytes) {
            let lost = "the registry has not all of it";
            return Err(Error::new(ErrorKind::Invalid, "send a blob").because(lost).into());
        }
        upload::finish(&self.client, &self.repository, &digest, session, Payload::Empty).await?;
        Ok(Some(digest))
    }

    /// Waits until the registry is known to have the blob, in vain where it has not.
    async fn is_there(&self) {
        let mut growth = self.blob.growth.clone();
        let made = growth.wait_for(|growth| growth.digest.is_some()).await.map(|made| made.clone());
        let made = made.unwrap_or_default();
        if let Some(digest) = made.digest
            && made.bytes.saturating_sub(self.meter.moved()) >= REST
        {
            let found = self.client.ask_for_blob(&self.repository, &digest, Access::Push).await;
            if matches!(found, Ok(Some(_))) {
                self.client.known_blobs().add(&self.repository, &digest);
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Give, Got, NO_ANSWER, Server, client, options};
    use super::super::{Options, Pushed, Timeouts};
    use super::*;
    use crate::oci::MediaType;
    use std::fs::File;
    use std::io::{Read, Write};

    struct Source(Vec<u8>);

    impl BlobSource for Source {
        fn open(&self) -> crate::error::Result<Box<dyn Read + Send>> {
            Ok(Box::new(std::io::Cursor::new(self.0.clone())))
        }
    }

    /// A blob, and the hand that writes it.
    struct Making {
        bytes: Vec<u8>,
        file: Arc<File>,
        growth: watch::Sender<Growth>,
    }

    impl Making {
        fn new(size: usize) -> (Self, GrowingBlob) {
            let (growth, growing) = watch::channel(Growth::default());
            let file = Arc::new(tempfile::tempfile().unwrap());
            let bytes = (0..size).map(|at| at.to_string().as_bytes()[0]).collect();
            let blob = GrowingBlob { file: file.clone(), growth: growing };
            (Self { bytes, file, growth }, blob)
        }

        fn write_to(&self, end: usize) {
            let begin = usize::try_from(self.growth.borrow().bytes).unwrap();
            (&*self.file).write_all(&self.bytes[begin..end]).unwrap();
            self.growth.send_modify(|growth| growth.bytes = end as u64);
        }

        fn end(&self) {
            self.write_to(self.bytes.len());
            let digest = Digest::of(&self.bytes);
            self.growth.send_modify(|growth| growth.digest = Some(digest));
        }

        async fn push(&self, client: &Client, to: &Repository) -> Pushed {
            let descriptor = Descriptor::of(MediaType::OCI_LAYER, &self.bytes);
            let source = Arc::new(Source(self.bytes.clone()));
            client.push_blob(to, &descriptor, source, &[], Arc::new(|_| {})).await.unwrap()
        }
    }

    /// A registry that has nothing and takes whatever is sent, but answers a PATCH with a status.
    fn registry(patched: u16) -> impl Fn(&Got, &str) -> Give {
        move |got, base| {
            let status = match got.line.split('/').next().unwrap_or_default() {
                "HEAD " => 404,
                "POST " => 202,
                "PATCH " => patched,
                "PUT " => 201,
                _ => 204,
            };
            (status, vec![("location", format!("{base}/session/1"))], bytes::Bytes::new())
        }
    }

    fn verbs(server: &Server) -> Vec<String> {
        let lines = server.lines();
        lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_blob_is_sent_while_it_is_made_and_named_at_its_end() {
        let server = Server::start(registry(202)).await;
        let (client, to) = (client(), server.repository("a"));
        let (making, blob) = Making::new(700_000);
        client.push_while_made(&to, blob, Arc::new(|_| {}));
        for end in [1, 1000, 300_000, 300_001] {
            making.write_to(end);
            tokio::task::yield_now().await;
        }
        making.end();
        assert_eq!(making.push(&client, &to).await, Pushed::Uploaded);
        assert_eq!(verbs(&server), ["POST", "PATCH", "PUT"]);
        let got = server.got();
        assert!(got[1].body == making.bytes && got[2].body.is_empty());
        let digest = Digest::of(&making.bytes).as_str().replace(':', "%3A");
        assert_eq!(got[2].line, format!("PUT /session/1?digest={digest}"));
        // It is there once for all.
        assert_eq!(making.push(&client, &to).await, Pushed::Exists);
        assert_eq!(server.lines().len(), 3);
    }

    #[tokio::test]
    async fn a_registry_that_takes_no_streams_gets_the_blob_whole_and_no_other_stream() {
        let server = Server::start(registry(411)).await;
        let (client, to) = (client(), server.repository("a"));
        for round in 0..2 {
            let (making, blob) = Making::new(1000 + round);
            client.push_while_made(&to, blob, Arc::new(|_| {}));
            tokio::task::yield_now().await;
            making.end();
            assert_eq!(making.push(&client, &to).await, Pushed::Uploaded);
        }
        let verbs = verbs(&server).join(" ");
        assert_eq!(verbs, "POST PATCH DELETE HEAD POST PUT HEAD POST PUT");
    }

    #[tokio::test]
    async fn a_registry_that_does_not_answer_is_not_waited_for() {
        let server = Server::start(|got, base| match got.line.split('/').next() {
            Some("PATCH " | "DELETE ") => registry(NO_ANSWER)(got, base),
            _ => registry(202)(got, base),
        })
        .await;
        let early = Duration::from_millis(10);
        let timeouts = Timeouts { early, ..Timeouts::default() };
        let client = Client::new(Options { timeouts, ..options() }).unwrap();
        let to = server.repository("a");
        for round in 0..2 {
            let (making, blob) = Making::new(1000 + round);
            client.push_while_made(&to, blob, Arc::new(|_| {}));
            making.write_to(500);
            // The first is under way, then nobody begins another.
            while round == 0 && !verbs(&server).contains(&"POST".to_owned()) {
                tokio::task::yield_now().await;
            }
            making.end();
            assert_eq!(making.push(&client, &to).await, Pushed::Uploaded);
        }
        assert_eq!(verbs(&server).iter().filter(|verb| *verb == "PATCH").count(), 1);
        assert_eq!(verbs(&server).iter().filter(|verb| *verb == "PUT").count(), 2);
    }

    #[tokio::test]
    async fn a_blob_that_is_never_finished_is_taken_back() {
        let server = Server::start(registry(202)).await;
        let (client, to) = (client(), server.repository("a"));
        let (making, blob) = Making::new(1000);
        client.push_while_made(&to, blob, Arc::new(|_| {}));
        making.write_to(500);
        drop(making);
        // Nothing waits for it, so it is looked at until it is over.
        while !server.lines().iter().any(|line| line.starts_with("DELETE")) {
            tokio::task::yield_now().await;
        }
        assert!(server.lines().iter().all(|line| !line.starts_with("PUT")));
    }

    #[tokio::test]
    async fn what_was_asked_and_sent_early_is_not_asked_and_sent_again() {
        let base = Digest::of(b"base");
        let there = format!("/blobs/{base}");
        let server = Server::start(move |got, base| {
            if got.line.ends_with(&there) {
                return (200, Vec::new(), bytes::Bytes::new());
            }
            registry(202)(got, base)
        })
        .await;
        let (client, to) = (client(), server.repository("a"));
        client.look_early(&to, vec![base.clone(), Digest::of(b"elsewhere")]);
        while server.lines().len() < 2 || !client.known_blobs().has(&to, &base) {
            tokio::task::yield_now().await;
        }
        let push = async |bytes: &'static [u8]| {
            let descriptor = Descriptor::of(MediaType::OCI_LAYER, bytes);
            let source = Arc::new(Source(bytes.to_vec()));
            client.push_blob(&to, &descriptor, source, &[], Arc::new(|_| {})).await.unwrap()
        };
        assert_eq!(push(b"base").await, Pushed::Exists);
        assert_eq!(verbs(&server), ["HEAD", "HEAD"]);
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"config");
        client.push_early(&to, config, Arc::new(Source(b"config".to_vec())));
        // Whoever is first sends it, and the other one waits.
        push(b"config").await;
        assert_eq!(push(b"config").await, Pushed::Exists);
        assert_eq!(verbs(&server), ["HEAD", "HEAD", "HEAD", "POST", "PUT"]);
    }

    #[tokio::test]
    async fn what_is_made_before_anything_is_sent_goes_the_usual_way() {
        let server = Server::start(registry(202)).await;
        let (client, to) = (client(), server.repository("a"));
        let (making, blob) = Making::new(1000);
        making.end();
        client.push_while_made(&to, blob, Arc::new(|_| {}));
        assert_eq!(making.push(&client, &to).await, Pushed::Uploaded);
        assert_eq!(verbs(&server), ["HEAD", "POST", "PUT"]);
    }
}
