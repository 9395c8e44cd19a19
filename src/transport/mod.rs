//! Places that hold images, and one way to read from and write to all of them.
//!
//! ```text
//!   registry ─┐                                              ┌─► registry: blobs, manifests, tags
//!   layout ───┼─ documents ─► assemble ─► select ─► Artifact ┼─► layout: blobs, then index.json
//!   archive ──┤   (checked)     (whole)   (platforms)        ├─► archive ─► docker: podman:
//!   store ────┘                                              └─► store: blobs, then names
//! ```
//!
//! Reading fetches documents alone: layers stay where they are until somebody needs their bytes.
//! Writing changes what others see in its last step, and a failure before leaves nothing.
//!
//! Bytes are rewritten on the way only where that is asked for, by [`compress()`]: an image has the same
//! digest everywhere. So an image with Docker's media types keeps them in a layout, where older readers do
//! not find it by its name.

mod archive;
mod assemble;
mod blob_progress;
mod compress;
mod docker_item;
mod entries;
mod evict_corrupt;
mod export;
mod fetch_blobs;
mod files;
mod layout;
mod load;
mod location;
mod offline;
mod push;
mod read;
mod registry;
mod select;
mod store;
mod watch;
mod write;

pub(crate) use blob_progress::BlobProgress;
pub use compress::{Compress, compress};
pub use fetch_blobs::fetch_blobs;
pub use location::{ContainerEngine, Location, RefName};
pub use offline::{Missing, check_missing, is_here};
pub use read::{read, read_all};
pub use registry::known_tag;
pub use store::{find_in_store, read_from_store};
pub use write::{check, check_compression, push, write};

use futures_util::stream::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::oci::Platform;
use crate::progress::Reporter;
use crate::registry::Client;
use crate::store::Store;

/// What transports work with.
#[derive(Clone)]
pub struct Context {
    /// The local store.
    pub store: Store,
    /// The client for registries.
    pub client: Client,
    /// Who is told of progress.
    pub reporter: Reporter,
    /// The platform of this machine's containers.
    pub host: Platform,
    /// How many transfers run at once; at least 1.
    pub jobs: usize,
}

impl Context {
    fn jobs(&self) -> usize {
        self.jobs.max(1)
    }
}

/// Told of the bytes that were written; its error ends the writing.
type Progress<'a> = &'a dyn Fn(u64) -> Result<()>;

/// Runs several pieces of work at once, and answers their results in the order of the work.
///
/// The first failure ends all of them.
pub(crate) async fn concurrently<T, W>(
    work: impl IntoIterator<Item = W>,
    at_once: usize,
) -> Result<Vec<T>>
where
    W: Future<Output = Result<T>>,
{
    let numbered = work
        .into_iter()
        .enumerate()
        .map(|(number, work)| async move { Ok::<_, Error>((number, work.await?)) });
    // Gathered first: a stream over borrowed work could not be sent to another thread.
    let numbered: Vec<_> = numbered.collect();
    let mut done: Vec<(usize, T)> =
        futures_util::stream::iter(numbered).buffer_unordered(at_once).try_collect().await?;
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
