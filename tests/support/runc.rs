//! A container of `runc` alone, with what docker's engine gives to one: its capabilities, its profile of
//! system calls, its view of `/proc`. The engine itself is asked, and then left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::{Docker, tree_with_gondola};
use super::need::{Need, program, root, run, succeed};

/// What stays in the container until it is removed. The folder of it must be able to hold a program.
const WAITS: &str = "/bin/sleep";

/// A running container, on the host's network.
pub struct Runc {
    program: PathBuf,
    id: String,
    folder: TempDir,
}

impl Runc {
    /// Starts a container with the program, further ones and some folders of the host.
    pub fn start(further: &[(&Path, &str)], shown: &[PathBuf]) -> Need<Self> {
        let (program, busybox) = (program("runc")?, program("busybox")?);
        root("runc")?;
        let docker = Docker::start()?;
        let folder = TempDir::with_prefix("gondola-runc-").unwrap();
        let programs = [&[(busybox.as_path(), WAITS)], further].concat();
        let bundle = folder.path().join("bundle");
        tree_with_gondola(&bundle.join("rootfs"), &programs);
        let mut config = dockers_config(&docker, &busybox, &folder.path().join("image"));
        drop(docker);
        let id = format!("gondola-test-{}", std::process::id());
        adapt(&mut config, (&bundle.join("rootfs"), &id), shown);
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let runc = Self { program, id, folder };
        let log = fs::File::create(runc.folder.path().join("log")).unwrap();
        let (log, _) = log.into_parts();
        let mut start = runc.command(&["run", "--detach", "--bundle"]);
        start
            .arg(&bundle)
            .arg(&runc.id)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let status = start.status().unwrap();
        let said = || fs::read_to_string(runc.folder.path().join("log")).unwrap();
        assert!(status.success(), "{start:?}: {}", said());
        Ok(runc)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.folder.path().join("state")).args(arguments);
        command
    }

    /// A program in the container, ready for its arguments. Of the command's variables it gets those that
    /// are named, and others with their values.
    pub fn inside(&self, program: &str, named: &[&str], others: &[(&str, &str)]) -> Command {
        let mut line = format!("exec \"$0\" --root '{}/state' exec", self.folder.path().display());
        line.extend(named.iter().map(|name| format!(" --env {name}=\"${name}\"")));
        line.extend(others.iter().map(|(name, value)| format!(" --env {name}='{value}'")));
        line.extend([" ", &self.id, " ", program, " \"$@\""]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &line]).arg(&self.program);
        command
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).output();
    }
}

/// What the engine tells its runtime of a container that was given nothing special.
fn dockers_config(docker: &Docker, busybox: &Path, folder: &Path) -> Value {
    let tree = folder.join("tree/bin");
    fs::create_dir_all(&tree).unwrap();
    fs::copy(busybox, tree.join("sleep")).unwrap();
    let archive = folder.join("sleep.tar");
    run(
        "tar",
        &["-C", folder.join("tree").to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."],
    );
    docker.docker(&["import", archive.to_str().unwrap(), "sleep:test"]);
    let started = docker.docker(&["run", "--detach", "--network=host", "sleep:test", WAITS, "600"]);
    let config = docker.runtime_config(started.trim());
    docker.docker(&["rm", "--force", started.trim()]);
    let profile = &config["linux"]["seccomp"];
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "docker gives no profile: {config}");
    config
}

/// Keeps of a configuration what the container may do, and gives it other files.
fn adapt(config: &mut Value, (root, id): (&Path, &str), shown: &[PathBuf]) {
    config["root"] = json!({"path": root, "readonly": false});
    let process = config["process"].as_object_mut().unwrap();
    process.insert("args".to_owned(), json!([WAITS, "3600"]));
    // Root of a machine that is itself a container may raise neither.
    process.remove("oomScoreAdj");
    process.remove("rlimits");
    let all = config.as_object_mut().unwrap();
    all.remove("hooks");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "bind");
    let files = ["/etc/hosts", "/etc/resolv.conf"].map(PathBuf::from);
    for source in shown.iter().chain(files.iter().filter(|file| file.exists())) {
        let options = ["rbind", "rw"];
        mounts.push(
            json!({"destination": source, "type": "bind", "source": source, "options": options}),
        );
    }
    let linux = config["linux"].as_object_mut().unwrap();
    linux.insert("cgroupsPath".to_owned(), json!(format!("/{id}")));
    let devices = linux["resources"]["devices"].take();
    linux.insert("resources".to_owned(), json!({"devices": devices}));
}
