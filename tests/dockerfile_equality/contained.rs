//! Builds as root of a container with docker's default capabilities and profile: one that docker's engine
//! starts for each case, with a store on its layers, or one that `runc` starts for all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use fs_err as fs;
use tempfile::TempDir;

use crate::support::{Docker, GONDOLA, Missing, Need, Runc, program};

/// Cases that are built there in every run: one of each kind of thing that a step sees.
pub const SAMPLE: [&str; 12] = [
    "copy-chown",
    "heredoc-shebang",
    "mount-bind-writable",
    "mount-cache",
    "mount-from-image",
    "mount-relative",
    "mount-secret",
    "run-attributes-only",
    "run-special-files",
    "run-stubs",
    "run-var-run",
    "user-supplementary",
];

/// The variables that a build is given, and its container with it.
const VARIABLES: [&str; 3] = ["HOME", "CONTAINERS_REGISTRIES_CONF", "SOURCE_DATE_EPOCH"];
/// Where the store is there.
const STORE: (&str, &str) = ("GONDOLA_HOME", "/var/gondola");
/// Programs by which archives are unpacked.
const UNPACKERS: [&str; 2] = ["bzip2", "xz"];

/// Who starts the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    Docker,
    Runc,
}

/// How a case comes out there, beside how it does elsewhere. Better ones compare as smaller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The same layers.
    Same,
    /// The same files and configuration.
    OtherLayers,
    /// Other ones, or none.
    OtherResult,
}

/// The list of the cases that come out otherwise: `CASE: result|layers: REASON`.
pub struct Exceptions(BTreeMap<String, Outcome>);

impl Exceptions {
    /// Reads `fixtures/in_container.txt`.
    pub fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/in_container.txt");
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(exception).collect())
    }

    /// How a case is expected to come out.
    pub fn of(&self, case: &str) -> Outcome {
        self.0.get(case).cloned().unwrap_or(Outcome::Same)
    }

    /// The cases that are listed.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn exception(line: &str) -> (String, Outcome) {
    let parts: Vec<&str> = line.splitn(3, ": ").collect();
    let outcome = match parts[..] {
        [_, "result", reason] if !reason.is_empty() => Outcome::OtherResult,
        [_, "layers", reason] if !reason.is_empty() => Outcome::OtherLayers,
        _ => panic!("fixtures/in_container.txt: {line:?} is not CASE: result|layers: REASON"),
    };
    (parts[0].to_owned(), outcome)
}

/// The containers, which are started when they are first asked for.
pub struct Contained {
    /// Folders that those of `runc` see.
    shared: Vec<PathBuf>,
    docker: Mutex<Option<Need<Engine>>>,
    runc: Mutex<Option<Need<Runc>>>,
}

struct Engine {
    docker: Docker,
    image: String,
    #[expect(dead_code, reason = "it holds what the image was made of")]
    folder: TempDir,
}

impl Engine {
    fn start() -> Need<Self> {
        let unpackers = unpackers()?;
        let docker = Docker::start()?;
        let folder = TempDir::with_prefix("gondola-contained-").unwrap();
        let image = docker.image_with_gondola(&folder.path().join("image"), &borrowed(&unpackers));
        Ok(Self { docker, image, folder })
    }
}

fn unpackers() -> Need<Vec<(PathBuf, String)>> {
    let found = |name: &str| Ok((program(name)?, format!("/usr/bin/{name}")));
    UNPACKERS.into_iter().map(found).collect()
}

fn borrowed(programs: &[(PathBuf, String)]) -> Vec<(&Path, &str)> {
    programs.iter().map(|(file, name)| (file.as_path(), name.as_str())).collect()
}

impl Contained {
    /// Nothing is started yet.
    pub fn new(shared: Vec<PathBuf>) -> Self {
        Self { shared, docker: Mutex::default(), runc: Mutex::default() }
    }

    /// The program in a container that sees some folders.
    pub fn command(&self, starter: Starter, shown: &[PathBuf]) -> Need<Command> {
        match starter {
            Starter::Docker => self.by_docker(shown),
            Starter::Runc => self.by_runc(),
        }
    }

    fn by_docker(&self, shown: &[PathBuf]) -> Need<Command> {
        let mut engine = self.docker.lock().unwrap();
        let engine = started(engine.get_or_insert_with(Engine::start))?;
        let mut arguments = vec!["run".to_owned(), "--rm".to_owned(), "--network=host".to_owned()];
        arguments.extend(shown.iter().map(|it| format!("--volume={0}:{0}", it.display())));
        arguments.extend(VARIABLES.map(|name| format!("--env={name}")));
        arguments.push(format!("--env={}={}", STORE.0, STORE.1));
        arguments.extend([engine.image.clone(), GONDOLA.to_owned()]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Ok(engine.docker.command(&arguments))
    }

    fn by_runc(&self) -> Need<Command> {
        let mut runc = self.runc.lock().unwrap();
        let start = || Runc::start(&borrowed(&unpackers()?), &self.shared);
        let runc = started(runc.get_or_insert_with(start))?;
        Ok(runc.inside(GONDOLA, &VARIABLES, &[STORE]))
    }
}

fn started<T>(need: &Need<T>) -> Need<&T> {
    need.as_ref().map_err(Missing::clone)
}
