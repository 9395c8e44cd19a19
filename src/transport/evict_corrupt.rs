//! What to do when a blob of the store turns out to be corrupt.

use std::error::Error as StdError;
use std::io;

use super::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::image::TaggedArtifact;

/// Where a failure comes from a corrupt blob of the store, takes the blob away: the next run makes
/// or fetches it anew.
pub(super) fn evict_corrupt(
    outcome: Result<()>,
    images: &[TaggedArtifact],
    context: &Context,
) -> Result<()> {
    let Err(error) = outcome else { return Ok(()) };
    if !found_wrong_content(&error) {
        return Err(error);
    }
    let mut removed = Vec::new();
    for blob in images.iter().flat_map(|named| named.artifact.blobs()) {
        let digest = &blob.descriptor.digest;
        if context.store.discard_if_corrupt(digest)? {
            removed.push(digest.to_string());
        }
    }
    if removed.is_empty() {
        return Err(error);
    }
    Err(Error::new(ErrorKind::Corrupt, format!("use the store's copy of {}", removed.join(", ")))
        .caused_by(error)
        .hint("it was removed; run the same again, and it is made or fetched anew"))
}

/// Whether a reader somewhere below found other bytes than it should.
fn found_wrong_content(error: &Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        let invalid = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        };
        if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Corrupt)
            || error.downcast_ref::<io::Error>().is_some_and(invalid)
        {
            return true;
        }
        next = error.source();
    }
    false
}
