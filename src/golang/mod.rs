//! Go programs, made by this machine's own `go` or by that of a golang image.
//!
//! ```text
//! request ─► toolchains ─► plan ─► go_build, once per platform and set of flags ─► programs
//!               (lock)       └─ build_record: what an earlier build read and gave (freshness)
//! ```
//! A [`Toolchain`] is found here or taken out of an image ([`Images`]); [`Builder`] asks it which
//! packages are meant and has it compile them. Where it comes from an image, modules are fetched
//! apart: only then it has the network and the user's credentials.
//! The environment is an allow-list and the paths are trimmed, so equal sources give equal
//! programs, for every user and in every folder.

mod assets;
mod attempt;
mod build_record;
mod buildinfo;
mod command;
mod compile;
mod documents;
mod environment;
mod fetch;
mod flags;
mod freshness;
pub mod go_build;
mod gocache;
mod group;
mod image;
mod launch;
mod lock;
mod materials;
mod memory;
mod missing;
mod modfile;
mod name;
mod packages;
pub mod plan;
mod ports;
mod presence;
mod programs;
pub mod request;
mod requirement;
mod scope;
mod session;
mod toolchain;
mod toolchains;
mod vcs;
mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Result;
use crate::progress::Reporter;
use crate::sandbox::Launcher;
use crate::transport::Context;

pub use assets::Asset;
pub use buildinfo::{BuildInfo, Dependency, Module, build_id};
pub use compile::{Binary, Built};
pub use environment::OFFLINE;
pub use flags::{BuildFlags, ModuleMode};
pub use freshness::{Check, Record, Recorded, StartedAt, Trace};
pub use image::{Images, Need, Unpacked, take_out};
pub use materials::Reasons;
pub use missing::missing_modules;
pub use modfile::{FolderLine, folder_lines, replacing_folders};
pub use name::{image_name, program_name};
pub use packages::Package;
pub use presence::{has_program, has_sources};
pub use programs::Program;
pub use requirement::{Modules, Requirement};
pub use toolchain::Toolchain;
pub use toolchains::{Toolchains, display_name};
pub use vcs::{Checkout, checkout};
pub use version::Version;

/// What every build of Go packages has at its disposal.
#[derive(Clone)]
pub struct Tools {
    /// The store, the registry client, and the reader of progress.
    pub transport: Context,
    /// The environment variables that builds may look at.
    pub variables: BTreeMap<String, String>,
    /// The folder that keeps programs between runs.
    pub programs: PathBuf,
    /// What starts sandboxes.
    pub launcher: Launcher,
    /// How many things can usefully run at once.
    pub cores: usize,
}

impl Tools {
    /// Where this machine's Go keeps modules.
    pub fn modules_folder(&self) -> Result<Option<PathBuf>> {
        Ok(environment::modules_folder(&environment::allowed(&self.variables)?))
    }

    /// What runs `go build` with these flags.
    pub fn builder(&self, toolchain: &Toolchain, flags: &BuildFlags) -> Builder {
        let (out_dir, reporter) = (self.programs.clone(), self.transport.reporter.clone());
        Builder { toolchain: toolchain.clone(), flags: flags.clone(), out_dir, reporter }
    }
}

/// A toolchain with everything that a build with it needs to know.
#[derive(Clone)]
pub struct Builder {
    /// The `go` that is run.
    pub toolchain: Toolchain,
    /// What is asked of it.
    pub flags: BuildFlags,
    /// A folder for programs, kept between runs so that an unchanged one is not linked again.
    /// Any number of processes may use it at once.
    pub out_dir: PathBuf,
    /// Receives the progress of compilations and downloads.
    pub reporter: Reporter,
}

impl Builder {
    /// A variable as the go command sees it; one that is set to nothing is not there.
    fn variable(&self, key: &str) -> Option<&str> {
        let own = self.flags.env.get(key).map(String::as_str);
        own.or_else(|| self.toolchain.variable(key)).filter(|value| !value.is_empty())
    }
}
