//! The files of an image as a container sees them: its layers laid over each other, one line each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use fs_err as fs;
use gondola::oci::Digest;
use serde_json::Value;
use tar::EntryType;

/// Contents up to this size are written out.
const LONGEST_CONTENT: usize = 2000;
/// The fields of a configuration that say how containers run.
const CONFIG: [&str; 13] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
    "ArgsEscaped",
];

/// What an image is, as lines by what they are about: `/etc/passwd` or `config Env`.
///
/// ```text
/// f 0755 0:0 /app/hello <content>                 a file; a long content as its digest and size
/// f 0644 0:0 /a x\n =/b                           one of several names of a file, which /b is the first of
/// f 0755 0:0 /bin/ping … capability=01000002…
/// d 1777 0:0 /tmp
/// l 0777 0:0 /link -> target
/// p 0644 0:0 /pipe
/// c 0666 0:0 /null 1:3
/// config Cmd ["sh"]
/// ```
///
/// In paths a space is `\s`; line ends, backslashes and what is not printable are escaped.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    pub lines: BTreeMap<String, String>,
    /// When files were modified; no part of the lines.
    pub times: BTreeMap<String, u64>,
}

#[derive(Clone)]
struct Node {
    kind: char,
    mode: u32,
    owner: (u64, u64),
    /// Content, target or numbers, as written.
    what: String,
    capability: Vec<u8>,
    time: u64,
    /// Same number, same file.
    file: usize,
}

/// Files by their paths, which have no slash at either end.
#[derive(Default)]
struct Files {
    nodes: BTreeMap<Vec<u8>, Node>,
    made: usize,
}

impl Lines {
    /// Reads the one image of an OCI layout, or of what the `dir:` transport writes.
    pub fn of_image(folder: &Path) -> Self {
        let (manifest, blobs) = manifest(folder);
        let config: Value = serde_json::from_slice(&blob(&blobs, &manifest["config"])).unwrap();
        let mut files = Files::default();
        for layer in manifest["layers"].as_array().expect("a manifest has layers") {
            files.lay_over(&blob(&blobs, layer));
        }
        let (mut lines, times) = files.lines();
        for field in CONFIG {
            let value = &config["config"][field];
            if !is_empty(value) {
                lines.insert(format!("config {field}"), format!("config {field} {value}"));
            }
        }
        for field in ["architecture", "author", "os"] {
            if !is_empty(&config[field]) {
                let value = &config[field];
                lines.insert(format!("config {field}"), format!("config {field} {value}"));
            }
        }
        Self { lines, times }
    }

    /// Reads lines as they are committed. Empty lines and comments do not count.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keyed = lines.map(|line| (subject(line).to_owned(), line.to_owned()));
        Self { lines: keyed.collect(), times: BTreeMap::new() }
    }

    /// The line about something.
    pub fn get(&self, subject: &str) -> Option<&str> {
        self.lines.get(subject).map(String::as_str)
    }

    /// What differs: the subject, this line and the other.
    pub fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> Vec<(&'a str, Option<&'a str>, Option<&'a str>)> {
        let subjects: std::collections::BTreeSet<&str> =
            self.lines.keys().chain(other.lines.keys()).map(String::as_str).collect();
        let both = subjects.into_iter().map(|it| (it, self.get(it), other.get(it)));
        both.filter(|(_, one, two)| one != two).collect()
    }
}

/// What a line is about.
fn subject(line: &str) -> &str {
    let word = |count| line.split(' ').nth(count).unwrap_or_else(|| panic!("no path in {line:?}"));
    if line.starts_with("config ") { &line[.."config ".len() + word(1).len()] } else { word(3) }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(_) => false,
    }
}

/// The manifest of the one image, and the folder of its blobs.
fn manifest(folder: &Path) -> (Value, PathBuf) {
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
    };
    if folder.join("manifest.json").exists() {
        return (json("manifest.json"), folder.to_owned());
    }
    let blobs = folder.join("blobs/sha256");
    let mut found = json("index.json");
    while let Some(all) = found["manifests"].as_array() {
        assert_eq!(all.len(), 1, "images in {}", folder.display());
        found = serde_json::from_slice(&blob(&blobs, &all[0])).unwrap();
    }
    (found, blobs)
}

/// A blob's bytes, with their digest checked.
fn blob(blobs: &Path, descriptor: &Value) -> Vec<u8> {
    let digest: Digest = descriptor["digest"].as_str().expect("a digest").parse().unwrap();
    let bytes = fs::read(blobs.join(digest.hex())).unwrap();
    assert_eq!(Digest::of(&bytes), digest, "content of {descriptor}");
    bytes
}

impl Files {
    /// Applies a layer: what it removes first, then what it brings.
    fn lay_over(&mut self, layer: &[u8]) {
        let removals = walk(layer, |path, _| whiteout(path));
        for removed in removals {
            match removed {
                Whiteout::One(path) => self.remove(&path),
                Whiteout::Below(path) => self.remove_below(&path),
            }
        }
        let mut add = |path: &[u8], entry: &mut tar::Entry<'_, Box<dyn Read + '_>>| {
            if whiteout(path).is_none() {
                self.add(path, entry);
            }
            None::<()>
        };
        walk(layer, &mut add);
    }

    fn add(&mut self, path: &[u8], entry: &mut tar::Entry<'_, Box<dyn Read + '_>>) {
        let path = path.to_vec();
        if path.is_empty() {
            return;
        }
        let kind = entry.header().entry_type();
        if kind != EntryType::Directory {
            self.remove_below(&path);
        }
        let node = self.node(kind, entry);
        self.imply_parents(&path);
        self.nodes.insert(path, node);
    }

    fn node(&mut self, kind: EntryType, entry: &mut tar::Entry<'_, Box<dyn Read + '_>>) -> Node {
        if kind == EntryType::Link {
            let target = clean(&entry.link_name_bytes().expect("a link has a target"));
            return self.nodes.get(&target).expect("a hard link's target stands before it").clone();
        }
        self.made += 1;
        let capability = capability(entry);
        let header = entry.header();
        let numbers = || {
            let number = |part: std::io::Result<Option<u32>>| part.unwrap().unwrap_or_default();
            format!("{}:{}", number(header.device_major()), number(header.device_minor()))
        };
        let (letter, what) = match kind {
            EntryType::Directory => ('d', String::new()),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().expect("a link has a target");
                ('l', format!("-> {}", escape(&target, false)))
            }
            EntryType::Fifo => ('p', String::new()),
            EntryType::Char => ('c', numbers()),
            EntryType::Block => ('b', numbers()),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                ('f', String::new())
            }
            other => panic!("an entry of type {other:?} in a layer"),
        };
        let mode = header.mode().unwrap() & 0o7777;
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        let time = header.mtime().unwrap();
        let what = if letter == 'f' { content(entry) } else { what };
        Node { kind: letter, mode, owner, what, capability, time, file: self.made }
    }

    /// Parents that no layer has an entry for are made as everybody makes them.
    fn imply_parents(&mut self, path: &[u8]) {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.made += 1;
            let implied = Node {
                kind: 'd',
                mode: 0o755,
                owner: (0, 0),
                what: String::new(),
                capability: Vec::new(),
                time: 0,
                file: self.made,
            };
            self.nodes.entry(path[..end].to_vec()).or_insert(implied);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        self.nodes.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &[u8]) {
        let mut prefix = path.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        self.nodes.retain(|path, _| !path.starts_with(&prefix));
    }

    fn lines(&self) -> (BTreeMap<String, String>, BTreeMap<String, u64>) {
        let mut names: BTreeMap<usize, Vec<&Vec<u8>>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            names.entry(node.file).or_default().push(path);
        }
        let line = |(path, node): (&Vec<u8>, &Node)| {
            let name = format!("/{}", escape(path, true));
            let (uid, gid) = node.owner;
            let mut line = format!("{} {:04o} {uid}:{gid} {name}", node.kind, node.mode);
            if !node.what.is_empty() {
                write!(line, " {}", node.what).unwrap();
            }
            if !node.capability.is_empty() {
                line.push_str(" capability=");
                node.capability.iter().for_each(|byte| write!(line, "{byte:02x}").unwrap());
            }
            if let [first, _, ..] = names[&node.file].as_slice() {
                write!(line, " =/{}", escape(first, true)).unwrap();
            }
            ((name.clone(), line), (name, node.time))
        };
        self.nodes.iter().map(line).unzip()
    }
}

/// What a marker in a layer takes away.
enum Whiteout {
    One(Vec<u8>),
    Below(Vec<u8>),
}

fn whiteout(path: &[u8]) -> Option<Whiteout> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = path.split_at(start);
    let removed = name.strip_prefix(b".wh.")?;
    if removed == b".wh..opq" {
        return Some(Whiteout::Below(parent.strip_suffix(b"/").unwrap_or(parent).to_vec()));
    }
    Some(Whiteout::One([parent, removed].concat()))
}

/// Gives every entry of a layer to `visit`, and collects what it returns.
fn walk<T>(
    layer: &[u8],
    mut visit: impl FnMut(&[u8], &mut tar::Entry<'_, Box<dyn Read + '_>>) -> Option<T>,
) -> Vec<T> {
    let reader: Box<dyn Read + '_> = match layer {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(layer)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(layer).unwrap()),
        plain => Box::new(plain),
    };
    let mut archive = tar::Archive::new(reader);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = clean(&entry.path_bytes());
        found.extend(visit(&path, &mut entry));
    }
    found
}

/// A path without `./` before it and slashes around it.
fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

fn capability(entry: &mut tar::Entry<'_, Box<dyn Read + '_>>) -> Vec<u8> {
    let Some(records) = entry.pax_extensions().unwrap() else { return Vec::new() };
    let records = records.map(|record| record.unwrap());
    let mut found =
        records.filter(|record| record.key_bytes() == b"SCHILY.xattr.security.capability");
    found.next().map(|record| record.value_bytes().to_vec()).unwrap_or_default()
}

fn content(entry: &mut tar::Entry<'_, Box<dyn Read + '_>>) -> String {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).unwrap();
    if bytes.len() <= LONGEST_CONTENT {
        return escape(&bytes, false);
    }
    format!("<{} bytes {}>", bytes.len(), Digest::of(&bytes))
}

/// Bytes as printable text on one line; without spaces for a path.
fn escape(bytes: &[u8], path: bool) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                ' ' if path => text.push_str("\\s"),
                c if c.is_control() => write!(text, "\\x{:02x}", u32::from(c)).unwrap(),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
    }
    text
}
