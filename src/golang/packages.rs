//! Which main packages a command line means.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::oci::Platform;

use super::Builder;
use super::command::Output;
use super::documents;
use super::name::program_name;
use super::presence::{conditional, program_files, unnamed_sources};
use super::scope::{Scope, absolute, is_wildcard};

/// A main package of some module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its import path.
    pub import_path: String,
    /// The folder of its sources.
    pub folder: PathBuf,
    /// The folder that `go` is started in to build it.
    pub workdir: PathBuf,
    /// Its module's path, if it has one.
    pub module: Option<String>,
    /// Its files, where it is known by them alone: it is in no module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl Package {
    /// The base name that `go build` gives the program, without the `.exe` of Windows.
    pub fn program_name(&self) -> &str {
        program_name(&self.import_path)
    }

    /// What names it to the go command.
    pub(super) fn arguments(&self) -> &[String] {
        if self.files.is_empty() { std::slice::from_ref(&self.import_path) } else { &self.files }
    }
}

/// Patterns that `go` is to expand in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub workdir: PathBuf,
    pub patterns: Vec<String>,
}

/// What `go list` says of a package.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    import_path: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dir: PathBuf,
    #[serde(default, rename = "Match")]
    matches: Vec<String>,
    module: Option<ListedModule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedModule {
    path: String,
}

impl Builder {
    /// Finds the main packages that `patterns` mean in the folder `dir`, an absolute path.
    ///
    /// A pattern is an import path, a folder, or either of them with `...`; `ko://` before it
    /// means nothing. No pattern at all means the folder itself. A pattern with `...` passes over
    /// packages that are no programs; naming one by itself is an error. A folder may lie in
    /// another module than `dir`.
    pub async fn list(
        &self,
        dir: &Path,
        patterns: &[String],
        platform: &Platform,
    ) -> Result<Vec<Package>> {
        self.flags.validate()?;
        let questions = self.questions(dir, patterns)?;
        let asked = questions.iter().map(|question| self.ask(question, platform));
        let mut packages = Vec::new();
        let mut seen = BTreeSet::new();
        for found in futures_util::future::try_join_all(asked).await? {
            let new = |package: &Package| seen.insert(package.folder.clone());
            packages.extend(found.into_iter().filter(new));
        }
        if packages.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, find_action(patterns))
                .because(format!("no main package matches in {}", dir.display()))
                .hint("an image needs a program: a package whose files begin with package main"));
        }
        Ok(packages)
    }

    /// Sorts patterns by the folders in which `go` can answer them.
    pub(super) fn questions(&self, dir: &Path, patterns: &[String]) -> Result<Vec<Question>> {
        let here = [".".to_owned()];
        let patterns = if patterns.is_empty() { &here } else { patterns };
        let workspace = self.variable("GOWORK");
        let scope = Scope { dir, workspaces: workspace.is_none() };
        let mut questions: Vec<Question> = Vec::new();
        for pattern in patterns {
            let (workdir, pattern) = scope.place(pattern)?;
            documents::check(&workdir, workspace)?;
            let module = scope.module_of(&workdir);
            documents::check_sources(&module.clone().unwrap_or(workdir.clone()))?;
            if module.is_none()
                && let Some(lone) = lone(&workdir, &pattern)?
            {
                questions.push(lone);
                continue;
            }
            match questions.iter_mut().find(|question| question.workdir == workdir) {
                Some(question) => question.patterns.push(pattern),
                None => questions.push(Question { workdir, patterns: vec![pattern] }),
            }
        }
        Ok(questions)
    }

    async fn ask(&self, question: &Question, platform: &Platform) -> Result<Vec<Package>> {
        let mut arguments = vec!["list".to_owned(), "-find".to_owned()];
        arguments.push("-json=ImportPath,Name,Dir,Match,Module".to_owned());
        arguments.extend(self.flags.arguments());
        arguments.push("--".to_owned());
        arguments.extend(question.patterns.iter().cloned());
        let Output { success, stdout, stderr } =
            self.go(&question.workdir, &arguments, platform).await?;
        if !success {
            return Err(explain(find_action(&question.patterns), &stderr));
        }
        let mut packages = Vec::new();
        for listed in parse::<Listed>(&stdout)? {
            if listed.import_path == OF_FILES && listed.name == "main" {
                self.note_unnamed(&question.workdir);
                let name = question.workdir.file_name().map(|name| name.to_string_lossy());
                packages.push(Package {
                    import_path: name.map_or_else(|| "app".to_owned(), Cow::into_owned),
                    folder: question.workdir.clone(),
                    workdir: question.workdir.clone(),
                    module: None,
                    files: question.patterns.clone(),
                });
            } else if listed.name == "main" {
                packages.push(Package {
                    import_path: listed.import_path,
                    folder: listed.dir,
                    workdir: question.workdir.clone(),
                    module: listed.module.map(|module| module.path),
                    files: Vec::new(),
                });
            } else if listed.matches.iter().any(|pattern| !is_wildcard(pattern)) {
                return Err(not_main(&listed));
            }
        }
        Ok(packages)
    }
}

impl Builder {
    /// Says which files of a folder that is in no module are no part of its program.
    fn note_unnamed(&self, folder: &Path) {
        let unnamed = unnamed_sources(folder);
        if !unnamed.is_empty() {
            let verb = if unnamed.len() == 1 { "is" } else { "are" };
            self.reporter.warn(format!(
                "{} of {} {verb} not compiled: without a go.mod the Go files alone are the program, as for \"go run\"",
                unnamed.join(", "),
                folder.display(),
            ));
        }
    }
}

/// What the go command calls a package that is known by its files.
const OF_FILES: &str = "command-line-arguments";

/// The program in a folder that is in no module: Go builds that of its files, as `go run main.go` does.
/// Files that are named are all compiled, whatever their constraints say; with several that would not be
/// the program that a module has.
fn lone(workdir: &Path, pattern: &str) -> Result<Option<Question>> {
    let is_folder = matches!(pattern, "." | "..")
        || ["./", "../", "/"].iter().any(|begin| pattern.starts_with(begin));
    if !is_folder || is_wildcard(pattern) {
        return Ok(None);
    }
    let workdir = absolute(workdir, pattern);
    let patterns = program_files(&workdir);
    if patterns.len() > 1
        && let Some(file) = conditional(&workdir, &patterns)
    {
        return Err(Error::new(ErrorKind::Usage, format!("build the Go files of {}", workdir.display()))
            .because(format!(
                "{file} is for some builds alone, and without a go.mod all files of a folder are compiled"
            ))
            .hint("start a module with \"go mod init NAME\", or take the file out of the folder"));
    }
    Ok((!patterns.is_empty()).then_some(Question { workdir, patterns }))
}

/// Reads the JSON documents that `go list` prints one after another.
pub(super) fn parse<T: for<'a> Deserialize<'a>>(stdout: &[u8]) -> Result<Vec<T>> {
    let documents = serde_json::Deserializer::from_slice(stdout).into_iter();
    documents.collect::<std::result::Result<_, _>>().map_err(|error| {
        Error::new(ErrorKind::Invalid, "read the answer of \"go list\"").caused_by(error)
    })
}

fn not_main(listed: &Listed) -> Error {
    Error::new(ErrorKind::Usage, format!("build {}", listed.import_path))
        .because(format!("{} is not a main package but a library", listed.import_path))
        .hint("name a package that has func main, or \"./...\" for all of them")
}

fn find_action(patterns: &[String]) -> String {
    match patterns {
        [] => "find the Go package .".to_owned(),
        [pattern] => format!("find the Go package {pattern}"),
        _ => format!("find the Go packages {}", patterns.join(" ")),
    }
}

/// An error in the words of the go command, with the next move where it is plain.
pub(super) fn explain(action: String, said: &str) -> Error {
    let not_found = ["is not in std", "directory not found", "no required module provides package"];
    let unknown = not_found.iter().any(|text| said.contains(text));
    let kind = if unknown { ErrorKind::NotFound } else { ErrorKind::Program };
    let error = Error::new(kind, action).because(said.trim());
    match HINTS.iter().find(|(text, _)| said.contains(text)) {
        Some((_, hint)) => error.hint(*hint),
        None => error,
    }
}

/// Where the go command says what is wrong, but not what to do.
const HINTS: [(&str, &str); 16] = [
    (
        "relative import paths are not supported",
        "start a module with \"go mod init NAME\", and import NAME/FOLDER",
    ),
    ("go.mod file not found", "start a module with \"go mod init NAME\", or name a folder of one"),
    ("is not in std", "write a folder as ./folder, or check the import path"),
    ("directory not found", "check the folder's name"),
    ("does not contain main module", "name a folder that has a go.mod"),
    ("errors parsing go.", "correct the file; \"go mod edit -fmt\" checks it"),
    (
        "GOTOOLCHAIN=local",
        "take it from an image (--go golang:VERSION), install it, or set GOTOOLCHAIN=auto",
    ),
    ("C compiler \"", "cgo needs a C compiler: install one, or name an image that has it by --go"),
    ("no Go files in", "name a folder with Go files, or \"./...\" for all below it"),
    (
        "build constraints exclude all Go files",
        "the package is not for this platform, or it needs C code (CGO_ENABLED=1)",
    ),
    ("terminal prompts disabled", PRIVATE_MODULES),
    ("Permission denied (publickey", PRIVATE_MODULES),
    ("sum.golang.org/lookup", PRIVATE_MODULES),
    ("dial tcp", "modules come over the network: check the connection, GOPROXY and the proxies"),
    ("no space left on device", "free some space, or set GOCACHE, GOMODCACHE and TMPDIR elsewhere"),
    ("build cache", "set HOME or GOCACHE to a folder that can be written to"),
];

/// The next move for a module that is not public.
const PRIVATE_MODULES: &str =
    "for private modules set GOPRIVATE, and give git or ~/.netrc the credentials";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_go_are_kept_and_a_hint_is_added() {
        let said = "go: go.mod file not found in current directory or any parent directory; \
                    see 'go help modules'";
        let error = explain("find the Go package .".to_owned(), said).to_string();
        assert!(error.contains(said) && error.contains("go mod init"), "{error}");
        assert_eq!(explain(String::new(), "x is not in std").kind(), ErrorKind::NotFound);
        let said = "fatal: could not read Username for 'https://x': terminal prompts disabled";
        assert!(explain(String::new(), said).to_string().contains("GOPRIVATE"));
        assert_eq!(explain(String::new(), "?").to_string(), "cannot : ?");
    }
}
