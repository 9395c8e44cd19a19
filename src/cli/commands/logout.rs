//! `gondola logout`.

use clap::Args;

use crate::cli::session::Session;
use crate::error::Result;
use crate::oci::docker_hub;
use crate::registry::login;

/// Arguments of `gondola logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry, Docker Hub where none is given
    #[arg(default_value = docker_hub::NAME)]
    registry: String,
}

pub(in crate::cli) async fn run(session: &Session, args: LogoutArgs) -> Result<()> {
    let registry = login::registry_name(&args.registry)?;
    let erased = login::erase(&session.environment.variables, &registry).await?;
    session.reporter.note(if erased {
        format!("removed the credentials for {registry}")
    } else {
        format!("there were no credentials for {registry}")
    });
    Ok(())
}
