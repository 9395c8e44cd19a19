//! Which front end a command line of `gondola build` means.
//!
//! ```text
//!   flags of one kind alone        that kind
//!   -, a repository, an address    the Dockerfile in it
//!   several words, patterns        Go packages
//!   a folder with gondola.yaml     the package
//!   a folder with a Dockerfile     the Dockerfile
//!   any other folder               the package
//!   no word at all                 the package here; without one, the Dockerfile here
//! ```
//! Where both were possible one line says which was taken, and how to ask for the other.

use std::path::{Path, PathBuf};

use super::packages::DEFAULT_FILE;
use super::{BuildArgs, FLAGS, FRONT_ENDS, dockerfile};
use crate::cli::flags::context;
use crate::cli::flags::table::{self, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::error::{Error, ErrorKind, Result};
use crate::golang;

/// Flags that name programs which need not be in the folder itself.
const NAME_PROGRAMS: [&str; 3] = ["package", "bin", "config"];

/// Which front end is meant.
#[derive(Debug)]
pub struct Choice {
    /// The front end.
    pub front_end: FrontEnd,
    /// One line for whoever may have meant the other one.
    pub note: Option<String>,
    /// Whether a Go program lies beside the Dockerfile that is built.
    pub has_program: bool,
}

impl Choice {
    fn plain(front_end: FrontEnd) -> Self {
        Self { front_end, note: None, has_program: false }
    }

    fn dockerfile(place: &Place) -> Self {
        Self { has_program: place.has_program(), ..Self::plain(FrontEnd::Dockerfile) }
    }

    fn noted(self, note: String) -> Self {
        Self { note: Some(note), ..self }
    }

    /// What is said of a Dockerfile that cannot be built here, where the program beside it can.
    pub fn explain(&self, error: Error) -> Error {
        if !self.has_program || error.kind() != ErrorKind::Unsupported {
            return error;
        }
        let instead =
            "--package builds the Go program beside the Dockerfile, which needs no sandbox";
        let Some(hint) = error.next_move().map(str::to_owned) else { return error.hint(instead) };
        let message = error.message();
        let action = message.strip_prefix("cannot ").unwrap_or(&message);
        Error::new(error.kind(), action).hint(format!("{hint}; or: {instead}"))
    }
}

/// The front end that is meant, of a command line that is typed in `folder`.
pub fn choose(build: &Noted<BuildArgs>, folder: &Path) -> Result<Choice> {
    let left = table::meant(&FLAGS, &build.typed, &FRONT_ENDS)?;
    let args = &build.args;
    if !args.prebuilt.is_empty() && left.contains(&FrontEnd::Prebuilt) {
        return Ok(Choice::plain(FrontEnd::Prebuilt));
    }
    let place = Place::of(&args.packages, folder);
    let can_be = |front_end| left.contains(&front_end);
    Ok(match (can_be(FrontEnd::Packages), can_be(FrontEnd::Dockerfile), place) {
        (true, true, place) => by_place(&place, args.packages.is_empty()),
        // Flags of packages do not make a program of a Dockerfile: they are refused, with the reason.
        (true, false, place)
            if place.is_dockerfile_alone()
                && !NAME_PROGRAMS.iter().any(|flag| build.typed.asks_for(flag)) =>
        {
            Choice::plain(FrontEnd::Dockerfile)
        }
        (true, false, _) => Choice::plain(FrontEnd::Packages),
        (false, _, place) => Choice::dockerfile(&place),
    })
}

/// What the place says where no flag does.
fn by_place(place: &Place, nothing_named: bool) -> Choice {
    let Place::Folder { word, folder, .. } = place else {
        return Choice::plain(match place {
            Place::Context => FrontEnd::Dockerfile,
            _ => FrontEnd::Packages,
        });
    };
    let Some(file) = usual_file(folder) else { return Choice::plain(FrontEnd::Packages) };
    let package = |why: &str| {
        let note = format!("{why}; -f {} builds the {file}", folder_and(word, file));
        Choice::plain(FrontEnd::Packages).noted(note)
    };
    if place.has_settings() {
        return package(&format!("{DEFAULT_FILE} says how the Go program of {word} is built"));
    }
    match (place.has_program(), nothing_named) {
        (false, _) => Choice::plain(FrontEnd::Dockerfile),
        (true, true) => package("the Go program here is built"),
        (true, false) => Choice::dockerfile(place)
            .noted(format!("{word} is built by its {file}; --package builds its Go program")),
    }
}

/// The Dockerfile of a folder, as people write it.
fn folder_and(word: &str, file: &str) -> String {
    match word {
        "." => file.to_owned(),
        _ => format!("{}/{file}", word.trim_end_matches('/')),
    }
}

/// The name of the Dockerfile that is found in a folder without being named.
fn usual_file(folder: &Path) -> Option<&'static str> {
    dockerfile::USUAL_NAMES.into_iter().find(|name| folder.join(name).is_file())
}

/// What the words without a flag name.
enum Place {
    /// A context that is no folder of this machine.
    Context,
    /// A folder.
    Folder {
        /// As it is written.
        word: String,
        folder: PathBuf,
        /// Where the command line is typed.
        here: PathBuf,
    },
    /// Import paths, patterns, or several packages.
    Packages,
}

impl Place {
    fn of(words: &[String], here: &Path) -> Self {
        let word = match words {
            [] => ".",
            [only] => only.as_str(),
            _ => return Self::Packages,
        };
        if context::is_remote(word) {
            return Self::Context;
        }
        let folder = here.join(word);
        if folder.is_dir() {
            return Self::Folder { word: word.to_owned(), folder, here: here.to_owned() };
        }
        let is_archive = folder.is_file() && folder.extension().is_none_or(|end| end != "go");
        if is_archive { Self::Context } else { Self::Packages }
    }

    fn has_program(&self) -> bool {
        matches!(self, Self::Folder { folder, .. } if golang::has_program(folder))
    }

    /// Whether a `gondola.yaml` is meant for the folder: it lies there, or here and a program there.
    fn has_settings(&self) -> bool {
        let Self::Folder { folder, here, .. } = self else { return false };
        let has_file = |folder: &Path| folder.join(DEFAULT_FILE).exists();
        has_file(folder) || has_file(here) && self.has_program()
    }

    /// Whether there is a Dockerfile and nothing of a Go program.
    fn is_dockerfile_alone(&self) -> bool {
        let Self::Folder { folder, .. } = self else { return false };
        usual_file(folder).is_some() && !self.has_settings() && !self.has_program()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dialect::tests::{Typed, typed};

    /// Folders with a Dockerfile (`d`), a Containerfile (`c`), a program (`p`), a `gondola.yaml` (`y`).
    fn folders() -> tempfile::TempDir {
        let all = tempfile::tempdir().unwrap();
        for name in ["d", "p", "c", "dp", "cp", "dpy", "dy", "py", "none"] {
            let folder = all.path().join(name);
            fs_err::create_dir(&folder).unwrap();
            for letter in name.chars().filter(|_| name != "none") {
                let (file, text) = match letter {
                    'd' => ("Dockerfile", "FROM scratch\n"),
                    'c' => ("Containerfile", "FROM scratch\n"),
                    'p' => ("main.go", "package main\n"),
                    _ => ("gondola.yaml", "base: scratch\n"),
                };
                fs_err::write(folder.join(file), text).unwrap();
            }
        }
        fs_err::write(all.path().join("c.tar"), "").unwrap();
        all
    }

    fn chosen(here: &Path, words: &[&str]) -> Result<Choice> {
        let Typed::Build(build) = typed("build", words).unwrap() else { unreachable!() };
        choose(&build, here)
    }

    #[test]
    fn the_place_says_which_front_end_is_meant_and_one_line_names_the_other() {
        use FrontEnd::{Dockerfile, Packages};
        let all = folders();
        let by = |folder: &str, file: &str| {
            Some(format!("{folder} is built by its {file}; --package builds its Go program"))
        };
        let here = "the Go program here is built; -f Dockerfile builds the Dockerfile".to_owned();
        let settings = |folder: &str, file: &str| {
            let says = format!("gondola.yaml says how the Go program of {folder} is built");
            Some(format!("{says}; -f {file} builds the Dockerfile"))
        };
        let cases: [(&str, &[&str], FrontEnd, Option<String>); 22] = [
            ("d", &[], Dockerfile, None),
            ("d", &["."], Dockerfile, None),
            ("p", &[], Packages, None),
            ("p", &["."], Packages, None),
            ("dp", &[], Packages, Some(here)),
            ("dp", &["."], Dockerfile, by(".", "Dockerfile")),
            ("dp", &["-t", "my-go-app", "."], Dockerfile, by(".", "Dockerfile")),
            ("cp", &["."], Dockerfile, by(".", "Containerfile")),
            ("", &["dp"], Dockerfile, by("dp", "Dockerfile")),
            ("", &["./dp/"], Dockerfile, by("./dp/", "Dockerfile")),
            ("", &["c"], Dockerfile, None),
            ("none", &[], Packages, None),
            ("none", &["."], Packages, None),
            ("dpy", &["."], Packages, settings(".", "Dockerfile")),
            ("dy", &["."], Packages, settings(".", "Dockerfile")),
            ("", &["dpy/"], Packages, settings("dpy/", "dpy/Dockerfile")),
            ("py", &["../dp"], Packages, settings("../dp", "../dp/Dockerfile")),
            ("py", &["../d"], Dockerfile, None),
            ("", &["dp", "p"], Packages, None),
            ("", &["./..."], Packages, None),
            ("", &["c.tar"], Dockerfile, None),
            ("", &["https://host.test/a.git"], Dockerfile, None),
        ];
        for (folder, words, front_end, note) in cases {
            let choice = chosen(&all.path().join(folder), words).unwrap();
            assert_eq!((choice.front_end, choice.note), (front_end, note), "{folder} {words:?}");
        }
    }

    #[test]
    fn flags_of_one_kind_decide_without_a_word() {
        use FrontEnd::{Dockerfile, Packages};
        let all = folders();
        let cases: [(&str, &[&str], FrontEnd); 15] = [
            ("dp", &["--package"], Packages),
            ("dp", &["--package", "."], Packages),
            ("dp", &["--package=false", "."], Dockerfile),
            ("d", &["--package", "."], Packages),
            ("", &["--package", "c.tar"], Packages),
            ("dp", &["-f", "Dockerfile"], Dockerfile),
            ("dpy", &["-f", "Dockerfile", "."], Dockerfile),
            ("dp", &["--check"], Dockerfile),
            ("dp", &["--target=x"], Dockerfile),
            ("dp", &["--ldflags=-s", "."], Packages),
            ("dp", &["--env=A=b", "."], Packages),
            ("dp", &["--bin=./cmd/x"], Packages),
            // Such a flag is refused there, with the reason.
            ("d", &["--env=A=b", "."], Dockerfile),
            ("d", &["--go=host", "."], Dockerfile),
            ("d", &["--bin=./cmd/x"], Packages),
        ];
        for (folder, words, front_end) in cases {
            let choice = chosen(&all.path().join(folder), words).unwrap();
            let note = choice.note.filter(|_| !words.contains(&"--package=false"));
            assert_eq!((choice.front_end, note), (front_end, None), "{folder} {words:?}");
        }
        for (words, said) in [
            (["--package", "-f=Dockerfile"], "cannot use --file with --package: "),
            (["--package", "--check"], "cannot use --check with --package: "),
            (["--package", "--prebuilt=x"], "cannot use --prebuilt with --package: "),
            (["--ldflags=-s", "--target=x"], "cannot use --target with --ldflags: "),
        ] {
            let error = chosen(&all.path().join("dp"), &words).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{words:?}");
            assert!(error.to_string().starts_with(said), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_built_here_names_the_way_to_the_program_beside_it() {
        let all = folders();
        let error = || Error::new(ErrorKind::Unsupported, "isolate a process here");
        let explained = |folder: &str, words: &[&str], error: Error| {
            chosen(&all.path().join(folder), words).unwrap().explain(error).to_string()
        };
        let said = explained("dp", &["."], error());
        assert!(said.starts_with("cannot isolate a process here; hint: --package "), "{said}");
        let said = explained("dp", &["-f", "Dockerfile"], error().hint("switch it on"));
        assert!(said.contains("; hint: switch it on; or: --package "), "{said}");
        for (folder, error) in [("d", error()), ("dp", Error::new(ErrorKind::Program, "run"))] {
            let said = explained(folder, &["."], error);
            assert!(!said.contains("--package"), "{said}");
        }
    }
}
