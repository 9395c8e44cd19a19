//! Where copied files go, and what they replace there.

use std::collections::BTreeMap;

use super::chmod::Chmod;
use super::owner::Owner;
use super::select::Selected;
use crate::engine::files::{Files, LastLink, Node, join, locate, resolve};
use crate::error::{Error, ErrorKind, Result};
use crate::glob;
use crate::layer::{Entry, EntryKind, Tree, TreePath};

/// Where files are copied to, and how they come out.
pub struct Destination<'a> {
    /// The path in the image: absolute; a slash at its end makes it a folder.
    pub path: &'a str,
    /// What is there so far.
    pub files: &'a dyn Files,
    /// Instead of the sources' owners.
    pub owner: Option<Owner>,
    /// Instead of the sources' permissions.
    pub chmod: Option<&'a Chmod>,
    /// `--link`: links on the way are replaced by folders instead of followed.
    pub link: bool,
    /// When folders on the way are said to be made, in seconds since 1970.
    pub time: i64,
}

/// Says what a file system gets when sources are copied into it, one after the other.
///
/// Errs where a file would replace a folder, or a folder a file.
pub fn place(sources: Vec<Selected>, destination: &Destination<'_>) -> Result<Tree> {
    let mut target = Target::new(destination);
    for source in sources {
        target.copy(source)?;
    }
    Ok(target.tree)
}

/// A file system with what was copied into it so far.
struct Target<'a> {
    destination: &'a Destination<'a>,
    tree: Tree,
    /// A folder that is not there before anything is copied, and so nothing in it is.
    absent: Option<TreePath>,
    /// The first name of each file that has several.
    names: BTreeMap<u64, TreePath>,
    /// The permissions that what is copied now gets instead of its own.
    chmod: Option<&'a Chmod>,
}

impl Files for Target<'_> {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<Node>> {
        let Some(path) = path else { return self.destination.files.node(None) };
        if let Some(entry) = self.tree.get(path) {
            return Ok(Some(Node { entry, identity: None }));
        }
        if self.is_absent(path) || self.tree.is_below_file(path) {
            return Ok(None);
        }
        let found = self.destination.files.node(Some(path))?;
        // What stands below a link that gave way to a folder is gone with it.
        Ok(found.filter(|_| !self.replaced_above(path)))
    }

    fn children(&self, _: Option<&TreePath>) -> Result<Vec<(Vec<u8>, Node)>> {
        Ok(Vec::new())
    }
}

impl<'a> Target<'a> {
    fn new(destination: &'a Destination<'a>) -> Self {
        let chmod = destination.chmod;
        Self { destination, tree: Tree::new(), absent: None, names: BTreeMap::new(), chmod }
    }

    /// Whether a path is known to be in a folder that was not there.
    fn is_absent(&self, path: &TreePath) -> bool {
        self.absent.as_ref().is_some_and(|absent| path.is_below(absent))
    }

    /// Whether a folder above a path was made in the place of something else.
    fn replaced_above(&self, path: &TreePath) -> bool {
        let mut above = path.parent();
        while let Some(folder) = above {
            let was = self.destination.files.node(Some(&folder)).ok().flatten();
            if self.tree.contains(&folder) && was.is_some_and(|node| !node.entry.is_directory()) {
                return true;
            }
            above = folder.parent();
        }
        false
    }

    fn copy(&mut self, source: Selected) -> Result<()> {
        // Names of one file stay such within a source alone.
        self.names.clear();
        // As BuildKit has it: neither an archive's entries nor the folders for them change theirs.
        self.chmod = self.destination.chmod.filter(|_| source.unpacked.is_none());
        let is_folder = source.node.entry.is_directory();
        let written = self.destination.path;
        let names_folder = written.ends_with('/') || written.ends_with("/.");
        let cleaned = glob::clean(written);
        let parent = cleaned.rsplit_once('/').map_or("", |(parent, _)| parent);
        let needed = if names_folder { &cleaned } else { parent };
        let needed = self.locate(needed)?;
        self.make_folders(needed.as_ref())?;
        let mut at = self.locate(&cleaned)?;
        let there = self.node(at.as_ref())?;
        if !is_folder && there.as_ref().is_some_and(|node| node.entry.is_directory()) {
            at = Some(join(at.as_ref(), &source.name)?);
        }
        if is_folder {
            if let (None, Some(at)) = (&there, &at) {
                self.make_folders(Some(at))?;
                if let (None, Some(made)) = (&source.unpacked, self.tree.get(at)) {
                    let made = made.modified(source.node.entry.mtime);
                    self.tree.insert(at.clone(), made)?;
                }
            } else if !there.is_some_and(|node| node.entry.is_directory()) {
                return Err(refuse(at.as_ref(), "a folder cannot replace what is no folder"));
            }
            return self.copy_inside(source, at.as_ref());
        }
        let Some(at) = at else {
            return Err(refuse(None, "a file cannot replace a folder"));
        };
        self.put(at, source.node, false)
    }

    fn copy_inside(&mut self, source: Selected, at: Option<&TreePath>) -> Result<()> {
        let Selected { inside, unpacked, .. } = source;
        for (relative, node) in inside {
            let path = join(at, relative.as_bytes())?;
            match &unpacked {
                Some(implied) if implied.contains(&relative) => self.imply(path)?,
                unpacked => self.put(path, node, unpacked.is_some())?,
            }
        }
        Ok(())
    }

    /// Makes a folder that an archive only implies. One that is there stays as it is; one that is
    /// made belongs to root, whoever owns the rest.
    fn imply(&mut self, path: TreePath) -> Result<()> {
        if self.node(Some(&path))?.is_some_and(|node| node.entry.is_directory()) {
            return Ok(());
        }
        self.tree.remove(&path);
        self.tree.insert(path, Entry::directory(0o755).modified(self.destination.time))?;
        Ok(())
    }

    /// Puts one thing in its place.
    fn put(&mut self, path: TreePath, node: Node, gives_way: bool) -> Result<()> {
        if path.as_whiteout().is_some() {
            return Err(refuse(
                Some(&path),
                "names that begin with .wh. mean something else in layers",
            ));
        }
        let there = self.node(Some(&path))?;
        let (was_folder, is_folder) =
            (there.map(|there| there.entry.is_directory()), node.entry.is_directory());
        if was_folder.is_none() && is_folder && !self.is_absent(&path) {
            self.absent = Some(path.clone());
        }
        match was_folder {
            Some(was_folder) if was_folder == is_folder => {}
            Some(_) if gives_way => drop(self.tree.remove(&path)),
            Some(true) => return Err(refuse(Some(&path), "a file cannot replace a folder")),
            Some(false) if is_folder => {
                return Err(refuse(Some(&path), "a folder cannot replace what is no folder"));
            }
            Some(false) | None => {}
        }
        let entry = self.entry(node.entry);
        if let Some(number) = node.identity {
            let first = self.names.entry(number).or_insert_with(|| path.clone()).clone();
            if first < path && self.tree.contains(&first) {
                let link = Entry::hard_link(first, &entry);
                self.tree.insert(path, link)?;
                return Ok(());
            }
        }
        self.tree.insert(path, entry)?;
        Ok(())
    }

    /// How something comes out.
    fn entry(&self, mut entry: Entry) -> Entry {
        if let Some(owner) = self.destination.owner {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        if let Some(chmod) = self.chmod
            && !matches!(entry.kind, EntryKind::Symlink(_))
        {
            entry.mode = chmod.apply(entry.mode, entry.is_directory());
        }
        entry
    }

    fn locate(&self, path: &str) -> Result<Option<TreePath>> {
        if !self.destination.link {
            return locate(self, path.as_bytes(), LastLink::Follow);
        }
        let path = glob::clean(&format!("/{path}"));
        if path == "/" { Ok(None) } else { TreePath::normalized(&path).map(Some) }
    }

    /// Makes a folder and those above it, where they are missing.
    fn make_folders(&mut self, folder: Option<&TreePath>) -> Result<()> {
        let Some(folder) = folder else { return Ok(()) };
        match self.node(Some(folder))? {
            Some(node) if node.entry.is_directory() => return Ok(()),
            Some(_) if !self.destination.link => {
                return Err(refuse(Some(folder), "it is there and no folder"));
            }
            _ => {}
        }
        self.make_folders(folder.parent().as_ref())?;
        let owner = self.destination.owner.unwrap_or_default();
        // As BuildKit has it: a mode in digits holds for what is made on the way, too.
        let permissions = match self.chmod {
            Some(Chmod::Exact(mode)) => mode & 0o777,
            Some(Chmod::Changes(_)) | None => 0o755,
        };
        let made = Entry::directory(permissions).owned_by(owner.uid, owner.gid);
        self.tree.insert(folder.clone(), made.modified(self.destination.time))?;
        Ok(())
    }
}

/// Makes a folder and those above it in a file system, as `WORKDIR` does.
pub fn make_folder(path: &str, files: &dyn Files, owner: Owner, time: i64) -> Result<Tree> {
    let destination =
        Destination { path, files, owner: Some(owner), chmod: None, link: false, time };
    if resolve(files, path.as_bytes(), LastLink::Follow)?
        .is_some_and(|found| found.node.entry.is_directory())
    {
        return Ok(Tree::new());
    }
    let mut target = Target::new(&destination);
    let folder = target.locate(path)?;
    target.make_folders(folder.as_ref())?;
    Ok(target.tree)
}

fn refuse(path: Option<&TreePath>, why: &str) -> Error {
    let shown = path.map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
    Error::new(ErrorKind::Usage, format!("copy to {shown}")).because(why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::select::{Selection, select};
    use super::*;
    use crate::engine::files::TreeFiles;
    use crate::engine::files::tests::files;

    fn context() -> TreeFiles {
        let file = |text: &str| Entry::file(text.to_owned(), 0o640).modified(5);
        files(&[
            ("a", file("a")),
            ("dir", Entry::directory(0o700).modified(6)),
            ("dir/sub", Entry::directory(0o711).modified(7)),
            ("dir/sub/b", file("b")),
            ("dir/link", Entry::symlink("sub")),
        ])
    }

    fn image() -> TreeFiles {
        files(&[
            ("bin", Entry::symlink("usr/bin")),
            ("usr/bin/sh", Entry::file("sh", 0o755)),
            ("app", Entry::directory(0o750).owned_by(9, 9)),
            ("app/sub", Entry::directory(0o700)),
            ("app/a", Entry::symlink("elsewhere")),
            ("file", Entry::file("", 0o644)),
        ])
    }

    fn copied(sources: &[&str], path: &str) -> Result<Vec<String>> {
        copied_with(sources, path, |_| ())
    }

    fn copied_with(
        sources: &[&str],
        path: &str,
        change: impl Fn(&mut Destination<'_>),
    ) -> Result<Vec<String>> {
        let sources = sources.iter().map(|&s| s.to_owned()).collect();
        let selection = Selection { sources, ..Selection::default() };
        let selected = select(&context(), &selection)?;
        let image = image();
        let mut destination =
            Destination { path, files: &image, owner: None, chmod: None, link: false, time: 1 };
        change(&mut destination);
        let tree = place(selected, &destination)?;
        let line = |(path, entry): (TreePath, Entry)| {
            format!("{path} {:o} {}:{} {}", entry.mode, entry.uid, entry.gid, entry.mtime)
        };
        Ok(tree.iter().map(line).collect())
    }

    #[test]
    fn a_trailing_slash_and_what_is_there_decide_where_a_file_goes() {
        for (path, expected) in [
            ("/new", &["new 640 0:0 5"][..]),
            ("/new/", &["new 755 0:0 1", "new/a 640 0:0 5"]),
            ("/x/y", &["x 755 0:0 1", "x/y 640 0:0 5"]),
            ("/app", &["app/a 640 0:0 5"]),
            ("/app/sub/", &["app/sub/a 640 0:0 5"]),
            ("/", &["a 640 0:0 5"]),
            ("/bin/tool", &["usr/bin/tool 640 0:0 5"]),
            ("/bin", &["usr/bin/a 640 0:0 5"]),
            ("/file", &["file 640 0:0 5"]),
        ] {
            assert_eq!(copied(&["a"], path).unwrap(), expected, "{path}");
        }
        assert!(copied(&["a"], "/file/").is_err());
        assert!(copied(&["a"], "/file/below").is_err());
    }

    #[test]
    fn a_folder_gives_its_content_and_merges() {
        let inside = |at: &str| {
            vec![
                format!("{at}/link 777 0:0 0"),
                format!("{at}/sub 711 0:0 7"),
                format!("{at}/sub/b 640 0:0 5"),
            ]
        };
        // A folder that is there keeps what it has; one that is made is like any other.
        assert_eq!(copied(&["dir"], "/app").unwrap(), inside("app"));
        let made = [vec!["new 755 0:0 6".to_owned()], inside("new")].concat();
        assert_eq!(copied(&["dir"], "/new").unwrap(), made);
        assert!(copied(&["dir"], "/file").is_err());
    }

    #[test]
    fn owner_and_mode_hold_for_all_that_is_copied_or_made() {
        let chmod: Chmod = "u=rwX,go=".parse().unwrap();
        let change = |destination: &mut Destination<'_>| {
            destination.owner = Some(Owner { uid: 7, gid: 8 });
        };
        let expected = ["new 755 7:8 1", "new/x 640 7:8 5"];
        assert_eq!(copied_with(&["a"], "/new/x", change).unwrap(), expected);
        let selection = Selection { sources: vec!["dir".into()], ..Selection::default() };
        let selected = select(&context(), &selection).unwrap();
        let image = image();
        let destination = Destination {
            path: "/app",
            files: &image,
            owner: None,
            chmod: Some(&chmod),
            link: false,
            time: 1,
        };
        let tree = place(selected, &destination).unwrap();
        let modes: Vec<u32> = tree.iter().map(|(_, entry)| entry.mode).collect();
        assert_eq!(modes, [0o777, 0o700, 0o600]);
    }

    #[test]
    fn an_archives_entries_keep_their_permissions_and_get_the_owner() {
        let implied: BTreeSet<TreePath> =
            ["dir", "sub"].iter().map(|path| path.parse().unwrap()).collect();
        let archive = files(&[
            ("dir/a", Entry::file("a", 0o640).owned_by(3, 4).modified(5)),
            ("own", Entry::directory(0o700).owned_by(3, 4).modified(5)),
            ("sub/b", Entry::symlink("a").owned_by(3, 4)),
        ]);
        let selection = Selection { sources: vec!["/".into()], ..Selection::default() };
        let mut selected = select(&archive, &selection).unwrap();
        selected[0].unpacked = Some(implied);
        let chmod: Chmod = "700".parse().unwrap();
        let lines = |path: &str, chmod: Option<&Chmod>| {
            let owner = Some(Owner { uid: 7, gid: 8 });
            let image = image();
            let destination =
                Destination { path, files: &image, owner, chmod, link: false, time: 1 };
            let tree = place(selected.clone(), &destination).unwrap();
            let line = |(path, entry): (TreePath, Entry)| {
                format!("{path} {:o} {}:{} {}", entry.mode, entry.uid, entry.gid, entry.mtime)
            };
            tree.iter().map(line).collect::<Vec<_>>()
        };
        // As BuildKit has it: the destination is the owner's, a folder that is only implied is root's.
        let expected = [
            "x 755 7:8 1",
            "x/y 755 7:8 1",
            "x/y/dir 755 0:0 1",
            "x/y/dir/a 640 7:8 5",
            "x/y/own 700 7:8 5",
            "x/y/sub 755 0:0 1",
            "x/y/sub/b 777 7:8 0",
        ];
        assert_eq!(lines("/x/y", Some(&chmod)), expected);
        assert_eq!(lines("/x/y", None), expected);
        // One that is there stays as it is.
        let there = [
            "app/dir 755 0:0 1",
            "app/dir/a 640 7:8 5",
            "app/own 700 7:8 5",
            "app/sub/b 777 7:8 0",
        ];
        assert_eq!(lines("/app/", Some(&chmod)), there);
    }

    #[test]
    fn later_sources_see_what_earlier_ones_made() {
        let both = copied(&["a", "dir/sub/b"], "/new/").unwrap();
        assert_eq!(both, ["new 755 0:0 1", "new/a 640 0:0 5", "new/b 640 0:0 5"]);
    }

    #[test]
    fn link_puts_folders_in_the_place_of_links() {
        let change = |destination: &mut Destination<'_>| destination.link = true;
        let expected = ["bin 755 0:0 1", "bin/tool 640 0:0 5"];
        assert_eq!(copied_with(&["a"], "/bin/tool", change).unwrap(), expected);
    }

    #[test]
    fn hard_links_stay_together() {
        let file = Entry::file("x", 0o644);
        let link = Entry::hard_link("d/a".parse().unwrap(), &file);
        let context = files(&[("d/a", file), ("d/b", link)]);
        let selection = Selection { sources: vec!["d".into()], ..Selection::default() };
        let selected = select(&context, &selection).unwrap();
        let image = TreeFiles::default();
        let destination = Destination {
            path: "/",
            files: &image,
            owner: None,
            chmod: None,
            link: false,
            time: 0,
        };
        let tree = place(selected, &destination).unwrap();
        let kind = &tree.get(&"b".parse().unwrap()).unwrap().kind;
        assert_eq!(*kind, EntryKind::HardLink("a".parse().unwrap()));
    }

    #[test]
    fn a_working_folder_is_made_where_it_is_missing() {
        let owner = Owner { uid: 5, gid: 6 };
        let tree = make_folder("/bin/x/y", &image(), owner, 3).unwrap();
        let made: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(made, ["usr/bin/x", "usr/bin/x/y"]);
        assert!(make_folder("/app", &image(), owner, 3).unwrap().is_empty());
        assert!(make_folder("/", &image(), owner, 3).unwrap().is_empty());
        assert!(make_folder("/file", &image(), owner, 3).is_err());
    }
}
