//! Small images to build on, and a reader that checks every digest of what the program wrote.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use fs_err as fs;
use gondola::oci::{Digest, canonical_json};
use serde_json::{Value, json};

use super::need::{Need, program, succeed};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image layout to build on: one layer with `/etc/passwd` and `/etc/base-release`, the user
/// `app` (1000), and some variables. More than one platform makes an index.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// `linux/amd64` and the like.
    pub platforms: Vec<String>,
    /// The user that containers run as.
    pub user: String,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Further files: a path without a leading slash, and its text.
    pub files: Vec<(String, String)>,
}

impl Default for BaseImage {
    fn default() -> Self {
        Self {
            platforms: vec!["linux/amd64".to_owned()],
            user: "app".to_owned(),
            env: vec!["PATH=/usr/bin:/bin".to_owned(), "FROM_BASE=yes".to_owned()],
            files: Vec::new(),
        }
    }
}

impl BaseImage {
    /// A base for several platforms.
    pub fn for_platforms(platforms: &[&str]) -> Self {
        Self { platforms: platforms.iter().map(|&p| p.to_owned()).collect(), ..Self::default() }
    }

    /// Writes the image layout; its one tag is `latest`. Returns the digest behind the tag.
    pub fn write(&self, folder: &Path) -> Digest {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let images: Vec<_> = self.platforms.iter().map(|p| self.image(p, &put)).collect();
        let mut named = match images.as_slice() {
            [one] => one.clone(),
            several => put(INDEX, &canonical_json(&index(several))),
        };
        let digest = named["digest"].as_str().unwrap().parse().unwrap();
        named["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(folder.join("index.json"), canonical_json(&index(&[named]))).unwrap();
        digest
    }

    /// Writes the layout into `folder` and copies it to a registry that asks for no credentials.
    pub fn push(&self, folder: &Path, image: &str) -> Need<Digest> {
        let skopeo = program("skopeo")?;
        let digest = self.write(folder);
        let mut copy = Command::new(skopeo);
        copy.args(["copy", "--all", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:latest", folder.display())).arg(format!("docker://{image}"));
        succeed(&mut copy);
        Ok(digest)
    }

    fn image(&self, platform: &str, put: &impl Fn(&str, &[u8]) -> Value) -> Value {
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
        let mut described = json!({"os": os, "architecture": architecture});
        let variant = parts.next();
        let tar = self.layer(platform);
        let mut config = json!({
            "os": os, "architecture": architecture, "created": "2024-01-02T03:04:05Z",
            "config": {
                "User": self.user, "Env": self.env, "WorkingDir": "/home/app",
                "Labels": {"from.base": "yes"}, "Healthcheck": {"Test": ["NONE"]},
            },
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "test base"}],
        });
        if let Some(variant) = variant {
            config["variant"] = variant.into();
            described["variant"] = variant.into();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": put(CONFIG, &canonical_json(&config)),
            "layers": [put(LAYER, &encoder.finish().unwrap())],
        });
        let mut descriptor = put(MANIFEST, &canonical_json(&manifest));
        descriptor["platform"] = described;
        descriptor
    }

    fn layer(&self, platform: &str) -> Vec<u8> {
        let passwd = "root:x:0:0::/root:/sbin/nologin\napp:x:1000:1000::/home/app:/bin/false\n";
        let release = format!("{platform}\n");
        let own = [("etc/passwd", passwd), ("etc/base-release", &release)];
        let more = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text) in own.into_iter().chain(more) {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

/// The files of a layout or archive, by their paths in it.
#[derive(Debug)]
pub struct Stored(BTreeMap<String, Vec<u8>>);

/// One image read back: every digest and size on the way to it was right.
#[derive(Debug)]
pub struct ReadImage {
    pub digest: Digest,
    pub manifest: Value,
    pub config: Value,
    /// The entries of each layer, in their order.
    pub layers: Vec<Vec<Entry>>,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as in the archive.
    pub path: String,
    /// The type letter: `0` file, `1` hard link, `2` symbolic link, `5` directory.
    pub kind: char,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    /// The target of a link; empty otherwise.
    pub target: String,
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Reads a folder.
    pub fn folder(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_folder(root, root, &mut files);
        Self(files)
    }

    /// Reads an uncompressed tar archive.
    pub fn archive(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let files = entries(&bytes).into_iter().filter(|entry| entry.kind == '0');
        Self(files.map(|entry| (entry.path, entry.bytes)).collect())
    }

    /// The paths, sorted.
    pub fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// A file's bytes.
    pub fn file(&self, path: &str) -> &[u8] {
        self.0.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", self.paths()))
    }

    /// A file as JSON.
    pub fn json(&self, path: &str) -> Value {
        serde_json::from_slice(self.file(path)).unwrap()
    }

    /// What a descriptor names, with its digest and size checked.
    pub fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        let bytes = self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()));
        assert_eq!(Digest::of(bytes), digest, "content of {descriptor}");
        assert_eq!(bytes.len() as u64, descriptor["size"], "size of {descriptor}");
        bytes
    }

    /// The descriptor that the layout's index has under a tag; the only one for `None`.
    pub fn named(&self, tag: Option<&str>) -> Value {
        assert_eq!(self.json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let index = self.json("index.json");
        let all = index["manifests"].as_array().unwrap();
        let name = |it: &Value| it["annotations"]["org.opencontainers.image.ref.name"].clone();
        let mut found = all.iter().filter(|it| tag.is_none_or(|tag| name(it) == tag));
        let first = found.next().unwrap_or_else(|| panic!("no {tag:?} in {index}"));
        assert!(tag.is_some() || found.next().is_none(), "several images: {index}");
        first.clone()
    }

    /// The images behind a tag, one for each platform, in their order.
    pub fn images(&self, tag: Option<&str>) -> Vec<ReadImage> {
        self.images_of(&self.named(tag))
    }

    /// The one image behind a tag.
    pub fn image(&self, tag: Option<&str>) -> ReadImage {
        let mut images = self.images(tag);
        assert_eq!(images.len(), 1, "images behind {tag:?}");
        images.remove(0)
    }

    fn images_of(&self, descriptor: &Value) -> Vec<ReadImage> {
        let document: Value = serde_json::from_slice(self.blob(descriptor)).unwrap();
        match document["manifests"].as_array() {
            Some(children) => children.iter().flat_map(|child| self.images_of(child)).collect(),
            None => vec![self.read(descriptor, document)],
        }
    }

    fn read(&self, descriptor: &Value, manifest: Value) -> ReadImage {
        let config: Value = serde_json::from_slice(self.blob(&manifest["config"])).unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), diff_ids.len(), "layers and diff IDs of {descriptor}");
        let layers = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
            let tar = decompressed(self.blob(layer));
            assert_eq!(Digest::of(&tar).as_str(), diff_id, "diff ID of {layer}");
            entries(&tar)
        });
        let layers = layers.collect();
        let digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        ReadImage { digest, manifest, config, layers }
    }
}

impl ReadImage {
    /// The uppermost entry of a path, given without a leading slash.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        let same = |entry: &&Entry| entry.path.trim_end_matches('/') == path;
        self.layers.iter().rev().find_map(|layer| layer.iter().rev().find(same))
    }

    /// The files that all layers together make, by their paths; names of one file are files.
    pub fn files(&self) -> BTreeMap<String, Entry> {
        let mut files: BTreeMap<String, Entry> = BTreeMap::new();
        for layer in &self.layers {
            let below = std::mem::take(&mut files);
            files = below.into_iter().filter(|(path, _)| !is_hidden(path, layer)).collect();
            for entry in layer {
                let path = entry.path.trim_matches('/').to_owned();
                let name = path.rsplit('/').next().unwrap_or_default();
                if path.is_empty() || path == "." || name.starts_with(".wh.") {
                    continue;
                }
                let mut entry = entry.clone();
                if entry.kind == '1' {
                    let target = files[entry.target.trim_matches('/')].clone();
                    entry = Entry { path: entry.path, ..target };
                }
                if entry.kind != '5' {
                    files.retain(|other, _| !other.starts_with(&format!("{path}/")));
                }
                files.insert(path, entry);
            }
        }
        files
    }

    /// `linux/arm/v7`, from the configuration.
    pub fn platform(&self) -> String {
        let part = |name: &str| self.config[name].as_str().map(str::to_owned);
        let parts = [part("os"), part("architecture"), part("variant")];
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    }
}

/// Whether a layer removes a path of lower layers.
fn is_hidden(path: &str, layer: &[Entry]) -> bool {
    layer.iter().any(|entry| {
        let marker = entry.path.trim_matches('/');
        let (folder, name) = marker.rsplit_once('/').unwrap_or(("", marker));
        let inside = |folder: &str| folder.is_empty() || path.starts_with(&format!("{folder}/"));
        match name.strip_prefix(".wh.") {
            Some(".wh..opq") => inside(folder),
            Some(removed) => {
                let removed = format!("{folder}/{removed}");
                let removed = removed.trim_start_matches('/');
                path == removed || path.starts_with(&format!("{removed}/"))
            }
            None => false,
        }
    })
}

fn read_folder(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            read_folder(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(path).unwrap());
        }
    }
}

/// A layer's tar archive, whatever compresses it.
fn decompressed(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    let read = match bytes {
        [0x1f, 0x8b, ..] => MultiGzDecoder::new(bytes).read_to_end(&mut tar),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut tar),
        mut plain => plain.read_to_end(&mut tar),
    };
    read.expect("a layer decompresses");
    tar
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(tar);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Entry {
            path: text(&entry.path_bytes()),
            kind: char::from(header.entry_type().as_byte()),
            mode: header.mode().unwrap(),
            // Nothing means 0.
            uid: header.uid().unwrap_or(0),
            gid: header.gid().unwrap_or(0),
            mtime: header.mtime().unwrap(),
            target: entry.link_name_bytes().map(|name| text(&name)).unwrap_or_default(),
            bytes,
        }
    };
    archive.entries().unwrap().map(read).collect()
}
