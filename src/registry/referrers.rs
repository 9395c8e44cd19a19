//! Referrers: what refers to a manifest, such as its signatures and bills of material.
//!
//! Registries that know `subject` list the referrers themselves. For the others the client keeps an
//! index under the tag `sha256-<hex>`, as the specification says.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;

use super::client::{Client, request};
use super::failure::{Failure, Outcome};
use super::request::Repeat;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Digest, Document, Index, MediaType, Repository};

impl Client {
    /// Lists what refers to a manifest; `artifact_type` leaves out the rest.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&MediaType>,
    ) -> Result<Vec<Descriptor>> {
        let outcome = async {
            let mut found = match self.listed_referrers(repository, subject, artifact_type).await? {
                Some(found) => found,
                None => self.tagged_referrers(repository, subject).await?,
            };
            // A registry need not be able to filter.
            found.retain(|descriptor| {
                artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_ref() == Some(wanted))
            });
            Ok(found)
        };
        outcome.await.map_err(|failure: Failure| {
            failure.into_error(format!("list what refers to {repository}@{subject}"))
        })
    }

    /// The registry's own list; `None` where it keeps none.
    async fn listed_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&MediaType>,
    ) -> Outcome<Option<Vec<Descriptor>>> {
        let mut path = format!("referrers/{subject}");
        if let Some(wanted) = artifact_type {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("artifactType", wanted.as_str());
            path = format!("{path}?{}", query.finish());
        }
        let get =
            request(Method::GET, repository, &path).header("accept", MediaType::OCI_INDEX.as_str());
        let pages = match self.pages(repository, get).await {
            Ok(pages) => pages,
            Err(failure) if matches!(failure.status(), Some(400 | 404 | 405)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut found = Vec::new();
        for page in pages {
            // A registry that knows no referrers may answer with a page for browsers.
            let Ok(index) = serde_json::from_slice::<Index>(&page) else { return Ok(None) };
            found.extend(index.manifests);
        }
        Ok(Some(found))
    }

    async fn tagged_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Outcome<Vec<Descriptor>> {
        Ok(self.fallback_index(repository, subject).await?.manifests)
    }

    /// The index under the fallback tag; an empty one where there is none.
    async fn fallback_index(&self, repository: &Repository, subject: &Digest) -> Outcome<Index> {
        let reference = repository.at_tag(&fallback_tag(subject))?;
        let pulled = match self.get_manifest(&reference, Repeat::Safe).await {
            Ok(pulled) => pulled,
            Err(failure) if failure.status() == Some(404) => return Ok(Index::new(Vec::new())),
            Err(failure) => return Err(failure),
        };
        if !pulled.descriptor.media_type.is_index() {
            let what = format!("use {reference} as a list of referrers");
            return Err(Error::new(ErrorKind::Invalid, what).because("it is no index").into());
        }
        Ok(Document::<Index>::parse(pulled.descriptor.media_type, pulled.bytes)?.value().clone())
    }

    /// Adds a manifest that was pushed to the list of its subject's referrers.
    ///
    /// Only one of this client's tasks does so for a subject at a time. Between two clients the
    /// specification has nothing better to offer either.
    pub(super) async fn add_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        referrer: Descriptor,
    ) -> Outcome<()> {
        let flight = self.known_blobs().flight(repository, subject);
        let _flight = flight.lock().await;
        let mut index = self.fallback_index(repository, subject).await?;
        if index.manifests.iter().any(|known| known.digest == referrer.digest) {
            return Ok(());
        }
        index.manifests.push(referrer);
        let document = Document::new(MediaType::OCI_INDEX, index);
        let (tag, bytes) = (fallback_tag(subject), document.bytes().clone());
        self.put_document(repository, &tag, &MediaType::OCI_INDEX, bytes).await?;
        Ok(())
    }
}

/// The tag that stands for the referrers of a manifest, `sha256-<hex>`.
fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm(), subject.hex())
}

/// What a manifest refers to, and the descriptor that its subject's list gets.
///
/// The list repeats the artifact's type and annotations; an image's type is its config's.
pub(super) fn reference_of(media_type: &MediaType, bytes: &Bytes) -> Option<(Digest, Descriptor)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        subject: Option<Descriptor>,
        artifact_type: Option<MediaType>,
        config: Option<Descriptor>,
        annotations: Option<BTreeMap<String, String>>,
    }
    // Most manifests have no subject: looking for the word is quicker than reading them.
    let word = b"\"subject\"";
    if !bytes.windows(word.len()).any(|window| window == word) {
        return None;
    }
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    let subject = shape.subject?.digest;
    let mut descriptor = Descriptor::of(media_type.clone(), bytes);
    let given = shape.artifact_type.filter(|given| !given.as_str().is_empty());
    descriptor.artifact_type = given.or(shape.config.map(|config| config.media_type));
    descriptor.annotations = shape.annotations.unwrap_or_default();
    Some((subject, descriptor))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Give, Got, Server, client};
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    fn referrer(subject: &Descriptor, name: &str) -> Bytes {
        let empty = Descriptor::of(MediaType::OCI_EMPTY, b"{}");
        let value = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": empty,
            "artifactType": format!("application/{name}"), "layers": [], "subject": subject,
            "annotations": {"name": name}});
        Bytes::from(serde_json::to_vec(&value).unwrap())
    }

    /// A registry that keeps manifests; whether it knows of subjects is up to the test.
    async fn registry(knows_subjects: bool) -> Server {
        let kept: Arc<Mutex<BTreeMap<String, Bytes>>> = Arc::default();
        Server::start(move |got: &Got, _: &str| -> Give {
            let mut kept = kept.lock().unwrap();
            let (method, path) = got.line.split_once(' ').unwrap();
            if method == "PUT" {
                kept.insert(path.to_owned(), got.body.clone());
                let headers = knows_subjects.then(|| ("oci-subject", "x".to_owned()));
                return (201, headers.into_iter().collect(), Bytes::new());
            }
            match kept.get(path) {
                Some(bytes) => (200, Vec::new(), bytes.clone()),
                None => (404, Vec::new(), Bytes::new()),
            }
        })
        .await
    }

    #[tokio::test]
    async fn registries_that_know_no_subjects_get_a_tag_with_the_list() {
        let server = registry(false).await;
        let (client, to) = (client(), server.repository("a"));
        let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"subject");
        assert!(client.referrers(&to, &subject.digest, None).await.unwrap().is_empty());
        let push = async |name: &str| {
            let bytes = referrer(&subject, name);
            let digest = Digest::of(&bytes);
            let kind = MediaType::OCI_MANIFEST;
            client.push_manifest(&to, digest.as_str(), &kind, bytes).await.unwrap();
            digest
        };
        let (one, two) = tokio::join!(push("one"), push("two"));
        push("one").await;
        let found = client.referrers(&to, &subject.digest, None).await.unwrap();
        let mut digests: Vec<&Digest> = found.iter().map(|found| &found.digest).collect();
        digests.sort();
        let mut expect = [&one, &two];
        expect.sort();
        assert_eq!(digests, expect);
        let kind = MediaType::new("application/two");
        let found = client.referrers(&to, &subject.digest, Some(&kind)).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].digest, &found[0].annotations["name"]), (&two, &"two".to_owned()));
        let tag = format!("PUT /v2/a/manifests/sha256-{}", subject.digest.hex());
        assert_eq!(server.lines().iter().filter(|line| **line == tag).count(), 2);
    }

    #[tokio::test]
    async fn registries_that_know_subjects_get_nothing_more() {
        let server = registry(true).await;
        let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"subject");
        let bytes = referrer(&subject, "one");
        let to = server.repository("a");
        client().push_manifest(&to, "v1", &MediaType::OCI_MANIFEST, bytes).await.unwrap();
        assert_eq!(server.lines(), ["PUT /v2/a/manifests/v1"]);
    }

    #[test]
    fn an_image_has_the_type_of_its_config() {
        let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"x");
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        let kind = MediaType::OCI_MANIFEST;
        let of = |value: serde_json::Value| {
            reference_of(&kind, &Bytes::from(serde_json::to_vec(&value).unwrap()))
        };
        let (found, descriptor) = of(json!({"subject": subject, "config": config})).unwrap();
        assert_eq!(found, subject.digest);
        assert_eq!(descriptor.artifact_type, Some(MediaType::OCI_CONFIG));
        assert!(of(json!({"config": config})).is_none());
        assert!(of(json!({"annotations": {"a": "\"subject\""}})).is_none());
    }
}
