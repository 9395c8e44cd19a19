//! Manifests and indexes: resolving, pulling, pushing.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::client::{Client, request};
use super::failure::{Failure, Outcome};
use super::mirrors::Named;
use super::payload::Payload;
use super::referrers;
use super::request::{Repeat, Request};
use super::response::Response;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Digest, Hasher, LARGEST_DOCUMENT, MediaType, Reference, Repository};

/// What registries must at least accept, half of what is taken from them.
const LARGEST_PUSHED: usize = 4 * 1024 * 1024;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// How alike a tag must be to be the one that was meant, from 0 to 1.
const ALIKE: f64 = 0.85;
/// So many tags are named at most.
const MOST_NAMED: usize = 8;

/// A manifest or index as it was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, which have that digest.
    pub bytes: Bytes,
}

/// What a reference stands for.
#[derive(Clone, Debug)]
pub enum FoundManifest {
    /// What the registry says of the document, which was not fetched. The digest counts; size and
    /// type may be wrong.
    Named(Descriptor),
    /// The document itself, of a registry that says less or nothing.
    Whole(Pulled),
}

impl Client {
    /// Finds out what a reference stands for, without fetching it where the registry allows that.
    /// Mirrors are asked first.
    ///
    /// The digest counts. Size and type are what the registry says of them.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        match self.find(reference).await? {
            FoundManifest::Named(descriptor) | FoundManifest::Whole(Pulled { descriptor, .. }) => {
                Ok(descriptor)
            }
        }
    }

    /// The same, with the whole document where it had to be fetched for that.
    pub async fn find(&self, reference: &Reference) -> Result<FoundManifest> {
        let outcome = async {
            let sources = self.manifest_sources(reference)?;
            let (last, mirrors) = sources.split_last().expect("the registry itself is among them");
            for mirror in mirrors {
                let asking = self.find_at(mirror, Repeat::Never);
                if let Some(found) = self.ask_mirror(mirror.repository(), asking).await {
                    return Ok(found);
                }
            }
            let found = self.find_at(last, Repeat::Safe).await;
            found.map_err(|failure| failure.asked_for(reference.repository(), last.repository()))
        };
        match outcome.await {
            Ok(found) => Ok(found),
            Err(failure) => Err(self.not_found(reference, failure, "resolve").await),
        }
    }

    /// Says of a tag that does not exist which ones do.
    async fn not_found(&self, reference: &Reference, failure: Failure, verb: &str) -> Error {
        let action = format!("{verb} {reference}");
        let (Some(404), Some(tag), None) = (failure.status(), reference.tag(), reference.digest())
        else {
            return failure.into_error(action);
        };
        // Of a place that takes another's, its own tags are no help, and the other one's are not asked for.
        if failure.is_mirrors() {
            return failure.into_error(action);
        }
        let Some(tags) = self.first_tags(reference.repository()).await else {
            return failure.into_error(action);
        };
        if tags.contains(&tag.to_owned()) {
            return failure.into_error(action);
        }
        let error = Error::new(ErrorKind::NotFound, action)
            .because(format!("the repository has no tag {tag}"));
        let near = tags.iter().map(|known| (strsim::jaro_winkler(known, tag), known));
        match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((likeness, known)) if likeness > ALIKE => {
                error.hint(format!("did you mean {known}?"))
            }
            _ if (1..=MOST_NAMED).contains(&tags.len()) => {
                error.hint(format!("its tags are {}", tags.join(", ")))
            }
            _ => error,
        }
    }

    /// Pulls a manifest or index and checks its digest. Mirrors are asked first.
    pub async fn manifest(&self, reference: &Reference) -> Result<Pulled> {
        match self.pull_manifest(reference).await {
            Ok(pulled) => Ok(pulled),
            Err(failure) => Err(self.not_found(reference, failure, "pull").await),
        }
    }

    /// The same for a name that may well not exist: `None` then, and nothing else is asked.
    pub async fn find_manifest(&self, reference: &Reference) -> Result<Option<Pulled>> {
        match self.pull_manifest(reference).await {
            Ok(pulled) => Ok(Some(pulled)),
            Err(failure) if failure.status() == Some(404) => Ok(None),
            Err(failure) => Err(failure.into_error(format!("pull {reference}"))),
        }
    }

    async fn pull_manifest(&self, reference: &Reference) -> Outcome<Pulled> {
        let sources = self.manifest_sources(reference)?;
        let (last, mirrors) = sources.split_last().expect("the registry itself is among them");
        for mirror in mirrors {
            let asking = self.get_manifest(mirror, Repeat::Never);
            if let Some(pulled) = self.ask_mirror(mirror.repository(), asking).await {
                return Ok(pulled);
            }
        }
        let pulled = self.get_manifest(last, Repeat::Safe).await;
        pulled.map_err(|failure| failure.asked_for(reference.repository(), last.repository()))
    }

    /// The names under which to ask for a reference, the mirrors' first.
    fn manifest_sources(&self, reference: &Reference) -> Outcome<Vec<Reference>> {
        let named = if reference.digest().is_some() { Named::ByDigest } else { Named::ByTag };
        let sources = self.options().mirrors.sources(reference.repository(), named)?;
        Ok(sources.into_iter().map(|source| reference.in_repository(source)).collect())
    }

    async fn find_at(&self, reference: &Reference, repeat: Repeat) -> Outcome<FoundManifest> {
        let repeat = match self.head_manifest(reference, repeat).await {
            Ok(Some(descriptor)) => return Ok(FoundManifest::Named(descriptor)),
            Err(failure) if !worth_a_get(&failure) => return Err(failure),
            // The pauses were made.
            Err(failure) if failure.is_temporary() => Repeat::Never,
            Ok(None) | Err(_) => repeat,
        };
        self.get_manifest(reference, repeat).await.map(FoundManifest::Whole)
    }

    /// What a tag stands for now; `None` where it does not exist, or the question is refused.
    pub async fn tag_digest(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        match self.head_manifest(reference, Repeat::Safe).await {
            Ok(found) => Ok(found),
            Err(Failure::Refused(_)) => Ok(None),
            Err(Failure::Told(error)) if error.kind() == ErrorKind::Denied => Ok(None),
            Err(failure) => Err(failure.into_error(format!("resolve {reference}"))),
        }
    }

    /// Pushes a manifest or index under a tag or its digest.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        selector: &str,
        media_type: &MediaType,
        bytes: Bytes,
    ) -> Result<()> {
        let separator = if selector.contains(':') { '@' } else { ':' };
        let action = || format!("push {repository}{separator}{selector}");
        if bytes.len() > LARGEST_PUSHED {
            return Err(Error::new(ErrorKind::Invalid, action()).because(format!(
                "the manifest has {} bytes, registries take at most {LARGEST_PUSHED}",
                bytes.len()
            )));
        }
        if HeaderValue::from_str(media_type.as_str()).is_err() {
            return Err(Error::new(ErrorKind::Invalid, action())
                .because("its media type has characters that no header may have"));
        }
        let outcome = self.put_manifest(repository, selector, media_type, bytes).await;
        outcome.map_err(|failure| failure.into_error(action()))
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        selector: &str,
        media_type: &MediaType,
        bytes: Bytes,
    ) -> Outcome<()> {
        let reference = referrers::reference_of(media_type, &bytes);
        let knows_subject = self.put_document(repository, selector, media_type, bytes).await?;
        match reference {
            Some((subject, referrer)) if !knows_subject => {
                self.add_referrer(repository, &subject, referrer).await
            }
            _ => Ok(()),
        }
    }

    /// Puts a document; gives whether the registry takes care of what the document refers to.
    pub(super) async fn put_document(
        &self,
        repository: &Repository,
        selector: &str,
        media_type: &MediaType,
        bytes: Bytes,
    ) -> Outcome<bool> {
        let expected = Digest::of(&bytes);
        let put = request(Method::PUT, repository, &format!("manifests/{selector}"))
            .header("content-type", media_type.as_str())
            .payload(Payload::Bytes(bytes));
        let answer = self.send(repository, &put).await?.expect(&[200, 201, 202]).await?;
        let knows_subject = answer.header("oci-subject").is_some();
        let stored = answer.content_digest();
        answer.discard().await;
        match stored {
            Some(found) if found.algorithm() == expected.algorithm() && found != expected => {
                Err(Error::new(ErrorKind::Corrupt, "store the manifest")
                    .because(format!("the registry stored {found}, expected {expected}"))
                    .into())
            }
            _ => Ok(knows_subject),
        }
    }

    /// Asks for the head of a manifest; `None` where the answer does not say all.
    async fn head_manifest(
        &self,
        reference: &Reference,
        repeat: Repeat,
    ) -> Outcome<Option<Descriptor>> {
        let head = manifest_request(Method::HEAD, reference, repeat);
        let answer = self.send(reference.repository(), &head).await?.expect(&[200]).await?;
        let (Some(digest), Some(size), Some(media_type)) =
            (answer.content_digest(), answer.content_length(), answer.media_type())
        else {
            return Ok(None);
        };
        if !media_type.is_index() && !media_type.is_manifest() {
            return Ok(None);
        }
        if let Some(wanted) = reference.digest().filter(|wanted| **wanted != digest) {
            return Err(wrong_digest(&digest, wanted).into());
        }
        Ok(Some(Descriptor::new(media_type, digest, size)))
    }

    pub(super) async fn get_manifest(
        &self,
        reference: &Reference,
        repeat: Repeat,
    ) -> Outcome<Pulled> {
        let get = manifest_request(Method::GET, reference, repeat);
        let mut answer = self.send(reference.repository(), &get).await?.expect(&[200]).await?;
        let bytes = answer.body(LARGEST_DOCUMENT).await?;
        let expected = reference.digest().cloned().or_else(|| answer.content_digest());
        let mut hasher = expected.as_ref().map_or_else(Hasher::new, Hasher::like);
        hasher.update(&bytes);
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(wrong_digest(&found, &expected).into());
        }
        let media_type = media_type(&answer, &bytes)?;
        let descriptor = Descriptor::new(media_type, found, bytes.len() as u64);
        Ok(Pulled { descriptor, bytes })
    }
}

/// Whether a GET after a HEAD that failed so may do better. A refusal may be meant for the HEAD alone,
/// and says nothing of its reasons, as it has no body.
fn worth_a_get(failure: &Failure) -> bool {
    failure.status().is_some_and(|status| status != 401)
}

fn manifest_request(method: Method, reference: &Reference, repeat: Repeat) -> Request {
    let rest = format!("manifests/{}", reference.selector());
    let accept = request(method, reference.repository(), &rest).header("accept", ACCEPTED);
    Request { repeat, ..accept }
}

fn wrong_digest(found: &Digest, expected: &Digest) -> Error {
    Error::new(ErrorKind::Corrupt, "verify the manifest")
        .because(format!("its digest is {found}, expected {expected}"))
}

/// Finds out what a manifest is: the document's own word counts before the answer's header.
fn media_type(answer: &Response, bytes: &[u8]) -> Result<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let fail = || Error::new(ErrorKind::Invalid, "read the manifest");
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| fail().caused_by(error))?;
    if shape.schema_version == Some(1) {
        return Err(Error::new(ErrorKind::Unsupported, "read the manifest")
            .because("it has Docker's schema 1, which was given up in 2017")
            .hint("push the image again with a current tool"));
    }
    let said = shape.media_type.map(|text| MediaType::new(&text)).or_else(|| answer.media_type());
    match said {
        Some(said) if said.is_index() || said.is_manifest() => Ok(said),
        _ if shape.manifests.is_some() => Ok(MediaType::OCI_INDEX),
        _ if shape.layers.is_some() => Ok(MediaType::OCI_MANIFEST),
        Some(said) => {
            Err(fail().because(format!("its type is {said}, expected an image or index")))
        }
        None => Err(fail().because("it is neither an image nor an index")),
    }
}
