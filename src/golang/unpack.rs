//! Taking one folder out of an image, which becomes a plain folder here.
//!
//! Layers are read from the top: the first that says something of a path is right. A layer that
//! holds a whole Go distribution ends the reading, for nobody puts such a tree over another one:
//! that breaks both. Nothing but the folder is written, and what could lead out of it is refused.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::Image;
use crate::layer::{
    ArchiveReader, Limits, ListedEntry, ListedKind, TreePath, Whiteout, decompress, detect,
};
use crate::transport::{self, Bytes, Context};

/// What every Go distribution has.
const DISTRIBUTION: [&str; 4] = ["VERSION", "bin/go", "pkg/tool", "src/runtime"];

/// Large enough that most files are written at once.
const BUFFER: usize = 256 << 10;

/// Unpacks what lies below `folder` in `image` into the empty folder `target`.
///
/// Answers whether there was anything.
pub(super) async fn unpack(
    image: &Image,
    folder: &TreePath,
    target: &Path,
    context: &Context,
) -> Result<bool> {
    let mut merged = Merged {
        folder: folder.clone(),
        target: target.to_owned(),
        known: BTreeMap::new(),
        closed: Vec::new(),
        is_complete: false,
    };
    for blob in image.layers.iter().rev() {
        let action =
            format!("take {} out of layer {}", folder.to_str_lossy(), blob.descriptor.digest);
        let take = move |bytes: &mut Bytes<'_>| {
            merged.take_layer(bytes)?;
            Ok(merged)
        };
        merged = transport::stream(blob, context, take).await.cannot(|| action)?;
        if merged.is_complete {
            break;
        }
    }
    Ok(!merged.known.is_empty())
}

/// What is known of the folder after some layers, the top one first. Paths are relative to it.
struct Merged {
    folder: TreePath,
    target: PathBuf,
    /// What layers have or take away; lower ones do not count there.
    known: BTreeMap<TreePath, Kind>,
    /// Folders that lower layers add nothing to.
    closed: Vec<TreePath>,
    /// Whether no lower layer counts at all.
    is_complete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    /// A file or a link.
    Leaf,
    Removed,
}

/// What a layer has said so far.
#[derive(Default)]
struct Said {
    paths: BTreeSet<TreePath>,
    removed: Vec<TreePath>,
    closed: Vec<TreePath>,
    closes_all: bool,
}

impl Merged {
    fn take_layer(&mut self, bytes: &mut Bytes<'_>) -> Result<()> {
        let mut start = Vec::new();
        (&mut *bytes).take(4).read_to_end(&mut start).cannot(|| "read it")?;
        let archive = decompress(detect(&start), start.chain(bytes))?;
        let mut archive = ArchiveReader::new(archive, Limits::default());
        let mut said = Said::default();
        let mut buffer = vec![0; BUFFER];
        while let Some(entry) = archive.next_entry()? {
            let Some(path) = entry.tree_path()? else { continue };
            match path.as_whiteout() {
                Some(whiteout) => self.note_whiteout(&whiteout, &mut said),
                None => self.take_entry(&entry, &path, &mut archive, &mut said, &mut buffer)?,
            }
        }
        let has = |path: &str| {
            let path = TreePath::new(path).expect("written in this file");
            said.paths.contains(&path) || said.paths.iter().any(|other| other.is_below(&path))
        };
        self.is_complete = said.closes_all || DISTRIBUTION.iter().all(|path| has(path));
        for path in said.removed {
            self.known.entry(path).or_insert(Kind::Removed);
        }
        self.closed.extend(said.closed);
        Ok(())
    }

    /// The path below the folder; none for the folder itself and for what is not in it.
    fn relative(&self, path: &TreePath) -> Option<TreePath> {
        let rest = path.as_bytes().get(self.folder.as_bytes().len() + 1..)?;
        path.is_below(&self.folder).then(|| TreePath::new(rest).expect("a part of a right path"))
    }

    fn note_whiteout(&self, whiteout: &Whiteout, said: &mut Said) {
        let holds_folder = |path: &TreePath| *path == self.folder || self.folder.is_below(path);
        match whiteout {
            Whiteout::Opaque(None) => said.closes_all = true,
            Whiteout::Opaque(Some(path)) | Whiteout::Removed(path) if holds_folder(path) => {
                said.closes_all = true;
            }
            Whiteout::Opaque(Some(path)) => said.closed.extend(self.relative(path)),
            Whiteout::Removed(path) => said.removed.extend(self.relative(path)),
        }
    }

    fn take_entry(
        &mut self,
        entry: &ListedEntry,
        path: &TreePath,
        archive: &mut ArchiveReader<impl Read>,
        said: &mut Said,
        buffer: &mut [u8],
    ) -> Result<()> {
        let Some(relative) = self.relative(path) else {
            let leads_there = *path == self.folder || self.folder.is_below(path);
            if leads_there && entry.kind != ListedKind::Directory {
                return Err(refused(path, "it is no folder but a link or file"));
            }
            return Ok(());
        };
        if self.is_hidden(&relative, said) {
            return Ok(());
        }
        self.make_parents(&relative, said)?;
        let target = self.target.join(OsStr::from_bytes(relative.as_bytes()));
        let is_folder = entry.kind == ListedKind::Directory;
        if !(is_folder && self.known.get(&relative) == Some(&Kind::Folder)) {
            self.clear(&relative, &target)?;
            self.create(entry, &relative, &target)?;
        }
        if entry.kind == ListedKind::File {
            write_file(entry, &target, archive, buffer)?;
        }
        let kind = if is_folder { Kind::Folder } else { Kind::Leaf };
        self.known.insert(relative.clone(), kind);
        said.paths.insert(relative);
        Ok(())
    }

    /// Whether an upper layer has the last word on a path.
    fn is_hidden(&self, path: &TreePath, said: &Said) -> bool {
        let decides = |path: &TreePath, kind: Kind| {
            self.known.get(path) == Some(&kind) && !said.paths.contains(path)
        };
        let over = |above: &TreePath| {
            decides(above, Kind::Leaf)
                || decides(above, Kind::Removed)
                || self.closed.contains(above)
        };
        decides(path, Kind::Leaf)
            || decides(path, Kind::Removed)
            || ancestors(path).iter().any(over)
    }

    fn make_parents(&mut self, path: &TreePath, said: &mut Said) -> Result<()> {
        for parent in ancestors(path).into_iter().rev() {
            match self.known.get(&parent) {
                Some(Kind::Folder) => {}
                Some(Kind::Leaf | Kind::Removed) => {
                    return Err(refused(path, "it lies in a link or file"));
                }
                None => {
                    let target = self.target.join(OsStr::from_bytes(parent.as_bytes()));
                    fs_err::create_dir(target).cannot(|| "make a folder")?;
                    self.known.insert(parent.clone(), Kind::Folder);
                    said.paths.insert(parent);
                }
            }
        }
        Ok(())
    }

    /// Takes away what the same layer had at a path before.
    fn clear(&mut self, path: &TreePath, target: &Path) -> Result<()> {
        match self.known.get(path) {
            Some(Kind::Folder) => {
                self.known.retain(|other, _| !other.is_below(path));
                fs_err::remove_dir_all(target).cannot(|| "replace a folder")
            }
            Some(Kind::Leaf) => fs_err::remove_file(target).cannot(|| "replace a file"),
            Some(Kind::Removed) | None => Ok(()),
        }
    }

    /// Makes whatever is no file.
    fn create(&self, entry: &ListedEntry, path: &TreePath, target: &Path) -> Result<()> {
        match &entry.kind {
            ListedKind::File => Ok(()),
            ListedKind::Directory => fs_err::create_dir(target).cannot(|| "make a folder"),
            ListedKind::Symlink(to) if stays_inside(path, to) => {
                fs_err::os::unix::fs::symlink(OsStr::from_bytes(to), target)
                    .cannot(|| "make a link")
            }
            ListedKind::Symlink(_) => Err(refused(path, "it is a link that leads out of it")),
            ListedKind::HardLink(to) => {
                let to = TreePath::normalized(to)?;
                match self.relative(&to).filter(|to| self.known.get(to) == Some(&Kind::Leaf)) {
                    Some(to) => {
                        let from = self.target.join(OsStr::from_bytes(to.as_bytes()));
                        fs_err::hard_link(from, target).cannot(|| "make a hard link")
                    }
                    None => Err(refused(path, "it is a hard link to what is not in it")),
                }
            }
            _ => Err(refused(path, "it is neither file nor folder nor link")),
        }
    }
}

/// The folders that a path is in, the innermost first.
fn ancestors(path: &TreePath) -> Vec<TreePath> {
    std::iter::successors(path.parent(), TreePath::parent).collect()
}

fn refused(path: &TreePath, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("use {} of the image", path.to_str_lossy()))
        .because(why)
        .hint("choose an image of the official kind, whose Go is one folder: --go golang:VERSION")
}

/// Whether a symbolic link at `path` leads to a place below the folder.
fn stays_inside(path: &TreePath, to: &[u8]) -> bool {
    let mut depth = ancestors(path).len();
    let mut parts = to.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let stays = parts.all(|part| {
        let up = part == b"..";
        let possible = !up || depth > 0;
        depth = if up { depth.saturating_sub(1) } else { depth + 1 };
        possible
    });
    stays && to.first() != Some(&b'/')
}

fn write_file(
    entry: &ListedEntry,
    target: &Path,
    archive: &mut ArchiveReader<impl Read>,
    buffer: &mut [u8],
) -> Result<()> {
    let action = || "write a file";
    if entry.sparse {
        return Err(Error::new(ErrorKind::Unsupported, action()).because("it is stored sparsely"));
    }
    let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(target).cannot(action)?;
    loop {
        match archive.read_content(buffer)? {
            0 => break,
            count => file.write_all(&buffer[..count]).cannot(action)?,
        }
    }
    // The go command knows unchanged files by it.
    file.file().set_modified(time(entry.mtime)).cannot(action)
}

/// A time before 1970 is of no use to anybody.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
