//! Base images with programs in them, made from what the machine has: busybox, a small Debian, Go.
//!
//! What takes long is kept below `target/tmp`, by a name that says what went into it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use fs_err as fs;
use gondola::oci::{Digest, canonical_json};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::libraries;
use super::need::{Missing, Need, describe, program, root, run, succeed};
use super::programs::install;
use super::registry::Registry;
use super::sandbox::go;

/// Goes into the names of what is kept; to be changed with what is made.
const VERSION: u32 = 1;
/// The time of all files and images.
const TIME: &str = "@1600000000";
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Debian packages that a base has in a repository of its own, so that installing them needs no
/// network: two that set capabilities, one that adds a user, one with configuration files.
const PACKAGES: [&str; 4] = ["iputils-ping", "libcap2-bin", "netbase", "uuid-runtime"];

/// A base image that tests build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// One program with links to it, `/etc/passwd` and `/etc/group`.
    Busybox,
    /// The smallest Debian, of the machine's own release, with a repository in `/srv/packages`.
    Debian,
    /// [`Base::Busybox`] with the machine's Go.
    Golang,
    /// A Debian with certificates, git, make and the machine's Go: what the official image is.
    DebianGolang,
    /// [`Base::Debian`] with the machine's Python, Node.js, Java and cargo.
    Programs,
    /// Certificates, `/etc/passwd`, `/tmp`: what distroless/static is.
    Static,
}

/// A registry that holds bases, each made when it is first asked for.
pub struct Bases {
    registry: Registry,
    folder: TempDir,
    pushed: Mutex<BTreeMap<Base, Need<Digest>>>,
}

/// A layer's archive, compressed.
struct Layer {
    file: PathBuf,
    diff_id: Digest,
}

impl Base {
    /// The repository below `library/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Debian => "debian",
            Self::Golang => "golang",
            Self::DebianGolang => "debian-golang",
            Self::Programs => "programs",
            Self::Static => "static",
        }
    }

    fn config(self) -> Value {
        let go_path = format!("PATH=/go/bin:/usr/local/go/bin:{USUAL_PATH}");
        let go = ["GOPATH=/go", "GOTOOLCHAIN=local"];
        match self {
            Self::Busybox => json!({"Env": [format!("PATH={USUAL_PATH}")], "Cmd": ["sh"]}),
            Self::Debian | Self::Programs => {
                json!({"Env": [format!("PATH={USUAL_PATH}")], "Cmd": ["bash"]})
            }
            Self::Golang => json!({
                "Env": [go_path, go[0], go[1], "CGO_ENABLED=0"], "Cmd": ["sh"], "WorkingDir": "/go",
            }),
            Self::DebianGolang => json!({
                "Env": [go_path, go[0], go[1]], "Cmd": ["bash"], "WorkingDir": "/go",
            }),
            Self::Static => json!({
                "Env": [format!("PATH={USUAL_PATH}"), "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
                "User": "65532", "WorkingDir": "/home/nonroot",
            }),
        }
    }
}

impl Bases {
    /// Starts an empty registry for bases.
    pub fn start() -> Need<Self> {
        program("skopeo")?;
        root("making base images")?;
        let folder = TempDir::with_prefix("gondola-bases-").unwrap();
        let bases = Self { registry: Registry::plain()?, folder, pushed: Mutex::default() };
        fs::write(bases.registries_conf(), bases.registries()).unwrap();
        Ok(bases)
    }

    /// The digest of a base's manifest; makes and pushes the base where that is still to be done.
    pub fn digest(&self, base: Base) -> Need<Digest> {
        let mut pushed = self.pushed.lock().unwrap();
        pushed.entry(base).or_insert_with(|| self.push(base)).clone()
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A `registries.conf` by which `docker.io` is this registry, for all programs that read one.
    pub fn registries_conf(&self) -> PathBuf {
        self.folder.path().join("registries.conf")
    }

    fn registries(&self) -> String {
        let host = self.registry.host();
        format!(
            "unqualified-search-registries = [\"docker.io\"]\n\n[[registry]]\n\
             prefix = \"docker.io\"\nlocation = \"{host}\"\ninsecure = true\n"
        )
    }

    fn push(&self, base: Base) -> Need<Digest> {
        let work = TempDir::with_prefix_in(base.name(), self.folder.path()).unwrap();
        let layers = match base {
            Base::Busybox => vec![busybox(work.path())?],
            Base::Debian => vec![debian()?],
            Base::Golang => vec![busybox(work.path())?, toolchain()?],
            Base::DebianGolang => {
                let debian = debian_with(&["ca-certificates", "git", "make"])?;
                vec![debian, toolchain()?, certificates(work.path())]
            }
            Base::Programs => vec![debian()?, programs()?],
            Base::Static => vec![static_files(work.path())],
        };
        let layout = work.path().join("layout");
        let digest = write_layout(&layout, &layers, &base.config());
        let image = self.registry.image(&format!("library/{}:latest", base.name()));
        let mut copy = Command::new(program("skopeo")?);
        copy.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}", layout.display())).arg(format!("docker://{image}"));
        succeed(&mut copy);
        Ok(digest)
    }
}

/// Writes an OCI layout with one image, and gives the digest of its manifest.
fn write_layout(folder: &Path, layers: &[Layer], config: &Value) -> Digest {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let describe = |media_type: &str, digest: &Digest, size: u64| json!({"mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest, "size": size});
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        describe(media_type, &digest, bytes.len() as u64)
    };
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            let bytes = fs::read(&layer.file).unwrap();
            put("layer.v1.tar+gzip", &bytes)
        })
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let platform = gondola::oci::Platform::host().to_string();
    let architecture = platform.split('/').nth(1).expect("os/architecture");
    let created = "2020-09-13T12:26:40Z";
    let history: Vec<_> =
        layers.iter().map(|_| json!({"created": created, "created_by": "a test"})).collect();
    let image = json!({
        "created": created, "os": "linux", "architecture": architecture, "history": history,
        "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("config.v1+json", &canonical_json(&image)), "layers": descriptors,
    });
    let manifest = put("manifest.v1+json", &canonical_json(&manifest));
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), canonical_json(&index)).unwrap();
    manifest["digest"].as_str().expect("just made").parse().unwrap()
}

/// Packs a folder. The file's name begins as given.
fn pack(folder: &Path, file: &Path) -> Layer {
    let plain = file.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--format=posix", "--numeric-owner", "--mtime", TIME, "--xattrs"]);
    tar.args(["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]);
    tar.arg("--directory").arg(folder).arg("--file").arg(&plain).arg("--create").arg(".");
    succeed(&mut tar);
    let diff_id = Digest::of(&fs::read(&plain).unwrap());
    succeed(Command::new("gzip").args(["-1", "--no-name", "--force"]).arg(&plain));
    Layer { file: file.with_extension("tar.gz"), diff_id }
}

/// Makes a layer, or takes the one that an earlier run made under this name.
fn kept(name: &str, make: impl FnOnce(&Path) -> Need<()>) -> Need<Layer> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("base-{VERSION}-{name}"));
    if !kept.exists() {
        let work = TempDir::with_prefix_in("base-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = work.path().join("root");
        fs::create_dir(&root).unwrap();
        make(&root)?;
        let whole = work.path().join("whole");
        fs::create_dir(&whole).unwrap();
        let layer = pack(&root, &whole.join("layer"));
        fs::write(whole.join("diff-id"), layer.diff_id.as_str()).unwrap();
        // Another run may have been faster; what it made is as good.
        if let Err(error) = fs::rename(&whole, &kept) {
            assert!(kept.exists(), "{error}");
        }
    }
    let diff_id = fs::read_to_string(kept.join("diff-id")).unwrap().parse().unwrap();
    Ok(Layer { file: kept.join("layer.tar.gz"), diff_id })
}

fn busybox(work: &Path) -> Need<Layer> {
    let file = program("busybox")?;
    let root = work.join("root");
    for folder in [
        "bin", "dev", "etc", "home", "proc", "run", "sbin", "sys", "usr/bin", "usr/sbin", "var/log",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    make_folders(&root, &[("root", "700"), ("tmp", "1777"), ("var/tmp", "1777")]);
    let own = root.join("bin/busybox");
    install(&file, &own);
    for applet in run(&file, &["--list-full"]).lines().filter(|name| name.contains('/')) {
        let link = root.join(applet);
        if link != own {
            std::os::unix::fs::symlink("/bin/busybox", link).unwrap();
        }
    }
    fs::write(root.join("etc/passwd"), PASSWD).unwrap();
    fs::write(root.join("etc/group"), GROUP).unwrap();
    let test = Command::new("chroot").arg(&root).args(["/bin/sh", "-c", "true"]).output();
    if !test.is_ok_and(|output| output.status.success()) {
        return Err(Missing::because("busybox is not a static program"));
    }
    Ok(pack(&root, &work.join("busybox")))
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                      nobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nstaff:x:50:\nnobody:x:65534:\n";

fn make_folders(root: &Path, folders: &[(&str, &str)]) {
    for (folder, mode) in folders {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap();
        run("chmod", &[mode, folder.to_str().unwrap()]);
    }
}

/// The authorities that the machine trusts: the module proxy may be reached through one of its own.
fn certificates(work: &Path) -> Layer {
    let root = work.join("certificates");
    trust(&root);
    pack(&root, &work.join("trusted"))
}

fn trust(root: &Path) {
    fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
    let machine = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let certificates = fs::read(machine).unwrap_or_default();
    fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), certificates).unwrap();
}

fn static_files(work: &Path) -> Layer {
    let root = work.join("root");
    make_folders(&root, &[("root", "700"), ("tmp", "1777"), ("home/nonroot", "700")]);
    trust(&root);
    let passwd = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n\
                  nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n").unwrap();
    run("chown", &["65532:65532", root.join("home/nonroot").to_str().unwrap()]);
    pack(&root, &work.join("static"))
}

/// The first source of packages that apt is set up with: its address and its release.
fn apt_source() -> Need<(String, String)> {
    let mut ask = Command::new(program("apt-get")?);
    ask.args(["indextargets", "--format", "$(REPO_URI) $(CODENAME) $(CREATED_BY)"]);
    let targets = succeed(&mut ask);
    let mut sources = targets.lines().filter_map(|line| line.strip_suffix(" Packages"));
    let (address, release) = sources
        .find_map(|line| line.split_once(' ').filter(|(_, release)| !release.is_empty()))
        .ok_or_else(|| Missing::because("apt has no package lists"))?;
    Ok((address.to_owned(), release.to_owned()))
}

/// Runs `debootstrap`, for ten minutes at most.
fn debootstrap(root: &Path, include: &[&str]) -> Need<()> {
    let (address, release) = apt_source()?;
    let mut command = Command::new("timeout");
    command.arg("600").arg(program("debootstrap")?).arg("--variant=minbase");
    if !include.is_empty() {
        command.arg(format!("--include={}", include.join(",")));
    }
    command.arg(release).arg(root).arg(address);
    command.env("PATH", format!("{}:{USUAL_PATH}", std::env::var("PATH").unwrap_or_default()));
    let output = command.output().expect("timeout is part of every system");
    if !output.status.success() {
        return Err(Missing::because(format!("debootstrap: {}", describe(&command, &output))));
    }
    let clean = "set -e; cd \"$1\"; rm -rf dev run/* tmp/* var/cache/apt/* var/lib/apt/lists/* var/log/* \
                 etc/resolv.conf etc/hostname var/cache/ldconfig/* var/cache/debconf/*-old var/lib/dpkg/*-old; \
                 mkdir -p dev run/lock var/lib/apt/lists/partial var/cache/apt/archives/partial; \
                 printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d; chmod 755 usr/sbin/policy-rc.d";
    succeed(Command::new("sh").args(["-c", clean, "sh"]).arg(root));
    Ok(())
}

fn debian_with(packages: &[&str]) -> Need<Layer> {
    let (_, release) = apt_source()?;
    kept(&format!("{release}-{}", packages.join("-")), |root| debootstrap(root, packages))
}

fn debian() -> Need<Layer> {
    let (_, release) = apt_source()?;
    kept(&format!("{release}-repository"), |root| {
        debootstrap(root, &[])?;
        let packages = root.join("srv/packages");
        fs::create_dir_all(&packages).unwrap();
        let mut download = Command::new(program("apt-get")?);
        download.args(["download", "-qq"]).args(PACKAGES).current_dir(&packages);
        let output = download.output().expect("apt-get was found");
        if !output.status.success() {
            return Err(Missing::because(describe(&download, &output)));
        }
        fs::write(packages.join("Packages"), index(&packages)).unwrap();
        let sources = root.join("etc/apt/sources.list.d");
        fs::remove_dir_all(&sources).unwrap();
        fs::create_dir(&sources).unwrap();
        let line = "deb [trusted=yes] file:/srv/packages ./\n";
        fs::write(root.join("etc/apt/sources.list"), line).unwrap();
        Ok(())
    })
}

/// The index of a folder of packages.
fn index(folder: &Path) -> String {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let section = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let fields = run("dpkg-deb", &["--field", file.to_str().unwrap()]);
        let sha256 = Digest::of(&bytes);
        format!("{fields}Filename: ./{name}\nSize: {}\nSHA256: {}\n", bytes.len(), sha256.hex())
    };
    files.iter().map(section).collect::<Vec<_>>().join("\n")
}

/// Programs of the machine, which has the release of the Debian below, with their libraries.
fn programs() -> Need<Layer> {
    let node = program("node")?;
    let java = fs::canonicalize(program("java")?).unwrap();
    let python = Path::new("/usr/bin/python3");
    let python = fs::canonicalize(python)
        .map_err(|_| Missing::because("/usr/bin/python3 is not installed"))?;
    let (cargo, java_home) = (Path::new(env!("CARGO")), java.ancestors().nth(2).unwrap());
    let modules = Path::new("/usr/lib").join(python.file_name().unwrap());
    kept("programs", |root| {
        let copy = |file: &Path, name: &str| {
            let target = root.join(name.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            run("cp", &["-rL", file.to_str().unwrap(), target.to_str().unwrap()]);
        };
        let found = [(node.as_path(), "node"), (&python, "python3"), (cargo, "cargo")];
        for (file, name) in found {
            copy(file, &format!("/usr/local/bin/{name}"));
        }
        copy(&modules, modules.to_str().unwrap());
        for folder in ["bin", "conf", "lib"] {
            for entry in fs::read_dir(java_home.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                // A link to sources that are not installed leads nowhere.
                if path.exists() {
                    copy(&path, path.to_str().unwrap());
                }
            }
        }
        let link = root.join("usr/local/bin/java");
        std::os::unix::fs::symlink(&java, link).unwrap();
        for file in found.into_iter().map(|(file, _)| file).chain([java.as_path()]) {
            // The folders of libraries are links to those below /usr. Java's own are where they were.
            let linked = libraries(file).into_iter().filter(|it| !it.starts_with(java_home));
            for library in linked.filter(|it| !it.starts_with("/lib64")) {
                let folder = fs::canonicalize(library.parent().unwrap()).unwrap();
                let place = folder.join(library.file_name().unwrap());
                copy(&library, place.to_str().unwrap());
            }
        }
        Ok(())
    })
}

/// The machine's Go in `/usr/local/go` and an empty `/go`, without what no build needs.
fn toolchain() -> Need<Layer> {
    let go = go()?;
    let asked = succeed(Command::new(go).args(["env", "GOROOT", "GOVERSION"]));
    let mut lines = asked.lines();
    let goroot = lines.next().expect("GOROOT").to_owned();
    let version = lines.next().expect("GOVERSION").to_owned();
    kept(&version, |root| {
        let target = root.join("usr/local/go");
        fs::create_dir_all(&target).unwrap();
        make_folders(root, &[("go/bin", "1777"), ("go/src", "1777"), ("go", "1777")]);
        let copy = "set -e; cd \"$1\"; tar -cf - --owner=0 --group=0 --exclude='*_test.go' --exclude=testdata \
                    --exclude=src/cmd VERSION go.env bin lib pkg src | tar -xf - --directory \"$2\"";
        succeed(Command::new("sh").args(["-c", copy, "sh", &goroot]).arg(target));
        Ok(())
    })
}
