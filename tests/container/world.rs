//! An image, a store, and users that run the program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err as fs;
use gondola::oci::{Digest, Platform, canonical_json};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Missing, Need, Run, Service, install, program};

/// An id that no distribution gives to anybody: a user without a name and without ranges.
const NOBODYS_ID: &str = "54321";

/// What Docker leaves to root: no mounts, no namespaces.
const CONTAINED: &str = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,\
    +setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";

/// Programs of busybox that tests use.
const APPLETS: [&str; 21] = [
    "cat", "echo", "env", "hostname", "id", "ls", "nc", "ps", "pwd", "sh", "sleep", "stat", "stty",
    "touch", "true", "yes", "head", "grep", "wc", "chmod", "mkdir",
];

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Own,
    /// Somebody with one id.
    Unprivileged,
    /// Root in a container.
    Contained,
}

/// A store and an image for one user.
pub struct World {
    folder: TempDir,
    user: User,
}

impl World {
    /// Makes the folders of `user`, or says why this machine cannot have such a user.
    pub fn new(user: User) -> Need<Self> {
        let busybox = program("busybox")?;
        if user != User::Own {
            super::support::root("becoming another user")?;
            program("setpriv")?;
        }
        let folder = TempDir::with_prefix("gondola-container-").unwrap();
        let open = |path: &Path| {
            fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        open(folder.path());
        fs::create_dir(folder.path().join("home")).unwrap();
        if user == User::Unprivileged {
            let id = Some(NOBODYS_ID.parse().unwrap());
            std::os::unix::fs::chown(folder.path().join("home"), id, id).unwrap();
        }
        let copy = folder.path().join("gondola");
        install(env!("CARGO_BIN_EXE_gondola"), &copy);
        write_image(&folder.path().join("image"), &busybox);
        let world = Self { folder, user };
        let findings = world.gondola(&["doctor", "--json"]).success();
        let findings: Value = serde_json::from_str(&findings.stdout).unwrap();
        let works = |row: &Value| row["works"] == true && row["isolation"] != "toolchain";
        if !findings.as_array().unwrap().iter().any(works) {
            return Err(Missing::because(format!("no sandbox for {user:?} works here")));
        }
        Ok(world)
    }

    /// The image, as `gondola run` takes it.
    pub fn image(&self) -> String {
        format!("oci:{}:latest", self.folder.path().join("image").display())
    }

    /// A folder that the user can write to.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The folder of the only container there is.
    pub fn container_folder(&self) -> PathBuf {
        let all = fs::read_dir(self.home().join("store/gondola/containers")).unwrap();
        let mut folders = all.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let folder = folders.next().expect("one container");
        assert!(folders.next().is_none());
        folder
    }

    /// A program run as the user.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match self.user {
            User::Own => Command::new(&program),
            User::Unprivileged => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
                command.arg(&program);
                command
            }
            User::Contained => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set", CONTAINED]).arg(&program);
                command
            }
        };
        self.settle(&mut command);
        command
    }

    /// Gives a command the user's folder and variables.
    #[expect(clippy::disallowed_methods, reason = "tests find programs as their caller does")]
    pub fn settle(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("PATH", format!("{path}:/usr/local/go/bin:/usr/sbin:/sbin"));
        command.env("HOME", self.home()).env("GONDOLA_HOME", self.home().join("store"));
        command.current_dir(self.home()).stdin(Stdio::null());
    }

    /// The program with arguments; `IMAGE` among them is the image.
    pub fn gondola_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.folder.path().join("gondola"));
        let image = self.image();
        command.args(arguments.iter().map(|word| if *word == "IMAGE" { &image } else { *word }));
        command
    }

    /// Runs the program to its end.
    pub fn gondola(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.gondola_command(arguments))
    }

    /// Runs a shell script in a fresh container of the image, which is removed.
    pub fn script(&self, options: &[&str], script: &str) -> Run {
        let run: Vec<&str> = ["run", "--rm"]
            .iter()
            .chain(options)
            .chain(&["IMAGE", "sh", "-c", script])
            .copied()
            .collect();
        self.gondola(&run)
    }

    /// Starts the program and waits until it has printed a word.
    pub fn start(&self, arguments: &[&str], word: &str) -> Service {
        let ready = |printed: &str| printed.contains(word).then_some(());
        let (service, ()) =
            Service::start(self.gondola_command(arguments), ready).unwrap_or_else(|missing| {
                panic!("{missing:?}");
            });
        service
    }

    /// Waits until a container's log has a word.
    pub fn wait_for_log(&self, container: &str, word: &str) {
        drop(self.start(&["logs", "-f", container], word));
    }

    /// What `gondola ps` says of a container.
    pub fn ps(&self, container: &str) -> Value {
        let printed = self.gondola(&["ps", "-a", "--json"]).success().stdout;
        let all: Value = serde_json::from_str(&printed).unwrap();
        let found = all.as_array().unwrap().iter().find(|row| row["name"] == container);
        found.unwrap_or_else(|| panic!("no {container} in {printed}")).clone()
    }

    /// How many containers there are, in whatever state.
    pub fn count(&self) -> usize {
        self.gondola(&["ps", "-aq"]).success().stdout.lines().count()
    }
}

/// Ends whatever a test that failed left running.
impl Drop for World {
    fn drop(&mut self) {
        // A panic in here, while a test panics, would end all tests of this file.
        let Ok(found) = self.gondola_command(&["ps", "-aq"]).output() else { return };
        let ids = String::from_utf8_lossy(&found.stdout);
        let mut remove = vec!["rm", "-f"];
        remove.extend(ids.lines());
        if remove.len() > 2 {
            let _ = self.gondola_command(&remove).output();
        }
    }
}

/// Runs a check as the user of the tests and as one with one id.
macro_rules! as_users {
    ($check:expr) => {
        for user in [User::Own, User::Unprivileged] {
            $check(&need!(World::new(user)));
        }
    };
}
pub(crate) use as_users;

fn write_image(folder: &Path, busybox: &Path) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        let kind = format!("application/vnd.oci.image.{media_type}");
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let tar = layer(&fs::read(busybox).unwrap());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    let host = Platform::host();
    let config = json!({
        "os": host.os, "architecture": host.architecture,
        "config": {
            "User": "app", "WorkingDir": "/work", "Cmd": ["sh", "-c", "id -u; pwd; echo $GREETING"],
            "Env": ["PATH=/bin", "GREETING=hello", "SPARE=1"], "StopSignal": "SIGUSR1",
            "Volumes": {"/data": {}}, "ExposedPorts": {"8080/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("config.v1+json", &canonical_json(&config)),
        "layers": [put("layer.v1.tar+gzip", &encoder.finish().unwrap())],
    });
    let mut named = put("manifest.v1+json", &canonical_json(&manifest));
    named["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [named]});
    fs::write(folder.join("index.json"), canonical_json(&index)).unwrap();
}

/// The image's files: `/work` and `/data/seed` are the user's, `/bin/text` is no program.
fn layer(busybox: &[u8]) -> Vec<u8> {
    let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/work:/bin/sh\n";
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, (mode, owner): (u32, u64), bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, bytes).unwrap();
    };
    let (file, folder) = (tar::EntryType::Regular, tar::EntryType::Directory);
    add("bin/busybox", file, (0o755, 0), busybox);
    add("bin/text", file, (0o644, 0), b"no program");
    add("etc/passwd", file, (0o644, 0), passwd.as_bytes());
    add("etc/group", file, (0o644, 0), b"root:x:0:\napp:x:1000:\n");
    add("work/", folder, (0o755, 1000), b"");
    add("tmp/", folder, (0o1777, 0), b"");
    add("data/", folder, (0o750, 1000), b"");
    add("data/seed", file, (0o640, 1000), b"seed\n");
    for applet in APPLETS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    archive.into_inner().unwrap()
}
