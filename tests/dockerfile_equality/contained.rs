//! Builds as root of a container that docker's engine starts, with its default capabilities and profile.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use tempfile::TempDir;

use crate::support::{Docker, GONDOLA, Need};

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

/// The engine, which is started when it is first asked for.
#[derive(Default)]
pub struct Contained(Mutex<Option<Need<Engine>>>);

struct Engine {
    docker: Docker,
    image: String,
    #[expect(dead_code, reason = "it holds what the image was made of")]
    folder: TempDir,
}

impl Engine {
    fn start() -> Need<Self> {
        let docker = Docker::start()?;
        let folder = TempDir::with_prefix("gondola-contained-").unwrap();
        let image = docker.image_with_gondola(&folder.path().join("image"), &[]);
        Ok(Self { docker, image, folder })
    }
}

impl Contained {
    /// The program in a container of its own that sees some folders; its store is the container's.
    pub fn command(&self, shown: &[PathBuf]) -> Need<Command> {
        let mut engine = self.0.lock().unwrap();
        let engine = match engine.get_or_insert_with(Engine::start) {
            Ok(engine) => engine,
            Err(missing) => return Err(missing.clone()),
        };
        let mut arguments = vec!["run".to_owned(), "--rm".to_owned(), "--network=host".to_owned()];
        arguments.extend(shown.iter().map(|it| format!("--volume={0}:{0}", it.display())));
        arguments.extend(VARIABLES.map(|name| format!("--env={name}")));
        arguments.push("--env=GONDOLA_HOME=/var/gondola".to_owned());
        arguments.extend([engine.image.clone(), GONDOLA.to_owned()]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Ok(engine.docker.command(&arguments))
    }
}
