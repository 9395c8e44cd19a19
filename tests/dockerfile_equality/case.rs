//! A case: a folder of `fixtures/dockerfiles` with a Dockerfile, its context and a `case` file.
//!
//! ```text
//! # What the case is about, in one line.
//! make: ln -s file link            shell lines, run in a copy of the folder, for what git cannot keep
//! file: docker/app.Dockerfile      instead of Dockerfile
//! target: STAGE
//! build-arg: NAME=value            {busybox} is the digest of that base
//! secret: id=NAME,src=FILE         a file of the folder
//! build-context: NAME=FOLDER       a folder of the folder
//! buildah-cannot: why              buildah's result is not asked for; there is an `expected` file
//! not-unprivileged: why            root builds it a second time instead
//! buildah-layers:                  each of buildah's steps makes a layer, as BuildKit's do
//! ```
//!
//! An `expected` file holds the lines of the whole result (see `support::Lines`), as BuildKit would
//! have it. The context is the folder without `case` and `expected`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::support::{Base, Bases, Lines, Need, describe};

/// One folder of fixtures.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    folder: PathBuf,
    make: String,
    file: String,
    target: Option<String>,
    build_args: Vec<String>,
    secrets: Vec<String>,
    build_contexts: Vec<String>,
    pub layers_in_buildah: bool,
    pub not_unprivileged: Option<String>,
    pub buildah_cannot: Option<String>,
    pub expected: Option<Lines>,
}

impl Case {
    /// Every case, by name.
    pub fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles");
        let mut folders: Vec<_> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    fn read(folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let mut case = Self { name, folder: folder.to_owned(), ..Self::default() };
        "Dockerfile".clone_into(&mut case.file);
        let text = fs::read_to_string(folder.join("case")).unwrap();
        for line in text.lines() {
            case.take(line);
        }
        let expected = folder.join("expected");
        case.expected =
            expected.exists().then(|| Lines::parse(&fs::read_to_string(expected).unwrap()));
        let judged = case.buildah_cannot.is_none() || case.expected.is_some();
        assert!(judged, "{}: nothing says what the result has to be", case.name);
        case
    }

    fn take(&mut self, line: &str) {
        if line.starts_with('#') {
            return;
        }
        let (keyword, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        let value = value.to_owned();
        match keyword {
            "make" => self.make.push_str(&(value + "\n")),
            "file" => self.file = value,
            "target" => self.target = Some(value),
            "build-arg" => self.build_args.push(value),
            "secret" => self.secrets.push(value),
            "build-context" => self.build_contexts.push(value),
            "buildah-layers" => self.layers_in_buildah = true,
            "not-unprivileged" => self.not_unprivileged = Some(value),
            "buildah-cannot" => self.buildah_cannot = Some(value),
            _ => panic!("{}: {line:?} is not what a case file has", self.name),
        }
    }

    /// The bases that the Dockerfile names.
    pub fn bases(&self) -> Vec<Base> {
        let text = fs::read_to_string(self.folder.join(&self.file)).unwrap();
        let all = [Base::Busybox, Base::Debian, Base::Golang];
        let named = |base: &Base| {
            text.contains(base.name()) || self.build_args.iter().any(|it| it.contains(base.name()))
        };
        all.into_iter().filter(named).collect()
    }

    /// Makes the context, owned by `user`. The folder must not be there yet.
    pub fn make_context(&self, folder: &Path, user: Option<u32>) {
        copy(&self.folder, folder);
        for own in ["case", "expected"] {
            let _ = fs::remove_file(folder.join(own));
        }
        if let Some(id) = user {
            let owner = format!("{id}:{id}");
            crate::support::run("chown", &["-R", "-h", &owner, folder.to_str().unwrap()]);
        }
        if self.make.is_empty() {
            return;
        }
        let script = format!("umask 022\n{}", self.make);
        let mut command = as_user(Path::new("sh"), user);
        command.args(["-euc", &script]).current_dir(folder);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", describe(&command, &output));
    }

    /// Adds the case's arguments, which both builders take in the same way.
    pub fn add_arguments(&self, build: &mut Command, context: &Path, bases: &Bases) -> Need<()> {
        build.arg("--file").arg(context.join(&self.file));
        if let Some(target) = &self.target {
            build.args(["--target", target]);
        }
        for arg in &self.build_args {
            let busybox = bases.digest(Base::Busybox)?;
            build.args(["--build-arg", &arg.replace("{busybox}", busybox.as_str())]);
        }
        for secret in &self.secrets {
            let file = format!("src={}/", context.display());
            build.args(["--secret", &secret.replace("src=", &file)]);
        }
        for named in &self.build_contexts {
            let (name, folder) = named.split_once('=').expect("NAME=FOLDER");
            let folder = context.join(folder);
            build.arg("--build-context").arg(format!("{name}={}", folder.display()));
        }
        build.arg(context);
        Ok(())
    }
}

/// A program as another user, or as this one.
pub fn as_user(program: &Path, user: Option<u32>) -> Command {
    let Some(id) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={id}"), format!("--regid={id}")]);
    command.arg("--clear-groups").arg("--").arg(program);
    command
}

/// Copies a folder with the modes that every checkout has.
fn copy(from: &Path, to: &Path) {
    let kind = fs::symlink_metadata(from).unwrap();
    if kind.is_dir() {
        fs::create_dir(to).unwrap();
        fs::set_permissions(to, PermissionsExt::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if kind.is_symlink() {
        symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else {
        fs::copy(from, to).unwrap();
        let executable = kind.permissions().mode() & 0o100 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(to, PermissionsExt::from_mode(mode)).unwrap();
    }
}
