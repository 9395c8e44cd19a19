//! Archives as nobody's `tar` would write them.

use gondola::image::{Blob, Draft, Image, Layer};
use gondola::oci::{Descriptor, Digest, History, MediaType};

const BLOCK: usize = 512;

/// An entry of an archive; every field as it is, whatever it says.
#[derive(Clone, Debug)]
pub struct Raw {
    pub kind: u8,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub content: Vec<u8>,
    pub size: Option<u64>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub device: (u32, u32),
    pub records: Vec<(String, Vec<u8>)>,
}

fn raw(kind: u8, path: impl AsRef<[u8]>) -> Raw {
    Raw {
        kind,
        path: path.as_ref().to_vec(),
        link: Vec::new(),
        content: Vec::new(),
        size: None,
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1000,
        device: (0, 0),
        records: Vec::new(),
    }
}

pub fn file(path: impl AsRef<[u8]>, content: &str) -> Raw {
    Raw { content: content.into(), ..raw(b'0', path) }
}

pub fn folder(path: impl AsRef<[u8]>) -> Raw {
    raw(b'5', path)
}

pub fn symlink(path: &str, target: &str) -> Raw {
    Raw { link: target.into(), mode: 0o777, ..raw(b'2', path) }
}

pub fn hard_link(path: &str, target: &str) -> Raw {
    Raw { link: target.into(), ..raw(b'1', path) }
}

pub fn fifo(path: &str) -> Raw {
    raw(b'6', path)
}

pub fn device(kind: u8, path: &str, major: u32, minor: u32) -> Raw {
    Raw { device: (major, minor), mode: 0o666, ..raw(kind, path) }
}

/// An entry of any type flag.
pub fn other(kind: u8, path: &str) -> Raw {
    raw(kind, path)
}

impl Raw {
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub fn owner(self, uid: u64, gid: u64) -> Self {
        Self { uid, gid, ..self }
    }

    pub fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    pub fn size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    pub fn record(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut records = self.records.clone();
        if self.path.len() > 100 {
            records.push(("path".to_owned(), self.path.clone()));
        }
        if self.link.len() > 100 {
            records.push(("linkpath".to_owned(), self.link.clone()));
        }
        if !records.is_empty() {
            let body: Vec<u8> =
                records.iter().flat_map(|(key, value)| record(key, value)).collect();
            header(&Self { content: body.clone(), ..raw(b'x', "pax") }, out);
            pad(&body, out);
        }
        header(self, out);
        pad(&self.content, out);
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn header(entry: &Raw, out: &mut Vec<u8>) {
    let mut block = [0; BLOCK];
    let size = entry.size.unwrap_or(entry.content.len() as u64);
    let short = |bytes: &[u8]| bytes[..bytes.len().min(100)].to_vec();
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let octal = |value: u64, digits: usize| format!("{value:0digits$o}\0").into_bytes();
    // Larger numbers in base 256.
    let number = |value: u64, digits: usize| {
        if value < 1 << (3 * digits) {
            return octal(value, digits);
        }
        let mut bytes = vec![0; digits + 1];
        bytes[digits - 7..].copy_from_slice(&value.to_be_bytes());
        bytes[0] |= 0x80;
        bytes
    };
    put(0, &short(&entry.path));
    put(100, &octal(u64::from(entry.mode), 7));
    put(108, &number(entry.uid, 7));
    put(116, &number(entry.gid, 7));
    put(124, &number(size, 11));
    put(136, &number(entry.mtime, 11));
    put(156, &[entry.kind]);
    put(157, &short(&entry.link));
    put(257, b"ustar\x0000");
    put(329, &octal(u64::from(entry.device.0), 7));
    put(337, &octal(u64::from(entry.device.1), 7));
    put(148, b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(block);
}

fn pad(content: &[u8], out: &mut Vec<u8>) {
    out.extend(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// The archive of some entries.
pub fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.write(&mut out);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of these archives, its layers in memory.
pub fn image_of(archives: &[Vec<u8>]) -> Image {
    let layers = archives.iter().map(|archive| (gzip(archive), Digest::of(archive)));
    image_of_blobs(layers)
}

/// An image of compressed layers and what the config says that their diff IDs are.
pub fn image_of_blobs(layers: impl IntoIterator<Item = (Vec<u8>, Digest)>) -> Image {
    let mut draft = Draft::scratch("linux/amd64".parse().unwrap());
    for (bytes, diff_id) in layers {
        let descriptor = Descriptor::of(MediaType::OCI_LAYER_GZIP, &bytes);
        let blob = Blob::in_memory(descriptor, bytes.into());
        draft.push_layer(Layer { blob, diff_id }, History::default());
    }
    draft.finish()
}

/// An image of layers with these entries.
pub fn image(layers: &[&[Raw]]) -> Image {
    image_of(&layers.iter().map(|entries| archive(entries)).collect::<Vec<_>>())
}
