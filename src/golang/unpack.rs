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
    /// Which parts of a distribution it has, whether upper layers replace them or not.
    has: [bool; DISTRIBUTION.len()],
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
        self.is_complete = said.closes_all || said.has.iter().all(|part| *part);
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
        for (has, part) in said.has.iter_mut().zip(DISTRIBUTION) {
            let rest = relative.as_bytes().strip_prefix(part.as_bytes());
            *has |= rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    /// Makes a layer of lines such as `d usr/local`, `f usr/local/go/VERSION text`,
    /// `l path target` and `h path target`.
    fn layer(lines: &[&str]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for line in lines {
            let mut words = line.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_default();
            let (kind, path, rest) = (next(), next(), next());
            let mut header = Header::new_gnu();
            header.set_mode(0o4755);
            header.set_mtime(1_000_000);
            let (entry_type, content) = match kind {
                "d" => (EntryType::Directory, ""),
                "l" => (EntryType::Symlink, ""),
                "h" => (EntryType::Link, ""),
                "c" => (EntryType::Char, ""),
                _ => (EntryType::Regular, rest),
            };
            header.set_entry_type(entry_type);
            header.set_size(content.len() as u64);
            if matches!(kind, "l" | "h") {
                archive.append_link(&mut header, path, rest).unwrap();
            } else {
                archive.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
        }
        archive.into_inner().unwrap()
    }

    /// Unpacks layers, the base first, and lists what comes out: `path: contents`.
    fn unpacked(layers: &[&[&str]]) -> Result<Vec<String>> {
        let target = tempfile::tempdir().unwrap();
        let mut merged = Merged {
            folder: TreePath::new("usr/local/go").unwrap(),
            target: target.path().to_owned(),
            known: BTreeMap::new(),
            closed: Vec::new(),
            is_complete: false,
        };
        for lines in layers.iter().rev() {
            let layer = layer(lines);
            let mut bytes = &layer[..];
            merged.take_layer(&mut bytes)?;
            if merged.is_complete {
                break;
            }
        }
        let mut found = Vec::new();
        list(target.path(), target.path(), &mut found);
        found.sort();
        Ok(found)
    }

    fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let state = fs_err::symlink_metadata(&path).unwrap();
            if state.is_dir() {
                found.push(format!("{name}/"));
                list(root, &path, found);
            } else if state.is_symlink() {
                found.push(format!("{name} -> {}", fs_err::read_link(&path).unwrap().display()));
            } else {
                found.push(format!("{name}: {}", fs_err::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn the_folder_alone_is_unpacked_as_the_layers_together_have_it() {
        let base: &[&str] = &[
            "d usr/local",
            "f usr/local/bin/x no",
            "f usr/local/gone no",
            "f usr/local/go/a old",
            "f usr/local/go/kept base",
            "f usr/local/go/sub/removed no",
            "f usr/local/go/sub/stays base",
            "f usr/local/go/emptied/old no",
            "f usr/local/go/was/folder no",
        ];
        let middle: &[&str] = &[
            "f ./usr/local/go/a new",
            "f usr/local/go/sub/.wh.removed",
            "f usr/local/go/emptied/.wh..wh..opq",
            "f usr/local/go/emptied/new middle",
            "f usr/local/go/was file",
            "h usr/local/go/b usr/local/go/a",
            "l usr/local/go/sub/link ../a",
            "f usr/local/go/twice first",
            "f usr/local/go/twice second",
        ];
        let top: &[&str] = &["f usr/local/go/top top", "f usr/local/go/.wh.kept", "f etc/x no"];
        let expect = [
            "a: new",
            "b: new",
            "emptied/",
            "emptied/new: middle",
            "sub/",
            "sub/link -> ../a",
            "sub/stays: base",
            "top: top",
            "twice: second",
            "was: file",
        ];
        assert_eq!(unpacked(&[base, middle, top]).unwrap(), expect);
    }

    #[test]
    fn a_whole_distribution_or_a_whiteout_ends_the_reading() {
        let go: &[&str] = &[
            "f usr/local/go/VERSION go1.99",
            "f usr/local/go/bin/go go",
            "d usr/local/go/pkg/tool",
            "f usr/local/go/src/runtime/x.go x",
        ];
        let over: &[&str] = &["f usr/local/go/VERSION go1.99.1"];
        let whole = unpacked(&[&["c usr/local/go/device"], go, over]).unwrap();
        assert!(whole.contains(&"VERSION: go1.99.1".to_owned()), "{whole:?}");
        assert_eq!(whole.len(), 8);
        for gone in
            ["f usr/.wh.local", "f usr/local/.wh.go", "f .wh..wh..opq", "f usr/.wh..wh..opq"]
        {
            let found = unpacked(&[go, &[gone, "f usr/local/go/x x"]]).unwrap();
            assert_eq!(found, ["x: x"], "{gone}");
        }
    }

    #[test]
    fn what_could_lead_out_of_the_folder_is_refused() {
        for lines in [
            &["l usr/local/go/x /etc"][..],
            &["l usr/local/go/x ../y"],
            &["l usr/local/go/a/x ../../y"],
            &["l usr/local/go/a/x b/../../../go/y"],
            &["l usr/local/go/x y", "f usr/local/go/x/z no"],
            &["h usr/local/go/x etc/passwd"],
            &["h usr/local/go/x usr/local/go/y"],
            &["c usr/local/go/x"],
            &["l usr/local/go /elsewhere"],
            &["l usr/local elsewhere"],
        ] {
            let error = unpacked(&[lines]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{lines:?}: {error}");
        }
        let inside = unpacked(&[&["l usr/local/go/a/x ../a/b/../c"]]).unwrap();
        assert_eq!(inside, ["a/", "a/x -> ../a/b/../c"]);
    }

    #[test]
    fn files_are_plain_whatever_the_archive_says() {
        use std::os::unix::fs::MetadataExt;
        let target = tempfile::tempdir().unwrap();
        let mut merged = Merged {
            folder: TreePath::new("go").unwrap(),
            target: target.path().to_owned(),
            known: BTreeMap::new(),
            closed: Vec::new(),
            is_complete: false,
        };
        let layer = layer(&["f go/tool x"]);
        merged.take_layer(&mut &layer[..]).unwrap();
        let found = fs_err::metadata(target.path().join("tool")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, 1_000_000));
    }
}
