//! `gondola copy`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::args::PlatformArgs;
use crate::cli::session::{Session, check_stdout, check_streams, print_lines};
use crate::error::Result;
use crate::layer::Encoding;
use crate::oci::PlatformSet;
use crate::transport::{self, Compress, Location};

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
    /// Compress layers: gzip[:1-9], zstd[:1-19] or none. Without it, plain layers of a docker-archive: go to
    /// a registry as gzip, and nothing else changes
    #[arg(long, value_name = "HOW")]
    compression: Option<Encoding>,
}

impl Runs for CopyArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: CopyArgs) -> Result<()> {
    check_streams(&args.destinations)?;
    check_stdout()?;
    let context = session.transport()?;
    let platforms = args.platform.platform.unwrap_or(PlatformSet::All);
    let source = args.source.in_folder(&session.environment.folder);
    let mut images = transport::read_all(&source, &platforms, &context).await?;
    let threads = (&context, session.environment.cores);
    if let Some(encoding) = args.compression {
        transport::compress(&mut images, (encoding, Compress::All), threads).await?;
    }
    let is_of_docker = matches!(source, Location::DockerArchive { .. });
    let mut to_stdout = false;
    for destination in args.destinations {
        let destination = destination.in_folder(&session.environment.folder);
        to_stdout |= destination.is_stream();
        if is_of_docker
            && args.compression.is_none()
            && matches!(destination, Location::Registry(_))
        {
            // Its manifest is made here, and nobody knows the digest.
            let usual = (Encoding::default(), Compress::Plain);
            transport::compress(&mut images, usual, threads).await?;
        }
        transport::write(&destination, &images, &context).await?;
    }
    if to_stdout {
        return Ok(());
    }
    print_lines(images.iter().map(|named| named.artifact.digest()))
}
