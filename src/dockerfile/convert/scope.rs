//! Which scope of caches a build uses, where the command line does not say it.

use std::path::Path;

use super::job::{ContextSource, Job};
use crate::blocking::blocking;
use crate::dockerfile::source::Source;
use crate::error::{Cannot as _, Result};
use crate::store::CacheScope;

/// The scope of a build.
pub(super) async fn of(job: &Job, file: &Source) -> Result<CacheScope> {
    if !job.shares_caches {
        return Ok(CacheScope::of_this_build());
    }
    if let Some(scope) = &job.scope {
        return Ok(scope.clone());
    }
    match &job.recipe.context {
        ContextSource::Folder(folder) => Ok(CacheScope::of_folder(folder)),
        ContextSource::Git(git) => {
            Ok(CacheScope::of_repository(&git.display_name(), git.reference.as_deref()))
        }
        // What other contexts hold is no part of either.
        _ if !job.recipe.contexts.is_empty() => Ok(CacheScope::of_this_build()),
        ContextSource::Archive { file: archive, .. } => {
            let (archive, text) = (archive.clone(), file.text().to_owned());
            blocking(move || {
                let content = hash(&archive)?;
                Ok(CacheScope::of_content([&content[..], text.as_bytes()]))
            })
            .await
        }
        ContextSource::Empty => Ok(CacheScope::of_content([&b""[..], file.text().as_bytes()])),
        ContextSource::Address(_) => Ok(CacheScope::of_this_build()),
    }
}

fn hash(archive: &Path) -> Result<[u8; 32]> {
    let action = || "read the build context";
    let file = fs_err::File::open(archive).cannot(action)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).cannot(action)?;
    Ok(hasher.finalize().into())
}
