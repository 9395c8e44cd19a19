//! `gondola pull`.

use clap::Args;

use crate::cli::args::PlatformArgs;
use crate::cli::session::{Session, print_lines};
use crate::error::Result;
use crate::image::Named;
use crate::oci::{PlatformSet, Reference};
use crate::transport::{self, Place};

/// Arguments of `gondola pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Images to bring into the local store
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    #[command(flatten)]
    platform: PlatformArgs,
}

pub(in crate::cli) async fn run(session: &Session, args: PullArgs) -> Result<()> {
    let context = session.transport()?;
    let host = PlatformSet::Listed(vec![context.host.clone()]);
    let platforms = args.platform.platform.unwrap_or(host);
    for image in args.images {
        let artifact =
            transport::read(&Place::Registry(image.clone()), &platforms, &context).await?;
        let pinned = image.with_digest(artifact.digest().clone());
        let named = Named { artifact, references: vec![image] };
        transport::write(&Place::Store(None), &[named], &context).await?;
        print_lines([pinned])?;
    }
    Ok(())
}
