//! Dockerfiles of public Go projects, unedited, built by an unprivileged user; podman runs what
//! comes out. `fixtures/public/dockerfiles` lists them.
//!
//! Those that take minutes are built with `GONDOLA_TEST_ALL=1` alone.

#![cfg(test)]

mod support;

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fs_err as fs;
use support::{Base, Bases, Missing, Need, Podman, Sandbox, all_asked_for, describe};
use support::{go, need, only, root, run};
use tempfile::TempDir;

/// A user who owns nothing here but a folder, and has no further ids.
const UNPRIVILEGED: u32 = 54321;

/// A paragraph of the list.
#[derive(Debug, Default)]
struct Project {
    module: String,
    version: String,
    file: String,
    big: bool,
    bases: Vec<(String, Base)>,
    build_args: Vec<String>,
    run: Vec<String>,
    says: String,
}

impl Project {
    fn all() -> Vec<Self> {
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/public/dockerfiles");
        let text = fs::read_to_string(list).unwrap();
        let paragraphs = text.split("\n\n").filter(|it| it.starts_with("module "));
        paragraphs.map(Self::parse).collect()
    }

    fn parse(paragraph: &str) -> Self {
        let mut project = Self { file: "Dockerfile".to_owned(), ..Self::default() };
        for line in paragraph.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            let two = || value.split_once(' ').unwrap_or_else(|| panic!("two words in {line:?}"));
            match keyword {
                "module" => {
                    let (module, version) = two();
                    (project.module, project.version) = (module.to_owned(), version.to_owned());
                }
                "file" => value.clone_into(&mut project.file),
                "big" => project.big = true,
                "base" => project.bases.push((two().0.to_owned(), base(two().1))),
                "build-arg" => project.build_args.push(value.to_owned()),
                "run" => project.run = value.split(' ').map(str::to_owned).collect(),
                "says" => value.clone_into(&mut project.says),
                _ => panic!("{line:?} is not what the list has"),
            }
        }
        assert!(!project.says.is_empty(), "{}: it has to say something", project.module);
        project
    }

    /// Copies the sources, as a checkout would have them.
    fn sources(&self, sandbox: &Sandbox, folder: &Path) -> Need<()> {
        let mut download = Command::new(go()?);
        let module = format!("{}@{}", self.module, self.version);
        download.args(["mod", "download", "-json", &module]).current_dir(sandbox.work());
        download.env_clear().envs(sandbox.environment());
        let output = download.output().expect("go was found");
        if !output.status.success() {
            return Err(Missing::because(describe(&download, &output)));
        }
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let kept = found["Dir"].as_str().expect("a folder");
        run("cp", &["-r", kept, folder.to_str().unwrap()]);
        run("chmod", &["-R", "u+w", folder.to_str().unwrap()]);
        own(folder);
        Ok(())
    }
}

fn base(name: &str) -> Base {
    let all = [Base::Busybox, Base::DebianGolang, Base::Static];
    let found = all.into_iter().find(|base| base.name() == name);
    found.unwrap_or_else(|| panic!("{name:?} is no base"))
}

fn own(folder: &Path) {
    let owner = format!("{UNPRIVILEGED}:{UNPRIVILEGED}");
    run("chown", &["-R", "-h", &owner, folder.to_str().unwrap()]);
}

/// What all projects share: the bases, and the caches of one user.
struct World {
    bases: Bases,
    podman: Podman,
    sandbox: Sandbox,
    folder: TempDir,
}

impl World {
    fn new() -> Need<Self> {
        go()?;
        root("building as another user")?;
        let (bases, podman) = (Bases::start()?, Podman::start()?);
        let folder = TempDir::with_prefix("gondola-public-").unwrap();
        run("chmod", &["755", folder.path().to_str().unwrap()]);
        support::install(env!("CARGO_BIN_EXE_gondola"), folder.path().join("gondola"));
        let world = Self { bases, podman, sandbox: Sandbox::new(), folder };
        fs::create_dir(world.user()).unwrap();
        chown(world.user(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
        Ok(world)
    }

    fn user(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    fn build(&self, project: &Project, number: usize) -> Need<PathBuf> {
        let context = self.user().join(format!("sources-{number}"));
        project.sources(&self.sandbox, &context)?;
        let archive = self.user().join(format!("image-{number}.tar"));
        let mut build = Command::new("setpriv");
        let id = UNPRIVILEGED.to_string();
        build.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        build.arg(self.folder.path().join("gondola")).env_clear().current_dir(self.user());
        build.env("PATH", &self.sandbox.environment()["PATH"]).env("HOME", self.user());
        build.arg("build").arg("--file").arg(context.join(&project.file));
        for (image, base) in &project.bases {
            self.bases.digest(*base)?;
            let stand_in = self.bases.registry().image(&format!("library/{}:latest", base.name()));
            build.arg("--build-context").arg(format!("{image}=docker-image://{stand_in}"));
        }
        for arg in &project.build_args {
            build.args(["--build-arg", arg]);
        }
        let output = format!("docker-archive:{}:{}", archive.display(), image(number));
        build.args(["--output", &output]).arg(&context);
        let ended = build.output().unwrap();
        assert!(ended.status.success(), "{}", describe(&build, &ended));
        run("rm", &["-rf", context.to_str().unwrap()]);
        Ok(archive)
    }

    fn check(&self, project: &Project, number: usize) -> Need<()> {
        let start = Instant::now();
        let archive = self.build(project, number)?;
        let seconds = start.elapsed().as_secs_f32();
        self.podman.load(&archive);
        let image = image(number);
        let limits = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000"];
        let mut arguments = vec!["run", "--rm", "--network=none"];
        arguments.extend(limits);
        arguments.push(&image);
        arguments.extend(project.run.iter().map(String::as_str));
        let mut command = self.podman.command(&arguments);
        let output = command.output().unwrap();
        let said = describe(&command, &output);
        assert!(
            said.contains(&project.says),
            "{}: no {:?} in {said}",
            project.module,
            project.says
        );
        println!("{} {}: built in {seconds:.1} s", project.module, project.version);
        fs::remove_file(archive).unwrap();
        Ok(())
    }
}

fn image(number: usize) -> String {
    format!("docker.io/library/public-{number}:latest")
}

/// Builds those of a size, one after the other.
fn check(big: bool) {
    let chosen: Vec<_> = Project::all().into_iter().enumerate().collect();
    let chosen: Vec<_> = chosen.iter().filter(|(_, project)| project.big == big).collect();
    let names: Vec<_> = chosen.iter().map(|(_, project)| project.module.as_str()).collect();
    if big && !all_asked_for(&names.join(", ")) {
        return;
    }
    let world = need!(World::new());
    for (number, project) in chosen {
        if project.module.contains(&only()) {
            need!(world.check(project, *number));
        }
    }
}

#[test]
fn public_projects_build_from_their_own_dockerfiles() {
    check(false);
}

#[test]
fn big_public_projects_build_from_their_own_dockerfiles() {
    check(true);
}

#[test]
fn the_list_has_ten_projects_and_more() {
    let modules: std::collections::BTreeSet<_> =
        Project::all().into_iter().map(|project| project.module).collect();
    assert!(modules.len() >= 10, "{modules:?}");
}
