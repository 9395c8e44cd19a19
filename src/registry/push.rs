//! Pushing blobs.

use std::sync::Arc;

use reqwest::{Method, Url};

use super::answer::Answer;
use super::client::{Client, request};
use super::exchange::{Request, Target, resolve_location};
use super::failure::{Failure, Outcome};
use super::payload::{Meter, Part, Payload};
use super::{OnBytes, Reopen};
use crate::error::{Error, ErrorKind, Result};
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

impl Client {
    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let outcome = self.head_blob(repository, digest).await;
        outcome.map(|size| size.is_some()).map_err(|failure| {
            failure.into_error(format!("look for blob {digest} in {repository}"))
        })
    }

    /// Brings a blob into a repository, in the cheapest way that works.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Arc<dyn Reopen>,
        mount_from: &[Repository],
        progress: OnBytes,
    ) -> Result<Pushed> {
        let _ = mount_from;
        let host = self.host(repository);
        let _permit = host.blobs.acquire().await.expect("the semaphore is never closed");
        let outcome = async {
            if self.head_blob(repository, &descriptor.digest).await?.is_some() {
                return Ok(Pushed::Exists);
            }
            let meter = Arc::new(Meter::new(progress));
            let part = Part {
                source,
                offset: 0,
                length: descriptor.size,
                meter,
                buffers: self.buffers().clone(),
            };
            self.upload(repository, &descriptor.digest, part).await?;
            Ok(Pushed::Uploaded)
        };
        outcome.await.map_err(|failure: Failure| {
            failure.into_error(format!("push blob {} to {repository}", descriptor.digest))
        })
    }

    async fn head_blob(&self, repository: &Repository, digest: &Digest) -> Outcome<Option<u64>> {
        let head = request(Method::HEAD, repository, &format!("blobs/{digest}"));
        let answer = self.send(repository, &head).await?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.content_length().unwrap_or_default())),
            404 => Ok(None),
            _ => Err(answer.refuse().await),
        }
    }

    async fn upload(&self, repository: &Repository, digest: &Digest, part: Part) -> Outcome<()> {
        let post = request(Method::POST, repository, "blobs/uploads/");
        let answer = self.send(repository, &post).await?.expect(&[202]).await?;
        let url = with_digest(location(&answer)?, digest);
        answer.discard().await;
        let put = Request::new(Method::PUT, Target::Url(url)).payload(Payload::Part(part)).once();
        self.send(repository, &put).await?.expect(&[201, 204]).await?.discard().await;
        Ok(())
    }
}

/// The address that an answer sends the next request of an upload to.
fn location(answer: &Answer) -> Outcome<Url> {
    let Some(text) = answer.header("location") else {
        let what = format!("use the answer to {}", answer.describe());
        return Err(Error::new(ErrorKind::Invalid, what).because("it has no Location").into());
    };
    resolve_location(answer.url(), text)
}

fn with_digest(mut url: Url, digest: &Digest) -> Url {
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    url
}
