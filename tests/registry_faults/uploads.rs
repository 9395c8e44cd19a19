//! Blobs that do not get there in one piece.

use std::sync::Arc;

use bytes::Bytes;
use gondola::error::{Error, ErrorKind};
use gondola::image::Blob;
use gondola::oci::{Digest, Repository};
use gondola::registry::{Client, Options, Pushed};

use crate::support::client::{
    client, impatient, layer, noise, push, push_or_mount, repository, unwatched,
};
use crate::support::{Answer, Fault, FaultServer, Location, Mount, Quirks, Rule};

const MIB: usize = 1 << 20;

fn app(server: &FaultServer) -> Repository {
    repository(&server.host(), "app")
}

/// Pushes to a server and checks that it has the bytes.
async fn must_push(client: &Client, server: &FaultServer, bytes: &Bytes) -> Pushed {
    let pushed = push(client, &app(server), bytes).await.unwrap();
    assert_stored(server, bytes);
    pushed
}

#[track_caller]
fn assert_stored(server: &FaultServer, bytes: &Bytes) {
    let stored = server.blob("app", &Digest::of(bytes)).map(|stored| Digest::of(&stored));
    assert_eq!(stored, Some(Digest::of(bytes)), "{:?}", server.story());
}

/// The first byte of each chunk that was sent, and its length.
fn chunks(server: &FaultServer) -> Vec<(Option<String>, usize)> {
    let chunk =
        |it: &crate::support::Seen| (it.header("content-range").map(str::to_owned), it.body.len());
    server.seen("PATCH", "/blobs/uploads/").iter().map(chunk).collect()
}

fn chunked(size: usize) -> Client {
    Client::new(Options { chunk_size: Some(size as u64), ..impatient() }).unwrap()
}

#[tokio::test]
async fn a_blob_goes_in_one_request_of_known_length() {
    let server = FaultServer::start(Quirks::default());
    let bytes = noise(5 * MIB);
    assert_eq!(must_push(&client(), &server, &bytes).await, Pushed::Uploaded);
    let methods: Vec<_> = server.requests().iter().map(|it| it.method.clone()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT"]);
    let put = &server.seen("PUT", "/blobs/uploads/")[0];
    assert_eq!(put.header("content-length"), Some("5242880"));
    assert_eq!(put.header("transfer-encoding"), None);
    assert_eq!(put.query["digest"], Digest::of(&bytes).as_str());
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_sent() {
    let server = FaultServer::start(Quirks::default());
    let bytes = noise(1000);
    server.put_blob("app", bytes.clone());
    assert_eq!(must_push(&client(), &server, &bytes).await, Pushed::Exists);
    assert_eq!(server.story(), [format!("HEAD /v2/app/blobs/{}", Digest::of(&bytes))]);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = FaultServer::start(Quirks::default());
    must_push(&client(), &server, &Bytes::new()).await;
}

#[tokio::test]
async fn locations_are_followed_in_every_form_and_taken_fresh() {
    for location in [Location::Absolute, Location::Path, Location::Relative] {
        let quirks = Quirks { location, ..Quirks::default() };
        let server = FaultServer::start(quirks.clone());
        must_push(&client(), &server, &noise(1000)).await;
        let server = FaultServer::start(quirks);
        must_push(&chunked(400), &server, &noise(1000)).await;
    }
}

#[tokio::test]
async fn a_missing_location_is_named() {
    let server = FaultServer::start(Quirks { location: Location::Missing, ..Quirks::default() });
    let error = push(&client(), &app(&server), &noise(1000)).await.unwrap_err();
    assert!(error.to_string().contains("Location"), "{error}");
}

#[tokio::test]
async fn blobs_of_the_same_registry_are_mounted() {
    let server = FaultServer::start(Quirks::default());
    let bytes = noise(1000);
    server.put_blob("team/base", bytes.clone());
    let from = repository(&server.host(), "team/base");
    let pushed = push_or_mount(&client(), &app(&server), &bytes, &[from]).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    assert_stored(&server, &bytes);
    let post = &server.seen("POST", "/blobs/uploads/")[0];
    assert_eq!(post.query["from"], "team/base");
    assert_eq!(post.query["mount"], Digest::of(&bytes).as_str());
    assert!(server.seen("PUT", "").is_empty());
}

#[tokio::test]
async fn blobs_of_another_registry_are_not_asked_to_be_mounted() {
    let server = FaultServer::start(Quirks::default());
    let elsewhere = repository("registry.example.com", "team/base");
    let bytes = noise(1000);
    let pushed = push_or_mount(&client(), &app(&server), &bytes, &[elsewhere]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert!(server.requests().iter().all(|it| !it.query.contains_key("mount")));
}

#[tokio::test]
async fn a_mount_that_does_not_work_becomes_an_upload() {
    let refusals = [400, 401, 403, 404, 405, 409].map(Mount::Status);
    for mount in refusals.into_iter().chain([Mount::Upload]) {
        let server = FaultServer::start(Quirks { mount: mount.clone(), ..Quirks::default() });
        let from = repository(&server.host(), "team/base");
        let bytes = noise(1000);
        let pushed = push_or_mount(&client(), &app(&server), &bytes, &[from]).await;
        assert_eq!(pushed.unwrap(), Pushed::Uploaded, "{mount:?}");
        assert_stored(&server, &bytes);
        if mount == Mount::Upload {
            assert_eq!(server.seen("POST", "").len(), 1, "the session that came is used");
        }
    }
}

#[tokio::test]
async fn a_registry_that_takes_no_large_request_gets_chunks() {
    for status in [413, 416] {
        let server = FaultServer::start(Quirks {
            put_cap: Some((4 * MIB, 413)),
            patch_cap: Some((4 * MIB, status)),
            ..Quirks::default()
        });
        let bytes = noise(9 * MIB);
        must_push(&client(), &server, &bytes).await;
        let sent: Vec<_> = chunks(&server).into_iter().filter(|(_, n)| *n <= 4 * MIB).collect();
        assert!(sent.iter().map(|(_, length)| length).sum::<usize>() <= 9 * MIB);
        assert!(sent.iter().all(|(range, _)| range.is_some()), "{sent:?}");
    }
}

#[tokio::test]
async fn chunks_are_as_large_as_the_registry_wants_them_at_least() {
    let server = FaultServer::start(Quirks { chunk_minimum: Some(3000), ..Quirks::default() });
    must_push(&chunked(1000), &server, &noise(10_000)).await;
    let lengths: Vec<_> = chunks(&server).into_iter().map(|(_, length)| length).collect();
    assert!(lengths[..lengths.len() - 1].iter().all(|length| *length >= 3000), "{lengths:?}");
}

#[tokio::test]
async fn chunks_name_their_place() {
    let server = FaultServer::start(Quirks::default());
    must_push(&chunked(400), &server, &noise(1000)).await;
    let ranges: Vec<_> = chunks(&server).into_iter().filter_map(|(range, _)| range).collect();
    assert_eq!(ranges, ["0-399", "400-799", "800-999"]);
}

#[tokio::test]
async fn a_registry_that_keeps_the_last_request_alone_still_gets_the_whole_blob() {
    let server = FaultServer::start(Quirks { last_chunk_wins: true, ..Quirks::default() });
    must_push(&client(), &server, &noise(9 * MIB)).await;
}

#[tokio::test]
async fn a_registry_without_chunked_uploads_is_pushed_to() {
    let server = FaultServer::start(Quirks::default());
    let refusal = Answer::error(400, "UNSUPPORTED", "chunked uploads are not supported");
    server.inject(Rule::new("PATCH", "", Fault::Answer(refusal)).always());
    must_push(&client(), &server, &noise(9 * MIB)).await;
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_looked_for_and_not_sent_again() {
    let server = FaultServer::start(Quirks::default());
    server.inject(Rule::new("PUT", "/blobs/uploads/", Fault::Lose));
    must_push(&client(), &server, &noise(MIB)).await;
    assert_eq!(server.seen("PUT", "/blobs/uploads/").len(), 1);
    assert_eq!(server.seen("HEAD", "/blobs/").len(), 2);
}

#[tokio::test]
async fn an_upload_that_breaks_off_begins_anew() {
    for quirks in [Quirks::default(), Quirks { sessions_die: true, ..Quirks::default() }] {
        let server = FaultServer::start(quirks);
        server.inject(Rule::new("PUT", "/blobs/uploads/", Fault::CutRequest(MIB)));
        must_push(&client(), &server, &noise(3 * MIB)).await;
    }
}

#[tokio::test]
async fn an_upload_answered_with_a_temporary_failure_is_repeated() {
    for status in [429, 500, 502, 503, 504] {
        for (method, path) in [("HEAD", "/blobs/"), ("POST", "/blobs/"), ("PUT", "/blobs/uploads/")]
        {
            let server = FaultServer::start(Quirks::default());
            server.inject(Rule::new(method, path, Fault::Answer(Answer::html(status))));
            must_push(&client(), &server, &noise(1000)).await;
        }
    }
}

#[tokio::test]
async fn an_upload_that_always_breaks_off_ends() {
    let server = FaultServer::start(Quirks::default());
    server.inject(Rule::new("PUT", "/blobs/uploads/", Fault::CutRequest(100)).always());
    let error = push(&client(), &app(&server), &noise(1000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    let message = error.to_string();
    assert!(message.contains("PUT /v2/app/blobs/uploads/"), "{message}");
    assert!(!message.contains("_state"), "{message}");
    assert!(server.seen("PUT", "").len() <= 5);
}

#[tokio::test]
async fn a_chunk_that_breaks_off_goes_on_where_the_registry_is() {
    let server = FaultServer::start(Quirks::default());
    server.inject(Rule::new("PATCH", "/blobs/uploads/", Fault::CutRequest(250)).after(1));
    must_push(&chunked(400), &server, &noise(1000)).await;
    assert_eq!(server.seen("GET", "/blobs/uploads/").len(), 1);
    assert_eq!(server.seen("POST", "").len(), 1);
    let resumed = chunks(&server)[2].0.clone().unwrap();
    assert!(resumed.starts_with("650-"), "{resumed}");
}

#[tokio::test]
async fn a_chunk_whose_answer_is_lost_is_not_sent_again() {
    let server = FaultServer::start(Quirks::default());
    server.inject(Rule::new("PATCH", "/blobs/uploads/", Fault::Lose).after(1));
    must_push(&chunked(400), &server, &noise(1000)).await;
    let sent: usize = chunks(&server).iter().map(|(_, length)| length).sum();
    assert_eq!(sent, 1000);
}

#[tokio::test]
async fn a_chunk_whose_session_died_with_the_connection_begins_anew() {
    let server = FaultServer::start(Quirks { sessions_die: true, ..Quirks::default() });
    server.inject(Rule::new("PATCH", "/blobs/uploads/", Fault::CutRequest(250)).after(1));
    must_push(&chunked(400), &server, &noise(1000)).await;
    assert_eq!(server.seen("POST", "").len(), 2);
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_body_is_heard() {
    let server = FaultServer::start(Quirks::default());
    let denied = Answer::error(403, "DENIED", "quota exceeded");
    server.inject(Rule::new("PUT", "/blobs/uploads/", Fault::AnswerAfter(MIB, denied)).always());
    let error = push(&client(), &app(&server), &noise(20 * MIB)).await.unwrap_err();
    // The connection may close before the answer is read; then nothing better can be said.
    assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Network), "{error}");
}

#[tokio::test]
async fn a_digest_that_the_registry_finds_wrong_is_final() {
    let server = FaultServer::start(Quirks::default());
    let invalid =
        Answer::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    server.inject(Rule::new("PUT", "/blobs/uploads/", Fault::Answer(invalid)).always());
    let error = push(&client(), &app(&server), &noise(1000)).await.unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    assert!(server.seen("PUT", "").len() <= 2);
}

#[tokio::test]
async fn a_source_of_another_length_is_an_error_and_nothing_is_stored() {
    for length in [999, 1001, 0] {
        let server = FaultServer::start(Quirks::default());
        let described = layer(&noise(1000));
        let other = noise(2000).slice(500..500 + length);
        let source = Blob::in_memory(layer(&other), other.clone());
        let outcome =
            client().push_blob(&app(&server), &described, Arc::new(source), &[], unwatched()).await;
        assert!(outcome.is_err(), "{length}: {outcome:?}");
        assert_eq!(server.blob("app", &described.digest), None);
        assert_eq!(server.blob("app", &Digest::of(&other)), None);
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_named() {
    struct Broken;
    impl gondola::registry::BlobSource for Broken {
        fn open(&self) -> gondola::error::Result<Box<dyn std::io::Read + Send>> {
            Err(Error::new(ErrorKind::Io, "read layer.tar").because("disk on fire"))
        }
    }
    let server = FaultServer::start(Quirks::default());
    let described = layer(&noise(1000));
    let outcome =
        client().push_blob(&app(&server), &described, Arc::new(Broken), &[], unwatched()).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("disk on fire"), "{error}");
}

#[tokio::test]
async fn no_cookie_is_sent_back() {
    let server = FaultServer::start(Quirks { csrf: true, ..Quirks::default() });
    must_push(&client(), &server, &noise(1000)).await;
    must_push(&client(), &server, &noise(2000)).await;
    assert!(server.requests().iter().all(|it| it.header("cookie").is_none()));
}

/// How many whole blobs of this size were sent, in any way.
fn times_sent(server: &FaultServer, size: usize) -> usize {
    let bodies = server.requests().into_iter().map(|it| it.body.len());
    bodies.filter(|length| *length == size).count()
}

#[tokio::test]
async fn a_registry_that_takes_no_body_with_the_put_is_sent_a_patch_and_remembered() {
    for status in [404, 500, 501, 502] {
        let server = FaultServer::start(Quirks::default());
        server.change(|quirks| quirks.put_cap = Some((0, status)));
        let client = client();
        let (first, second) = (noise(5 * MIB), noise(MIB));
        must_push(&client, &server, &first).await;
        assert_eq!(times_sent(&server, 5 * MIB), 2, "{status}");
        must_push(&client, &server, &second).await;
        assert_eq!(times_sent(&server, MIB), 1, "{status}");
    }
}

#[tokio::test]
async fn a_trouble_that_passes_is_no_reason_to_give_up_the_way_that_a_registry_takes() {
    for status in [404, 500, 502] {
        let server = FaultServer::start(Quirks::default());
        server.inject(Rule::new("PUT", "/uploads/", Fault::Answer(Answer::html(status))));
        let refusal = Answer::error(400, "UNSUPPORTED", "chunked uploads are not supported");
        server.inject(Rule::new("PATCH", "", Fault::Answer(refusal)).always());
        let client = client();
        must_push(&client, &server, &noise(MIB)).await;
        let before = server.seen("PATCH", "").len();
        must_push(&client, &server, &noise(2 * MIB)).await;
        assert_eq!(server.seen("PATCH", "").len(), before, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_takes_a_body_in_no_way_is_left_with_its_words() {
    for status in [404, 500] {
        let server = FaultServer::start(Quirks::default());
        for method in ["PUT", "PATCH"] {
            let refusal = Answer::error(status, "UNKNOWN", "the disk is full");
            server.inject(Rule::new(method, "/uploads/", Fault::Answer(refusal)).always());
        }
        let error = push(&client(), &app(&server), &noise(MIB)).await.unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(times_sent(&server, MIB) <= 5, "{status}: {}", times_sent(&server, MIB));
    }
}
