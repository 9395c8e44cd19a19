//! Owners, devices and file capabilities where a user has one id and the kernel keeps none of them:
//! as extended attributes of the files themselves, and in a side table for what can carry none.
//!
//! ```text
//! user.gondola.owner       100:65534             user and group; absent: 0:0
//! user.gondola.device      c 1 3                 on an empty regular file, which stands for a device;
//!                                                never without user.gondola.owner
//! user.gondola.capability  the bytes of security.capability, where the kernel refuses that one
//!
//! FOLDER                   unpacked files: a layer, or the upper folder of an overlay
//! FOLDER.owners            the side table of FOLDER, beside it; absent: empty
//! ```
//!
//! The side table holds what symbolic links, pipes and files on a file system without extended
//! attributes cannot: a line for each, the last of several for one path counts, so that a running
//! sandbox appends. Fields are separated by tabs, `-` stands for nothing:
//!
//! ```text
//! 33:33 ⇥ -     ⇥ - ⇥ var/www/current
//! 0:6   ⇥ b 8 0 ⇥ - ⇥ dev/sda
//! ```
//!
//! The path is relative to the folder and has tabs, line breaks and backslashes as `\t`, `\n` and
//! `\\`. A link that is renamed keeps no line. In an upper folder, a link without a line has the owner
//! of the link of the same target that it hides, if it hides one, and is root's otherwise. What has an
//! attribute needs no line; where there are both, the attribute counts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// The attribute that holds an [`Owner`].
pub const OWNER_XATTR: &str = "user.gondola.owner";
/// The attribute that holds a [`Device`].
pub const DEVICE_XATTR: &str = "user.gondola.device";
/// The attribute that holds what `security.capability` cannot.
pub const CAPABILITY_XATTR: &str = "user.gondola.capability";
/// What the names of all of these begin with: none of them belongs into a layer.
pub const XATTR_PREFIX: &str = "user.gondola.";

/// The kernel's own attribute for file capabilities.
const KERNEL_CAPABILITY: &str = "security.capability";
/// Longer than any value that is kept.
const LONGEST_VALUE: usize = 64;

/// Who a file belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// Root and its group, which need no record.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for Owner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text
            .split_once(':')
            .and_then(|(uid, gid)| Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? }));
        parsed.ok_or_else(|| malformed("an owner", text, "uid:gid"))
    }
}

/// Whether a device is read by bytes or by blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// By bytes.
    Character,
    /// By blocks.
    Block,
}

/// A device node that could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// By bytes or by blocks.
    pub kind: DeviceKind,
    /// The driver's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        write!(f, "{letter} {} {}", self.major, self.minor)
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut words = text.split(' ');
            let kind = match words.next()? {
                "c" => DeviceKind::Character,
                "b" => DeviceKind::Block,
                _ => return None,
            };
            let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            words.next().is_none().then_some(Self { kind, major, minor })
        };
        parse().ok_or_else(|| malformed("a device", text, "c MAJOR MINOR or b MAJOR MINOR"))
    }
}

fn malformed(what: &str, text: &str, expected: &str) -> Error {
    let reason = format!("expected {expected}");
    Error::new(ErrorKind::Invalid, format!("read {what} from {text:?}")).because(reason)
}

/// What is kept about one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whom it belongs to, if not root.
    pub owner: Option<Owner>,
    /// The device that it stands for.
    pub device: Option<Device>,
    /// Its capabilities, as `security.capability` has them.
    pub capability: Option<Vec<u8>>,
}

impl Kept {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the attributes of what is at a path; a symbolic link is not followed and has none.
    ///
    /// A value that is none of ours counts as absent: any program can write these attributes.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        Self::read(|name, buffer| rustix::fs::lgetxattr(path, name, buffer))
    }

    /// Reads the attributes of an open file.
    pub fn of_file(file: impl AsFd) -> io::Result<Self> {
        Self::read(|name, buffer| rustix::fs::fgetxattr(&file, name, buffer))
    }

    fn read(get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Self> {
        let value = |name| -> io::Result<Option<Vec<u8>>> {
            let mut buffer = [0; LONGEST_VALUE];
            match get(name, &mut buffer) {
                Ok(length) => Ok(Some(buffer[..length].to_vec())),
                Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let parse = |bytes: Option<Vec<u8>>| String::from_utf8(bytes?).ok();
        Ok(Self {
            owner: parse(value(OWNER_XATTR)?).and_then(|text| text.parse().ok()),
            device: parse(value(DEVICE_XATTR)?).and_then(|text| text.parse().ok()),
            capability: value(CAPABILITY_XATTR)?,
        })
    }

    /// Writes what is kept as attributes of what is at a path, and takes the others away.
    ///
    /// Says `false`, having written nothing, where the file can have none: then it belongs into the
    /// side table. The file must be writable to the caller: write before the last `chmod`.
    pub fn write_to_path(&self, path: &Path) -> io::Result<bool> {
        let set = |name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        };
        self.write(set, |name| rustix::fs::lremovexattr(path, name))
    }

    /// Writes what is kept as attributes of an open file, as [`Self::write_to_path`] does.
    pub fn write_to_file(&self, file: impl AsFd) -> io::Result<bool> {
        let set = |name: &str, value: &[u8]| {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
        };
        self.write(set, |name| rustix::fs::fremovexattr(&file, name))
    }

    fn write(
        &self,
        set: impl Fn(&str, &[u8]) -> rustix::io::Result<()>,
        remove: impl Fn(&str) -> rustix::io::Result<()>,
    ) -> io::Result<bool> {
        // A device always has an owner, so that one look tells whether anything is kept.
        let owner = match self.device {
            Some(_) => Some(self.owner.unwrap_or(Owner::ROOT)),
            None => self.owner.filter(|owner| *owner != Owner::ROOT),
        };
        let values = [
            (OWNER_XATTR, owner.map(|owner| owner.to_string().into_bytes())),
            (DEVICE_XATTR, self.device.map(|device| device.to_string().into_bytes())),
            (CAPABILITY_XATTR, self.capability.clone()),
        ];
        for (name, value) in values {
            let outcome = match &value {
                Some(value) => set(name, value),
                None => remove(name),
            };
            match (outcome, value) {
                (Ok(()), _) | (Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM), None) => {}
                (Err(Errno::NOTSUP | Errno::PERM | Errno::NOSPC), Some(_)) => return Ok(false),
                (Err(error), _) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// The capabilities of a file as every image holds them: version 2 of the format, without the id
/// that the kernel adds in a user namespace. `None` for bytes of another form.
pub fn portable_capability(bytes: &[u8]) -> Option<Vec<u8>> {
    const REVISION_MASK: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    let magic = u32::from_le_bytes(*bytes.first_chunk()?);
    match (magic & REVISION_MASK, bytes.len()) {
        (REVISION_2, 20) => Some(bytes.to_vec()),
        (REVISION_3, 24) => {
            let magic = (magic & !REVISION_MASK) | REVISION_2;
            Some([&magic.to_le_bytes(), &bytes[4..20]].concat())
        }
        _ => None,
    }
}

/// The capabilities of what is at a path, from whichever attribute holds them, in portable form.
pub fn capability_of_path(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; LONGEST_VALUE];
    let kernels = match rustix::fs::lgetxattr(path, KERNEL_CAPABILITY, &mut buffer) {
        Ok(length) => portable_capability(&buffer[..length]),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::OVERFLOW) => None,
        Err(error) => return Err(error.into()),
    };
    match kernels {
        Some(capability) => Ok(Some(capability)),
        None => Ok(Kept::of_path(path)?.capability.and_then(|bytes| portable_capability(&bytes))),
    }
}

/// What is kept about files that can carry no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideTable {
    lines: BTreeMap<PathBuf, Kept>,
}

impl SideTable {
    /// Where the table of a folder is: beside it, under its name with `.owners`.
    pub fn beside(folder: &Path) -> PathBuf {
        let mut name = folder.as_os_str().to_owned();
        name.push(".owners");
        name.into()
    }

    /// Reads the table of a folder; one that does not exist is empty.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let path = Self::beside(folder);
        match fs_err::read(&path) {
            Ok(bytes) => Self::parse(&bytes).cannot(|| format!("read {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).cannot(|| "read the owners of a layer"),
        }
    }

    /// Writes the table of a folder; an empty one is no file.
    pub fn write_for_folder(&self, folder: &Path) -> Result<()> {
        let action = || "write the owners of a layer";
        let path = Self::beside(folder);
        if !self.lines.is_empty() {
            return fs_err::write(&path, self.to_bytes()).cannot(action);
        }
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).cannot(action),
            _ => Ok(()),
        }
    }

    /// Reads the text of a table. A last line without an end was not written whole, and is left out.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut lines = BTreeMap::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let (path, kept) = parse_line(line)?;
            lines.insert(path, kept);
        }
        Ok(Self { lines })
    }

    /// The text of the table.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|(path, kept)| Self::line(path, kept)).collect()
    }

    /// One line, for appending to the file.
    pub fn line(path: &Path, kept: &Kept) -> Vec<u8> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let owner = kept.owner.unwrap_or(Owner::ROOT);
        let device = or_dash(kept.device.map(|device| device.to_string()));
        let capability = or_dash(kept.capability.as_ref().map(|bytes| BASE64.encode(bytes)));
        let mut line = format!("{owner}\t{device}\t{capability}\t").into_bytes();
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'\t' => line.extend(b"\\t"),
                b'\n' => line.extend(b"\\n"),
                b'\\' => line.extend(b"\\\\"),
                other => line.push(*other),
            }
        }
        line.push(b'\n');
        line
    }

    /// What is kept about a path, relative to the folder.
    pub fn get(&self, path: &Path) -> Option<&Kept> {
        self.lines.get(path)
    }

    /// Keeps something about a path, relative to the folder.
    pub fn insert(&mut self, path: PathBuf, kept: Kept) {
        self.lines.insert(path, kept);
    }

    /// Takes in every line of a table that lies over this one.
    pub fn overlay(&mut self, upper: Self) {
        self.lines.extend(upper.lines);
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The paths and what is kept about each, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Kept)> {
        self.lines.iter().map(|(path, kept)| (path.as_path(), kept))
    }
}

fn parse_line(line: &[u8]) -> Result<(PathBuf, Kept)> {
    let shown = String::from_utf8_lossy(line);
    let wrong = || malformed("a line of the owners", &shown, "four fields");
    let mut fields = line.splitn(4, |byte| *byte == b'\t');
    let mut field = || fields.next().ok_or_else(wrong);
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| wrong());
    let given = |text: &str| (text != "-").then(|| text.to_owned());
    let owner = text(field()?)?.parse()?;
    let device = given(text(field()?)?).map(|text| text.parse()).transpose()?;
    let capability = given(text(field()?)?).map(|text| BASE64.decode(text)).transpose();
    let capability = capability.map_err(|_| wrong())?;
    let path = unescape(field()?).ok_or_else(wrong)?;
    Ok((path, Kept { owner: Some(owner), device, capability }))
}

fn unescape(bytes: &[u8]) -> Option<PathBuf> {
    let mut path = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b't' => b'\t',
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(OsStr::from_bytes(&path).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use fs_err as fs;

    const DISK: Device = Device { kind: DeviceKind::Block, major: 8, minor: 0 };

    fn owned(uid: u32, gid: u32) -> Kept {
        Kept { owner: Some(Owner { uid, gid }), ..Kept::default() }
    }

    #[test]
    fn owners_and_devices_are_read_as_they_are_written() {
        for text in ["0:0", "100:65534", "4294967294:1"] {
            assert_eq!(text.parse::<Owner>().unwrap().to_string(), text);
        }
        for text in ["c 1 3", "b 8 0"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1:", ":1", "1:2:3", "-1:0", "4294967296:0", "a:b", "1:2\n"] {
            assert!(text.parse::<Owner>().is_err(), "{text:?}");
        }
        for text in ["", "c", "c 1", "p 1 3", "c 1 3 5", "c 1 x", "c  1 3"] {
            assert!(text.parse::<Device>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_file_keeps_everything_and_a_symbolic_link_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink("file", &link).unwrap();
        let kept = Kept { device: Some(DISK), capability: Some(vec![1, 2]), ..owned(7, 8) };
        assert!(kept.write_to_path(&file).unwrap());
        assert_eq!(Kept::of_path(&file).unwrap(), kept);
        assert_eq!(Kept::of_file(fs::File::open(&file).unwrap()).unwrap(), kept);
        assert!(!kept.write_to_path(&link).unwrap());
        assert!(Kept::of_path(&link).unwrap().is_empty());
        // Root's needs no record, and what is not kept any more is gone.
        assert!(owned(0, 0).write_to_file(fs::File::open(&file).unwrap()).unwrap());
        assert!(Kept::of_path(&file).unwrap().is_empty());
        assert!(Kept::default().write_to_path(&link).unwrap());
    }

    #[test]
    fn a_side_table_is_read_as_it_is_written_and_its_last_line_counts() {
        let mut table = SideTable::default();
        table.insert("var/www/current".into(), owned(33, 33));
        table.insert("odd\t\n\\name".into(), Kept { device: Some(DISK), ..owned(0, 6) });
        table.insert(
            OsStr::from_bytes(b"\xff").into(),
            Kept { capability: Some(vec![0]), ..owned(1, 1) },
        );
        assert_eq!(SideTable::parse(&table.to_bytes()).unwrap(), table);
        let mut text = table.to_bytes();
        text.extend(SideTable::line(Path::new("var/www/current"), &owned(0, 0)));
        text.extend(b"5:5\t-\t-\thalf a li");
        let read = SideTable::parse(&text).unwrap();
        assert_eq!(read.get(Path::new("var/www/current")), Some(&owned(0, 0)));
        assert_eq!(read.iter().count(), 3);
        for text in
            ["1:1\t-\t-\n", "x\t-\t-\tp\n", "1:1\tc\t-\tp\n", "1:1\t-\t*\tp\n", "1:1\t-\t-\t\\x\n"]
        {
            assert_eq!(
                SideTable::parse(text.as_bytes()).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_table_stands_beside_its_folder_and_an_empty_one_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("layer");
        assert!(SideTable::of_folder(&layer).unwrap().is_empty());
        let mut table = SideTable::default();
        table.insert("link".into(), owned(1, 2));
        table.write_for_folder(&layer).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("layer.owners")).unwrap(),
            "1:2\t-\t-\tlink\n"
        );
        assert_eq!(SideTable::of_folder(&layer).unwrap(), table);
        SideTable::default().write_for_folder(&layer).unwrap();
        SideTable::default().write_for_folder(&layer).unwrap();
        assert!(!folder.path().join("layer.owners").exists());
    }

    #[test]
    fn capabilities_lose_the_id_of_a_user_namespace() {
        let two = [&0x0200_0001_u32.to_le_bytes()[..], &[7; 16]].concat();
        let three = [&0x0300_0001_u32.to_le_bytes()[..], &[7; 16], &[9; 4]].concat();
        assert_eq!(portable_capability(&two).unwrap(), two);
        assert_eq!(portable_capability(&three).unwrap(), two);
        for odd in [&two[..19], &three[..20], &[]] {
            assert!(portable_capability(odd).is_none());
        }
    }
}
