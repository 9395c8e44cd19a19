//! Arguments that several commands have.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::environment::Environment;
use super::output::ProgressMode;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::PlatformSet;

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Folder for images and caches, instead of $GONDOLA_HOME
    #[arg(long, global = true, display_order = 900, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,
    /// How progress is shown on stderr
    #[arg(
        long,
        global = true,
        value_name = "HOW",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub progress: ProgressMode,
    /// Show only errors and warnings
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Allow plain http, or https with an unknown certificate, for this registry; repeatable
    #[arg(long, global = true, value_name = "HOST[:PORT]", help_heading = "Registries")]
    pub insecure_registry: Vec<String>,
    /// Pull images whose names begin with FROM from TO instead; repeatable
    #[arg(long, global = true, value_name = "FROM=TO", help_heading = "Registries")]
    pub mirror: Vec<String>,
    /// Open no connection; say all that is missing, and how to fetch it
    #[arg(long, global = true, help_heading = "Registries")]
    pub offline: bool,
    /// Number of transfers at once
    #[arg(long, global = true, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Registries")]
    pub jobs: u16,
}

impl GlobalArgs {
    /// Refuses flags of which one says the opposite of another.
    pub(super) fn check(&self) -> Result<()> {
        if !self.quiet || matches!(self.progress, ProgressMode::Auto | ProgressMode::Quiet) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "use --quiet with --progress")
            .because("one shows nothing of what the other asks for")
            .hint("leave one of the two out"))
    }

    /// Where the store is.
    pub(super) fn store_folder(&self, environment: &Environment) -> Result<PathBuf> {
        match &self.store {
            Some(folder) => Ok(environment.resolve(folder)),
            None => environment.store_folder(),
        }
    }
}

/// Which platforms of a multi-platform image are meant.
#[derive(Clone, Debug, Args)]
pub struct PlatformArgs {
    /// Platforms, such as linux/amd64,linux/arm64, or "all"
    #[arg(long, value_name = "LIST")]
    pub platform: Option<PlatformSet>,
}
