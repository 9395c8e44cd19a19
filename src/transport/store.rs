//! The local store as a place.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use bytes::Bytes;

use super::Context;
use super::assemble::{Contents, assemble};
use super::blob_progress::BlobProgress;
use super::fetch_blobs::fetch_blobs_of_all;
use super::select::select;
use super::watch::{Watch, blocking};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, TaggedArtifact};
use crate::oci::{Descriptor, LARGEST_DOCUMENT, PlatformSet, Reference};
use crate::progress::TaskKind;
use crate::registry::BlobSource;
use crate::store::Store;

/// The fewest digits of a digest that name an image.
const SHORTEST_DIGITS: usize = 4;
/// How much is read and written at once.
const PIECE: usize = 256 << 10;

impl Contents for Store {
    fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        self.read(descriptor, LARGEST_DOCUMENT)
    }

    fn source(&self, descriptor: &Descriptor) -> Result<BlobLocation> {
        if self.holds(descriptor)? {
            return Ok(BlobLocation::File(self.blob_path(&descriptor.digest)));
        }
        Err(Error::new(ErrorKind::NotFound, format!("read blob {}", descriptor.digest))
            .because(format!("it is not in the store {}", self.root().display()))
            .hint("pull or build the image again"))
    }
}

/// Finds an image of the store by a name, or by the first digits of its digest.
pub fn find_in_store(store: &Store, text: &str) -> Result<Descriptor> {
    let parsed = text.parse::<Reference>();
    if let Ok(reference) = &parsed
        && let Some(found) = store.resolve(reference)?
    {
        return Ok(found);
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() >= SHORTEST_DIGITS && digits.bytes().all(is_hex) {
        let mut found: Vec<Descriptor> = Vec::new();
        for (_, descriptor) in store.names()? {
            let is_new = found.iter().all(|other| other.digest != descriptor.digest);
            if is_new && descriptor.digest.hex().starts_with(digits) {
                found.push(descriptor);
            }
        }
        match &found[..] {
            [only] => return Ok(only.clone()),
            [] => {}
            several => {
                return Err(Error::new(ErrorKind::Usage, format!("find image {text}"))
                    .because(format!("{} images have digests that begin so", several.len()))
                    .hint("write more digits"));
            }
        }
    }
    Err(not_found(store, &parsed?))
}

fn not_found(store: &Store, reference: &Reference) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("find {reference}"))
        .because(format!("the store {} has no image of this name", store.root().display()));
    let wanted = reference.familiar();
    let names = store.names().unwrap_or_default();
    let names = names.into_iter().map(|(name, _)| name.familiar());
    let nearest = names.map(|name| (strsim::jaro_winkler(&name, &wanted), name));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, name)) if likeness > 0.85 => error.hint(format!("did you mean {name}?")),
        _ => error.hint("gondola images lists what there is"),
    }
}

/// Reads what the store holds under a descriptor.
pub fn read_from_store(store: &Store, descriptor: &Descriptor) -> Result<Artifact> {
    assemble(store, descriptor, &PlatformSet::All)
}

/// Reads the image called `name`.
pub(super) fn read(
    name: &Reference,
    platforms: &PlatformSet,
    context: &Context,
) -> Result<Artifact> {
    let store = &context.store;
    // A word may be the beginning of a digest: `6c3c62` is also the name `6c3c62:latest`.
    let familiar = name.familiar();
    let root = find_in_store(store, familiar.strip_suffix(":latest").unwrap_or(&familiar))?;
    let whole = assemble(store, &root, platforms)?;
    select(whole, platforms, &format!("store:{name}"))
}

/// Brings images into the store, and gives them their names when all of them are there.
pub(super) async fn write(images: &[TaggedArtifact], context: &Context) -> Result<()> {
    let mut images = images.to_vec();
    fetch_blobs_of_all(&mut images, context).await?;
    let context = context.clone();
    blocking(move |watch| {
        let store = &context.store;
        // Images share layers.
        let mut seen = BTreeSet::new();
        for named in &images {
            for blob in named.artifact.blobs() {
                if seen.insert(blob.descriptor.digest.clone()) {
                    put(&blob, &context, watch)?;
                }
            }
            for (_, bytes) in named.artifact.documents() {
                store.put(&bytes)?;
            }
        }
        let names: Vec<(Reference, Descriptor)> =
            images.iter().flat_map(named_descriptors).collect();
        watch.check()?;
        if names.is_empty() { Ok(()) } else { store.set_names(&names) }
    })
    .await
}

fn named_descriptors(named: &TaggedArtifact) -> impl Iterator<Item = (Reference, Descriptor)> {
    let descriptor = named.artifact.descriptor();
    // A tag with a digest names the tag as well: the digest is checked by the store.
    named.references.iter().flat_map(move |name| {
        let tag = name.digest().and_then(|_| name.without_digest());
        std::iter::once(name.clone()).chain(tag).map(|name| (name, descriptor.clone()))
    })
}

/// Copies a blob from a file outside of the store.
fn put(blob: &Blob, context: &Context, watch: &Watch) -> Result<()> {
    let (store, descriptor) = (&context.store, &blob.descriptor);
    if store.holds(descriptor)? {
        return Ok(());
    }
    let action = || format!("store blob {}", descriptor.digest);
    let transfer = BlobProgress::start(&context.reporter, TaskKind::Export, descriptor);
    let progress = transfer.on_bytes();
    let (mut blob, mut ingest) = (blob.open()?, store.ingest_unhashed()?);
    let mut buffer = vec![0; PIECE];
    loop {
        watch.check()?;
        // The last read checks the digest.
        let count = blob.read(&mut buffer).cannot(action)?;
        if count == 0 {
            break;
        }
        ingest.write_all(&buffer[..count]).cannot(action)?;
        progress(count as u64);
    }
    ingest.commit_as(&descriptor.digest, descriptor.size)?;
    transfer.done();
    Ok(())
}
