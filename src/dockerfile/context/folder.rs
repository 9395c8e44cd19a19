//! A folder of this machine as a context.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::digests::{Digests, Wanted};
use crate::dockerfile::files::{Files, Node, join};
use crate::dockerfile::ignore::Patterns;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Content, ContentHash, Entry, EntryKind, TreePath};

/// Extended attributes that belong to this machine and not to the files.
const OWN_XATTRS: [&str; 2] = ["user.overlay.", "user.gondola."];

/// A folder, without what its ignore file leaves out. Everything in it belongs to root.
pub struct Folder {
    root: PathBuf,
    ignored: Patterns,
    digests: Option<Digests>,
    /// Every file's time, instead of its own.
    time: Option<i64>,
}

impl Folder {
    /// Takes the folder as it is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), ignored: Patterns::default(), digests: None, time: None }
    }

    /// Leaves out what matches.
    #[must_use]
    pub fn ignoring(self, ignored: Patterns) -> Self {
        Self { ignored, ..self }
    }

    /// Remembers digests between builds.
    #[must_use]
    pub fn remembering(self, digests: Digests) -> Self {
        Self { digests: Some(digests), ..self }
    }

    /// Gives all files the same time.
    #[must_use]
    pub fn modified(self, time: i64) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Keeps what was learnt for the next build.
    pub fn save(&self) {
        if let Some(digests) = &self.digests {
            digests.save();
        }
    }

    /// Where the context is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn on_disk(&self, path: Option<&TreePath>) -> PathBuf {
        match path {
            Some(path) => self.root.join(OsStr::from_bytes(path.as_bytes())),
            None => self.root.clone(),
        }
    }

    /// What is on disk, whether or not it is left out. Sockets count as absent.
    fn look(&self, path: &Path) -> Result<Option<Node>> {
        let metadata = match fs_err::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error).cannot(|| "read the build context"),
        };
        let size = metadata.len();
        let device = metadata.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let kind = match metadata.mode() & 0o170_000 {
            0o100_000 => EntryKind::File(Content::file(path, size)),
            0o040_000 => EntryKind::Directory,
            0o120_000 => {
                let target = fs_err::read_link(path).cannot(|| "read the build context")?;
                EntryKind::Symlink(target.as_os_str().as_bytes().to_vec())
            }
            0o020_000 => EntryKind::CharDevice { major, minor },
            0o060_000 => EntryKind::BlockDevice { major, minor },
            0o010_000 => EntryKind::Fifo,
            _ => return Ok(None),
        };
        let is_link = matches!(kind, EntryKind::Symlink(_));
        let mut entry = Entry::new(kind, if is_link { 0o777 } else { metadata.mode() & 0o7777 });
        entry.mtime = self.time.unwrap_or(metadata.mtime());
        if !is_link {
            entry.xattrs = attributes(path)?;
        }
        let several = metadata.nlink() > 1 && metadata.is_file();
        Ok(Some(Node { entry, identity: several.then_some(metadata.ino()) }))
    }

    /// Whether a path is left out, and nothing below it is brought back.
    fn is_ignored(&self, path: &TreePath, node: &Node) -> bool {
        if self.ignored.is_empty() {
            return false;
        }
        let text = path.to_str_lossy();
        self.ignored.matches_path(&text)
            && !(node.entry.is_directory() && self.brings_back(path, &text))
    }

    /// Whether something in a folder that is left out is not.
    fn brings_back(&self, path: &TreePath, text: &str) -> bool {
        self.ignored.may_bring_back_below(text)
            && self.children(Some(path)).is_ok_and(|children| !children.is_empty())
    }
}

impl Files for Folder {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let found = self.look(&self.on_disk(path))?;
        Ok(match path {
            Some(path) => found.filter(|node| !self.is_ignored(path, node)),
            None => found,
        })
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let on_disk = self.on_disk(folder);
        let mut children = Vec::new();
        for entry in fs_err::read_dir(&on_disk).cannot(|| "read the build context")? {
            let name = entry.cannot(|| "read the build context")?.file_name();
            let Some(node) = self.look(&on_disk.join(&name))? else { continue };
            let path = join(folder, name.as_bytes())?;
            if !self.is_ignored(&path, &node) {
                children.push((name.as_bytes().to_vec(), node));
            }
        }
        children.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(children)
    }

    fn is_left_out(&self, path: &TreePath) -> bool {
        self.ignored.matches_path(&path.to_str_lossy())
            && self.look(&self.on_disk(Some(path))).is_ok_and(|found| found.is_some())
    }

    fn digest(&self, path: &TreePath, node: &Node) -> Result<ContentHash> {
        let digests = self.digests(&[(path, node)])?;
        Ok(digests.first().copied().unwrap_or_default())
    }

    fn digests(&self, files: &[(&TreePath, &Node)]) -> Result<Vec<ContentHash>> {
        let Some(digests) = &self.digests else {
            return files
                .iter()
                .map(|(_, node)| crate::dockerfile::files::digest_of(&node.entry))
                .collect();
        };
        let names: Vec<_> = files.iter().map(|(path, _)| path.to_str_lossy()).collect();
        let paths: Vec<_> = files.iter().map(|(path, _)| self.on_disk(Some(path))).collect();
        let wanted = names.iter().zip(&paths).map(|(name, path)| Wanted { name, path });
        digests.of(&wanted.collect::<Vec<_>>())
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// The attributes that go into a layer: those that users set, and capabilities.
fn attributes(path: &Path) -> Result<std::collections::BTreeMap<String, Vec<u8>>> {
    let mut found = std::collections::BTreeMap::new();
    let mut names = [0; 4096];
    // An error means that there are none, or too many to be anything but a mistake.
    let Ok(size) = rustix::fs::llistxattr(path, &mut names) else { return Ok(found) };
    for name in names[..size].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let travels = name.starts_with("user.") || name == "security.capability";
        if !travels || OWN_XATTRS.iter().any(|own| name.starts_with(own)) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let size = rustix::fs::lgetxattr(path, name, &mut value);
        let size = size
            .map_err(std::io::Error::from)
            .cannot(|| format!("read the attribute {name} of {}", path.display()))?;
        value.truncate(size);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// Refuses a folder that is none; `shown` is what messages call it.
pub fn check(root: &Path, shown: &str) -> Result<()> {
    let refuse =
        |kind, why: &str| Err(Error::new(kind, format!("use {shown}")).because(why.to_owned()));
    match fs_err::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => refuse(ErrorKind::Usage, "it is no folder"),
        Err(error) if is_absent(&error) => refuse(ErrorKind::NotFound, "there is no such folder"),
        Err(error) => Err(error).cannot(|| format!("use {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::copy::{Selection, select};

    fn listed(patterns: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a.go", "b.md", "node_modules/x/y.js", "docs/a.md", "docs/keep/z.md"] {
            let path = folder.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x").unwrap();
        }
        let context = Folder::new(folder.path()).ignoring(Patterns::new(patterns).unwrap());
        let all = Selection { sources: vec![".".to_owned()], ..Selection::default() };
        let selected = select(&context, &all).unwrap();
        selected[0].inside.iter().map(|inside| inside.relative.to_string()).collect()
    }

    #[test]
    fn what_is_ignored_is_not_there() {
        assert_eq!(
            listed(&["node_modules", "**/*.md", "!docs/keep"]),
            ["a.go", "docs", "docs/keep"],
            "a folder that no pattern excludes brings nothing in it back"
        );
        assert_eq!(
            listed(&["*", "!docs/keep", "!a.go"]),
            ["a.go", "docs", "docs/keep", "docs/keep/z.md"]
        );
        assert_eq!(listed(&["docs", "node_modules", "b.md"]), ["a.go"]);
    }

    #[test]
    fn files_have_what_the_disk_says_but_belong_to_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs_err::write(&path, "x").unwrap();
        fs_err::hard_link(&path, folder.path().join("b")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        fs_err::set_permissions(&path, mode).unwrap();
        let context = Folder::new(folder.path());
        let node = context.node(Some(&"a".parse().unwrap())).unwrap().unwrap();
        let entry = &node.entry;
        assert_eq!((entry.mode, entry.uid, entry.gid), (0o750, 0, 0));
        let other = context.node(Some(&"b".parse().unwrap())).unwrap().unwrap();
        assert_eq!(node.identity, other.identity);
        assert!(node.identity.is_some());
    }
}
