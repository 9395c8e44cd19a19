//! Names in a layout or archive: of the entries in its `index.json`, and of its blobs.

use super::RefName;
use crate::error::{Error, ErrorKind, Result};
use crate::image::TaggedArtifact;
use crate::oci::{Descriptor, Digest, Reference, annotation};

/// The name in full, as containerd writes and reads it.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag, or whatever else a writer calls an entry.
pub(super) const REF_NAME: &str = annotation::ANNOTATION_REF_NAME;

/// Which image of a layout or archive is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selector<'a> {
    /// The only one.
    Only,
    /// The one that its layout calls so.
    Tag(&'a RefName),
    /// The one with this name in full.
    Name(&'a Reference),
}

impl Selector<'_> {
    /// Whether an entry is wanted.
    fn is(self, entry: &Descriptor) -> bool {
        match self {
            Self::Only => true,
            Self::Name(name) => name_of(entry).as_ref() == Some(name),
            Self::Tag(tag) => {
                let tag = tag.as_str();
                let annotated = |key: &str| entry.annotations.get(key).is_some_and(|v| v == tag);
                annotated(REF_NAME)
                    || annotated(IMAGE_NAME)
                    || entry.digest.as_str() == tag.trim_start_matches('@')
            }
        }
    }

    /// The wanted ones of `entries`, each digest once.
    pub(super) fn among(self, entries: &[Descriptor]) -> Vec<&Descriptor> {
        let found = distinct(entries, |entry| self.is(entry));
        match self {
            // `hello` may stand for `docker.io/library/hello:latest`.
            Self::Tag(tag) if found.is_empty() => match tag.as_str().parse::<Reference>() {
                Ok(name) => distinct(entries, |entry| Selector::Name(&name).is(entry)),
                Err(_) => found,
            },
            _ => found,
        }
    }
}

fn distinct(entries: &[Descriptor], wanted: impl Fn(&Descriptor) -> bool) -> Vec<&Descriptor> {
    let mut found: Vec<&Descriptor> = Vec::new();
    for entry in entries.iter().filter(|entry| wanted(entry)) {
        if !found.iter().any(|other| other.digest == entry.digest) {
            found.push(entry);
        }
    }
    found
}

/// The name in full of an entry, where it has one. A bare tag is none.
pub(super) fn name_of(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(IMAGE_NAME);
    let tag = entry.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    full.or(tag)?.parse().ok()
}

/// How an entry is called in messages.
pub(super) fn display(entry: &Descriptor) -> &str {
    let name = [IMAGE_NAME, REF_NAME].iter().find_map(|key| entry.annotations.get(*key));
    name.map_or(entry.digest.as_str(), String::as_str)
}

/// The entries for an artifact: one per name, or a nameless one.
///
/// A tag given with the place stands instead of the artifact's own tags.
pub(super) fn named_entries(
    named: &TaggedArtifact,
    tag: Option<&RefName>,
) -> Result<Vec<Descriptor>> {
    let bare = named.artifact.descriptor().clone();
    if let Some(tag) = tag {
        return Ok(vec![tagged(&bare, named, tag)]);
    }
    if named.references.is_empty() {
        return Ok(vec![bare]);
    }
    let mut entries = Vec::new();
    for name in &named.references {
        let mut entry = bare.clone();
        if name.digest().is_some_and(|digest| *digest != bare.digest) {
            return Err(Error::new(ErrorKind::Usage, format!("give the name {name}"))
                .because(format!("the image's digest is {}", bare.digest)));
        }
        let full = name.without_digest().unwrap_or_else(|| name.clone());
        entry.annotations.insert(IMAGE_NAME.to_owned(), full.to_string());
        if let Some(tag) = name.tag() {
            entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn tagged(bare: &Descriptor, named: &TaggedArtifact, tag: &RefName) -> Descriptor {
    let mut entry = bare.clone();
    let text = tag.as_str();
    let full = if text.contains(['/', ':']) {
        text.parse::<Reference>().ok()
    } else {
        let repository = named.references.first().map(Reference::repository);
        repository.and_then(|repository| repository.at_tag(text).ok())
    };
    if let Some(full) = full {
        entry.annotations.insert(IMAGE_NAME.to_owned(), full.to_string());
    }
    entry.annotations.insert(REF_NAME.to_owned(), text.to_owned());
    entry
}

/// The path of a blob inside a layout.
pub(super) fn blob_name(descriptor: &Descriptor) -> String {
    format!("blobs/{}/{}", descriptor.digest.algorithm(), descriptor.digest.hex())
}

/// The digest that a member's name claims: `blobs/sha256/<hex>`.
pub(super) fn claimed_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
