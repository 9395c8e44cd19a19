//! What `COPY` and `ADD` read: a context, another stage, an image, an archive.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Of a folder that has very much so much is described at once.
pub const DESCRIBED_AT_ONCE: usize = 1024;

/// What is in a folder.
pub struct Children {
    /// The first names, and what they are.
    pub described: Vec<(Vec<u8>, Node)>,
    /// The names behind them.
    pub listed: Vec<Vec<u8>>,
}

/// A read-only tree of files. Paths are relative to its root and never lead out of it.
pub trait Files: Send + Sync {
    /// What is at a path, links not followed; `None` is the root.
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>>;

    /// What is in a folder, sorted by name.
    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>>;

    /// What is in a folder, sorted by name. Of one that has very much the last names may only be listed.
    fn first_children(&self, folder: Option<&TreePath>) -> Result<Children> {
        Ok(Children { described: self.children(folder)?, listed: Vec::new() })
    }

    /// What some names in a folder are that [`Self::first_children`] listed.
    fn children_named(
        &self,
        _folder: Option<&TreePath>,
        _names: Vec<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, Node)>> {
        Ok(Vec::new())
    }

    /// Whether something would be at a path if no ignore file left it out.
    fn is_left_out(&self, _path: &TreePath) -> bool {
        false
    }

    /// Brings the content of a file to where its entry says, for whoever reads it without its hash.
    fn bring(&self, _file: &Entry) -> Result<()> {
        Ok(())
    }

    /// The hashes of the contents of regular files, in their order: these contents are where their
    /// entries say from then on.
    fn digests(&self, files: &[(TreePath, &Entry)]) -> Result<Vec<ContentHash>> {
        files.iter().map(|(_, entry)| entry.content_hash()).collect()
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
    tree: Arc<Tree>,
    numbers: BTreeMap<TreePath, u64>,
}

impl TreeFiles {
    /// Takes a tree in which every folder has an entry.
    pub fn new(tree: impl Into<Arc<Tree>>) -> Self {
        let tree = tree.into();
        let mut numbers = BTreeMap::new();
        for (path, target) in tree.hard_links() {
            let next = numbers.len() as u64;
            let number = *numbers.entry(target).or_insert(next);
            numbers.insert(path, number);
        }
        Self { tree, numbers }
    }

    fn get(&self, path: &TreePath) -> Option<Node> {
        let entry = self.tree.get(path)?;
        let entry = match &entry.kind {
            EntryKind::HardLink(target) => self.tree.get(target)?,
            _ => entry,
        };
        Some(Node { entry, identity: self.numbers.get(path).copied() })
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
        let child = |path: TreePath| Some((path.name().to_vec(), self.get(&path)?));
        let mut children: Vec<(Vec<u8>, Node)> =
            self.tree.children(folder).filter_map(child).collect();
        // Trees have whiteouts first.
        children.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(children)
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
