//! `gondola rmi`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::process::ExitCode;

use crate::cli::session::{Session, print_lines};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Reference;

/// Arguments of `gondola rmi`.
#[derive(Debug, Args)]
pub struct RmiArgs {
    /// Names to remove; `gondola cache prune` then frees what no name leads to
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<Reference>,
    /// Remove all names
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
}

impl Runs for RmiArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(async { run(session, &self) })
    }
}

fn run(session: &Session, args: &RmiArgs) -> Result<()> {
    let store = session.store()?;
    let held = store.names()?;
    let names: Vec<Reference> = if args.all {
        held.into_iter().map(|(name, _)| name).collect()
    } else {
        let known = |name: &Reference| held.iter().any(|(held, _)| held == name);
        if let Some(missing) = args.names.iter().find(|name| !known(name)) {
            return Err(Error::new(ErrorKind::NotFound, format!("remove {missing}"))
                .because("the local store has no image of that name")
                .hint("gondola images"));
        }
        args.names.clone()
    };
    store.remove_names(&names)?;
    print_lines(&names)
}
