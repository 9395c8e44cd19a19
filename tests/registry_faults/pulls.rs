//! Manifests and blobs that do not come as they should.

use std::time::Duration;

use gondola::error::ErrorKind;
use gondola::oci::Digest;
use gondola::registry::{Client, Options};

use crate::support::client::{
    client, digest, impatient, layer, manifest_of, noise, pull, reference, repository,
};
use crate::support::{Answer, Change, Fault, FaultServer, Quirks, Rule};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TEMPORARY: [u16; 8] = [408, 429, 499, 500, 502, 503, 504, 522];

/// A server with one blob in `app`.
fn with_blob(quirks: Quirks, length: usize) -> (FaultServer, bytes::Bytes) {
    let server = FaultServer::start(quirks);
    let bytes = noise(length);
    server.put_blob("app", bytes.clone());
    (server, bytes)
}

/// A server with one manifest, `app:v1`.
fn with_manifest(quirks: Quirks) -> (FaultServer, Digest) {
    let server = FaultServer::start(quirks);
    let digest = server.put_manifest("app", "v1", MANIFEST, manifest_of(b"{}"));
    (server, digest)
}

#[tokio::test]
async fn a_pull_that_breaks_off_goes_on_where_it_was() {
    let (server, bytes) = with_blob(Quirks::default(), 300_000);
    server.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(100_000)));
    let pulled = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap();
    assert_eq!(pulled, Digest::of(&bytes));
    let gets = server.seen("GET", "/blobs/");
    assert_eq!(gets.len(), 2);
    assert_eq!(gets[0].header("range"), None);
    let from: usize = gets[1]
        .header("range")
        .unwrap()
        .trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!((1..=100_000).contains(&from), "{from}");
}

#[tokio::test]
async fn a_pull_that_makes_progress_may_break_off_any_number_of_times() {
    let (server, bytes) = with_blob(Quirks::default(), 200_000);
    server.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(15_000)).times(12));
    let pulled = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap();
    assert_eq!(pulled, Digest::of(&bytes));
    assert_eq!(server.seen("GET", "/blobs/").len(), 13);
}

#[tokio::test]
async fn a_pull_that_never_gets_a_byte_ends() {
    let (server, bytes) = with_blob(Quirks::default(), 1000);
    server.inject(Rule::new("GET", "/blobs/", Fault::Lose).always());
    let error =
        pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(error.to_string().contains(&server.host()), "{error}");
    assert_eq!(server.seen("GET", "/blobs/").len(), 4);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_past_what_is_here() {
    let (server, bytes) = with_blob(Quirks { ranges: false, ..Quirks::default() }, 300_000);
    server.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(100_000)).times(2));
    let pulled = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap();
    assert_eq!(pulled, Digest::of(&bytes));
}

#[tokio::test]
async fn a_server_that_ignores_ranges_and_breaks_off_is_given_up() {
    let (server, bytes) = with_blob(Quirks { ranges: false, ..Quirks::default() }, 300_000);
    for part in 1..30 {
        server.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(9_000 * part)));
    }
    pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap_err();
    assert!(server.seen("GET", "/blobs/").len() < 10);
}

#[tokio::test]
async fn a_range_of_other_bytes_is_refused() {
    let (server, bytes) =
        with_blob(Quirks { wrong_content_range: true, ..Quirks::default() }, 300_000);
    server.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(100_000)));
    let error =
        pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("bytes"), "{error}");
}

#[tokio::test]
async fn a_pull_that_cannot_go_on_where_it_was_begins_anew() {
    let refused = Fault::Answer(Answer::error(416, "RANGE_INVALID", "no ranges here"));
    let unsaid = Fault::Change(vec![Change::Without("Content-Range")]);
    for fault in [refused, unsaid] {
        let (server, bytes) = with_blob(Quirks::default(), 300_000);
        server.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(100_000)));
        server.inject(Rule::new("GET", "/blobs/", fault.clone()));
        let pulled = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await;
        let pulled = pulled.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(pulled, Digest::of(&bytes), "{fault:?}");
        let asked: Vec<_> =
            server.seen("GET", "/blobs/").iter().map(|it| it.header("range").is_some()).collect();
        assert_eq!(asked, [false, true, false], "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_for_long_is_left_and_quoted() {
    for status in [429, 503] {
        for method in ["GET", "HEAD"] {
            let (server, _) = with_manifest(Quirks::default());
            let busy = Answer::error(status, "TOOMANYREQUESTS", "slow down");
            let busy = Fault::Answer(busy.header("Retry-After", "3600"));
            for method in ["GET", "HEAD"] {
                server.inject(Rule::new(method, "/manifests/", busy.clone()).always());
            }
            let wanted = reference(&server.host(), "app:v1");
            let error = match method {
                "GET" => client().manifest(&wanted).await.map(|_| ()).unwrap_err(),
                _ => client().resolve(&wanted).await.map(|_| ()).unwrap_err(),
            };
            assert_eq!(server.seen(method, "/manifests/").len(), 1, "{method} {status}");
            let message = error.to_string();
            assert!(message.contains("try again in 1h"), "{method} {status}: {message}");
            assert!(message.contains("slow down"), "{method} {status}: {message}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_another_length_is_refused() {
    let shorter = Fault::Change(vec![Change::Shorten(999)]);
    let longer = Fault::Change(vec![Change::Body(noise(1001))]);
    let unsaid = |body| {
        Fault::Change(vec![
            Change::Body(body),
            Change::Header("Transfer-Encoding", "chunked".into()),
        ])
    };
    for fault in [shorter, longer, unsaid(noise(1001))] {
        let (server, bytes) = with_blob(Quirks::default(), 1000);
        server.inject(Rule::new("GET", "/blobs/", fault.clone()).always());
        let outcome = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await;
        let error = outcome.expect_err(&format!("{fault:?}"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[tokio::test]
async fn blobs_compressed_on_the_way_are_asked_against_and_refused() {
    let (server, bytes) = with_blob(Quirks::default(), 1000);
    server.inject(Rule::new("GET", "/blobs/", Fault::Change(vec![Change::Gzip])).always());
    let outcome = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Corrupt);
    for request in server.requests() {
        assert_eq!(request.header("accept-encoding"), Some("identity"), "{request:?}");
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for_while_bytes_come() {
    let (server, bytes) = with_blob(Quirks::default(), 1000);
    let pause = Duration::from_millis(150);
    server.inject(Rule::new("GET", "/blobs/", Fault::Drip(100, pause)));
    let pulled = pull(&client(), &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap();
    assert_eq!(pulled, Digest::of(&bytes));
    assert_eq!(server.seen("GET", "/blobs/").len(), 1);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let (server, bytes) = with_blob(Quirks::default(), 1000);
    server.inject(Rule::new("GET", "/blobs/", Fault::Stall).always());
    let mut options = impatient();
    options.timeouts.answer = Duration::from_millis(200);
    options.retry.attempts = 2;
    let client = Client::new(options).unwrap();
    let error =
        pull(&client, &repository(&server.host(), "app"), &layer(&bytes)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(error.to_string().contains("GET /v2/app/blobs/"), "{error}");
    assert_eq!(server.seen("GET", "/blobs/").len(), 2);
}

#[tokio::test]
async fn temporary_answers_are_asked_again_and_final_ones_are_not() {
    let times = |status: u16| if TEMPORARY.contains(&status) { 2 } else { 1 };
    for status in TEMPORARY.into_iter().chain([400, 403, 404, 410, 418, 501]) {
        for method in ["GET", "HEAD"] {
            let (server, _) = with_manifest(Quirks::default());
            let answer = Answer::error(status, "UNKNOWN", "not now");
            server.inject(Rule::new(method, "/manifests/", Fault::Answer(answer)));
            let wanted = reference(&server.host(), "app:v1");
            let outcome = match method {
                "GET" => client().manifest(&wanted).await.map(|_| ()),
                _ => client().tag_digest(&wanted).await.map(|_| ()),
            };
            let expect = times(status);
            assert_eq!(
                server.seen(method, "/manifests/").len(),
                expect,
                "{method} {status}: {outcome:?}"
            );
            assert!(expect == 1 || outcome.is_ok(), "{method} {status}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (server, _) = with_manifest(Quirks::default());
    let busy = Answer::status(503).header("Retry-After", "1");
    server.inject(Rule::new("GET", "/manifests/", Fault::Answer(busy)));
    client().manifest(&reference(&server.host(), "app:v1")).await.unwrap();
    let gets = server.seen("GET", "/manifests/");
    assert_eq!(gets.len(), 2);
    assert!(gets[1].at - gets[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_refusal_names_request_status_and_reason() {
    let (server, _) = with_manifest(Quirks::default());
    let denied = Answer::error(403, "DENIED", "requested access to the resource is denied");
    server.inject(Rule::new("GET", "/manifests/", Fault::Answer(denied)));
    let error = client().manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let message = error.to_string();
    for part in [&server.image("app:v1"), "403", "DENIED", "GET /v2/app/manifests/v1"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
}

#[tokio::test]
async fn a_page_for_people_is_no_part_of_a_message() {
    for status in [200, 403, 502] {
        let (server, _) = with_manifest(Quirks::default());
        server
            .inject(Rule::new("GET", "/manifests/", Fault::Answer(Answer::html(status))).always());
        let error = client().manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
        assert!(!error.to_string().contains('<'), "{error}");
        assert!(status == 200 || error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn what_is_missing_is_not_found() {
    let server = FaultServer::start(Quirks::default());
    let error = client().manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let blob = layer(b"absent");
    let error = pull(&client(), &repository(&server.host(), "app"), &blob).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_manifest_with_other_bytes_than_its_digest_is_corrupt() {
    let faults = [
        vec![Change::Flip(3)],
        vec![Change::Shorten(40)],
        vec![Change::Body(manifest_of(b"another"))],
        vec![Change::Gzip],
    ];
    for changes in faults {
        for by_digest in [true, false] {
            let (server, digest) = with_manifest(Quirks::default());
            let fault = Fault::Change(changes.clone());
            server.inject(Rule::new("GET", "/manifests/", fault).always());
            let name = if by_digest { format!("app@{digest}") } else { "app:v1".to_owned() };
            let outcome = client().manifest(&reference(&server.host(), &name)).await;
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Corrupt, "{name} {changes:?}");
        }
    }
}

#[tokio::test]
async fn a_manifest_asked_for_by_digest_is_checked_against_that_digest() {
    let (server, digest) = with_manifest(Quirks::default());
    let other = manifest_of(b"another");
    let lie = vec![
        Change::Body(other.clone()),
        Change::Header("Docker-Content-Digest", crate::support::client::digest(&other)),
    ];
    for method in ["GET", "HEAD"] {
        server.inject(Rule::new(method, "/manifests/", Fault::Change(lie.clone())).always());
    }
    let wanted = reference(&server.host(), &format!("app@{digest}"));
    assert_eq!(client().manifest(&wanted).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(client().resolve(&wanted).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_manifest_of_any_size_is_not_read_to_its_end() {
    let (server, _) = with_manifest(Quirks::default());
    let huge = vec![Change::Without("Docker-Content-Digest"), Change::Body(noise(9 << 20))];
    server.inject(Rule::new("GET", "/manifests/", Fault::Change(huge)).always());
    let error = client().manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(server.seen("GET", "/manifests/").len(), 1);
}

#[tokio::test]
async fn a_head_without_a_digest_is_followed_by_a_get() {
    let (server, digest) = with_manifest(Quirks { digest_on_head: false, ..Quirks::default() });
    let found = client().resolve(&reference(&server.host(), "app:v1")).await.unwrap();
    assert_eq!(found.digest, digest);
    assert_eq!(server.story(), ["HEAD /v2/app/manifests/v1", "GET /v2/app/manifests/v1"]);
}

#[tokio::test]
async fn a_head_with_a_digest_is_enough() {
    let (server, digest) = with_manifest(Quirks::default());
    let found = client().resolve(&reference(&server.host(), "app:v1")).await.unwrap();
    assert_eq!((found.digest, found.media_type.as_str()), (digest, MANIFEST));
    assert_eq!(server.story(), ["HEAD /v2/app/manifests/v1"]);
}

#[tokio::test]
async fn a_missing_tag_that_is_forbidden_to_ask_for_counts_as_absent() {
    let server = FaultServer::start(Quirks { forbids_missing: true, ..Quirks::default() });
    let found = client().tag_digest(&reference(&server.host(), "app:v1")).await.unwrap();
    assert_eq!(found, None);
}

#[tokio::test]
async fn schema_1_is_refused_by_name() {
    let server = FaultServer::start(Quirks::default());
    let document = r#"{"schemaVersion":1,"name":"app","tag":"v1","fsLayers":[],"history":[]}"#;
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let rule = Fault::Answer(Answer::status(200).header("Content-Type", media_type).body(document));
    server.inject(Rule::new("GET", "/manifests/", rule));
    let error = client().manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[tokio::test]
async fn no_more_blobs_move_at_once_than_asked_for() {
    let server = FaultServer::start(Quirks::default());
    let blobs: Vec<_> = (1000..1012).map(noise).collect();
    for bytes in &blobs {
        server.put_blob("app", bytes.clone());
    }
    let pause = Duration::from_millis(5);
    server.inject(Rule::new("GET", "/blobs/", Fault::Drip(200, pause)).always());
    let client = Client::new(Options { jobs: 3, ..impatient() }).unwrap();
    let from = repository(&server.host(), "app");
    let described: Vec<_> = blobs.iter().map(|bytes| layer(bytes)).collect();
    let pulls = described.iter().map(|blob| pull(&client, &from, blob));
    for (pulled, bytes) in futures_util::future::join_all(pulls).await.iter().zip(&blobs) {
        assert_eq!(*pulled.as_ref().unwrap(), Digest::of(bytes));
    }
    assert!(server.peak() <= 3, "{}", server.peak());
}

#[tokio::test]
async fn a_store_takes_only_what_has_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let store = gondola::store::Store::open(folder.path()).unwrap();
    let (server, bytes) = with_blob(Quirks::default(), 1000);
    server.inject(Rule::new("GET", "/blobs/", Fault::Change(vec![Change::Flip(500)])));
    let (from, blob) = (repository(&server.host(), "app"), layer(&bytes));
    let watch = crate::support::client::unwatched;
    let ingest = client().pull_blob(&from, &blob, store.ingest().unwrap(), watch()).await.unwrap();
    assert_eq!(ingest.commit(Some(&blob)).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.has(&blob.digest).unwrap(), None);
    let ingest = client().pull_blob(&from, &blob, store.ingest().unwrap(), watch()).await.unwrap();
    assert_eq!(ingest.commit(Some(&blob)).unwrap().0.as_str(), digest(&bytes));
    assert_eq!(store.has(&blob.digest).unwrap(), Some(1000));
}
