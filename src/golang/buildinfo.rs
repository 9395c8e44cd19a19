//! What the linker wrote into a Go program: its build info and its build ID.
//!
//! The build info is a header of 32 bytes, `\xff Go buildinf:`, a pointer size and flags, at a
//! multiple of 16 bytes in ELF, PE and Mach-O files alike. Since Go 1.18 two strings follow it,
//! each after its length: the version of Go, and lines of modules and settings.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::disk;
use crate::error::{Cannot, Result};

const MAGIC: &[u8] = b"\xff Go buildinf:";

/// The header is aligned to this.
const ALIGNMENT: usize = 16;

/// From the magic to the strings.
const HEADER: usize = 32;

/// Set in the flags if the strings follow the header.
const INLINE: u8 = 2;

/// No program has more modules than fit into this.
const TEXT_LIMIT: u64 = 4 << 20;

/// The linker puts this many bytes before and after the lines.
const SENTINEL: usize = 16;

/// How much of a program is looked at in one go.
const CHUNK: usize = 1 << 20;

/// The build ID stands near the beginning.
const BUILD_ID_WITHIN: u64 = 64 << 10;

/// What a Go program says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version of Go, such as `go1.26.0`.
    pub go_version: String,
    /// The import path of the main package.
    pub path: String,
    /// The module of the main package.
    pub main: Option<Module>,
    /// The modules that its other packages come from.
    pub dependencies: Vec<Dependency>,
    /// Settings such as `GOARCH`, `CGO_ENABLED`, `-tags` or `vcs.revision`, as the linker had them.
    pub settings: Vec<(String, String)>,
}

/// A module at a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Its path.
    pub path: String,
    /// Its version, `(devel)` for sources that have none.
    pub version: String,
    /// Its `h1:` sum; empty for vendored and local modules.
    pub sum: String,
}

/// A module that a program needs, and what is compiled in its stead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependency {
    /// The module as it is imported.
    pub module: Module,
    /// What replaces it.
    pub replaced_by: Option<Module>,
}

impl BuildInfo {
    /// Reads the build info of a program; none if it has none that can be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let action = || format!("read the build info of {}", path.display());
        let mut file = disk::open(path).cannot(action)?;
        find(&mut file).cannot(action)
    }

    /// The value of a setting.
    pub fn setting(&self, key: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    fn parse(go_version: String, lines: &str) -> Self {
        let mut info = Self { go_version, ..Self::default() };
        for line in lines.lines() {
            let Some((kind, rest)) = line.split_once('\t') else { continue };
            match kind {
                "path" => rest.clone_into(&mut info.path),
                "mod" => info.main = Some(Module::parse(rest)),
                "dep" => {
                    let module = Module::parse(rest);
                    info.dependencies.push(Dependency { module, replaced_by: None });
                }
                "=>" => {
                    let replacement = Some(Module::parse(rest));
                    if let Some(dependency) = info.dependencies.last_mut() {
                        dependency.replaced_by = replacement;
                    }
                }
                "build" => info.settings.extend(parse_setting(rest)),
                _ => {}
            }
        }
        info
    }
}

impl Module {
    fn parse(line: &str) -> Self {
        let mut parts = line.split('\t').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { path: next(), version: next(), sum: next() }
    }
}

/// Parses `key=value`, either of which may be in quotes.
fn parse_setting(line: &str) -> Option<(String, String)> {
    let quoted_end = || line[1..].find("\"=").map(|at| at + 2);
    let at = if line.starts_with('"') { quoted_end() } else { line.find('=') }?;
    Some((unquote(&line[..at]), unquote(&line[at + 1..])))
}

/// Go's quotes are mostly those of JSON; text in others stays as it is.
fn unquote(text: &str) -> String {
    if text.starts_with('"')
        && let Ok(unquoted) = serde_json::from_str(text)
    {
        return unquoted;
    }
    text.strip_prefix('`').and_then(|text| text.strip_suffix('`')).unwrap_or(text).to_owned()
}

/// Looks for the header from the start to the end, without holding more than a piece of the file.
fn find(file: &mut (impl Read + Seek)) -> io::Result<Option<BuildInfo>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut start = 0;
    loop {
        chunk.clear();
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(None);
        }
        for (index, place) in chunk.chunks(ALIGNMENT).enumerate() {
            if place.starts_with(MAGIC) {
                file.seek(SeekFrom::Start(start + (index * ALIGNMENT) as u64))?;
                if let Some(info) = read_at(file)? {
                    return Ok(Some(info));
                }
            }
        }
        start += CHUNK as u64;
    }
}

/// Reads a header and its strings; none if it is not one, as in a program that looks for headers.
fn read_at(file: &mut impl Read) -> io::Result<Option<BuildInfo>> {
    // Room for the lengths and for the sentinels beside the text.
    let mut bytes = Vec::new();
    file.take(HEADER as u64 + TEXT_LIMIT).read_to_end(&mut bytes)?;
    if bytes.get(MAGIC.len() + 1).is_none_or(|flags| flags & INLINE == 0) {
        return Ok(None);
    }
    let read = || {
        let (version, rest) = read_string(bytes.get(HEADER..)?)?;
        let (lines, _) = read_string(rest)?;
        let version = std::str::from_utf8(version).ok()?;
        let known = version.starts_with("go") || version.starts_with("devel");
        let lines = lines.get(SENTINEL..lines.len().checked_sub(SENTINEL)?).unwrap_or_default();
        known.then(|| BuildInfo::parse(version.to_owned(), &String::from_utf8_lossy(lines)))
    };
    Ok(read())
}

/// Takes a string after its length, a number in groups of seven bits.
fn read_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes[index + 1..].split_at_checked(length);
        }
    }
    None
}

/// The ID by which the go command knows a program: the same ID means the same bytes. None if the
/// program has none, as with `-ldflags=-buildid=`.
pub fn build_id(path: &Path) -> Result<Option<String>> {
    let action = || format!("read the build ID of {}", path.display());
    let mut start = Vec::new();
    let file = disk::open(path).cannot(action)?;
    file.take(BUILD_ID_WITHIN).read_to_end(&mut start).cannot(action)?;
    let id = if start.starts_with(b"\x7fELF") { note(&start) } else { marked(&start) };
    Ok(id.filter(|id| !id.is_empty()).map(|id| String::from_utf8_lossy(id).into_owned()))
}

/// The ID in an ELF note: the sizes of name and ID, type 4, the name `Go`, the ID.
fn note(start: &[u8]) -> Option<&[u8]> {
    let is_big_endian = *start.get(5)? == 2;
    let word = |at: usize| {
        let bytes = start.get(at..at + 4)?.try_into().expect("four bytes were taken");
        Some(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    (12..start.len()).step_by(4).find_map(|at| {
        let is_name = start[at..].starts_with(b"Go\0\0");
        if !is_name || word(at - 12)? != 4 || word(at - 4)? != 4 {
            return None;
        }
        let length = usize::try_from(word(at - 8)?).ok()?;
        start.get(at + 4..(at + 4).checked_add(length)?)
    })
}

/// The ID in the code of other formats, between marks.
fn marked(start: &[u8]) -> Option<&[u8]> {
    const BEFORE: &[u8] = b"\xff Go build ID: \"";
    let at = start.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    let length = start[at..].iter().position(|&byte| byte == b'"')?;
    Some(&start[at..at + length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const LINES: &str = "path\texample.com/app\nmod\texample.com/app\t(devel)\t\n\
        dep\texample.com/a\tv1.0.0\th1:aaa=\ndep\texample.com/b\tv1.2.3\n\
        =>\t../b\t(devel)\t\nbuild\t-tags=x,y\nbuild\tGOARCH=amd64\n\
        build\t\"-ld flags\"=\"-X \\\"a\\\"\"\nodd\nnew\tthing\n";

    /// A header and its strings as the linker writes them.
    fn blob(version: &str, lines: &str) -> Vec<u8> {
        let mut blob = [MAGIC, &[8, INLINE]].concat();
        blob.resize(HEADER, 0);
        let framed = format!("{}{lines}{}", "s".repeat(SENTINEL), "e".repeat(SENTINEL));
        for text in [version, &framed] {
            let mut length = text.len();
            while length > 0x7f {
                blob.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            blob.push(u8::try_from(length).unwrap());
            blob.extend(text.as_bytes());
        }
        blob
    }

    fn read(bytes: &[u8]) -> Option<BuildInfo> {
        find(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn modules_replacements_and_settings_are_read() {
        let info = read(&[&[0; 4096][..], &blob("go1.26.0", LINES)].concat()).unwrap();
        assert_eq!((info.go_version.as_str(), info.path.as_str()), ("go1.26.0", "example.com/app"));
        assert_eq!(info.main.as_ref().unwrap().version, "(devel)");
        let names: Vec<&str> = info.dependencies.iter().map(|d| d.module.path.as_str()).collect();
        assert_eq!(names, ["example.com/a", "example.com/b"]);
        assert_eq!(info.dependencies[0].module.sum, "h1:aaa=");
        assert_eq!(info.dependencies[1].replaced_by.as_ref().unwrap().path, "../b");
        assert_eq!(info.setting("-tags"), Some("x,y"));
        assert_eq!(info.setting("-ld flags"), Some("-X \"a\""));
        assert_eq!(info.setting("GOOS"), None);
    }

    #[test]
    fn it_is_found_wherever_it_stands_and_nothing_else_is_taken_for_it() {
        for before in [0, 16, CHUNK - 16, CHUNK, 2 * CHUNK + 48] {
            let bytes = [vec![0xff; before], blob("go1.26.0", LINES)].concat();
            assert!(read(&bytes).is_some(), "{before}");
        }
        let mut decoy = MAGIC.to_vec();
        decoy.resize(48, 0);
        assert!(read(&[decoy.clone(), blob("go1.26.0", LINES)].concat()).is_some());
        assert!(read(&[&[0; 8][..], &blob("go1.26.0", LINES)].concat()).is_none());
        assert!(read(&blob("junk", LINES)).is_none());
        assert!(read(&decoy).is_none());
        let whole = blob("devel go1.27-abc", "");
        assert_eq!(read(&whole).unwrap().go_version, "devel go1.27-abc");
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_none(), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn junk_is_no_build_info(junk in proptest::collection::vec(0..=255u8, 0..200)) {
            read(&junk);
            read(&[MAGIC, &[8, INLINE], &[0; 16], &junk].concat());
            note(&[&b"\x7fELF\x02\x01"[..], &junk].concat());
            marked(&[&b"\xff Go build ID: \""[..], &junk].concat());
        }
    }
}
