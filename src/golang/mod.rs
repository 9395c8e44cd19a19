//! Go programs, made by the host's own `go`.
//!
//! [`Toolchain`] finds it, [`Builder`] asks it which packages are meant and has it compile them.
//! The environment is an allow-list and the paths are trimmed, so equal sources give equal
//! programs whoever builds them and wherever.

mod assets;
mod buildinfo;
mod command;
mod compile;
mod environment;
mod flags;
mod inputs;
mod name;
mod packages;
mod programs;
mod toolchain;
mod vcs;

use std::path::PathBuf;

use crate::progress::Reporter;

pub use assets::Asset;
pub use buildinfo::{BuildInfo, Dependency, Module, build_id};
pub use compile::{Binary, Built};
pub use flags::{BuildFlags, ModMode};
pub use inputs::{Check, Inputs, Moment, Trace};
pub use name::{image_name, program_name};
pub use packages::Package;
pub use programs::{Program, programs_size, prune_programs};
pub use toolchain::Toolchain;
pub use vcs::{Checkout, checkout};

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
    /// Who hears of compilations and downloads.
    pub reporter: Reporter,
}

impl Builder {
    /// A variable as the go command sees it; one that is set to nothing is not there.
    fn variable(&self, key: &str) -> Option<&str> {
        let own = self.flags.env.get(key).map(String::as_str);
        own.or_else(|| self.toolchain.variable(key)).filter(|value| !value.is_empty())
    }
}
