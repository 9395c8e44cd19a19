//! `gondola pull`.

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::{Need, of_root};
use crate::sandbox::IsolationRequest;
use clap::Args;
use std::process::ExitCode;

use crate::cli::args::PlatformArgs;
use crate::cli::session::{Session, print_lines};
use crate::error::Result;
use crate::image::TaggedArtifact;
use crate::oci::{PlatformSet, Reference};
use crate::rootfs::Unpacker;
use crate::sandbox::Isolation;
use crate::transport::{self, Location};

/// Arguments of `gondola pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Images to pull
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    /// Also unpack the images, so that the first run starts at once
    #[arg(long)]
    unpack: bool,
    #[command(flatten)]
    platform: PlatformArgs,
}

impl Runs for PullArgs {
    fn need(&self, _: &GlobalArgs, _: &Environment) -> Result<Need> {
        Ok(if self.unpack {
            Need::Isolation(IsolationRequest::default(), of_root())
        } else {
            Need::Nothing
        })
    }

    fn run(self: Box<Self>, session: &Session, isolation: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self, isolation))
    }
}

/// Pulls images, and unpacks them for an isolation where one was chosen.
async fn run(session: &Session, args: PullArgs, isolation: Option<Isolation>) -> Result<()> {
    let context = session.transport()?;
    let host = PlatformSet::Listed(vec![context.host.clone()]);
    let platforms = args.platform.platform.unwrap_or(host);
    let cores = session.environment.cores;
    let unpacker =
        isolation.map(|isolation| Unpacker { context: context.clone(), isolation, cores });
    for image in args.images {
        let artifact =
            transport::read(&Location::Registry(image.clone()), &platforms, &context).await?;
        if let Some(unpacker) = &unpacker {
            for image in artifact.images() {
                unpacker.unpack_and_store(image).await?;
            }
        }
        let pinned = image.with_digest(artifact.digest().clone());
        let named = TaggedArtifact { artifact, references: vec![image] };
        transport::write(&Location::Store(None), &[named], &context).await?;
        print_lines([pinned])?;
    }
    Ok(())
}
