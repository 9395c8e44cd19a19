//! Which Go a build needs: the `go` and `toolchain` lines of `go.mod` and `go.work`.

use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::Result;

use super::documents::{self, LARGEST};
use super::modfile::directives;
use super::scope::Scope;
use super::version::Version;

/// The modules or workspaces that packages belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// The folder beside whose `go.mod` or `go.work` settings of the build are kept.
    pub folder: PathBuf,
    /// What they need of Go, if they say it.
    pub requirement: Option<Requirement>,
}

/// The newest Go that a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The version.
    pub version: Version,
    /// The name of the file.
    pub file: &'static str,
}

impl Modules {
    /// Finds the modules of the packages that `patterns` mean in the folder `dir`, an absolute
    /// path. `workspace` is `GOWORK`.
    pub fn of(dir: &Path, patterns: &[String], workspace: Option<&str>) -> Result<Self> {
        let scope = Scope { dir, workspaces: workspace.is_none() };
        let here = [".".to_owned()];
        let patterns = if patterns.is_empty() { &here[..] } else { patterns };
        let mut folders: Vec<PathBuf> = Vec::new();
        for pattern in patterns {
            let (workdir, _) = scope.place(pattern)?;
            documents::check(&workdir, workspace)?;
            let folder = scope.module_of(&workdir).unwrap_or(workdir);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for folder in &folders {
            files.extend([folder.join("go.work"), folder.join("go.mod")]);
        }
        files.extend(workspace.filter(|file| *file != "off").map(PathBuf::from));
        let needs = files.iter().filter_map(|file| requirement(file));
        let requirement = needs.max_by(|a, b| a.version.cmp(&b.version));
        let folder = match &folders[..] {
            [one] => one.clone(),
            _ => dir.to_owned(),
        };
        Ok(Self { folder, requirement })
    }
}

impl Requirement {
    /// Whether a version such as `go1.26.4` will do. One that is no release's is the user's own.
    pub fn is_met_by(&self, version: &str) -> bool {
        Version::parse(version).is_none_or(|version| version >= self.version)
    }
}

fn requirement(file: &Path) -> Option<Requirement> {
    let is_workspace = file.extension().is_some_and(|end| end == "work");
    let name = if is_workspace { "go.work" } else { "go.mod" };
    // Whatever is wrong with the text, the go command says it better.
    let text = disk::read_text(file, LARGEST).ok()?;
    let version = needed(&text)?;
    Some(Requirement { version, file: name })
}

/// The newest version among the lines `go 1.26` and `toolchain go1.26.4`.
fn needed(text: &str) -> Option<Version> {
    let versions = directives(text).into_iter().filter_map(|words| match &words[..] {
        [verb, version, ..] if verb == "go" || verb == "toolchain" => Version::parse(version),
        _ => None,
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_counts() {
        for (text, expect) in [
            ("module m\n\ngo 1.24 // why\n", Some("1.24")),
            ("module m\ngo 1.24.0\ntoolchain go1.26.1\n", Some("1.26.1")),
            ("module m\ngo 1.24\ntoolchain default\n", Some("1.24")),
            ("module m\ngo 1.26.2\ntoolchain go1.25.0-acme\n", Some("1.26.2")),
            ("module m\nrequire go 1.30\n", None),
            ("module m\n", None),
        ] {
            assert_eq!(needed(text).map(|v| v.to_string()).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn modules_of_all_patterns_count_and_name_their_folder() {
        let base = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = base.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        write("a/go.mod", "module a\ngo 1.22\n");
        write("a/cmd/x/main.go", "");
        write("b/go.mod", "module b\ngo 1.25.3\n");
        let of = |dir: &str, patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
            let found = Modules::of(&base.path().join(dir), &patterns, None).unwrap();
            let folder = found.folder.strip_prefix(base.path()).unwrap().display().to_string();
            let needed = found.requirement.map(|r| format!("{} {}", r.file, r.version));
            (folder, needed.unwrap_or_default())
        };
        let is = |folder: &str, needed: &str| (folder.to_owned(), needed.to_owned());
        assert_eq!(of("a/cmd/x", &[]), is("a", "go.mod 1.22"));
        assert_eq!(of("", &["./a/cmd/x"]), is("a", "go.mod 1.22"));
        assert_eq!(of("", &["./a", "./b"]), is("", "go.mod 1.25.3"));
        assert_eq!(of("", &["./nothing"]), is("", ""));
        write("go.work", "go 1.26\nuse ./a\n");
        assert_eq!(of("a", &[]), is("", "go.work 1.26"));
    }

    #[test]
    fn a_toolchain_of_ones_own_meets_everything() {
        let requirement =
            Requirement { version: Version::parse("1.26.1").unwrap(), file: "go.mod" };
        for (version, expect) in
            [("go1.26.1", true), ("go1.27rc1", true), ("go1.26.0", false), ("devel go1.20-x", true)]
        {
            assert_eq!(requirement.is_met_by(version), expect, "{version}");
        }
    }
}
