//! A Go toolchain: where it is, which one it is, and what it may see.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::{Digest, Platform};

use super::environment;
use super::flags::BuildFlags;
use super::launch::{Host, Launch, Phase};
use super::session::Session;

/// A `VERSION` file is a few lines.
pub(super) const VERSION_LIMIT: u64 = 4096;

/// Variables of the machine that have a say in what is compiled.
const DECIDING: [&str; 4] = ["GOTOOLCHAIN", "GOWORK", "GOPATH", "GOMODCACHE"];

/// A Go installation, how it is run, and the part of the user's environment that it may see.
///
/// One of this machine runs as a plain process. With `GOTOOLCHAIN=auto` (the default of upstream's
/// distributions) it may hand a build over to the newer toolchain that `go.mod` asks for, just as it
/// does without gondola. One of an image is confined, and never hands over.
#[derive(Clone, Debug)]
pub struct Toolchain {
    go: PathBuf,
    root: PathBuf,
    version: String,
    environment: BTreeMap<String, String>,
    for_c: BTreeMap<String, String>,
    origin: Origin,
    launch: Arc<dyn Launch>,
    fetching: Option<Fetching>,
    /// The only folder that is written to, where there is one.
    writes_below: Option<PathBuf>,
}

/// Where a toolchain comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// It is installed on this machine, where it may be changed at any time.
    Installed,
    /// It was unpacked from an image, and is what the digest says.
    Image {
        digest: Digest,
        /// What goes away when no clone is left.
        _session: Arc<Session>,
    },
}

/// What is added to the environment where modules are fetched apart from builds.
#[derive(Clone, Debug)]
pub(super) struct Fetching {
    /// Held while modules are fetched.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    pub environment: BTreeMap<String, String>,
}

impl Toolchain {
    /// Finds the `go` that a shell with the environment `env` in the folder `dir` would run.
    ///
    /// Starts no process unless `go` on the path is a wrapper such as a version manager's.
    pub fn find(env: &BTreeMap<String, String>, dir: &Path) -> Result<Self> {
        let path = env.get("PATH").map_or("", String::as_str);
        let folders = path.split(':').filter(|folder| !folder.is_empty());
        let found = folders.map(|folder| dir.join(folder).join("go")).find(|go| is_program(go));
        match found {
            Some(go) => Self::at(&go, env, dir),
            None => Err(no_go(env)),
        }
    }

    /// Takes the `go` program at a path of its own.
    pub fn at(go: &Path, env: &BTreeMap<String, String>, dir: &Path) -> Result<Self> {
        let action = || format!("use the Go toolchain {}", go.display());
        if !is_program(go) {
            return Err(Error::new(ErrorKind::NotFound, action())
                .because("there is no program of that name"));
        }
        let program = fs_err::canonicalize(go).cannot(action)?;
        let environment = environment::allowed(env)?;
        let (root, version) = match installation(&program, &environment) {
            Some(found) => found,
            None => ask(go, env, dir).cannot(action)?,
        };
        // A wrapper would choose a version again for every folder.
        let own = root.join("bin/go");
        let go = if is_program(&own) { own } else { program };
        let toolchain = Self::new(root, version, environment, Origin::Installed, Arc::new(Host));
        Ok(Self { go, for_c: environment::for_c(env), ..toolchain })
    }

    /// A toolchain that may use a network at any time, and sees no C compiler.
    pub(super) fn new(
        root: PathBuf,
        version: String,
        environment: BTreeMap<String, String>,
        origin: Origin,
        launch: Arc<dyn Launch>,
    ) -> Self {
        let go = root.join("bin/go");
        let for_c = BTreeMap::new();
        let (fetching, writes_below) = (None, None);
        Self { go, root, version, environment, for_c, origin, launch, fetching, writes_below }
    }

    /// The same toolchain, building without the network; modules are fetched apart.
    pub(super) fn with_fetching(self, fetching: Fetching) -> Self {
        Self { fetching: Some(fetching), ..self }
    }

    /// The same toolchain, which finds caches and modules where they are, and writes below a folder alone.
    /// One of an image is confined anyway, and stays as it is.
    pub fn writing_below(self, folder: &Path) -> Result<Self> {
        if self.is_pinned() {
            return Ok(self);
        }
        environment::prepare_below(folder)?;
        Ok(Self { writes_below: Some(folder.to_owned()), ..self })
    }

    /// Sets a variable of its processes that has no say in what they make.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// The `go` program, without symbolic links or wrappers in between.
    pub fn program(&self) -> &Path {
        &self.go
    }

    /// `GOROOT`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The version, such as `go1.26.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The image that it comes from, if it does.
    pub fn image(&self) -> Option<&Digest> {
        match &self.origin {
            Origin::Image { digest, .. } => Some(digest),
            Origin::Installed => None,
        }
    }

    pub(super) fn launch(&self) -> &dyn Launch {
        &*self.launch
    }

    /// How modules are fetched, if that happens apart from builds.
    pub(super) fn fetching(&self) -> Option<&Fetching> {
        self.fetching.as_ref()
    }

    /// Whether its files are known to be what they were, as long as its identity is.
    pub(super) fn is_pinned(&self) -> bool {
        matches!(self.origin, Origin::Image { .. })
    }

    /// The environment of a `go` process that works for a platform.
    pub(super) fn environment(
        &self,
        flags: &BuildFlags,
        platform: &Platform,
        phase: Phase,
    ) -> Result<BTreeMap<String, String>> {
        let mut environment = self.environment.clone();
        if let (Phase::Fetch, Some(fetching)) = (phase, &self.fetching) {
            environment.extend(fetching.environment.clone());
        }
        if flags.uses_host_compiler() {
            environment.extend(self.for_c.clone());
        }
        environment.extend(flags.environment(platform)?);
        if self.fetching.is_some() {
            // Another version would have to come from somewhere.
            environment.insert("GOTOOLCHAIN".to_owned(), "local".to_owned());
            if phase == Phase::Build {
                environment.insert("GOPROXY".to_owned(), "off".to_owned());
            }
        }
        if let Some(folder) = &self.writes_below {
            environment::write_below(folder, &mut environment);
        }
        Ok(environment)
    }

    /// The variables of the machine that have a say in what is compiled, where they are set.
    pub(super) fn named_variables(&self, flags: &BuildFlags) -> BTreeMap<String, String> {
        let of = |key: &str| Some((key.to_owned(), self.environment.get(key)?.clone()));
        let mut all: BTreeMap<_, _> = match &self.origin {
            Origin::Image { .. } => of("GOWORK").into_iter().collect(),
            Origin::Installed => DECIDING.into_iter().filter_map(of).collect(),
        };
        if flags.uses_host_compiler() {
            all.extend(self.for_c.clone());
            all.extend(of("PATH"));
        }
        all
    }

    /// A text that changes whenever another toolchain is installed or chosen, and whenever a
    /// variable changes by which the machine takes part in a build.
    pub fn identity(&self, flags: &BuildFlags) -> String {
        let mut hash = blake3::Hasher::new();
        let mut add = |text: &[u8]| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(self.version.as_bytes());
        if let Origin::Image { digest, .. } = &self.origin {
            add(digest.as_str().as_bytes());
            add(self.environment.get("GOWORK").map_or(&[][..], String::as_bytes));
            return hash.finalize().to_hex().to_string();
        }
        add(self.go.as_os_str().as_encoded_bytes());
        add(self.root.as_os_str().as_encoded_bytes());
        if let Ok(found) = fs_err::metadata(&self.go) {
            add(&found.size().to_le_bytes());
            add(&found.mtime().to_le_bytes());
            add(&found.mtime_nsec().to_le_bytes());
            add(&found.ino().to_le_bytes());
        }
        for key in DECIDING {
            add(self.environment.get(key).map_or(&[][..], String::as_bytes));
        }
        if flags.uses_host_compiler() {
            for (key, value) in &self.for_c {
                add(key.as_bytes());
                add(value.as_bytes());
            }
            add(self.environment.get("PATH").map_or(&[][..], String::as_bytes));
        }
        hash.finalize().to_hex().to_string()
    }

    /// Where it keeps modules.
    pub fn modules_folder(&self) -> Option<PathBuf> {
        environment::modules_folder(&self.environment)
    }

    /// A variable as the go command sees it.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        self.environment.get(key).map(String::as_str)
    }
}

pub(super) fn is_program(path: &Path) -> bool {
    fs_err::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn no_go(env: &BTreeMap<String, String>) -> Error {
    let error = Error::new(ErrorKind::NotFound, "find the Go toolchain")
        .because("no folder of PATH has a program \"go\"");
    let home = env.get("HOME").map(|home| Path::new(home).join("go/bin"));
    let usual = ["/usr/local/go/bin", "/usr/lib/go/bin", "/opt/homebrew/bin", "/snap/bin"];
    let mut folders = usual.iter().map(PathBuf::from).chain(home);
    match folders.find(|folder| is_program(&folder.join("go"))) {
        Some(folder) => {
            error.hint(format!("there is one in {0}: export PATH=$PATH:{0}", folder.display()))
        }
        None => error.hint("install Go from https://go.dev/dl/ and add its bin folder to PATH"),
    }
}

/// The root and version of the installation that a resolved program belongs to, read from files.
fn installation(
    program: &Path,
    environment: &BTreeMap<String, String>,
) -> Option<(PathBuf, String)> {
    let root = match environment.get("GOROOT") {
        Some(root) => PathBuf::from(root),
        None => program.parent()?.parent()?.to_owned(),
    };
    if !root.join("pkg/tool").is_dir() {
        return None;
    }
    let version = read_version(&root)?;
    Some((root, version))
}

/// The version that an installation says it is.
pub(super) fn read_version(root: &Path) -> Option<String> {
    let mut text = String::new();
    let file = crate::disk::open(&root.join("VERSION")).ok()?;
    file.take(VERSION_LIMIT).read_to_string(&mut text).ok()?;
    parse_version(&text)
}

/// The version that a `VERSION` file names.
pub(super) fn parse_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.trim();
    version.contains("go1").then(|| version.to_owned())
}

/// Asks a `go` whose files do not say it.
fn ask(go: &Path, env: &BTreeMap<String, String>, dir: &Path) -> Result<(PathBuf, String)> {
    let output = Command::new(go)
        .args(["env", "GOROOT", "GOVERSION"])
        .current_dir(dir)
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .output()
        .cannot(|| "run \"go env\"")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (Some(root), Some(version)) if output.status.success() && !root.is_empty() => {
            Ok((root.into(), version.to_owned()))
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Error::new(ErrorKind::Program, "learn its version with \"go env\"")
                .because(format!("{}: {}", output.status, said.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(root: &Path, script: &str) -> PathBuf {
        let go = root.join("bin/go");
        fs_err::create_dir_all(root.join("bin")).unwrap();
        // Written by another process: a child of another test's would hold it open for a moment.
        let text = root.join("text");
        fs_err::write(&text, script).unwrap();
        let mut install = std::process::Command::new("install");
        assert!(install.args(["-m", "755"]).args([&text, &go]).status().unwrap().success());
        go
    }

    fn path_only(folder: &Path) -> BTreeMap<String, String> {
        let path = format!("/nonexistent:{}", folder.display());
        BTreeMap::from([("PATH".to_owned(), path), ("GOENV".to_owned(), "off".to_owned())])
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_installation() {
        let folder = tempfile::tempdir().unwrap();
        let base = fs_err::canonicalize(folder.path()).unwrap();
        let root = base.join("go");
        let go = install(&root, "#!/bin/sh\nexit 9\n");
        fs_err::create_dir_all(root.join("pkg/tool")).unwrap();
        fs_err::write(root.join("VERSION"), "go1.99.1\ntime 2026-01-01T00:00:00Z\n").unwrap();
        let links = base.join("links");
        fs_err::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(&go, links.join("go")).unwrap();

        let found = Toolchain::find(&path_only(&links), &base).unwrap();
        assert_eq!((found.version(), found.root()), ("go1.99.1", root.as_path()));
        assert_eq!(found.program(), go);

        let before = found.identity(&BuildFlags::default());
        fs_err::write(root.join("VERSION"), "go1.99.2\n").unwrap();
        let other = Toolchain::find(&path_only(&links), &base).unwrap();
        assert_ne!(other.identity(&BuildFlags::default()), before);
    }

    #[test]
    fn a_wrapper_is_asked_once_and_then_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let base = fs_err::canonicalize(folder.path()).unwrap();
        let real = install(&base.join("real"), "#!/bin/sh\n");
        let script = format!("#!/bin/sh\necho {}\necho go1.98\n", base.join("real").display());
        install(&base.join("shim"), &script);
        let found = Toolchain::find(&path_only(&base.join("shim/bin")), &base).unwrap();
        assert_eq!((found.version(), found.program()), ("go1.98", real.as_path()));

        install(&base.join("broken"), "#!/bin/sh\necho no version set >&2\nexit 126\n");
        let error = Toolchain::find(&path_only(&base.join("broken/bin")), &base).unwrap_err();
        assert!(error.to_string().contains("no version set"), "{error}");
    }

    #[test]
    fn a_machine_without_go_is_told_where_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = Toolchain::find(&path_only(folder.path()), folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.starts_with("cannot find the Go toolchain: "), "{text}");
        assert!(text.contains("go.dev/dl") || text.contains("export PATH"), "{text}");
    }
}
