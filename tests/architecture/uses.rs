//! Who uses whom: each path of each file, followed through re-exports to the file that defines the
//! thing.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust::{self, Source};

/// A module by the words of its path: `["layer", "tree"]`; the crate's root has none.
pub type Module = Vec<String>;

/// The files of a crate, by their modules.
pub struct Sources {
    modules: BTreeMap<Module, Source>,
}

/// How many re-exports lead from a name to its definition at the most.
const LONGEST_WAY: usize = 20;

impl Sources {
    /// Reads files, each given with its path below `src/`; what is `#[cfg(test)]` counts only
    /// `with_tests`.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>, with_tests: bool) -> Self {
        let read = |(path, text)| (module_of(path), rust::read(text, with_tests));
        let mut modules: BTreeMap<_, _> = files.into_iter().map(read).collect();
        let tests: Vec<Module> = modules
            .iter()
            .flat_map(|(module, source)| source.test_modules.iter().map(|name| child(module, name)))
            .collect();
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Self { modules }
    }

    /// What each module names: the path, and the module that defines the thing.
    pub fn uses(&self) -> impl Iterator<Item = (&Module, &[String], Module)> {
        self.modules.iter().flat_map(move |(module, source)| {
            let imported = source.imports.iter().map(|import| &import.path);
            imported.chain(&source.paths).flat_map(move |path| {
                let defined = self.defined_in(module, path, LONGEST_WAY);
                defined.into_iter().map(move |other| (module, path.as_slice(), other))
            })
        })
    }

    /// The module that defines what `path` names in the file of `module`; nothing for other crates,
    /// two where a function bears a module's name.
    fn defined_in(&self, module: &Module, path: &[String], way: usize) -> BTreeSet<Module> {
        let (Some((first, rest)), true) = (path.split_first(), way > 0) else {
            return BTreeSet::new();
        };
        match first.as_str() {
            "crate" => self.defined_below(&Module::new(), rest, way),
            "self" => self.defined_below(module, rest, way),
            "super" => match module.split_last() {
                Some((_, parent)) => self.defined_in(&parent.to_vec(), &with_self(rest), way),
                None => BTreeSet::new(),
            },
            name if self.knows(module, name) => self.defined_below(module, path, way),
            _ => BTreeSet::new(),
        }
    }

    /// As [`defined_in`](Self::defined_in), for a path that begins in `module`.
    fn defined_below(&self, module: &Module, path: &[String], way: usize) -> BTreeSet<Module> {
        let (Some(source), Some((name, rest))) = (self.modules.get(module), path.split_first())
        else {
            return BTreeSet::from([module.clone()]);
        };
        if name == "super" {
            return self.defined_in(module, path, way);
        }
        let mut found = BTreeSet::new();
        let inner = child(module, name);
        if self.modules.contains_key(&inner) {
            found.extend(self.defined_below(&inner, rest, way));
        }
        if source.items.contains(name) {
            found.insert(module.clone());
        }
        if found.is_empty() {
            for import in &source.imports {
                let is_named = import.name.as_ref() == Some(name);
                let is_among_all = import.name.is_none() && self.offers(module, &import.path, name);
                let path: Vec<_> = match (is_named, is_among_all) {
                    (true, _) => [&import.path, rest].concat(),
                    (_, true) => [&import.path, path].concat(),
                    _ => continue,
                };
                found.extend(self.defined_in(module, &path, way - 1));
            }
        }
        if found.is_empty() {
            // Defined by a macro.
            found.insert(module.clone());
        }
        found
    }

    /// Whether a path that begins with `name` leads into this crate.
    fn knows(&self, module: &Module, name: &str) -> bool {
        let imports = &self.modules[module].imports;
        let is_import = |path: &[String]| path.first().is_some_and(|first| first != name);
        self.modules.contains_key(&child(module, name))
            || imports
                .iter()
                .any(|import| import.name.as_deref() == Some(name) && is_import(&import.path))
    }

    /// Whether what `path` names, a module, has something called `name`.
    fn offers(&self, module: &Module, path: &[String], name: &str) -> bool {
        let here = self.defined_in(module, path, 2);
        here.iter().filter_map(|module| self.modules.get(module)).any(|source| {
            source.items.iter().any(|item| item == name)
                || source.imports.iter().any(|import| import.name.as_deref() == Some(name))
        })
    }
}

/// The module of a file: `layer/mod.rs` is `layer`.
fn module_of(file: &str) -> Module {
    let mut words: Vec<_> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if words.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
        words.pop();
    }
    words
}

fn child(module: &Module, name: &str) -> Module {
    [module.as_slice(), &[name.to_owned()]].concat()
}

fn with_self(path: &[String]) -> Vec<String> {
    if path.first().is_some_and(|first| first == "super") {
        return path.to_vec();
    }
    [&["self".to_owned()], path].concat()
}

/// An arrow from who uses to who is used.
pub type Arrow = (Module, Module);

/// The arrows between neighbours, the parts of one folder, files or folders: each with the paths
/// that draw it.
///
/// A folder's root and its parts belong together, and no arrow between them counts.
pub fn arrows_between_neighbours(sources: &Sources) -> BTreeMap<Arrow, BTreeSet<String>> {
    let mut arrows: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (module, path, other) in sources.uses() {
        let same = module.iter().zip(&other).take_while(|(a, b)| a == b).count();
        if same < module.len().min(other.len()) {
            let arrow = (module[..=same].to_vec(), other[..=same].to_vec());
            arrows.entry(arrow).or_default().insert(path.join("::"));
        }
    }
    arrows
}

/// The arrows that are part of a circle.
pub fn circles(arrows: &BTreeSet<Arrow>) -> Vec<&Arrow> {
    arrows.iter().filter(|(from, to)| leads(arrows, to, from)).collect()
}

/// Whether a way of arrows leads from one to the other.
pub fn leads(arrows: &BTreeSet<Arrow>, from: &Module, to: &Module) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(here) = next.pop() {
        if here == to {
            return true;
        }
        let onwards = arrows.iter().filter(|(from, _)| from == here).map(|(_, to)| to);
        next.extend(onwards.filter(|to| seen.insert(to)));
    }
    false
}
