//! `gondola pull`.

use clap::Args;

use crate::cli::args::PlatformArgs;
use crate::cli::session::{Session, print_lines};
use crate::error::Result;
use crate::image::TaggedArtifact;
use crate::oci::{PlatformSet, Reference};
use crate::rootfs::Unpacker;
use crate::sandbox::{Launcher, ProbeOptions, probe};
use crate::transport::{self, Context, Location};

/// Arguments of `gondola pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Images to bring into the local store
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    /// Unpack them on the way, for the best sandbox that works here: what runs them then starts at once
    #[arg(long)]
    unpack: bool,
    #[command(flatten)]
    platform: PlatformArgs,
}

pub(in crate::cli) async fn run(session: &Session, args: PullArgs) -> Result<()> {
    let context = session.transport()?;
    let host = PlatformSet::Listed(vec![context.host.clone()]);
    let platforms = args.platform.platform.unwrap_or(host);
    let unpacker = if args.unpack { Some(unpacker(session, &context)?) } else { None };
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

fn unpacker(session: &Session, context: &Context) -> Result<Unpacker> {
    let launcher = Launcher::new(session.environment.get("PATH").unwrap_or_default());
    let folder = context.store.root();
    let findings = probe(&ProbeOptions { launcher: &launcher, folder })?;
    let rung = findings.choose(None, None)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Unpacker { context: context.clone(), rung, cores })
}
