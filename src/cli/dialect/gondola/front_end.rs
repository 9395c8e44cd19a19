//! Which front end a command line of `gondola build` means.
//!
//! ```text
//!   flags of one kind alone        that kind
//!   -, a repository, an address    the Dockerfile in it
//!   several words, patterns        Go packages
//!   a folder with gondola.yaml     the package; what counts as its own says `settings_file`
//!   a folder with a Dockerfile     the Dockerfile
//!   any other folder               the package
//!   no word at all                 the package here; without one, the Dockerfile here
//! ```
//! Where both were possible one line says which was taken, and how to ask for the other; no line where the
//! other was ruled out by its name, with `--package`, `-f` and the like.

use std::path::{Path, PathBuf};

use super::settings_file::{self, SettingsFile};
use super::{BuildArgs, FRONT_ENDS, dockerfile};
use crate::cli::flags::context;
use crate::cli::flags::rows::FLAGS;
use crate::cli::flags::table::{self, Flag, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::disk;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::golang;
use crate::sandbox::{Isolation, Preference};

/// Flags that name programs which need not be in the folder itself.
const NAME_PROGRAMS: [&str; 3] = ["package", "bin", "config"];
/// Flags by which one of the two is asked for in so many words.
const ASK: [&str; 4] = ["package", "bin", "config", "file"];
/// The most that is read of a Dockerfile to see whether there is anything in it.
const LARGEST_FILE: u64 = 16 << 20;

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

    /// The Dockerfile of a folder, unless it is one that nobody could read.
    fn dockerfile(place: &Place) -> Result<Self> {
        let choice = Self { has_program: place.has_program(), ..Self::plain(FrontEnd::Dockerfile) };
        if let Place::Folder { folder, .. } = place
            && let Some(file) = usual_file(folder)
        {
            // Without the dots that were typed.
            let file = folder.join(file).components().collect::<PathBuf>();
            check_dockerfile(&file, choice.has_program)
                .map_err(|error| choice.with_way_out(error))?;
        }
        Ok(choice)
    }

    fn noted(self, note: String) -> Self {
        self.with_note(Some(note))
    }

    fn with_note(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }

    /// What is said of a Dockerfile that cannot be built here, in no sandbox or in the one that was asked
    /// for, where the program beside it can.
    pub fn explain(&self, error: Error, asked: Preference) -> Error {
        let is_of_sandbox = match error.kind() {
            ErrorKind::Unsupported => true,
            ErrorKind::Usage => asked == Preference::Only(Isolation::Toolchain),
            _ => false,
        };
        if is_of_sandbox { self.with_way_out(error) } else { error }
    }

    /// An error that names the way to the program beside the Dockerfile, if there is one.
    fn with_way_out(&self, error: Error) -> Error {
        if !self.has_program {
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
    if build.typed.turns_off("package") {
        return Err(Error::new(ErrorKind::Usage, "use --package=false")
            .because("without --package nothing asks for the Go program")
            .hint("leave it out; -f FILE asks for a Dockerfile"));
    }
    let args = &build.args;
    for (word, what) in [(&args.packages, "as CONTEXT|PACKAGE"), (&args.bin, "as --bin")] {
        if word.iter().any(String::is_empty) {
            return Err(Error::new(ErrorKind::Usage, format!("use \"\" {what}"))
                .because("it is empty")
                .hint("write . for the folder here"));
        }
    }
    let left = table::meant(&FLAGS, &build.typed, &FRONT_ENDS)?;
    if !args.prebuilt.is_empty() && left.contains(&FrontEnd::Prebuilt) {
        return Ok(Choice::plain(FrontEnd::Prebuilt));
    }
    let place = Place::of(&args.packages, folder);
    // Of a Dockerfile's context that is said later.
    if left.contains(&FrontEnd::Packages)
        && let Some(missing) = missing_folder(&args.packages, folder)
    {
        return Err(Error::new(ErrorKind::NotFound, format!("build {missing}"))
            .because("there is no such folder"));
    }
    let can_be = |front_end| left.contains(&front_end);
    let is_named = NAME_PROGRAMS.iter().any(|flag| build.typed.asks_for(flag));
    match (can_be(FrontEnd::Packages), can_be(FrontEnd::Dockerfile)) {
        (true, true) => by_place(&place, args.packages.is_empty()),
        // Flags of packages do not make a program of a Dockerfile: they are refused, with the reason.
        (true, false) if place.is_dockerfile_alone() && !is_named => Choice::dockerfile(&place),
        (true, false) => {
            if !is_named {
                place.expect_something()?;
            }
            let choice = Choice::plain(FrontEnd::Packages);
            Ok(choice.with_note(by_flag(build, &place, FrontEnd::Packages)))
        }
        (false, _) if args.dockerfile.file.is_some() => {
            let has_program = place.has_program();
            Ok(Choice { has_program, ..Choice::plain(FrontEnd::Dockerfile) })
        }
        (false, _) => {
            let choice = Choice::dockerfile(&place)?;
            Ok(choice.with_note(by_flag(build, &place, FrontEnd::Dockerfile)))
        }
    }
}

/// The one word that was typed, where it is the path of a folder that is not there.
fn missing_folder<'a>(words: &'a [String], here: &Path) -> Option<&'a str> {
    let [word] = words else { return None };
    let is_path = ["./", "../", "/"].iter().any(|begin| word.starts_with(begin));
    let is_one = is_path && !word.contains("...") && fs_err::metadata(here.join(word)).is_err();
    is_one.then_some(word.as_str())
}

/// What is said where a flag decided that does not name what it decides for.
fn by_flag(build: &Noted<BuildArgs>, place: &Place, taken: FrontEnd) -> Option<String> {
    let Place::Folder { word, folder, .. } = place else { return None };
    let file = usual_file(folder).filter(|_| place.has_program())?;
    if ASK.iter().any(|flag| build.typed.asks_for(flag)) {
        return None;
    }
    let other = match taken {
        FrontEnd::Dockerfile => FrontEnd::Packages,
        _ => FrontEnd::Dockerfile,
    };
    let decided = |flag: &&Flag| build.typed.asks_for(flag.name) && flag.is_refused(other);
    let flag = FLAGS.iter().find(decided)?.display_name();
    Some(match taken {
        FrontEnd::Dockerfile => format!(
            "{word} is built by its {file}, for {flag} is given; --package, without it, builds its Go program"
        ),
        _ => format!(
            "the Go program of {word} is built, for {flag} is given; -f {}, without it, builds the {file}",
            folder_and(word, file)
        ),
    })
}

/// What the place says where no flag does.
fn by_place(place: &Place, nothing_named: bool) -> Result<Choice> {
    let Place::Folder { word, folder, .. } = place else {
        return Ok(Choice::plain(match place {
            Place::Context => FrontEnd::Dockerfile,
            _ => FrontEnd::Packages,
        }));
    };
    let Some(file) = usual_file(folder) else {
        place.expect_something()?;
        return Ok(Choice::plain(FrontEnd::Packages));
    };
    let package = |why: &str| {
        let note = format!("{why}; -f {} builds the {file}", folder_and(word, file));
        Choice::plain(FrontEnd::Packages).noted(note)
    };
    if let Some(settings) = place.settings() {
        let says = format!("{} says how the Go program of {word} is built", settings.shown);
        return Ok(package(&says));
    }
    match (place.has_program(), nothing_named) {
        (false, _) => Choice::dockerfile(place),
        (true, true) => Ok(package("the Go program here is built")),
        (true, false) => Ok(Choice::dockerfile(place)?
            .noted(format!("{word} is built by its {file}; --package builds its Go program"))),
    }
}

/// The Dockerfile of a folder, as people write it.
fn folder_and(word: &str, file: &str) -> String {
    match word {
        "." => file.to_owned(),
        _ => format!("{}/{file}", word.trim_end_matches('/')),
    }
}

/// The name of the Dockerfile that is found in a folder without being named, whatever it is: what has the
/// name and is no file is not passed over.
fn usual_file(folder: &Path) -> Option<&'static str> {
    let is_there = |name: &&str| fs_err::symlink_metadata(folder.join(name)).is_ok();
    dockerfile::USUAL_NAMES.into_iter().find(is_there)
}

/// Refuses what has a Dockerfile's name and is no file; where a program lies beside it, also one that cannot
/// be read, or has nothing in it.
fn check_dockerfile(path: &Path, has_program: bool) -> Result<()> {
    let action = || format!("read the Dockerfile {}", path.display());
    let found = match fs_err::metadata(path) {
        Err(error) if disk::is_absence(&error) => {
            return Err(Error::new(ErrorKind::NotFound, action())
                .because("it is a link that leads to no file"));
        }
        found => found.cannot(action)?,
    };
    disk::expect_regular(&found, u64::MAX).cannot(action)?;
    if !has_program {
        return Ok(());
    }
    let text = disk::read(path, LARGEST_FILE).cannot(action)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim);
    if lines.all(|line| line.is_empty() || line.starts_with('#')) {
        return Err(Error::new(ErrorKind::Usage, action()).because("there is no instruction in it"));
    }
    Ok(())
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

    /// The `gondola.yaml` that is meant for the folder: it lies there, or here and a program there.
    fn settings(&self) -> Option<SettingsFile> {
        let Self::Folder { word, here, .. } = self else { return None };
        let here_for_it = || settings_file::found_here(here).filter(|_| self.has_program());
        settings_file::in_folder(word, here).or_else(here_for_it)
    }

    fn has_settings(&self) -> bool {
        self.settings().is_some()
    }

    /// Refuses a folder in which there is nothing to build.
    fn expect_something(&self) -> Result<()> {
        let Self::Folder { word, folder, .. } = self else { return Ok(()) };
        if usual_file(folder).is_some() || self.has_settings() || golang::has_sources(folder) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("build {word}"))
            .because("there is neither a Dockerfile nor a Go program in it")
            .hint("name a folder that has one; -f FILE names a Dockerfile of another name"))
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
        for name in ["d", "p", "c", "dp", "cp", "dpy", "dy", "py", "y", "none"] {
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
            let own = file.strip_suffix("Dockerfile").unwrap();
            // Of a folder elsewhere that has none, the one here is meant.
            let own = if folder == "../dp" { "" } else { own };
            let says = format!("{own}gondola.yaml says how the Go program of {folder} is built");
            Some(format!("{says}; -f {file} builds the Dockerfile"))
        };
        let cases: [(&str, &[&str], FrontEnd, Option<String>); 21] = [
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
            ("y", &[], Packages, None),
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
    fn a_link_named_gondola_yaml_that_leads_to_no_file_is_not_passed_over() {
        let all = folders();
        let link = all.path().join("dp/gondola.yaml");
        std::os::unix::fs::symlink("nowhere", link).unwrap();
        for (folder, word) in [("dp", "."), ("", "dp")] {
            let here = all.path().join(folder);
            let choice = chosen(&here, &[word]).unwrap();
            assert_eq!(choice.front_end, FrontEnd::Packages, "{folder}");
            let Typed::Build(build) = typed("build", &[word]).unwrap() else { unreachable!() };
            let file = settings_file::of(&build.args, &here).unwrap();
            let shown = if word == "." { "gondola.yaml" } else { "dp/gondola.yaml" };
            let expected =
                format!("cannot read {shown}: it is a link that leads to no file; hint: ");
            assert!(file.check().unwrap_err().to_string().starts_with(&expected));
        }
    }

    #[test]
    fn flags_of_one_kind_decide_and_a_word_is_said_unless_they_ask_by_name() {
        use FrontEnd::{Dockerfile, Packages};
        let all = folders();
        let cases: [(&str, &[&str], FrontEnd); 14] = [
            ("dp", &["--package"], Packages),
            ("dp", &["--package", "."], Packages),
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
            assert_eq!(choice.front_end, front_end, "{folder} {words:?}");
            let note = match words[0].split('=').next().unwrap() {
                flag @ ("--check" | "--target") => {
                    format!(
                        ". is built by its Dockerfile, for {flag} is given; --package, without it,"
                    )
                }
                flag @ ("--ldflags" | "--env") => format!(
                    "the Go program of . is built, for {flag} is given; -f Dockerfile, without it, builds"
                ),
                _ => String::new(),
            };
            match choice.note {
                Some(said) => assert!(!note.is_empty() && said.starts_with(&note), "{said}"),
                None => assert!(note.is_empty() || folder == "d", "{folder} {words:?}"),
            }
        }
        for (words, said) in [
            (["--package", "-f=Dockerfile"], "cannot use --package with --file: "),
            (["--package", "--check"], "cannot use --package with --check: "),
            (["--package", "--prebuilt=x"], "cannot use --prebuilt with --package: "),
            (["--ldflags=-s", "--target=x"], "cannot use --target with --ldflags: "),
        ] {
            let error = chosen(&all.path().join("dp"), &words).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{words:?}");
            assert!(error.to_string().starts_with(said), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_folder_with_nothing_to_build_says_what_was_looked_for() {
        let all = folders();
        for (folder, words) in [
            ("none", &[][..]),
            ("none", &["."]),
            ("", &["none"]),
            ("none", &["--ldflags=-s"]),
            ("py", &["../none"]),
        ] {
            let error = chosen(&all.path().join(folder), words).unwrap_err();
            let expected =
                "there is neither a Dockerfile nor a Go program in it; hint: name a folder";
            assert!(error.to_string().contains(expected), "{error}");
        }
        for (name, text) in [("go.mod", "module m\n"), ("a.go", "package a\n")] {
            let folder = tempfile::tempdir().unwrap();
            fs_err::write(folder.path().join(name), text).unwrap();
            assert_eq!(chosen(folder.path(), &["."]).unwrap().front_end, FrontEnd::Packages);
        }
        for word in ["./nowhere", "../nowhere/", "/nowhere/at/all"] {
            let error = chosen(&all.path().join("p"), &[word]).unwrap_err().to_string();
            assert_eq!(error, format!("cannot build {word}: there is no such folder"));
        }
        assert!(chosen(&all.path().join("p"), &["./nowhere/..."]).is_ok());
        let error = chosen(&all.path().join("dp"), &["--package=false", "."]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("-f FILE asks for a Dockerfile"), "{error}");
    }

    #[test]
    fn what_has_a_dockerfile_s_name_and_is_no_file_is_not_passed_over() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let fifo = |path: &Path| mkfifoat(CWD, path, Mode::RUSR).unwrap();
        for (number, why) in [
            "it is a folder, expected a file",
            "it is a named pipe, expected a file",
            "it is a link that leads to no file",
        ]
        .into_iter()
        .enumerate()
        {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("Dockerfile");
            match number {
                0 => fs_err::create_dir(&file).unwrap(),
                1 => fifo(&file),
                _ => std::os::unix::fs::symlink("nowhere", &file).unwrap(),
            }
            // What comes behind it in the list of names does not take its place.
            fs_err::write(folder.path().join("Containerfile"), "FROM scratch\n").unwrap();
            let said = |words: &[&str]| chosen(folder.path(), words).map_err(|e| e.to_string());
            let expected = format!("cannot read the Dockerfile {}: {why}", file.display());
            assert_eq!(said(&[]).unwrap_err(), expected);
            assert_eq!(said(&["--target=x", "."]).unwrap_err(), expected);
            assert_eq!(said(&["-f", "Containerfile"]).unwrap().front_end, FrontEnd::Dockerfile);
            fs_err::write(folder.path().join("main.go"), "package main\n").unwrap();
            let with = said(&["."]).unwrap_err();
            assert!(with.contains("; hint: --package builds the Go program"), "{with}");
            assert_eq!(said(&["--package", "."]).unwrap().front_end, FrontEnd::Packages);
            assert_eq!(said(&[]).unwrap().front_end, FrontEnd::Packages);
        }
    }

    #[test]
    fn a_file_that_cannot_be_built_here_names_the_way_to_the_program_beside_it() {
        let all = folders();
        let error = || Error::new(ErrorKind::Unsupported, "isolate a process here");
        let explained = |folder: &str, words: &[&str], error: Error| {
            let choice = chosen(&all.path().join(folder), words).unwrap();
            choice.explain(error, Preference::Auto).to_string()
        };
        let said = explained("dp", &["."], error());
        assert!(said.starts_with("cannot isolate a process here; hint: --package "), "{said}");
        let said = explained("dp", &["-f", "Dockerfile"], error().hint("switch it on"));
        assert!(said.contains("; hint: switch it on; or: --package "), "{said}");
        for (folder, error) in [("d", error()), ("dp", Error::new(ErrorKind::Program, "run"))] {
            let said = explained(folder, &["."], error);
            assert!(!said.contains("--package"), "{said}");
        }
        let choice = chosen(&all.path().join("dp"), &["."]).unwrap();
        let usage = || Error::new(ErrorKind::Usage, "use --sandbox toolchain");
        let toolchain = Preference::Only(Isolation::Toolchain);
        assert!(choice.explain(usage(), toolchain).to_string().contains("--package builds"));
        assert!(!choice.explain(usage(), Preference::Auto).to_string().contains("--package"));
        for text in ["", "# nothing\n\n"] {
            fs_err::write(all.path().join("dp/Dockerfile"), text).unwrap();
            let error = chosen(&all.path().join("dp"), &["."]).unwrap_err().to_string();
            assert!(error.contains("there is no instruction in it; hint: --package"), "{error}");
            fs_err::write(all.path().join("d/Dockerfile"), text).unwrap();
            assert!(chosen(&all.path().join("d"), &["."]).is_ok());
        }
    }
}
