//! Changes of files without a program: copies, additions, folders.
//!
//! What is copied is read once for the step's key, and placed from there: whoever changes a file
//! meanwhile is noticed.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Executor;
use super::context_files::read_files;
use super::files::Wanted;
use crate::blocking::blocking_or;
use crate::context::copy::{self, Chmod, Destination, Inside, Selected, Selection};
use crate::context::download::{self, is_remote};
use crate::context::ignore::Patterns;
use crate::context::{self, GitSource, Unpacked};
use crate::engine::files::{Files, Node, TreeFiles};
use crate::engine::op::{Action, AddOp, CopyOp, Input};
use crate::engine::{
    Executed, Guard, InPart as _, Inputs, Op, OpError, Part, Prepared, ReadFile, Run,
};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Content, Entry, EntryKind, Tree, TreePath};
use crate::oci::Digest;
use crate::secret;

/// A change of files whose sources were read.
pub(super) struct FileChange {
    executor: Arc<Executor>,
    op: Arc<Op>,
    inputs: Inputs,
    read: Gathered,
}

/// What a copy takes, and what holds it on disk.
#[derive(Default)]
struct Gathered {
    digests: Vec<Vec<u8>>,
    parts: Vec<Sources>,
    guards: Vec<Guard>,
}

/// Sources that are treated alike.
struct Sources {
    selected: Vec<Selected>,
    /// Files that are archives give what is in them.
    unpack: bool,
}

impl Gathered {
    fn of(digest: impl Into<Vec<u8>>, selected: Vec<Selected>) -> Self {
        let parts = vec![Sources { selected, unpack: false }];
        Self { digests: vec![digest.into()], parts, guards: Vec::new() }
    }

    fn extend(&mut self, other: Self) {
        self.digests.extend(other.digests);
        self.parts.extend(other.parts);
        self.guards.extend(other.guards);
    }

    /// The sources, archives unpacked.
    fn unpack(self, programs: &str) -> Result<(Vec<Selected>, Vec<Guard>)> {
        let Self { parts, mut guards, .. } = self;
        let mut all = Vec::new();
        for Sources { selected, unpack } in parts {
            for one in selected {
                match if unpack { unpacked(&one, programs)? } else { None } {
                    Some((archive, scratch)) => {
                        all.push(everything(archive)?);
                        guards.push(scratch);
                    }
                    None => all.push(one),
                }
            }
        }
        Ok((all, guards))
    }
}

/// Reads what a change of files takes.
pub(super) async fn prepare(
    executor: Arc<Executor>,
    op: Arc<Op>,
    inputs: Inputs,
) -> Result<FileChange, OpError> {
    let read = match &op.action {
        Action::Copy(copy) => {
            let mut read = match &copy.add {
                Some(add) => added(&executor, &inputs, copy, add).await?,
                None => copied(&executor, &inputs, copy).await?,
            };
            let selected = inline_sources(copy)?;
            read.parts.push(Sources { selected, unpack: false });
            read
        }
        Action::Take(from) => taken(&executor, &inputs, from).await?,
        Action::MakeFolder { .. } | Action::Exec(_) => Gathered::default(),
    };
    Ok(FileChange { executor, op, inputs, read })
}

impl Prepared for FileChange {
    fn digests(&self) -> Vec<Vec<u8>> {
        self.read.digests.clone()
    }

    fn files(&self, most: usize) -> Option<Vec<ReadFile>> {
        read_files(self.read.parts.iter().flat_map(|part| &part.selected), most)
    }

    fn execute(self: Box<Self>, _: Run) -> BoxFuture<'static, Result<Executed, OpError>> {
        async move {
            let Self { executor, op, inputs, read } = *self;
            match &op.action {
                Action::MakeFolder { path, user } => {
                    make_folder(&executor, &inputs, path.clone(), user.clone()).await
                }
                Action::Take(_) => take(&inputs, read).await,
                Action::Copy(_) | Action::Exec(_) => place(&executor, op, &inputs, read).await,
            }
        }
        .boxed()
    }
}

async fn make_folder(
    executor: &Executor,
    inputs: &Inputs,
    path: String,
    user: String,
) -> Result<Executed, OpError> {
    let files = executor.base_of(inputs).await?;
    let time = inputs.table.time;
    blocking_or(move || {
        let owner = copy::owner(&user, files.as_ref())?;
        Ok(Executed::of(copy::make_folder(&path, files.as_ref(), owner, time)?))
    })
    .await
}

/// Finds all files of a folder or archive.
async fn taken(executor: &Executor, inputs: &Inputs, from: &Input) -> Result<Gathered> {
    let files = executor.files_of(inputs.get(from)?, Wanted::Look).await?;
    let everything = Selection { sources: vec!["/".to_owned()], ..Selection::default() };
    blocking_or(move || {
        let mut selected = copy::select(files.as_ref(), &everything)?;
        let digest = copy::digest(files.as_ref(), &mut selected)?;
        Ok(Gathered::of(*digest.as_bytes(), selected))
    })
    .await
}

async fn take(inputs: &Inputs, read: Gathered) -> Result<Executed, OpError> {
    let time = inputs.table.time;
    blocking_or(move || {
        let nothing = TreeFiles::default();
        let files: &dyn Files = &nothing;
        let destination =
            Destination { path: "/", files, owner: None, chmod: None, link: false, time };
        let selected: Vec<Selected> =
            read.parts.into_iter().flat_map(|part| part.selected).collect();
        Ok(Executed::of(copy::place(selected, &destination)?))
    })
    .await
}

/// Finds what is copied.
async fn copied(executor: &Executor, inputs: &Inputs, op: &CopyOp) -> Result<Gathered, OpError> {
    let files = executor.files_of(inputs.get(&op.from)?, Wanted::Look).await?;
    let mut selection = selection(op, Vec::new())?;
    let sources = op.sources.clone();
    blocking_or(move || {
        let mut selected = Vec::new();
        for (number, source) in sources.into_iter().enumerate() {
            selection.sources = vec![source];
            let found = copy::select(files.as_ref(), &selection);
            selected.extend(found.in_part(Part::Source(number))?);
        }
        let digest = copy::digest(files.as_ref(), &mut selected)?;
        Ok(Gathered::of(*digest.as_bytes(), selected))
    })
    .await
}

fn selection(op: &CopyOp, sources: Vec<String>) -> Result<Selection, OpError> {
    let excludes = Patterns::new(&op.excludes).in_part(Part::Excludes)?;
    Ok(Selection { sources, excludes, parents: op.parents })
}

/// Heredocs as sources.
fn inline_sources(op: &CopyOp) -> Result<Vec<Selected>> {
    let mut all = Vec::new();
    for (name, text) in &op.inline {
        let mut tree = Tree::new();
        let entry = Entry::file(text.clone(), 0o644);
        tree.insert_with_parents(TreePath::normalized(name)?, entry)?;
        let selection = Selection { sources: vec![name.clone()], ..Selection::default() };
        all.extend(copy::select(&TreeFiles::new(tree), &selection)?);
    }
    Ok(all)
}

async fn place(
    executor: &Executor,
    op: Arc<Op>,
    inputs: &Inputs,
    read: Gathered,
) -> Result<Executed, OpError> {
    let files = executor.base_of(inputs).await?;
    let time = inputs.table.time;
    let programs = executor.tools.path().to_owned();
    let reporter = executor.tools.transport.reporter.clone();
    blocking_or(move || {
        let Action::Copy(op) = &op.action else { unreachable!("others are executed elsewhere") };
        let (selected, guards) = read.unpack(&programs)?;
        let owner = op.owner.as_deref();
        let owner = owner.map(|text| copy::owner(text, files.as_ref())).transpose();
        let owner = owner.in_part(Part::Owner)?;
        let chmod = op.mode.as_deref().map(str::parse::<Chmod>).transpose();
        let chmod = chmod.in_part(Part::Mode)?;
        let destination = Destination {
            path: &op.path,
            files: files.as_ref(),
            owner,
            chmod: chmod.as_ref(),
            link: op.link,
            time,
        };
        let files = selected.iter().filter(|one| !one.node.entry.is_directory()).count();
        let tree = copy::place(selected, &destination).in_part(Part::Destination)?;
        if let Some(text) = overwriting(op, files, &tree) {
            reporter.warn(text);
        }
        Ok(Executed { guards, ..Executed::of(tree) })
    })
    .await
}

/// What to say of `files` that were copied to one path, where each replaced the one before it:
/// as in BuildKit, which says nothing of it.
fn overwriting(op: &CopyOp, files: usize, tree: &Tree) -> Option<String> {
    let path = TreePath::normalized(&op.path).ok()?;
    let is_file = tree.is_directory(&path) == Some(false);
    (files > 1 && is_file).then(|| {
        format!(
            "{}: each of {files} files replaced the one before it, for the destination is no folder; \
             a slash at its end makes it one",
            op.written
        )
    })
}

/// Finds what is added, wherever it is.
async fn added(
    executor: &Executor,
    inputs: &Inputs,
    op: &CopyOp,
    add: &AddOp,
) -> Result<Gathered, OpError> {
    let mut all = Gathered::default();
    for (number, source) in op.sources.iter().enumerate() {
        let found = if let Some(git) = GitSource::parse(source) {
            add_repository(executor, op, &git, add).await
        } else if is_remote(source) {
            add_address(executor, source, add).await.map_err(OpError::from)
        } else {
            add_local(executor, inputs, op, source, add.unpacks_local()).await
        };
        let found = found.map_err(|wrong| match wrong.part {
            Part::Whole => OpError { part: Part::Source(number), ..wrong },
            _ => wrong,
        });
        all.extend(found?);
    }
    Ok(all)
}

/// Files of the context; archives are unpacked.
async fn add_local(
    executor: &Executor,
    inputs: &Inputs,
    op: &CopyOp,
    source: &str,
    unpack: bool,
) -> Result<Gathered, OpError> {
    let files = executor.files_of(inputs.get(&op.from)?, Wanted::Look).await?;
    let selection = selection(op, vec![source.to_owned()])?;
    blocking_or(move || {
        let mut selected = copy::select(files.as_ref(), &selection)?;
        let digest = copy::digest(files.as_ref(), &mut selected)?.to_hex().to_string();
        let parts = vec![Sources { selected, unpack }];
        Ok(Gathered { digests: vec![digest.into_bytes()], parts, guards: Vec::new() })
    })
    .await
}

/// What is in a file that is an archive: the very file that the step's key was made of.
fn unpacked(file: &Selected, programs: &str) -> Result<Option<(Unpacked, Guard)>> {
    let EntryKind::File(content) = &file.node.entry.kind else { return Ok(None) };
    let shown = match content {
        Content::File(file) => file.path().display().to_string(),
        Content::Memory(_) => "an archive".to_owned(),
    };
    let Some(archive) = context::open_archive(content, &shown, programs)? else { return Ok(None) };
    let scratch = tempfile::tempdir().cannot(|| "unpack an archive")?;
    let unpacked = context::read_archive(archive, &scratch)?;
    Ok(Some((unpacked, Arc::new(scratch))))
}

/// All that an archive holds, as one source that replaces what it meets.
fn everything(archive: Unpacked) -> Result<Selected> {
    let files = TreeFiles::new(archive.tree);
    let selection = Selection { sources: vec!["/".to_owned()], ..Selection::default() };
    let mut selected = copy::select(&files, &selection)?;
    let mut whole = selected.pop().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "unpack an archive").because("it has no root")
    })?;
    whole.unpacked = Some(archive.implied);
    Ok(whole)
}

/// The files of a repository.
async fn add_repository(
    executor: &Executor,
    op: &CopyOp,
    git: &GitSource,
    add: &AddOp,
) -> Result<Gathered, OpError> {
    executor.tools.transport.check_online(&git.display_name())?;
    let checkout = git.check_out(&executor.tools.variables, add.keep_git_dir).await?;
    if let Some(wanted) = &add.checksum
        && !checkout.commit.starts_with(wanted)
    {
        let error = Error::new(ErrorKind::Corrupt, format!("add {}", git.display_name()));
        let why = format!("its commit is {}, --checksum says {wanted}", checkout.commit);
        return Err(error.because(why).into());
    }
    let selection = selection(op, vec!["/".to_owned()])?;
    blocking_or(move || {
        let root = context::open_folder(checkout.root(), "a checkout")?;
        let files = context::Folder::new(root).modified(checkout.time);
        let selected = copy::select(&files, &selection)?;
        let read = Gathered::of(checkout.commit.clone(), selected);
        Ok(Gathered { guards: vec![Arc::new(checkout)], ..read })
    })
    .await
}

/// A file from a server.
async fn add_address(executor: &Executor, url: &str, add: &AddOp) -> Result<Gathered> {
    let transport = &executor.tools.transport;
    let checksum = add.checksum.as_deref().map(str::parse::<Digest>).transpose()?;
    let download = download::download(transport, url, checksum.as_ref()).await?;
    if let Some(wanted) = &checksum
        && *wanted != download.digest
    {
        let error = Error::new(ErrorKind::Corrupt, format!("add {}", secret::address(url)));
        let why = format!("its digest is {}, --checksum says {wanted}", download.digest);
        return Err(error.because(why));
    }
    let path = transport.store.blob_path(&download.digest);
    let content = Content::file(path, download.size);
    let entry = Entry::new(EntryKind::File(content), 0o600).modified(download.modified);
    let digest = format!("{} {}", download.digest, download.modified);
    let selected = Selected {
        name: download::file_name(url).into_bytes(),
        node: Node { entry, identity: None },
        path: None,
        inside: Inside::default(),
        unpacked: None,
    };
    let parts = vec![Sources { selected: vec![selected], unpack: add.unpacks_remote() }];
    Ok(Gathered { digests: vec![digest.into_bytes()], parts, guards: Vec::new() })
}
