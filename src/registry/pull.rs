//! Pulling blobs: streamed, resumed after cuts, exactly as long as they must be.

use std::io::Write;

use bytes::Bytes;
use reqwest::{Method, Url};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::OnBytes;
use super::client::{Client, request};
use super::failure::{Cause, Failure, Outcome};
use super::mirrors::Named;
use super::request::Target;
use super::response::Response;
use crate::blocking::joined;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::{Descriptor, Repository};

/// How many pieces wait for a sink that is slower than the network.
const PIECES_WAITING: usize = 4;
/// How often the bytes at hand are read once more because a server ignores ranges.
const MOST_DISCARDS: u32 = 3;

impl Client {
    /// Pulls a blob into `sink`, which gets exactly `descriptor.size` bytes, on a thread of its own.
    ///
    /// The sink computes the digest: nothing else here does. A pull that breaks off goes on where
    /// it was.
    pub async fn pull_blob<S: Write + Send + 'static>(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        sink: S,
        progress: OnBytes,
    ) -> Result<S> {
        let host = self.host(repository);
        let _permit = host.blobs.acquire().await.expect("the semaphore is never closed");
        let mut pull = Pull {
            descriptor,
            at: 0,
            discards: 0,
            whole: false,
            writer: Writer::start(sink),
            progress,
        };
        let outcome = self.pull_all(repository, &mut pull).await;
        let sink = pull.writer.finish().await;
        let action = || format!("pull blob {} from {repository}", descriptor.digest);
        match (outcome, sink) {
            (_, Err(error)) => Err(Error::new(error.kind(), action()).caused_by(error)),
            (Err(failure), Ok(_)) => Err(failure.into_error(action())),
            (Ok(()), Ok(sink)) => Ok(sink),
        }
    }

    /// Pulls from one source after the other: what a mirror began, the next one goes on with.
    async fn pull_all<S>(&self, repository: &Repository, pull: &mut Pull<'_, S>) -> Outcome<()> {
        let sources = self.options().mirrors.sources(repository, Named::ByDigest)?;
        let (last, mirrors) = sources.split_last().expect("the registry itself is among them");
        for mirror in mirrors {
            if self.passes_by(mirror) {
                continue;
            }
            let from = Source { repository: mirror, url: None, is_mirror: true };
            match self.pull_some(&from, pull).await {
                Ok(()) => return Ok(()),
                Err(failure) => self.mirror_failed(mirror, failure),
            }
        }
        let last_source = Source { repository: last, url: None, is_mirror: false };
        let outcome = self.pull_stubbornly(&last_source, pull).await;
        let outcome = outcome.map_err(|failure| failure.asked_for(repository, last));
        if !outcome.as_ref().is_err_and(|failure| failure.status() == Some(404)) {
            return outcome;
        }
        for url in foreign_urls(pull.descriptor) {
            let from = Source { repository: last, url: Some(url), is_mirror: false };
            if self.pull_stubbornly(&from, pull).await.is_ok() {
                return Ok(());
            }
        }
        outcome
    }

    async fn pull_stubbornly<S>(&self, from: &Source<'_>, pull: &mut Pull<'_, S>) -> Outcome<()> {
        let mut attempt = 1;
        loop {
            let before = pull.at;
            let Err(failure) = self.pull_some(from, pull).await else { return Ok(()) };
            if pull.at > before {
                attempt = 1;
            }
            if !self.exchange().sender().may_repeat(&failure, attempt) {
                return Err(failure);
            }
            self.exchange().sender().pause(attempt, &failure).await;
            attempt += 1;
        }
    }

    /// Goes on with a pull for as long as one answer lasts.
    async fn pull_some<S>(&self, from: &Source<'_>, pull: &mut Pull<'_, S>) -> Outcome<()> {
        let path = format!("blobs/{}", pull.descriptor.digest);
        let mut get = request(Method::GET, from.repository, &path);
        if let Some(url) = &from.url {
            get.target = Target::Url(url.clone());
        }
        if pull.at > 0 && !pull.whole && pull.discards < MOST_DISCARDS {
            get = get.header("range", &format!("bytes={}-", pull.at));
        }
        // Repeats are counted above, where it is known whether there was progress.
        let get = get.once();
        let asking = self.send(from.repository, &get);
        let answer = if from.is_mirror {
            self.answer_of_mirror(from.repository, asking).await?
        } else {
            asking.await?
        };
        if answer.status().as_u16() == 416 && pull.at > 0 && !pull.whole {
            pull.whole = true;
            return Err(answer.broke(Cause::Broken("it refuses to go on where it was".to_owned())));
        }
        let answer = answer.expect(&[200, 206]).await?;
        let skip = pull.begin(&answer)?;
        pull.receive(answer, skip).await
    }
}

/// Where a blob is pulled from.
struct Source<'a> {
    repository: &'a Repository,
    /// Another place than the registry, which gets no credentials.
    url: Option<Url>,
    /// Whether another place is asked after it.
    is_mirror: bool,
}

/// Where a layer is that registries need not hold: old Windows layers are with their maker.
fn foreign_urls(descriptor: &Descriptor) -> Vec<Url> {
    if !descriptor.media_type.is_foreign_layer() {
        return Vec::new();
    }
    let listed = descriptor.extra.get("urls").and_then(Value::as_array);
    let urls = listed.into_iter().flatten().filter_map(|url| Url::parse(url.as_str()?).ok());
    // A manifest says these addresses, so TLS is the least to ask of them.
    urls.filter(|url| url.scheme() == "https").collect()
}

/// A pull under way.
struct Pull<'a, S> {
    descriptor: &'a Descriptor,
    /// How many bytes the sink was given.
    at: u64,
    /// How often a server sent again what was here.
    discards: u32,
    /// Whether the blob is asked for from its start, as the server makes a mess of ranges.
    whole: bool,
    writer: Writer<S>,
    progress: OnBytes,
}

impl<S> Pull<'_, S> {
    /// Checks what an answer holds; gives how many of its first bytes are here already.
    fn begin(&mut self, answer: &Response) -> Outcome<u64> {
        let size = self.descriptor.size;
        if answer.status().as_u16() == 206
            && self.at > 0
            && answer.header("content-range").is_none()
        {
            self.whole = true;
            let why = "it does not say which part of the blob it has".to_owned();
            return Err(answer.broke(Cause::Broken(why)));
        }
        if answer.status().as_u16() == 206 {
            let text = answer.header("content-range").unwrap_or("nothing");
            if content_range(text).is_some_and(|(start, total)| {
                start == self.at && total.is_none_or(|total| total == size)
            }) {
                return Ok(0);
            }
            let why = format!(
                "the answer covers {text}, expected bytes {}-{}/{size}",
                self.at,
                size.saturating_sub(1)
            );
            return Err(wrong(answer, &why));
        }
        if let Some(length) = answer.content_length().filter(|length| *length != size) {
            return Err(wrong(answer, &format!("the answer has {length} bytes, expected {size}")));
        }
        if self.at > 0 {
            self.discards += 1;
            if self.discards > MOST_DISCARDS {
                return Err(wrong(
                    answer,
                    "the registry ignores ranges, and the connection breaks",
                ));
            }
        }
        Ok(self.at)
    }

    async fn receive(&mut self, mut answer: Response, mut skip: u64) -> Outcome<()> {
        let size = self.descriptor.size;
        while let Some(mut chunk) = answer.chunk().await? {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            let _ = chunk.split_to(skipped);
            skip -= skipped as u64;
            let count = chunk.len() as u64;
            if self.at + count > size {
                return Err(wrong(&answer, &format!("the answer has more than {size} bytes")));
            }
            if count > 0 && !self.writer.write(chunk).await {
                return Ok(());
            }
            self.at += count;
            if count > 0 {
                (self.progress)(count);
            }
        }
        if self.at == size {
            return Ok(());
        }
        Err(answer.broke(Cause::Broken(format!("it ended at byte {} of {size}", self.at))))
    }
}

fn wrong(answer: &Response, why: &str) -> Failure {
    let what = format!("use the answer to {}", answer.describe());
    Error::new(ErrorKind::Corrupt, what).because(why).into()
}

/// Reads `bytes 5-9/10`: the first byte, and the whole size where it is given.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (start <= end).then_some((start, total))
}

/// Writes what arrives on a blocking thread: the network does not wait for the disk.
struct Writer<S> {
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<Result<S>>,
}

impl<S> Writer<S> {
    fn start(mut sink: S) -> Self
    where
        S: Write + Send + 'static,
    {
        let (pieces, mut arriving) = mpsc::channel::<Bytes>(PIECES_WAITING);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(piece) = arriving.blocking_recv() {
                sink.write_all(&piece).cannot(|| "write it")?;
            }
            Ok(sink)
        });
        Self { pieces, thread }
    }

    /// Hands on a piece; false where the sink failed, which [`Writer::finish`] tells.
    async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    async fn finish(self) -> Result<S> {
        drop(self.pieces);
        joined(self.thread.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn foreign_layers_are_where_they_say_over_https() {
        let urls = |kind: &str| {
            let mut descriptor = Descriptor::of(MediaType::new(kind), b"x");
            let list =
                ["https://a.test/x", "http://b.test/x", "file:///x", "x", "https://c.test/y"];
            descriptor.extra.insert("urls".to_owned(), list.into());
            foreign_urls(&descriptor).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert_eq!(urls(foreign), ["https://a.test/x", "https://c.test/y"]);
        assert_eq!(urls("application/vnd.oci.image.layer.v1.tar+gzip"), [""; 0]);
    }

    #[test]
    fn content_ranges_are_read() {
        for (text, expect) in [
            ("bytes 0-4/5", Some((0, Some(5)))),
            ("bytes 2-4/*", Some((2, None))),
            ("bytes */5", None),
            ("bytes 4-2/5", None),
            ("bytes 0-4", None),
            ("0-4/5", None),
            ("bytes a-4/5", None),
            ("bytes 0-99999999999999999999/5", None),
        ] {
            assert_eq!(content_range(text), expect, "{text}");
        }
    }
}
