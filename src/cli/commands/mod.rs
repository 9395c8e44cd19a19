//! The commands: what each is called, what it needs before it begins, and what it does.
//!
//! One file per command has its arguments, and says all of this; the enum here is the list of them.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "help texts put into brackets what may be left out"
)]

mod build;
mod cache;
mod completions;
mod copy;
mod doctor;
mod exec;
mod images;
mod inspect;
mod kaniko;
mod login;
mod logout;
mod logs;
mod ps;
mod pull;
mod push;
mod restart;
mod rm;
mod rmi;
mod run;
mod shim;
mod stats;
mod stop;
mod tag;
mod version;

use std::process::ExitCode;

use clap::{Arg, CommandFactory as _, Parser, Subcommand};

use super::args::GlobalArgs;
use super::dialect::gondola::BuildArgs;
use super::dialect::kaniko::KanikoArgs;
use super::dialect::run::RunArgs;
use super::environment::Environment;
use super::flags::typed::Noted;
use super::id_range::Need;
use super::output::ProgressMode;
use super::passing_store::WithoutStore;
use super::session::Session;
use crate::error::Result;
use crate::sandbox::Isolation;

/// From Go source to an OCI image: no Docker, no daemon, no root.
#[derive(Debug, Parser)]
#[command(name = "gondola", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// A command, with its arguments.
pub(super) trait Runs {
    /// What it needs of its isolation from its start.
    fn need(&self, _: &GlobalArgs, _: &Environment) -> Result<Need> {
        Ok(Need::Nothing)
    }

    /// What comes of a store that cannot be written to.
    fn without_store(&self) -> WithoutStore {
        WithoutStore::Fails
    }

    /// How progress is shown, where its own arguments say that.
    fn progress(&self, otherwise: ProgressMode) -> ProgressMode {
        otherwise
    }

    /// Does it; answers the exit code. `isolation` is the isolation that it needed.
    fn run(self: Box<Self>, session: &Session, isolation: Option<Isolation>) -> Result<ExitCode>;
}

/// Whether a command ends with the exit code of a program: one whose last words belong to it.
pub(super) fn ends_with_program(verb: &str) -> bool {
    let program = Cli::command();
    let command = program.find_subcommand(verb);
    command.is_some_and(|command| command.get_positionals().any(Arg::is_trailing_var_arg_set))
}

/// Makes the list of commands, and finds what one of them does.
macro_rules! commands {
    ($($(#[$attribute:meta])* $name:ident($args:ty),)*) => {
        /// The commands.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($(#[$attribute])* $name(Box<$args>),)*
        }

        impl Command {
            /// What it needs, and what it does.
            pub(super) fn into_runs(self) -> Box<dyn Runs> {
                match self {
                    $(Self::$name(args) => args,)*
                }
            }
        }
    };
}

commands! {
    /// Build images from Go packages or Dockerfiles
    #[command(alias = "publish")]
    Build(Noted<BuildArgs>),
    /// Run an image, or a Go package that is built first
    Run(Noted<RunArgs>),
    /// List containers
    Ps(ps::PsArgs),
    /// Show the output of a container
    Logs(logs::LogsArgs),
    /// Stop containers
    Stop(stop::StopArgs),
    /// Start containers again
    Restart(restart::RestartArgs),
    /// Run a command in a running container
    Exec(exec::ExecArgs),
    /// Remove containers
    Rm(rm::RmArgs),
    /// Show CPU and memory of containers
    Stats(stats::StatsArgs),
    /// Keep a container that runs in the background
    #[command(hide = true, alias = "keep")]
    Shim(shim::ShimArgs),
    /// Build a Dockerfile with kaniko's flags
    #[command(args_override_self = true)]
    Kaniko(Noted<KanikoArgs>),
    /// Push images of the local store to their registries
    Push(push::PushArgs),
    /// Pull images into the local store
    Pull(pull::PullArgs),
    /// Copy an image between registries, layouts, archives and engines
    Copy(copy::CopyArgs),
    /// Give an image of the local store another name
    Tag(tag::TagArgs),
    /// List the images of the local store
    #[command(alias = "ls")]
    Images(images::ImagesArgs),
    /// Remove names from the local store
    Rmi(rmi::RmiArgs),
    /// Show an image: configuration, layers, history and files
    Inspect(inspect::InspectArgs),
    /// Store credentials for a registry
    Login(login::LoginArgs),
    /// Remove stored credentials for a registry
    Logout(logout::LogoutArgs),
    /// Show and clean the local store
    Cache(cache::CacheArgs),
    /// Show which isolation works on this machine, and how to get the others
    Doctor(doctor::DoctorArgs),
    /// Write a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Show the version
    Version(version::VersionArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_all_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_that_takes_a_program_ends_with_its_code() {
        let program = Cli::command();
        let names = program.get_subcommands().map(clap::Command::get_name);
        let found: Vec<&str> = names.filter(|verb| ends_with_program(verb)).collect();
        assert_eq!(found, ["run", "exec"]);
        assert!(!ends_with_program("frobnicate"));
    }
}
