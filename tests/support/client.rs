//! The registry client as tests use it: impatient, with blobs in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gondola::error::Result;
use gondola::image::Blob;
use gondola::oci::{Descriptor, Digest, MediaType, Reference, Repository};
use gondola::registry::{
    Client, Credentials, Login, OnBytes, Options, Pushed, RetryPolicy, Secret, Timeouts,
};

use super::tokens::{PASSWORD, USER};

/// Options with which a test never waits long.
pub fn impatient() -> Options {
    let second = Duration::from_secs(1);
    Options {
        retry: RetryPolicy {
            attempts: 4,
            first_pause: Duration::from_millis(2),
            longest_pause: 3 * second,
        },
        timeouts: Timeouts {
            connect: 5 * second,
            idle: second,
            answer: 2 * second,
            early: second,
            ..Timeouts::default()
        },
        ..Options::default()
    }
}

/// A client for anybody.
pub fn client() -> Client {
    Client::new(impatient()).unwrap()
}

/// A client for the user that protected servers know.
pub fn client_of_user(host: &str) -> Client {
    client_with_password(host, PASSWORD)
}

/// A client for the user, with any password.
pub fn client_with_password(host: &str, password: &str) -> Client {
    let login = Login::new(USER.to_owned(), Secret::new(password));
    let credentials = Credentials::anonymous().with(host, login);
    Client::new(Options { credentials, ..impatient() }).unwrap()
}

/// A repository on a host.
pub fn repository(host: &str, path: &str) -> Repository {
    format!("{host}/{path}").parse().unwrap()
}

/// An image on a host: `app:v1`, `app@sha256:…`.
pub fn reference(host: &str, name: &str) -> Reference {
    format!("{host}/{name}").parse().unwrap()
}

/// Bytes that do not repeat soon and do not compress.
pub fn noise(length: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Describes bytes as a layer.
pub fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCI_LAYER_GZIP, bytes)
}

/// Nobody watches.
pub fn unwatched() -> OnBytes {
    Arc::new(|_| ())
}

/// Pulls a blob and gives the digest of what came.
pub async fn pull(client: &Client, from: &Repository, blob: &Descriptor) -> Result<Digest> {
    let bytes = client.pull_blob(from, blob, Vec::new(), unwatched()).await?;
    Ok(Digest::of(&bytes))
}

/// Pushes bytes as a layer.
pub async fn push(client: &Client, to: &Repository, bytes: &Bytes) -> Result<Pushed> {
    push_or_mount(client, to, bytes, &[]).await
}

/// Pushes bytes as a layer, or mounts them from another repository.
pub async fn push_or_mount(
    client: &Client,
    to: &Repository,
    bytes: &Bytes,
    from: &[Repository],
) -> Result<Pushed> {
    let blob = Blob::in_memory(layer(bytes), bytes.clone());
    let descriptor = blob.descriptor.clone();
    client.push_blob(to, &descriptor, Arc::new(blob), from, unwatched()).await
}

/// A manifest without layers, of a config that a registry must have.
pub fn manifest_of(config: &[u8]) -> Bytes {
    let config = Descriptor::of(MediaType::OCI_CONFIG, config);
    let manifest = gondola::oci::Manifest::new(MediaType::OCI_MANIFEST, config, Vec::new());
    gondola::oci::canonical_json(&manifest).into()
}

/// The digest of bytes, as text.
pub fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}
