//! `gondola push`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::session::{Session, print_lines};
use crate::error::Result;
use crate::image::TaggedArtifact;
use crate::oci::{PlatformSet, Reference};
use crate::transport::{self, Location};

/// Arguments of `gondola push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Images of the local store to push; each goes to the registry in its name
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

impl Runs for PushArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: PushArgs) -> Result<()> {
    let context = session.transport()?;
    for image in args.images {
        let place = Location::Store(Some(image.clone()));
        let artifact = transport::read(&place, &PlatformSet::All, &context).await?;
        let pinned = image.with_digest(artifact.digest().clone());
        let named = TaggedArtifact { artifact, references: vec![image] };
        transport::push(&[named], &context).await?;
        print_lines([pinned])?;
    }
    Ok(())
}
