//! Which folders of a step go reads: those of its modules.

use std::collections::BTreeSet;

use crate::engine::files::{Files, LastLink, locate, resolve};
use crate::error::Result;
use crate::glob::in_folder;
use crate::golang::{replacing_folders, used_folders};
use crate::layer::{EntryKind, TreePath};

/// The folder of the module, or of the workspace, that a folder belongs to, and those that these lead to
/// elsewhere. None is in another.
pub(super) fn of(files: &dyn Files, folder: &TreePath) -> Result<Vec<TreePath>> {
    let (module, workspace) = (above(files, folder, "go.mod")?, above(files, folder, "go.work")?);
    let mut folders: BTreeSet<TreePath> =
        [Some(folder.clone()), module.clone(), workspace.clone()].into_iter().flatten().collect();
    let mut modules: BTreeSet<TreePath> = module.into_iter().collect();
    if let Some(workspace) = &workspace {
        let text = text(files, workspace, "go.work")?;
        modules.extend(elsewhere(files, workspace, &used_folders(&text))?);
        folders.extend(elsewhere(files, workspace, &replacing_folders(&text))?);
    }
    for module in &modules {
        let text = text(files, module, "go.mod")?;
        folders.extend(elsewhere(files, module, &replacing_folders(&text))?);
    }
    folders.extend(modules);
    let all: Vec<TreePath> = folders.into_iter().collect();
    let is_inside = |path: &TreePath| all.iter().any(|other| path.is_below(other));
    Ok(all.iter().filter(|path| !is_inside(path)).cloned().collect())
}

/// The nearest folder at or above one that has a file of a name. The root does not count.
fn above(files: &dyn Files, folder: &TreePath, name: &str) -> Result<Option<TreePath>> {
    let mut at = Some(folder.clone());
    while let Some(folder) = at {
        let found = files.node(Some(&folder.join(name)?))?;
        if found.is_some_and(|node| !node.entry.is_directory()) {
            return Ok(Some(folder));
        }
        at = folder.parent();
    }
    Ok(None)
}

fn text(files: &dyn Files, folder: &TreePath, name: &str) -> Result<String> {
    let path = folder.join(name)?;
    let found = resolve(files, path.as_bytes(), LastLink::Follow)?;
    let Some(found) = found else { return Ok(String::new()) };
    let EntryKind::File(content) = &found.node.entry.kind else { return Ok(String::new()) };
    files.bring(&found.node.entry)?;
    Ok(String::from_utf8_lossy(&content.bytes()?).into_owned())
}

/// The folders of these names that are there.
fn elsewhere(files: &dyn Files, from: &TreePath, names: &[String]) -> Result<Vec<TreePath>> {
    let mut found = Vec::new();
    for name in names {
        let path = in_folder(&from.to_str_lossy(), name);
        let Some(path) = locate(files, path.as_bytes(), LastLink::Follow)? else { continue };
        if files.node(Some(&path))?.is_some_and(|node| node.entry.is_directory()) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::tests::files;
    use crate::layer::Entry;

    #[test]
    fn folders_are_those_of_modules_and_where_these_lead() {
        let file = |text: &'static str| Entry::file(text, 0o644);
        let image = files(&[
            (
                "app/go.mod",
                file("module a\nreplace x => ../lib\nreplace y => /far/y\nreplace z => z v1\n"),
            ),
            ("app/cmd/x/main.go", file("package main\n")),
            ("lib/go.mod", file("module x\n")),
            ("far/y/go.mod", file("module y\n")),
            ("work/go.work", file("go 1.26\nuse (\n ./a\n ../other\n)\n")),
            ("work/a/go.mod", file("module a\nreplace q => ../../lib\n")),
            ("other/go.mod", file("module o\n")),
            ("plain/main.go", file("package main\n")),
        ]);
        for (folder, expected) in [
            ("app/cmd/x", "app far/y lib"),
            ("app", "app far/y lib"),
            ("work/a", "lib other work"),
            ("plain", "plain"),
            ("nowhere/yet", "nowhere/yet"),
        ] {
            let found = of(&image, &folder.parse().unwrap()).unwrap();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expected, "{folder}");
        }
    }
}
