//! `gondola rmi`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::cli::session::{Session, print_lines};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::oci::{Descriptor, Reference};
use crate::store::Store;
use crate::transport::find_in_store;

/// A word of fewer digits is no digest.
const FEWEST_DIGITS: usize = 4;

/// Arguments of `gondola rmi`.
#[derive(Debug, Args)]
pub struct RmiArgs {
    /// Names to remove, or the first digits of a digest for all its names; `gondola cache prune` then frees what no name
    /// leads to
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
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
        let named = args.names.iter().map(|text| names_of(&store, &held, text));
        let all: Vec<Vec<Reference>> = named.collect::<Result<_>>()?;
        let mut seen = BTreeSet::new();
        all.into_iter().flatten().filter(|name| seen.insert(name.to_string())).collect()
    };
    // There may be no store at all.
    if !names.is_empty() {
        store.remove_names(&names)?;
    }
    print_lines(&names)
}

/// The names that a word stands for: one, or all those of a digest, as `gondola images -q` prints it.
fn names_of(store: &Store, held: &[(Reference, Descriptor)], text: &str) -> Result<Vec<Reference>> {
    let name: Result<Reference> = text.parse();
    if let Ok(name) = &name
        && held.iter().any(|(held, _)| held == name)
    {
        return Ok(vec![name.clone()]);
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() >= FEWEST_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let found = find_in_store(store, text).cannot(|| format!("remove {text}"))?;
        let of = held.iter().filter(|(_, descriptor)| descriptor.digest == found.digest);
        return Ok(of.map(|(name, _)| name.clone()).collect());
    }
    Err(Error::new(ErrorKind::NotFound, format!("remove {}", name?))
        .because("the local store has no image of that name")
        .hint("gondola images"))
}
