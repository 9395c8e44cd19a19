//! The merged files of layers, read without mounting them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustix::fs::{FileType, Stat};

use super::inspect::LayerDir;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, EntryKind, Tree, TreePath};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What happens where the last part of a path is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is followed, as by `open`.
    Last,
    /// It is what was looked for, as by `lstat`.
    NotLast,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it really is, with no symbolic link on the way; `None` is the root.
    pub path: Option<TreePath>,
    /// What it is.
    pub entry: Entry,
}

/// The merged files of layers: what a process would see if they were mounted.
#[derive(Clone, Debug)]
pub struct View {
    /// The top layer first.
    layer_dirs: Vec<Arc<LayerDir>>,
}

/// A place in the merged files, with the layers that have a part of it, the top one first.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Empty for the root.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    /// Several for folders alone.
    pub(super) parts: Vec<Arc<LayerDir>>,
}

impl Node {
    pub(super) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// Describes it; sockets have no description.
    pub(super) fn entry(&self) -> Result<Option<Entry>> {
        self.parts[0].entry(&self.path, &self.stat)
    }
}

impl View {
    /// Over layers in the order of the mount: the top one first.
    pub(super) fn new(layer_dirs: Vec<Arc<LayerDir>>) -> Self {
        Self { layer_dirs }
    }

    /// With one more layer on top.
    pub(super) fn over(top: Arc<LayerDir>, below: Option<Self>) -> Self {
        let below = below.map_or(Vec::new(), |view| view.layer_dirs);
        Self { layer_dirs: std::iter::once(top).chain(below).collect() }
    }

    /// What is at an absolute path (the leading slash may be missing).
    ///
    /// Symbolic links are followed inside the image, as the kernel would; `..` at the root stays
    /// there. `None` where nothing is, or where a file stands in the way.
    pub fn find(&self, path: &str, follow: Follow) -> Result<Option<Found>> {
        let Some(node) = self.resolve(path.as_bytes(), follow)? else { return Ok(None) };
        let path = tree_path(&node.path)?;
        Ok(node.entry()?.map(|entry| Found { path, entry }))
    }

    /// The names in a folder and what they are, sorted; `None` is the root.
    ///
    /// Names of one file are files here: see [`Self::tree`]. Nothing for what is no folder.
    pub fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Entry)>> {
        let Some(node) = self.node(folder.map_or(b"", TreePath::as_bytes))? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (name, node) in nodes_in(&node)? {
            if let Some(entry) = node.entry()? {
                found.push((name, entry));
            }
        }
        Ok(found)
    }

    /// What is at `path` and everything below it, by paths relative to it.
    ///
    /// What is at `path` itself is not in the tree if it is a folder; if it is anything else the tree
    /// has that alone, by its name. Names of one file are hard links of the first.
    pub fn tree(&self, path: Option<&TreePath>) -> Result<Tree> {
        let mut tree = Tree::new();
        let start = path.map_or(&b""[..], TreePath::as_bytes);
        let Some(node) = self.node(start)? else { return Ok(tree) };
        if !node.is_folder() {
            if let (Some(entry), Some(path)) = (node.entry()?, path) {
                tree.insert(TreePath::new(path.name())?, entry)?;
            }
            return Ok(tree);
        }
        let skipped = if start.is_empty() { 0 } else { start.len() + 1 };
        let mut links = Links::default();
        walk(&node, &mut |node| {
            let path = TreePath::new(&node.path[skipped..])?;
            if let Some(entry) = node.entry()? {
                tree.insert(path.clone(), links.entry(&path, entry, &node.stat))?;
            }
            Ok(())
        })?;
        Ok(tree)
    }

    /// Reads a file of at most `limit` bytes, symbolic links followed; `None` where there is none.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(node) = self.resolve(path.as_bytes(), Follow::Last)? else { return Ok(None) };
        let Some(Entry { kind: EntryKind::File(content), .. }) = node.entry()? else {
            return Ok(None);
        };
        let action = || format!("read {path} of an image");
        if content.size() > limit {
            return Err(Error::new(ErrorKind::Invalid, action())
                .because(format!("it has {} bytes, at most {limit} are taken", content.size())));
        }
        content.bytes().map(|bytes| Some(bytes.to_vec())).cannot(action)
    }

    /// Follows a path from the root.
    fn resolve(&self, path: &[u8], follow: Follow) -> Result<Option<Node>> {
        let Some(mut node) = self.node(b"")? else { return Ok(None) };
        let mut pending = parts(path);
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == b".." {
                let end = node.path.iter().rposition(|b| *b == b'/').unwrap_or(0);
                node = self.node(&node.path[..end])?.expect("the way leads through it");
                continue;
            }
            let Some(next) = child(&node, &part)? else { return Ok(None) };
            let is_link = FileType::from_raw_mode(next.stat.st_mode) == FileType::Symlink;
            if !is_link || (pending.is_empty() && follow == Follow::NotLast) {
                node = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::new(ErrorKind::Invalid, "follow a path in an image")
                    .because(format!("more than {MAX_LINKS} symbolic links are on the way")));
            }
            let Some(Entry { kind: EntryKind::Symlink(target), .. }) = next.entry()? else {
                return Ok(None);
            };
            if target.starts_with(b"/") {
                node = self.node(b"")?.expect("there is a root");
            }
            let mut rest = parts(&target);
            rest.append(&mut pending);
            pending = rest;
        }
        Ok(Some(node))
    }

    /// What is at a real path; an empty one is the root's.
    pub(super) fn node(&self, path: &[u8]) -> Result<Option<Node>> {
        let Some(top) = self.layer_dirs.first() else { return Ok(None) };
        let Some(stat) = top.look(b"")? else { return Ok(None) };
        let mut node = Node { path: Vec::new(), stat, parts: self.layer_dirs.clone() };
        for part in parts(path) {
            match child(&node, &part)? {
                Some(next) => node = next,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }
}

/// What is in a folder, sorted by name.
pub(super) fn nodes_in(folder: &Node) -> Result<Vec<(Vec<u8>, Node)>> {
    if !folder.is_folder() {
        return Ok(Vec::new());
    }
    let mut names = BTreeSet::new();
    for layer_dir in &folder.parts {
        names.extend(layer_dir.names(&folder.path)?);
    }
    let mut found = Vec::new();
    for name in names {
        if let Some(node) = child(folder, &name)? {
            found.push((name, node));
        }
    }
    Ok(found)
}

/// Visits everything below a folder, each folder before what is in it.
pub(super) fn walk(folder: &Node, visit: &mut dyn FnMut(&Node) -> Result<()>) -> Result<()> {
    let mut pending: Vec<Node> = Vec::new();
    let mut next = nodes_in(folder)?;
    loop {
        pending.extend(next.into_iter().rev().map(|(_, node)| node));
        let Some(node) = pending.pop() else { return Ok(()) };
        visit(&node)?;
        next = nodes_in(&node)?;
    }
}

/// Looks up a name in a folder of all the layers that have a part of it.
pub(super) fn child(folder: &Node, name: &[u8]) -> Result<Option<Node>> {
    if !folder.is_folder() {
        return Ok(None);
    }
    let path =
        if folder.path.is_empty() { name.to_vec() } else { [&folder.path, name].join(&b'/') };
    let mut found: Option<Node> = None;
    for layer_dir in &folder.parts {
        let Some(stat) = layer_dir.look(&path)? else { continue };
        if layer_dir.hides(&path, &stat)? {
            break;
        }
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match &mut found {
            None => {
                found = Some(Node { path: path.clone(), stat, parts: vec![layer_dir.clone()] });
                if !is_folder {
                    break;
                }
            }
            Some(node) if is_folder => node.parts.push(layer_dir.clone()),
            Some(_) => break,
        }
        if is_folder && layer_dir.is_opaque(&path)? {
            break;
        }
    }
    Ok(found)
}

/// Which files of a walk are the same: the name that it meets first is the file.
///
/// A walk in the order of a tree makes links that can be unpacked; after any other one the names have to
/// be put in order.
#[derive(Default)]
pub(super) struct Links {
    first: BTreeMap<(u64, u64), (TreePath, Entry)>,
}

impl Links {
    /// The entry, or a hard link where the file came before.
    pub(super) fn entry(&mut self, path: &TreePath, entry: Entry, stat: &Stat) -> Entry {
        let is_file = matches!(entry.kind, EntryKind::File(_));
        if !is_file || stat.st_nlink < 2 {
            return entry;
        }
        let file = (stat.st_dev, stat.st_ino);
        if let Some((first, of)) = self.first.get(&file) {
            return Entry::hard_link(first.clone(), of);
        }
        self.first.insert(file, (path.clone(), entry.clone()));
        entry
    }
}

fn tree_path(path: &[u8]) -> Result<Option<TreePath>> {
    if path.is_empty() { Ok(None) } else { TreePath::new(path).map(Some) }
}

/// The parts of a path that mean something.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}
