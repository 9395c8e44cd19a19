//! Writes the entries of one layer into a folder in overlay form.
//!
//! Nothing in a layer is trusted. Every path is looked up inside the layer's folder, the last part is
//! never followed, and what is set on a file is set on its open descriptor. Folders keep their
//! owner's rights until the end, and get their times then, because writing into them changes those.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Keeper, OWNERS, Target, display};
use super::folders::Folders;
use super::hiding::{Name, whiteout};
use super::links::LinkBelow;
use super::part::Part;
use super::{OwnerStorage, marks};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{ArchiveReader, Limits, ListedEntry, ListedKind, TreePath, Whiteout};
use crate::sandbox::owner::{Device, DeviceKind};
use crate::store::remove_tree;

/// How much content is read and written at once.
const PIECE: usize = 256 << 10;

/// How a layer is written.
#[derive(Clone, Debug)]
pub(super) struct WriteOptions {
    pub(super) storage: OwnerStorage,
    /// Whether nothing lies below, so that there is nothing to hide.
    pub(super) is_base: bool,
    /// Only this, as plain files, see [`Unpacker::unpack_part`](super::Unpacker::unpack_part).
    pub(super) only: Option<Part>,
    pub(super) limits: Limits,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The bytes that it takes on disk, about.
    pub(super) bytes: u64,
    /// How many entries the layer has.
    pub(super) entries: u64,
    /// Whether it hides everything below, or of a part everything that those below have of it.
    pub(super) hides_all: bool,
    /// Whether it holds marks that hide something of lower layers.
    pub(super) has_marks: bool,
    /// Whether it has the whole of a part.
    pub(super) is_whole: bool,
    /// Folders that the layer says nothing of but that they are there: they look like the ones
    /// below. An empty path is the root's.
    pub(super) implied: BTreeSet<Vec<u8>>,
    /// Hard links to what may be a lower layer's: they are not made yet.
    pub(super) links_below: Vec<LinkBelow>,
}

/// Reads an archive to its end and writes its entries into `folder`, which is empty.
pub(super) fn write_layer(
    archive: &mut (dyn Read + Send),
    folder: &Path,
    options: &WriteOptions,
) -> Result<Written> {
    let mut archive = ArchiveReader::new(archive, options.limits);
    let mut writer = Writer::new(folder, options)?;
    while let Some(entry) = archive.next_entry()? {
        let written = writer.write(&entry, &mut archive);
        written.cannot(|| format!("unpack {}", display(&entry.path)))?;
    }
    writer.finish()
}

struct Writer<'a> {
    options: &'a WriteOptions,
    /// The layer's folder.
    folder: &'a Path,
    folders: Folders,
    keeper: Keeper,
    written: Written,
    /// Folders that end without some of their owner's rights, and their modes.
    restricted: BTreeMap<Vec<u8>, u32>,
    /// Folders and their times, in the order of the archive: on disk, because there may be millions.
    times: BufWriter<File>,
    buffer: Vec<u8>,
    removed: u64,
    /// Which of the paths that make a part whole it has.
    has: Vec<bool>,
}

impl<'a> Writer<'a> {
    fn new(folder: &'a Path, options: &'a WriteOptions) -> Result<Self> {
        let action = || "unpack a layer";
        let parent = folder.parent().expect("a layer's folder is in another");
        let makes_whole = options.only.as_ref().map_or(0, |part| part.whole().len());
        Ok(Self {
            options,
            folder,
            folders: Folders::new(folder, options.storage).cannot(action)?,
            keeper: Keeper::new(folder, options.storage),
            written: Written { implied: [Vec::new()].into(), ..Written::default() },
            restricted: BTreeMap::new(),
            times: BufWriter::new(tempfile::tempfile_in(parent).cannot(action)?),
            buffer: vec![0; PIECE],
            removed: 0,
            has: vec![false; makes_whole],
        })
    }

    fn write(
        &mut self,
        entry: &ListedEntry,
        archive: &mut ArchiveReader<&mut (dyn Read + Send)>,
    ) -> Result<()> {
        let Some(path) = entry.tree_path()? else {
            return self.write_root(entry);
        };
        let whiteout = whiteout(&path)?;
        if let Some(only) = &self.options.only
            && !self.is_wanted(only, entry, &path, whiteout.as_ref())?
        {
            return Ok(());
        }
        self.written.entries += 1;
        if let Some(whiteout) = whiteout {
            return match whiteout {
                Name::Hides(whiteout) => self.hide(&whiteout),
                Name::Aufs => Ok(()),
            };
        }
        let attributes = match self.options.only {
            Some(_) => Attributes::plain(entry),
            None => Attributes::of_listed(entry)?,
        };
        let parent = path.parent();
        let folder = self.folder_at(parent.as_ref().map_or(b"", TreePath::as_bytes))?;
        let place = Destination { folder, path: path.as_bytes(), name: path.name() };
        match &entry.kind {
            ListedKind::File if entry.sparse => {
                Err(Error::new(ErrorKind::Unsupported, "read a sparse file")
                    .because("GNU's sparse form is not read"))
            }
            ListedKind::File => self.write_file(&place, &attributes, archive),
            ListedKind::Directory => self.write_folder(&place, &attributes),
            ListedKind::Symlink(target) => self.write_link(&place, &attributes, target),
            ListedKind::HardLink(target) => self.write_hard_link(&place, target),
            ListedKind::CharDevice { major: 0, minor: 0 } => self.whiteout_at(&place),
            ListedKind::CharDevice { major, minor } => {
                let device = device(DeviceKind::Character, *major, *minor)?;
                self.write_device(&place, &attributes, device)
            }
            ListedKind::BlockDevice { major, minor } => {
                let device = device(DeviceKind::Block, *major, *minor)?;
                self.write_device(&place, &attributes, device)
            }
            ListedKind::Fifo => self.write_pipe(&place, &attributes),
            ListedKind::Other(letter) => {
                let type_flag = letter.escape_ascii();
                Err(Error::new(ErrorKind::Invalid, "make a file of its type")
                    .because(format!("\"{type_flag}\" is no type that layers have")))
            }
        }
    }

    /// Whether an entry belongs to a part. Notes what it means for the part if it does not.
    fn is_wanted(
        &mut self,
        only: &Part,
        entry: &ListedEntry,
        path: &TreePath,
        whiteout: Option<&Name>,
    ) -> Result<bool> {
        if let Some(name) = whiteout {
            let hides_all = name.covers(only.folder());
            self.written.hides_all |= hides_all;
            return Ok(only.holds(path) && !hides_all);
        }
        let leads_there = path == only.folder() || only.folder().is_below(path);
        if leads_there && entry.kind != ListedKind::Directory {
            return Err(unwanted("it is no folder, and leads to one that is wanted"));
        }
        for (has, needed) in self.has.iter_mut().zip(only.whole()) {
            *has |= path == needed || path.is_below(needed);
        }
        let is_wanted = only.holds(path);
        let is_special = match &entry.kind {
            ListedKind::CharDevice { major, minor } => (*major, *minor) != (0, 0),
            ListedKind::BlockDevice { .. } | ListedKind::Fifo => true,
            _ => false,
        };
        if is_wanted && is_special {
            return Err(unwanted("it is neither file nor folder nor link"));
        }
        Ok(is_wanted)
    }

    /// Opens a folder, and makes those that the archive has not named before.
    fn folder_at(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        let mut made = Vec::new();
        let folder = self.folders.ensure(path, &mut |path| made.push(path.to_vec()));
        self.written.entries += made.len() as u64;
        self.written.implied.extend(made);
        if self.written.entries > self.options.limits.headers {
            return Err(Error::new(ErrorKind::Invalid, "make its folder")
                .because("the layer has more entries than allowed"));
        }
        folder.cannot(|| format!("open its folder {}", display(path)))
    }

    fn write_root(&mut self, entry: &ListedEntry) -> Result<()> {
        if entry.kind != ListedKind::Directory || self.options.only.is_some() {
            return Ok(());
        }
        let root = self.folders.root();
        self.describe_folder(&root, b"", &Attributes::of_listed(entry)?)
    }

    fn write_file(
        &mut self,
        place: &Destination<'_>,
        attributes: &Attributes<'_>,
        archive: &mut ArchiveReader<&mut (dyn Read + Send)>,
    ) -> Result<()> {
        let file = self.create(place)?;
        let mut size = 0;
        loop {
            let count = archive.read_content(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            (&file).write_all(&self.buffer[..count]).cannot(|| "write it")?;
            size += count as u64;
        }
        self.written.bytes += size;
        self.keeper.set(&file, place.path, attributes, Target::File)?;
        rustix::fs::futimens(&file, &attributes.times()).cannot(|| "set its time")
    }

    /// Makes a new file; what this layer had in its place goes.
    fn create(&mut self, place: &Destination<'_>) -> Result<File> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&*place.folder, place.name, flags, Mode::from(0o600));
        match open() {
            Err(Errno::EXIST) => {
                self.remove(place)?;
                open()
            }
            result => result,
        }
        .cannot(|| "make it")
        .map(File::from)
    }

    fn write_folder(&mut self, place: &Destination<'_>, attributes: &Attributes<'_>) -> Result<()> {
        let make = || rustix::fs::mkdirat(&*place.folder, place.name, Mode::from(OWNERS));
        let mut hides = false;
        match make() {
            Err(Errno::EXIST) => {
                let there = marks::look(&*place.folder, place.name).cannot(|| "look at it")?;
                let mode = there.as_ref().map_or(0, |stat| stat.st_mode);
                if FileType::from_raw_mode(mode) != FileType::Directory {
                    // Its whiteout stays in force for what lower layers have in it.
                    hides = self.is_whiteout(place)?;
                    self.remove(place)?;
                    make().cannot(|| "make it")?;
                }
            }
            result => result.cannot(|| "make it")?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&*place.folder, place.name, flags, Mode::empty());
        let folder = Rc::new(folder.cannot(|| "open it")?);
        if hides {
            marks::set_opaque(&*folder, self.options.storage).map_err(marks::unmarked)?;
        }
        self.describe_folder(&folder, place.path, attributes)?;
        self.folders.remember(place.path, &folder);
        Ok(())
    }

    /// Sets what a folder gets now, and notes what it gets at the end.
    fn describe_folder(
        &mut self,
        folder: &Rc<OwnedFd>,
        path: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<()> {
        self.keeper.set(&**folder, path, attributes, Target::OpenFolder)?;
        self.written.implied.remove(path);
        if attributes.mode & OWNERS == OWNERS {
            self.restricted.remove(path);
        } else {
            self.restricted.insert(path.to_vec(), attributes.mode);
        }
        let action = || "note its time";
        self.times.write_all(&attributes.mtime.to_le_bytes()).cannot(action)?;
        self.times.write_all(path).cannot(action)?;
        self.times.write_all(&[0]).cannot(action)
    }

    fn write_link(
        &mut self,
        place: &Destination<'_>,
        attributes: &Attributes<'_>,
        target: &[u8],
    ) -> Result<()> {
        let make = || rustix::fs::symlinkat(target, &*place.folder, place.name);
        self.make_anew(place, make)?;
        self.keeper.set_unopened(&*place.folder, place.path, attributes, true)
    }

    fn write_hard_link(&mut self, place: &Destination<'_>, target: &[u8]) -> Result<()> {
        let target = TreePath::normalized(target)?;
        let action = || format!("link it to {target}");
        let parent = target.parent();
        let from = self.folders.get(parent.as_ref().map_or(b"", TreePath::as_bytes));
        let there = match from {
            Ok(from) => marks::look(&*from, target.name()).cannot(action)?.map(|stat| (from, stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => return Err(error).cannot(action),
        };
        let missing = || {
            Error::new(ErrorKind::Invalid, action())
                .because("the layer has no such file before this entry")
        };
        let Some((from, stat)) = there else {
            if self.options.is_base {
                return Err(missing());
            }
            if self.options.only.is_some() {
                return Err(unwanted("it is a hard link to a file of another layer"));
            }
            self.make_room(place)?;
            let path = TreePath::new(place.path)?;
            self.written.links_below.push(LinkBelow { path, target });
            return Ok(());
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_whiteout = marks::is_whiteout_at(&*from, target.name(), &stat, self.options.storage);
        if is_whiteout.cannot(action)? {
            return Err(Error::new(ErrorKind::Invalid, action())
                .because("the same layer removes that file"));
        }
        if kind == FileType::Directory {
            return Err(Error::new(ErrorKind::Invalid, action()).because("it is no file"));
        }
        if target.as_bytes() == place.path {
            return Ok(());
        }
        let make = || {
            let flags = AtFlags::empty();
            rustix::fs::linkat(&*from, target.name(), &*place.folder, place.name, flags)
        };
        self.make_anew(place, make)
    }

    fn write_pipe(&mut self, place: &Destination<'_>, attributes: &Attributes<'_>) -> Result<()> {
        let make = || rustix::fs::mkfifoat(&*place.folder, place.name, Mode::from(0o600));
        self.make_anew(place, make)?;
        self.keeper.set_unopened(&*place.folder, place.path, attributes, false)
    }

    /// Makes a device node, or where that is not allowed a file that stands for it.
    fn write_device(
        &mut self,
        place: &Destination<'_>,
        attributes: &Attributes<'_>,
        device: Device,
    ) -> Result<()> {
        if self.options.storage == OwnerStorage::Trusted {
            let kind = match device.kind {
                DeviceKind::Character => FileType::CharacterDevice,
                DeviceKind::Block => FileType::BlockDevice,
            };
            let number = rustix::fs::makedev(device.major, device.minor);
            self.make_room(place)?;
            let mode = Mode::from(0o600);
            match rustix::fs::mknodat(&*place.folder, place.name, kind, mode, number) {
                Err(Errno::PERM) => {}
                result => {
                    result.cannot(|| "make it")?;
                    let folder = &*place.folder;
                    return self.keeper.set_unopened(folder, place.path, attributes, false);
                }
            }
        }
        let file = self.create(place)?;
        let attributes = Attributes { device: Some(device), ..attributes.clone() };
        self.keeper.set(&file, place.path, &attributes, Target::File)?;
        rustix::fs::futimens(&file, &attributes.times()).cannot(|| "set its time")
    }

    /// Hides something of lower layers.
    fn hide(&mut self, whiteout: &Whiteout) -> Result<()> {
        match whiteout {
            Whiteout::Opaque(None) => {
                self.written.hides_all = !self.options.is_base;
                Ok(())
            }
            Whiteout::Opaque(Some(path)) => {
                let folder = self.folder_at(path.as_bytes())?;
                if self.options.is_base {
                    return Ok(());
                }
                self.written.has_marks = true;
                marks::set_opaque(&*folder, self.options.storage).map_err(marks::unmarked)
            }
            Whiteout::Removed(path) => {
                let parent = path.parent();
                let folder = self.folder_at(parent.as_ref().map_or(b"", TreePath::as_bytes))?;
                let place = Destination { folder, path: path.as_bytes(), name: path.name() };
                self.whiteout_at(&place)
            }
        }
    }

    /// Hides a name. What this layer has there stays, and then hides by itself, or as a folder does
    /// after this.
    fn whiteout_at(&mut self, place: &Destination<'_>) -> Result<()> {
        if self.options.is_base {
            return Ok(());
        }
        self.written.has_marks = true;
        let storage = self.options.storage;
        match marks::make_whiteout(&*place.folder, place.name, &self.folders, storage) {
            Err(Errno::EXIST) => {}
            result => return result.map_err(marks::unmarked),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&*place.folder, place.name, flags, Mode::empty()) {
            Ok(folder) => marks::set_opaque(folder, storage).map_err(marks::unmarked),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error).cannot(|| "open it"),
        }
    }

    fn is_whiteout(&self, place: &Destination<'_>) -> Result<bool> {
        let Some(stat) = marks::look(&*place.folder, place.name).cannot(|| "look at it")? else {
            return Ok(false);
        };
        marks::is_whiteout_at(&*place.folder, place.name, &stat, self.options.storage)
            .cannot(|| "look at it")
    }

    fn make_anew(
        &mut self,
        place: &Destination<'_>,
        make: impl Fn() -> rustix::io::Result<()>,
    ) -> Result<()> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(place)?;
                make()
            }
            result => result,
        }
        .cannot(|| "make it")
    }

    fn make_room(&mut self, place: &Destination<'_>) -> Result<()> {
        match marks::look(&*place.folder, place.name).cannot(|| "look at it")? {
            Some(_) => self.remove(place),
            None => Ok(()),
        }
    }

    /// Removes what this layer has in a place, whatever it is.
    fn remove(&mut self, place: &Destination<'_>) -> Result<()> {
        let action = || "remove what was there before";
        self.folders.forget();
        match rustix::fs::unlinkat(&*place.folder, place.name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            result => return result.cannot(action),
        }
        let beside = self.folder.with_extension(format!("removed-{}", self.removed));
        self.removed += 1;
        rustix::fs::renameat(&*place.folder, place.name, rustix::fs::CWD, &beside)
            .cannot(action)?;
        remove_tree(&beside).cannot(action)
    }

    /// Gives folders their times and their last modes.
    fn finish(self) -> Result<Written> {
        let action = || "finish the folders of a layer";
        let mut times = self.times.into_inner().map_err(std::io::IntoInnerError::into_error);
        let file =
            times.as_mut().map_err(|e| std::io::Error::other(e.to_string())).cannot(action)?;
        file.rewind().cannot(action)?;
        let mut times = BufReader::new(file);
        let mut folders = self.folders;
        folders.forget();
        let mut seconds = [0; 8];
        let mut path = Vec::new();
        while !times.fill_buf().cannot(action)?.is_empty() {
            times.read_exact(&mut seconds).cannot(action)?;
            path.clear();
            times.read_until(0, &mut path).cannot(action)?;
            path.pop();
            let mtime = super::seconds(i64::from_le_bytes(seconds));
            set_if_folder(&mut folders, &path, |folder| rustix::fs::futimens(folder, &mtime))
                .cannot(action)?;
        }
        // What is inside a folder comes before it, or it could not be reached any more.
        for (path, mode) in self.restricted.iter().rev() {
            let close = |folder: &OwnedFd| self.keeper.close(folder, *mode);
            set_if_folder(&mut folders, path, close).cannot(action)?;
        }
        let mut written = self.written;
        written.is_whole = !self.has.is_empty() && self.has.iter().all(|has| *has);
        Ok(written)
    }
}

/// Where an entry goes.
struct Destination<'a> {
    folder: Rc<OwnedFd>,
    path: &'a [u8],
    name: &'a [u8],
}

/// Does something to a folder, unless it was replaced by something else later in the archive.
fn set_if_folder(
    folders: &mut Folders,
    path: &[u8],
    set: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match folders.get(path) {
        Ok(folder) => set(&folder),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why a part cannot be had.
fn unwanted(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "use it in a folder of plain files").because(why)
}

fn device(kind: DeviceKind, major: u64, minor: u64) -> Result<Device> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(Device { kind, major, minor }),
        _ => Err(Error::new(ErrorKind::Invalid, "make a device")
            .because(format!("{major}:{minor} are no numbers of a device"))),
    }
}
