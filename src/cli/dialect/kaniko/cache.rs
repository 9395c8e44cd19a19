//! Kaniko's flags about the cache of steps.

use std::time::Duration;

use super::{KanikoArgs, usage};
use crate::dockerfile::convert::{CacheRepository, StepKind};
use crate::error::{Error, ErrorKind, Result};
use crate::literal;
use crate::oci::Reference;

/// How long kaniko uses results where nothing is said: two weeks.
const USUAL_AGE: Duration = Duration::from_hours(336);

/// The repository for results of steps: the one that is named, else `cache` below the first
/// destination that is pushed to.
pub(super) fn translate(
    args: &KanikoArgs,
    destinations: &[Reference],
    push: bool,
) -> Result<Option<CacheRepository>> {
    let longest_age = longest_age(args)?;
    if args.cache != Some(true) {
        return Ok(None);
    }
    let named = args.cache_repo.as_deref().filter(|name| !name.is_empty());
    let inferred =
        || Some(format!("{}/cache", destinations.first().filter(|_| push)?.repository()));
    let Some(name) = named.map(str::to_owned).or_else(inferred) else { return Ok(None) };
    if name.starts_with("oci:") {
        return Err(Error::new(ErrorKind::Unsupported, format!("use --cache-repo {name}"))
            .because("results are shared through a registry")
            .hint("a folder that keeps them between builds is --store FOLDER"));
    }
    let off = [(StepKind::Run, args.cache_run_layers), (StepKind::Copy, args.cache_copy_layers)];
    Ok(Some(CacheRepository {
        push: args.no_push_cache != Some(true),
        longest_age: Some(longest_age),
        without: off
            .into_iter()
            .filter(|(_, wanted)| *wanted == Some(false))
            .map(|(kind, _)| kind)
            .collect(),
        ..CacheRepository::new(name.parse()?)
    }))
}

/// How long results are used, also those that this machine keeps.
pub(super) fn longest_age(args: &KanikoArgs) -> Result<Duration> {
    let text = args.cache_ttl.as_deref().filter(|text| !text.is_empty());
    let Some(text) = text else { return Ok(USUAL_AGE) };
    literal::duration(text)
        .map_err(|why| usage(format!("use --cache-ttl {}", text.escape_debug()), why))
}
