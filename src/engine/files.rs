//! What `COPY` and `ADD` read: a context, another stage, an image, an archive.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::layer::{ContentHash, Entry, EntryKind, Tree, TreePath};

/// How many symbolic links a path may lead through, as in Linux.
const MOST_LINKS: usize = 40;

/// A file, folder or link in a source of files. Hard links have a number in common.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is. Never a hard link.
    pub entry: Entry,
    /// The same number for all names of one file, where it may have several.
    pub identity: Option<u64>,
}

/// What a path led to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it really is; `None` is the root.
    pub path: Option<TreePath>,
    /// What is there.
    pub node: Node,
}

/// A read-only tree of files. Paths are relative to its root and never lead out of it.
pub trait Files: Send + Sync {
    /// What is at a path, links not followed; `None` is the root.
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>>;

    /// What is in a folder, sorted by name.
    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>>;

    /// Whether something would be at a path if no ignore file left it out.
    fn is_left_out(&self, _path: &TreePath) -> bool {
        false
    }

    /// The digest of a regular file's content.
    fn digest(&self, path: &TreePath, node: &Node) -> Result<ContentHash>;

    /// Computes many digests, which may be faster than one after the other.
    fn digests(&self, files: &[(&TreePath, &Node)]) -> Result<Vec<ContentHash>> {
        files.iter().map(|(path, node)| self.digest(path, node)).collect()
    }
}

/// Joins a folder and a name.
pub fn join(folder: Option<&TreePath>, name: &[u8]) -> Result<TreePath> {
    match folder {
        Some(folder) => folder.join(name),
        None => TreePath::new(name),
    }
}

/// Whether links that a path ends with are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// The path names what the link leads to.
    Follow,
    /// The path names the link.
    Keep,
}

/// Finds what a path leads to. Links are followed as if the tree were the root of a file system:
/// `..` at the root stays there.
///
/// Where the end is missing, the answer has no node; where a part before it is missing or no folder,
/// there is none at all.
pub fn resolve(files: &dyn Files, path: &[u8], last: LastLink) -> Result<Option<Found>> {
    Ok(match walk(files, path, last)? {
        Walked { path, node: Some(node), left } if left.is_empty() => Some(Found { path, node }),
        _ => None,
    })
}

/// Where a path leads, whether or not something is there: links are followed as far as there are
/// any, and what is missing is taken as written.
pub fn locate(files: &dyn Files, path: &[u8], last: LastLink) -> Result<Option<TreePath>> {
    let walked = walk(files, path, last)?;
    let mut at = walked.path;
    for part in &walked.left {
        at = match part.as_slice() {
            b".." => at.and_then(|path| path.parent()),
            name => Some(join(at.as_ref(), name)?),
        };
    }
    Ok(at)
}

/// How far a path can be followed.
struct Walked {
    path: Option<TreePath>,
    node: Option<Node>,
    left: Vec<Vec<u8>>,
}

fn walk(files: &dyn Files, path: &[u8], last: LastLink) -> Result<Walked> {
    let mut left = parts(path);
    let mut at: Option<TreePath> = None;
    let mut node = files.node(None)?;
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == b".." {
            at = at.and_then(|path| path.parent());
            node = files.node(at.as_ref())?;
            continue;
        }
        if !node.as_ref().is_some_and(|node| node.entry.is_directory()) {
            left.push(part);
            break;
        }
        let next = join(at.as_ref(), &part)?;
        let found = files.node(Some(&next))?;
        let target = match found.as_ref().map(|node| &node.entry.kind) {
            Some(EntryKind::Symlink(target)) if !left.is_empty() || last == LastLink::Follow => {
                target.clone()
            }
            Some(_) => {
                (at, node) = (Some(next), found);
                continue;
            }
            None => {
                left.push(part);
                break;
            }
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(Error::new(ErrorKind::Invalid, format!("follow the link {next}"))
                .because("it leads through too many others"));
        }
        if target.starts_with(b"/") {
            (at, node) = (None, files.node(None)?);
        }
        left.extend(parts(&target));
    }
    left.reverse();
    Ok(Walked { path: at, node, left })
}

/// The parts of a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// A tree in memory as files.
#[derive(Clone, Debug, Default)]
pub struct TreeFiles {
    tree: Tree,
    folders: BTreeMap<Option<TreePath>, Vec<TreePath>>,
    numbers: BTreeMap<TreePath, u64>,
}

impl TreeFiles {
    /// Takes a tree in which every folder has an entry.
    pub fn new(tree: Tree) -> Self {
        let mut folders: BTreeMap<Option<TreePath>, Vec<TreePath>> = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for (path, entry) in &tree {
            folders.entry(path.parent()).or_default().push(path.clone());
            if let EntryKind::HardLink(target) = &entry.kind {
                let next = numbers.len() as u64;
                let number = *numbers.entry(target.clone()).or_insert(next);
                numbers.insert(path.clone(), number);
            }
        }
        for names in folders.values_mut() {
            names.sort_by(|a, b| a.name().cmp(b.name()));
        }
        Self { tree, folders, numbers }
    }

    fn get(&self, path: &TreePath) -> Option<Node> {
        let entry = self.tree.get(path)?;
        let entry = match &entry.kind {
            EntryKind::HardLink(target) => self.tree.get(target)?,
            _ => entry,
        };
        Some(Node { entry: entry.clone(), identity: self.numbers.get(path).copied() })
    }
}

impl Files for TreeFiles {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        Ok(match path {
            Some(path) => self.get(path),
            None => Some(Node { entry: Entry::directory(0o755), identity: None }),
        })
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let names = self.folders.get(&folder.cloned()).map(Vec::as_slice).unwrap_or_default();
        let child = |path: &TreePath| Some((path.name().to_vec(), self.get(path)?));
        Ok(names.iter().filter_map(child).collect())
    }

    fn digest(&self, _: &TreePath, node: &Node) -> Result<ContentHash> {
        digest_of(&node.entry)
    }
}

/// Reads a regular file for its digest.
pub fn digest_of(entry: &Entry) -> Result<ContentHash> {
    match &entry.kind {
        EntryKind::File(content) => content.hash(),
        _ => Ok(*blake3::hash(b"").as_bytes()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tree of these, with the folders that they are in.
    pub fn files(lines: &[(&str, Entry)]) -> TreeFiles {
        let mut tree = Tree::new();
        for (path, entry) in lines {
            tree.insert_with_parents(path.parse().unwrap(), entry.clone()).unwrap();
        }
        TreeFiles::new(tree)
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let files = files(&[
            ("a/file", Entry::file("x", 0o644)),
            ("abs", Entry::symlink("/a")),
            ("up", Entry::symlink("../../../a/file")),
            ("a/loop", Entry::symlink("loop")),
            ("dangling", Entry::symlink("nowhere/else")),
        ]);
        let real = |path: &str, last| {
            let found = resolve(&files, path.as_bytes(), last).unwrap()?;
            Some(found.path.map_or_else(String::new, |path| path.to_string()))
        };
        for (path, expected) in [
            ("abs/file", Some("a/file")),
            ("up", Some("a/file")),
            ("../../a/./file", Some("a/file")),
            ("/", Some("")),
            ("a/../abs/file", Some("a/file")),
            ("missing", None),
            ("a/file/below", None),
            ("dangling", None),
        ] {
            assert_eq!(real(path, LastLink::Follow).as_deref(), expected, "{path}");
        }
        assert_eq!(real("abs", LastLink::Keep).as_deref(), Some("abs"));
        assert!(resolve(&files, b"a/loop", LastLink::Follow).is_err());
        let at = |path: &str| locate(&files, path.as_bytes(), LastLink::Follow).unwrap();
        assert_eq!(at("abs/new/dir").unwrap().to_string(), "a/new/dir");
        assert_eq!(at("dangling/x").unwrap().to_string(), "nowhere/else/x");
        assert_eq!(at("/new/../.."), None);
    }

    #[test]
    fn names_of_one_file_share_a_number() {
        let file = Entry::file("x", 0o644);
        let link = Entry::hard_link("a".parse().unwrap(), &file);
        let files = files(&[("a", file), ("b", link), ("c", Entry::file("y", 0o644))]);
        let number = |path: &str| files.get(&path.parse().unwrap()).unwrap().identity;
        assert_eq!(number("a"), number("b"));
        assert!(number("a").is_some());
        assert_eq!(number("c"), None);
    }
}
