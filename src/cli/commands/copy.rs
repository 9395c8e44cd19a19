//! `gondola copy`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::args::PlatformArgs;
use crate::cli::session::{Session, check_streams, print_lines};
use crate::error::Result;
use crate::oci::PlatformSet;
use crate::transport::{self, Location};

/// Arguments of `gondola copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Image to copy: a name in a registry, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE or store:NAME
    source: Location,
    /// Place to copy it to: any of the same, docker:[NAME] or podman:[NAME]; several get the same image
    #[arg(required = true, value_name = "DESTINATION")]
    destinations: Vec<Location>,
    #[command(flatten)]
    platform: PlatformArgs,
}

impl Runs for CopyArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: CopyArgs) -> Result<()> {
    check_streams(&args.destinations)?;
    let context = session.transport()?;
    let platforms = args.platform.platform.unwrap_or(PlatformSet::All);
    let source = args.source.in_folder(&session.environment.folder);
    let images = transport::read_all(&source, &platforms, &context).await?;
    let mut to_stdout = false;
    for destination in args.destinations {
        let destination = destination.in_folder(&session.environment.folder);
        to_stdout |= destination.is_stream();
        transport::write(&destination, &images, &context).await?;
    }
    if to_stdout {
        return Ok(());
    }
    print_lines(images.iter().map(|named| named.artifact.digest()))
}
