//! Makes a folder look like merged layers again at some paths, and leaves it alone at all others.
//!
//! What is there and does not belong there goes first, as a whole; then everything that belongs there is
//! written as a tree. Nobody else works in the folder meanwhile. Links that are in it are never followed:
//! where one has taken the place of a folder, that goes before anything below is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Stat};

use super::attributes::{Attributes, Keeper, Target};
use super::inspect::LayerDir;
use super::record::{is_folder, join};
use super::touched::Touched;
use super::view::{Links, Node, View, child, nodes_in};
use super::{OwnerStorage, apply, as_path, marks};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Entry, Tree, TreePath};
use crate::store::remove_tree;

/// The attributes that a folder can have beside those of its entry, and that change what is made in it.
const ACCESS_LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// What looks as it should from now on, whatever it was before.
pub(super) struct Renewed {
    paths: BTreeSet<TreePath>,
    /// With everything below.
    whole: BTreeSet<TreePath>,
}

impl Renewed {
    /// Whether a path was made to look as it should.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        let Ok(path) = TreePath::new(path) else { return false };
        let mut above = std::iter::successors(Some(path.clone()), TreePath::parent);
        self.paths.contains(&path) || above.any(|above| self.whole.contains(&above))
    }
}

/// Gives `files` what `view` has at these paths.
pub(super) fn renew(
    files: &Path,
    storage: OwnerStorage,
    view: &View,
    touched: &Touched,
) -> Result<Renewed> {
    let root = view.node(b"")?.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "renew a root file system").because("it has no layers")
    })?;
    let mut transition = Transition {
        files,
        storage,
        known: BTreeMap::from([(Vec::new(), root)]),
        there: BTreeSet::from([Vec::new()]),
        removed: Vec::new(),
        stays: Vec::new(),
        nodes: BTreeMap::new(),
        whole: BTreeSet::new(),
    };
    transition.plan(touched)?;
    transition.add_further_names()?;
    transition.execute()?;
    let mut paths = touched.paths.clone();
    paths.extend(transition.nodes.into_keys());
    Ok(Renewed { paths, whole: transition.whole })
}

struct Transition<'a> {
    files: &'a Path,
    storage: OwnerStorage,
    /// Folders of the view.
    known: BTreeMap<Vec<u8>, Node>,
    /// Paths of the folder that are folders, and all above them are.
    there: BTreeSet<Vec<u8>>,
    /// What goes, with everything below.
    removed: Vec<PathBuf>,
    /// Folders that are there and stay.
    stays: Vec<TreePath>,
    /// What is written.
    nodes: BTreeMap<TreePath, Node>,
    /// What was removed or written with everything below.
    whole: BTreeSet<TreePath>,
}

impl Transition<'_> {
    fn plan(&mut self, touched: &Touched) -> Result<()> {
        // The order of paths has what is below one together, right behind it.
        let mut done: Option<TreePath> = None;
        for path in &touched.paths {
            let is_done = |done: &TreePath| path == done || path.is_below(done);
            if done.as_ref().is_some_and(is_done) {
                continue;
            }
            let path = self.first_that_differs(path)?;
            if self.plan_one(&path, touched.whole.contains(&path))? {
                self.whole.insert(path.clone());
                done = Some(path);
            }
        }
        Ok(())
    }

    /// The path itself, or the first on the way to it that is no folder here or in the view.
    fn first_that_differs(&mut self, path: &TreePath) -> Result<TreePath> {
        let mut above: Vec<TreePath> =
            std::iter::successors(path.parent(), TreePath::parent).collect();
        while let Some(folder) = above.pop() {
            let is_there = self.there.contains(folder.as_bytes()) || {
                let found = self.look(&folder)?.is_some_and(|stat| is_folder(&stat));
                if found {
                    self.there.insert(folder.as_bytes().to_vec());
                }
                found
            };
            if !is_there || !self.node(&folder)?.is_some_and(|node| node.is_folder()) {
                return Ok(folder);
            }
        }
        Ok(path.clone())
    }

    /// Plans what becomes of a path all above which are folders, here and in the view. Answers whether
    /// what is below is settled with it.
    fn plan_one(&mut self, path: &TreePath, is_whole: bool) -> Result<bool> {
        let (found, node) = (self.look(path)?, self.node(path)?);
        self.plan_folders_above(path)?;
        let stays = !is_whole && found.as_ref().is_some_and(is_folder);
        if let Some(node) = &node
            && node.is_folder()
            && stays
        {
            self.stays.push(path.clone());
            self.nodes.insert(path.clone(), node.clone());
            return Ok(false);
        }
        if found.is_some() {
            self.removed.push(self.place(path));
        }
        if let Some(node) = node {
            self.plan_all_of(node)?;
        }
        Ok(true)
    }

    /// Folders get their times back, which change with what is in them.
    fn plan_folders_above(&mut self, path: &TreePath) -> Result<()> {
        for folder in std::iter::successors(path.parent(), TreePath::parent) {
            if self.nodes.contains_key(&folder) {
                break;
            }
            if let Some(node) = self.node(&folder)? {
                self.stays.push(folder.clone());
                self.nodes.insert(folder, node);
            }
        }
        Ok(())
    }

    fn plan_all_of(&mut self, node: Node) -> Result<()> {
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            pending.extend(nodes_in(&node)?.into_iter().map(|(_, node)| node));
            self.nodes.insert(TreePath::new(node.path.as_slice())?, node);
        }
        Ok(())
    }

    /// What the view has at a path.
    fn node(&mut self, path: &TreePath) -> Result<Option<Node>> {
        if let Some(node) = self.known.get(path.as_bytes()) {
            return Ok(Some(node.clone()));
        }
        let parent = match path.parent() {
            Some(parent) => self.node(&parent)?,
            None => self.known.get(&b""[..]).cloned(),
        };
        let Some(parent) = parent else { return Ok(None) };
        let node = child(&parent, path.name())?;
        if let Some(node) = node.as_ref().filter(|node| node.is_folder()) {
            self.known.insert(path.as_bytes().to_vec(), node.clone());
        }
        Ok(node)
    }

    /// All names of a file become names of one file again: those, too, that were not asked for.
    fn add_further_names(&mut self) -> Result<()> {
        let mut counts: BTreeMap<(u64, u64), (i128, Arc<LayerDir>)> = BTreeMap::new();
        for node in self.nodes.values().filter(|node| !node.is_folder()) {
            if node.stat.st_nlink > 1 {
                let all = i128::from(node.stat.st_nlink);
                let found = counts.entry(file_of(&node.stat));
                found.or_insert_with(|| (all, node.parts[0].clone())).0 -= 1;
            }
        }
        counts.retain(|_, (missing, _)| *missing > 0);
        let layers: BTreeMap<&Path, &Arc<LayerDir>> =
            counts.values().map(|(_, layer)| (layer.folder.as_path(), layer)).collect();
        let mut names = Vec::new();
        for layer in layers.into_values() {
            names.extend(names_of_files(layer, &|stat| counts.contains_key(&file_of(stat)))?);
        }
        for path in names {
            // An upper layer may hide a name, or have another file of that name.
            if let Some(node) = self.node(&path)?
                && counts.contains_key(&file_of(&node.stat))
                && !self.nodes.contains_key(&path)
            {
                let differs = self.first_that_differs(&path)?;
                self.plan_one(&differs, false)?;
                if differs != path {
                    self.whole.insert(differs);
                }
            }
        }
        Ok(())
    }

    fn execute(&self) -> Result<()> {
        for path in &self.removed {
            remove_tree(path).cannot(|| format!("remove {}", path.display()))?;
        }
        for path in &self.stays {
            self.strip(path).cannot(|| format!("renew /{path}"))?;
        }
        let (mut tree, mut links) = (Tree::new(), Links::default());
        for (path, node) in &self.nodes {
            if let Some(entry) = node.entry()? {
                tree.insert(path.clone(), links.entry(path, entry, &node.stat))?;
            }
        }
        apply::apply(&tree, self.files, self.storage, None)?;
        self.renew_root()
    }

    fn renew_root(&self) -> Result<()> {
        let action = || "renew a root file system";
        let Some(entry) = self.known[&b""[..]].entry()? else { return Ok(()) };
        strip(self.files, Some(&entry)).cannot(action)?;
        let root = fs_err::File::open(self.files).cannot(action)?;
        let attributes = Attributes::of_entry(&entry);
        Keeper::new(self.files, self.storage).set(&root, b"", &attributes, Target::Folder)?;
        rustix::fs::futimens(&root, &attributes.times()).cannot(action)
    }

    fn strip(&self, path: &TreePath) -> Result<()> {
        let entry = self.nodes.get(path).map(Node::entry).transpose()?.flatten();
        strip(&self.place(path), entry.as_ref())
    }

    fn look(&self, path: &TreePath) -> Result<Option<Stat>> {
        marks::look(CWD, self.place(path).as_os_str().as_encoded_bytes())
            .cannot(|| format!("look at /{path}"))
    }

    fn place(&self, path: &TreePath) -> PathBuf {
        self.files.join(as_path(path.as_bytes()))
    }
}

/// Takes the attributes from a folder that its entry does not have: writing it takes none away.
fn strip(place: &Path, entry: Option<&Entry>) -> Result<()> {
    for name in super::inspect::attribute_names(place).cannot(|| "list its attributes")? {
        let is_wanted = entry.is_some_and(|entry| entry.xattrs.contains_key(&name));
        let may_go = name.starts_with("user.") || ACCESS_LISTS.contains(&name.as_str());
        if may_go && !is_wanted {
            rustix::fs::lremovexattr(place, name.as_str()).cannot(|| format!("remove {name}"))?;
        }
    }
    Ok(())
}

fn file_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The names in a layer of those files that are `wanted`.
fn names_of_files(layer: &LayerDir, wanted: &dyn Fn(&Stat) -> bool) -> Result<Vec<TreePath>> {
    let (mut names, mut pending) = (Vec::new(), vec![Vec::new()]);
    while let Some(folder) = pending.pop() {
        for name in layer.names(&folder)? {
            let path = join(&folder, &name);
            match layer.look(&path)? {
                Some(stat) if is_folder(&stat) => pending.push(path),
                Some(stat) if wanted(&stat) => names.push(TreePath::new(path)?),
                _ => {}
            }
        }
    }
    Ok(names)
}
