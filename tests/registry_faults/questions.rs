//! Questions that a registry refuses or answers wrong, though it does what is asked for in earnest.

use gondola::error::ErrorKind;
use gondola::oci::Digest;
use gondola::registry::{Client, Options, Pushed};

use crate::support::client::{client, impatient, manifest_of, noise, push, reference, repository};
use crate::support::{Answer, Change, Fault, FaultServer, Quirks, Rule};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Whatever a registry may refuse a question with.
const REFUSALS: [u16; 16] =
    [400, 401, 403, 404, 405, 406, 409, 410, 412, 418, 422, 423, 429, 451, 500, 503];

/// A server with one manifest, `app:v1`.
fn with_manifest() -> (FaultServer, Digest) {
    let server = FaultServer::start(Quirks::default());
    let digest = server.put_manifest("app", "v1", MANIFEST, manifest_of(b"{}"));
    (server, digest)
}

fn in_chunks() -> Client {
    Client::new(Options { chunk_size: Some(400), ..impatient() }).unwrap()
}

/// Answers every `HEAD` of a kind with a status, and without a body as the protocol has it.
fn refuse_heads(server: &FaultServer, kind: &str, status: u16) {
    server.inject(Rule::new("HEAD", kind, Fault::Answer(Answer::status(status))).always());
}

#[tokio::test]
async fn a_tag_that_may_not_be_asked_for_counts_as_unknown() {
    for status in REFUSALS {
        let (server, _) = with_manifest();
        refuse_heads(&server, "/manifests/", status);
        // A challenge that cannot be met is an answer of the same kind.
        let found = client().tag_digest(&reference(&server.host(), "app:v1")).await;
        assert_eq!(found.unwrap_or_else(|error| panic!("{status}: {error}")), None, "{status}");
    }
}

#[tokio::test]
async fn a_blob_that_may_not_be_asked_for_is_sent() {
    for status in REFUSALS.into_iter().filter(|status| *status != 401) {
        let server = FaultServer::start(Quirks::default());
        refuse_heads(&server, "/blobs/", status);
        let (to, bytes) = (repository(&server.host(), "app"), noise(1000));
        let client = client();
        let there = client.has_blob(&to, &Digest::of(&bytes)).await;
        assert!(!there.unwrap_or_else(|error| panic!("{status}: {error}")), "{status}");
        let pushed = push(&client, &to, &bytes).await;
        let pushed = pushed.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(pushed, Pushed::Uploaded, "{status}");
        assert_eq!(server.blob("app", &Digest::of(&bytes)), Some(bytes), "{status}");
    }
}

#[tokio::test]
async fn a_refused_head_is_decided_by_one_get() {
    for status in REFUSALS.into_iter().filter(|status| *status != 401) {
        let (server, digest) = with_manifest();
        refuse_heads(&server, "/manifests/", status);
        let found = client().resolve(&reference(&server.host(), "app:v1")).await;
        let found = found.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(found.digest, digest, "{status}");
        assert_eq!(server.seen("GET", "/manifests/").len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_refusal_of_both_is_told_in_the_words_of_the_get() {
    for (status, code, words) in [
        (412, "PROJECTPOLICYVIOLATION", "current image with 3 vulnerabilities cannot be pulled"),
        (409, "QUARANTINED", "the image waits for its scan"),
        (403, "DENIED", "the administrator does not allow it"),
        (404, "NAME_UNKNOWN", "the project was moved to team/app"),
        (429, "TOOMANYREQUESTS", "You have reached your pull rate limit"),
    ] {
        let (server, _) = with_manifest();
        refuse_heads(&server, "/manifests/", status);
        let refusal = Fault::Answer(Answer::error(status, code, words));
        server.inject(Rule::new("GET", "/manifests/", refusal).always());
        let error = client().resolve(&reference(&server.host(), "app:v1")).await.unwrap_err();
        let message = error.to_string();
        for part in [code, words, &status.to_string(), "GET /v2/app/manifests/v1"] {
            assert!(message.contains(part), "{status}: no {part} in {message}");
        }
        // The pauses are made once and not once for each way of asking.
        assert_eq!(server.seen("GET", "/manifests/").len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_not_asked_in_another_way() {
    let (server, _) = with_manifest();
    server.inject(Rule::new("HEAD", "/manifests/", Fault::Lose).always());
    let error = client().resolve(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(server.seen("GET", "/manifests/").is_empty());
}

#[tokio::test]
async fn a_blob_in_chunks_is_there_also_where_its_head_tells_another_length() {
    for length in ["0", "578", "99999"] {
        let server = FaultServer::start(Quirks::default());
        let lie = Fault::Change(vec![Change::Header("Content-Length", length.to_owned())]);
        server.inject(Rule::new("HEAD", "/blobs/", lie).after(1).always());
        let (to, bytes) = (repository(&server.host(), "app"), noise(1000));
        let pushed = push(&in_chunks(), &to, &bytes).await;
        let pushed = pushed.unwrap_or_else(|error| panic!("{length}: {error}"));
        assert_eq!(pushed, Pushed::Uploaded, "{length}");
        assert_eq!(push(&client(), &to, &bytes).await.unwrap(), Pushed::Exists, "{length}");
    }
}

#[tokio::test]
async fn a_blob_of_which_a_part_is_kept_is_noticed() {
    let server = FaultServer::start(Quirks::default());
    for method in ["HEAD", "GET"] {
        let part = Fault::Change(vec![Change::Shorten(200)]);
        let after = usize::from(method == "HEAD");
        server.inject(Rule::new(method, "/blobs/sha256:", part).after(after).always());
    }
    let (to, bytes) = (repository(&server.host(), "app"), noise(1000));
    let error = push(&in_chunks(), &to, &bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("200 of 1000 bytes"), "{error}");
}
