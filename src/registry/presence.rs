//! Whether a repository has a blob, and how large it is there.

use reqwest::{Method, StatusCode};

use super::Access;
use super::client::{Client, request};
use super::failure::{Failure, Outcome};
use super::scopes::need;
use crate::error::Result;
use crate::oci::{Digest, Repository};

impl Client {
    /// Whether a repository has a blob. One that does not say counts as one that does not.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        if self.known_blobs().has(repository, digest) {
            return Ok(true);
        }
        let outcome = self.ask_for_blob(repository, digest, Access::Pull).await;
        let size = outcome.map_err(|failure| {
            failure.into_error(format!("look for blob {digest} in {repository}"))
        })?;
        if size.is_some() {
            self.known_blobs().add(repository, digest);
        }
        Ok(size.is_some())
    }

    /// The size of a blob; `None` where the repository does not have it, or refuses the question:
    /// a blob that is sent once more does no harm.
    pub(super) async fn ask_for_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: Access,
    ) -> Outcome<Option<u64>> {
        match self.head_blob(repository, digest, access).await {
            Err(Failure::Refused(refusal)) if refusal.status != StatusCode::UNAUTHORIZED => {
                Ok(None)
            }
            outcome => outcome,
        }
    }

    /// The size of a blob by the answer that would hold it, which is not read.
    pub(super) async fn blob_size(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Outcome<Option<u64>> {
        let get = request(Method::GET, repository, &format!("blobs/{digest}"));
        let get = get.need(need(repository, Access::Push));
        Ok(self.send(repository, &get).await?.expect(&[200]).await?.content_length())
    }

    /// The size of a blob; `None` where the repository does not have it. A size that the registry
    /// does not tell is 0.
    pub(super) async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: Access,
    ) -> Outcome<Option<u64>> {
        let head = request(Method::HEAD, repository, &format!("blobs/{digest}"));
        let answer = self.send(repository, &head.need(need(repository, access))).await?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.content_length().unwrap_or_default())),
            404 => Ok(None),
            // The registry has the blob and sent us to it, with an address that is good for GET
            // alone.
            401 | 403 | 405 if !answer.is_from_registry() => Ok(Some(0)),
            _ => Err(answer.refuse().await),
        }
    }
}
