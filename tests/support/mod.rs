//! What the integration tests stand on: real registries and engines, a scripted registry, folders
//! and a clean environment for the program, and readers of what the program wrote.
//!
//! A test file begins with `#![cfg(test)]` and `mod support;`. Whatever this machine may lack comes
//! as a [`Need`]; [`need!`] takes it, or ends the test and prints by the test's name what was missing.
//! With `GONDOLA_TEST_REQUIRE=1` that is a failure.
//!
//! ```text
//! #[test]
//! fn skopeo_reads_what_was_pushed() {
//!     let registry = need!(Registry::plain());
//!     …
//! }
//! ```

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses its own part")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read their environment")]
#![allow(clippy::missing_panics_doc, missing_docs, reason = "a test that panics has failed")]

mod bases;
mod buildah;
mod busybox;
pub mod client;
mod engine;
mod fault_server;
mod files;
mod golang;
mod http;
mod image;
mod kernels;
mod need;
mod programs;
mod ranged;
mod recipe;
mod registry;
mod runc;
mod sandbox;
mod service;
mod slow;
mod state;
mod terminal;
mod tls;
mod tokens;

pub use bases::{Base, Bases};
pub use buildah::Buildah;
pub use busybox::Busybox;
pub use engine::{Containerd, Docker, GONDOLA, LOCKED_DOWN, Podman, libraries, tree_with_gondola};
pub use fault_server::{Answer, Auth, Change, Fault, FaultServer, Location, Mount, Quirks, Rule};
pub use fault_server::{Scopes, Seen, TokenAuth};
pub use files::Lines;
pub use golang::{GolangImage, archive};
pub use http::{HttpServer, Reply};
pub use image::{BaseImage, Entry, ReadImage, Stored};
pub use kernels::{Namespaces, without_landlock};
pub(crate) use need::need;
pub use need::{
    Missing, Need, all_asked_for, describe, only, program, required, root, run, succeed,
};
pub use programs::{install, install_script};
pub use ranged::Ranged;
pub use recipe::make_recipe;
pub use registry::{Logged, Registry, RegistryAuth, RegistryOptions};
pub use runc::Runc;
pub use sandbox::{Run, Sandbox, go};
pub use service::Service;
pub use slow::Slow;
pub use state::state;
pub use terminal::Terminal;
pub use tls::Certificates;
pub use tokens::{PASSWORD, TokenServer, USER, basic};
