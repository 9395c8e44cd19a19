//! The files of a base that programs need to start: loaders, interpreters, libraries.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::BuildContext;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, BlobLocation, Image};
use crate::layer::{
    EntryKind, ListedEntry, ListedKind, Tree, TreePath, Whiteout, decompress, entries,
};
use crate::oci::Compression;
use crate::transport;

/// The kind of the store's records that hold these, by the digest of the base's manifest.
const RECORDS: &str = "base-files";

/// As many symbolic links as Linux follows.
const MOST_LINKS: usize = 40;

/// What of a base helps programs to start, by paths without a leading slash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BaseFiles {
    /// Programs and libraries.
    files: BTreeSet<String>,
    /// Symbolic links, and what they lead to.
    links: BTreeMap<String, String>,
}

impl BaseFiles {
    /// Those of an image. Its layers are read once, and what was found is kept in the store.
    pub(super) async fn of_image(context: &BuildContext, image: &Image) -> Result<Self> {
        let (store, key) = (&context.transport.store, image.manifest.digest().to_string());
        if let Some(known) = store.get_record(RECORDS, &key) {
            return Ok(known);
        }
        let mut artifact = Artifact::Image(image.clone());
        transport::fetch_blobs(&mut artifact, &context.transport).await?;
        let layers: Vec<Blob> =
            artifact.images().first().map(|image| image.layers.clone()).unwrap_or_default();
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Self::default();
            layers.iter().try_for_each(|layer| all.apply(layer))?;
            Ok::<_, Error>(all)
        });
        let all = crate::blocking::joined(reading.await)?;
        // A store that cannot keep it costs the next build time and nothing else.
        let _ = store.put_record(RECORDS, &key, &all);
        Ok(all)
    }

    /// Those of a tree.
    pub(super) fn of_tree(tree: &Tree) -> Self {
        let mut all = Self::default();
        for (path, entry) in tree {
            let path = path.to_str_lossy().into_owned();
            match &entry.kind {
                EntryKind::Symlink(target) => {
                    let target = String::from_utf8_lossy(target).into_owned();
                    all.links.insert(path, target);
                }
                EntryKind::Directory => {}
                _ => {
                    all.files.insert(path);
                }
            }
        }
        all
    }

    /// Puts others on top.
    pub(super) fn add(&mut self, others: &Self) {
        self.files.extend(others.files.iter().cloned());
        self.links.extend(others.links.iter().map(|(path, target)| (path.clone(), target.clone())));
    }

    /// Whether there is a file at an absolute path.
    pub(super) fn have(&self, path: &str) -> bool {
        self.resolve(path).is_some_and(|path| self.files.contains(&path))
    }

    /// Whether there is a library of that name, wherever the loader would look for it.
    pub(super) fn have_library(&self, name: &str) -> bool {
        if name.contains('/') {
            return self.have(name);
        }
        let is_it = |path: &String| path.rsplit('/').next() == Some(name);
        self.files.iter().any(is_it) || self.links.keys().any(is_it)
    }

    /// Follows the links of a path.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let (mut at, mut links) = (Vec::<String>::new(), 0);
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            let Some(target) = self.links.get(&at.join("/")) else { continue };
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            if target.starts_with('/') {
                at.clear();
            } else {
                at.pop();
            }
            left.extend(target.rsplit('/').map(str::to_owned));
        }
        Some(at.join("/"))
    }

    /// Reads one layer, which goes over those before it.
    fn apply(&mut self, layer: &Blob) -> Result<()> {
        let action = || format!("read the layer {}", layer.descriptor.digest);
        let compression =
            layer.descriptor.media_type.layer_compression().unwrap_or(Compression::Gzip);
        match &layer.source {
            BlobLocation::File(path) => {
                let file = crate::disk::open(path).cannot(action)?;
                self.read(decompress(compression, file)?)
            }
            BlobLocation::Memory(bytes) => self.read(decompress(compression, bytes.as_ref())?),
            _ => Err(Error::new(ErrorKind::NotFound, action()).because("it is not in the store")),
        }
    }

    fn read(&mut self, archive: impl std::io::Read) -> Result<()> {
        for entry in entries(archive) {
            self.take(&entry?);
        }
        Ok(())
    }

    fn take(&mut self, entry: &ListedEntry) {
        match entry.whiteout() {
            Some(Whiteout::Removed(path)) => return self.remove(&path, true),
            Some(Whiteout::Opaque(Some(folder))) => return self.remove(&folder, false),
            Some(Whiteout::Opaque(None)) => return *self = Self::default(),
            None => {}
        }
        // What no image has a place for is no program.
        let Ok(Some(path)) = entry.tree_path() else { return };
        let path = path.to_str_lossy().into_owned();
        match &entry.kind {
            ListedKind::Directory => {
                self.links.remove(&path);
            }
            ListedKind::Symlink(target) => {
                self.files.remove(&path);
                self.links.insert(path, String::from_utf8_lossy(target).into_owned());
            }
            _ if helps_to_start(&path) => {
                self.links.remove(&path);
                self.files.insert(path);
            }
            _ => {}
        }
    }

    /// Removes what is below a folder, and the folder's own name as well where `itself` says so.
    fn remove(&mut self, path: &TreePath, itself: bool) {
        let path = path.to_str_lossy().into_owned();
        let stays = |other: &String| {
            let is_below = other.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
            !(is_below || itself && *other == path)
        };
        self.files.retain(stays);
        self.links.retain(|other, _| stays(other));
    }
}

/// Whether a file is what programs are started by: a library, a loader, or in a folder of programs.
fn helps_to_start(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    name.contains(".so")
        || name.starts_with("ld-")
        || matches!(folder.rsplit('/').next(), Some("bin" | "sbin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: ListedKind) -> ListedEntry {
        ListedEntry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            sparse: false,
            xattrs: BTreeMap::new(),
        }
    }

    fn of(entries: &[(&str, Option<&str>)]) -> BaseFiles {
        let mut all = BaseFiles::default();
        for (path, target) in entries {
            let link = target.map(|target| ListedKind::Symlink(target.as_bytes().to_vec()));
            all.take(&entry(path, link.unwrap_or(ListedKind::File)));
        }
        all
    }

    #[test]
    fn a_loader_is_found_through_links_as_the_kernel_finds_it() {
        // As Debian has it.
        let files = of(&[
            ("lib64", Some("usr/lib64")),
            ("bin", Some("usr/bin")),
            (
                "usr/lib64/ld-linux-x86-64.so.2",
                Some("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
            ),
            ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", None),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", None),
            ("usr/bin/dash", None),
            ("usr/bin/sh", Some("dash")),
            ("loop", Some("loop")),
            ("usr/share/doc/x", None),
        ]);
        for (path, expect) in [
            ("/lib64/ld-linux-x86-64.so.2", true),
            ("/bin/sh", true),
            ("/usr/bin/../bin/./sh", true),
            ("/../bin/sh", true),
            ("/bin/bash", false),
            ("/lib/ld-musl-x86_64.so.1", false),
            ("/loop", false),
            ("/loop/sh", false),
            ("/bin", false),
        ] {
            assert_eq!(files.have(path), expect, "{path}");
        }
        assert!(files.have_library("libc.so.6") && !files.have_library("libm.so.6"));
        assert!(files.have_library("/usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!files.files.contains("usr/share/doc/x"));
    }

    #[test]
    fn upper_layers_take_away_and_replace() {
        let lower =
            of(&[("bin/sh", None), ("bin/ash", None), ("sbin/x", None), ("lib", Some("l"))]);
        for (path, gone) in [
            ("bin/.wh.sh", &["bin/sh"][..]),
            ("bin/.wh..wh..opq", &["bin/sh", "bin/ash"]),
            (".wh.bin", &["bin/sh", "bin/ash"]),
            (".wh.bi", &[]),
            (".wh..wh..opq", &["bin/sh", "bin/ash", "sbin/x"]),
        ] {
            let mut files = lower.clone();
            files.take(&entry(path, ListedKind::File));
            let left: Vec<_> = lower.files.difference(&files.files).map(String::as_str).collect();
            let mut gone = gone.to_vec();
            gone.sort_unstable();
            assert_eq!(left, gone, "{path}");
        }
        let mut files = lower;
        files.take(&entry("bin/sh", ListedKind::Symlink(b"nothing".to_vec())));
        files.take(&entry("lib", ListedKind::Directory));
        assert!(!files.have("/bin/sh") && files.links.len() == 1, "{files:?}");
    }
}
