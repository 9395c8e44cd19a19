//! Manifests, tags and referrers.

use bytes::Bytes;
use gondola::error::ErrorKind;
use gondola::oci::{Digest, MediaType, Repository};
use serde_json::json;

use crate::support::client::{client, manifest_of, noise, repository};
use crate::support::{Answer, Change, Fault, FaultServer, Location, Quirks, Rule};

/// A server that has the config of a manifest, the repository, and the manifest.
fn with_config(quirks: Quirks) -> (FaultServer, Repository, Bytes) {
    let server = FaultServer::start(quirks);
    server.put_blob("app", "{}");
    let repository = repository(&server.host(), "app");
    (server, repository, manifest_of(b"{}"))
}

async fn push_tag(to: &Repository, manifest: &Bytes) -> gondola::error::Result<()> {
    client().push_manifest(to, "v1", &MediaType::OCI_MANIFEST, manifest.clone()).await
}

#[tokio::test]
async fn a_manifest_is_pushed_with_its_type() {
    let (server, to, manifest) = with_config(Quirks::default());
    push_tag(&to, &manifest).await.unwrap();
    assert_eq!(server.manifest("app", "v1"), Some(manifest));
    let put = &server.seen("PUT", "/manifests/v1")[0];
    assert_eq!(put.header("content-type"), Some(MediaType::OCI_MANIFEST.as_str()));
}

#[tokio::test]
async fn missing_headers_do_not_matter_when_a_manifest_is_stored() {
    let quirks = Quirks { digest_on_get: false, location: Location::Missing, ..Quirks::default() };
    let (server, to, manifest) = with_config(quirks);
    push_tag(&to, &manifest).await.unwrap();
    assert_eq!(server.tags("app"), ["v1"]);
}

#[tokio::test]
async fn a_manifest_put_is_repeated_after_what_is_temporary() {
    let faults = [500, 502, 503, 429].map(|status| Fault::Answer(Answer::html(status)));
    for fault in faults.into_iter().chain([Fault::Lose, Fault::CutRequest(10)]) {
        let (server, to, manifest) = with_config(Quirks::default());
        server.inject(Rule::new("PUT", "/manifests/", fault.clone()));
        push_tag(&to, &manifest).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(server.seen("PUT", "/manifests/").len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_manifest_stored_under_another_digest_is_noticed() {
    let (server, to, manifest) = with_config(Quirks::default());
    let other = Digest::of(b"other").to_string();
    let lie = Fault::Change(vec![Change::Header("Docker-Content-Digest", other)]);
    server.inject(Rule::new("PUT", "/manifests/", lie));
    assert_eq!(push_tag(&to, &manifest).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_refused_manifest_says_why() {
    let (server, to, _) = with_config(Quirks::default());
    let manifest = manifest_of(b"a config that is not there");
    let error = push_tag(&to, &manifest).await.unwrap_err().to_string();
    for part in ["MANIFEST_BLOB_UNKNOWN", "PUT /v2/app/manifests/v1", &format!("{to}:v1")] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    assert_eq!(server.tags("app"), [""; 0]);
}

#[tokio::test]
async fn a_tag_that_cannot_be_moved_stays() {
    let (server, to, manifest) = with_config(Quirks { immutable_tags: true, ..Quirks::default() });
    let first = server.put_manifest("app", "v1", MediaType::OCI_MANIFEST.as_str(), "{}");
    let error = push_tag(&to, &manifest).await.unwrap_err();
    assert!(error.to_string().contains("immutable"), "{error}");
    assert_eq!(server.manifest("app", "v1").map(|it| Digest::of(&it)), Some(first));
    // By its digest the manifest goes in.
    let digest = Digest::of(&manifest);
    let media_type = MediaType::OCI_MANIFEST;
    client().push_manifest(&to, digest.as_str(), &media_type, manifest).await.unwrap();
}

#[tokio::test]
async fn a_manifest_that_no_registry_takes_is_not_sent() {
    let (server, to, _) = with_config(Quirks::default());
    push_tag(&to, &noise((4 << 20) + 1)).await.unwrap_err();
    assert!(server.requests().is_empty());
}

/// A manifest that refers to another.
fn referrer(subject: &Bytes, name: &str) -> Bytes {
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
        "digest": Digest::of(b"{}")});
    let subject = json!({"mediaType": MediaType::OCI_MANIFEST, "size": subject.len(),
        "digest": Digest::of(subject)});
    let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "artifactType": "application/x-test", "config": empty, "layers": [],
        "subject": subject, "annotations": {"name": name}});
    manifest.to_string().into()
}

#[tokio::test]
async fn referrers_are_found_with_and_without_an_api_for_them() {
    for (referrers, page) in [(true, None), (true, Some(2)), (false, None)] {
        let (server, to, subject) = with_config(Quirks { referrers, page, ..Quirks::default() });
        push_tag(&to, &subject).await.unwrap();
        let mut expected = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let manifest = referrer(&subject, name);
            let digest = Digest::of(&manifest);
            let media_type = MediaType::OCI_MANIFEST;
            client().push_manifest(&to, digest.as_str(), &media_type, manifest).await.unwrap();
            expected.push((digest, name.to_owned()));
        }
        let found = client().referrers(&to, &Digest::of(&subject), None).await.unwrap();
        let kind = MediaType::new("application/x-test");
        assert!(found.iter().all(|it| it.artifact_type.as_ref() == Some(&kind)), "{found:?}");
        let mut found: Vec<_> =
            found.into_iter().map(|it| (it.digest, it.annotations["name"].clone())).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{referrers} {page:?}");
        let fallback = Digest::of(&subject).as_str().replace(':', "-");
        assert_eq!(server.tags("app").contains(&fallback), !referrers);
    }
}

#[tokio::test]
async fn lists_are_read_page_by_page_to_their_end() {
    let (server, to, manifest) = with_config(Quirks { page: Some(2), ..Quirks::default() });
    for tag in ["a", "b", "c", "d", "e"] {
        server.put_manifest("app", tag, MediaType::OCI_MANIFEST.as_str(), manifest.clone());
    }
    assert_eq!(client().tags(&to).await.unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up() {
    let (server, to, manifest) = with_config(Quirks::default());
    server.put_manifest("app", "v1", MediaType::OCI_MANIFEST.as_str(), manifest);
    let again = "</v2/app/tags/list?last=x>; rel=\"next\"".to_owned();
    let endless = Fault::Change(vec![Change::Header("Link", again)]);
    server.inject(Rule::new("GET", "/tags/list", endless).always());
    let error = client().tags(&to).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}
