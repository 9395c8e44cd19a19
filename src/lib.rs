//! From Go source to an OCI image: no Docker, no daemon, no root.
//!
//! ```text
//!   front end              engine                                transports
//!   Go packages ─► golang ─► Tree ─► Layer ─► Image ─► Artifact ─► registry, layouts, archives,
//!                                               ▲                  other engines, the local store
//!                                    base image ┘ from any of these, or built in
//! ```
//!
//! Everything that becomes a layer is a sorted tree first, and equal trees give equal bytes. A blob
//! in the store is a verified blob. Whatever is pulled keeps its bytes; whatever is written has one
//! canonical form. Nothing below `cli` reads the environment, the clock or the working folder, and
//! nothing below it prints.
//!
//! Modules use each other downwards only. A test compares this list with the code:
//!
//! ```text
//! clock:
//! disk:
//! error:
//! glob:
//! literal:
//! progress:
//! secret:
//! oci: error secret
//! layer: disk error oci progress
//! sandbox: disk error oci progress secret
//! registry: disk error oci progress secret
//! store: error oci progress
//! image: disk error oci layer registry store
//! transport: disk error oci progress layer registry store image
//! rootfs: disk error oci progress layer sandbox registry store image transport
//! engine: error oci progress layer store image transport
//! cache: disk error oci progress layer registry store image transport engine
//! golang: clock disk error glob oci progress secret layer sandbox store image transport cache rootfs
//! dockerfile: clock disk error glob literal oci progress secret layer sandbox registry store image transport cache rootfs engine
//! container: disk error literal oci progress layer sandbox store image transport rootfs
//! config: disk error literal oci layer
//! pipeline: disk error oci progress layer sandbox registry store image transport cache rootfs engine golang dockerfile
//! cli: disk error literal oci progress secret layer sandbox registry store image transport cache rootfs golang dockerfile container config pipeline
//! ```

pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod container;
pub mod disk;
pub mod dockerfile;
pub mod engine;
pub mod error;
pub mod glob;
pub mod golang;
pub mod image;
pub mod layer;
pub mod literal;
pub mod oci;
pub mod pipeline;
pub mod progress;
pub mod registry;
pub mod rootfs;
pub mod sandbox;
pub mod secret;
pub mod store;
pub mod transport;
