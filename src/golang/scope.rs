//! What a pattern of packages means in a folder, as far as names and files say it.

use std::path::{Path, PathBuf};

use super::documents;
use super::modfile::{replacing_folders, used_folders};
use crate::error::{Error, ErrorKind, Result};

/// From where patterns are looked at.
pub(super) struct Scope<'a> {
    pub dir: &'a Path,
    /// Whether a `go.work` in a parent folder counts.
    pub workspaces: bool,
}

impl Scope<'_> {
    /// Decides in which folder `go` runs for a pattern, and what the pattern is there.
    pub(super) fn place(&self, pattern: &str) -> Result<(PathBuf, String)> {
        let pattern = pattern.strip_prefix("ko://").unwrap_or(pattern);
        if Path::new(pattern).extension().is_some_and(|end| end == "go")
            && self.dir.join(pattern).is_file()
        {
            let folder = Path::new(pattern).parent().filter(|parent| *parent != Path::new(""));
            let folder = folder.map_or(".".to_owned(), |folder| folder.display().to_string());
            return Err(Error::new(ErrorKind::Usage, format!("build {pattern}"))
                .because("it is a file, and packages are folders")
                .hint(format!("name its folder: {folder}")));
        }
        let Some(local) = self.local(pattern) else {
            return Ok((self.dir.to_owned(), pattern.to_owned()));
        };
        let folder = absolute(self.dir, fixed_part(&local));
        documents::check_module(&folder)?;
        let root = self.module_of(&folder);
        if root == self.module_of(self.dir) {
            return Ok((self.dir.to_owned(), local));
        }
        let workdir = root.unwrap_or_else(|| folder.clone());
        let inside = absolute(self.dir, &local);
        let inside = inside.strip_prefix(&workdir).unwrap_or(&inside).display().to_string();
        let pattern = if inside.is_empty() { ".".to_owned() } else { format!("./{inside}") };
        Ok((workdir, pattern))
    }

    /// The pattern as a relative or absolute folder, if it is one.
    ///
    /// Go reads `cmd/app` as an import path. People mean the folder when there is one and the
    /// first element is not a host name.
    fn local(&self, pattern: &str) -> Option<String> {
        let first = pattern.split('/').next().unwrap_or_default();
        if pattern.starts_with('/') || matches!(first, "." | "..") {
            return Some(pattern.to_owned());
        }
        let is_folder = !first.contains('.') && self.dir.join(fixed_part(pattern)).is_dir();
        (is_folder && !fixed_part(pattern).is_empty()).then(|| format!("./{pattern}"))
    }

    /// The folder of the workspace or module that a folder belongs to.
    pub(super) fn module_of(&self, folder: &Path) -> Option<PathBuf> {
        let above = |name: &str| {
            folder.ancestors().find(|parent| parent.join(name).is_file()).map(Path::to_owned)
        };
        let workspace = if self.workspaces { above("go.work") } else { None };
        workspace.or_else(|| above("go.mod"))
    }
}

/// Whether a pattern stands for any number of packages.
pub(super) fn is_wildcard(pattern: &str) -> bool {
    pattern.contains("...") || matches!(pattern, "all" | "work" | "tool" | "std" | "cmd")
}

/// The folder before the first `...` of a pattern.
pub(super) fn fixed_part(pattern: &str) -> &str {
    match pattern.find("...") {
        None => pattern,
        Some(at) => pattern[..at].rsplit_once('/').map_or("", |(folder, _)| folder),
    }
}

/// Joins and resolves `.` and `..` by name alone, as the go command does.
pub(super) fn absolute(dir: &Path, path: &str) -> PathBuf {
    use std::path::Component;
    let mut joined = PathBuf::new();
    for component in dir.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                joined.pop();
            }
            other => joined.push(other),
        }
    }
    joined
}

/// The folders that a build of the modules around `dir` reads sources from: its workspace or module,
/// and those that replace others or belong to the workspace.
pub(super) fn source_folders(dir: &Path) -> Vec<PathBuf> {
    let root = Scope { dir, workspaces: true }.module_of(dir).unwrap_or_else(|| dir.to_owned());
    let mut folders = vec![root];
    if folders[0] != dir {
        folders.push(dir.to_owned());
    }
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        // A file that cannot be read is for the go command to complain about.
        let read = |name| fs_err::read_to_string(folder.join(name)).unwrap_or_default();
        let (module, workspace) = (read("go.mod"), read("go.work"));
        let further = used_folders(&workspace).into_iter();
        let further =
            further.chain(replacing_folders(&workspace)).chain(replacing_folders(&module));
        for path in further.map(|path| absolute(&folder, &path)) {
            if !folders.contains(&path) {
                folders.push(path);
            }
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_workspace_and_whatever_replaces_modules() {
        let base = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = base.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        write("w/go.work", "go 1.26\nuse ./a\nuse ../b\n");
        write("w/a/go.mod", "module a\nreplace x => ../../c\nreplace y => example.com/y v1.0.0\n");
        write("b/go.mod", "module b\n");
        write("c/go.mod", "module c\nreplace b => ../b\n");
        write("lone/main.go", "");
        let of = |dir: &str| -> Vec<String> {
            let found = source_folders(&base.path().join(dir)).into_iter();
            found.map(|f| f.strip_prefix(base.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(of("w/a"), ["w", "w/a", "b", "c"]);
        assert_eq!(of("c"), ["c", "b"]);
        assert_eq!(of("lone"), ["lone"]);
    }

    #[test]
    fn a_pattern_runs_where_its_module_is() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path();
        for folder in ["app/cmd/x", "other/y", "plain"] {
            fs_err::create_dir_all(dir.join(folder)).unwrap();
        }
        fs_err::write(dir.join("app/go.mod"), "module app").unwrap();
        fs_err::write(dir.join("other/go.mod"), "module other").unwrap();
        let place = |from: &str, pattern: &str| {
            let from = absolute(dir, from);
            let (workdir, pattern) = Scope { dir: &from, workspaces: true }.place(pattern).unwrap();
            format!("{} {pattern}", workdir.strip_prefix(dir).unwrap().display())
        };
        for (from, pattern, expect) in [
            ("app", ".", "app ."),
            ("app", "./cmd/...", "app ./cmd/..."),
            ("app", "cmd/x", "app ./cmd/x"),
            ("app", "cmd/...", "app ./cmd/..."),
            ("app", "cmd/nothing", "app cmd/nothing"),
            ("app", "ko://example.com/app/cmd/x", "app example.com/app/cmd/x"),
            ("app", "ko://./cmd/x", "app ./cmd/x"),
            ("app/cmd", "..", "app/cmd .."),
            ("app", "../other/y", "other ./y"),
            ("app", "../other", "other ."),
            ("app", "../other/...", "other ./..."),
            (".", "app/cmd/x", "app ./cmd/x"),
            (".", "./app/cmd/x/", "app ./cmd/x"),
            (".", "plain", " ./plain"),
            ("app", "../plain", "plain ."),
        ] {
            assert_eq!(place(from, pattern), expect, "{pattern} from {from}");
        }
        let absolute_pattern = dir.join("other/y");
        assert_eq!(place("app", absolute_pattern.to_str().unwrap()), "other ./y");

        fs_err::write(dir.join("go.work"), "go 1.24").unwrap();
        assert_eq!(place("app", "../other/y"), "app ../other/y");
    }

    #[test]
    fn a_file_is_not_a_package() {
        let base = tempfile::tempdir().unwrap();
        fs_err::write(base.path().join("main.go"), "package main").unwrap();
        let scope = Scope { dir: base.path(), workspaces: true };
        let error = scope.place("main.go").unwrap_err();
        assert!(error.to_string().ends_with("hint: name its folder: ."), "{error}");
    }
}
