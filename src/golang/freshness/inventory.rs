//! What a build read, to be compared with another time: its own files, and the modules that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Record;
use super::folder::{Folder, Lone};
use super::stat::StartedAt;
use crate::disk;
use crate::golang::documents::LARGEST;
use crate::golang::modfile::versions;

/// The documents among the files outside of folders; the others are the toolchain's.
const DOCUMENTS: [&str; 5] = ["go.mod", "go.sum", "go.work", "go.work.sum", "modules.txt"];
/// Those that change with every version of a module.
const OF_MODULES: [&str; 4] = ["go.mod", "go.sum", "go.work.sum", "modules.txt"];

/// What a build read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::golang) struct Inventory {
    folders: Vec<Folder>,
    lone: Vec<Lone>,
    /// The versions that `go.mod` files name, by what has them.
    modules: BTreeMap<String, String>,
    /// The import paths of the packages that were built.
    #[serde(default)]
    packages: Vec<String>,
}

impl Inventory {
    /// What a record knows of it.
    pub(in crate::golang) fn of(record: &Record) -> Self {
        let is_document = |lone: &&Lone| {
            let name = lone.path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| DOCUMENTS.contains(&name))
        };
        let lone: Vec<Lone> = record.lone.iter().filter(is_document).cloned().collect();
        let packages = record.packages.iter().map(|package| package.import_path.clone());
        let (folders, packages) = (record.folders.clone(), packages.collect());
        Self { folders, modules: modules(&lone), lone, packages }
    }

    /// The same folders and documents as they are now.
    pub(in crate::golang) fn now(&self, since: &StartedAt) -> Self {
        let folders = self.folders.iter().map(|folder| match folder.reread(since) {
            Ok((now, _)) => now,
            Err(_) => folder.emptied(),
        });
        // What cannot be read is as good as not there.
        let lone = self.lone.iter().filter_map(|lone| Some(Lone::read(&lone.path, since).ok()?.0));
        let lone: Vec<Lone> = lone.collect();
        let (modules, packages) = (modules(&lone), self.packages.clone());
        Self { folders: folders.collect(), modules, lone, packages }
    }

    /// The files, by their paths in a folder, with what stands for what is in them. Documents are left out
    /// that say nothing but which versions there are, where `without` these, and files that a package has
    /// nothing to do with, where they are those `of` one.
    pub(in crate::golang) fn files(
        &self,
        folder: &Path,
        without: Documents,
        of: Option<&str>,
    ) -> BTreeMap<String, String> {
        let shown = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let number = |path: &str| self.packages.iter().position(|package| package == path);
        // A package that was not there then had no folder of its own.
        let number = of.map(|path| number(path).unwrap_or(self.packages.len()));
        let folders = self
            .folders
            .iter()
            .filter(|folder| number.is_none_or(|number| folder.may_be_used_by(number)));
        let of_folders = folders.flat_map(|of| {
            of.files_for_compilers().map(|(name, contents)| (of.path.join(name), contents))
        });
        let lone = self.lone.iter().filter(|lone| lone.is_there());
        let lone = lone.map(|lone| (lone.path.clone(), lone.contents()));
        let is_left_out = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            without == Documents::OfModules && name.is_some_and(|name| OF_MODULES.contains(&name))
        };
        let all = of_folders.chain(lone).filter(|(path, _)| !is_left_out(path));
        all.map(|(path, contents)| (shown(&path), format!("{contents:?}"))).collect()
    }

    /// The versions that `go.mod` files name, by what has them.
    pub(in crate::golang) fn modules(&self) -> &BTreeMap<String, String> {
        &self.modules
    }
}

/// Which documents are not told of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::golang) enum Documents {
    /// All are told of.
    None,
    /// Those that change with every version of a module.
    OfModules,
}

fn modules(lone: &[Lone]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let files = lone.iter().filter(|lone| lone.path.ends_with("go.mod") && lone.is_there());
    for file in files {
        for (name, version) in versions(&disk::read_text(&file.path, LARGEST).unwrap_or_default()) {
            let known = all.entry(name).or_default();
            if known.is_empty() {
                *known = version;
            } else if *known != version {
                // Modules of a workspace may each ask for their own.
                *known = format!("{known}, {version}");
            }
        }
    }
    all
}
