//! The users and isolations under which cases run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;
use gondola::sandbox::Isolation;
use gondola::sandbox::owner::{Kept, Owner};

/// An id that no distribution gives to anybody: a user without a name and without ranges.
const NOBODYS_ID: &str = "54321";

/// The first argument of the test binary where the rest is to be done inside a range of ids.
pub const ENTER: &str = "--inside-id-range";

/// What the name of the user with ranges begins with, who is made for the time of the tests. The
/// number of the test process follows.
const RANGED_USER: &str = "gondola-ranged-";

/// Folders and programs that every user reaches.
pub struct World {
    folder: PathBuf,
    scratches: AtomicU64,
    ranged_user: Option<Result<String, String>>,
    debian: OnceLock<Result<(), String>>,
}

/// A user on an isolation.
pub struct Setting {
    pub isolation: Isolation,
    pub user: &'static str,
    /// What the machine lacks for it.
    pub missing: Option<String>,
    /// Whether a machine that claims to have everything must have it.
    pub required: bool,
    become_user: Vec<String>,
    /// Whether cases enter a range of ids first, and start sandboxes from inside.
    inside: bool,
}

/// Copies a program that is started here. Another process writes it: what this one has open for writing
/// while one of its threads forks cannot be started.
pub fn install(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).args([from.as_ref(), to.as_ref()]).status().unwrap();
    assert!(status.success(), "{install:?}");
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gondola-sandbox-").tempdir().unwrap();
        let folder = folder.keep();
        fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        install(std::env::current_exe().unwrap(), folder.join("gondola-test"));
        build_payload(&folder.join("payload"));
        let ranged_user = is_root().then(make_ranged_user);
        Self { folder, scratches: AtomicU64::new(0), ranged_user, debian: OnceLock::new() }
    }

    pub fn settings(&self) -> Vec<Setting> {
        if !is_root() {
            let own = |isolation| Setting {
                become_user: vec![],
                ..Setting::new(isolation, "own user", &[])
            };
            return [Isolation::Ns, Isolation::NsCopy, Isolation::Toolchain].map(own).into();
        }
        let nobody = ["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"];
        let (name, missing) = match &self.ranged_user {
            Some(Ok(name)) => (name.as_str(), None),
            Some(Err(why)) => (RANGED_USER, Some(why.clone())),
            None => (RANGED_USER, None),
        };
        let ranged = ["--reuid", name, "--regid", name, "--init-groups"];
        // What Docker leaves to root: no mounts, no namespaces.
        let capabilities = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,\
            +setuid,+setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";
        let contained = ["--bounding-set", capabilities];
        let mut with_ranges = Setting::new(Isolation::NsSubuid, "user with ranges", &ranged);
        with_ranges.missing = missing;
        let mut inside = Setting::new(Isolation::NsSubuid, "root of a range", &ranged);
        inside.missing.clone_from(&with_ranges.missing);
        inside.inside = true;
        vec![
            Setting::new(Isolation::Ns, "user", &nobody),
            Setting::new(Isolation::NsCopy, "user", &nobody),
            Setting::new(Isolation::Toolchain, "user", &nobody),
            with_ranges,
            inside,
            Setting::new(Isolation::NsRoot, "root", &[]),
            Setting::new(Isolation::Toolchain, "root", &[]),
            Setting::new(Isolation::InContainer, "a container's root", &contained),
        ]
    }

    /// A Debian root file system, as root unpacks it and as a user with one id does; or why there is
    /// none.
    pub fn debian(&self) -> Result<(), String> {
        self.debian.get_or_init(|| make_debian(&self.folder.join("packages"))).clone()
    }

    pub fn payload(&self) -> PathBuf {
        self.folder.join("payload")
    }

    /// The device of tunnels, as most distributions let everybody use it.
    pub fn tunnels(&self) -> PathBuf {
        let path = self.folder.join("tunnels");
        if !path.exists() {
            let made = Command::new("mknod").arg(&path).args(["c", "10", "200"]).status().unwrap();
            assert!(made.success());
            fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        }
        path
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
        if let Some(Ok(name)) = &self.ranged_user {
            let _ = Command::new("userdel").args(["--force", name]).output();
        }
    }
}

impl Setting {
    fn new(isolation: Isolation, user: &'static str, become_user: &[&str]) -> Self {
        let become_user = become_user.iter().map(|word| (*word).to_owned()).collect();
        Self { isolation, user, missing: None, required: true, become_user, inside: false }
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

/// Makes `real` and `recorded` from this machine's own distribution and mirror.
fn make_debian(folder: &Path) -> Result<(), String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.ok_or("this machine runs no Debian")?;
    let mirror = mirror().ok_or("this machine has no sources for apt")?;
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let real = folder.join("real");
    let target = real.to_str().unwrap();
    succeed("debootstrap", &["--variant=minbase", suite, target, &mirror])?;
    // What a running system would be asked to start.
    fs::write(real.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n").unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    fs::set_permissions(real.join("usr/sbin/policy-rc.d"), open).unwrap();
    let script = "mkdir recorded && chown \"$0:$0\" recorded && \
        tar -C real -c --exclude='./dev/*' . | setpriv --reuid \"$0\" --regid \"$0\" \
        --clear-groups tar -C recorded -x -p --no-same-owner";
    let recorded = folder.join("recorded");
    let mut command = Command::new("sh");
    command.args(["-c", script, NOBODYS_ID]);
    let output = command.current_dir(folder).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    keep_owners(&real, &recorded);
    Ok(())
}

/// Where the first source of apt is.
fn mirror() -> Option<String> {
    let files = fs::read_dir("/etc/apt/sources.list.d").ok()?;
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    let texts: Vec<_> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let mut lines = texts.iter().flat_map(|text| text.lines());
    lines.find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["URIs:" | "deb", uri, ..] if uri.contains("debian") => Some((*uri).to_owned()),
            _ => None,
        }
    })
}

/// Keeps the owners of one folder's files as attributes of another one's.
fn keep_owners(real: &Path, recorded: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let mut folders = vec![real.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            if found.is_dir() {
                folders.push(entry.path());
            }
            let copy = recorded.join(entry.path().strip_prefix(real).unwrap());
            let owner = Owner { uid: found.uid(), gid: found.gid() };
            if owner != Owner::ROOT && copy.symlink_metadata().is_ok() {
                let kept = Kept { owner: Some(owner), ..Kept::default() };
                assert!(kept.write_to_path(&copy).unwrap(), "{}", copy.display());
            }
        }
    }
}

/// Runs a program that may be missing, or may fail for want of a network.
fn succeed(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {last}")) }
}

/// Removes users of runs that were killed.
fn remove_ranged_users_of_the_dead() {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = users.lines().filter_map(|line| line.split(':').next());
    for name in names {
        let Some(process) = name.strip_prefix(RANGED_USER) else { continue };
        if !Path::new("/proc").join(process).exists() {
            let _ = Command::new("userdel").args(["--force", name]).output();
        }
    }
}

/// Makes a user with ranges of ids and gives the name, or says why there can be none.
fn make_ranged_user() -> Result<String, String> {
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
    remove_ranged_users_of_the_dead();
    let name = format!("{RANGED_USER}{}", std::process::id());
    let shell = ["--no-create-home", "--shell", "/usr/sbin/nologin"];
    run("useradd", &[&shell[..], &[&name]].concat())?;
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    if !ids.lines().any(|line| line.starts_with(&format!("{name}:"))) {
        let ranges = ["--add-subuids", "700000-765535", "--add-subgids", "700000-765535"];
        run("usermod", &[&ranges[..], &[&name]].concat())?;
    }
    Ok(name)
}
