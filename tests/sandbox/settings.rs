//! The users and rungs under which cases run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;
use gondola::sandbox::Rung;

/// An id that no distribution gives to anybody: a user without a name and without ranges.
const NOBODYS_ID: &str = "54321";

/// The first argument of the test binary where the rest is to be done inside a range of ids.
pub const ENTER: &str = "--inside-id-range";

/// The user with ranges, made for the time of the tests.
const RANGED_USER: &str = "gondola-ranged";

/// Folders and programs that every user reaches.
pub struct World {
    folder: PathBuf,
    scratches: AtomicU64,
    ranged_user: Option<Result<(), String>>,
}

/// A user on a rung.
pub struct Setting {
    pub rung: Rung,
    pub user: &'static str,
    /// What the machine lacks for it.
    pub missing: Option<String>,
    /// Whether a machine that claims to have everything must have it.
    pub required: bool,
    become_user: Vec<String>,
    /// Whether cases enter a range of ids first, and start sandboxes from inside.
    inside: bool,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gondola-sandbox-").tempdir().unwrap();
        let folder = folder.keep();
        fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(std::env::current_exe().unwrap(), folder.join("gondola-test")).unwrap();
        build_payload(&folder.join("payload"));
        let ranged_user = is_root().then(make_ranged_user);
        Self { folder, scratches: AtomicU64::new(0), ranged_user }
    }

    pub fn settings(&self) -> Vec<Setting> {
        if !is_root() {
            let own = |rung| Setting { become_user: vec![], ..Setting::new(rung, "own user", &[]) };
            return [Rung::Ns, Rung::NsCopy, Rung::Toolchain].map(own).into();
        }
        let nobody = ["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"];
        let ranged = ["--reuid", RANGED_USER, "--regid", RANGED_USER, "--init-groups"];
        // What Docker leaves to root: no mounts, no namespaces.
        let capabilities = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,\
            +setuid,+setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";
        let contained = ["--bounding-set", capabilities];
        let mut with_ranges = Setting::new(Rung::NsSubuid, "user with ranges", &ranged);
        with_ranges.missing = self.ranged_user.clone().and_then(Result::err);
        let mut inside = Setting::new(Rung::NsSubuid, "root of a range", &ranged);
        inside.missing.clone_from(&with_ranges.missing);
        inside.inside = true;
        vec![
            Setting::new(Rung::Ns, "user", &nobody),
            Setting::new(Rung::NsCopy, "user", &nobody),
            Setting::new(Rung::Toolchain, "user", &nobody),
            with_ranges,
            inside,
            Setting::new(Rung::NsRoot, "root", &[]),
            Setting::new(Rung::Toolchain, "root", &[]),
            Setting::new(Rung::Chroot, "a container's root", &contained),
        ]
    }

    /// A fresh folder for one case, its user's own.
    pub fn scratch(&self, setting: &Setting) -> PathBuf {
        let number = self.scratches.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(format!("case-{number}"));
        let mut command = setting.wrap("mkdir");
        // Made by the harness, so that the world itself need not be writable.
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let own = folder.join("own");
        assert!(command.arg(&own).status().unwrap().success());
        own
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        if let Some(Ok(())) = self.ranged_user {
            let _ = Command::new("userdel").arg(RANGED_USER).output();
        }
    }
}

impl Setting {
    fn new(rung: Rung, user: &'static str, become_user: &[&str]) -> Self {
        let become_user = become_user.iter().map(|word| (*word).to_owned()).collect();
        Self { rung, user, missing: None, required: true, become_user, inside: false }
    }

    /// The test binary, run as this setting's user.
    pub fn command(&self, world: &World) -> Command {
        let mut command = self.wrap(world.folder.join("gondola-test").to_str().unwrap());
        if self.inside {
            command.arg(ENTER);
        }
        command
    }

    fn wrap(&self, program: &str) -> Command {
        if self.become_user.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(&self.become_user).arg(program);
        command
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn build_payload(target: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/payload");
    let mut go = Command::new("go");
    go.current_dir(source).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false");
    let output = go.args(["build", "-trimpath", "-o"]).arg(target).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes the user with ranges of ids, or says why there can be none.
fn make_ranged_user() -> Result<(), String> {
    for program in ["newuidmap", "newgidmap", "useradd"] {
        if !Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .unwrap()
            .status
            .success()
        {
            return Err(format!("there is no {program}"));
        }
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
    };
    // A user that an interrupted run left behind.
    let _ = run("userdel", &[RANGED_USER]);
    let shell = ["--no-create-home", "--shell", "/usr/sbin/nologin"];
    run("useradd", &[&shell[..], &[RANGED_USER]].concat())?;
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    if ids.lines().any(|line| line.starts_with(&format!("{RANGED_USER}:"))) {
        return Ok(());
    }
    let ranges = ["--add-subuids", "700000-765535", "--add-subgids", "700000-765535"];
    run("usermod", &[&ranges[..], &[RANGED_USER]].concat())
}
