//! The toolchain of a golang image, unpacked and run on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment;
use super::flags::BuildFlags;
use super::launch::{Confined, Inside};
use super::session::Session;
use super::toolchain::{
    Fetching, Origin, Toolchain, VERSION_LIMIT, is_program, parse_version, read_version,
};
use crate::cache::gocache::{GoCache, InUse};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::oci::{ContainerConfig, Digest};
use crate::progress::TaskKind;
use crate::rootfs::{Follow, Part, Rootfs, Unpacker};
use crate::sandbox::{Isolation, Launcher, Unconfined};
use crate::transport::Context;

/// Where Go is in images whose configuration does not say it.
const USUAL_ROOTS: [&str; 3] = ["/usr/local/go", "/usr/lib/golang", "/usr/lib/go"];

/// What every Go distribution has. A layer never puts one over another: that would break both.
const DISTRIBUTION: [&str; 4] = ["VERSION", "bin/go", "pkg/tool", "src/runtime"];

/// What images search for programs that do not say it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the user's that every build may see: they change how fast it is, and nothing else.
const HARMLESS: [&str; 3] = ["GOGC", "GOMAXPROCS", "GOMEMLIMIT"];

/// Makes toolchains out of images.
#[derive(Clone)]
pub struct Images {
    /// Where images come from.
    pub context: Context,
    /// Where the caches of the scope are kept, beside each other those of images.
    pub go_cache: GoCache,
    /// The user's environment: it says how modules are fetched, and nothing about builds.
    pub variables: BTreeMap<String, String>,
    /// Starts confined processes.
    pub launcher: Launcher,
    /// Whether these run where nothing confines them.
    pub unconfined: Unconfined,
    /// How many things can usefully run at once.
    pub cores: usize,
}

/// What a build needs of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Its Go.
    Go,
    /// Its C compiler, headers and libraries as well, or its git.
    Everything,
}

impl Need {
    /// What a build with these flags needs.
    pub fn of(flags: &BuildFlags) -> Self {
        if flags.needs_other_programs() { Self::Everything } else { Self::Go }
    }
}

/// A toolchain that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the image's manifest.
    pub image: Digest,
    /// The folder in the image.
    pub folder: String,
}

impl Images {
    /// The toolchain, if it is here already. Needs no network.
    pub fn unpacked(&self, unpacked: &Unpacked) -> Result<Option<Toolchain>> {
        let part = Part::new(&unpacked.folder, &DISTRIBUTION)?;
        let root = self.unpacker(Isolation::Toolchain).kept_part(&unpacked.image, &part)?;
        let root = root.filter(|root| is_program(&root.join("bin/go")));
        root.map(|root| self.toolchain(root, &unpacked.image)).transpose()
    }

    /// Takes the toolchain out of an image, and says what to find it by.
    pub async fn unpack(&self, image: &Image, name: &str) -> Result<(Unpacked, Toolchain)> {
        let digest = image.manifest.digest().clone();
        let candidates = roots(&image.config.value().config);
        for folder in &candidates {
            let unpacked = Unpacked { image: digest.clone(), folder: folder.clone() };
            if let Some(toolchain) = self.unpacked(&unpacked)? {
                return Ok((unpacked, toolchain));
            }
            if let Some(root) = self.unpack_distribution(image, folder, name).await? {
                return Ok((unpacked, self.toolchain(root, &digest)?));
            }
        }
        Err(no_go(name, &candidates))
    }

    /// The toolchain of an image where it is: in the image's own root file system, in a sandbox.
    pub async fn enter(
        &self,
        image: &Image,
        name: &str,
        (isolation, need): (Isolation, Need),
    ) -> Result<Toolchain> {
        let go_cache = self.go_cache.of_image(image.manifest.digest());
        let in_use = go_cache.use_now()?;
        let rootfs = self.unpacker(isolation).unpack(image).await?;
        let view = rootfs.view()?;
        let config = &image.config.value().config;
        let candidates = roots(config);
        let mut found = None;
        for root in &candidates {
            if view.find(&format!("{root}/bin/go"), Follow::Last)?.is_some() {
                found = Some(root.clone());
                break;
            }
        }
        let Some(root) = found else { return Err(no_go(name, &candidates)) };
        let text = view.read(&format!("{root}/VERSION"), VERSION_LIMIT)?.unwrap_or_default();
        let version = parse_version(&String::from_utf8_lossy(&text));
        let version = version.ok_or_else(|| no_version(image.manifest.digest()))?;
        // The go command does not see when the image's C headers and libraries are others.
        let cache = match need {
            Need::Go => go_cache.build_cache(),
            Need::Everything => go_cache.build_cache_of(image.manifest.digest())?,
        };
        self.toolchain_inside(image, (rootfs, cache), (root, version), in_use)
    }

    fn toolchain_inside(
        &self,
        image: &Image,
        (rootfs, cache): (Rootfs, PathBuf),
        (root, version): (String, String),
        in_use: InUse,
    ) -> Result<Toolchain> {
        let go_cache = self.go_cache.of_image(image.manifest.digest());
        let session = self.session(&go_cache, in_use)?;
        let temporary = session.temporary.path().to_owned();
        let allowed = environment::allowed(&self.variables)?;
        let digest = image.manifest.digest().clone();
        let isolation = rootfs.isolation();
        let copy = (!isolation.has_overlay()).then(|| rootfs.fork().map(Arc::new)).transpose()?;
        let inside = Inside {
            launcher: self.launcher.clone(),
            isolation,
            rootfs,
            copy,
            scratch: vec![cache.clone(), temporary.clone()],
            modules: go_cache.go_path(),
            home: allowed.get("HOME").map(PathBuf::from),
            for_fetching: for_fetching(&allowed, &[]),
        };
        let path = image.config.value().config.env_value("PATH").unwrap_or(DEFAULT_PATH);
        let root = PathBuf::from(root);
        let mut environment = self.environment(&go_cache, &root, &temporary);
        environment.insert("PATH".to_owned(), format!("{}:{path}", root.join("bin").display()));
        environment.insert("GOCACHE".to_owned(), cache.display().to_string());
        let fetching = fetching(&root, path, allowed);
        let origin = Origin::Image { digest, _session: Arc::new(session) };
        let toolchain = Toolchain::new(root, version, environment, origin, Arc::new(inside));
        Ok(toolchain.with_fetching(fetching))
    }

    fn session(&self, go_cache: &GoCache, in_use: InUse) -> Result<Session> {
        let temporary = self.context.store.temporary_folder()?;
        environment::prepare_home(temporary.path())?;
        Ok(Session { temporary, _in_use: in_use, _go_cache: go_cache.clone() })
    }

    fn unpacker(&self, isolation: Isolation) -> Unpacker {
        Unpacker { context: self.context.clone(), isolation, cores: self.cores }
    }

    /// Unpacks one folder, if Go is there.
    async fn unpack_distribution(
        &self,
        image: &Image,
        folder: &str,
        name: &str,
    ) -> Result<Option<PathBuf>> {
        let task = self.context.reporter.start(TaskKind::Download, format!("Go of {name}"), None);
        let part = Part::new(folder, &DISTRIBUTION)?;
        let root = self.unpacker(Isolation::Toolchain).unpack_part(image, &part).await;
        let root = root.map_err(|error| match error.kind() {
            ErrorKind::Unsupported => error.hint(
                "choose an image of the official kind, whose Go is one folder: --go golang:VERSION",
            ),
            _ => error,
        })?;
        let root = root.filter(|root| is_program(&root.join("bin/go")));
        match root {
            Some(_) => task.done(),
            None => task.skipped("not there"),
        }
        Ok(root)
    }

    fn toolchain(&self, root: PathBuf, image: &Digest) -> Result<Toolchain> {
        let go_cache = self.go_cache.of_image(image);
        let in_use = go_cache.use_now()?;
        let version = read_version(&root).ok_or_else(|| no_version(image))?;
        let session = self.session(&go_cache, in_use)?;
        let temporary = session.temporary.path();
        let allowed = environment::allowed(&self.variables)?;
        let confined = Confined {
            launcher: self.launcher.clone(),
            unconfined: self.unconfined,
            root: root.clone(),
            scratch: vec![go_cache.build_cache(), temporary.to_owned()],
            modules: go_cache.go_path(),
            home: allowed.get("HOME").map(PathBuf::from),
            for_fetching: for_fetching(&allowed, &["PATH"]),
        };
        let environment = self.environment(&go_cache, &root, temporary);
        let path = allowed.get("PATH").cloned().unwrap_or_default();
        let fetching = fetching(&root, &path, allowed);
        let origin = Origin::Image { digest: image.clone(), _session: Arc::new(session) };
        Ok(Toolchain::new(root, version, environment, origin, Arc::new(confined))
            .with_fetching(fetching))
    }

    fn environment(
        &self,
        go_cache: &GoCache,
        root: &Path,
        temporary: &Path,
    ) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        let fixed = [
            ("GOROOT", text(root)),
            ("PATH", text(&root.join("bin"))),
            ("GOCACHE", text(&go_cache.build_cache())),
            ("GOPATH", text(&go_cache.go_path())),
            ("GOMODCACHE", text(&go_cache.modules())),
            ("HOME", text(temporary)),
            ("TMPDIR", text(temporary)),
        ];
        let mut environment: BTreeMap<String, String> =
            fixed.map(|(key, value)| (key.to_owned(), value)).into();
        for key in HARMLESS {
            environment
                .extend(self.variables.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        // It says which packages are meant, not what is in them.
        let workspace = self.variables.get("GOWORK").filter(|value| !value.is_empty());
        environment.extend(workspace.map(|value| ("GOWORK".to_owned(), value.clone())));
        environment
    }
}

/// What the user's environment adds where modules are fetched.
fn fetching(root: &Path, search: &str, allowed: BTreeMap<String, String>) -> Fetching {
    const OURS: [&str; 11] = [
        "GOCACHE",
        "GOCACHEPROG",
        "GOENV",
        "GOMODCACHE",
        "GOPATH",
        "GOROOT",
        "GOTMPDIR",
        "GOTOOLCHAIN",
        "PATH",
        "TEMP",
        "TMPDIR",
    ];
    let path = format!("{}:{search}", root.join("bin").display());
    let mut environment = allowed;
    environment.retain(|key, _| !OURS.contains(&key.as_str()));
    environment.insert("PATH".to_owned(), path.trim_end_matches(':').to_owned());
    Fetching { turn: Arc::default(), environment }
}

fn no_go(name: &str, roots: &[String]) -> Error {
    Error::new(ErrorKind::NotFound, format!("take Go out of {name}"))
        .because(format!("the image has no Go at {}", roots.join(", ")))
        .hint("choose an image such as golang:1.26")
}

fn no_version(image: &Digest) -> Error {
    Error::new(ErrorKind::Unsupported, format!("use Go of image {image}"))
        .because("its file VERSION names no version of Go")
}

/// Files and folders that the user's variables name for the fetching of modules, those in `lists`
/// of folders among them.
fn for_fetching(variables: &BTreeMap<String, String>, lists: &[&str]) -> Vec<PathBuf> {
    const NAMING: [&str; 8] = [
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_SSL_CAINFO",
        "NETRC",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "GIT_ASKPASS",
        "SSH_ASKPASS",
    ];
    let files = NAMING.iter().filter_map(|name| variables.get(*name));
    let lists = lists.iter().chain(&["SSL_CERT_DIR"]);
    let folders = lists.filter_map(|name| variables.get(*name));
    let folders = folders.flat_map(|list| list.split(':'));
    let proxies = variables.get("GOPROXY").into_iter().flat_map(|list| list.split([',', '|']));
    let mirrors = proxies.filter_map(|proxy| proxy.strip_prefix("file://"));
    let paths = files.map(String::as_str).chain(folders).chain(mirrors).map(PathBuf::from);
    paths.filter(|path| path.is_absolute()).collect()
}

/// Takes the Go distribution of an image out of it; gives its folder in the image and on this machine.
pub async fn take_out(unpacker: &Unpacker, image: &Image, name: &str) -> Result<(String, PathBuf)> {
    let candidates = roots(&image.config.value().config);
    for folder in &candidates {
        let part = Part::new(folder, &DISTRIBUTION)?;
        let root = unpacker.unpack_part(image, &part).await?;
        if let Some(root) = root.filter(|root| is_program(&root.join("bin/go"))) {
            return Ok((folder.clone(), root));
        }
    }
    Err(no_go(name, &candidates))
}

/// The folders in which an image may have its GOROOT, the likeliest first.
fn roots(config: &ContainerConfig) -> Vec<String> {
    if let Some(root) = config.env_value("GOROOT").filter(|root| root.starts_with('/')) {
        return vec![root.to_owned()];
    }
    let go_path = config.env_value("GOPATH").unwrap_or("/go");
    let folders = config.env_value("PATH").unwrap_or_default().split(':');
    let of_folder = |folder: &str| {
        let root = folder.trim_end_matches('/').strip_suffix("/bin")?;
        let name = root.rsplit('/').next().unwrap_or_default();
        // GOPATH has programs, but not this one.
        let is_root = name.starts_with("go") && !go_path.split(':').any(|path| path == root);
        is_root.then(|| root.to_owned())
    };
    let mut roots: Vec<String> = folders.filter_map(of_folder).collect();
    for usual in USUAL_ROOTS {
        if roots.is_empty() || !roots.iter().any(|root| root == usual) {
            roots.push(usual.to_owned());
        }
    }
    roots
}
