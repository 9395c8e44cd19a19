//! The engines that must be able to load and run what the program exports. Each has data, sockets
//! and state in a folder of its own and never sees the machine's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use super::need::{Missing, Need, program, root, run, succeed};
use super::service::Service;

/// A running `dockerd`. It has no network: run containers with `--network=none`.
pub struct Docker {
    client: PathBuf,
    // Dropped in this order: dockerd needs its containerd to end.
    service: Service,
    containerd: Containerd,
    socket: PathBuf,
}

/// A running `containerd`, used through `ctr`.
pub struct Containerd {
    client: PathBuf,
    service: Service,
    folder: TempDir,
}

/// podman, which needs no server, with storage of its own.
pub struct Podman {
    program: PathBuf,
    folder: TempDir,
}

impl Containerd {
    /// Starts containerd.
    pub fn start() -> Need<Self> {
        let (server, client) = (program("containerd")?, program("ctr")?);
        root("containerd")?;
        let folder = TempDir::with_prefix("gondola-engine-").unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = path("config.toml");
        fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
            .unwrap();
        let mut command = Command::new(server);
        command.arg("--config").arg(config).arg("--root").arg(path("root"));
        command.arg("--state").arg(path("state")).arg("--address").arg(path("containerd.sock"));
        let (service, ()) = Service::start(command, has("containerd successfully booted"))?;
        Ok(Self { client, service, folder })
    }

    /// Runs `ctr` and returns what it prints.
    pub fn ctr(&self, arguments: &[&str]) -> String {
        succeed(Command::new(&self.client).arg("--address").arg(self.socket()).args(arguments))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("containerd.sock")
    }
}

/// A container as little allowed as a pod under Pod Security *restricted*, and less: a user without a name
/// and without rights, docker's own filter of system calls, nothing to write to but `/tmp`.
pub const LOCKED_DOWN: [&str; 8] = [
    "--user=54321:54321",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--read-only",
    "--tmpfs=/tmp:exec,mode=1777",
    "--env=GONDOLA_HOME=/tmp/store",
    "--env=HOME=/tmp",
    "--network=none",
];

/// Where the program is in [`Docker::image_with_gondola`].
pub const GONDOLA: &str = "/usr/bin/gondola";

/// Writes the program, further files, what all of them are linked to and nothing else into a folder.
pub fn tree_with_gondola(tree: &Path, further: &[(&Path, &str)]) {
    let binary = Path::new(env!("CARGO_BIN_EXE_gondola"));
    let programs = [&[(binary, GONDOLA)], further].concat();
    let libraries = programs.iter().flat_map(|(file, _)| libraries(file));
    let libraries: Vec<_> = libraries.map(|file| (file.clone(), file)).collect();
    let libraries = libraries.iter().map(|(file, name)| (file.as_path(), name.to_str().unwrap()));
    for (file, name) in libraries.chain(programs.iter().copied()) {
        let target = tree.join(name.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
    for folder in ["root", "tmp"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::set_permissions(tree.join("root"), Permissions::from_mode(0o700)).unwrap();
    // A mount there takes its permissions.
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
}

/// The libraries that a program is linked to; a static one, or what is no program, has none.
pub fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd is part of every system");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

impl Docker {
    /// Makes a container image with the program, what it is linked to, further files and nothing else.
    pub fn image_with_gondola(&self, folder: &Path, further: &[(&Path, &str)]) -> String {
        let tree = folder.join("tree");
        tree_with_gondola(&tree, further);
        let archive = folder.join("image.tar");
        run("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
        self.docker(&["import", archive.to_str().unwrap(), "gondola:test"]);
        "gondola:test".to_owned()
    }

    /// Starts dockerd, and a containerd for it.
    pub fn start() -> Need<Self> {
        let (server, client) = (program("dockerd")?, program("docker")?);
        root("dockerd")?;
        let containerd = Containerd::start()?;
        let path = |name: &str| containerd.folder.path().join(name);
        let socket = path("docker.sock");
        let mut command = Command::new(server);
        command.env("PATH", search_path()).args(["--iptables=false", "--ip6tables=false"]);
        command.args(["--bridge=none", "--host"]).arg(format!("unix://{}", socket.display()));
        command
            .arg("--containerd")
            .arg(containerd.socket())
            .arg("--pidfile")
            .arg(path("docker.pid"));
        command.arg("--data-root").arg(path("docker")).arg("--exec-root").arg(path("docker-exec"));
        let (service, ()) = Service::start(command, has("API listen on"))?;
        Ok(Self { client, service, containerd, socket })
    }

    /// `docker` with arguments, ready to be changed further.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["--host", &self.host()]).args(arguments);
        command.env("DOCKER_CONFIG", self.containerd.folder.path()).env_remove("DOCKER_HOST");
        command
    }

    /// Runs `docker` and returns what it prints.
    pub fn docker(&self, arguments: &[&str]) -> String {
        succeed(&mut self.command(arguments))
    }

    /// The configuration by which the engine has its runtime start a running container.
    pub fn runtime_config(&self, container: &str) -> Value {
        let tasks = self.containerd.folder.path().join("state/io.containerd.runtime.v2.task/moby");
        let text = fs::read(tasks.join(container).join("config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Loads an archive.
    pub fn load(&self, archive: &Path) -> String {
        self.docker(&["load", "--input", archive.to_str().unwrap()])
    }

    /// Runs an image's own program to its end and returns what it prints.
    pub fn run(&self, image: &str, arguments: &[&str]) -> String {
        let run = ["run", "--rm", "--network=none", image];
        self.docker(&[run.as_slice(), arguments].concat())
    }

    /// The value of `DOCKER_HOST` for this engine.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Podman {
    /// Finds podman and runc, and makes folders for images and containers.
    pub fn start() -> Need<Self> {
        let program =
            program("podman").and_then(|podman| super::program("runc").map(|_| podman))?;
        root("podman")?;
        let folder = TempDir::with_prefix("gondola-podman-").unwrap();
        let podman = Self { program, folder };
        let version = podman.command(&["info"]).output();
        match version {
            Ok(output) if output.status.success() => Ok(podman),
            Ok(output) => Err(Missing::because(format!(
                "podman does not work: {}",
                String::from_utf8_lossy(&output.stderr)
            ))),
            Err(error) => Err(Missing::because(format!("podman does not start: {error}"))),
        }
    }

    /// The options that keep podman to its own folders.
    pub fn options(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let folders = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")];
        let folders = folders.iter().flat_map(|(option, name)| [(*option).to_owned(), path(name)]);
        folders
            .chain(["--runtime", "runc", "--cgroup-manager", "cgroupfs"].map(String::from))
            .collect()
    }

    /// `podman` with arguments, ready to be changed further.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PATH", search_path()).args(self.options()).args(arguments);
        command
    }

    /// Runs `podman` and returns what it prints.
    pub fn podman(&self, arguments: &[&str]) -> String {
        succeed(&mut self.command(arguments))
    }

    /// Loads an archive.
    pub fn load(&self, archive: &Path) -> String {
        self.podman(&["load", "--input", archive.to_str().unwrap()])
    }

    /// Runs an image's own program to its end and returns what it prints.
    pub fn run(&self, image: &str, arguments: &[&str]) -> String {
        // The limits are low enough for a machine that is itself a container.
        let limits = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000"];
        let run = [["run", "--rm", "--network=none"].as_slice(), &limits, &[image]].concat();
        self.podman(&[run.as_slice(), arguments].concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Unmounts what podman mounted below its folder, so that the folder can go.
        let _ = self.command(&["system", "reset", "--force"]).output();
    }
}

/// Finds a text in the output of a program that starts.
fn has(text: &'static str) -> impl Fn(&str) -> Option<()> {
    move |printed| printed.contains(text).then_some(())
}

/// `PATH` with the administrator's programs, which engines start.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
