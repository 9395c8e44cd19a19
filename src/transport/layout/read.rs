//! Reading layouts that anybody may have made.

use std::fmt::Write;

use bytes::Bytes;

use super::{LayoutFile, VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, BlobLocation, TaggedArtifact};
use crate::oci::{
    Descriptor, Document, Index, LARGEST_DOCUMENT, MediaType, PlatformSet, Reference,
};
use crate::transport::assemble::{Contents, assemble};
use crate::transport::entries::{REF_NAME, Selector, blob_name, display, name_of};
use crate::transport::files::Files;

/// `index.json` may be larger than a manifest: it has every name there is.
const LARGEST_INDEX: u64 = 64 << 20;
const LARGEST_LAYOUT_FILE: u64 = 64 << 10;
/// How many names a message lists.
const NAMES_SHOWN: usize = 12;

/// A layout whose `oci-layout` and `index.json` were read.
pub(in crate::transport) struct Layout<'a> {
    files: &'a dyn Files,
    index: Index,
    /// An index that is in no file, made of nameless entries.
    made: Option<Document<Index>>,
}

impl<'a> Layout<'a> {
    /// Opens the layout among `files`; `None` where there is no `oci-layout`.
    pub(in crate::transport) fn open(files: &'a dyn Files) -> Result<Option<Self>> {
        let Some(bytes) = files.read("oci-layout", LARGEST_LAYOUT_FILE)? else { return Ok(None) };
        let invalid = || Error::new(ErrorKind::Invalid, format!("read {}", files.display()));
        let LayoutFile { version } = serde_json::from_slice(&bytes).map_err(|error| {
            invalid().because(format!("its oci-layout file is broken: {error}"))
        })?;
        if version != VERSION {
            return Err(invalid().because(format!(
                "its layout has version \"{}\", expected {VERSION}",
                version.escape_debug()
            )));
        }
        let index = files.read("index.json", LARGEST_INDEX)?;
        let index = index.ok_or_else(|| invalid().because("it has no index.json"))?;
        let index: Index = serde_json::from_slice(&index)
            .map_err(|error| invalid().because(format!("its index.json is broken: {error}")))?;
        Ok(Some(Self { files, index, made: None }))
    }

    /// Reads the image that is wanted, but for what is known to be for other platforms.
    pub(in crate::transport) fn read(
        &mut self,
        wanted: Selector<'_>,
        platforms: &PlatformSet,
    ) -> Result<Artifact> {
        let root = self.find(wanted)?;
        assemble(self, &root, platforms)
    }

    /// The entry that is wanted.
    fn find(&mut self, wanted: Selector<'_>) -> Result<Descriptor> {
        match wanted.among(&self.index.manifests)[..] {
            [only] => Ok(only.clone()),
            [] => Err(self.not_found(wanted)),
            _ if matches!(wanted, Selector::Only) && self.is_nameless_index() => {
                Ok(self.make_index())
            }
            _ => Err(self.ambiguous()),
        }
    }

    /// Every image with its names.
    fn all(&mut self) -> Vec<(Descriptor, Vec<Reference>)> {
        if self.index.manifests.len() > 1 && self.is_nameless_index() {
            return vec![(self.make_index(), Vec::new())];
        }
        let distinct = Selector::Only.among(&self.index.manifests).into_iter();
        let with_names = distinct.map(|root| {
            let same = self.index.manifests.iter().filter(|entry| entry.digest == root.digest);
            (root.clone(), same.filter_map(name_of).collect())
        });
        with_names.collect()
    }

    /// Reads every image with its names.
    pub(in crate::transport) fn read_all(
        &mut self,
        platforms: &PlatformSet,
    ) -> Result<Vec<TaggedArtifact>> {
        let all = self.all();
        let read = |(root, references)| {
            Ok(TaggedArtifact { artifact: assemble(self, &root, platforms)?, references })
        };
        all.into_iter().map(read).collect()
    }

    /// What `index.json` says.
    pub(in crate::transport) fn into_index(self) -> Index {
        self.index
    }

    /// Some writers put the images of one index into `index.json` itself.
    fn is_nameless_index(&self) -> bool {
        let entries = &self.index.manifests;
        entries.iter().all(|entry| {
            entry.platform.is_some()
                && !entry.annotations.contains_key(REF_NAME)
                && name_of(entry).is_none()
        })
    }

    fn make_index(&mut self) -> Descriptor {
        let entries = self.index.manifests.clone();
        let made = Document::new(MediaType::OCI_INDEX, Index::new(entries));
        let descriptor = made.descriptor().clone();
        self.made = Some(made);
        descriptor
    }

    fn not_found(&self, wanted: Selector<'_>) -> Error {
        let found = self.names();
        let place = self.files.display();
        let error = match wanted {
            Selector::Only => {
                return Error::new(ErrorKind::NotFound, format!("read {place}"))
                    .because("its index.json lists nothing");
            }
            Selector::Tag(tag) => Error::new(ErrorKind::NotFound, format!("find {tag} in {place}")),
            Selector::Name(name) => {
                Error::new(ErrorKind::NotFound, format!("find {name} in {place}"))
            }
        };
        error.because(format!("it holds {found}"))
    }

    fn ambiguous(&self) -> Error {
        Error::new(ErrorKind::Usage, format!("read {}", self.files.display()))
            .because(format!("it holds several images: {}", self.names()))
            .hint("write one of the names after the path and a colon")
    }

    fn names(&self) -> String {
        let entries = &self.index.manifests;
        if entries.is_empty() {
            return "nothing".to_owned();
        }
        let shown: Vec<&str> = entries.iter().map(display).take(NAMES_SHOWN).collect();
        let mut text = shown.join(", ").escape_debug().to_string();
        if entries.len() > NAMES_SHOWN {
            // Writing to a string cannot fail.
            let _ = write!(text, " and {} more", entries.len() - NAMES_SHOWN);
        }
        text
    }

    fn missing(&self, descriptor: &Descriptor) -> Error {
        let (place, what) = (self.files.display(), &descriptor.digest);
        let error = Error::new(ErrorKind::NotFound, format!("read {what} in {place}"));
        let error = error.because(format!("{} is missing", blob_name(descriptor)));
        match &descriptor.platform {
            Some(platform) if !platform.is_unknown() => error.hint(format!(
                "the image for {platform} was left out; choose what is there with --platform"
            )),
            _ => error,
        }
    }
}

impl Contents for Layout<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        if let Some(made) = self.made.as_ref().filter(|made| *made.digest() == descriptor.digest) {
            return Ok(made.bytes().clone());
        }
        let bytes = self.files.read(&blob_name(descriptor), LARGEST_DOCUMENT)?;
        bytes.ok_or_else(|| self.missing(descriptor))
    }

    fn source(&self, descriptor: &Descriptor) -> Result<BlobLocation> {
        let Some((source, size)) = self.files.locate(&blob_name(descriptor))? else {
            return Err(self.missing(descriptor));
        };
        if size == descriptor.size {
            return Ok(source);
        }
        let action = format!("read {} in {}", descriptor.digest, self.files.display());
        Err(Error::new(ErrorKind::Corrupt, action)
            .because(format!("found {size} bytes, expected {}", descriptor.size)))
    }
}
