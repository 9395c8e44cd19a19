//! `gondola tag`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::session::Session;
use crate::error::Result;
use crate::oci::Reference;
use crate::transport::find_in_store;

/// Arguments of `gondola tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Image of the local store: a name, or the first digits of its digest
    image: String,
    /// Names to give to it
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Reference>,
}

impl Runs for TagArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(async { run(session, &self) })
    }
}

fn run(session: &Session, args: &TagArgs) -> Result<()> {
    let store = session.store()?;
    let descriptor = find_in_store(&store, &args.image)?;
    let named: Vec<_> = args.names.iter().map(|name| (name.clone(), descriptor.clone())).collect();
    store.set_names(&named)
}
