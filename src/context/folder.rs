//! A folder of this machine as a context.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::digests::{Digests, Wanted};
use crate::context::ignore::Patterns;
use crate::engine::files::{Children, DESCRIBED_AT_ONCE, Files, Node, join};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Content, ContentHash, Entry, EntryKind, HeldFolder, Inner, TreePath};

/// A folder, without what its ignore file leaves out. Everything in it belongs to root.
///
/// It is held open from the beginning: whatever is swapped for a link meanwhile, nothing is found
/// outside of it, and a file is read only as long as it is the one that was found.
pub struct Folder {
    root: Arc<HeldFolder>,
    ignored: Patterns,
    digests: Option<Digests>,
    /// Every file's time, instead of its own.
    time: Option<i64>,
}

impl Folder {
    /// Takes the folder as it is.
    pub fn new(root: Arc<HeldFolder>) -> Self {
        Self { root, ignored: Patterns::default(), digests: None, time: None }
    }

    /// Leaves out what matches.
    #[must_use]
    pub fn ignoring(self, ignored: Patterns) -> Self {
        Self { ignored, ..self }
    }

    /// Remembers digests between builds.
    #[must_use]
    pub fn remembering(self, digests: Digests) -> Self {
        Self { digests: Some(digests), ..self }
    }

    /// Gives all files the same time.
    #[must_use]
    pub fn modified(self, time: i64) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Keeps what was learnt for the next build.
    pub fn save(&self) {
        if let Some(digests) = &self.digests {
            digests.save();
        }
    }

    /// Forgets what was learnt: some of it was wrong.
    pub fn forget(&self) {
        if let Some(digests) = &self.digests {
            digests.forget();
        }
    }

    /// What is on disk, whether or not it is left out. Sockets count as absent.
    fn look(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let Some(path) = path else {
            let inner = self.root.folder(b"").cannot(|| "read the build context")?;
            return self.describe(&inner, None, b"");
        };
        let parent = path.parent();
        let parent = parent.as_ref().map_or(&b""[..], TreePath::as_bytes);
        match self.root.folder(parent) {
            Ok(inner) => self.describe(&inner, Some(path.name()), path.as_bytes()),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.unopened(parent, error)),
        }
    }

    /// Describes a name in an opened folder, or the folder itself.
    fn describe(&self, inner: &Inner, name: Option<&[u8]>, path: &[u8]) -> Result<Option<Node>> {
        let Some(stat) = inner.look(name).cannot(|| self.action(path))? else { return Ok(None) };
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File(Content::beneath(&self.root, path, &stat)),
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => match inner.link(name.unwrap_or_default()) {
                Ok(target) => EntryKind::Symlink(target),
                Err(error) => return Err(self.unopened(path, error)),
            },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let is_file = matches!(kind, EntryKind::File(_));
        let is_link = matches!(kind, EntryKind::Symlink(_));
        let mut entry = Entry::new(kind, if is_link { 0o777 } else { stat.st_mode & 0o7777 });
        entry.mtime = self.time.unwrap_or(stat.st_mtime);
        if !is_link {
            let attributes = inner.attributes(name, &travels).cannot(|| self.action(path))?;
            entry.xattrs = attributes.into_iter().collect();
        }
        let several = stat.st_nlink > 1 && is_file;
        Ok(Some(Node { entry, identity: several.then_some(stat.st_ino) }))
    }

    fn open(&self, folder: Option<&TreePath>) -> Result<Inner> {
        let path = folder.map_or(&b""[..], TreePath::as_bytes);
        self.root.folder(path).map_err(|error| self.unopened(path, error))
    }

    /// A folder, and the names in it.
    fn open_and_list(&self, folder: Option<&TreePath>) -> Result<(Inner, Vec<Vec<u8>>)> {
        let inner = self.open(folder)?;
        let path = folder.map_or(&b""[..], TreePath::as_bytes);
        let names = inner.names().cannot(|| self.action(path))?;
        Ok((inner, names))
    }

    /// Describes names in a folder; what is left out is not there.
    fn describe_all(
        &self,
        inner: &Inner,
        folder: Option<&TreePath>,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, Node)>> {
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let path = join(folder, &name)?;
            let Some(node) = self.describe(inner, Some(&name), path.as_bytes())? else { continue };
            if !self.is_ignored(&path, &node) {
                all.push((name, node));
            }
        }
        Ok(all)
    }

    fn action(&self, path: &[u8]) -> String {
        format!("read {}", self.root.display(path).display())
    }

    /// Says why something could not be opened that was there a moment ago.
    fn unopened(&self, path: &[u8], error: std::io::Error) -> Error {
        use std::io::ErrorKind as Kind;
        let moved =
            matches!(error.kind(), Kind::NotFound | Kind::NotADirectory | Kind::InvalidInput)
                || error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        if !moved {
            return Error::new(ErrorKind::Io, self.action(path)).caused_by(error);
        }
        Error::new(ErrorKind::Changed, self.action(path))
            .because(format!("it changed meanwhile: found something else in its place ({error})"))
            .hint("build again when nothing writes there")
    }

    /// Whether a path is left out, and nothing below it is brought back.
    fn is_ignored(&self, path: &TreePath, node: &Node) -> bool {
        if self.ignored.is_empty() {
            return false;
        }
        let text = path.to_str_lossy();
        self.ignored.matches_path(&text)
            && !(node.entry.is_directory() && self.brings_back(path, &text))
    }

    /// Whether something in a folder that is left out is not.
    fn brings_back(&self, path: &TreePath, text: &str) -> bool {
        self.ignored.may_bring_back_below(text)
            && self.children(Some(path)).is_ok_and(|children| !children.is_empty())
    }
}

impl Files for Folder {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let found = self.look(path)?;
        Ok(match path {
            Some(path) => found.filter(|node| !self.is_ignored(path, node)),
            None => found,
        })
    }

    fn children(&self, folder: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        let (inner, names) = self.open_and_list(folder)?;
        self.describe_all(&inner, folder, names)
    }

    fn first_children(&self, folder: Option<&TreePath>) -> Result<Children> {
        let (inner, mut names) = self.open_and_list(folder)?;
        let listed = names.split_off(names.len().min(DESCRIBED_AT_ONCE));
        Ok(Children { described: self.describe_all(&inner, folder, names)?, listed })
    }

    fn children_named(
        &self,
        folder: Option<&TreePath>,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, Node)>> {
        self.describe_all(&self.open(folder)?, folder, names)
    }

    fn is_left_out(&self, path: &TreePath) -> bool {
        self.ignored.matches_path(&path.to_str_lossy())
            && self.look(Some(path)).is_ok_and(|found| found.is_some())
    }

    fn digests(&self, files: &[(TreePath, &Entry)]) -> Result<Vec<ContentHash>> {
        let Some(digests) = &self.digests else {
            return files.iter().map(|(_, entry)| entry.content_hash()).collect();
        };
        let wanted = files.iter().filter_map(|(path, entry)| match &entry.kind {
            EntryKind::File(Content::File(file)) => Some(Wanted { name: path.as_bytes(), file }),
            _ => None,
        });
        digests.of(&wanted.collect::<Vec<_>>())
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Whether an attribute goes into a layer. Capabilities do. Those that users set do not: browsers note
/// there where a file came from, tokens in the address and all.
fn travels(name: &str) -> bool {
    name == "security.capability"
}

/// Opens a folder as a context; `shown` is what messages call it. A link that is named is followed.
pub fn open(root: &Path, shown: &str) -> Result<Arc<HeldFolder>> {
    let refuse =
        |kind, why: &str| Err(Error::new(kind, format!("use {shown}")).because(why.to_owned()));
    match HeldFolder::open(root) {
        Ok(folder) => Ok(Arc::new(folder)),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            // So says the kernel also of a path through a file.
            match fs_err::metadata(root) {
                Err(error) if is_absent(&error) => {
                    refuse(ErrorKind::NotFound, "there is no such folder")
                }
                _ => refuse(ErrorKind::Usage, "it is no folder"),
            }
        }
        Err(error) if is_absent(&error) => refuse(ErrorKind::NotFound, "there is no such folder"),
        Err(error) => Err(error).cannot(|| format!("use {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::copy::{Selection, select};

    fn listed(patterns: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a.go", "b.md", "node_modules/x/y.js", "docs/a.md", "docs/keep/z.md"] {
            let path = folder.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x").unwrap();
        }
        let context = Folder::new(open(folder.path(), "it").unwrap())
            .ignoring(Patterns::new(patterns).unwrap());
        let all = Selection { sources: vec![".".to_owned()], ..Selection::default() };
        let selected = select(&context, &all).unwrap();
        selected[0].inside.iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn what_is_ignored_is_not_there() {
        assert_eq!(
            listed(&["node_modules", "**/*.md", "!docs/keep"]),
            ["a.go", "docs", "docs/keep"],
            "a folder that no pattern excludes brings nothing in it back"
        );
        assert_eq!(
            listed(&["*", "!docs/keep", "!a.go"]),
            ["a.go", "docs", "docs/keep", "docs/keep/z.md"]
        );
        assert_eq!(listed(&["docs", "node_modules", "b.md"]), ["a.go"]);
    }

    #[test]
    fn files_have_what_the_disk_says_but_belong_to_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs_err::write(&path, "x").unwrap();
        fs_err::hard_link(&path, folder.path().join("b")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        fs_err::set_permissions(&path, mode).unwrap();
        let context = Folder::new(open(folder.path(), "it").unwrap());
        let node = context.node(Some(&"a".parse().unwrap())).unwrap().unwrap();
        let entry = &node.entry;
        assert_eq!((entry.mode, entry.uid, entry.gid), (0o750, 0, 0));
        let other = context.node(Some(&"b".parse().unwrap())).unwrap().unwrap();
        assert_eq!(node.identity, other.identity);
        assert!(node.identity.is_some());
    }

    #[test]
    fn of_the_extended_attributes_capabilities_alone_travel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs_err::write(&path, "x").unwrap();
        // A capability of version 2 with one right; a file system that keeps none shows nothing here.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let set = |name: &str, value: &[u8]| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&path, name, value, flags).is_ok()
        };
        set("user.xdg.origin.url", b"https://example.test/?token=hunter2");
        set("user.mime_type", b"text/plain");
        let may = set("security.capability", &capability);
        let context = Folder::new(open(folder.path(), "it").unwrap());
        let node = context.node(Some(&"a".parse().unwrap())).unwrap().unwrap();
        let names: Vec<&str> = node.entry.xattrs.keys().map(String::as_str).collect();
        assert_eq!(names, if may { vec!["security.capability"] } else { Vec::new() });
    }

    /// Everything that a context has, with the content of files.
    fn all_of(context: &Folder) -> Result<Vec<(String, Vec<u8>)>> {
        let all = Selection { sources: vec![".".to_owned()], ..Selection::default() };
        let mut selected = select(context, &all)?;
        crate::context::copy::digest(context, &mut selected)?;
        let mut found = Vec::new();
        for (path, node) in selected[0].inside.iter() {
            if let EntryKind::File(content) = &node.entry.kind {
                found.push((path.to_string(), content.bytes()?.to_vec()));
            }
        }
        Ok(found)
    }

    #[test]
    fn what_was_hashed_is_what_is_packed_at_whichever_boundary_a_file_changes() {
        use crate::context::copy::{Destination, digest, place};
        use crate::layer::boundary::{Boundary, hooked};
        use crate::layer::{Encoding, FileContent, WriteOptions, write};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (old, new) = (vec![b'o'; 1 << 20], vec![b'n'; 1 << 20]);
        // The second time that it is opened it is packed.
        for (edit, time) in
            [(Boundary::Hashed, 1), (Boundary::Opened, 2), (Boundary::FirstBlock, 2)]
        {
            fs_err::write(&path, &old).unwrap();
            let context = Folder::new(open(folder.path(), "it").unwrap());
            let (target, bytes, mut times) = (path.clone(), new.clone(), 0);
            let hook = move |at, _: &FileContent| {
                times += usize::from(at == edit);
                if at == edit && times == time {
                    fs_err::write(&target, &bytes).unwrap();
                }
            };
            let build = || {
                let all = Selection { sources: vec![".".to_owned()], ..Selection::default() };
                let mut selected = select(&context, &all)?;
                digest(&context, &mut selected)?;
                let files = crate::engine::files::TreeFiles::default();
                let destination = Destination {
                    path: "/",
                    files: &files,
                    owner: None,
                    chmod: None,
                    link: false,
                    time: 0,
                };
                let tree = place(selected, &destination)?;
                let options = WriteOptions { encoding: Encoding::None, threads: 1 };
                write(&tree, &options, &|_| (), std::io::sink())
            };
            let error = hooked(hook, build).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Changed, "{edit:?}: {error}");
            build().unwrap();
        }
    }

    #[test]
    fn a_context_that_is_a_link_to_a_folder_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("real")).unwrap();
        fs_err::write(folder.path().join("real/a"), "x").unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let context = Folder::new(open(&folder.path().join("link"), "it").unwrap());
        assert!(context.node(None).unwrap().unwrap().entry.is_directory());
        assert_eq!(all_of(&context).unwrap(), [("a".to_owned(), b"x".to_vec())]);
    }

    #[test]
    fn nothing_outside_is_found_while_files_and_folders_are_swapped_for_links() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("context");
        let outside = scratch.path().join("outside");
        for (folder, text) in [(&root.join("d"), "inside"), (&outside, "secret")] {
            fs_err::create_dir_all(folder).unwrap();
            fs_err::write(folder.join("f"), text).unwrap();
        }
        let stop = std::sync::atomic::AtomicBool::new(false);
        let context = Folder::new(open(&root, "it").unwrap());
        let done = || stop.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (d, f, aside) = (root.join("d"), root.join("d/f"), root.join("aside"));
                while !done() {
                    fs_err::rename(&d, &aside).unwrap();
                    std::os::unix::fs::symlink("../outside", &d).unwrap();
                    fs_err::remove_file(&d).unwrap();
                    fs_err::rename(&aside, &d).unwrap();
                    fs_err::rename(&f, &aside).unwrap();
                    std::os::unix::fs::symlink("../../outside/f", &f).unwrap();
                    fs_err::remove_file(&f).unwrap();
                    fs_err::rename(&aside, &f).unwrap();
                }
            });
            let mut whole = 0;
            for _ in 0..2000 {
                match all_of(&context) {
                    Ok(found) => {
                        whole += usize::from(!found.is_empty());
                        assert!(found.iter().all(|(_, text)| text == b"inside"), "{found:?}");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Changed, "{error}"),
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(whole > 0, "it was never found whole");
        });
    }
}
