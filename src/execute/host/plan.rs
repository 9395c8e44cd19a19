//! What a step of go commands needs, found out before anything is done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::command::{self, Argument, GoCommand, Verb};
use super::line::{self, NotHere, Refused, Word};
use super::sources;
use crate::engine::files::{Files, LastLink, locate, resolve};
use crate::engine::op::{ExecOp, MountKind, Network};
use crate::error::Result;
use crate::glob::in_folder;
use crate::layer::TreePath;
use crate::oci::Platform;

/// Shells that read a line as it is read here.
const SHELLS: [&str; 4] = ["sh", "ash", "dash", "bash"];
/// What they may be told that changes nothing for such lines.
const SHELL_OPTIONS: [&str; 8] = ["-o", "pipefail", "-e", "-u", "-x", "-eu", "-ex", "-eux"];
/// What says that a folder is under version control.
const REVISIONS: [&str; 5] = [".git", ".hg", ".svn", ".bzr", ".fslckout"];

/// What a step of go commands needs.
pub(super) struct Plan {
    /// The commands, in order.
    pub commands: Vec<Planned>,
    /// The files of the step.
    pub files: Arc<dyn Files>,
    /// Where Go is, in the image and on this machine.
    pub go: (TreePath, PathBuf),
    /// The folder that the commands start in.
    pub folder: TreePath,
    /// Folders that are needed with all that is in them.
    pub sources: Vec<TreePath>,
    /// Places that may be written to.
    pub places: Vec<TreePath>,
    /// The step's variables that `go` gets.
    pub environment: BTreeMap<String, String>,
    /// `GOPATH`, the folder of temporary files, and where programs are installed if that is said.
    pub go_path: TreePath,
    pub temporary: TreePath,
    pub programs: Option<TreePath>,
}

/// A command, and whether C code would be compiled with it.
pub(super) struct Planned {
    pub command: GoCommand,
    pub with_c: bool,
}

/// Whether a step has a go command at all.
pub(super) fn is_of_go(op: &ExecOp) -> bool {
    let separators = |c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')');
    let mut words = op.argv.iter().flat_map(|text| text.split(separators));
    words.any(command::is_go)
}

/// The go commands of a step. Refused is what is not one, and what a step of those may not have.
pub(super) fn commands(op: &ExecOp, host: &Platform) -> Result<Vec<GoCommand>, Refused> {
    let refuse = |why: String, fix: &str| Err(Refused::new(why, fix));
    if op.script.is_some() {
        return refuse("a heredoc takes a shell".to_owned(), "write a line of go commands");
    }
    if !matches!(op.user.as_str(), "" | "0" | "root" | "0:0" | "root:root") {
        let why = format!("what USER {} may write to only a sandbox knows", op.user);
        return refuse(why, "put USER behind the RUN");
    }
    if !op.platform.satisfies(host) {
        let why = format!("Go of {} does not run here", op.platform);
        return refuse(why, "FROM --platform=$BUILDPLATFORM, and GOOS and GOARCH by ENV");
    }
    if op.network == Network::Private {
        let why = "a network of its own takes a sandbox".to_owned();
        return refuse(why, "--network host, or RUN --network=none");
    }
    if !op.hosts.is_empty() {
        return refuse("--add-host takes a sandbox".to_owned(), "leave it out");
    }
    if let Some(mount) = op.mounts.iter().find(|it| !is_plain_cache(&it.kind)) {
        let why = format!("the mount at {} takes a sandbox", mount.target);
        return refuse(why, "COPY what it shows; caches of Go are there without being asked for");
    }
    let lines = match shell_line(op) {
        Some(line) => line::commands(line)?,
        None => vec![op.argv.iter().map(Word::quoted).collect()],
    };
    lines.iter().map(|words| command::read(words)).collect()
}

/// Whether a mount is a cache that begins with nothing.
fn is_plain_cache(kind: &MountKind) -> bool {
    matches!(kind, MountKind::Cache { seed: None, .. })
}

/// The line that a step gives to its shell.
fn shell_line(op: &ExecOp) -> Option<&str> {
    let (line, shell) = op.argv.split_last()?;
    let ((program, options), (last, shell)) = (shell.split_first()?, (shell.last()?, shell));
    let name = program.rsplit('/').next().unwrap_or_default();
    let ends = last.strip_prefix('-').is_some_and(|letters| {
        letters.ends_with('c') && letters.chars().all(|letter| "ceux".contains(letter))
    });
    let known = options[..options.len().saturating_sub(1)]
        .iter()
        .all(|option| SHELL_OPTIONS.contains(&option.as_str()));
    (SHELLS.contains(&name) && shell.len() > 1 && ends && known).then_some(line.as_str())
}

/// What decides about commands besides themselves.
pub(super) struct Facts<'a> {
    pub op: &'a ExecOp,
    pub files: &'a dyn Files,
    pub variables: &'a BTreeMap<String, String>,
    pub host: &'a Platform,
}

impl Facts<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The program that a name stands for.
    pub(super) fn program(&self, name: &str) -> Result<Option<TreePath>> {
        for folder in self.variable("PATH").unwrap_or_default().split(':') {
            let path = format!("{folder}/{name}");
            let found = resolve(self.files, path.as_bytes(), LastLink::Follow)?;
            if let Some(found) = found.filter(|found| !found.node.entry.is_directory()) {
                return Ok(found.path);
            }
        }
        Ok(None)
    }

    /// The folder of the Go that commands use.
    pub(super) fn go_root(&self) -> Result<TreePath, NotHere> {
        let is_absolute = self.op.argv.iter().any(|word| word.contains("/usr/local/go/bin/go"));
        let found = match self.program("go")? {
            None if is_absolute => Some("usr/local/go/bin/go".parse()?),
            found => found,
        };
        let root = found.and_then(|program| program.parent()).and_then(|bin| bin.parent());
        let fix = "FROM golang, or another image whose PATH leads to Go";
        Ok(root.ok_or_else(|| Refused::new("the image has no go on its PATH", fix))?)
    }

    /// Where a path of the step leads.
    fn place(&self, path: &str) -> Result<TreePath, NotHere> {
        let path = in_folder(&self.op.folder, path);
        let found = locate(self.files, path.as_bytes(), LastLink::Follow)?;
        let fix = "WORKDIR /src, or another folder of its own, before COPY";
        Ok(found.ok_or_else(|| Refused::new("/ is the whole image", fix))?)
    }

    /// What refuses a step whatever its commands are.
    fn check_step(&self) -> Result<(), NotHere> {
        command::check_environment(self.variables)?;
        let shell = shell_line(self.op).and_then(|_| self.op.argv.first());
        if let Some(shell) = shell.filter(|shell| shell.starts_with('/'))
            && resolve(self.files, shell.as_bytes(), LastLink::Follow)?.is_none()
        {
            let why = format!("the image has no {shell}");
            return Err(Refused::new(why, "write the words: RUN [\"go\", \"build\"]").into());
        }
        let settings = match (self.variable("GOENV"), self.variable("XDG_CONFIG_HOME")) {
            (Some("off"), _) => return Ok(()),
            (Some(file), _) => file.to_owned(),
            (None, Some(folder)) => format!("{folder}/go/env"),
            (None, None) => format!("{}/.config/go/env", self.variable("HOME").unwrap_or("/root")),
        };
        let found = resolve(self.files, settings.as_bytes(), LastLink::Follow)?;
        if found.is_some() {
            let why = format!("the image has settings of go env -w at {settings}");
            return Err(Refused::new(why, "set variables by ENV").into());
        }
        Ok(())
    }

    /// Looks whether a command gives here what it gives in a sandbox; answers whether C code would be
    /// compiled with it.
    fn check(&self, command: &GoCommand) -> Result<bool, NotHere> {
        let own = |name: &str| {
            let own = command.variables.iter().rev().find(|(known, _)| known == name);
            own.map(|(_, value)| value.as_str()).or(self.variable(name)).filter(|it| !it.is_empty())
        };
        let flags = own("GOFLAGS").unwrap_or_default();
        command::check_go_flags(flags)?;
        if command.verb != Verb::Compile {
            return Ok(false);
        }
        if !command::is_trimmed(command, flags) {
            return Err(Refused::new(
                "without -trimpath Go writes where its sources are into programs, and that is another folder here",
                "go build -trimpath, or ENV GOFLAGS=-trimpath",
            )
            .into());
        }
        if !command::is_without_revision(command, flags) && self.has_revision()? {
            return Err(Refused::new(
                "Go asks git for the revision of the sources, and git takes a sandbox",
                "go build -buildvcs=false, or .git in .dockerignore",
            )
            .into());
        }
        let is_foreign = |name: &str, here: &str| own(name).is_some_and(|value| value != here);
        Ok(match own("CGO_ENABLED") {
            Some("0") => false,
            Some(_) => true,
            None if is_foreign("GOOS", &self.host.os) => false,
            None if is_foreign("GOARCH", &self.host.architecture) => false,
            None => {
                let compiler = own("CC").unwrap_or("gcc");
                let program = compiler.split(' ').next().unwrap_or_default();
                self.program(program)?.is_some()
            }
        })
    }

    /// Whether the sources are under version control, and the image has a git.
    fn has_revision(&self) -> Result<bool> {
        let mut at = locate(self.files, self.op.folder.as_bytes(), LastLink::Follow)?;
        while let Some(folder) = at {
            for name in REVISIONS {
                if self.files.node(Some(&folder.join(name)?))?.is_some() {
                    return Ok(self.program("git")?.is_some() || name != ".git");
                }
            }
            at = folder.parent();
        }
        Ok(false)
    }
}

impl Plan {
    /// Finds out what commands need. `go` is where Go is, in the image and on this machine.
    pub(super) fn of(
        facts: &Facts<'_>,
        commands: Vec<GoCommand>,
        files: Arc<dyn Files>,
        go: (TreePath, PathBuf),
    ) -> Result<Self, NotHere> {
        facts.check_step()?;
        let mut planned = Vec::new();
        for command in commands {
            let with_c = facts.check(&command)?;
            planned.push(Planned { command, with_c });
        }
        let folder = facts.place(".")?;
        let home = facts.variable("HOME").unwrap_or("/root");
        let go_path = facts.variable("GOPATH").and_then(|list| list.split(':').next());
        let go_path = go_path.map_or_else(|| format!("{home}/go"), str::to_owned);
        let go_path = facts.place(&go_path)?;
        let temporary = facts.variable("GOTMPDIR").or(facts.variable("TMPDIR")).unwrap_or("/tmp");
        let temporary = facts.place(temporary)?;
        let programs = match facts.variable("GOBIN") {
            Some(folder) => Some(facts.place(folder)?),
            None => None,
        };
        let works = planned.iter().any(|it| it.command.verb != Verb::Say);
        let sources = if works { sources::of(facts.files, &folder)? } else { Vec::new() };
        let installed = programs.clone().map_or_else(|| go_path.join("bin"), Ok)?;
        let mut places = vec![folder.clone(), temporary.clone(), installed, go_path.join("pkg/x")?];
        for argument in planned.iter().flat_map(|it| &it.command.arguments) {
            match argument {
                Argument::Output(_, path) | Argument::Folder(path) => {
                    places.push(facts.place(path)?);
                }
                Argument::Plain(_) => {}
            }
        }
        let environment = facts.variables.iter().filter(|(name, _)| command::passes(name));
        let environment = environment.map(|(name, value)| (name.clone(), value.clone())).collect();
        let commands = planned;
        Ok(Self {
            commands,
            files,
            go,
            folder,
            sources,
            places,
            environment,
            go_path,
            temporary,
            programs,
        })
    }

    /// Whether anything is compiled, or modules are fetched.
    pub(super) fn uses_caches(&self) -> bool {
        self.commands.iter().any(|it| it.command.verb != Verb::Say)
    }
}
