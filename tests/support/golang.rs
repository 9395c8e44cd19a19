//! Images that hold a Go toolchain: this machine's own, or one that a test made up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fs_err as fs;
use gondola::oci::{Digest, canonical_json};
use serde_json::{Value, json};

use super::need::{Need, program, succeed};
use super::sandbox::go;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What the go command does not need to build programs.
const LEFT_OUT: [&str; 4] = ["*_test.go", "testdata", "src/cmd", "*.syso"];

/// An image layout to take Go out of. Layers are not compressed: they are made once for all tests.
pub struct GolangImage {
    /// `NAME=value`, as in the official image.
    pub env: Vec<String>,
    /// Labels, by which otherwise equal images differ.
    pub labels: BTreeMap<String, String>,
    /// Archives of the layers, the base first.
    pub layers: Vec<PathBuf>,
}

impl GolangImage {
    /// The toolchain of this machine at `/usr/local/go`, between two layers without it.
    pub fn of_this_machine() -> Need<Self> {
        Ok(Self::with_layer(toolchain_layer()?))
    }

    /// An archive with a Go distribution, between two layers without it.
    pub fn with_layer(layer: PathBuf) -> Self {
        let (below, above) = (small_layer("etc/below"), small_layer("go/above"));
        let env = ["PATH=/go/bin:/usr/local/go/bin:/usr/bin:/bin", "GOPATH=/go"];
        let layers = vec![below, layer, above];
        Self { env: env.map(str::to_owned).into(), labels: BTreeMap::new(), layers }
    }

    /// Writes the layout, whose one tag is `latest`. Returns the digest behind the tag.
    pub fn write(&self, folder: &Path) -> Digest {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layers: Vec<Value> = self.layers.iter().map(|file| link(file, &blobs)).collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "os": "linux", "architecture": architecture(),
            "config": {"Env": self.env, "Labels": self.labels, "WorkingDir": "/go"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": put(CONFIG, &canonical_json(&config)), "layers": layers,
        });
        let mut entry = put(MANIFEST, &canonical_json(&manifest));
        let digest = entry["digest"].as_str().unwrap().parse().unwrap();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(folder.join("index.json"), canonical_json(&index)).unwrap();
        digest
    }
}

/// Gives a layer its place in a layout, without copying it.
fn link(file: &Path, blobs: &Path) -> Value {
    let bytes = fs::read(file).unwrap();
    let digest = Digest::of(&bytes);
    let place = blobs.join(digest.hex());
    if !place.exists() && fs::hard_link(file, &place).is_err() {
        fs::copy(file, &place).unwrap();
    }
    json!({"mediaType": LAYER, "digest": digest, "size": bytes.len()})
}

/// The folder that keeps archives between runs of the tests.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golang");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Makes a file whole or not at all.
fn make(file: &Path, write: impl FnOnce(&Path)) {
    if !file.exists() {
        let temporary = tempfile::NamedTempFile::new_in(file.parent().unwrap()).unwrap();
        write(temporary.path());
        temporary.persist(file).unwrap();
    }
}

fn toolchain_layer() -> Need<PathBuf> {
    static LAYER: OnceLock<Need<PathBuf>> = OnceLock::new();
    LAYER.get_or_init(make_toolchain_layer).clone()
}

fn make_toolchain_layer() -> Need<PathBuf> {
    let (go, tar) = (go()?, program("tar")?);
    let said = succeed(Command::new(go).args(["env", "GOROOT", "GOVERSION"]));
    let (root, version) = said.trim().split_once('\n').expect("two lines");
    let file = kept(&format!("{}.tar", version.replace(['/', ' '], "-")));
    make(&file, |file| {
        let mut archive = Command::new(tar);
        archive.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C", root]);
        archive.args(LEFT_OUT.map(|pattern| format!("--exclude={pattern}")));
        archive.arg("--transform=s,^,usr/local/go/,").arg("-cf").arg(file);
        archive.args(["VERSION", "go.env", "bin", "pkg", "src", "lib"]);
        succeed(&mut archive);
    });
    Ok(file)
}

/// An archive with one file.
fn small_layer(path: &str) -> PathBuf {
    let file = kept(&format!("{}.tar", path.replace('/', "-")));
    make(&file, |file| {
        fs::write(file, archive(&[(path, 0o644, path.as_bytes())])).unwrap();
    });
    file
}

/// An archive of files: path, mode and contents.
pub fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_size(contents.len() as u64);
        archive.append_data(&mut header, path, *contents).unwrap();
    }
    archive.into_inner().unwrap()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
