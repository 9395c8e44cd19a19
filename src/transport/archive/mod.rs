//! Archives: tar files that hold images.
//!
//! What is written here loads everywhere, because it is two formats at once that share their blobs:
//!
//! ```text
//! blobs/sha256/<hex>      manifests, configs, layers, each once
//! index.json              one descriptor per name, for containerd, podman and new docker
//! manifest.json           the host's platform of each image, for docker's classic store
//! oci-layout
//! ```
//!
//! Members are sorted, plain USTAR, mode 0644, owned by 0, at time 0: equal images give equal bytes.
//!
//! What is read here may be any of an image layout, what old or new `docker save` writes, or what
//! podman, skopeo, crane, ko, kaniko and bazel write, compressed or not.

mod docker;
mod members;
mod open;
mod read;
mod unpack;
mod write;

pub(super) use open::Archive;
pub(super) use read::{read, read_all};
pub(super) use write::{check_file, to_file, to_writer};
