//! What a registry with TLS may not lead to.

use gondola::error::ErrorKind;
use gondola::registry::{Client, Credentials, Login, Options, Secret};

use crate::support::client::{
    impatient, layer, manifest_of, noise, pull, push, reference, repository,
};
use crate::support::{Auth, FaultServer, Location, Need, PASSWORD, Quirks, TokenAuth, USER, need};

/// A registry with TLS, and a client that trusts it and knows the user.
fn trusted(quirks: Quirks) -> Need<(FaultServer, Client)> {
    let server = FaultServer::start_tls(quirks)?;
    let authority = server.authority().to_str().unwrap().to_owned();
    let login = Login::new(USER.to_owned(), Secret::new(PASSWORD));
    let options = Options {
        environment: [("SSL_CERT_FILE".to_owned(), authority)].into(),
        credentials: Credentials::anonymous().with(&server.host(), login),
        ..impatient()
    };
    Ok((server, Client::new(options).unwrap()))
}

/// A server without TLS, by a name that is not the registry's.
fn plain_origin(server: &FaultServer) -> String {
    server.origin().replace("127.0.0.1", "localhost")
}

#[tokio::test]
async fn tokens_and_blobs_travel_over_tls() {
    let tokens = Auth::Token(TokenAuth::default());
    let (server, client) = need!(trusted(Quirks { auth: tokens, ..Quirks::default() }));
    let repository = repository(&server.host(), "app");
    push(&client, &repository, &noise(100_000)).await.unwrap();
    pull(&client, &repository, &layer(&noise(100_000))).await.unwrap();
}

#[tokio::test]
async fn an_unknown_authority_is_named_with_the_way_to_trust_it() {
    let server = need!(FaultServer::start_tls(Quirks::default()));
    let client = Client::new(impatient()).unwrap();
    let error = client.manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("certificate") && message.contains("hint: "), "{message}");
    assert!(server.requests().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn a_realm_without_tls_gets_no_password() {
    let plain = FaultServer::start(Quirks::default());
    let realm = Some(format!("{}/token", plain_origin(&plain)));
    let auth = Auth::Token(TokenAuth { realm, ..TokenAuth::default() });
    let (server, client) = need!(trusted(Quirks { auth, ..Quirks::default() }));
    let error = client.manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(plain.requests().is_empty(), "{:?}", plain.requests());
}

#[tokio::test]
async fn a_blob_is_not_fetched_without_tls() {
    let plain = FaultServer::start(Quirks::default());
    plain.put_blob("app", noise(1000));
    let blobs_at = Some(plain_origin(&plain));
    let (server, client) = need!(trusted(Quirks { blobs_at, ..Quirks::default() }));
    let from = repository(&server.host(), "app");
    let error = pull(&client, &from, &layer(&noise(1000))).await.unwrap_err();
    assert!(error.to_string().contains("https to http"), "{error}");
    assert!(plain.requests().is_empty(), "{:?}", plain.requests());
}

#[tokio::test]
async fn a_blob_is_not_sent_without_tls() {
    let plain = FaultServer::start(Quirks::default());
    let location = Location::At(plain_origin(&plain));
    let (server, client) = need!(trusted(Quirks { location, ..Quirks::default() }));
    let to = repository(&server.host(), "app");
    push(&client, &to, &noise(1000)).await.unwrap_err();
    assert!(plain.requests().is_empty(), "{:?}", plain.requests());
}

#[tokio::test]
async fn a_registry_that_does_not_know_that_it_has_tls_is_understood() {
    let (server, client) = need!(trusted(Quirks::default()));
    server.put_blob("app", "{}");
    let location = Location::At(server.origin().replace("https", "http"));
    server.change(|quirks| quirks.location = location);
    let to = repository(&server.host(), "app");
    push(&client, &to, &noise(1000)).await.unwrap();
    let media_type = gondola::oci::MediaType::OCI_MANIFEST;
    client.push_manifest(&to, "v1", &media_type, manifest_of(b"{}")).await.unwrap();
    assert_eq!(server.tags("app"), ["v1"]);
}
