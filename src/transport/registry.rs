//! Registries as a source: documents are fetched, layers stay where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::assemble::{
    Contents, DEEPEST, assemble, document_type, is_image, may_be_wanted, verify,
};
use super::select::select;
use super::{Context, concurrently};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::{Artifact, BlobLocation};
use crate::oci::{
    Descriptor, Digest, Index, LARGEST_DOCUMENT, Manifest, MediaType, PlatformSet, Reference,
    Repository,
};
use crate::registry::FoundManifest;

/// The kind of the store's records that say what tags stood for.
const TAGS: &str = "tag";

/// Reads the image called `reference` from its registry.
pub(super) async fn read(
    reference: &Reference,
    platforms: &PlatformSet,
    context: &Context,
) -> Result<Artifact> {
    let source = Source { repository: reference.repository().clone(), context };
    let (root, bytes) = source.root(reference).await?;
    let mut gathered =
        Gathered { documents: BTreeMap::new(), repository: reference.repository().clone() };
    let mut level = vec![(root.clone(), bytes)];
    // What lies deeper than this is refused when the artifact is put together.
    for _ in 0..=DEEPEST {
        let fetched = level.into_iter().map(|(entry, bytes)| source.fetch(entry, bytes, platforms));
        let fetched = concurrently(fetched, context.jobs()).await?;
        level = Vec::new();
        for Fetched { documents, below } in fetched {
            gathered.documents.extend(documents);
            let new = below.into_iter().filter(|e| !gathered.documents.contains_key(&e.digest));
            level.extend(new.map(|entry| (entry, None)));
        }
        if level.is_empty() {
            break;
        }
    }
    let whole = assemble(&gathered, &root, platforms).cannot(|| format!("read {reference}"))?;
    select(whole, platforms, &reference.to_string())
}

/// What a tag stood for when a registry was last asked, or what the image of that name in the store is.
/// For commands that may not ask.
pub fn known_tag(reference: &Reference, context: &Context) -> Result<Option<Descriptor>> {
    match context.store.get_record(TAGS, &reference.to_string()) {
        Some(known) => Ok(Some(known)),
        None => context.store.resolve(reference),
    }
}

/// A repository that is read from. Documents that were fetched once are kept in the store.
struct Source<'a> {
    repository: Repository,
    context: &'a Context,
}

/// A manifest with its config, or an index with its entries.
struct Fetched {
    documents: Vec<(Digest, Bytes)>,
    below: Vec<Descriptor>,
}

impl Source<'_> {
    /// What the reference stands for, with its bytes if they are at hand. A pinned one that is in the
    /// store needs no network.
    async fn root(&self, reference: &Reference) -> Result<(Descriptor, Option<Bytes>)> {
        if let Some(digest) = reference.digest()
            && let Some(known) = self.known(digest)?
        {
            return Ok((known, None));
        }
        let client = &self.context.client;
        if client.is_offline()
            && let Some(known) = known_tag(reference, self.context)?
            && self.known(&known.digest)?.is_some()
        {
            return Ok((known, None));
        }
        let found = client.find(reference).await?;
        let pulled = match found {
            FoundManifest::Whole(pulled) => pulled,
            // Of what the registry says the digest alone can be checked: size and type are those of
            // the bytes.
            FoundManifest::Named(named) => match self.known(&named.digest)? {
                Some(known) => {
                    self.note_tag(reference, &known);
                    return Ok((known, None));
                }
                None => client.manifest(&self.repository.at_digest(named.digest)).await?,
            },
        };
        self.keep(&pulled.bytes);
        self.note_tag(reference, &pulled.descriptor);
        Ok((pulled.descriptor, Some(pulled.bytes)))
    }

    /// Notes what a tag stands for, for commands without a network.
    fn note_tag(&self, reference: &Reference, descriptor: &Descriptor) {
        if reference.digest().is_none() {
            let _ = self.context.store.put_record(TAGS, &reference.to_string(), descriptor);
        }
    }

    /// Describes a manifest or index that is in the store.
    fn known(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        let store = &self.context.store;
        let Some(size) = store.has(digest)? else { return Ok(None) };
        let unknown = Descriptor::new(MediaType::new(""), digest.clone(), size);
        let known = store.read(&unknown, LARGEST_DOCUMENT).and_then(|bytes| {
            let media_type = document_type(&unknown, &bytes)?;
            Ok(Descriptor { media_type, ..unknown })
        });
        // What the store cannot give is fetched.
        Ok(known.ok())
    }

    async fn fetch(
        &self,
        entry: Descriptor,
        bytes: Option<Bytes>,
        platforms: &PlatformSet,
    ) -> Result<Fetched> {
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => self.manifest(&entry).await?,
        };
        let mut fetched = Fetched { documents: Vec::new(), below: Vec::new() };
        let media_type = document_type(&entry, &bytes)?;
        if media_type.is_index() {
            let index: Index = parse(&entry, &bytes)?;
            let wanted = |entry: &Descriptor| may_be_wanted(entry, platforms);
            fetched.below = index.manifests.into_iter().filter(wanted).collect();
        } else {
            let manifest: Manifest = parse(&entry, &bytes)?;
            if is_image(&entry, &manifest) {
                let config = self.config(&manifest.config).await?;
                fetched.documents.push((manifest.config.digest, config));
            }
        }
        fetched.documents.push((entry.digest, bytes));
        Ok(fetched)
    }

    async fn manifest(&self, entry: &Descriptor) -> Result<Bytes> {
        if let Some(bytes) = self.kept(entry) {
            return Ok(bytes);
        }
        let pinned = self.repository.at_digest(entry.digest.clone());
        let bytes = self.context.client.manifest(&pinned).await?.bytes;
        verify(entry, &bytes).cannot(|| format!("pull {pinned}"))?;
        self.keep(&bytes);
        Ok(bytes)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let action = || format!("pull config {} of {}", descriptor.digest, self.repository);
        if descriptor.size > LARGEST_DOCUMENT {
            return Err(Error::new(ErrorKind::Invalid, action()).because(format!(
                "it has {} bytes, at most {LARGEST_DOCUMENT} are taken",
                descriptor.size
            )));
        }
        if let Some(bytes) = self.kept(descriptor) {
            return Ok(bytes);
        }
        let client = &self.context.client;
        let bytes = client.pull_blob(&self.repository, descriptor, Vec::new(), Arc::new(|_| {}));
        let bytes = bytes.await?;
        verify(descriptor, &bytes).cannot(action)?;
        self.keep(&bytes);
        Ok(bytes.into())
    }

    fn kept(&self, descriptor: &Descriptor) -> Option<Bytes> {
        let store = &self.context.store;
        let here = store.holds(descriptor).unwrap_or(false);
        // What the store cannot give is fetched.
        here.then(|| store.read(descriptor, LARGEST_DOCUMENT).ok())?
    }

    /// Keeping a document saves fetching it again; a store that cannot be written to does not stop
    /// the reading.
    fn keep(&self, bytes: &[u8]) {
        let _ = self.context.store.put(bytes);
    }
}

fn parse<T: serde::de::DeserializeOwned>(entry: &Descriptor, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorKind::Invalid, format!("read {}", entry.digest)).caused_by(error)
    })
}

/// Documents of a repository that are here.
struct Gathered {
    documents: BTreeMap<Digest, Bytes>,
    repository: Repository,
}

impl Contents for Gathered {
    fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        self.documents.get(&descriptor.digest).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("read {}", descriptor.digest))
                .because("indexes are nested too deeply")
        })
    }

    fn source(&self, _: &Descriptor) -> Result<BlobLocation> {
        Ok(BlobLocation::Remote(self.repository.clone()))
    }
}
