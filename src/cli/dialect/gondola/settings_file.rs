//! Where `gondola.yaml` is looked for: the one place that says it, for whoever chooses a front end and for
//! whoever reads the settings.
//!
//! ```text
//!   --config FILE              that file
//!   one word, a folder         the file in it
//!   otherwise                  the file in the folder where the command line is typed
//! ```
//! What is first in this list counts alone. Paths in a file are relative to its folder; but in one that
//! `--config` names only what is put into the image is, and the rest to where the command line is typed.

use std::path::{Path, PathBuf};

use super::BuildArgs;
use crate::cli::flags::context;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};

/// The name of the file that is found without being named.
pub(super) const NAME: &str = "gondola.yaml";

/// A file with settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SettingsFile {
    /// The file, as people write it.
    pub shown: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its folder, relative to the one where the command line is typed, as people write it; empty for that
    /// one itself.
    pub beside: PathBuf,
    /// Whether `--config` names it.
    pub is_named: bool,
}

/// The file that holds for a command line that is typed in `here`, if there is one.
pub(super) fn of(args: &BuildArgs, here: &Path) -> Option<SettingsFile> {
    if let Some(file) = &args.config {
        let beside = file.parent().unwrap_or(Path::new("")).to_owned();
        let (shown, path) = (file.display().to_string(), here.join(file));
        return Some(SettingsFile { shown, path, beside, is_named: true });
    }
    let own = match args.packages.as_slice() {
        [word] if !context::is_remote(word) => in_folder(word, here),
        _ => None,
    };
    own.or_else(|| found_here(here))
}

/// The file in a folder that is built.
pub(super) fn in_folder(word: &str, here: &Path) -> Option<SettingsFile> {
    // The folder here has no name that has to be said.
    let is_here = Path::new(word).components().all(|part| part == std::path::Component::CurDir);
    if is_here {
        return found_here(here);
    }
    let (path, beside) = (here.join(word).join(NAME), PathBuf::from(word));
    let shown = format!("{}/{NAME}", word.trim_end_matches('/'));
    is_there(&path).then_some(SettingsFile { shown, path, beside, is_named: false })
}

/// The file in the folder where the command line is typed.
pub(super) fn found_here(here: &Path) -> Option<SettingsFile> {
    let path = here.join(NAME);
    let (shown, beside) = (NAME.to_owned(), PathBuf::new());
    is_there(&path).then_some(SettingsFile { shown, path, beside, is_named: false })
}

/// Whether something has the name: what is no file, or a link to none, is not passed over.
fn is_there(path: &Path) -> bool {
    fs_err::symlink_metadata(path).is_ok()
}

impl SettingsFile {
    /// Refuses a link that leads to no file, by its name.
    pub fn check(&self) -> Result<()> {
        let is_lost = is_there(&self.path)
            && fs_err::metadata(&self.path).is_err_and(|error| disk::is_absence(&error));
        if !is_lost {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("read {}", self.shown))
            .because("it is a link that leads to no file")
            .hint("remove it, or let it lead to one"))
    }

    /// Whether a word in the file is a path: one that begins with a dot, or that is there.
    pub fn is_path(&self, word: &str) -> bool {
        word.starts_with('.') || self.path.parent().is_some_and(|folder| folder.join(word).exists())
    }

    /// A path that stands in the file, from where the command line is typed.
    pub fn resolve(&self, path: &str) -> String {
        if path.starts_with('/') || self.beside.as_os_str().is_empty() {
            return path.to_owned();
        }
        let whole = self.beside.join(path).display().to_string();
        // Without the dot in front it could be an import path.
        if path.starts_with('.') && !whole.starts_with(['.', '/']) {
            format!("./{whole}")
        } else {
            whole
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_that_is_built_goes_before_the_one_here() {
        let all = tempfile::tempdir().unwrap();
        for folder in ["a", "b"] {
            fs_err::create_dir(all.path().join(folder)).unwrap();
        }
        fs_err::write(all.path().join("a").join(NAME), "").unwrap();
        let found = |words: &[&str], config: Option<&str>| {
            let args = BuildArgs {
                packages: words.iter().map(|word| (*word).to_owned()).collect(),
                config: config.map(PathBuf::from),
                ..BuildArgs::default()
            };
            of(&args, all.path()).map(|file| file.shown)
        };
        assert_eq!(found(&["a"], None).as_deref(), Some("a/gondola.yaml"));
        assert_eq!(found(&["./a/"], None).as_deref(), Some("./a/gondola.yaml"));
        for words in [&["b"][..], &["."], &[], &["a", "b"], &["./a/..."]] {
            assert_eq!(found(words, None), None, "{words:?}");
        }
        fs_err::write(all.path().join(NAME), "").unwrap();
        assert_eq!(found(&["a"], None).as_deref(), Some("a/gondola.yaml"));
        for words in [&["b"][..], &["."], &["./"], &[], &["a", "b"], &["./a/..."]] {
            assert_eq!(found(words, None).as_deref(), Some(NAME), "{words:?}");
        }
        assert_eq!(found(&["a"], Some("b/x.yaml")).as_deref(), Some("b/x.yaml"));
    }

    #[test]
    fn paths_in_a_file_are_relative_to_its_folder() {
        let file = |beside: &str| SettingsFile {
            shown: String::new(),
            path: PathBuf::new(),
            beside: PathBuf::from(beside),
            is_named: false,
        };
        for (beside, path, expected) in [
            ("", "web", "web"),
            ("", "./go", "./go"),
            ("a", "web", "a/web"),
            ("a", "./go", "./a/./go"),
            ("../a", "../go", "../a/../go"),
            ("/x/a", "./go", "/x/a/./go"),
            ("a", "/etc/x", "/etc/x"),
        ] {
            assert_eq!(file(beside).resolve(path), expected);
        }
    }
}
