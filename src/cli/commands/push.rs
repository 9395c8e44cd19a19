//! `gondola push`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::session::{Session, check_stdout, print_lines};
use crate::error::Result;
use crate::image::TaggedArtifact;
use crate::layer::Encoding;
use crate::oci::{PlatformSet, Reference};
use crate::transport::{self, Compress, Location};

/// Arguments of `gondola push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Images of the local store to push; each goes to the registry in its name
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    /// Compress layers that are not compressed so: gzip[:1-9], zstd[:1-19] or none. The image gets another digest
    #[arg(long, value_name = "HOW")]
    compression: Option<Encoding>,
}

impl Runs for PushArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: PushArgs) -> Result<()> {
    check_stdout()?;
    let context = session.transport()?;
    for image in args.images {
        let place = Location::Store(Some(image.clone()));
        let artifact = transport::read(&place, &PlatformSet::All, &context).await?;
        let mut named = [TaggedArtifact { artifact, references: vec![image.clone()] }];
        if let Some(encoding) = args.compression {
            let threads = (&context, session.environment.cores);
            transport::compress(&mut named, (encoding, Compress::All), threads).await?;
        }
        transport::push(&named, &context).await?;
        let pinned = image.with_digest(named[0].artifact.digest().clone());
        print_lines([pinned])?;
    }
    Ok(())
}
