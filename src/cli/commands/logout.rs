//! `gondola logout`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::session::Session;
use crate::error::Result;
use crate::oci::docker_hub;
use crate::registry::login;

/// Arguments of `gondola logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry to log out of
    #[arg(default_value = docker_hub::NAME)]
    registry: String,
}

impl Runs for LogoutArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: LogoutArgs) -> Result<()> {
    let registry = login::registry_name(&args.registry)?;
    let erased = login::erase(&session.environment.variables, &registry).await?;
    session.reporter.note(if erased {
        format!("removed the credentials for {registry}")
    } else {
        format!("there were no credentials for {registry}")
    });
    Ok(())
}
