//! A base with a shell: Debian's static busybox, some users, and links as distributions have them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err as fs;
use gondola::oci::{Digest, canonical_json};
use serde_json::{Value, json};

use super::need::{Missing, Need, program, run, succeed};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\napp:x:1001:\nweb:x:33:app\nnogroup:x:65534:\n";

/// A base with a shell.
#[derive(Clone, Debug, Default)]
pub struct Busybox {
    /// Changes of the configuration's `config`.
    pub config: BTreeMap<String, Value>,
    /// The text of `/etc/issue`, where there is one.
    pub issue: Option<String>,
}

impl Busybox {
    /// Writes it into `folder` as an image layout, tagged `latest`.
    pub fn write(&self, folder: &Path) -> Need<Digest> {
        let tar = layer(self.issue.as_deref())?;
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let mut config = json!({
            "os": "linux", "architecture": gondola::oci::Platform::host().architecture,
            "created": "2024-01-02T03:04:05Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "busybox"}],
        });
        for (name, value) in &self.config {
            config["config"][name] = value.clone();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put("application/vnd.oci.image.config.v1+json", &canonical_json(&config)),
            "layers": [put(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                &encoder.finish().unwrap(),
            )],
        });
        let bytes = canonical_json(&manifest);
        let mut named = put("application/vnd.oci.image.manifest.v1+json", &bytes);
        named["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [named]});
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(folder.join("index.json"), canonical_json(&index)).unwrap();
        Ok(Digest::of(&bytes))
    }

    /// Writes it into `folder` and copies it to a registry that asks for no credentials.
    pub fn push(&self, folder: &Path, image: &str) -> Need<Digest> {
        let skopeo = program("skopeo")?;
        let digest = self.write(folder)?;
        let mut copy = Command::new(skopeo);
        copy.args(["copy", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:latest", folder.display())).arg(format!("docker://{image}"));
        succeed(&mut copy);
        Ok(digest)
    }
}

fn layer(issue: Option<&str>) -> Need<Vec<u8>> {
    let busybox = program("busybox")?;
    let bytes = fs::read(&busybox).unwrap();
    if !is_static(&bytes) {
        return Err(Missing::because("busybox is not static: install busybox-static"));
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("var", 0o755),
        ("run", 0o755),
    ] {
        entry(&mut archive, tar::EntryType::Directory, path, mode, (0, 0), b"");
    }
    entry(&mut archive, tar::EntryType::Directory, "home/app", 0o750, (1000, 1001), b"");
    entry(&mut archive, tar::EntryType::Regular, "bin/busybox", 0o755, (0, 0), &bytes);
    if let Some(issue) = issue {
        let (file, bytes) = (tar::EntryType::Regular, issue.as_bytes());
        entry(&mut archive, file, "etc/issue", 0o644, (0, 0), bytes);
    }
    entry(&mut archive, tar::EntryType::Regular, "etc/passwd", 0o644, (0, 0), PASSWD.as_bytes());
    entry(&mut archive, tar::EntryType::Regular, "etc/group", 0o644, (0, 0), GROUP.as_bytes());
    link(&mut archive, "sbin", "bin");
    link(&mut archive, "var/run", "/run");
    for applet in run(&busybox, &["--list"]).lines().filter(|&name| name != "busybox") {
        link(&mut archive, &format!("bin/{applet}"), "busybox");
    }
    Ok(archive.into_inner().unwrap())
}

/// Whether an ELF file names no program that would load libraries for it.
fn is_static(elf: &[u8]) -> bool {
    !elf.windows(9).take(1 << 16).any(|window| window == b"/ld-linux")
}

fn entry(
    archive: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    (uid, gid): (u64, u64),
    bytes: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).unwrap();
}

fn link(archive: &mut tar::Builder<Vec<u8>>, path: &str, target: &str) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    archive.append_link(&mut header, path, target).unwrap();
}
