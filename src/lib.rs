//! From Go source to an OCI image: no Docker, no daemon, no root.
//!
//! ```text
//!   front ends                                                     transports
//!   Go packages ─► golang ──────────┐
//!   Dockerfiles ─► dockerfile       ├─► Tree ─► Layer ─► Image ─► Artifact ─► registry, layouts, archives,
//!                  │ one Op a step  │                      ▲                  other engines, the local store
//!                  ▼                │           base image ┘ from any of these, or built in
//!                  engine ──────────┘
//!                  │ what is not known
//!                  ▼
//!                  execute: a RUN in a sandbox, a COPY
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
//! secret:
//! error: secret
//! blocking: error
//! glob:
//! literal:
//! progress: secret
//! oci: error secret
//! layer: disk error oci progress
//! sandbox: disk error oci progress secret
//! registry: blocking disk error oci progress secret
//! store: error oci progress
//! image: disk error oci layer registry store
//! transport: blocking disk error oci progress layer registry store image
//! rootfs: blocking disk error oci progress layer sandbox registry store image transport
//! engine: blocking error oci progress layer store image transport
//! cache: blocking disk error oci progress layer registry store image transport engine
//! context: blocking clock error glob literal oci secret layer store transport engine
//! golang: blocking clock disk error glob oci progress secret layer sandbox store image transport rootfs cache
//! dockerfile: blocking disk error glob literal oci progress secret layer sandbox registry store image transport rootfs engine cache context
//! execute: blocking disk error glob oci progress secret layer sandbox registry store image transport rootfs engine cache context golang
//! container: blocking disk error literal oci progress layer sandbox store image transport rootfs
//! config: disk error literal oci layer golang
//! pipeline: blocking disk error oci progress layer sandbox registry store image transport rootfs engine golang dockerfile execute cache
//! cli: blocking disk error literal oci progress secret layer sandbox registry store image transport rootfs engine golang dockerfile execute container config pipeline cache context
//! ```

pub mod blocking;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod container;
pub mod context;
pub mod disk;
pub mod dockerfile;
pub mod engine;
pub mod error;
pub mod execute;
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
