//! Which files a `COPY` means.

use std::collections::{BTreeMap, BTreeSet};

use super::inside::Inside;
use crate::context::ignore::{Patterns, Verdict};
use crate::engine::files::{Children, DESCRIBED_AT_ONCE, Files, LastLink, Node, join, resolve};
use crate::error::{Error, ErrorKind, Result};
use crate::glob;
use crate::layer::{Entry, EntryKind, TreePath};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The sources, expanded, as written.
    pub sources: Vec<String>,
    /// `--exclude`, against paths inside of the folders that are copied.
    pub excludes: Patterns,
    /// `--parents`: the sources keep the folders that they are in.
    pub parents: bool,
}

/// A source that was found.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The name that it gets in a folder.
    pub name: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// Where it really is; `None` is the root.
    pub path: Option<TreePath>,
    /// What is in it.
    pub inside: Inside,
    /// It comes out of an archive that only implies these folders: what is in the way of its files
    /// gives way, and they keep their permissions.
    pub unpacked: Option<BTreeSet<TreePath>>,
}

/// Finds the files that are meant, in the order in which they are copied.
///
/// Errs where a source without wildcards is missing; one with wildcards may match nothing.
pub fn select(files: &dyn Files, selection: &Selection) -> Result<Vec<Selected>> {
    let mut all = Vec::new();
    for source in &selection.sources {
        if selection.parents {
            all.extend(with_parents(files, source, &selection.excludes)?);
            continue;
        }
        let includes = Patterns::default();
        let filter = Filter { includes: &includes, excludes: &selection.excludes };
        for path in expand(files, source)? {
            all.push(take(files, &path, source, &filter)?);
        }
    }
    Ok(all)
}

/// A digest of all that a copy takes from its sources. Times do not count: a file that was merely
/// touched is the same.
///
/// The contents of files are pinned: whatever reads them later gets those that the digest stands for,
/// or an error.
pub fn digest(files: &dyn Files, selected: &mut [Selected]) -> Result<blake3::Hash> {
    pin(files, selected)?;
    summary(selected)
}

/// Reads what is not known for its hash, and pins it.
fn pin(files: &dyn Files, selected: &mut [Selected]) -> Result<()> {
    let mut alone: Vec<(&TreePath, &mut Entry)> = Vec::new();
    for source in selected {
        let folder = source.path.as_ref();
        source.inside.entries.pin_by(&mut |found| {
            let path = |relative: &TreePath| join(folder, relative.as_bytes());
            let found = found.iter().map(|(relative, entry)| Ok((path(relative)?, entry)));
            files.digests(&found.collect::<Result<Vec<_>>>()?)
        })?;
        if let (Some(path), EntryKind::File(_)) = (folder, &source.node.entry.kind) {
            alone.push((path, &mut source.node.entry));
        }
    }
    let found: Vec<(TreePath, &Entry)> =
        alone.iter().map(|(path, entry)| ((*path).clone(), &**entry)).collect();
    let hashes = files.digests(&found)?;
    for ((_, entry), hash) in alone.into_iter().zip(hashes) {
        if let EntryKind::File(content) = &mut entry.kind {
            content.pin_as(hash);
        }
    }
    Ok(())
}

fn summary(selected: &[Selected]) -> Result<blake3::Hash> {
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    for source in selected {
        for identity in source.node.identity.iter().chain(source.inside.identities.values()) {
            *names.entry(*identity).or_default() += 1;
        }
    }
    // A file whose other names are not copied is like any other.
    let numbers = names.into_iter().filter(|(_, count)| *count > 1).map(|(own, _)| (own, 0));
    let (hasher, numbers) = (blake3::Hasher::new(), numbers.collect());
    let mut summary = Summary { hasher, numbers, last: 0 };
    for source in selected {
        summary.field(&source.name);
        summary.node(&source.node, source.path.is_some())?;
        summary.number(source.inside.len() as u64);
        for (relative, node) in source.inside.iter() {
            summary.field(relative.as_bytes());
            summary.node(&node, true)?;
        }
    }
    Ok(summary.hasher.finalize())
}

/// A digest in the making.
struct Summary {
    hasher: blake3::Hasher,
    /// Files with several names, numbered in the order in which they come: their own numbers are
    /// chance. One that has not come yet is 0.
    numbers: BTreeMap<u64, u64>,
    last: u64,
}

impl Summary {
    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn node(&mut self, node: &Node, is_somewhere: bool) -> Result<()> {
        let entry = &node.entry;
        for number in [entry.mode, entry.uid, entry.gid] {
            self.number(number.into());
        }
        let number = node.identity.and_then(|own| self.numbers.get_mut(&own));
        let number = number.map_or(0, |number| {
            if *number == 0 {
                self.last += 1;
                *number = self.last;
            }
            *number
        });
        self.number(number);
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.field(name.as_bytes());
            self.field(value);
        }
        self.kind(&entry.kind, is_somewhere)
    }

    fn kind(&mut self, kind: &EntryKind, is_somewhere: bool) -> Result<()> {
        match kind {
            EntryKind::File(content) => {
                self.field(b"file");
                self.number(content.size());
                if is_somewhere {
                    self.hasher.update(&content.hash()?);
                }
            }
            EntryKind::Directory => self.field(b"folder"),
            EntryKind::Symlink(target) => {
                self.field(b"link");
                self.field(target);
            }
            EntryKind::HardLink(target) => {
                self.field(b"name");
                self.field(target.as_bytes());
            }
            EntryKind::CharDevice { major, minor } => self.device(b"char", *major, *minor),
            EntryKind::BlockDevice { major, minor } => self.device(b"block", *major, *minor),
            EntryKind::Fifo => self.field(b"fifo"),
        }
        Ok(())
    }

    fn device(&mut self, kind: &[u8], major: u32, minor: u32) {
        self.field(kind);
        self.number(major.into());
        self.number(minor.into());
    }
}

/// A path from the root, without a trailing slash.
fn rooted(source: &str) -> String {
    glob::clean(&format!("/{source}"))
}

/// The paths that a source stands for: itself, or all that match it.
fn expand(files: &dyn Files, source: &str) -> Result<Vec<String>> {
    let path = rooted(source);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let first = parts.iter().position(|part| glob::has_wildcards(part.as_bytes()));
    let Some(first) = first else { return Ok(vec![path]) };
    let (fixed, wild) = parts.split_at(first);
    let base = format!("/{}", fixed.join("/"));
    let Some(found) = resolve(files, base.as_bytes(), LastLink::Follow)? else {
        return Err(missing(files, &base, source));
    };
    let mut matched = vec![(found.path, base)];
    for (depth, pattern) in wild.iter().enumerate() {
        let is_last = depth + 1 == wild.len();
        let mut next = Vec::new();
        for (folder, written) in &matched {
            for (name, node) in files.children(folder.as_ref())? {
                let hit = glob::matches(pattern.as_bytes(), &name).map_err(|_| {
                    Error::new(ErrorKind::Usage, format!("copy {source}"))
                        .because("it has a [ without an end, or ends with a backslash")
                })?;
                let Ok(text) = std::str::from_utf8(&name) else { continue };
                if hit && (is_last || node.entry.is_directory()) {
                    let path = join(folder.as_ref(), &name)?;
                    next.push((Some(path), format!("{}/{text}", written.trim_end_matches('/'))));
                }
            }
        }
        matched = next;
    }
    Ok(matched.into_iter().map(|(_, written)| written).collect())
}

fn take(files: &dyn Files, path: &str, source: &str, filter: &Filter<'_>) -> Result<Selected> {
    let Some(found) = resolve(files, path.as_bytes(), LastLink::Follow)? else {
        return Err(missing(files, path, source));
    };
    let name = path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
    let mut inside = Inside::default();
    if found.node.entry.is_directory() {
        let mut walk = Walk { files, filter, inside: &mut inside, waiting: Vec::new() };
        walk.folder(found.path.as_ref(), None, None, None)?;
    }
    Ok(Selected { name, node: found.node, path: found.path, inside, unpacked: None })
}

/// Says why there is nothing at a path, which `source` asks for.
fn missing(files: &dyn Files, path: &str, source: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("copy {source}"));
    if TreePath::normalized(path).is_ok_and(|path| files.is_left_out(&path)) {
        return error
            .because("the ignore file leaves it out")
            .hint("write a line below that brings it back: !PATTERN");
    }
    if let Some((link, target)) = dangling(files, path) {
        return error.because(format!("{link} is a link whose target {target} is not there"));
    }
    let error = error.because("there is no such file or folder");
    if leads_out(source) {
        return error.hint(format!("a source never leads out of its tree: this one means {path}"));
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let siblings = resolve(files, folder.as_bytes(), LastLink::Follow).ok().flatten();
    let siblings = siblings.and_then(|found| files.children(found.path.as_ref()).ok());
    let names: Vec<String> = siblings
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, _)| String::from_utf8(name).ok())
        .collect();
    match crate::error::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// The link at the end of a path, and what it leads to: followed through other links, to the one
/// whose target is missing.
fn dangling(files: &dyn Files, path: &str) -> Option<(String, String)> {
    let mut path = rooted(path).into_bytes();
    let mut last = None;
    // A path that gave way to `resolve` once leads through no endless row of links.
    while let Some(found) = resolve(files, &path, LastLink::Keep).ok().flatten() {
        let EntryKind::Symlink(target) = &found.node.entry.kind else { break };
        let own = found.path?;
        let shown = String::from_utf8_lossy(target).into_owned();
        last = Some((own.to_string(), shown));
        path = match own.parent() {
            Some(folder) if !target.starts_with(b"/") => {
                [b"/", folder.as_bytes(), b"/", target.as_slice()].concat()
            }
            _ => target.clone(),
        };
    }
    last
}

/// Whether a path would leave the folder that it begins in.
fn leads_out(path: &str) -> bool {
    let mut depth = 0_i32;
    path.split('/').any(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth < 0
    })
}

/// `--parents`: from the pivot `/./`, or the root, everything that matches, in its folders.
fn with_parents(files: &dyn Files, source: &str, excludes: &Patterns) -> Result<Vec<Selected>> {
    let (pivot, pattern) = source.split_once("/./").unwrap_or(("/", source));
    let pattern = rooted(pattern);
    let pattern = pattern.trim_start_matches('/');
    let is_plain = !glob::has_wildcards(source.as_bytes());
    let (pivot, pattern) = (rooted(pivot), if pattern.is_empty() { "**" } else { pattern });
    let whole = format!("{pivot}/{pattern}");
    if is_plain && resolve(files, whole.as_bytes(), LastLink::Keep)?.is_none() && pattern != "**" {
        return Err(missing(files, &whole, source));
    }
    let includes = Patterns::new([pattern])?;
    let filter = Filter { includes: &includes, excludes };
    expand(files, &pivot)?.iter().map(|path| take(files, path, source, &filter)).collect()
}

/// What of a folder is copied.
struct Filter<'a> {
    /// Everything, where it is empty.
    includes: &'a Patterns,
    excludes: &'a Patterns,
}

/// What was said of a folder, for what is in it.
#[derive(Clone, Default)]
struct Verdicts {
    include: Option<Verdict>,
    exclude: Option<Verdict>,
}

/// How deep folders may be: beyond this, looking at them takes minutes.
const DEEPEST: usize = 500;

struct Walk<'a> {
    files: &'a dyn Files,
    filter: &'a Filter<'a>,
    inside: &'a mut Inside,
    /// Folders that are copied only if something in them is, by their paths from the one that is
    /// copied.
    waiting: Vec<(TreePath, Node)>,
}

impl Walk<'_> {
    fn folder(
        &mut self,
        folder: Option<&TreePath>,
        relative: Option<&TreePath>,
        include: Option<&Verdict>,
        exclude: Option<&Verdict>,
    ) -> Result<()> {
        if relative.is_some_and(|path| path.to_str_lossy().matches('/').count() >= DEEPEST) {
            return Err(Error::new(ErrorKind::Usage, "copy a tree of folders")
                .because(format!("it is deeper than {DEEPEST} levels")));
        }
        let Children { mut described, listed } = self.files.first_children(folder)?;
        let mut listed = listed.into_iter();
        loop {
            for (name, node) in described {
                self.child((folder, relative), (&name, node), (include, exclude))?;
            }
            if listed.len() == 0 {
                return Ok(());
            }
            let names = listed.by_ref().take(DESCRIBED_AT_ONCE).collect();
            described = self.files.children_named(folder, names)?;
        }
    }

    /// Takes something in a folder, and what is in that.
    fn child(
        &mut self,
        (folder, relative): (Option<&TreePath>, Option<&TreePath>),
        (name, node): (&[u8], Node),
        (include, exclude): (Option<&Verdict>, Option<&Verdict>),
    ) -> Result<()> {
        let relative = join(relative, name)?;
        let text = relative.to_str_lossy();
        let (mut wanted, mut verdicts) = (true, Verdicts::default());
        if !self.filter.includes.is_empty() {
            let (found, verdict) = self.filter.includes.matches(&text, include);
            (wanted, verdicts.include) = (found, Some(verdict));
        }
        if !self.filter.excludes.is_empty() {
            let (found, verdict) = self.filter.excludes.matches(&text, exclude);
            (wanted, verdicts.exclude) = (wanted && !found, Some(verdict));
        }
        let is_folder = node.entry.is_directory();
        if wanted {
            for (relative, node) in self.waiting.drain(..) {
                self.inside.insert(relative, node)?;
            }
            self.inside.insert(relative.clone(), node)?;
        } else if is_folder && self.may_hold(&text) {
            self.waiting.push((relative.clone(), node));
        } else {
            return Ok(());
        }
        if is_folder {
            let path = join(folder, name)?;
            let (include, exclude) = (verdicts.include.as_ref(), verdicts.exclude.as_ref());
            self.folder(Some(&path), Some(&relative), include, exclude)?;
            self.waiting.retain(|(waiting, _)| *waiting != relative);
        }
        Ok(())
    }

    /// Whether something in a folder that is not copied itself may be.
    fn may_hold(&self, folder: &str) -> bool {
        let Filter { includes, excludes } = self.filter;
        let excluded = !excludes.is_empty() && excludes.matches_path(folder);
        if excluded && !excludes.may_bring_back_below(folder) {
            return false;
        }
        includes.is_empty() || includes.may_match_below(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::TreeFiles;
    use crate::engine::files::tests::files;
    use crate::layer::Tree;

    fn context() -> TreeFiles {
        let mut tree = Tree::new();
        for path in
            ["a.txt", "b.txt", "c.md", "dir/x.txt", "dir/sub/y.txt", "dir/sub/z.md", "e/f/g"]
        {
            let entry = Entry::file(path.to_owned(), 0o644).modified(5);
            tree.insert_with_parents(path.parse().unwrap(), entry).unwrap();
        }
        tree.insert("link".parse().unwrap(), Entry::symlink("dir/sub")).unwrap();
        tree.insert("dir/kept".parse().unwrap(), Entry::symlink("../a.txt")).unwrap();
        TreeFiles::new(tree)
    }

    fn display(selection: &Selection) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for source in select(&context(), selection)? {
            all.push(String::from_utf8(source.name).unwrap());
            all.extend(source.inside.iter().map(|(path, _)| format!("  {path}")));
        }
        Ok(all)
    }

    fn plain(sources: &[&str]) -> Selection {
        Selection {
            sources: sources.iter().map(|&s| s.to_owned()).collect(),
            ..Selection::default()
        }
    }

    #[test]
    fn files_folders_and_wildcards_are_found_in_order() {
        for (source, expected) in [
            ("a.txt", &["a.txt"][..]),
            ("*.txt", &["a.txt", "b.txt"]),
            ("[bc].*", &["b.txt", "c.md"]),
            ("dir/sub/", &["sub", "  y.txt", "  z.md"]),
            ("link", &["link", "  y.txt", "  z.md"]),
            ("link/y.txt", &["y.txt"]),
            ("../../a.txt", &["a.txt"]),
            ("d*/*/*.md", &["z.md"]),
            ("nothing*", &[]),
            ("e", &["e", "  f", "  f/g"]),
            ("dir", &["dir", "  kept", "  sub", "  sub/y.txt", "  sub/z.md", "  x.txt"]),
        ] {
            assert_eq!(display(&plain(&[source])).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn a_missing_source_is_an_error_that_names_the_nearest() {
        let error = display(&plain(&["a.tyt"])).unwrap_err().to_string();
        assert!(error.contains("cannot copy a.tyt: "), "{error}");
        assert!(error.ends_with("did you mean a.txt?"), "{error}");
        let error = display(&plain(&["../../a.tyt"])).unwrap_err().to_string();
        assert!(error.ends_with("this one means /a.tyt"), "{error}");
        assert!(display(&plain(&["nowhere/*.txt"])).is_err());
        assert!(display(&plain(&["[a"])).is_err());
    }

    #[test]
    fn excludes_leave_out_what_is_in_folders() {
        let excludes = Patterns::new(["**/*.md", "kept"]).unwrap();
        let selection = Selection { excludes, ..plain(&["dir"]) };
        assert_eq!(display(&selection).unwrap(), ["dir", "  sub", "  sub/y.txt", "  x.txt"]);
        let excludes = Patterns::new(["*", "!sub/z.md"]).unwrap();
        let selection = Selection { excludes, ..plain(&["dir"]) };
        assert_eq!(display(&selection).unwrap(), ["dir", "  sub", "  sub/z.md"]);
    }

    #[test]
    fn parents_keep_the_folders_behind_the_pivot() {
        for (source, expected) in [
            ("dir/sub/y.txt", &["", "  dir", "  dir/sub", "  dir/sub/y.txt"][..]),
            ("dir/./sub/y.txt", &["dir", "  sub", "  sub/y.txt"]),
            ("**/*.md", &["", "  c.md", "  dir", "  dir/sub", "  dir/sub/z.md"]),
            ("e/f", &["", "  e", "  e/f", "  e/f/g"]),
        ] {
            let selection = Selection { parents: true, ..plain(&[source]) };
            assert_eq!(display(&selection).unwrap(), expected, "{source}");
        }
        let selection = Selection { parents: true, ..plain(&["dir/nothing"]) };
        assert!(display(&selection).is_err());
    }

    #[test]
    fn a_digest_counts_what_is_copied_but_no_times() {
        let of = |tree: Tree| {
            let files = TreeFiles::new(tree);
            digest(&files, &mut select(&files, &plain(&["."])).unwrap()).unwrap()
        };
        let tree = |mode, time, text: &str, name: &str| {
            let mut tree = Tree::new();
            let entry = Entry::file(text.to_owned(), mode).modified(time);
            tree.insert(name.parse().unwrap(), entry).unwrap();
            tree
        };
        let first = of(tree(0o644, 1, "x", "a"));
        assert_eq!(first, of(tree(0o644, 2, "x", "a")));
        for other in [tree(0o600, 1, "x", "a"), tree(0o644, 1, "y", "a"), tree(0o644, 1, "x", "b")]
        {
            assert_ne!(first, of(other));
        }
    }

    #[test]
    fn names_that_are_not_copied_do_not_count() {
        let of = |names: &[&str], sources: &[&str]| {
            let mut tree = Tree::new();
            let file = Entry::file("x", 0o644);
            for (number, name) in names.iter().enumerate() {
                let first = names[0].parse().unwrap();
                let link = Entry::hard_link(first, &file);
                let entry = if number == 0 { file.clone() } else { link };
                tree.insert(name.parse().unwrap(), entry).unwrap();
            }
            let files = TreeFiles::new(tree);
            digest(&files, &mut select(&files, &plain(sources)).unwrap()).unwrap()
        };
        assert_eq!(of(&["a"], &["a"]), of(&["a", "b"], &["a"]));
        let (both, alone) = (of(&["a", "b"], &["a", "b"]), of(&["a", "b"], &["a"]));
        assert_ne!(both, alone);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_target() {
        let files = files(&[
            ("d/dead", Entry::symlink("../gone/x")),
            ("d/chain", Entry::symlink("/d/dead")),
            ("d/file", Entry::file("", 0o644)),
        ]);
        for (source, expected) in [
            ("d/dead", "cannot copy d/dead: d/dead is a link whose target ../gone/x is not there"),
            (
                "d/chain",
                "cannot copy d/chain: d/dead is a link whose target ../gone/x is not there",
            ),
            ("d/de*", "cannot copy d/de*: d/dead is a link whose target ../gone/x is not there"),
            ("d/dead/x", "cannot copy d/dead/x: there is no such file or folder"),
            (
                "d/fil",
                "cannot copy d/fil: there is no such file or folder; hint: did you mean file?",
            ),
        ] {
            let selection = Selection { sources: vec![source.into()], ..Selection::default() };
            let error = select(&files, &selection).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
