//! The few files of a step that a program on the host works on, copied into a folder of this machine's,
//! and what the program made of them.
//!
//! ```text
//!   files of the step ─► whole folders, places that are written to ─► STAGE ─► program ─► what changed
//! ```
//!
//! What changed is a layer as an overlay would have it: what was written, and each folder that it is in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{Metadata, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

use crate::engine::files::{Files, Node, join};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Content, Entry, EntryKind, Tree, TreePath};
use crate::store::ScratchFolder;

/// How many files are brought at once.
const BROUGHT_AT_ONCE: usize = 1024;

/// Files of a step in a folder. They vanish when this is dropped.
pub(super) struct Stage {
    scratch: ScratchFolder,
    /// What was put there, as the step has it.
    staged: BTreeMap<TreePath, Entry>,
    /// The same as the folder had it when the program began.
    before: BTreeMap<TreePath, Seen>,
}

/// What is compared of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    is_folder: bool,
    mode: u32,
    modified: (i64, i64),
    /// Nothing for folders: what is in them changes these.
    touched: Option<(u64, i64, i64)>,
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        let touched = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        Self {
            is_folder: metadata.is_dir(),
            mode: metadata.mode() & 0o7777,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            touched: (!metadata.is_dir()).then_some(touched),
        }
    }
}

impl Stage {
    pub(super) fn new(scratch: ScratchFolder) -> Result<Self> {
        let stage = Self { scratch, staged: BTreeMap::new(), before: BTreeMap::new() };
        fs_err::create_dir(stage.root()).cannot(|| "make a folder for a step")?;
        Ok(stage)
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// Where something of the step is.
    pub(super) fn path(&self, path: Option<&TreePath>) -> PathBuf {
        match path {
            Some(path) => self.root().join(OsStr::from_bytes(path.as_bytes())),
            None => self.root(),
        }
    }

    /// Puts a folder there with all that is in it, where there is one.
    pub(super) fn put_whole(&mut self, files: &dyn Files, folder: &TreePath) -> Result<()> {
        self.put_place(files, folder)?;
        let (mut pending, mut found) = (vec![folder.clone()], Vec::new());
        while let Some(at) = pending.pop() {
            for (name, node) in files.children(Some(&at))? {
                let path = at.join(&name)?;
                match &node.entry.kind {
                    EntryKind::Directory => {
                        self.make_folder(&path, node.entry)?;
                        pending.push(path);
                    }
                    EntryKind::Symlink(target) if leads_out(files, folder, (&path, target))? => {
                        return Err(leaving(&path, target, &format!("out of /{folder}")));
                    }
                    EntryKind::File(_) | EntryKind::Symlink(_) => found.push((path, node.entry)),
                    _ => {}
                }
            }
        }
        self.write_files(files, found)
    }

    /// Puts what is at a path there, and the folders that it is in: of a folder, the files right in it.
    pub(super) fn put_place(&mut self, files: &dyn Files, path: &TreePath) -> Result<()> {
        let mut above: Vec<TreePath> = Vec::new();
        let mut parent = path.parent();
        while let Some(folder) = parent.filter(|folder| !self.staged.contains_key(folder)) {
            parent = folder.parent();
            above.push(folder);
        }
        for folder in above.into_iter().rev() {
            match files.node(Some(&folder))? {
                Some(node) if node.entry.is_directory() => self.make_folder(&folder, node.entry)?,
                Some(Node { entry: Entry { kind: EntryKind::Symlink(target), .. }, .. }) => {
                    return Err(leaving(&folder, &target, "and is a place to write to"));
                }
                // It is made, or refused, by whoever writes there.
                _ => return Ok(()),
            }
        }
        let Some(node) = files.node(Some(path))? else { return Ok(()) };
        if let EntryKind::Symlink(target) = &node.entry.kind {
            return Err(leaving(path, target, "and is a place to write to"));
        }
        if !node.entry.is_directory() {
            return self.write_files(files, vec![(path.clone(), node.entry)]);
        }
        self.make_folder(path, node.entry)?;
        let is_file = |node: &Node| matches!(node.entry.kind, EntryKind::File(_));
        let inside = files.children(Some(path))?.into_iter().filter(|(_, node)| is_file(node));
        let inside = inside.map(|(name, node)| Ok((join(Some(path), &name)?, node.entry)));
        self.write_files(files, inside.collect::<Result<_>>()?)
    }

    fn make_folder(&mut self, path: &TreePath, entry: Entry) -> Result<()> {
        if self.staged.contains_key(path) {
            return Ok(());
        }
        fs_err::create_dir(self.path(Some(path))).cannot(|| format!("copy /{path} for a step"))?;
        self.staged.insert(path.clone(), entry);
        Ok(())
    }

    fn write_files(&mut self, files: &dyn Files, mut found: Vec<(TreePath, Entry)>) -> Result<()> {
        found.retain(|(path, _)| !self.staged.contains_key(path));
        for some in found.chunks(BROUGHT_AT_ONCE) {
            let regular = some.iter().filter(|(_, entry)| matches!(entry.kind, EntryKind::File(_)));
            let regular: Vec<(TreePath, &Entry)> =
                regular.map(|(path, entry)| (path.clone(), entry)).collect();
            // Whoever gives the hash has brought the content.
            files.digests(&regular)?;
            for (path, entry) in some {
                write(&self.path(Some(path)), entry)
                    .cannot(|| format!("copy /{path} for a step"))?;
                self.staged.insert(path.clone(), entry.clone());
            }
        }
        Ok(())
    }

    /// Gives folders their permissions and times, and takes note of all that is there.
    pub(super) fn begin(&mut self) -> Result<()> {
        let action = || "get the files of a step ready";
        for (path, entry) in self.staged.iter().rev().filter(|(_, entry)| entry.is_directory()) {
            let place = self.path(Some(path));
            // Whoever is root in a sandbox can write to any folder.
            let mode = (entry.mode & 0o1777) | 0o700;
            fs_err::set_permissions(&place, Permissions::from_mode(mode)).cannot(action)?;
            let folder = fs_err::File::open(&place).cannot(action)?;
            rustix::fs::futimens(&folder, &seconds(entry.mtime)).cannot(action)?;
        }
        // Held by another name, so that no file that replaces one gets its number.
        let held = self.scratch.path().join("held");
        fs_err::create_dir(&held).cannot(action)?;
        let files = self.staged.iter().filter(|(_, entry)| !entry.is_directory());
        for (number, (path, _)) in files.enumerate() {
            let name = held.join(number.to_string());
            fs_err::hard_link(self.path(Some(path)), name).cannot(action)?;
        }
        let mut before = BTreeMap::new();
        for path in self.staged.keys() {
            let metadata = fs_err::symlink_metadata(self.path(Some(path))).cannot(action)?;
            before.insert(path.clone(), Seen::of(&metadata));
        }
        self.before = before;
        Ok(())
    }

    /// What the program changed. Contents are read from this folder.
    pub(super) fn changes(&self) -> Result<Tree> {
        let action = || "read what a step wrote";
        let mut found = BTreeMap::new();
        let mut pending: Vec<Option<TreePath>> = vec![None];
        while let Some(folder) = pending.pop() {
            for child in fs_err::read_dir(self.path(folder.as_ref())).cannot(action)? {
                let child = child.cannot(action)?;
                let path = join(folder.as_ref(), child.file_name().as_bytes())?;
                let metadata = fs_err::symlink_metadata(child.path()).cannot(action)?;
                if metadata.is_dir() {
                    pending.push(Some(path.clone()));
                }
                found.insert(path, metadata);
            }
        }
        if let Some(gone) = self.before.keys().find(|path| !found.contains_key(*path)) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "keep what a step did without a sandbox",
            )
            .because(format!("it removed /{gone}")));
        }
        let mut tree = Tree::new();
        for (path, metadata) in &found {
            let (seen, before) = (Seen::of(metadata), self.before.get(path));
            if before != Some(&seen) {
                self.put_above(path, &found, &mut tree)?;
                let entry = self.entry(path, metadata, before.is_none()).cannot(action)?;
                tree.insert(path.clone(), entry)?;
            }
        }
        Ok(tree)
    }

    /// Puts the folders of a changed file into the tree, as they are now.
    fn put_above(
        &self,
        path: &TreePath,
        found: &BTreeMap<TreePath, Metadata>,
        tree: &mut Tree,
    ) -> Result<()> {
        let mut parent = path.parent();
        while let Some(folder) = parent.filter(|folder| !tree.contains(folder)) {
            if let Some(metadata) = found.get(&folder) {
                let is_new = !self.before.contains_key(&folder);
                let entry = self.entry(&folder, metadata, is_new);
                tree.insert(folder.clone(), entry.cannot(|| "read what a step wrote")?)?;
            }
            parent = folder.parent();
        }
        Ok(())
    }

    /// What something is now: whose it was, and root's where it is new.
    fn entry(&self, path: &TreePath, metadata: &Metadata, is_new: bool) -> std::io::Result<Entry> {
        let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
        if metadata.is_dir() {
            let known = self.staged.get(path).filter(|_| !is_new);
            let entry = known.cloned().unwrap_or_else(|| Entry::directory(mode));
            return Ok(entry.modified(mtime));
        }
        let place = self.path(Some(path));
        let kind = if metadata.is_symlink() {
            EntryKind::Symlink(fs_err::read_link(&place)?.as_os_str().as_bytes().to_vec())
        } else if metadata.len() == 0 {
            EntryKind::File(Content::Memory(bytes::Bytes::new()))
        } else {
            EntryKind::File(Content::file(place, metadata.len()))
        };
        let mut entry = Entry::new(kind, mode).modified(mtime);
        let was_written = |seen: &Seen| seen.touched.map(|it| it.0) == Some(metadata.ino());
        if let (Some(known), true) =
            (self.staged.get(path), self.before.get(path).is_some_and(was_written))
        {
            entry = entry.owned_by(known.uid, known.gid);
            // As it was staged it had some more rights.
            if self.before.get(path).is_some_and(|seen| seen.mode == mode) {
                entry.mode = known.mode;
            }
        }
        Ok(entry)
    }
}

/// Whether a link leads out of a folder anywhere on its way: through whatever links, and also where it
/// comes back. What is not there yet is taken as written.
///
/// What decides are the files of the step, which nobody changes; they are copied to where nobody else writes.
fn leads_out(
    files: &dyn Files,
    folder: &TreePath,
    (link, target): (&TreePath, &[u8]),
) -> Result<bool> {
    let (mut at, mut links) = (link.parent(), 0);
    let mut left: Vec<Vec<u8>> = Vec::new();
    let mut target = target.to_vec();
    loop {
        if target.starts_with(b"/") {
            return Ok(true);
        }
        let parts = target.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
        left.extend(parts.rev().map(<[u8]>::to_vec));
        target = loop {
            let Some(part) = left.pop() else { return Ok(false) };
            if part == b".." {
                match &at {
                    Some(place) if place != folder => at = place.parent(),
                    _ => return Ok(true),
                }
                continue;
            }
            let next = join(at.as_ref(), &part)?;
            let kind = files.node(Some(&next))?.map(|node| node.entry.kind);
            if let Some(EntryKind::Symlink(target)) = kind {
                break target;
            }
            at = Some(next);
        };
        links += 1;
        // The kernel follows no more, in a step as here.
        if links > MOST_LINKS {
            return Ok(false);
        }
    }
}

/// How many links the kernel follows.
const MOST_LINKS: usize = 40;

/// Why a link is not copied: here it leads to files of this machine.
fn leaving(path: &TreePath, target: &[u8], why: &str) -> Error {
    let target = String::from_utf8_lossy(target);
    Error::new(ErrorKind::Unsupported, format!("use /{path}"))
        .because(format!("it leads to {}, {why}", target.escape_debug()))
        .hint("leave the link out (.dockerignore), or build where a sandbox works")
}

/// Writes a file or link.
fn write(place: &Path, entry: &Entry) -> Result<()> {
    let action = || format!("write {}", place.display());
    match &entry.kind {
        EntryKind::Symlink(target) => rustix::fs::symlink(target.as_slice(), place).cannot(action),
        EntryKind::File(content) => {
            let mut file = fs_err::File::create_new(place).cannot(action)?;
            match content {
                Content::Memory(bytes) => file.write_all(bytes).cannot(action)?,
                Content::File(content) => {
                    content.open()?.for_each(|piece| file.write_all(piece).cannot(action))?;
                }
            }
            let mode = Permissions::from_mode((entry.mode & 0o777) | 0o600);
            file.set_permissions(mode).cannot(action)?;
            rustix::fs::futimens(&file, &seconds(entry.mtime)).cannot(action)
        }
        _ => Ok(()),
    }
}

fn seconds(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime, tv_nsec: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::tests::files;
    use crate::store::Store;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    fn shown(tree: &Tree) -> Vec<String> {
        let line = |(path, entry): (TreePath, Entry)| {
            format!("{path} {:o} {}:{}", entry.mode, entry.uid, entry.gid)
        };
        tree.iter().map(line).collect()
    }

    #[test]
    fn what_was_written_and_the_folders_around_it_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let of = |entry: Entry| entry.owned_by(5, 6).modified(1000);
        let image = files(&[
            ("app", of(Entry::directory(0o750))),
            ("app/go.sum", of(Entry::file("old", 0o604))),
            ("app/a/deep/x.go", of(Entry::file("x", 0o444))),
            ("app/gone.go", of(Entry::file("x", 0o444))),
            ("app/in", Entry::symlink("a/../a")),
            ("out/app", of(Entry::file("was here", 0o755))),
            ("out/other", of(Entry::file("stays", 0o755))),
            ("tmp", Entry::directory(0o1777)),
            ("etc/passwd", Entry::file("not staged", 0o644)),
        ]);
        let mut stage = Stage::new(store.scratch_folder().unwrap()).unwrap();
        stage.put_whole(&image, &path("app")).unwrap();
        for place in ["out", "tmp", "new/place/x"] {
            stage.put_place(&image, &path(place)).unwrap();
        }
        stage.begin().unwrap();
        assert!(!stage.path(Some(&path("etc"))).exists());
        assert_eq!(stage.changes().unwrap(), Tree::new());

        let at = |text: &str| stage.path(Some(&path(text)));
        fs_err::write(at("app/go.sum"), "written in its place").unwrap();
        fs_err::create_dir_all(at("new/place")).unwrap();
        fs_err::write(at("new/place/x"), "").unwrap();
        fs_err::remove_file(at("out/app")).unwrap();
        fs_err::write(at("out/app"), "another one").unwrap();
        fs_err::write(at("tmp/x"), "").unwrap();
        fs_err::remove_file(at("tmp/x")).unwrap();
        // Whatever other tests do to the mask of this process.
        for (name, mode) in
            [("new", 0o755), ("new/place", 0o755), ("new/place/x", 0o644), ("out/app", 0o644)]
        {
            fs_err::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        }
        let tree = stage.changes().unwrap();
        let expected = [
            "app 750 5:6",
            "app/go.sum 604 5:6",
            "new 755 0:0",
            "new/place 755 0:0",
            "new/place/x 644 0:0",
            "out 755 0:0",
            "out/app 644 0:0",
            "tmp 1777 0:0",
        ];
        assert_eq!(shown(&tree), expected);
        assert_eq!(tree.get(&path("app")).unwrap().mtime, 1000);
        assert!(tree.get(&path("tmp")).unwrap().mtime > 1000);

        fs_err::remove_file(at("app/gone.go")).unwrap();
        let error = stage.changes().unwrap_err().to_string();
        assert!(error.contains("it removed /app/gone.go"), "{error}");
    }

    #[test]
    fn links_that_lead_out_are_told_by_where_they_lead() {
        let image = files(&[
            ("app/a/up", Entry::symlink("..")),
            ("app/a/b/c/x", Entry::file("x", 0o644)),
            ("app/here", Entry::symlink(".")),
            ("app/far", Entry::symlink("/etc")),
            ("app/one", Entry::symlink("two")),
            ("app/two", Entry::symlink("one")),
            ("app/deep", Entry::symlink("a/b/c")),
            ("etc/passwd", Entry::file("x", 0o644)),
        ]);
        for (link, target, expected) in [
            ("app/x", "y", false),
            ("app/x", "../app/y", true),
            ("app/x", "/app/y", true),
            ("app/a/x", "../y", false),
            ("app/a/x", "../../y", true),
            ("app/a/x", "./..//b/../c", false),
            // By its text each of these stays.
            ("app/x", "a/up/../etc/passwd", true),
            ("app/x", "a/up/a/b", false),
            ("app/x", "here/here/../etc", true),
            ("app/x", "far/passwd", true),
            ("app/x", "deep/../../up/y", false),
            ("app/x", "deep/../../up/../y", true),
            ("app/x", "one", false),
            ("app/x", "not-there/../../y", true),
        ] {
            let (folder, link) = (path("app"), path(link));
            let found = leads_out(&image, &folder, (&link, target.as_bytes())).unwrap();
            assert_eq!(found, expected, "{link} -> {target}");
        }
    }

    #[test]
    fn a_chain_of_links_and_a_link_to_write_to_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let image = files(&[
            ("app/a/up", Entry::symlink("..")),
            ("app/x.go", Entry::symlink("a/up/../etc/passwd")),
            ("go/bin", Entry::symlink("/usr/bin")),
            ("go/pkg", Entry::symlink("../../../../etc")),
        ]);
        let mut stage = Stage::new(store.scratch_folder().unwrap()).unwrap();
        let error = stage.put_whole(&image, &path("app")).unwrap_err().to_string();
        assert!(error.contains("cannot use /app/x.go: it leads to a/up/../etc/passwd"), "{error}");
        for (place, link) in [("go/bin", "go/bin"), ("go/pkg/x", "go/pkg")] {
            let error = stage.put_place(&image, &path(place)).unwrap_err().to_string();
            assert!(error.contains(&format!("cannot use /{link}: it leads to ")), "{error}");
            assert!(stage.path(Some(&path(link))).symlink_metadata().is_err());
        }
    }
}
