//! Which folders of a step go reads: those of its modules.

use std::collections::BTreeSet;

use super::line::{NotHere, Refused};
use crate::engine::files::{Files, LastLink, locate, resolve};
use crate::error::Result;
use crate::glob::in_folder;
use crate::golang::{FolderLine, folder_lines, replacing_folders};
use crate::layer::{EntryKind, TreePath};

/// The folder of the module, or of the workspace, that a folder belongs to, and those that these lead to
/// elsewhere. None is in another.
pub(super) fn of(files: &dyn Files, folder: &TreePath) -> Result<Vec<TreePath>, NotHere> {
    let (module, workspace) = (above(files, folder, "go.mod")?, above(files, folder, "go.work")?);
    let mut folders: BTreeSet<TreePath> =
        [Some(folder.clone()), module.clone(), workspace.clone()].into_iter().flatten().collect();
    let mut modules: BTreeSet<TreePath> = module.into_iter().collect();
    if let Some(workspace) = &workspace {
        let text = text(files, workspace, "go.work")?;
        let replacing = replacing_folders(&text);
        for line in folder_lines(&text) {
            let found = elsewhere(files, (workspace, "go.work"), &line)?;
            if replacing.contains(&line.folder) {
                folders.extend(found);
            } else {
                modules.extend(found);
            }
        }
    }
    for module in &modules {
        for line in folder_lines(&text(files, module, "go.mod")?) {
            folders.extend(elsewhere(files, (module, "go.mod"), &line)?);
        }
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

/// The folder that a line leads to, where it is there. Refused is one that means another folder to the go
/// command here than in the step: what is copied has the same place among the rest, and another root.
fn elsewhere(
    files: &dyn Files,
    (from, file): (&TreePath, &str),
    line: &FolderLine,
) -> Result<Option<TreePath>, NotHere> {
    let FolderLine { number, folder } = line;
    let plain = in_folder(&from.to_str_lossy(), folder);
    let refuse = |why: String| {
        let to = plain.trim_start_matches('/');
        let up = "../".repeat(depth(from.as_bytes()));
        let fix = format!("write {up}{to} there, or build where a sandbox works");
        let (folder, why) = (folder.escape_debug(), why.escape_debug());
        Err(Refused::new(format!("/{from}/{file}:{number} leads to {folder}, {why}"), fix).into())
    };
    if folder.starts_with('/') {
        return refuse("which is another folder on this machine".to_owned());
    }
    if goes_above_root(from, folder) {
        return refuse("above the root, which is another folder on this machine".to_owned());
    }
    let Some(path) = locate(files, plain.as_bytes(), LastLink::Follow)? else { return Ok(None) };
    if path.as_bytes() != plain.trim_matches('/').as_bytes() {
        return refuse(format!("by a link, to /{path}"));
    }
    let node = files.node(Some(&path))?;
    Ok(node.filter(|node| node.entry.is_directory()).map(|_| path))
}

fn depth(path: &[u8]) -> usize {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).count()
}

/// Whether a relative path leads above the root, where a step stays and the go command here does not.
fn goes_above_root(from: &TreePath, path: &str) -> bool {
    let mut left = depth(from.as_bytes());
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match (part, left) {
            ("..", 0) => return true,
            ("..", _) => left -= 1,
            _ => left += 1,
        }
    }
    false
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
                file("module a\nreplace x => ../lib\nreplace y => ../far/y\nreplace z => z v1\n"),
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

    #[test]
    fn a_line_that_leads_to_another_folder_here_is_refused_by_its_number() {
        let file = |text: &'static str| Entry::file(text, 0o644);
        let image = files(&[
            ("far/y/go.mod", file("module y\n")),
            ("link", Entry::symlink("far")),
            ("a/b/go.mod", file("module a\n\nreplace (\n\tx => ./x\n\ty => /far/y\n)\n")),
            ("c/d/go.mod", file("module c\nreplace y v1.0.0 => ../../../far/y\n")),
            ("e/go.work", file("go 1.26\nuse .\nuse /far/y\n")),
            ("e/go.mod", file("module e\n")),
            ("f/go.mod", file("module f\nreplace y => ../link/y\n")),
            ("g/go.mod", file("module g\nreplace y => ../not/there\n")),
        ]);
        for (folder, why, fix) in [
            ("a/b", "/a/b/go.mod:5 leads to /far/y, which is another", "write ../../far/y there"),
            (
                "c/d",
                "/c/d/go.mod:2 leads to ../../../far/y, above the root",
                "write ../../far/y there",
            ),
            ("e", "/e/go.work:3 leads to /far/y, which is another", "write ../far/y there"),
            (
                "f",
                "/f/go.mod:2 leads to ../link/y, by a link, to /far/y",
                "or build where a sandbox",
            ),
        ] {
            match of(&image, &folder.parse().unwrap()) {
                Err(NotHere::Refused(refused)) => {
                    assert!(refused.why.starts_with(why), "{refused:?}");
                    assert!(refused.fix.contains(fix), "{refused:?}");
                }
                other => panic!("{folder}: {other:?}"),
            }
        }
        let missing = of(&image, &"g".parse().unwrap()).unwrap();
        assert_eq!(missing, ["g".parse().unwrap()]);
    }
}
