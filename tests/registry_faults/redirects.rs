//! Answers that lead elsewhere.

use gondola::error::ErrorKind;
use gondola::oci::Digest;

use crate::support::client::{client, client_of_user, layer, noise, pull, push, repository};
use crate::support::{Answer, Auth, Fault, FaultServer, Location, Quirks, Rule, TokenAuth};

fn storage() -> FaultServer {
    FaultServer::start(Quirks { refuses_authorization: true, ..Quirks::default() })
}

#[tokio::test]
async fn storage_elsewhere_gets_no_credentials() {
    for auth in [Auth::Basic, Auth::Token(TokenAuth::default())] {
        let storage = storage();
        let bytes = noise(100_000);
        storage.put_blob("app", bytes.clone());
        storage.inject(Rule::new("GET", "/blobs/", Fault::CutAnswer(40_000)));
        let blobs_at = Some(storage.origin());
        let registry = FaultServer::start(Quirks { auth, blobs_at, ..Quirks::default() });
        let (client, from) =
            (client_of_user(&registry.host()), repository(&registry.host(), "app"));
        assert_eq!(pull(&client, &from, &layer(&bytes)).await.unwrap(), Digest::of(&bytes));
        let gets = storage.seen("GET", "/blobs/");
        assert!(gets.iter().all(|it| it.header("authorization").is_none()));
        assert!(gets[1].header("range").is_some(), "a range survives the redirect");
    }
}

#[tokio::test]
async fn an_upload_sent_elsewhere_takes_no_credentials_along() {
    let storage = FaultServer::start(Quirks::default());
    storage.inject(Rule::new("PUT", "/blobs/uploads/", Fault::Answer(Answer::status(201))));
    let location = Location::At(storage.origin());
    let registry = FaultServer::start(Quirks { auth: Auth::Basic, location, ..Quirks::default() });
    let (client, to) = (client_of_user(&registry.host()), repository(&registry.host(), "app"));
    push(&client, &to, &noise(1000)).await.unwrap();
    let puts = storage.seen("PUT", "/blobs/uploads/");
    assert_eq!(puts.len(), 1);
    assert_eq!(puts[0].body, noise(1000));
    assert_eq!(puts[0].header("authorization"), None);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let server = FaultServer::start(Quirks::default());
    let itself = server.origin();
    server.change(|quirks| quirks.blobs_at = Some(itself));
    let from = repository(&server.host(), "app");
    let error = pull(&client(), &from, &layer(b"x")).await.unwrap_err();
    assert!(error.to_string().contains("redirect"), "{error}");
    assert!(server.requests().len() <= 11, "{}", server.requests().len());
}

#[tokio::test]
async fn redirects_to_other_schemes_are_refused() {
    for location in ["file:///etc/passwd", "null://here/x", "ftp://127.0.0.1/x", "http://[::g]/"] {
        let server = FaultServer::start(Quirks::default());
        let away = Answer::status(307).header("Location", location);
        server.inject(Rule::new("GET", "/blobs/", Fault::Answer(away)).always());
        let outcome = pull(&client(), &repository(&server.host(), "app"), &layer(b"x")).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid, "{location}");
        assert_eq!(server.requests().len(), 1, "{location}");
    }
}
