//! The merged files of an image, listed and not unpacked.
//!
//! Layers are read to their ends for what is in them, once: that is remembered (see `kept_listing`). Nothing else is
//! written but the contents of files that somebody asks for. This needs no rights and no space, and takes longer
//! for each content: it is for files that no program is executed on. What is in a layer means the same as where it is
//! unpacked: see the module's root, "Layers".

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::hiding::{Name, whiteout};
use super::kept_listing::{self, Places};
use super::marks;
use super::unpack::{LIMITS, diff_ids};
use crate::blocking::blocking;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, Image};
use crate::layer::{
    ArchiveReader, Content, Entry, EntryKind, ListedEntry, ListedKind, Tree, TreePath, Whiteout,
    look_inside,
};
use crate::oci::Digest;
use crate::registry::BlobSource as _;
use crate::sandbox::owner::portable_capability;
use crate::store::ScratchFolder;
use crate::transport::{self, Context};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;
/// How much content is read and written at once.
const PIECE: usize = 256 << 10;

/// The files of an image. Contents are where the entries say once [`Self::fetch`] brought them there, for
/// as long as this lives.
pub struct Listing {
    layers: Vec<Blob>,
    tree: Arc<Tree>,
    root: Entry,
    scratch: ScratchFolder,
    fetched: Mutex<BTreeSet<PathBuf>>,
}

impl Listing {
    /// Lists an image; its layers are in the store afterwards.
    pub async fn of_image(image: &Image, context: &Context) -> Result<Self> {
        let diff_ids = diff_ids(image)?.to_vec();
        let mut artifact = Artifact::Image(image.clone());
        transport::fetch_blobs(&mut artifact, context).await?;
        let layers: Vec<Blob> =
            artifact.images().first().map(|image| image.layers.clone()).unwrap_or_default();
        let scratch = context.store.scratch_folder()?;
        let store = context.store.clone();
        blocking(move || {
            let fetched = Mutex::default();
            if let Some((tree, root)) = kept_listing::recall(&store, &diff_ids, scratch.path()) {
                return Ok(Self { layers, tree: Arc::new(tree), root, scratch, fetched });
            }
            let mut merged = Merged::default();
            for (number, (blob, diff_id)) in layers.iter().zip(&diff_ids).enumerate() {
                let layer = read_layer(blob, diff_id, &Places { folder: scratch.path(), number })?;
                merged.put(layer)?;
            }
            let tree = Arc::new(merged.tree()?);
            let root = merged.root.unwrap_or_else(|| Entry::directory(0o755));
            // Without it the next build lists the image anew.
            let _ = kept_listing::remember(&store, &diff_ids, (&tree, &root), scratch.path());
            Ok(Self { layers, tree, root, scratch, fetched })
        })
        .await
    }

    /// All that the image holds but its root.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// The root itself.
    pub fn root(&self) -> &Entry {
        &self.root
    }

    /// Brings the contents of those entries that are this listing's to where the entries say.
    pub fn fetch<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<()> {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: BTreeMap<usize, BTreeMap<u64, PathBuf>> = BTreeMap::new();
        for entry in entries {
            let EntryKind::File(Content::File(file)) = &entry.kind else { continue };
            let path = file.path();
            if let Some((layer, number)) = Places::number_of(&path, self.scratch.path())
                && !fetched.contains(&path)
            {
                missing.entry(layer).or_default().insert(number, path);
            }
        }
        for (layer, wanted) in missing {
            write_contents(&self.layers[layer], &wanted)?;
            fetched.extend(wanted.into_values());
        }
        Ok(())
    }
}

/// Writes the contents of some entries of a layer, by their numbers.
fn write_contents(layer: &Blob, wanted: &BTreeMap<u64, PathBuf>) -> Result<()> {
    let action = || format!("read layer {}", layer.descriptor.digest);
    let write = |archive: &mut (dyn Read + Send)| {
        let mut archive = ArchiveReader::new(archive, LIMITS);
        let (mut number, mut left, mut buffer) = (0, wanted.len(), vec![0; PIECE]);
        while left > 0 && archive.next_entry()?.is_some() {
            if let Some(place) = wanted.get(&number) {
                let mut file = fs_err::File::create(place).cannot(action)?;
                loop {
                    let count = archive.read_content(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    file.write_all(&buffer[..count]).cannot(action)?;
                }
                left -= 1;
            }
            number += 1;
        }
        Ok(())
    };
    look_inside(layer.open()?, LIMITS.bytes, write).cannot(action).map(drop)
}

/// One layer as it is listed.
#[derive(Default)]
struct Layer {
    /// What it has, by path: a number in `files`.
    names: BTreeMap<TreePath, usize>,
    files: Vec<Entry>,
    root: Option<Entry>,
    /// Folders that it says nothing of but that they are there.
    implied: BTreeSet<TreePath>,
    /// What it hides of those below, and what all of whose contents it hides.
    hidden: BTreeSet<TreePath>,
    opaque: BTreeSet<TreePath>,
    hides_all: bool,
    /// Hard links to what may be a lower layer's.
    links_below: Vec<(TreePath, TreePath)>,
}

fn read_layer(blob: &Blob, diff_id: &Digest, places: &Places<'_>) -> Result<Layer> {
    let action = || format!("list layer {}", blob.descriptor.digest);
    let read = |archive: &mut (dyn Read + Send)| {
        let mut archive = ArchiveReader::new(archive, LIMITS);
        let (mut layer, mut number) = (Layer::default(), 0);
        while let Some(entry) = archive.next_entry()? {
            let named = || format!("list {}", String::from_utf8_lossy(&entry.path).escape_debug());
            layer.take(&entry, places.of(number)).cannot(named)?;
            number += 1;
        }
        Ok(layer)
    };
    let inside = look_inside(blob.open()?, LIMITS.bytes, read).cannot(action)?;
    if inside.diff_id != *diff_id {
        return Err(Error::new(ErrorKind::Corrupt, action())
            .because(format!("its diff ID is {}, the config says {diff_id}", inside.diff_id)));
    }
    Ok(inside.found)
}

impl Layer {
    fn take(&mut self, entry: &ListedEntry, place: PathBuf) -> Result<()> {
        let Some(path) = entry.tree_path()? else {
            if entry.kind == ListedKind::Directory {
                self.root = Some(described(entry, EntryKind::Directory)?);
            }
            return Ok(());
        };
        match whiteout(&path)? {
            Some(Name::Aufs) => return Ok(()),
            Some(Name::Hides(whiteout)) => return self.hide(whiteout),
            None => {}
        }
        let path = self.real(&path)?;
        let kind = match &entry.kind {
            ListedKind::File if entry.sparse => {
                return Err(Error::new(ErrorKind::Unsupported, "read a sparse file")
                    .because("GNU's sparse form is not read"));
            }
            ListedKind::File if entry.size == 0 => EntryKind::File(Content::Memory(Bytes::new())),
            ListedKind::File => EntryKind::File(Content::file(place, entry.size)),
            ListedKind::Directory => EntryKind::Directory,
            ListedKind::Symlink(target) => EntryKind::Symlink(target.clone()),
            ListedKind::HardLink(target) => return self.link(path, target),
            ListedKind::CharDevice { major: 0, minor: 0 } => {
                self.hidden.insert(path);
                return Ok(());
            }
            ListedKind::CharDevice { major, minor } => {
                EntryKind::CharDevice { major: small(*major)?, minor: small(*minor)? }
            }
            ListedKind::BlockDevice { major, minor } => {
                EntryKind::BlockDevice { major: small(*major)?, minor: small(*minor)? }
            }
            ListedKind::Fifo => EntryKind::Fifo,
            ListedKind::Other(letter) => {
                return Err(Error::new(ErrorKind::Invalid, "take a file of its type").because(
                    format!("\"{}\" is no type that layers have", letter.escape_ascii()),
                ));
            }
        };
        self.put(path, described(entry, kind)?);
        Ok(())
    }

    fn put(&mut self, path: TreePath, entry: Entry) {
        if !entry.is_directory() {
            remove_below(&mut self.names, &path);
        }
        self.implied.remove(&path);
        self.names.insert(path, self.files.len());
        self.files.push(entry);
    }

    fn hide(&mut self, whiteout: Whiteout) -> Result<()> {
        match whiteout {
            Whiteout::Opaque(None) => self.hides_all = true,
            Whiteout::Opaque(Some(folder)) => {
                let below = folder.join("x")?;
                let folder = self.real(&below)?.parent();
                self.opaque.extend(folder);
            }
            Whiteout::Removed(path) => {
                let path = self.real(&path)?;
                self.hidden.insert(path);
            }
        }
        Ok(())
    }

    fn link(&mut self, path: TreePath, target: &[u8]) -> Result<()> {
        let target = TreePath::normalized(target)?;
        match self.followed(&target)?.and_then(|target| self.names.get(&target)) {
            Some(&file) if self.files[file].is_directory() => {
                Err(Error::new(ErrorKind::Invalid, format!("link it to {target}"))
                    .because("that is a folder"))
            }
            Some(&file) => {
                remove_below(&mut self.names, &path);
                self.names.insert(path, file);
                Ok(())
            }
            None => {
                self.links_below.push((path, target));
                Ok(())
            }
        }
    }

    /// Where a path leads through links of this layer; folders that it needs are there from then on.
    fn real(&mut self, path: &TreePath) -> Result<TreePath> {
        let followed = self.followed(path)?;
        let path = followed.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("follow {path}"))
                .because("a file, or too many links, are on the way")
        })?;
        let mut parent = path.parent();
        while let Some(folder) = parent {
            if self.names.contains_key(&folder) {
                break;
            }
            parent = folder.parent();
            self.names.insert(folder.clone(), self.files.len());
            self.files.push(Entry::directory(0o755));
            self.implied.insert(folder);
        }
        Ok(path)
    }

    /// The path without links of this layer on the way to its last part; none where something is in the
    /// way.
    fn followed(&self, path: &TreePath) -> Result<Option<TreePath>> {
        let mut left: Vec<Vec<u8>> = parts(path.as_bytes());
        let Some(last) = (!left.is_empty()).then(|| left.remove(0)) else { return Ok(None) };
        let (mut at, mut links): (Option<TreePath>, usize) = (None, 0);
        while let Some(part) = left.pop() {
            if part == b".." {
                at = at.and_then(|path| path.parent());
                continue;
            }
            let next = joined(at.as_ref(), &part)?;
            match self.names.get(&next).map(|file| &self.files[*file].kind) {
                Some(EntryKind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(None);
                    }
                    if target.starts_with(b"/") {
                        at = None;
                    }
                    left.extend(parts(target));
                }
                Some(EntryKind::Directory) | None => at = Some(next),
                Some(_) => return Ok(None),
            }
        }
        joined(at.as_ref(), &last).map(Some)
    }
}

/// The layers that were read so far, over each other.
#[derive(Default)]
struct Merged {
    names: BTreeMap<TreePath, usize>,
    files: Vec<Entry>,
    root: Option<Entry>,
}

impl Merged {
    /// Puts a layer on top.
    fn put(&mut self, layer: Layer) -> Result<()> {
        let mut linked = Vec::new();
        for (path, target) in layer.links_below {
            let file = self.names.get(&target).copied();
            let file = file.filter(|file| !self.files[*file].is_directory()).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, format!("link {path} to {target}"))
                    .because("neither the layer nor one below has such a file")
            })?;
            linked.push((path, file));
        }
        let lower = |path: &TreePath| {
            let found = self.names.get(path).map(|file| &self.files[*file]);
            found.filter(|entry| entry.is_directory()).cloned()
        };
        let implied: BTreeMap<TreePath, Option<Entry>> =
            layer.implied.into_iter().map(|path| (path.clone(), lower(&path))).collect();
        if layer.hides_all {
            self.names.clear();
        }
        for path in &layer.hidden {
            remove_below(&mut self.names, path);
            self.names.remove(path);
        }
        for folder in &layer.opaque {
            remove_below(&mut self.names, folder);
        }
        let first = self.files.len();
        self.files.extend(layer.files);
        for (path, file) in layer.names {
            let number = first + file;
            if let Some(Some(entry)) = implied.get(&path) {
                self.files[number] = entry.clone();
            }
            self.replace(path, number);
        }
        for (path, file) in linked {
            self.replace(path, file);
        }
        self.root = layer.root.or(self.root.take());
        Ok(())
    }

    fn replace(&mut self, path: TreePath, file: usize) {
        if !self.files[file].is_directory() {
            remove_below(&mut self.names, &path);
        }
        self.names.insert(path, file);
    }

    /// All of it; names of one file are hard links of the first.
    fn tree(&self) -> Result<Tree> {
        let (mut tree, mut first) = (Tree::new(), BTreeMap::<usize, TreePath>::new());
        for (path, file) in &self.names {
            let entry = &self.files[*file];
            let is_file = matches!(entry.kind, EntryKind::File(_));
            let entry = if let Some(first) = first.get(file).filter(|_| is_file) {
                Entry::hard_link(first.clone(), entry)
            } else {
                first.insert(*file, path.clone());
                entry.clone()
            };
            tree.insert(path.clone(), entry)?;
        }
        Ok(tree)
    }
}

/// Removes all that is below a path. The order of paths has it together.
fn remove_below(names: &mut BTreeMap<TreePath, usize>, path: &TreePath) {
    let behind = names.range(path.clone()..).map(|(path, _)| path);
    let below = behind.skip_while(|found| *found == path).take_while(|found| found.is_below(path));
    let below: Vec<TreePath> = below.cloned().collect();
    for path in below {
        names.remove(&path);
    }
}

/// An entry with what an unpacked file keeps.
fn described(entry: &ListedEntry, kind: EntryKind) -> Result<Entry> {
    let mode = match kind {
        EntryKind::Symlink(_) => 0o777,
        _ => entry.mode & 0o7777,
    };
    let owner = |number: u64| {
        u32::try_from(number).ok().filter(|number| *number != u32::MAX).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("give a file to the owner {number}"))
                .because("numbers of owners have 32 bits")
        })
    };
    let mut described =
        Entry::new(kind, mode).owned_by(owner(entry.uid)?, owner(entry.gid)?).modified(entry.mtime);
    if matches!(described.kind, EntryKind::File(_) | EntryKind::Directory) {
        let kept = entry.xattrs.iter().filter(|(name, _)| marks::is_content(name));
        let portable = |(name, value): (&String, &Vec<u8>)| {
            let capability = (name == "security.capability").then(|| portable_capability(value));
            (name.clone(), capability.flatten().unwrap_or_else(|| value.clone()))
        };
        described.xattrs = kept.map(portable).collect();
    }
    Ok(described)
}

fn small(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| {
        Error::new(ErrorKind::Invalid, format!("make the device {number}"))
            .because("numbers of devices have 32 bits")
    })
}

/// The parts of a path that mean something, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}

fn joined(folder: Option<&TreePath>, name: &[u8]) -> Result<TreePath> {
    match folder {
        Some(folder) => folder.join(name),
        None => TreePath::new(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str, kind: ListedKind) -> ListedEntry {
        ListedEntry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 7,
            size: 1,
            sparse: false,
            xattrs: BTreeMap::new(),
        }
    }

    /// `f path`, `d path`, `l path target`, `h path target`, an entry a line.
    fn layer(lines: &str) -> Result<Layer> {
        let mut layer = Layer::default();
        for (number, line) in lines.split(';').map(str::trim).filter(|l| !l.is_empty()).enumerate()
        {
            let words: Vec<&str> = line.split(' ').collect();
            let target = || words[2].as_bytes().to_vec();
            let kind = match words[0] {
                "d" => ListedKind::Directory,
                "l" => ListedKind::Symlink(target()),
                "h" => ListedKind::HardLink(target()),
                "0" => ListedKind::CharDevice { major: 0, minor: 0 },
                _ => ListedKind::File,
            };
            layer.take(&listed(words[1], kind), PathBuf::from(format!("/scratch/0-{number}")))?;
        }
        Ok(layer)
    }

    fn merged(layers: &[&str]) -> String {
        let mut merged = Merged::default();
        for lines in layers {
            merged.put(layer(lines).unwrap()).unwrap();
        }
        let tree = merged.tree().unwrap();
        let shown = tree.iter().map(|(path, entry)| match &entry.kind {
            EntryKind::Directory => format!("{path}/"),
            EntryKind::Symlink(target) => format!("{path}>{}", String::from_utf8_lossy(target)),
            EntryKind::HardLink(target) => format!("{path}={target}"),
            _ => path.to_string(),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn layers_lie_over_each_other_as_they_do_unpacked() {
        for (layers, expected) in [
            (&["f a/b; f c"][..], "a/ a/b c"),
            // Replaced, by something of another kind, too.
            (&["f a/b; f c", "f a"], "a c"),
            (&["f a", "f a/b"], "a/ a/b"),
            (&["l run var; d var", "f run/x"], "run/ run/x var/"),
            // Hidden, in both orders and by a device.
            (&["f a/b; f a/c; f ab", "f a/.wh.b"], "a/ a/c ab"),
            (&["f a/b; f a/c", "f .wh.a"], ""),
            (&["f a/b", "f .wh.a; f a/n"], "a/ a/n"),
            (&["f a/b", "f a/n; f .wh.a"], "a/ a/n"),
            (&["f a/b", "f a/.wh..wh..opq; f a/n"], "a/ a/n"),
            (&["f a/b; f c", "0 a"], "c"),
            (&["f a; f b", "f .wh..wh..opq; f n"], "n"),
            (&["f a; f .wh..wh.plnk/x"], "a"),
            // Links of the same layer are followed.
            (&["d usr/bin; l bin usr/bin; f bin/sh"], "bin>usr/bin usr/ usr/bin/ usr/bin/sh"),
            (&["l bin /usr/bin; f bin/sh"], "bin>/usr/bin usr/ usr/bin/ usr/bin/sh"),
            // One file, several names, in one layer or two; a name may go.
            (&["f a; h b a"], "a b=a"),
            (&["f a", "h b a"], "a b=a"),
            (&["f a; h b a", "f .wh.a"], "b"),
            (&["f a", "h b a; f .wh.a"], "b"),
        ] {
            assert_eq!(merged(layers), expected, "{layers:?}");
        }
    }

    #[test]
    fn folders_that_a_layer_does_not_name_look_as_below() {
        let mut files = Merged::default();
        files.put(layer("d a").unwrap()).unwrap();
        files.put(layer("f a/b; f n/b").unwrap()).unwrap();
        let tree = files.tree().unwrap();
        let entry = |path: &str| tree.get(&path.parse().unwrap()).unwrap();
        assert_eq!((entry("a").mode, entry("a").mtime), (0o644, 7));
        assert_eq!((entry("n").mode, entry("n").mtime), (0o755, 0));
    }

    #[test]
    fn what_no_layer_may_hold_is_refused() {
        for lines in ["f ../x", "f a; f a/b", "l loop loop; f loop/x", "d a; h b a"] {
            assert!(layer(lines).is_err(), "{lines}");
        }
        let mut files = Merged::default();
        assert!(files.put(layer("h b nowhere").unwrap()).is_err());
    }
}
