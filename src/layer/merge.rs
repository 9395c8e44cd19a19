//! Several layers as one: what is seen through all of them, and nothing that only a lower one had.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;

use super::{Entry, EntryKind, Tree, TreePath, Whiteout};
use crate::error::Result;

/// What lies under the layers that are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Nothing: what is removed needs no mark.
    Nothing,
    /// Other layers, which have files of their own.
    Layers,
}

/// Layers that become one, the lowest first.
#[derive(Debug)]
pub struct Merge {
    below: Below,
    count: usize,
    nodes: BTreeMap<TreePath, Node>,
}

/// An entry, which is no hard link here: any of its names may go while others stay.
#[derive(Debug)]
struct Node {
    entry: Entry,
    /// What all names of the same file have in common.
    file: Option<FileId>,
    /// Whether no layer has the folder itself.
    implied: bool,
}

/// A file of several names: the number of its layer, and its first name there.
type FileId = (usize, TreePath);

impl Merge {
    /// Begins with nothing.
    pub fn over(below: Below) -> Self {
        Self { below, count: 0, nodes: BTreeMap::new() }
    }

    /// Puts a layer on top. `implied` are folders of its tree that the layer does not have itself.
    pub fn add(&mut self, tree: &Tree, implied: &BTreeSet<TreePath>) -> Result<()> {
        self.count += 1;
        // Marks are about what is below their own layer.
        for (path, entry) in tree {
            match path.as_whiteout() {
                Some(Whiteout::Removed(removed)) => self.hide(&removed, path, entry),
                Some(Whiteout::Opaque(folder)) => self.empty(folder.as_ref(), path, entry),
                None => {}
            }
        }
        let first_names: BTreeSet<TreePath> = tree.hard_links().map(|(_, first)| first).collect();
        for (path, entry) in tree {
            if path.as_whiteout().is_some() {
                continue;
            }
            let (entry, first) = match &entry.kind {
                EntryKind::HardLink(first) => {
                    (tree.get(first).unwrap_or_else(|| entry.clone()), Some(first.clone()))
                }
                _ => (entry, first_names.contains(&path).then(|| path.clone())),
            };
            let file = first.map(|first| (self.count, first));
            let implied = implied.contains(&path);
            self.put(path, Node { entry, file, implied })?;
        }
        Ok(())
    }

    /// Takes out some paths, and all that is below them; also the marks that lower layers lose them.
    /// Answers whether there was any.
    pub fn leave_out(&mut self, paths: &[TreePath]) -> bool {
        let is_meant =
            |found: &TreePath| paths.iter().any(|path| found == path || found.is_below(path));
        let before = self.nodes.len();
        self.nodes.retain(|path, _| match path.as_whiteout() {
            Some(Whiteout::Removed(removed)) => !is_meant(&removed),
            Some(Whiteout::Opaque(folder)) => !folder.is_some_and(|folder| is_meant(&folder)),
            None => !is_meant(path),
        });
        self.nodes.len() < before
    }

    /// The layer that they become.
    pub fn into_tree(self) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut first_names: BTreeMap<FileId, TreePath> = BTreeMap::new();
        for (path, Node { entry, file, .. }) in self.nodes.into_iter().filter(|it| !it.1.implied) {
            let Some(file) = file else {
                tree.insert(path, entry)?;
                continue;
            };
            let entry = match first_names.get(&file) {
                Some(first) => Entry::hard_link(first.clone(), &entry),
                None => entry,
            };
            first_names.entry(file).or_insert_with(|| path.clone());
            tree.insert(path, entry)?;
        }
        Ok(tree)
    }

    fn put(&mut self, path: TreePath, node: Node) -> Result<()> {
        let was_hidden = self.nodes.remove(&path.whiteout()?).is_some();
        let before = self.nodes.get(&path).map(|node| node.entry.is_directory());
        if !node.entry.is_directory() {
            self.remove(&path);
            self.nodes.insert(path, node);
            return Ok(());
        }
        // Something else was there: what lower layers have in such a folder must not show again.
        let is_new = was_hidden || before == Some(false);
        if before == Some(true) && node.implied {
            return Ok(());
        }
        if is_new && self.below == Below::Layers {
            let mark = Entry::file(Bytes::new(), 0).modified(node.entry.mtime);
            let mark = Node { entry: mark, file: None, implied: false };
            self.nodes.insert(TreePath::opaque(Some(&path))?, mark);
        }
        let implied = node.implied && !is_new;
        self.nodes.insert(path, Node { implied, ..node });
        Ok(())
    }

    /// Takes out a path, and marks that lower layers lose it where they may have it.
    fn hide(&mut self, removed: &TreePath, mark: TreePath, entry: Entry) {
        self.remove(removed);
        if self.below == Below::Layers && !self.is_covered(removed) {
            self.nodes.insert(mark, Node { entry, file: None, implied: false });
        }
    }

    /// The same of all that is in a folder.
    fn empty(&mut self, folder: Option<&TreePath>, mark: TreePath, entry: Entry) {
        match folder {
            Some(folder) => self.remove_below(folder),
            None => self.nodes.clear(),
        }
        if self.below == Below::Layers {
            self.nodes.insert(mark, Node { entry, file: None, implied: false });
        }
    }

    /// Whether a folder above hides what lower layers have at a path.
    fn is_covered(&self, path: &TreePath) -> bool {
        let mut above = path.parent();
        loop {
            let opaque = TreePath::opaque(above.as_ref());
            if opaque.is_ok_and(|opaque| self.nodes.contains_key(&opaque)) {
                return true;
            }
            match above {
                Some(folder) => above = folder.parent(),
                None => return false,
            }
        }
    }

    fn remove(&mut self, path: &TreePath) {
        self.remove_below(path);
        self.nodes.remove(path);
    }

    fn remove_below(&mut self, path: &TreePath) {
        // All that is in a folder stands together behind it.
        let behind = self.nodes.range((Excluded(path.clone()), Unbounded));
        let inside = behind.map(|(found, _)| found).take_while(|found| found.is_below(path));
        let inside: Vec<TreePath> = inside.cloned().collect();
        for found in inside {
            self.nodes.remove(&found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of lines: `d/` a folder, `f=text` a file, `l->f` a hard link, `.wh.f` a mark.
    fn layer(lines: &str) -> Tree {
        let mut tree = Tree::new();
        for line in lines.split_whitespace() {
            let (path, entry) = if let Some(folder) = line.strip_suffix('/') {
                (folder, Entry::directory(0o755))
            } else if let Some((path, first)) = line.split_once("->") {
                let first: TreePath = first.parse().unwrap();
                let of = tree.get(&first).unwrap();
                (path, Entry::hard_link(first, &of))
            } else {
                let (path, text) = line.split_once('=').unwrap_or((line, ""));
                (path, Entry::file(Bytes::copy_from_slice(text.as_bytes()), 0o644))
            };
            tree.insert(path.parse().unwrap(), entry).unwrap();
        }
        tree
    }

    fn shown(tree: &Tree) -> String {
        let lines = tree.iter().map(|(path, entry)| match &entry.kind {
            EntryKind::Directory => format!("{path}/"),
            EntryKind::HardLink(first) => format!("{path}->{first}"),
            EntryKind::File(content) if content.size() > 0 => {
                let text = content.bytes().unwrap();
                format!("{path}={}", String::from_utf8_lossy(&text))
            }
            _ => path.to_string(),
        });
        lines.collect::<Vec<_>>().join(" ")
    }

    fn merged(below: Below, layers: &[&str]) -> Merge {
        let mut merge = Merge::over(below);
        for lines in layers {
            merge.add(&layer(lines), &BTreeSet::new()).unwrap();
        }
        merge
    }

    #[test]
    fn what_is_seen_through_all_layers_is_what_one_of_them_has() {
        use Below::{Layers, Nothing};
        let cases: [(Below, &[&str], &str); 13] = [
            (Nothing, &["d/ d/a=1", "d/a=2 d/b=3"], "d/ d/a=2 d/b=3"),
            (Nothing, &["a=1 b=2", ".wh.a"], "b=2"),
            (Layers, &["a=1 b=2", ".wh.a"], ".wh.a b=2"),
            (Layers, &["a=1", ".wh.a", "a=2"], "a=2"),
            (Layers, &["d/ d/a=1", ".wh.d"], ".wh.d"),
            (Layers, &[".wh.d", "d/ d/a=1"], "d/ d/.wh..wh..opq d/a=1"),
            (Nothing, &["d/ d/a=1", ".wh.d", "d/ d/b=2"], "d/ d/b=2"),
            (Layers, &["d/ d/a=1", "d/ d/.wh..wh..opq d/b=2"], "d/ d/.wh..wh..opq d/b=2"),
            (Layers, &["d=1", "d/ d/b=2"], "d/ d/.wh..wh..opq d/b=2"),
            (Layers, &["d/ d/a=1", "d=2"], "d=2"),
            // A mark below a folder that hides all is no news.
            (Layers, &["d/ d/.wh..wh..opq d/a=1", "d/.wh.a"], "d/ d/.wh..wh..opq"),
            (Layers, &["a=1 b->a c->a", ".wh.a"], ".wh.a b=1 c->b"),
            (Layers, &["a=1 b->a", "a=2", "c=3 d->c"], "a=2 b=1 c=3 d->c"),
        ];
        for (below, layers, expected) in cases {
            let tree = merged(below, layers).into_tree().unwrap();
            assert_eq!(shown(&tree), expected, "{below:?} {layers:?}");
        }
    }

    #[test]
    fn folders_that_a_layer_only_implies_stay_as_they_are() {
        let mut merge = Merge::over(Below::Layers);
        let mut first = Tree::new();
        first.insert("d".parse().unwrap(), Entry::directory(0o700)).unwrap();
        merge.add(&first, &BTreeSet::new()).unwrap();
        let implied = BTreeSet::from(["d".parse().unwrap(), "e".parse().unwrap()]);
        merge.add(&layer("d/ d/a=1 e/ e/b=2"), &implied).unwrap();
        let tree = merge.into_tree().unwrap();
        assert_eq!(shown(&tree), "d/ d/a=1 e/b=2");
        assert_eq!(tree.get(&"d".parse().unwrap()).unwrap().mode, 0o700);
    }

    #[test]
    fn paths_are_left_out_with_all_that_is_said_of_them() {
        let paths: [TreePath; 2] = ["d".parse().unwrap(), "a".parse().unwrap()];
        let mut merge = merged(Below::Layers, &["a=1 b->a d/ d/x=2 d/.wh.y dd=3", ".wh.a"]);
        assert!(merge.leave_out(&paths));
        assert_eq!(shown(&merge.into_tree().unwrap()), "b=1 dd=3");
        let mut other = merged(Below::Layers, &["dd=3 ab=4"]);
        assert!(!other.leave_out(&paths));
        assert_eq!(shown(&other.into_tree().unwrap()), "ab=4 dd=3");
    }

    /// What is seen through layers, the lowest first: folders as such, files by their text.
    fn seen(layers: &[&Tree]) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for tree in layers {
            for (path, _) in *tree {
                match path.as_whiteout() {
                    Some(Whiteout::Removed(gone)) => {
                        let below = format!("{gone}/");
                        all.retain(|it, _| *it != gone.to_string() && !it.starts_with(&below));
                    }
                    Some(Whiteout::Opaque(folder)) => {
                        let below = folder.map_or_else(String::new, |folder| format!("{folder}/"));
                        all.retain(|it, _| !it.starts_with(&below));
                    }
                    None => {}
                }
            }
            for (path, entry) in tree.iter().filter(|(path, _)| path.as_whiteout().is_none()) {
                let mut above = path.parent();
                while let Some(folder) = above {
                    let is_folder = all.get(&folder.to_string()).is_some_and(|it| it == "/");
                    if !is_folder {
                        all.insert(folder.to_string(), "/".to_owned());
                    }
                    above = folder.parent();
                }
                let (name, below) = (path.to_string(), format!("{path}/"));
                let text = match &entry.kind {
                    EntryKind::File(content) => {
                        all.retain(|it, _| !it.starts_with(&below));
                        String::from_utf8_lossy(&content.bytes().unwrap()).into_owned()
                    }
                    _ => "/".to_owned(),
                };
                all.insert(name, text);
            }
        }
        all
    }

    /// A layer as it is written.
    fn without_implied((tree, implied): &(Tree, BTreeSet<TreePath>)) -> Tree {
        let mut written = Tree::new();
        for (path, entry) in tree.iter().filter(|(path, _)| !implied.contains(path)) {
            written.insert(path, entry).unwrap();
        }
        written
    }

    /// Numbers that look like chance, the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % limit
        }

        fn path(&mut self) -> TreePath {
            let depth = 1 + self.below(3);
            let names: Vec<&str> = (0..depth)
                .map(|_| ["a", "b", "c"][usize::try_from(self.below(3)).unwrap()])
                .collect();
            names.join("/").parse().unwrap()
        }

        /// A layer, and the folders that it only implies.
        fn layer(&mut self, number: u64) -> (Tree, BTreeSet<TreePath>) {
            let (mut tree, mut implied) = (Tree::new(), BTreeSet::new());
            for _ in 0..=self.below(4) {
                let path = self.path();
                let kind = self.below(5);
                let (place, entry) = match kind {
                    0 => (path.whiteout().unwrap(), Entry::file(Bytes::new(), 0)),
                    1 => (TreePath::opaque(Some(&path)).unwrap(), Entry::file(Bytes::new(), 0)),
                    2 => (path.clone(), Entry::directory(0o755)),
                    _ => (path.clone(), Entry::file(Bytes::from(format!("{number}")), 0o644)),
                };
                // Nothing that is there already: what one layer says twice is another matter.
                let is_said = tree.contains(&path) || tree.contains(&path.whiteout().unwrap());
                if is_said || tree.contains(&place) {
                    continue;
                }
                let before: BTreeSet<TreePath> = tree.iter().map(|(path, _)| path).collect();
                // Whoever marks something has the folder that it was in.
                if tree.insert_with_parents(place.clone(), entry).is_ok() && kind > 1 {
                    let all = tree.iter().map(|(path, _)| path);
                    implied.extend(all.filter(|it| !before.contains(it) && *it != place));
                }
            }
            (tree, implied)
        }
    }

    #[test]
    fn one_layer_shows_what_all_of_them_show_whatever_they_hold() {
        for seed in 0..2000 {
            let mut chance = Chance(seed);
            let base = without_implied(&chance.layer(100));
            let layers: Vec<_> = (0..2 + chance.below(3)).map(|it| chance.layer(it)).collect();
            for below in [Below::Layers, Below::Nothing] {
                let mut merge = Merge::over(below);
                for (tree, implied) in &layers {
                    merge.add(tree, implied).unwrap();
                }
                let merged = merge.into_tree().unwrap_or_else(|error| panic!("{seed}: {error}"));
                let under = if below == Below::Layers { vec![&base] } else { vec![] };
                let written: Vec<Tree> = layers.iter().map(without_implied).collect();
                let all: Vec<&Tree> = under.iter().copied().chain(&written).collect();
                let one: Vec<&Tree> = under.into_iter().chain([&merged]).collect();
                let texts: Vec<String> = all.iter().map(|tree| shown(tree)).collect();
                assert_eq!(
                    seen(&one),
                    seen(&all),
                    "{seed} {below:?}: {texts:?} as {}",
                    shown(&merged)
                );
            }
        }
    }
}
