//! Tar archives, however they are compressed, as trees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Cursor, Read, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tempfile::TempDir;

use crate::engine::files::{LastLink, TreeFiles, resolve};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{
    ArchiveReader, Content, Entry, EntryKind, FileReader, Limits, ListedEntry, ListedKind, Tree,
    TreePath, decompress,
};
use crate::oci::Compression;

/// Files up to this size are kept in memory.
const SMALL: u64 = 32 << 10;
/// What an archive's first block says where it is one.
const MAGIC: std::ops::Range<usize> = 257..262;
/// A block of an archive.
const BLOCK: usize = 512;

/// How an archive may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As layers may be.
    Layer(Compression),
    /// By bzip2, which needs a program of that name.
    Bzip2,
    /// By xz, which needs a program of that name.
    Xz,
}

/// Tells by its first bytes how something is compressed.
pub fn packing(start: &[u8]) -> Packing {
    match start {
        [b'B', b'Z', b'h', ..] => Packing::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
        _ => Packing::Layer(crate::layer::detect(start)),
    }
}

/// An archive that is being read.
pub struct Archive {
    reader: Box<dyn Read + Send>,
    /// The file that it comes out of, which is checked at the end.
    file: Option<Shared>,
}

/// Opens a file's content as an archive; `None` where it is none.
///
/// What it is decides, not its name: compressed or not, its first block must be an archive's.
/// `name` is what messages call it. `programs` is a `PATH`, for what is decompressed by a program.
pub fn open(content: &Content, name: &str, programs: &str) -> Result<Option<Archive>> {
    let (file, shared): (Box<dyn Read + Send>, _) = match content {
        Content::Memory(bytes) => (Box::new(Cursor::new(bytes.clone())), None),
        Content::File(file) => {
            let shared = Shared(Arc::new(Mutex::new(file.open()?)));
            (Box::new(shared.clone()), Some(shared))
        }
    };
    let mut file = BufReader::new(file);
    let packing = packing(file.fill_buf().cannot(|| format!("read {name}"))?);
    let (unpacked, file) = match packing {
        Packing::Layer(compression) => match decompress(compression, file) {
            Ok(unpacked) => (unpacked, shared),
            Err(_) => return Ok(None),
        },
        // They get a copy of what was checked.
        Packing::Bzip2 => (program("bzip2", (content, name), programs)?, None),
        Packing::Xz => (program("xz", (content, name), programs)?, None),
    };
    Ok(archive(unpacked).map(|reader| Archive { reader, file }))
}

/// A file that is read through layers of readers, and once more when they are done.
#[derive(Clone)]
struct Shared(Arc<Mutex<FileReader>>);

impl Shared {
    /// Reads the rest, and so checks the whole.
    fn finish(&self) -> Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = vec![0; 64 << 10];
        while file.read(&mut rest)? > 0 {}
        Ok(())
    }
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Read::read(&mut *file, buffer)
    }
}

/// What is read, if it begins as an archive does.
pub fn archive<'a>(mut reader: impl Read + Send + 'a) -> Option<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::new();
    let begin = reader.by_ref().take(2 * BLOCK as u64).read_to_end(&mut start);
    let is_empty = start.len() == 2 * BLOCK && start.iter().all(|byte| *byte == 0);
    let is_archive = is_empty || start.get(MAGIC) == Some(b"ustar") || is_old(&start);
    (begin.is_ok() && is_archive).then(|| Box::new(Cursor::new(start).chain(reader)) as _)
}

/// Whether a block is a header without a magic word: its checksum is right.
fn is_old(start: &[u8]) -> bool {
    let Some(block) = start.get(..BLOCK) else { return false };
    let written = String::from_utf8_lossy(&block[148..156]);
    let written = written.trim_matches(['\0', ' ']);
    let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let found = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    block[0] != 0 && u32::from_str_radix(written, 8).is_ok_and(|written| written == found)
}

/// Reads a file through a program that decompresses.
fn program(name: &str, file: (&Content, &str), programs: &str) -> Result<Box<dyn Read + Send>> {
    let (content, shown) = file;
    let found = std::env::split_paths(programs).map(|folder| folder.join(name));
    let Some(found) = found.into_iter().find(|file| file.is_file()) else {
        let action = format!("unpack {shown}");
        return Err(Error::new(ErrorKind::Unsupported, action)
            .because(format!(
                "it is compressed with {name}, and there is no program {name} on PATH"
            ))
            .hint(format!("install {name}, or compress the archive with gzip or zstd")));
    };
    let child = std::process::Command::new(found)
        .args(["-d", "-c"])
        .stdin(std::process::Stdio::from(copy_of(content)?))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .cannot(|| format!("start {name}"))?;
    Ok(Box::new(Unpacking { child, name: name.to_owned() }))
}

/// A copy without a name, which no other process can change.
fn copy_of(content: &Content) -> Result<std::fs::File> {
    let action = || "copy an archive";
    let mut copy = tempfile::tempfile().cannot(action)?;
    match content {
        Content::Memory(bytes) => copy.write_all(bytes).cannot(action)?,
        Content::File(file) => {
            file.open()?.for_each(|bytes| copy.write_all(bytes).cannot(action))?;
        }
    }
    copy.rewind().cannot(action)?;
    Ok(copy)
}

/// A program that decompresses. Its failure is an error at the end of what it writes.
struct Unpacking {
    child: std::process::Child,
    name: String,
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = match &mut self.child.stdout {
            Some(stdout) => stdout.read(buffer)?,
            None => 0,
        };
        if count == 0 && !buffer.is_empty() && !self.child.wait()?.success() {
            return Err(std::io::Error::other(format!("{} found no whole archive", self.name)));
        }
        Ok(count)
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // Its output is not read any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an archive holds.
#[derive(Clone, Debug, Default)]
pub struct Unpacked {
    /// Its entries, and one for each folder that they only imply.
    pub tree: Tree,
    /// Those folders.
    pub implied: BTreeSet<TreePath>,
}

impl Unpacked {
    /// Puts an entry in its place, and the folders that it implies. The last one of a path counts.
    fn insert(&mut self, path: TreePath, entry: Entry) -> Result<()> {
        clear_the_way(&mut self.tree, &path, &entry);
        self.implied.remove(&path);
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| !self.tree.contains(folder)) {
            above = folder.parent();
            self.implied.insert(folder);
        }
        self.tree.insert_with_parents(path, entry).map(drop)
    }
}

/// Reads an archive whole, and makes sure that its file is what it is said to be. Large files are kept
/// in `scratch`.
///
/// Folders that are only implied get entries, as unpacking makes them. Errs on paths that lead out
/// of the archive.
pub fn read(archive: Archive, scratch: &TempDir) -> Result<Unpacked> {
    let Archive { reader, file } = archive;
    let unpacked = read_entries(reader, scratch);
    // A file that changed explains whatever else is wrong with it.
    file.map_or(Ok(()), |file| file.finish())?;
    unpacked
}

fn read_entries(archive: impl Read, scratch: &TempDir) -> Result<Unpacked> {
    let mut reader = ArchiveReader::new(archive, Limits::default());
    let mut unpacked = Unpacked::default();
    let mut number = 0;
    while let Some(listed) = reader.next_entry()? {
        let content = if matches!(listed.kind, ListedKind::File) {
            if listed.sparse {
                let shown = String::from_utf8_lossy(&listed.path).into_owned();
                return Err(Error::new(ErrorKind::Unsupported, format!("unpack {shown}"))
                    .because("it is stored with holes, in a form of GNU tar's")
                    .hint("write the archive without --sparse"));
            }
            number += 1;
            Some(content(&mut reader, listed.size, &scratch.path().join(number.to_string()))?)
        } else {
            None
        };
        if let Some((path, entry)) = entry(&listed, content, &unpacked.tree)? {
            unpacked.insert(path, entry)?;
        }
    }
    Ok(unpacked)
}

/// What lies below a folder of a tree in which every folder has an entry; the folder becomes the root.
///
/// Links on the way to it are followed. A file of which only further names are inside is kept under
/// the first of them. Errs with [`ErrorKind::NotFound`] where there is no such folder.
pub fn below(tree: Tree, folder: &str) -> Result<Tree> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::NotFound, format!("use the folder {folder}")).because(why)
    };
    let tree = Arc::new(tree);
    let found = resolve(&TreeFiles::new(tree.clone()), folder.as_bytes(), LastLink::Follow)?;
    let found = found.ok_or_else(|| refuse("the archive has none of this name"))?;
    if !found.node.entry.is_directory() {
        return Err(refuse("what the archive has there is no folder"));
    }
    let Some(root) = found.path else { return Ok(Arc::unwrap_or_clone(tree)) };
    let begin = [root.as_bytes(), b"/"].concat();
    let inside =
        |path: &TreePath| path.as_bytes().strip_prefix(begin.as_slice()).map(TreePath::new);
    let mut kept = Tree::new();
    let mut first_names: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    for (path, entry) in &*tree {
        let Some(path) = inside(&path).transpose()? else { continue };
        let EntryKind::HardLink(target) = &entry.kind else {
            kept.insert(path, entry)?;
            continue;
        };
        let original = tree.get(target).unwrap_or_else(|| entry.clone());
        let first = match first_names.get(target) {
            Some(first) => Some(first.clone()),
            None => inside(target).transpose()?,
        };
        let entry = if let Some(first) = first {
            Entry::hard_link(first, &original)
        } else {
            first_names.insert(target.clone(), path.clone());
            original
        };
        kept.insert(path, entry)?;
    }
    Ok(kept)
}

/// Takes away what an entry replaces: the last one of a path counts.
fn clear_the_way(tree: &mut Tree, path: &TreePath, entry: &Entry) {
    let mut above = path.parent();
    while let Some(folder) = above {
        if tree.is_directory(&folder) == Some(false) {
            tree.remove(&folder);
        }
        above = folder.parent();
    }
    if !entry.is_directory() {
        tree.remove(path);
    }
}

fn content<R: Read>(reader: &mut ArchiveReader<R>, size: u64, path: &Path) -> Result<Content> {
    let mut buffer = vec![0; 64 << 10];
    if size <= SMALL {
        let mut bytes = Vec::new();
        loop {
            match reader.read_content(&mut buffer)? {
                0 => return Ok(Content::Memory(Bytes::from(bytes))),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }
    let action = || "unpack an archive";
    let mut file = fs_err::File::create_new(path).cannot(action)?;
    let mut size = 0;
    loop {
        match reader.read_content(&mut buffer)? {
            0 => break,
            count => {
                file.write_all(&buffer[..count]).cannot(action)?;
                size += count as u64;
            }
        }
    }
    Ok(Content::file(path, size))
}

/// An entry of the archive as one of a tree; none for its root, and for what cannot be in a layer.
fn entry(
    listed: &ListedEntry,
    content: Option<Content>,
    tree: &Tree,
) -> Result<Option<(TreePath, Entry)>> {
    let trimmed = listed.path.strip_suffix(b"/").unwrap_or(&listed.path);
    if trimmed.split(|b| *b == b'/').all(|part| matches!(part, b"" | b".")) {
        return Ok(None);
    }
    let path = TreePath::normalized(trimmed)?;
    let kind = match (&listed.kind, content) {
        (_, Some(content)) => EntryKind::File(content),
        (ListedKind::Directory, _) => EntryKind::Directory,
        (ListedKind::Symlink(target), _) => EntryKind::Symlink(target.clone()),
        (ListedKind::HardLink(target), _) => {
            return hard_link(path, &TreePath::normalized(target)?, tree).map(Some);
        }
        (ListedKind::Fifo, _) => EntryKind::Fifo,
        (ListedKind::CharDevice { major, minor }, _) => {
            EntryKind::CharDevice { major: number(*major, &path)?, minor: number(*minor, &path)? }
        }
        (ListedKind::BlockDevice { major, minor }, _) => {
            EntryKind::BlockDevice { major: number(*major, &path)?, minor: number(*minor, &path)? }
        }
        (ListedKind::File | ListedKind::Other(_), None) => {
            return Err(Error::new(ErrorKind::Unsupported, format!("unpack {path}"))
                .because("it is of a type that layers do not have"));
        }
    };
    let mut entry = Entry::new(kind, listed.mode);
    (entry.uid, entry.gid) = (number(listed.uid, &path)?, number(listed.gid, &path)?);
    entry.mtime = listed.mtime;
    entry.xattrs.clone_from(&listed.xattrs);
    Ok(Some((path, entry)))
}

fn number(number: u64, path: &TreePath) -> Result<u32> {
    number.try_into().map_err(|_| {
        Error::new(ErrorKind::Invalid, format!("unpack {path}"))
            .because(format!("the number {number} is too large for an owner or a device"))
    })
}

fn hard_link(path: TreePath, target: &TreePath, tree: &Tree) -> Result<(TreePath, Entry)> {
    let Some(of) = tree.get(target) else {
        return Err(Error::new(ErrorKind::Invalid, format!("unpack {path}"))
            .because(format!("it is another name of {target}, which does not come before it")));
    };
    // Either the first name in order holds the content, or this one is a copy of it.
    let entry = match &of.kind {
        EntryKind::File(_) if *target < path => Entry::hard_link(target.clone(), &of),
        EntryKind::HardLink(first) if *first < path => Entry::hard_link(first.clone(), &of),
        _ => of,
    };
    Ok((path, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::boundary::{Boundary, hooked};
    use crate::layer::{Encoding, WriteOptions, write};

    fn packed(tree: &Tree, encoding: Encoding) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(tree, &WriteOptions { encoding, threads: 1 }, &|_| (), &mut bytes).unwrap();
        bytes
    }

    fn sample() -> Tree {
        let mut tree = Tree::new();
        let file = Entry::file("text", 0o640).owned_by(3, 4).modified(9);
        tree.insert_with_parents("d/a".parse().unwrap(), file.clone()).unwrap();
        let link = Entry::hard_link("d/a".parse().unwrap(), &file);
        tree.insert("d/b".parse().unwrap(), link).unwrap();
        tree.insert("l".parse().unwrap(), Entry::symlink("d/a")).unwrap();
        tree
    }

    #[test]
    fn a_folder_of_an_archive_becomes_the_root() {
        let mut tree = sample();
        let file = Entry::file("text", 0o640).owned_by(3, 4).modified(9);
        let link = |to: &str| Entry::hard_link(to.parse().unwrap(), &file);
        for path in ["e/a", "e/b"] {
            tree.insert_with_parents(path.parse().unwrap(), link("d/a")).unwrap();
        }
        tree.insert("short".parse().unwrap(), Entry::symlink("./d")).unwrap();
        let names = |folder: &str| {
            let below = below(tree.clone(), folder)?;
            let shown = below.iter().map(|(path, entry)| match &entry.kind {
                EntryKind::HardLink(target) => format!("{path} -> {target}"),
                kind => format!("{path} {}", matches!(kind, EntryKind::File(_))),
            });
            Ok::<_, Error>(shown.collect::<Vec<_>>())
        };
        assert_eq!(names("d").unwrap(), ["a true", "b -> a"]);
        assert_eq!(names("/short/").unwrap(), ["a true", "b -> a"]);
        assert_eq!(names("e").unwrap(), ["a true", "b -> a"]);
        assert_eq!(names(".").unwrap().len(), tree.len());
        for (folder, why) in [("f", "none of this name"), ("d/a", "is no folder")] {
            let error = names(folder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn an_archive_is_told_by_its_content_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        let gzip = Encoding::Gzip { level: 1, single_member: true };
        for encoding in [Encoding::None, gzip, Encoding::Zstd { level: 1 }] {
            fs_err::write(&path, packed(&sample(), encoding)).unwrap();
            let content = Content::from_file(&path).unwrap();
            let archive = open(&content, "file.txt", "").unwrap().unwrap();
            let unpacked = read(archive, &folder).unwrap();
            assert_eq!(unpacked.tree, sample(), "{encoding}");
            assert!(unpacked.implied.is_empty(), "{encoding}");
        }
        for other in ["", "text", &"x".repeat(2000)] {
            fs_err::write(&path, other).unwrap();
            let content = Content::from_file(&path).unwrap();
            assert!(open(&content, "file.txt", "").unwrap().is_none());
        }
    }

    #[test]
    fn an_archive_that_changes_before_or_while_it_is_unpacked_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let tree = |text: &str| {
            let mut tree = Tree::new();
            let file = Entry::file(text.repeat(200_000), 0o644);
            tree.insert("a".parse().unwrap(), file).unwrap();
            tree
        };
        let programs = "/usr/bin:/bin";
        let old = packed(&tree("old"), Encoding::None);
        let new = packed(&tree("new"), Encoding::None);
        for edit in [Boundary::Hashed, Boundary::Opened, Boundary::FirstBlock] {
            fs_err::write(&path, &old).unwrap();
            let mut content = Content::from_file(&path).unwrap();
            content.pin().unwrap();
            let (target, bytes) = (path.clone(), new.clone());
            if edit == Boundary::Hashed {
                fs_err::write(&path, &new).unwrap();
            }
            let hook = move |at, _: &crate::layer::FileContent| {
                if at == edit {
                    fs_err::write(&target, &bytes).unwrap();
                }
            };
            let error = hooked(hook, || {
                let archive = open(&content, "a.tar", programs).unwrap().unwrap();
                read(archive, &folder).unwrap_err()
            });
            assert_eq!(error.kind(), ErrorKind::Changed, "{edit:?}: {error}");
            fs_err::remove_file(folder.path().join("1")).unwrap();
        }
    }

    #[test]
    fn a_missing_decompressor_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        fs_err::write(&path, b"\xfd7zXZ\0rest").unwrap();
        let content = Content::from_file(&path).unwrap();
        let error = open(&content, "a.tar", "/nonexistent").err().unwrap().to_string();
        assert!(error.contains("there is no program xz on PATH"), "{error}");
    }

    #[test]
    fn paths_that_lead_out_are_refused_and_the_last_of_a_path_counts() {
        let archive = |names: &[&str]| {
            let mut archive = tar::Builder::new(Vec::new());
            for name in names {
                let mut header = tar::Header::new_ustar();
                header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_size(0);
                header.set_mode(0o644);
                header.set_cksum();
                archive.append(&header, &b""[..]).unwrap();
            }
            archive.into_inner().unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        assert!(read_entries(&archive(&["../x"])[..], &folder).is_err());
        let read =
            read_entries(&archive(&["./a", "a/b", "/c", "d/e/f", "d/e"])[..], &folder).unwrap();
        let paths: Vec<String> = read.tree.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, ["a", "a/b", "c", "d", "d/e"]);
        let implied: Vec<String> = read.implied.iter().map(ToString::to_string).collect();
        assert_eq!(implied, ["a", "d"], "an entry of its own makes a folder more than implied");
    }
}
