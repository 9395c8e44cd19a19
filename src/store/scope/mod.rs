//! Whose caches a build uses.
//!
//! Some of what builds keep for each other is not found by its content: Go's build cache and modules,
//! the programs of Go packages, and results of steps that ran with such a cache. What a build writes
//! there comes out of the next one, so it belongs to a *scope*, and what is built cannot choose the
//! scope. The first of these that there is says it:
//!
//! 1. `--cache-scope NAME`, or `GONDOLA_CACHE_SCOPE`; there is no such key in any file;
//! 2. what the CI says of the repository and the ref, see [`CacheScope::of_ci`];
//! 3. a repository that is the context, and the ref that was asked for;
//! 4. the folder that is the context: its path as it was typed, its real path, device, inode and birth
//!    time. A folder that is made anew at the same path is another one. Both paths count, or a
//!    symbolic link among the files would choose another folder's scope;
//! 5. nothing: an archive, standard input, a folder of a file system that knows no birth times. Their
//!    caches last as long as the build.
//!
//! # What is defended against what
//!
//! The adversary writes everything that is built: sources, Dockerfile, `gondola.yaml`, the images they
//! name. Code of theirs runs in steps, may write whatever it likes into the caches that it sees, and
//! may imitate the steps of others to leave a wrong result under the key of a right one. They must not
//! reach the build of another scope. They do not write the command line or the environment: whoever
//! does, such as an author of CI files that a runner executes, can do all that the user can.
//!
//! A ref that is not protected, a proposal (a pull or merge request) above all, is a scope of its own
//! that may look into the scope of the default branch, never the other way round.
//!
//! Names of scopes are hashes: no text from outside is ever part of a path.

mod ci;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::error::{Error, ErrorKind, Result};

/// How many digits a name has.
const DIGITS: usize = 32;

/// Whose caches a build uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheScope {
    /// `None` is a scope that ends with the build.
    own: Option<ScopeName>,
    /// Stands for what results of a build are the same as before, where it has no scope to be kept in.
    content: Option<ScopeName>,
    /// Scopes that may be read, the best first.
    below: Vec<ScopeName>,
    /// Whether somebody asks for a change to be taken, who need not be known.
    is_proposal: bool,
    /// What it is, for people.
    shown: String,
}

/// The name of a scope: a word of hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopeName(String);

impl ScopeName {
    /// Hashes what a scope is. No part may hold a NUL, which nothing in an environment can.
    fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().to_hex()[..DIGITS].to_owned())
    }

    fn of_texts(parts: &[&str]) -> Self {
        Self::of(parts.iter().map(|part| part.as_bytes()))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ScopeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl CacheScope {
    fn own(own: ScopeName, shown: impl Into<String>) -> Self {
        Self { own: Some(own), shown: shown.into(), ..Self::of_this_build() }
    }

    /// The scope of a name that somebody typed or set in the environment.
    pub fn named(name: &str) -> Result<Self> {
        if name.trim().is_empty() {
            return Err(Error::new(ErrorKind::Usage, "use a cache scope")
                .because("its name is empty")
                .hint("leave it away for that of the context, or use --no-shared-caches"));
        }
        Ok(Self::own(ScopeName::of_texts(&["name", name]), format!("the scope {name}")))
    }

    /// What the variables of a CI say; `None` where there is no CI that is known.
    ///
    /// A CI that names no repository or no ref has caches that end with the build: its workspaces are
    /// used again for whatever comes next.
    pub fn of_ci(variables: &BTreeMap<String, String>) -> Option<Self> {
        ci::scope(variables)
    }

    /// A ref of a repository. What is asked for without a ref is the default branch; any other ref may
    /// be somebody's proposal.
    pub fn of_repository(remote: &str, reference: Option<&str>) -> Self {
        let default = ScopeName::of_texts(&["git", remote]);
        match reference {
            None => Self::own(default, remote),
            Some(reference) => {
                let own = ScopeName::of_texts(&["git", remote, reference]);
                Self { below: vec![default], ..Self::own(own, format!("{remote}#{reference}")) }
            }
        }
    }

    /// The folder at a path, which is absolute and as it was typed.
    pub fn of_folder(folder: &Path) -> Self {
        Self::of_born_folder(folder).unwrap_or_else(Self::of_this_build)
    }

    fn of_born_folder(folder: &Path) -> Option<Self> {
        let real = fs_err::canonicalize(folder).ok()?;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let found = rustix::fs::statx(CWD, &real, AtFlags::empty(), wanted).ok()?;
        let born = found.stx_btime;
        // Without it, a folder cannot be told from one that was there before.
        if found.stx_mask & StatxFlags::BTIME.bits() == 0 || (born.tv_sec, born.tv_nsec) == (0, 0) {
            return None;
        }
        let identity = format!(
            "{}:{} {} {}.{}",
            found.stx_dev_major, found.stx_dev_minor, found.stx_ino, born.tv_sec, born.tv_nsec
        );
        let typed = lexical(folder);
        let paths = [typed.as_os_str(), real.as_os_str()].map(std::ffi::OsStr::as_encoded_bytes);
        let name = ScopeName::of([b"folder", paths[0], paths[1], identity.as_bytes()]);
        Some(Self::own(name, real.display().to_string()))
    }

    /// A scope that ends with the build.
    pub fn of_this_build() -> Self {
        let shown = "this build".to_owned();
        Self { own: None, content: None, below: Vec::new(), is_proposal: false, shown }
    }

    /// A scope that ends with the build of something that is whole: equal `parts` are equal in all that
    /// a step can see. So results may be kept for another build of the very same.
    pub fn of_content<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let content = ScopeName::of([&b"content"[..]].into_iter().chain(parts));
        Self { content: Some(content), ..Self::of_this_build() }
    }

    /// The name, unless the scope ends with the build.
    pub fn name(&self) -> Option<&ScopeName> {
        self.own.as_ref()
    }

    /// What it is, for people: a folder, a repository and a ref, or a name.
    pub fn display(&self) -> &str {
        &self.shown
    }

    /// The scopes whose caches may be read, the best first.
    pub fn below(&self) -> &[ScopeName] {
        &self.below
    }

    /// Where results of steps that ran with a cache are kept, where they are.
    pub fn of_results(&self) -> Option<&ScopeName> {
        self.own.as_ref().or(self.content.as_ref())
    }

    /// Whether results of steps that ran with a cache may be given to other machines.
    pub fn gives_results_away(&self) -> bool {
        self.of_results().is_some() && !self.is_proposal
    }
}

/// A path without `.` and `..`, by its letters alone.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_whatever_they_are_made_of() {
        for name in ["a", "../../x", "/etc", "a\nb", "ü", &"x".repeat(10_000)] {
            let scope = CacheScope::named(name).unwrap();
            let word = scope.name().unwrap().as_str();
            assert_eq!(word.len(), DIGITS);
            assert!(word.bytes().all(|b| b.is_ascii_hexdigit()), "{word}");
            assert!(scope.below().is_empty() && scope.gives_results_away());
        }
        assert_ne!(CacheScope::named("a").unwrap(), CacheScope::named("b").unwrap());
        for empty in ["", " "] {
            assert_eq!(CacheScope::named(empty).unwrap_err().kind(), ErrorKind::Usage);
        }
        // Parts do not run into each other.
        assert_ne!(ScopeName::of_texts(&["ab", "c"]), ScopeName::of_texts(&["a", "bc"]));
    }

    #[test]
    fn a_ref_of_a_repository_reads_the_default_branch_and_nothing_reads_the_ref() {
        let main = CacheScope::of_repository("https://h/a.git", None);
        let topic = CacheScope::of_repository("https://h/a.git", Some("topic"));
        assert_eq!(topic.below(), [main.name().unwrap().clone()]);
        assert!(main.below().is_empty());
        assert_ne!(topic.name(), main.name());
        assert_ne!(topic, CacheScope::of_repository("https://h/a.git", Some("other")));
        assert_ne!(main, CacheScope::of_repository("https://h/b.git", None));
    }

    #[test]
    fn a_folder_is_the_same_as_long_as_it_is_there() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("project");
        fs_err::create_dir(&folder).unwrap();
        let first = CacheScope::of_folder(&folder);
        if first.name().is_none() {
            // The file system knows no birth times.
            return;
        }
        fs_err::create_dir(folder.join("sub")).unwrap();
        fs_err::write(folder.join("file"), "x").unwrap();
        for same in [folder.join("."), folder.join("sub/..")] {
            assert_eq!(CacheScope::of_folder(&same), first, "{}", same.display());
        }
        assert_ne!(CacheScope::of_folder(&folder.join("sub")), first);
        // A link among somebody's files does not lead into the scope of what it names.
        let link = outer.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert_ne!(CacheScope::of_folder(&link), first);
        fs_err::rename(&folder, outer.path().join("old")).unwrap();
        fs_err::create_dir(&folder).unwrap();
        assert_ne!(CacheScope::of_folder(&folder), first);
        let absent = CacheScope::of_folder(&outer.path().join("absent"));
        assert_eq!(absent, CacheScope::of_this_build());
    }

    #[test]
    fn a_scope_that_ends_keeps_results_of_the_very_same_alone() {
        let scope = |text: &[u8]| CacheScope::of_content([text]);
        assert_eq!(scope(b"a").name(), None);
        assert_eq!(scope(b"a").of_results(), scope(b"a").of_results());
        assert_ne!(scope(b"a").of_results(), scope(b"b").of_results());
        let build = CacheScope::of_this_build();
        assert!(build.of_results().is_none() && !build.gives_results_away());
    }
}
