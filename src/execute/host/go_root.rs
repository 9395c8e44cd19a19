//! The Go of a step, taken out of its image.

use std::io::Read;
use std::path::PathBuf;

use super::line::{NotHere, Refused};
use crate::blocking::blocking_or;
use crate::engine::{Snapshot, StepOutput};
use crate::error::Result;
use crate::execute::Executor;
use crate::golang::take_out as take_go_out;
use crate::image::Image;
use crate::layer::{ArchiveReader, Limits, TreePath, look_inside};
use crate::registry::BlobSource as _;
use crate::sandbox::Isolation;

/// Takes Go out of the files of a step: out of the base where no step changed it, for the next step and
/// the next build have it then, too.
pub(super) async fn take_out(
    executor: &Executor,
    files: &Snapshot,
    root: &TreePath,
) -> Result<PathBuf, NotHere> {
    let unpacker = executor.unpacker(Isolation::Toolchain);
    let image: Image = match &files.base {
        Some(base) if !is_changed(executor, files, root).await? => Image::clone(base),
        _ => files.image(&executor.tools.transport).await?,
    };
    let (found, here) = take_go_out(&unpacker, &image, "the image").await?;
    if found.trim_matches('/').as_bytes() != root.as_bytes() {
        let why = format!("the Go on PATH is at /{root}, and that of the image at {found}");
        return Err(Refused::new(why, "have one Go in the image, at /usr/local/go").into());
    }
    Ok(here)
}

/// Whether a step has something in a folder, or hides something of it.
async fn is_changed(executor: &Executor, files: &Snapshot, root: &TreePath) -> Result<bool> {
    for step in &files.steps {
        if has(executor, step, root).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn has(executor: &Executor, step: &StepOutput, root: &TreePath) -> Result<bool> {
    if let Some(tree) = &step.tree {
        return Ok(tree.iter().any(|(path, _)| meets(&path, root)));
    }
    let layer = step.stored_layer(&executor.tools.transport.store).await?;
    let root = root.clone();
    blocking_or(move || {
        let read = |archive: &mut (dyn Read + Send)| {
            let mut archive = ArchiveReader::new(archive, Limits::default());
            while let Some(entry) = archive.next_entry()? {
                if entry.tree_path()?.is_none_or(|path| meets(&path, &root)) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Ok(look_inside(layer.blob.open()?, Limits::default().bytes, read)?.found)
    })
    .await
}

/// Whether an entry of a layer means something for a folder: it is in it, or a whiteout on the way to it.
fn meets(path: &TreePath, root: &TreePath) -> bool {
    path == root
        || path.is_below(root)
        || path.as_whiteout().is_some_and(|_| {
            path.parent().is_none_or(|folder| folder == *root || root.is_below(&folder))
        })
}
