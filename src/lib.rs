//! From Go source to an OCI image: no Docker, no daemon, no root.

pub mod error;
pub mod oci;
pub mod progress;
