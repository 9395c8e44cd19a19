//! Opens contexts, and finds the Dockerfile and the ignore file in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::job::{ContextSource, FileSource, Job, Tools};
use crate::blocking::blocking;
use crate::context::download;
use crate::context::ignore::Patterns;
use crate::context::{self, Checkout, Digests, Folder};
use crate::disk;
use crate::dockerfile::source::Source;
use crate::engine::files::{Files, LastLink, TreeFiles, resolve};
use crate::engine::materials::Revision;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Content, Entry, EntryKind, HeldFolder, Tree, TreePath};
use crate::literal;
use crate::secret;

/// The argument that asks for the history of a repository that is the context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// Dockerfiles and ignore files are shorter than this.
const LONGEST_FILE: u64 = 16 << 20;
/// What a Dockerfile is called where nobody says otherwise, in this order.
const USUAL_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];
/// The ignore file of a context.
const IGNORE_FILE: &str = ".dockerignore";

/// An opened context. What it holds on disk vanishes with it.
#[derive(Clone)]
pub(super) struct Opened {
    /// The files, without what the ignore file leaves out.
    pub files: Arc<dyn Files>,
    /// What the ignore file leaves out.
    pub ignored: Arc<Patterns>,
    /// What was checked out, where it is a repository.
    pub revision: Option<Revision>,
    folder: Option<Arc<Folder>>,
    _guard: Option<Arc<Guard>>,
}

/// What must stay as long as a context is used.
enum Guard {
    Checkout(#[expect(dead_code, reason = "kept for its drop")] Checkout),
    Scratch(#[expect(dead_code, reason = "kept for its drop")] TempDir),
}

impl Opened {
    /// Keeps what was learnt of the files for the next build.
    pub(super) fn save(&self) {
        if let Some(folder) = &self.folder {
            folder.save();
        }
    }

    /// Forgets what was learnt of the files.
    pub(super) fn forget(&self) {
        if let Some(folder) = &self.folder {
            folder.forget();
        }
    }
}

/// A context before its ignore file is known.
enum Raw {
    Folder {
        root: Arc<HeldFolder>,
        /// What was checked out, and when that was committed.
        checkout: Option<(Revision, i64)>,
        guard: Option<Arc<Guard>>,
    },
    Tree {
        files: Arc<TreeFiles>,
        guard: Option<Arc<Guard>>,
    },
    /// What was downloaded and is no archive: the Dockerfile, most likely.
    File(Vec<u8>),
}

/// Opens a context and reads the Dockerfile that is in it or beside it.
pub(super) async fn open_main(tools: &Tools, job: &Job) -> Result<(Opened, Source)> {
    let kept = job.recipe.arguments.get(KEEP_GIT_DIR);
    let keep_git_dir = kept.is_some_and(|value| literal::boolean(value) == Ok(true));
    let raw = raw(tools, &job.recipe.context, Wanted { name: None, keep_git_dir }).await?;
    let (source, beside) = read_dockerfile(job, &raw)?;
    let patterns = ignored(&raw, beside.as_ref())?;
    Ok((open(tools, raw, patterns), source))
}

/// Opens a context of `--build-context`; its own ignore file holds.
pub(super) async fn open_named(
    tools: &Tools,
    name: &str,
    source: &ContextSource,
) -> Result<Opened> {
    let raw = raw(tools, source, Wanted { name: Some(name), keep_git_dir: false }).await?;
    let patterns = ignored(&raw, None)?;
    Ok(open(tools, raw, patterns))
}

/// As what a context is opened.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// What `--build-context` calls it.
    name: Option<&'a str>,
    /// Whether the history of a repository is among its files.
    keep_git_dir: bool,
}

async fn raw(tools: &Tools, source: &ContextSource, wanted: Wanted<'_>) -> Result<Raw> {
    let shown = |place: &dyn std::fmt::Display| match wanted.name {
        Some(name) => format!("--build-context {name}={place}"),
        None => format!("the build context {place}"),
    };
    match source {
        ContextSource::Folder(root) => {
            let root = context::open_folder(root, &shown(&root.display()))?;
            Ok(Raw::Folder { root, checkout: None, guard: None })
        }
        ContextSource::Git(git) => {
            let task = tools.transport.reporter.start(
                crate::progress::TaskKind::Download,
                git.display_name(),
                None,
            );
            tools.transport.check_online(&git.display_name())?;
            let checkout = git.check_out(&tools.variables, wanted.keep_git_dir).await?;
            task.done();
            let root = context::open_folder(checkout.root(), &shown(&git.display_name()))?;
            let (source, revision) = (Some(git.display_name()), checkout.commit.clone());
            let found = Some((Revision { source, revision }, checkout.time));
            let guard = Some(Arc::new(Guard::Checkout(checkout)));
            Ok(Raw::Folder { root, checkout: found, guard })
        }
        ContextSource::Archive { file, name, folder } => {
            let (file, name, folder) = (file.clone(), name.clone(), folder.clone());
            let programs = tools.path().to_owned();
            let action = format!("use {}", shown(&name));
            let open = move || open_archive((&file, &name), folder.as_deref(), &programs);
            blocking(open).await.cannot(|| action)
        }
        ContextSource::Address(url) => {
            let (shown, programs) = (shown(&secret::address(url)), tools.path().to_owned());
            let reporter = &tools.transport.reporter;
            let task = reporter.start(crate::progress::TaskKind::Download, shown.clone(), None);
            let found = download::download(&tools.transport, url, None).await;
            let found = found.cannot(|| format!("use {shown}"))?;
            task.done();
            let file = tools.transport.store.blob_path(&found.digest);
            let action = format!("use {shown}");
            blocking(move || open_downloaded((&file, &shown), &programs)).await.cannot(|| action)
        }
        ContextSource::Empty => {
            Ok(Raw::Tree { files: Arc::new(TreeFiles::default()), guard: None })
        }
    }
}

/// As docker has it: an archive is the context, anything else is the Dockerfile.
fn open_downloaded(file: (&Path, &str), programs: &str) -> Result<Raw> {
    let action = || format!("read {}", file.1);
    let content = Content::from_file(file.0).cannot(action)?;
    if context::open_archive(&content, file.1, programs)?.is_some() {
        return open_archive(file, None, programs);
    }
    if content.size() > LONGEST_FILE {
        return Err(Error::new(ErrorKind::Usage, action())
            .because("it is no tar archive, and too long for a Dockerfile"));
    }
    content.bytes().map(|bytes| Raw::File(bytes.to_vec())).cannot(action)
}

fn open_archive(file: (&Path, &str), folder: Option<&str>, programs: &str) -> Result<Raw> {
    let action = || format!("read {}", file.1);
    let content = Content::from_file(file.0).cannot(action)?;
    let archive = context::open_archive(&content, file.1, programs)?
        .ok_or_else(|| Error::new(ErrorKind::Usage, action()).because("it is no tar archive"))?;
    let scratch = tempfile::tempdir().cannot(|| "unpack it")?;
    let mut read = context::read_archive(archive, &scratch)?.tree;
    if let Some(folder) = folder {
        read = context::folder_of_archive(read, folder)?;
    }
    let mut tree = Tree::new();
    for (path, entry) in read {
        tree.insert(path, entry.owned_by(0, 0))?;
    }
    let files = Arc::new(TreeFiles::new(tree));
    Ok(Raw::Tree { files, guard: Some(Arc::new(Guard::Scratch(scratch))) })
}

/// What was downloaded as a tree: docker calls it `context` there.
fn lone_file(bytes: &[u8]) -> TreeFiles {
    let mut tree = Tree::new();
    let name = TreePath::new("context").expect("it is a name like any other");
    let entry = Entry::file(bytes.to_vec(), 0o600);
    tree.insert(name, entry).expect("nothing else is in the tree");
    TreeFiles::new(tree)
}

fn open(tools: &Tools, raw: Raw, patterns: Patterns) -> Opened {
    let ignored = Arc::new(patterns.clone());
    match raw {
        Raw::Folder { root, checkout, guard } => {
            let mut folder = Folder::new(root.clone()).ignoring(patterns);
            // A checkout's folder never comes again.
            if guard.is_none() {
                let known_as =
                    fs_err::canonicalize(root.path()).unwrap_or_else(|_| root.path().to_owned());
                folder = folder.remembering(Digests::new(&tools.transport.store, &known_as));
            }
            if let Some((_, time)) = &checkout {
                folder = folder.modified(*time);
            }
            let folder = Arc::new(folder);
            let revision = checkout.map(|(revision, _)| revision);
            Opened { files: folder.clone(), ignored, revision, folder: Some(folder), _guard: guard }
        }
        Raw::Tree { files, guard } => {
            let files = Arc::new(Ignoring { files, patterns });
            Opened { files, ignored, revision: None, folder: None, _guard: guard }
        }
        Raw::File(bytes) => {
            let files = Arc::new(lone_file(&bytes));
            Opened { files, ignored, revision: None, folder: None, _guard: None }
        }
    }
}

/// A tree without what an ignore file leaves out.
struct Ignoring {
    files: Arc<TreeFiles>,
    patterns: Patterns,
}

impl Ignoring {
    fn leaves_out(&self, path: &TreePath, is_folder: bool) -> Result<bool> {
        let text = path.to_str_lossy();
        if self.patterns.is_empty() || !self.patterns.matches_path(&text) {
            return Ok(false);
        }
        let brings_back = is_folder && self.patterns.may_bring_back_below(&text);
        Ok(!brings_back || self.children(Some(path))?.is_empty())
    }
}

impl Files for Ignoring {
    fn node(&self, path: Option<&TreePath>) -> Result<Option<crate::engine::files::Node>> {
        let Some(node) = self.files.node(path)? else { return Ok(None) };
        match path {
            Some(path) if self.leaves_out(path, node.entry.is_directory())? => Ok(None),
            _ => Ok(Some(node)),
        }
    }

    fn children(
        &self,
        folder: Option<&TreePath>,
    ) -> Result<Vec<(Vec<u8>, crate::engine::files::Node)>> {
        let mut kept = Vec::new();
        for (name, node) in self.files.children(folder)? {
            let path = crate::engine::files::join(folder, &name)?;
            if !self.leaves_out(&path, node.entry.is_directory())? {
                kept.push((name, node));
            }
        }
        Ok(kept)
    }

    fn is_left_out(&self, path: &TreePath) -> bool {
        self.patterns.matches_path(&path.to_str_lossy())
            && self.files.node(Some(path)).is_ok_and(|found| found.is_some())
    }

    fn digests(
        &self,
        files: &[(TreePath, &crate::layer::Entry)],
    ) -> Result<Vec<crate::layer::ContentHash>> {
        self.files.digests(files)
    }
}

/// Where the Dockerfile was found, for the ignore file that goes with it.
enum Beside {
    Disk(PathBuf),
    Context(String),
}

fn read_dockerfile(job: &Job, raw: &Raw) -> Result<(Source, Option<Beside>)> {
    let (name, bytes, beside) = match (&job.recipe.file, raw) {
        (FileSource::Text(bytes), _) | (FileSource::InContext(_), Raw::File(bytes)) => {
            ("Dockerfile".to_owned(), bytes.clone(), None)
        }
        (FileSource::Path(path), _) => {
            let bytes = read_on_disk(path)?.ok_or_else(|| missing(&path.display().to_string()))?;
            let name = display_name(path, raw);
            (name, bytes, Some(Beside::Disk(path.clone())))
        }
        (FileSource::InContext(name), _) => {
            let usual = USUAL_NAMES.iter().map(|&name| name.to_owned());
            let candidates: Vec<String> =
                if name.is_empty() { usual.collect() } else { vec![name.clone()] };
            let mut found = None;
            for candidate in candidates {
                if let Some(bytes) = read_in(raw, &candidate)? {
                    found = Some((candidate, bytes));
                    break;
                }
            }
            let wanted = if name.is_empty() { USUAL_NAMES[0] } else { name };
            let (name, bytes) = found.ok_or_else(|| missing_in(raw, wanted))?;
            (name.clone(), bytes, Some(Beside::Context(name)))
        }
    };
    let source = crate::dockerfile::text::read(&name, &bytes);
    Ok((source.map_err(crate::dockerfile::diagnostic::Diagnostics::into_error)?, beside))
}

/// A path as messages show it: relative to the context where it is in there.
fn display_name(path: &Path, raw: &Raw) -> String {
    let inside = match raw {
        Raw::Folder { root, .. } => path.strip_prefix(root.path()).ok(),
        Raw::Tree { .. } | Raw::File(_) => None,
    };
    inside.unwrap_or(path).display().to_string()
}

/// Says that a context has no such file. A link in a context never leads out of it, as in BuildKit;
/// one that is named on the command line is followed wherever it leads.
fn missing_in(raw: &Raw, name: &str) -> Error {
    let link = match raw {
        Raw::Folder { root, .. } => {
            resolve(&Folder::new(root.clone()), name.as_bytes(), LastLink::Keep)
        }
        Raw::Tree { files, .. } => resolve(files.as_ref(), name.as_bytes(), LastLink::Keep),
        Raw::File(_) => Ok(None),
    };
    match link.ok().flatten().map(|found| found.node.entry.kind) {
        Some(EntryKind::Symlink(target)) => {
            let target = String::from_utf8_lossy(&target).into_owned();
            Error::new(ErrorKind::NotFound, format!("read {name}"))
                .because(format!("it is a link to {target}, and the context has no such file"))
                .hint("name the Dockerfile with -f FILE: that is followed out of the context")
        }
        _ => missing(name),
    }
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("read {name}"))
        .because("there is no such file")
        .hint("name the Dockerfile with -f FILE")
}

fn ignored(raw: &Raw, beside: Option<&Beside>) -> Result<Patterns> {
    let own = match beside {
        Some(Beside::Disk(path)) => {
            let mut name = path.clone().into_os_string();
            name.push(IGNORE_FILE);
            let name = PathBuf::from(name);
            read_on_disk(&name)?.map(|bytes| (display_name(&name, raw), bytes))
        }
        Some(Beside::Context(name)) => {
            let name = format!("{name}{IGNORE_FILE}");
            read_in(raw, &name)?.map(|bytes| (name, bytes))
        }
        None => None,
    };
    let found = match own {
        Some(own) => Some(own),
        None => read_in(raw, IGNORE_FILE)?.map(|bytes| (IGNORE_FILE.to_owned(), bytes)),
    };
    let Some((name, bytes)) = found else { return Ok(Patterns::default()) };
    Patterns::of_file(&name, &String::from_utf8_lossy(&bytes))
}

fn read_on_disk(path: &Path) -> Result<Option<Vec<u8>>> {
    match disk::read_named(path, LONGEST_FILE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if disk::is_absence(&error) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Says why a file cannot be read, and names it once.
fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let action = format!("read {}", path.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::new(ErrorKind::Io, action)
            .because("this user may not read it")
            .hint(format!("chmod a+r {}", path.display())),
        std::io::ErrorKind::InvalidInput => Error::new(ErrorKind::Usage, action).because(error),
        kind => Error::new(ErrorKind::Io, action).because(kind),
    }
}

fn no_file(name: &str, what: &str) -> Error {
    let why = format!("it is {what}, expected a file");
    Error::new(ErrorKind::Usage, format!("read {name}")).because(why)
}

fn read_in(raw: &Raw, name: &str) -> Result<Option<Vec<u8>>> {
    let files: &dyn Files = match raw {
        Raw::Folder { root, .. } => &Folder::new(root.clone()),
        Raw::Tree { files, .. } => files.as_ref(),
        Raw::File(_) => return Ok(None),
    };
    let Some(found) = resolve(files, name.as_bytes(), LastLink::Follow)? else { return Ok(None) };
    match found.node.entry.kind {
        EntryKind::File(content) if content.size() > LONGEST_FILE => {
            let size = content.size();
            Err(Error::new(ErrorKind::Usage, format!("read {name}"))
                .because(format!("it has {size} bytes, at most {LONGEST_FILE} are taken")))
        }
        EntryKind::File(content) => content.bytes().map(|bytes| Some(bytes.to_vec())),
        EntryKind::Fifo => Err(no_file(name, "a named pipe")),
        EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
            Err(no_file(name, "a device"))
        }
        _ => Ok(None),
    }
}
