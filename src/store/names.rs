//! Names of images: the descriptors in `index.json`.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::file_lock::Lock;
use super::{Store, StorePlace, absent_as_none};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Index, Reference, canonical_json};

/// The name in full, as containerd reads it.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The name in full, as everyone else reads it.
const REF_NAME: &str = oci_spec::image::ANNOTATION_REF_NAME;
/// A hundred thousand names fit.
const LARGEST_INDEX: u64 = 64 << 20;

impl Store {
    /// What the name stands for. Marks it as used.
    ///
    /// A reference with a digest finds any name of that digest in its repository; its tag does
    /// not matter. The descriptor's content may be missing: then [`Store::read`] says so.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let _lock = self.keep_collector_out()?;
        let found = self.names()?.into_iter().find(|(name, descriptor)| match reference.digest() {
            Some(digest) => {
                descriptor.digest == *digest && name.repository() == reference.repository()
            }
            None => name == reference,
        });
        if let Some((_, descriptor)) = &found {
            self.has(&descriptor.digest)?;
        }
        Ok(found.map(|(_, descriptor)| descriptor))
    }

    /// Every name, sorted.
    pub fn names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let entries = self.index()?.manifests.into_iter();
        let mut names: Vec<_> = entries.filter_map(|d| Some((name_of(&d)?, d))).collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        let names = names.into_iter().map(|(name, found)| (name, without_name(found)));
        let mut names: Vec<_> = names.collect();
        for (name, found) in self.below().map(Self::names).transpose()?.unwrap_or_default() {
            if let Err(at) = names.binary_search_by(|(own, _)| own.cmp(&name)) {
                names.insert(at, (name, found));
            }
        }
        Ok(names)
    }

    /// Gives names to content that is here; names that exist move. All of them or none.
    ///
    /// A reference with a digest must have the descriptor's, and names nothing but the digest:
    /// its tag does not move.
    pub fn set_names(&self, names: &[(Reference, Descriptor)]) -> Result<()> {
        let _lock = self.keep_collector_out()?;
        for (reference, descriptor) in names {
            self.check_target(reference, descriptor)?;
        }
        // The last one counts where a name is given twice.
        let given =
            names.iter().map(|(reference, descriptor)| (stored_name(reference), descriptor));
        let given: BTreeMap<Reference, &Descriptor> = given.collect();
        self.edit_index(|index| {
            let stays = |entry: &Descriptor| name_of(entry).is_none_or(|n| !given.contains_key(&n));
            index.manifests.retain(stays);
            let new = given.iter().map(|(name, descriptor)| with_name(descriptor, name));
            index.manifests.extend(new);
        })
    }

    /// Removes names, and answers which of them there were. The content stays until it is pruned.
    pub fn remove_names(&self, names: &[Reference]) -> Result<Vec<(Reference, Descriptor)>> {
        let names: Vec<Reference> = names.iter().map(stored_name).collect();
        let mut removed = Vec::new();
        self.edit_index(|index| {
            index.manifests.retain(|entry| match name_of(entry) {
                Some(name) if names.contains(&name) => {
                    removed.push((name, without_name(entry.clone())));
                    false
                }
                _ => true,
            });
        })?;
        Ok(removed)
    }

    fn check_target(&self, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        let Descriptor { digest, .. } = descriptor;
        if reference.digest().is_some_and(|wanted| wanted != digest) {
            return Err(Error::new(ErrorKind::Usage, format!("give the name {reference}"))
                .because(format!("the image's digest is {digest}")));
        }
        if self.holds(descriptor)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("give the name {reference} to {digest}"))
            .because(format!("the manifest is not in the store {}", self.display())))
    }

    /// Replaces `index.json` by an edited one, alone among all processes.
    fn edit_index(&self, edit: impl FnOnce(&mut Index)) -> Result<()> {
        self.held()?;
        let _lock = Lock::exclusive(&self.place(StorePlace::IndexLock))
            .map_err(|e| self.cannot_write(e))?;
        let before = self.index()?;
        let mut after = before.clone();
        edit(&mut after);
        // Equal names give an equal file, whoever gave them in whichever order.
        after.manifests.sort_by_cached_key(|entry| entry.annotations.get(REF_NAME).cloned());
        if after == before {
            return Ok(());
        }
        self.replace_durably(&self.place(StorePlace::Index), &canonical_json(&after))
    }

    /// Reads `index.json`.
    pub(super) fn index(&self) -> Result<Index> {
        let bytes = self.index_bytes().map_err(|error| {
            let action = format!("read the names in the store {}", self.display());
            Error::new(ErrorKind::Io, action).caused_by(error)
        })?;
        let Some(bytes) = bytes else {
            // A store that is not there, and cannot be made.
            if self.has_layout_file()? {
                return Err(self.corrupt_index("the file is missing"));
            }
            return Ok(Index::new(Vec::new()));
        };
        if bytes.len() as u64 > LARGEST_INDEX {
            return Err(self.corrupt_index(format!("it has more than {LARGEST_INDEX} bytes")));
        }
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|error| self.corrupt_index(error))?;
        match index.schema_version {
            2 => Ok(index),
            other => Err(self.corrupt_index(format!("schemaVersion is {other}, expected 2"))),
        }
    }

    fn index_bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let path = self.place(StorePlace::Index);
        let Some(file) = absent_as_none(fs_err::File::open(path))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(LARGEST_INDEX + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn corrupt_index(&self, why: impl std::fmt::Display) -> Error {
        let (root, index) = (self.display(), self.place(StorePlace::Index));
        Error::new(ErrorKind::Corrupt, format!("read the names in {}", index.display()))
            .because(why)
            .hint(format!(
                "put the file right, or forget all names with: rm -f {root}/index.json {root}/oci-layout"
            ))
    }
}

/// The name under which a reference is kept: pinned ones have no tag.
fn stored_name(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.repository().at_digest(digest.clone()),
        None => reference.clone(),
    }
}

/// The entry's name, where it has one that we can read.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let name = [IMAGE_NAME, REF_NAME].iter().find_map(|key| entry.annotations.get(*key));
    name.and_then(|name| name.parse().ok())
}

fn with_name(descriptor: &Descriptor, name: &Reference) -> Descriptor {
    let mut entry = descriptor.clone();
    for key in [IMAGE_NAME, REF_NAME] {
        entry.annotations.insert(key.to_owned(), name.to_string());
    }
    entry
}

fn without_name(mut entry: Descriptor) -> Descriptor {
    entry.annotations.retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
    entry
}
