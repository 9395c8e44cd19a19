//! The registry client against real registries, with skopeo as the second opinion.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use gondola::error::{ErrorKind, Result};
use gondola::oci::{Descriptor, Digest, Document, Manifest, MediaType, Reference, Repository};
use gondola::registry::{
    Access, BlobSource, Client, Credentials, Login, OnBytes, Options, Pushed, Secret, login,
};
use support::{
    BaseImage, Need, PASSWORD, Registry, RegistryAuth, RegistryOptions, Sandbox, USER, need,
    program,
};

struct Bytewise(Bytes);

impl BlobSource for Bytewise {
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.0.clone())))
    }
}

fn nobody() -> OnBytes {
    Arc::new(|_| {})
}

fn anonymous() -> Client {
    Client::new(Options::default()).unwrap()
}

fn user() -> Login {
    Login::new(USER.to_owned(), Secret::new(PASSWORD))
}

fn with_login(registry: &Registry, options: Options) -> Client {
    let credentials = Credentials::anonymous().with(registry.host(), user());
    Client::new(Options { credentials, ..options }).unwrap()
}

fn repository(registry: &Registry, path: &str) -> Repository {
    registry.image(path).parse().unwrap()
}

/// Content that no compression or repetition hides mistakes in.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn push_blob(
    client: &Client,
    to: &Repository,
    kind: MediaType,
    bytes: Bytes,
) -> Result<Pushed> {
    let descriptor = Descriptor::of(kind, &bytes);
    client.push_blob(to, &descriptor, Arc::new(Bytewise(bytes)), &[], nobody()).await
}

/// Pushes an image of one layer and gives its manifest.
async fn push_image(client: &Client, to: &Repository, tag: &str) -> Result<Document<Manifest>> {
    let layer = noise(3_000_000);
    let config = Bytes::from_static(
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let layers = vec![Descriptor::of(MediaType::OCI_LAYER, &layer)];
    push_blob(client, to, MediaType::OCI_LAYER, layer).await?;
    push_blob(client, to, MediaType::OCI_CONFIG, config.clone()).await?;
    let config = Descriptor::of(MediaType::OCI_CONFIG, &config);
    let manifest = Manifest::new(MediaType::OCI_MANIFEST, config, layers);
    let document = Document::new(MediaType::OCI_MANIFEST, manifest);
    client.push_manifest(to, tag, document.media_type(), document.bytes().clone()).await?;
    Ok(document)
}

/// Pulls everything that a manifest names and checks it.
async fn pull_image(client: &Client, from: &Reference, expect: &Document<Manifest>) -> Result<()> {
    assert_eq!(&client.resolve(from).await?, expect.descriptor());
    let pulled = client.manifest(from).await?;
    assert_eq!(&pulled.bytes, expect.bytes());
    for blob in expect.value().layers.iter().chain([&expect.value().config]) {
        let bytes = client.pull_blob(from.repository(), blob, Vec::new(), nobody()).await?;
        assert_eq!(Digest::of(&bytes), blob.digest);
    }
    Ok(())
}

#[tokio::test]
async fn a_push_asks_for_nothing_that_it_does_not_need() {
    for relative_urls in [false, true] {
        let options = RegistryOptions { relative_urls, ..RegistryOptions::default() };
        let registry = need!(Registry::start(options));
        let (client, to) = (anonymous(), repository(&registry, "team/app"));
        let document = push_image(&client, &to, "v1").await.unwrap();
        let asked: Vec<String> = registry
            .log()
            .into_iter()
            .map(|line| format!("{} {}", line.method, line.status))
            .collect();
        let blob = ["HEAD 404", "POST 202", "PUT 201"];
        assert_eq!(asked, [blob.as_slice(), &blob, &["PUT 201"]].concat());
        pull_image(&anonymous(), &to.at_tag("v1").unwrap(), &document).await.unwrap();
        let pinned = to.at_digest(document.digest().clone());
        pull_image(&anonymous(), &pinned, &document).await.unwrap();
        // The same again: all is there.
        let again = anonymous();
        push_image(&again, &to, "v1").await.unwrap();
        assert_eq!(registry.uploads(), 2);
        let tag = again.tag_digest(&to.at_tag("v1").unwrap()).await.unwrap();
        assert_eq!(tag.unwrap().digest, *document.digest());
        assert!(again.tag_digest(&to.at_tag("v2").unwrap()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn chunks_arrive_as_one_blob() {
    let registry = need!(Registry::plain());
    let to = repository(&registry, "app");
    let client =
        Client::new(Options { chunk_size: Some(1_000_000), ..Options::default() }).unwrap();
    let bytes = noise(3_500_000);
    let pushed = push_blob(&client, &to, MediaType::OCI_LAYER, bytes.clone()).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(registry.count("PATCH", "/blobs/uploads/", &[202]), 4);
    let descriptor = Descriptor::of(MediaType::OCI_LAYER, &bytes);
    let read = client.pull_blob(&to, &descriptor, Vec::new(), nobody()).await.unwrap();
    assert_eq!(Digest::of(&read), descriptor.digest);
}

#[tokio::test]
async fn layers_of_the_same_registry_are_mounted_and_not_sent() {
    for auth in [RegistryAuth::Open, RegistryAuth::Token] {
        let registry =
            need!(Registry::start(RegistryOptions { auth, ..RegistryOptions::default() }));
        let (base, app) = (repository(&registry, "base"), repository(&registry, "app"));
        let client = with_login(&registry, Options::default());
        let bytes = noise(1_000_000);
        push_blob(&client, &base, MediaType::OCI_LAYER, bytes.clone()).await.unwrap();
        let client = with_login(&registry, Options::default());
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        let source = Arc::new(Bytewise(Bytes::from_static(b"not read")));
        let pushed = client.push_blob(&app, &descriptor, source, &[base], nobody()).await.unwrap();
        assert_eq!(pushed, Pushed::Mounted);
        assert!(client.has_blob(&app, &descriptor.digest).await.unwrap());
        assert_eq!(registry.uploads(), 1);
    }
}

#[tokio::test]
async fn a_password_opens_a_protected_registry() {
    let auth = RegistryAuth::Htpasswd;
    let registry = need!(Registry::start(RegistryOptions { auth, ..RegistryOptions::default() }));
    let to = repository(&registry, "team/app");
    let document = push_image(&with_login(&registry, Options::default()), &to, "v1").await.unwrap();
    let tag = to.at_tag("v1").unwrap();
    pull_image(&with_login(&registry, Options::default()), &tag, &document).await.unwrap();
    let error = anonymous().manifest(&tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let hint = format!("hint: gondola login {}", registry.host());
    assert!(error.to_string().ends_with(&hint), "{error}");
    login::verify(&Options::default(), registry.host(), &user()).await.unwrap();
    let wrong = Login::new(USER.to_owned(), Secret::new("hunter2"));
    let error = login::verify(&Options::default(), registry.host(), &wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn credentials_that_were_kept_are_used() {
    let auth = RegistryAuth::Token;
    let registry = need!(Registry::start(RegistryOptions { auth, ..RegistryOptions::default() }));
    let sandbox = Sandbox::new();
    let home = sandbox.home().display().to_string();
    let environment = BTreeMap::from([("HOME".to_owned(), home)]);
    let to = repository(&registry, "team/app");
    let options = || Options::from_environment(&environment).unwrap();
    let error = push_image(&Client::new(options()).unwrap(), &to, "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    login::verify(&options(), registry.host(), &user()).await.unwrap();
    login::store(&environment, registry.host(), &user()).await.unwrap();
    let client = Client::new(options()).unwrap();
    client.warm_up(&to, Access::Push).await.unwrap();
    let before = registry.tokens().asked().len();
    let document = push_image(&client, &to, "v1").await.unwrap();
    assert_eq!(registry.tokens().asked().len(), before, "a token is used again");
    // Anybody may pull here, with a token for nobody in particular.
    pull_image(&anonymous(), &to.at_tag("v1").unwrap(), &document).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_accepted_where_it_is_said_to_be() {
    let registry =
        need!(Registry::start(RegistryOptions { tls: true, ..RegistryOptions::default() }));
    let to = repository(&registry, "app");
    let strict = anonymous();
    let error = push_image(&strict, &to, "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let text = error.to_string();
    let path = format!("/etc/docker/certs.d/{}/ca.crt", registry.host());
    assert!(text.contains(&path) && text.contains("--insecure-registry"), "{text}");

    let sandbox = Sandbox::new();
    let certs = sandbox.path("certs.d");
    let folder = certs.join(registry.host());
    fs_err::create_dir_all(&folder).unwrap();
    fs_err::copy(registry.authority(), folder.join("ca.crt")).unwrap();
    let file = registry.authority().display().to_string();
    let named = BTreeMap::from([("SSL_CERT_FILE".to_owned(), file)]);
    let insecure = vec![registry.host().to_owned()];
    for options in [
        Options { certificate_dirs: vec![certs], ..Options::default() },
        Options { environment: named, ..Options::default() },
        Options { insecure, ..Options::default() },
    ] {
        let client = Client::new(options).unwrap();
        let document = push_image(&client, &to, "v1").await.unwrap();
        pull_image(&client, &to.at_tag("v1").unwrap(), &document).await.unwrap();
    }
}

#[tokio::test]
async fn an_insecure_host_without_tls_is_spoken_to_in_the_clear() {
    let registry = need!(Registry::plain());
    let insecure = vec![registry.host().to_owned()];
    let client = Client::new(Options { insecure, ..Options::default() }).unwrap();
    let to = repository(&registry, "app");
    let document = push_image(&client, &to, "v1").await.unwrap();
    pull_image(&client, &to.at_tag("v1").unwrap(), &document).await.unwrap();
}

#[tokio::test]
async fn skopeo_reads_what_was_pushed_and_the_client_what_skopeo_pushed() {
    let registry = need!(Registry::plain());
    let skopeo: Need<_> = program("skopeo");
    let skopeo = need!(skopeo);
    let (client, to) = (anonymous(), repository(&registry, "app"));
    let document = push_image(&client, &to, "v1").await.unwrap();
    let image = format!("docker://{}", to.at_tag("v1").unwrap());
    let inspect = Command::new(skopeo).args(["inspect", "--tls-verify=false", &image]).output();
    let inspect = inspect.unwrap();
    assert!(inspect.status.success(), "{}", String::from_utf8_lossy(&inspect.stderr));
    let said: serde_json::Value = serde_json::from_slice(&inspect.stdout).unwrap();
    assert_eq!(said["Digest"], document.digest().as_str());

    let sandbox = Sandbox::new();
    let base = BaseImage::for_platforms(&["linux/amd64", "linux/arm64"]);
    let digest = need!(base.push(&sandbox.path("base"), &registry.image("base:v1")));
    let reference: Reference = registry.image("base:v1").parse().unwrap();
    let descriptor = client.resolve(&reference).await.unwrap();
    assert_eq!(descriptor.digest, digest);
    assert!(descriptor.media_type.is_index());
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let registry = need!(Registry::plain());
    let client = anonymous();
    let reference: Reference = registry.image("nobody/nothing:v1").parse().unwrap();
    let error = client.manifest(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with(&format!("cannot pull {reference}: ")), "{error}");
    // Nobody listens on port 1.
    let reference: Reference = "127.0.0.1:1/a:v1".parse().unwrap();
    let error = client.manifest(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(
        error.to_string(),
        "cannot pull 127.0.0.1:1/a:v1: 127.0.0.1:1 refuses connections; \
         hint: check that a registry listens at 127.0.0.1:1"
    );
}

#[tokio::test]
async fn a_tag_that_is_not_there_is_told_with_those_that_are() {
    let registry = need!(Registry::plain());
    let (client, to) = (anonymous(), repository(&registry, "tags/here"));
    push_image(&client, &to, "latest").await.unwrap();
    push_image(&client, &to, "v1.26").await.unwrap();
    for (tag, said) in [
        ("lates", "the repository has no tag lates; hint: did you mean latest?"),
        ("zzz", "the repository has no tag zzz; hint: its tags are latest, v1.26"),
    ] {
        let wanted: Reference = registry.image(&format!("tags/here:{tag}")).parse().unwrap();
        let resolved = client.resolve(&wanted).await.unwrap_err();
        let pulled = client.manifest(&wanted).await.unwrap_err();
        for error in [resolved, pulled] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().ends_with(said), "{error}");
        }
    }
}
