//! Which layers become of what steps added: one for each, or one for all; with or without some paths.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use super::job::LayerChoice;
use crate::blocking::blocking;
use crate::context::{Archive, open_archive, read_archive};
use crate::engine::{LayerRecord, Packer, Snapshot, Solver, StepOutput};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{BlobLocation, Layer};
use crate::layer::{Below, Content, Merge, TreePath, Whiteout, decompress, detect, entries};
use crate::oci::History;
use crate::registry::BlobSource as _;
use crate::transport::concurrently;

/// The files of a stage with the layers that were asked for; `history` says then which of its entries
/// have one.
pub(super) async fn chosen(
    solver: &Solver,
    snapshot: &Snapshot,
    (choice, history): (&LayerChoice, &mut [History]),
) -> Result<Snapshot> {
    if *choice == LayerChoice::default() || snapshot.steps.is_empty() {
        return Ok(snapshot.clone());
    }
    let options = solver.options();
    let (transport, encoding) = (options.transport.clone(), options.encoding);
    let packer = Arc::new(Packer { transport, encoding, threads: options.cores });
    let below = if snapshot.base.is_some() { Below::Layers } else { Below::Nothing };
    let size = if choice.single { snapshot.steps.len() } else { 1 };
    let store = &packer.transport.store;
    let layers = snapshot.steps.iter().map(|step| step.stored_layer(store));
    let layers: Vec<Layer> = concurrently(layers, packer.transport.jobs).await?;
    let mut steps = Vec::new();
    // For each step, whether it has a layer.
    let mut kept = Vec::new();
    for (group, layers) in snapshot.steps.chunks(size).zip(layers.chunks(size)) {
        let (packer, layers, without) = (packer.clone(), layers.to_vec(), choice.without.clone());
        let outcome = blocking(move || rewrite(&packer, &layers, below, &without)).await?;
        let last = &group[group.len() - 1];
        let step = match outcome {
            Outcome::Same => Some(last.clone()),
            Outcome::Nothing => None,
            Outcome::Other(layer) => {
                Some(Arc::new(StepOutput::of_layer(layer, last.created.clone())))
            }
        };
        kept.extend(std::iter::repeat_n(false, group.len() - 1));
        kept.push(step.is_some());
        steps.extend(step);
    }
    let entries = history.iter_mut().rev().filter(|entry| !entry.empty_layer);
    for (entry, has_layer) in entries.zip(kept.into_iter().rev()) {
        entry.empty_layer = !has_layer;
    }
    let key = steps.last().map_or_else(String::new, |step| step.key.clone());
    Ok(Snapshot { key, base: snapshot.base.clone(), steps })
}

/// What becomes of the layers of some steps.
enum Outcome {
    /// The only one stays as it is.
    Same,
    /// No layer.
    Nothing,
    /// Another one.
    Other(LayerRecord),
}

fn rewrite(
    packer: &Packer,
    layers: &[Layer],
    below: Below,
    without: &[TreePath],
) -> Result<Outcome> {
    // Most layers have nothing that is left out: their contents are not looked at.
    if let [only] = layers
        && !has_any(only, without)?
    {
        return Ok(Outcome::Same);
    }
    let mut merge = Merge::over(below);
    // Large files wait in folders until they are packed.
    let mut folders = Vec::new();
    for layer in layers {
        let folder = packer.transport.store.temporary_folder()?;
        let unpacked = read_archive(open(layer)?, &folder)?;
        merge.add(&unpacked.tree, &unpacked.implied)?;
        folders.push(folder);
    }
    merge.leave_out(without);
    let tree = merge.into_tree()?;
    if tree.is_empty() {
        return Ok(Outcome::Nothing);
    }
    packer.pack("single layer", &tree).map(Outcome::Other)
}

/// Whether a layer has any of these paths, or says something of them.
fn has_any(layer: &Layer, without: &[TreePath]) -> Result<bool> {
    let mut blob = layer.blob.open()?;
    let action = || format!("read layer {}", layer.blob.descriptor.digest);
    let mut start = [0; 4];
    let known = blob.read(&mut start).cannot(action)?;
    let whole = Cursor::new(start).take(known as u64).chain(blob);
    for entry in entries(decompress(detect(&start[..known]), whole)?) {
        let entry = entry?;
        let path = match entry.whiteout() {
            Some(Whiteout::Removed(path)) => Some(path),
            Some(Whiteout::Opaque(folder)) => folder,
            None => entry.tree_path()?,
        };
        if path.is_some_and(|path| without.iter().any(|it| path == *it || path.is_below(it))) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn open(layer: &Layer) -> Result<Archive> {
    let descriptor = &layer.blob.descriptor;
    let action = || format!("read layer {}", descriptor.digest);
    let BlobLocation::File(path) = &layer.blob.source else {
        return Err(Error::new(ErrorKind::NotFound, action()).because("it is not in the store"));
    };
    let content = Content::file(path, descriptor.size);
    let archive = open_archive(&content, &action(), "")?;
    archive.ok_or_else(|| Error::new(ErrorKind::Corrupt, action()).because("it is no archive"))
}
