//! Blobs and manifests as they are read, manifests as they are written, and lists of them.

use gondola::oci::Digest;
use serde_json::{Value, json};

use super::fault::Answer;
use super::quirks::Location;
use super::state::{Call, State};
use super::uploads::created;

const LARGEST_MANIFEST: usize = 4 << 20;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl State {
    pub fn get_blob(&mut self, call: &Call, repository: &str, digest: &str) -> Answer {
        if let Some(origin) = &self.quirks.blobs_at {
            return Answer::status(307)
                .header("Location", format!("{origin}{}?signature=1", call.path));
        }
        let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let answer = self.with_digest(Answer::status(200), call, digest);
        let answer = answer.header("Content-Type", "application/octet-stream");
        let start = call.header("range").filter(|_| self.quirks.ranges && call.method == "GET");
        let Some((start, end)) = start.and_then(|range| range_of(range, bytes.len())) else {
            return answer.body(bytes.clone());
        };
        if start >= bytes.len() {
            return Answer::status(416).header("Content-Range", format!("bytes */{}", bytes.len()));
        }
        let shift = usize::from(self.quirks.wrong_content_range);
        let range = format!("bytes {}-{}/{}", start - shift, end - shift, bytes.len());
        let answer = Answer { status: 206, ..answer };
        answer.header("Content-Range", range).body(bytes.slice(start..=end))
    }

    pub fn get_manifest(&mut self, call: &Call, repository: &str, selector: &str) -> Answer {
        let key = (repository.to_owned(), selector.to_owned());
        let Some((media_type, bytes)) = self.manifests.get(&key) else {
            return if self.quirks.forbids_missing {
                Answer::error(403, "DENIED", "you may not know")
            } else {
                Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            };
        };
        let accepts = call.header("accept").unwrap_or_default();
        if !accepts.contains(media_type.as_str()) && !accepts.contains("*/*") {
            return Answer::error(404, "MANIFEST_UNKNOWN", "no manifest that you accept");
        }
        let digest = Digest::of(bytes);
        let answer = self.with_digest(Answer::status(200), call, digest.as_str());
        answer.header("Content-Type", media_type).body(bytes.clone())
    }

    pub fn put_manifest(&mut self, call: &Call, repository: &str, selector: &str) -> Answer {
        let digest = Digest::of(&call.body);
        if call.body.len() > LARGEST_MANIFEST {
            return Answer::error(413, "SIZE_INVALID", "the manifest is too large");
        }
        if selector.contains(':') && selector != digest.as_str() {
            return Answer::error(400, "DIGEST_INVALID", "the manifest has another digest");
        }
        let Ok(document) = serde_json::from_slice::<Value>(&call.body) else {
            return Answer::error(400, "MANIFEST_INVALID", "not JSON");
        };
        if let Some(missing) = self.missing_reference(repository, &document) {
            return Answer::error(400, "MANIFEST_BLOB_UNKNOWN", &format!("no {missing}"));
        }
        let key = |selector: &str| (repository.to_owned(), selector.to_owned());
        if let Some((_, present)) = self.manifests.get(&key(selector))
            && self.quirks.immutable_tags
            && *present != call.body
        {
            return Answer::error(400, "TAG_INVALID", "the tag is immutable");
        }
        let media_type = call.header("content-type").unwrap_or_default().to_owned();
        for selector in [selector, digest.as_str()] {
            self.manifests.insert(key(selector), (media_type.clone(), call.body.clone()));
        }
        let mut answer = created(repository, "manifests", digest.as_str());
        if !self.quirks.digest_on_get {
            answer.headers.retain(|(name, _)| name != "Docker-Content-Digest");
        }
        if self.quirks.location == Location::Missing {
            answer.headers.retain(|(name, _)| name != "Location");
        }
        match document["subject"]["digest"].as_str() {
            Some(subject) if self.quirks.referrers => answer.header("OCI-Subject", subject),
            _ => answer,
        }
    }

    /// The first blob or manifest that a document names and the repository does not have.
    fn missing_reference(&self, repository: &str, document: &Value) -> Option<String> {
        if !self.quirks.checks_references {
            return None;
        }
        let digest = |it: &Value| it["digest"].as_str().map(str::to_owned);
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        let key = |digest: &String| (repository.to_owned(), digest.clone());
        let blobs = [document["config"].clone()].into_iter().chain(list("layers"));
        let blob = blobs.filter_map(|it| digest(&it)).find(|it| !self.blobs.contains_key(&key(it)));
        blob.or_else(|| {
            let children = list("manifests").into_iter().filter_map(|it| digest(&it));
            children.into_iter().find(|it| !self.manifests.contains_key(&key(it)))
        })
    }

    pub fn list_referrers(&mut self, call: &Call, repository: &str, digest: &str) -> Answer {
        if !self.quirks.referrers {
            return Answer::error(404, "NAME_UNKNOWN", "no such path");
        }
        let of_repository = self
            .manifests
            .iter()
            .filter(|((name, selector), _)| name == repository && selector.contains(':'));
        let found = of_repository.filter_map(|((_, own), (media_type, bytes))| {
            let document: Value = serde_json::from_slice(bytes).ok()?;
            (document["subject"]["digest"] == digest).then(|| {
                json!({
                    "mediaType": media_type, "digest": own, "size": bytes.len(),
                    "artifactType": document["artifactType"],
                    "annotations": document["annotations"],
                })
            })
        });
        let (found, link) = self.page(call, found.collect());
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found});
        link.header("Content-Type", INDEX).body(body.to_string())
    }

    pub fn list_tags(&mut self, call: &Call, repository: &str) -> Answer {
        if !self.manifests.keys().any(|(name, _)| name == repository) {
            return Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry");
        }
        let (tags, link) = self.page(call, self.tags(repository));
        link.header("Content-Type", "application/json")
            .body(json!({"name": repository, "tags": tags}).to_string())
    }

    pub fn tags(&self, repository: &str) -> Vec<String> {
        let own = self.manifests.keys().filter(|(name, _)| name == repository);
        own.map(|(_, selector)| selector).filter(|it| !it.contains(':')).cloned().collect()
    }

    /// The page that the call asks for, and an answer that links to the next one.
    fn page<T: Clone>(&self, call: &Call, all: Vec<T>) -> (Vec<T>, Answer) {
        let Some(size) = self.quirks.page else { return (all, Answer::status(200)) };
        let start: usize = call.value("last").and_then(|last| last.parse().ok()).unwrap_or(0);
        let page: Vec<_> = all.iter().skip(start).take(size).cloned().collect();
        let next = start + page.len();
        if next >= all.len() {
            return (page, Answer::status(200));
        }
        let link = format!("<{}?n={size}&last={next}>; rel=\"next\"", call.path);
        (page, Answer::status(200).header("Link", link))
    }

    fn with_digest(&self, answer: Answer, call: &Call, digest: &str) -> Answer {
        let head = call.method == "HEAD";
        let sent = if head { self.quirks.digest_on_head } else { self.quirks.digest_on_get };
        if sent { answer.header("Docker-Content-Digest", digest) } else { answer }
    }
}

/// Reads `bytes=5-` or `bytes=5-9`.
fn range_of(range: &str, length: usize) -> Option<(usize, usize)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = length.saturating_sub(1);
    let end = if end.is_empty() { last } else { end.parse().ok()? };
    Some((start.parse().ok()?, end.min(last)))
}
