//! What an image of Go programs holds: the programs, and files that somebody adds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};

use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::layer::{Content, Entry, HeldFolder, Tree, TreePath};

use super::Binary;

/// A file or folder of the host and its place in the image: `SRC:DST[:MODE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// What is added, relative to the folder that [`Asset::add_to`] is told of.
    pub source: PathBuf,
    /// The absolute path in the image. A folder's contents go there. With a `/` at the end it is
    /// the folder into which a file goes under its own name.
    pub target: String,
    /// The permissions of every file. If not given, 0755 for what its owner may execute and 0644
    /// for the rest, whatever the umask was.
    pub mode: Option<u32>,
}

impl FromStr for Asset {
    type Err = Error;

    /// Parses `SRC:DST[:MODE]`, the mode in octal. SRC may have colons, DST has none.
    fn from_str(text: &str) -> Result<Self> {
        let fail = |why: &str| {
            Error::new(ErrorKind::Usage, format!("add \"{}\"", text.escape_debug()))
                .because(why)
                .hint("write SRC:DST or SRC:DST:MODE, such as ./static:/srv/static:0644")
        };
        let (rest, last) = text.rsplit_once(':').ok_or_else(|| fail("it names no destination"))?;
        let (source, target, mode) = if last.starts_with('/') {
            (rest, last, None)
        } else {
            let (source, target) =
                rest.rsplit_once(':').ok_or_else(|| fail("the destination is no absolute path"))?;
            let octal = last.len() <= 5 && last.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
            let mode = octal.then(|| u32::from_str_radix(last, 8).ok()).flatten();
            let mode = mode.filter(|mode| *mode <= 0o7777);
            (source, target, Some(mode.ok_or_else(|| fail("the mode is not an octal number"))?))
        };
        if source.is_empty() {
            return Err(fail("it names no source"));
        }
        if !target.starts_with('/') {
            return Err(fail("the destination is no absolute path"));
        }
        Target::parse(target).map_err(|_| fail("the destination is no path that images have"))?;
        Ok(Self { source: source.into(), target: target.to_owned(), mode })
    }
}

impl Asset {
    /// Puts the file or folder into a tree, owned by root and modified at `mtime`.
    ///
    /// A symbolic link in a folder stays one. One that leads out of that folder is followed as long as
    /// it stays in the project: the repository or module that `dir` is in. One that is named as the
    /// source is followed. Whatever is swapped meanwhile, nothing is read from outside
    /// of them, or in the place of the file that was found: that is an error of the kind
    /// [`ErrorKind::Changed`], here or when the tree is read.
    pub fn add_to(&self, tree: &mut Tree, dir: &Path, mtime: i64) -> Result<()> {
        let source = dir.join(&self.source);
        let action = || format!("add {}", self.source.display());
        let path = fs_err::canonicalize(&source).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let kind = if missing { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, action()).caused_by(error)
        })?;
        let is_folder = fs_err::symlink_metadata(&path).cannot(action)?.is_dir();
        let added = if is_folder {
            let target = Target::parse(&self.target)?;
            let held = HeldFolder::open(&path).cannot(action)?;
            Walk { asset: self, held: Arc::new(held), tree, mtime, dir, links: 0 }
                .folder(&[], &target)
        } else {
            let target = match self.target.strip_suffix('/') {
                Some(folder) => {
                    let name = source.file_name().map_or(&b""[..], OsStrExt::as_bytes);
                    Target::parse(folder)?.join(name)?
                }
                None => Target::parse(&self.target)?,
            };
            let folder = path.parent().unwrap_or(Path::new("/"));
            let held = HeldFolder::open(folder).cannot(action)?;
            let name = path.file_name().unwrap_or_default().as_bytes();
            Walk { asset: self, held: Arc::new(held), tree, mtime, dir, links: 0 }
                .lone_file(name, &target)
        };
        added.cannot(action)
    }

    fn file_mode(&self, permissions: u32) -> u32 {
        let usual = if permissions & 0o100 == 0 { 0o644 } else { 0o755 };
        self.mode.unwrap_or(usual)
    }

    /// The mode of folders: every user who may read the files may enter.
    fn folder_mode(&self) -> u32 {
        self.mode.map_or(0o755, |mode| mode & 0o777 | (mode & 0o444) >> 2)
    }
}

/// A place in the image; the root has no path of its own.
#[derive(Clone)]
struct Target(Option<TreePath>);

impl Target {
    fn parse(text: &str) -> Result<Self> {
        let is_root = text.bytes().all(|byte| byte == b'/');
        if is_root {
            Ok(Self(None))
        } else {
            TreePath::normalized(text).map(|path| Self(Some(path)))
        }
    }

    fn join(&self, name: &[u8]) -> Result<Self> {
        let path = match &self.0 {
            Some(folder) => folder.join(name)?,
            None => TreePath::new(name)?,
        };
        Ok(Self(Some(path)))
    }
}

/// One folder on its way into a tree. Paths in it are bytes, relative to it.
struct Walk<'a> {
    asset: &'a Asset,
    held: Arc<HeldFolder>,
    tree: &'a mut Tree,
    mtime: i64,
    /// The folder that is built from.
    dir: &'a Path,
    /// How many links were followed on the way to this folder.
    links: usize,
}

/// So many links are followed, each in what the one before leads to: a circle has no end.
const MOST_LINKS: usize = 8;

/// The repository, workspace or module that a folder is in.
fn project_of(dir: &Path) -> Option<PathBuf> {
    let whole = fs_err::canonicalize(dir).ok()?;
    let with = |names: &[&str]| {
        let has = |at: &&Path| names.iter().any(|name| at.join(name).exists());
        whole.ancestors().find(has).map(Path::to_owned)
    };
    with(&[".git"]).or_else(|| with(&["go.work"])).or_else(|| with(&["go.mod"]))
}

impl Walk<'_> {
    /// Adds what is in a folder, given by its path below the root.
    fn folder(&mut self, inside: &[u8], target: &Target) -> Result<()> {
        self.insert(target, Entry::directory(self.asset.folder_mode()))?;
        let open = self.held.folder(inside).map_err(|error| self.changed(inside, Some(error)))?;
        for name in open.names().cannot(|| "read the folder")? {
            let path = join(inside, &name);
            let target = target.join(&name)?;
            let found = open.look(Some(&name)).cannot(|| "find its kind")?;
            let found = found.ok_or_else(|| self.changed(&path, None))?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => self.folder(&path, &target)?,
                FileType::Symlink => {
                    let leads_to = open.link(&name);
                    let leads_to = leads_to.map_err(|error| self.changed(&path, Some(error)))?;
                    self.link(inside, &path, leads_to, &target)?;
                }
                kind => self.file(&path, &found, kind, &target)?,
            }
        }
        Ok(())
    }

    /// Adds a file that is named by itself.
    fn lone_file(&mut self, name: &[u8], target: &Target) -> Result<()> {
        let open = self.held.folder(&[]).cannot(|| "open its folder")?;
        let found = open.look(Some(name)).cannot(|| "find its kind")?;
        let found = found.ok_or_else(|| self.changed(name, None))?;
        match FileType::from_raw_mode(found.st_mode) {
            // It was a file before.
            FileType::Directory | FileType::Symlink => Err(self.changed(name, None)),
            kind => self.file(name, &found, kind, target),
        }
    }

    fn file(&mut self, path: &[u8], found: &Stat, kind: FileType, target: &Target) -> Result<()> {
        if kind != FileType::RegularFile {
            let what = match kind {
                FileType::Fifo => "a named pipe",
                FileType::Socket => "a socket",
                FileType::CharacterDevice | FileType::BlockDevice => "a device",
                _ => "something else",
            };
            let action =
                format!("put {} into a layer as a file", self.held.display(path).display());
            return Err(Error::new(ErrorKind::Invalid, action)
                .because(format!("it is {what} and not a regular file")));
        }
        let content = Content::beneath(&self.held, path, found);
        self.insert(target, Entry::file(content, self.asset.file_mode(found.st_mode)))
    }

    fn link(
        &mut self,
        folder: &[u8],
        path: &[u8],
        leads_to: Vec<u8>,
        target: &Target,
    ) -> Result<()> {
        let (folder, leads_to_path) = (OsStr::from_bytes(folder), OsStr::from_bytes(&leads_to));
        if stays_inside(Path::new(folder), Path::new(leads_to_path)) && self.links == 0 {
            return self.insert(target, Entry::symlink(leads_to));
        }
        let shown = self.held.display(path);
        let refuse = |why: String| {
            let action = format!("keep the link {}", shown.display());
            let hint = "make it relative and within the folder, or add its target by itself";
            Err(Error::new(ErrorKind::Invalid, action).because(why).hint(hint))
        };
        let Some((project, found)) = self.in_project(&shown) else {
            return refuse(format!("it leads out of the folder, to {}", leads_to_path.display()));
        };
        if self.links == MOST_LINKS || shown.starts_with(project.join(&found)) {
            return refuse(format!("it leads in a circle, to {}", leads_to_path.display()));
        }
        self.follow(&project, &found, target)
    }

    /// Where in the project a link leads to: the project's folder, and the path in it.
    fn in_project(&self, link: &Path) -> Option<(PathBuf, PathBuf)> {
        let project = project_of(self.dir)?;
        let whole = fs_err::canonicalize(link).ok()?;
        let found = whole.strip_prefix(&project).ok()?.to_owned();
        Some((project, found))
    }

    /// Adds what a link leads to in its place.
    fn follow(&mut self, project: &Path, found: &Path, target: &Target) -> Result<()> {
        let held = Arc::new(HeldFolder::open(project).cannot(|| "open the project")?);
        let (asset, mtime, dir, links) = (self.asset, self.mtime, self.dir, self.links + 1);
        let mut walk = Walk { asset, held, tree: self.tree, mtime, dir, links };
        let parent = found.parent().unwrap_or(Path::new("")).as_os_str().as_bytes();
        let Some(name) = found.file_name().map(OsStrExt::as_bytes) else {
            return walk.folder(&[], target);
        };
        let open = walk.held.folder(parent).map_err(|error| walk.changed(parent, Some(error)))?;
        let path = join(parent, name);
        let stat = open.look(Some(name)).cannot(|| "find its kind")?;
        let stat = stat.ok_or_else(|| walk.changed(&path, None))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => walk.folder(&path, target),
            FileType::Symlink => Err(walk.changed(&path, None)),
            kind => walk.file(&path, &stat, kind, target),
        }
    }

    /// The error about a file that changed since it was looked at.
    fn changed(&self, path: &[u8], error: Option<std::io::Error>) -> Error {
        let action = format!("read {}", self.held.display(path).display());
        let changed = Error::new(ErrorKind::Changed, action)
            .because("it changed meanwhile")
            .hint("build again when nothing writes there");
        match error {
            Some(error) => changed.caused_by(error),
            None => changed,
        }
    }

    fn insert(&mut self, target: &Target, entry: Entry) -> Result<()> {
        // Every image has a root.
        let Some(path) = &target.0 else { return Ok(()) };
        if let Some(is_directory) = self.tree.is_directory(path) {
            if is_directory != entry.is_directory() {
                return Err(Error::new(ErrorKind::Usage, format!("put it at /{path}"))
                    .because("a file and a folder cannot have the same path"));
            }
            // A folder that is there already, from another source, keeps its mode.
            if is_directory {
                return Ok(());
            }
        }
        self.tree.insert_with_parents(path.clone(), entry.modified(self.mtime)).map(drop)
    }
}

/// A path in the folder at a path.
fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// Whether a link in a folder, given by its path below the root, leads to somewhere below the root.
fn stays_inside(folder: &Path, leads_to: &Path) -> bool {
    let mut depth = folder.components().count();
    for component in leads_to.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

impl Binary {
    /// The program as a file in an image: everybody may run it, nobody but root replace it.
    pub fn entry(&self, mtime: i64) -> Entry {
        let content = Content::file(&self.path, self.size);
        Entry::file(content, 0o755).modified(mtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::EntryKind;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn listing(tree: &Tree) -> Vec<String> {
        let line = |(path, entry): (TreePath, Entry)| {
            assert_eq!((entry.uid, entry.gid, entry.mtime), (0, 0, 7));
            let kind = match &entry.kind {
                EntryKind::Directory => "d".to_owned(),
                EntryKind::Symlink(to) => format!("l {}", String::from_utf8_lossy(to)),
                EntryKind::File(content) => format!("f {}", content.size()),
                other => format!("{other:?}"),
            };
            format!("{:04o} {} {kind}", entry.mode, path.to_str_lossy())
        };
        tree.iter().map(line).collect()
    }

    fn add(dir: &Path, assets: &[&str]) -> Result<Vec<String>> {
        let mut tree = Tree::new();
        for asset in assets {
            asset.parse::<Asset>()?.add_to(&mut tree, dir, 7)?;
        }
        Ok(listing(&tree))
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, mode: u32| {
            let path = folder.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, "text").unwrap();
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("site/index.html", 0o600);
        write("site/run.sh", 0o700);
        write("site/sub/a", 0o664);
        write("secret", 0o600);
        folder
    }

    #[test]
    fn the_three_parts_are_told_apart() {
        for (text, source, target, mode) in [
            ("a:/b", "a", "/b", None),
            ("a:/b/:0600", "a", "/b/", Some(0o600)),
            ("./x:y:/b:755", "./x:y", "/b", Some(0o755)),
            ("/abs:/b:4755", "/abs", "/b", Some(0o4755)),
        ] {
            let expect = Asset { source: source.into(), target: target.to_owned(), mode };
            assert_eq!(text.parse::<Asset>().unwrap(), expect);
        }
        for bad in
            ["", "a", "a:", ":/b", "a:b", "a:/b:", "a:/b:rwx", "a:/b:8", "a:/b:70000", "a:/../b"]
        {
            assert_eq!(bad.parse::<Asset>().unwrap_err().kind(), ErrorKind::Usage, "{bad}");
        }
    }

    #[test]
    fn a_folder_goes_in_with_modes_that_do_not_depend_on_the_umask() {
        let folder = folder();
        symlink("../index.html", folder.path().join("site/sub/up")).unwrap();
        assert_eq!(
            add(folder.path(), &["site:/srv/www/"]).unwrap(),
            [
                "0755 srv d",
                "0755 srv/www d",
                "0644 srv/www/index.html f 4",
                "0755 srv/www/run.sh f 4",
                "0755 srv/www/sub d",
                "0644 srv/www/sub/a f 4",
                "0777 srv/www/sub/up l ../index.html",
            ]
        );
        assert_eq!(
            add(folder.path(), &["site:/:0640", "secret:/"]).unwrap(),
            [
                "0640 index.html f 4",
                "0640 run.sh f 4",
                "0644 secret f 4",
                "0750 sub d",
                "0640 sub/a f 4",
                "0777 sub/up l ../index.html",
            ]
        );
        assert_eq!(
            add(folder.path(), &["site/sub/a:/x/y:0640", "site/sub/a:/x/"]).unwrap(),
            ["0755 x d", "0644 x/a f 4", "0640 x/y f 4"]
        );
    }

    #[test]
    fn nothing_from_outside_a_folder_comes_in_through_a_link() {
        for leads_to in ["../secret", "/etc/passwd", "sub/../../secret", "../site/index.html"] {
            let folder = folder();
            symlink(leads_to, folder.path().join("site/link")).unwrap();
            let text = add(folder.path(), &["site:/srv"]).unwrap_err().to_string();
            assert!(text.contains("leads out of the folder"), "{text}");
        }
        let folder = folder();
        symlink("secret", folder.path().join("named")).unwrap();
        assert_eq!(add(folder.path(), &["named:/s"]).unwrap(), ["0644 s f 4"]);
    }

    #[test]
    fn a_link_that_stays_in_the_project_is_followed() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fs_err::create_dir_all(path("app")).unwrap();
        fs_err::write(path("app/go.mod"), "module m\n").unwrap();
        fs_err::rename(path("site"), path("app/site")).unwrap();
        fs_err::create_dir(path("app/shared")).unwrap();
        fs_err::write(path("app/shared/f"), "text").unwrap();
        symlink("f", path("app/shared/g")).unwrap();
        symlink("../shared", path("app/site/folder")).unwrap();
        symlink("../shared/f", path("app/site/file")).unwrap();
        let listed = add(&path("app"), &["site:/srv"]).unwrap();
        for line in [
            "0644 srv/file f 4",
            "0755 srv/folder d",
            "0644 srv/folder/f f 4",
            "0644 srv/folder/g f 4",
        ] {
            assert!(listed.contains(&line.to_owned()), "{line}: {listed:?}");
        }
        for (leads_to, why) in [
            ("../../secret", "leads out of the folder"),
            ("/etc/passwd", "leads out of the folder"),
            ("..", "leads in a circle"),
            ("../site", "leads in a circle"),
        ] {
            symlink(leads_to, path("app/site/link")).unwrap();
            let text = add(&path("app"), &["site:/srv"]).unwrap_err().to_string();
            assert!(text.contains(why), "{leads_to}: {text}");
            fs_err::remove_file(path("app/site/link")).unwrap();
        }
        // The module is a part of a repository.
        fs_err::create_dir(path(".git")).unwrap();
        symlink("../../secret", path("app/site/link")).unwrap();
        let listed = add(&path("app"), &["site:/srv"]).unwrap();
        assert!(listed.contains(&"0644 srv/link f 4".to_owned()), "{listed:?}");
    }

    /// The contents of all files in a tree.
    fn contents(tree: &Tree) -> Result<Vec<String>> {
        let files = tree.iter().filter_map(|(_, entry)| match entry.kind {
            EntryKind::File(content) => Some(content.bytes()),
            _ => None,
        });
        files.map(|bytes| Ok(String::from_utf8_lossy(&bytes?).into_owned())).collect()
    }

    #[test]
    fn what_is_swapped_for_a_link_is_never_read_through_it() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fs_err::create_dir(path("outside")).unwrap();
        for name in ["secret", "outside/a"] {
            fs_err::write(path(name), "from outside").unwrap();
        }
        fs_err::copy(path("site/sub/a"), path("site/twin")).unwrap();
        for (inside, outside) in [("site/index.html", "secret"), ("site/sub", "outside")] {
            let mut tree = Tree::new();
            let asset: Asset = "site:/srv".parse().unwrap();
            asset.add_to(&mut tree, folder.path(), 7).unwrap();
            fs_err::rename(path(inside), path("kept")).unwrap();
            symlink(path(outside), path(inside)).unwrap();
            assert_eq!(contents(&tree).unwrap_err().kind(), ErrorKind::Changed, "{inside}");
            fs_err::remove_file(path(inside)).unwrap();
            // Not even another file of the same folder is taken for it.
            if !path("kept").is_dir() {
                fs_err::copy(path("site/twin"), path(inside)).unwrap();
                assert_eq!(contents(&tree).unwrap_err().kind(), ErrorKind::Changed);
            }
            fs_err::rename(path("kept"), path(inside)).unwrap();
            assert!(contents(&tree).unwrap().iter().all(|text| text == "text"));
        }
    }

    #[test]
    fn a_loop_of_swaps_brings_nothing_in_from_outside() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fs_err::write(path("secret"), "from outside").unwrap();
        fs_err::create_dir(path("outside")).unwrap();
        fs_err::write(path("outside/a"), "from outside").unwrap();
        symlink("../secret", path("link")).unwrap();
        symlink("../outside", path("link-to-folder")).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        let swap = |inside: &str, link: &str| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let _ = rustix::fs::renameat_with(
                rustix::fs::CWD,
                path(inside),
                rustix::fs::CWD,
                path(link),
                flags,
            );
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    swap("site/index.html", "link");
                    swap("site/sub", "link-to-folder");
                }
            });
            let asset: Asset = "site:/srv".parse().unwrap();
            let mut read = 0;
            for _ in 0..2_000 {
                let mut tree = Tree::new();
                let added = asset.add_to(&mut tree, folder.path(), 7);
                let Ok(texts) = added.and_then(|()| contents(&tree)) else { continue };
                read += 1;
                assert!(texts.iter().all(|text| text == "text"), "{texts:?}");
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            // A link out of the folder is an error, so not every round reads something.
            assert!(read < 2_000, "nothing was swapped");
        });
    }

    #[test]
    fn what_cannot_be_added_is_named() {
        let folder = folder();
        let error = add(folder.path(), &["gone:/x"]).unwrap_err();
        assert!(error.to_string().starts_with("cannot add gone: "), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        for twice in [["secret:/x", "site:/x"], ["site:/x", "secret:/x"]] {
            let error = add(folder.path(), &twice).unwrap_err();
            assert!(error.to_string().contains("the same path"), "{error}");
        }
        let fifo = folder.path().join("site/pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let text = add(folder.path(), &["site:/x"]).unwrap_err().to_string();
        assert!(text.contains("site/pipe") && text.contains("a named pipe and not a"), "{text}");
        let text = add(folder.path(), &["site/pipe:/x"]).unwrap_err().to_string();
        assert!(text.contains("site/pipe") && text.contains("a named pipe and not a"), "{text}");
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket"));
        let text = add(folder.path(), &["socket:/x"]).unwrap_err().to_string();
        assert!(socket.is_ok() && text.contains("a socket and not a regular file"), "{text}");
        let text = add(folder.path(), &["/dev/null:/x"]).unwrap_err().to_string();
        assert!(text.contains("a device and not a regular file"), "{text}");
    }
}
