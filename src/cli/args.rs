//! The command line as typed. What it means is for the commands to say.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use super::commands;
use super::environment::Environment;
use super::output::ProgressMode;
use crate::error::Result;
use crate::oci::PlatformSet;

/// From Go source to an OCI image: no Docker, no daemon, no root.
#[derive(Debug, Parser)]
#[command(name = "gondola", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// The folder that keeps images and caches, in the place of $GONDOLA_HOME
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
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
    /// Show errors and warnings only
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Allow plain http, or https with a certificate that cannot be checked, for this registry
    #[arg(long, global = true, value_name = "HOST[:PORT]", help_heading = "Registries")]
    pub insecure_registry: Vec<String>,
    /// Pull images whose names begin with FROM from TO; repeatable
    #[arg(long, global = true, value_name = "FROM=TO", help_heading = "Registries")]
    pub mirror: Vec<String>,
    /// How many transfers run at once
    #[arg(long, global = true, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Registries")]
    pub jobs: u16,
}

impl GlobalArgs {
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
    /// Platforms such as linux/amd64,linux/arm64, or "all"
    #[arg(long, value_name = "LIST")]
    pub platform: Option<PlatformSet>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build images from Go packages or Dockerfiles
    #[command(alias = "publish")]
    Build(Box<commands::build::BuildArgs>),
    /// Run an image, or a Go package that is built first
    Run(Box<commands::run::RunArgs>),
    /// List containers
    Ps(commands::ps::PsArgs),
    /// Show what a container's program wrote
    Logs(commands::logs::LogsArgs),
    /// End containers
    Stop(commands::stop::StopArgs),
    /// Start containers again
    Restart(commands::restart::RestartArgs),
    /// Run a further program in a container that runs
    Exec(commands::exec::ExecArgs),
    /// Remove containers
    Rm(commands::rm::RmArgs),
    /// Show what containers take of processors and memory
    Stats(commands::stats::StatsArgs),
    /// Keep a container that runs in the background
    #[command(hide = true, alias = "keep")]
    Shim(commands::shim::ShimArgs),
    /// Build a Dockerfile as kaniko's executor does, by its flags
    #[command(args_override_self = true)]
    Kaniko(Box<super::kaniko::KanikoArgs>),
    /// Push images of the local store to their registries
    Push(commands::push::PushArgs),
    /// Pull images into the local store
    Pull(commands::pull::PullArgs),
    /// Copy an image from anywhere to anywhere
    #[command(alias = "cp")]
    Copy(commands::copy::CopyArgs),
    /// Give an image of the local store another name
    Tag(commands::tag::TagArgs),
    /// List the images of the local store
    #[command(alias = "ls")]
    Images(commands::images::ImagesArgs),
    /// Remove names from the local store
    Rmi(commands::rmi::RmiArgs),
    /// Show an image: configuration, layers, who made them, files
    Inspect(commands::inspect::InspectArgs),
    /// Store credentials for a registry
    Login(commands::login::LoginArgs),
    /// Remove stored credentials for a registry
    Logout(commands::logout::LogoutArgs),
    /// Look at and clean the local store
    Cache(commands::cache::CacheArgs),
    /// Show which sandboxes work on this machine, and what to do about the others
    Doctor(commands::doctor::DoctorArgs),
    /// Write a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
    /// Show the version
    Version(commands::version::VersionArgs),
}

impl Command {
    /// The verb, as it is named in errors.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Build(_) => "build",
            Self::Run(_) => "run",
            Self::Ps(_) => "ps",
            Self::Logs(_) => "logs",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Exec(_) => "exec",
            Self::Rm(_) => "rm",
            Self::Stats(_) => "stats",
            Self::Shim(_) => "shim",
            Self::Kaniko(_) => "kaniko",
            Self::Push(_) => "push",
            Self::Pull(_) => "pull",
            Self::Copy(_) => "copy",
            Self::Tag(_) => "tag",
            Self::Images(_) => "images",
            Self::Rmi(_) => "rmi",
            Self::Inspect(_) => "inspect",
            Self::Login(_) => "login",
            Self::Logout(_) => "logout",
            Self::Cache(_) => "cache",
            Self::Doctor(_) => "doctor",
            Self::Completions(_) => "completions",
            Self::Version(_) => "version",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_of_all_commands_fit_together() {
        super::Cli::command().debug_assert();
    }
}
