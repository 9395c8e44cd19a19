//! What a registry with TLS may not lead to.

use std::path::Path;

use gondola::error::{Error, ErrorKind};
use gondola::registry::{Client, Credentials, Login, Options, Secret, check_client_certificate};

use crate::support::client::{
    impatient, layer, manifest_of, noise, pull, push, reference, repository,
};
use crate::support::{
    Auth, Certificates, FaultServer, Location, Need, PASSWORD, Quirks, Registry, RegistryOptions,
    TokenAuth, USER, need, run,
};

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

/// What a registry that asks for a certificate says to whoever shows what is in a folder.
async fn asked(registry: &Registry, folder: &Path) -> Error {
    fs_err::copy(registry.authority(), folder.join("ca.crt")).unwrap();
    let above = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder, above.path().join(registry.host())).unwrap();
    let certificate_dirs = vec![above.path().to_owned()];
    let client = Client::new(Options { certificate_dirs, ..impatient() }).unwrap();
    client.manifest(&reference(registry.host(), "app:v1")).await.unwrap_err()
}

fn asking() -> Need<Registry> {
    let options =
        RegistryOptions { tls: true, asks_for_certificate: true, ..RegistryOptions::default() };
    Registry::start(options)
}

#[tokio::test]
async fn a_certificate_of_any_version_is_shown_to_a_registry_that_asks_for_one() {
    let registry = need!(asking());
    for version_1 in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        need!(registry.certificates().sign(folder.path(), "client", (version_1, 10)));
        let error = asked(&registry, folder.path()).await;
        // It was let in, and has no such image.
        assert_eq!(error.kind(), ErrorKind::NotFound, "{version_1}: {error}");
        let [certificate, key] = ["client.cert", "client.key"].map(|it| folder.path().join(it));
        check_client_certificate(&certificate, &key).unwrap();
    }
}

/// Spoils a certificate of a client that is fine.
type Spoil = fn(&Certificates, &Path);

/// Has openssl make another file of one.
fn convert(words: &[&str], from: &Path, to: &str) {
    let to_path = from.with_file_name(to);
    let files = ["-in", from.to_str().unwrap(), "-out", to_path.to_str().unwrap()];
    run("openssl", &[words, &files].concat());
    fs_err::rename(to_path, from).unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_of_ours_is_said_with_its_file_and_a_way_out() {
    let spoilers: [(Spoil, &[&str]); 9] = [
        (
            |_, folder| {
                fs_err::remove_file(folder.join("client.cert")).unwrap();
                fs_err::remove_file(folder.join("client.key")).unwrap();
            },
            &["certificate", "hint: ", "client.cert"],
        ),
        (
            |all, folder| all.sign(folder, "client", (true, -1)).unwrap_or_else(|_| panic!()),
            &["certificate that it was shown", "hint: ", "client.cert"],
        ),
        (
            |_, folder| {
                let other = Certificates::make(&folder.join("other")).unwrap_or_else(|_| panic!());
                other.sign(folder, "client", (false, 9)).unwrap_or_else(|_| panic!());
            },
            &["certificate that it was shown", "hint: ", "client.cert"],
        ),
        (
            |all, folder| {
                all.sign(folder, "other", (true, 9)).unwrap_or_else(|_| panic!());
                fs_err::rename(folder.join("other.key"), folder.join("client.key")).unwrap();
                fs_err::remove_file(folder.join("other.cert")).unwrap();
            },
            &["client.cert: ", "client.key is the key of another certificate", "hint: "],
        ),
        (
            |_, folder| fs_err::remove_file(folder.join("client.key")).unwrap(),
            &["client.key: there is no such file, expected the key of ", "hint: put the key"],
        ),
        (
            |_, folder| {
                let words = ["pkey", "-aes256", "-passout", "pass:secret"];
                convert(&words, &folder.join("client.key"), "new");
            },
            &["client.key: the key is encrypted", "hint: openssl pkey -in "],
        ),
        (
            |_, folder| convert(&["pkey", "-outform", "DER"], &folder.join("client.key"), "new"),
            &["client.key: it is binary, expected PEM", "hint: openssl pkey -inform DER"],
        ),
        (
            |_, folder| convert(&["x509", "-outform", "DER"], &folder.join("client.cert"), "new"),
            &["client.cert: it is binary, expected PEM", "hint: openssl x509 -inform DER"],
        ),
        (
            |_, folder| fs_err::write(folder.join("client.cert"), "hello").unwrap(),
            &["client.cert: there is no certificate in it"],
        ),
    ];
    let registry = need!(asking());
    for (spoil, says) in spoilers {
        let folder = tempfile::tempdir().unwrap();
        need!(registry.certificates().sign(folder.path(), "client", (true, 9)));
        spoil(registry.certificates(), folder.path());
        let _ = fs_err::remove_dir_all(folder.path().join("other"));
        let error = asked(&registry, folder.path()).await.to_string();
        for part in says {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    // A file that is named for this alone is looked at before anybody asks.
    let folder = tempfile::tempdir().unwrap();
    need!(registry.certificates().sign(folder.path(), "old", (false, -1)));
    let [certificate, key] = ["old.cert", "old.key"].map(|it| folder.path().join(it));
    let error = check_client_certificate(&certificate, &key).unwrap_err().to_string();
    assert!(error.contains("old.cert: it expired at ") && error.contains("hint: "), "{error}");
}
