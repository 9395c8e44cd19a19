//! Pushing blobs: look, else mount, else upload.

use std::sync::Arc;

use reqwest::Method;

use super::client::{Client, request};
use super::failure::Outcome;
use super::payload::Meter;
use super::request::{Request, Target};
use super::scopes::{ScopeRequest, Scopes, need};
use super::upload::{Session, Upload};
use super::{Access, BlobSource, OnBytes};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Repository};

/// How a blob came to be in its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Exists,
    /// The registry took it from another repository of its own.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// What became of the attempt to mount.
enum Mount {
    Done,
    /// The registry opened an upload instead.
    Opened(Session),
    No,
}

impl Client {
    /// Brings a blob into a repository, in the cheapest way that works: it is there, or the registry
    /// takes it from one of `mount_from` (those of other registries do not count), or it is sent.
    ///
    /// The same blob is pushed to one registry once at a time.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[Repository],
        progress: OnBytes,
    ) -> Result<Pushed> {
        let digest = &descriptor.digest;
        if self.known_blobs().early_has_ended(repository, digest).await {
            return Ok(Pushed::Uploaded);
        }
        let flight = self.known_blobs().flight(repository, digest);
        let _flight = flight.lock().await;
        if self.known_blobs().has(repository, digest) {
            return Ok(Pushed::Exists);
        }
        let host = self.host(repository);
        let _permit = host.blobs.acquire().await.expect("the semaphore is never closed");
        let outcome = self.bring_blob(repository, descriptor, source, mount_from, progress).await;
        let pushed = outcome
            .map_err(|failure| failure.into_error(format!("push blob {digest} to {repository}")))?;
        self.known_blobs().add(repository, digest);
        Ok(pushed)
    }

    async fn bring_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[Repository],
        progress: OnBytes,
    ) -> Outcome<Pushed> {
        let digest = &descriptor.digest;
        if self.ask_for_blob(repository, digest, Access::Push).await?.is_some() {
            return Ok(Pushed::Exists);
        }
        let session = match self.mount(repository, digest, mount_from).await {
            Mount::Done => return Ok(Pushed::Mounted),
            Mount::Opened(session) => Some(session),
            Mount::No => None,
        };
        let meter = Arc::new(Meter::new(progress));
        let size = descriptor.size;
        Upload { client: self, repository, digest, size, source, meter }.run(session).await?;
        Ok(Pushed::Uploaded)
    }

    /// Has the registry take a blob from another of its repositories. Whatever goes wrong here is
    /// no reason not to send the blob.
    async fn mount(&self, repository: &Repository, digest: &Digest, named: &[Repository]) -> Mount {
        let mut opened = None;
        for source in self.known_blobs().sources(repository, digest, named) {
            let path = format!("blobs/uploads/?mount={digest}&from={}", source.path());
            // This token is for the mount alone: where the source may not be read, some registries
            // give none at all.
            let ScopeRequest { path: whose, scopes, .. } = need(repository, Access::Push);
            let scopes = scopes.and(Scopes::repository(source.path(), Access::Pull));
            let post = request(Method::POST, repository, &path).need(ScopeRequest {
                path: whose,
                scopes,
                ..ScopeRequest::default()
            });
            let Ok(answer) = self.send(repository, &post).await else { continue };
            match answer.status().as_u16() {
                201 => {
                    answer.discard().await;
                    return Mount::Done;
                }
                202 => {
                    let session = Session::of(&answer);
                    answer.discard().await;
                    if let Ok(session) = session
                        && let Some(unused) = opened.replace(session)
                    {
                        self.cancel(repository, unused).await;
                    }
                }
                _ => answer.discard().await,
            }
        }
        opened.map_or(Mount::No, Mount::Opened)
    }

    /// Tells the registry that a session is not needed; it finds out anyhow.
    pub(super) async fn cancel(&self, repository: &Repository, session: Session) {
        let delete = Request::new(Method::DELETE, Target::Url(session.url)).once();
        let delete = delete.need(need(repository, Access::Push));
        if let Ok(answer) = self.send(repository, &delete).await {
            answer.discard().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Got, Server, client};
    use super::*;
    use crate::oci::MediaType;
    use std::io::Read;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A source, and how often it was opened.
    struct Source(Vec<u8>, AtomicU64);

    impl BlobSource for Source {
        fn open(&self) -> Result<Box<dyn Read + Send>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(std::io::Cursor::new(self.0.clone())))
        }
    }

    fn blob(size: usize) -> (Descriptor, Arc<Source>) {
        let bytes = vec![b'x'; size];
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        (descriptor, Arc::new(Source(bytes, AtomicU64::new(0))))
    }

    fn nobody() -> OnBytes {
        Arc::new(|_| {})
    }

    /// A registry that has nothing, mounts from `library` alone, and takes whatever is sent.
    fn registry(got: &Got, base: &str) -> super::super::testing::Give {
        let status = match got.line.split('/').next().unwrap_or_default() {
            "HEAD " => 404,
            "POST " if got.line.ends_with("&from=library") => 201,
            "POST " => 202,
            "PUT " => 201,
            _ => 204,
        };
        (status, vec![("location", format!("{base}/session/1?state=a%2Fb"))], bytes::Bytes::new())
    }

    #[tokio::test]
    async fn a_blob_is_mounted_from_where_this_client_knows_it_to_be() {
        let server = Server::start(registry).await;
        let client = client();
        let (descriptor, source) = blob(10);
        let push = async |to: &str, from: &[Repository]| {
            let to = server.repository(to);
            client.push_blob(&to, &descriptor, source.clone(), from, nobody()).await.unwrap()
        };
        let elsewhere: Repository = "ghcr.io/library".parse().unwrap();
        assert_eq!(push("a", &[elsewhere]).await, Pushed::Uploaded);
        assert_eq!(push("a", &[]).await, Pushed::Exists);
        assert_eq!(push("b", &[server.repository("library")]).await, Pushed::Mounted);
        assert!(client.has_blob(&server.repository("b"), &descriptor.digest).await.unwrap());
        assert_eq!(source.1.load(Ordering::Relaxed), 1);
        let digest = &descriptor.digest;
        let mount = format!("POST /v2/b/blobs/uploads/?mount={digest}&from");
        assert_eq!(
            server.lines(),
            [
                format!("HEAD /v2/a/blobs/{digest}"),
                "POST /v2/a/blobs/uploads/".to_owned(),
                format!(
                    "PUT /session/1?state=a%2Fb&digest={}",
                    digest.as_str().replace(':', "%3A")
                ),
                format!("HEAD /v2/b/blobs/{digest}"),
                format!("{mount}=library"),
            ]
        );
        // From "a", where it was sent to, the registry does not mount: its session is used.
        assert_eq!(push("c", &[]).await, Pushed::Uploaded);
        let last = server.lines().split_off(5);
        assert!(last[1].ends_with("&from=a") && last[2].ends_with("&from=b"), "{last:?}");
        assert!(last[3].starts_with("DELETE /session/1") && last[4].starts_with("PUT"), "{last:?}");
        assert_eq!(last.len(), 5);
    }

    #[tokio::test]
    async fn a_blob_that_is_pushed_twice_at_once_is_sent_once() {
        let server = Server::start(registry).await;
        let client = client();
        let (descriptor, source) = blob(100_000);
        let to = server.repository("a");
        let push = || client.push_blob(&to, &descriptor, source.clone(), &[], nobody());
        let (one, two) = tokio::join!(push(), push());
        assert_eq!((one.unwrap(), two.unwrap()), (Pushed::Uploaded, Pushed::Exists));
        assert_eq!(server.lines().len(), 3);
    }

    #[tokio::test]
    async fn every_byte_is_told_once_also_when_it_is_sent_twice() {
        let cut = AtomicU64::new(0);
        let server = Server::start(move |got: &Got, base: &str| {
            let is_first = got.line.starts_with("PUT") && cut.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { (503, Vec::new(), bytes::Bytes::new()) } else { registry(got, base) }
        })
        .await;
        let (descriptor, source) = blob(1_000_000);
        let told = Arc::new(AtomicU64::new(0));
        let count = told.clone();
        let progress: OnBytes = Arc::new(move |bytes| {
            count.fetch_add(bytes, Ordering::Relaxed);
        });
        let to = server.repository("a");
        let pushed = client().push_blob(&to, &descriptor, source.clone(), &[], progress).await;
        assert_eq!(pushed.unwrap(), Pushed::Uploaded);
        assert_eq!(told.load(Ordering::Relaxed), 1_000_000);
        assert_eq!(source.1.load(Ordering::Relaxed), 2);
        let sent: Vec<usize> = server.got().iter().map(|got| got.body.len()).collect();
        assert_eq!(sent, [0, 0, 1_000_000, 0, 0, 1_000_000]);
    }

    #[tokio::test]
    async fn a_session_on_another_host_gets_no_credentials() {
        let elsewhere = Server::start(registry).await;
        let base = format!("http://{}", elsewhere.address);
        let server = Server::start(move |got: &Got, own: &str| {
            if got.header("authorization").is_empty() {
                let headers = vec![("www-authenticate", "Basic realm=x".to_owned())];
                return (401, headers, bytes::Bytes::new());
            }
            registry(got, if got.line.starts_with("POST") { &base } else { own })
        })
        .await;
        let (descriptor, source) = blob(10);
        let to = server.repository("a");
        let client = server.client_as("me", "pw");
        client.push_blob(&to, &descriptor, source, &[], nobody()).await.unwrap();
        let there = elsewhere.got();
        assert_eq!((there.len(), there[0].header("authorization")), (1, ""));
        assert_eq!(there[0].body, "xxxxxxxxxx");
    }

    #[tokio::test]
    async fn a_source_of_another_size_is_an_error_and_no_blob() {
        let server = Server::start(registry).await;
        for (size, wrong) in [(10, 20), (300_000, 400_000)] {
            let (mut descriptor, source) = blob(size);
            descriptor.size = wrong;
            let to = server.repository("a");
            let pushed = client().push_blob(&to, &descriptor, source, &[], nobody()).await;
            let error = pushed.unwrap_err().to_string();
            assert!(error.contains("bytes early"), "{error}");
        }
        assert!(server.lines().iter().all(|line| !line.starts_with("PUT")));
    }

    #[tokio::test]
    async fn a_blob_that_a_registry_keeps_elsewhere_is_there() {
        for (status, expect) in [(200, true), (403, true), (405, true), (404, false)] {
            let storage =
                Server::start(move |_: &Got, _: &str| (status, Vec::new(), bytes::Bytes::new()))
                    .await;
            let target = format!("http://{}/data", storage.address);
            let server = Server::start(move |_: &Got, _: &str| {
                (307, vec![("location", target.clone())], bytes::Bytes::new())
            })
            .await;
            let found = client().has_blob(&server.repository("a"), &Digest::of(b"x")).await;
            assert_eq!(found.unwrap(), expect, "{status}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_location_is_named() {
        let server = Server::start(|got: &Got, _: &str| match &got.line[..4] {
            "HEAD" => (404, Vec::new(), bytes::Bytes::new()),
            _ => (202, Vec::new(), bytes::Bytes::new()),
        })
        .await;
        let (descriptor, source) = blob(10);
        let to = server.repository("a");
        let pushed = client().push_blob(&to, &descriptor, source, &[], nobody()).await;
        let error = pushed.unwrap_err().to_string();
        assert!(error.contains("POST /v2/a/blobs/uploads/: it has no Location"), "{error}");
    }
}
