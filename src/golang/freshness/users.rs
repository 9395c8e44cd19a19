//! Which of several packages that are compiled together read a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::golang::packages::Package;

/// Some of the packages of a record: ranges of their numbers, each with its first and its last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Users(Vec<(usize, usize)>);

impl Users {
    fn of(numbers: &BTreeSet<usize>) -> Self {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for &number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        Self(ranges)
    }

    /// Whether a package is one of them.
    pub(super) fn have(&self, number: usize) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&number))
    }
}

/// The folders of main packages that need what is in a folder, by that folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs(BTreeMap<PathBuf, BTreeSet<PathBuf>>);

/// A package, and the import paths of those that it needs itself.
pub(super) struct Node<'a> {
    pub import_path: &'a str,
    pub folder: &'a Path,
    pub imports: &'a [String],
}

impl Needs {
    /// What some main packages need of all that is compiled.
    pub(super) fn of(packages: &[Package], all: &[Node<'_>]) -> Self {
        let by_path: BTreeMap<&str, &Node<'_>> =
            all.iter().map(|node| (node.import_path, node)).collect();
        let mut needs = Self::default();
        for package in packages {
            let mains = all.iter().filter(|node| node.folder == package.folder);
            let mut left: Vec<&Node<'_>> = mains.collect();
            let mut seen: BTreeSet<&str> = left.iter().map(|node| node.import_path).collect();
            while let Some(node) = left.pop() {
                let users = needs.0.entry(node.folder.to_owned()).or_default();
                users.insert(package.folder.clone());
                let imports = node.imports.iter().map(String::as_str);
                let new = imports.filter(|import| seen.insert(import));
                left.extend(new.filter_map(|import| by_path.get(import)));
            }
        }
        needs
    }

    /// Takes in what others need.
    pub(super) fn merge(&mut self, other: Self) {
        for (folder, users) in other.0 {
            self.0.entry(folder).or_default().extend(users);
        }
    }

    /// Which of some packages need what is in a folder, or is embedded from it; `None` where all may.
    pub(super) fn users(&self, folder: &Path, packages: &[Package]) -> Option<Users> {
        let of_folder = folder.ancestors().find_map(|above| self.0.get(above))?;
        let is_user = |(_, package): &(usize, &Package)| of_folder.contains(&package.folder);
        let numbers = packages.iter().enumerate().filter(is_user).map(|(number, _)| number);
        let numbers: BTreeSet<usize> = numbers.collect();
        (numbers.len() < packages.len()).then(|| Users::of(&numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_those_that_reach_it() {
        let packages = ["a", "b", "c"].map(|name| Package {
            import_path: format!("m/{name}"),
            folder: format!("/m/{name}").into(),
            workdir: "/m".into(),
            module: None,
            files: Vec::new(),
        });
        let imports = [
            ("m/a", &["fmt", "m/lib"][..]),
            ("m/b", &["m/one"]),
            ("m/c", &["m/lib", "m/two"]),
            ("m/one", &["m/lib"]),
            ("m/two", &[]),
            ("m/lib", &["m/deep"]),
            ("m/deep", &[]),
        ];
        let imports = imports.map(|(path, needed)| {
            let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
            (path, PathBuf::from(format!("/{path}")), needed)
        });
        let nodes = imports.iter();
        let nodes =
            nodes.map(|(import_path, folder, imports)| Node { import_path, folder, imports });
        let nodes: Vec<Node<'_>> = nodes.collect();
        let needs = Needs::of(&packages, &nodes);
        let users = |folder: &str| {
            let users = needs.users(Path::new(folder), &packages);
            users.map(|users| (0..3).filter(|&number| users.have(number)).collect::<Vec<_>>())
        };
        assert_eq!(users("/m/a"), Some(vec![0]));
        assert_eq!(users("/m/one"), Some(vec![1]));
        assert_eq!(users("/m/two"), Some(vec![2]));
        assert_eq!(users("/m/two/embedded/deeper"), Some(vec![2]));
        assert_eq!((users("/m/lib"), users("/m/deep"), users("/m")), (None, None, None));
        let users = Users::of(&BTreeSet::from([0, 1, 2, 5, 7, 8]));
        assert_eq!(serde_json::to_string(&users).unwrap(), "[[0,2],[5,5],[7,8]]");
    }
}
