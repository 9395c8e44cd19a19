//! `COPY` and `ADD`: from sources to a tree, without a sandbox.

use std::sync::Arc;

use super::download::{self, is_remote};
use super::job::StepKind;
use super::platform::Provider;
use super::shop::{Asked, Origin, Wanted};
use super::stage::{At as _, Failure, Stage, ended};
use crate::blocking::{blocking, blocking_or};
use crate::dockerfile::Diagnostic;
use crate::dockerfile::config;
use crate::dockerfile::context::{self, GitSource, Unpacked};
use crate::dockerfile::copy::{self, Chmod, Destination, Selected, Selection};
use crate::dockerfile::files::{Node, TreeFiles};
use crate::dockerfile::ignore::Patterns;
use crate::dockerfile::instruction::{Add, Copy, Instruction, Transfer};
use crate::dockerfile::source::{Span, Word};
use crate::engine::{Executed, Guard, Key, StepOutput};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Content, Entry, EntryKind, Tree, TreePath};
use crate::oci::Digest;
use crate::progress::TaskKind;
use crate::secret;

/// A copy after expansion.
struct Plan {
    /// As it stands in the file.
    written: Transfer,
    /// `COPY` or `ADD`, for the history.
    verb: &'static str,
    sources: Vec<String>,
    /// Names and texts of heredocs.
    inline: Vec<(String, String)>,
    /// As written.
    destination: String,
    /// In the image.
    path: String,
    chown: Option<String>,
    chmod_text: Option<String>,
    chmod: Option<Chmod>,
    excludes: Vec<String>,
    parents: bool,
    link: bool,
}

impl Plan {
    fn new(stage: &Stage<'_>, verb: &'static str, transfer: &Transfer) -> Result<Self, Failure> {
        let scope = &stage.scope;
        let expand = |word: &Option<_>| word.as_ref().map(|word| scope.expand(word)).transpose();
        let inline = transfer
            .inline
            .iter()
            .map(|heredoc| Ok::<_, Failure>((heredoc.name.clone(), scope.inline_file(heredoc)?)));
        let destination = scope.expand(&transfer.destination)?;
        let chmod_text = expand(&transfer.chmod)?.filter(|text| !text.is_empty());
        let chmod = chmod_text.as_deref().map(str::parse).transpose();
        let chmod = chmod.at(span_of(transfer.chmod.as_ref()))?;
        Ok(Self {
            written: transfer.clone(),
            verb,
            sources: scope.expand_all(&transfer.paths)?,
            inline: inline.collect::<Result<_, _>>()?,
            path: config::destination(&stage.config.config.working_dir, &destination),
            destination,
            chown: expand(&transfer.chown)?.filter(|text| !text.is_empty()),
            chmod_text,
            chmod,
            excludes: scope.expand_all(&transfer.excludes)?,
            parents: false,
            link: transfer.link,
        })
    }

    fn selection(&self, sources: Vec<String>) -> Result<Selection, Failure> {
        let excludes = Patterns::new(&self.excludes).at(span_of(self.written.excludes.first()))?;
        Ok(Selection { sources, excludes, parents: self.parents })
    }

    /// The sources, each with where it is written.
    fn places(&self) -> Vec<(String, Span)> {
        let spans = self.written.paths.iter().map(|word| word.span);
        self.sources.iter().cloned().zip(spans).collect()
    }

    /// What the history says.
    fn text(&self) -> String {
        let mut text = self.verb.to_owned();
        if self.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", &self.chown), ("chmod", &self.chmod_text)] {
            if let Some(value) = value {
                text = format!("{text} --{flag}={value}");
            }
        }
        for source in &self.sources {
            text = format!("{text} {source}");
        }
        for (name, _) in &self.inline {
            text = format!("{text} <<{name}");
        }
        format!("{text} {} # buildkit", self.destination)
    }

    /// The part of the step's key that does not depend on the sources' content.
    fn key(&self, stage: &Stage<'_>) -> Key {
        let inline = self.inline.iter().flat_map(|(name, text)| [name, text]);
        stage
            .key("copy")
            .text(&self.path)
            .list(&self.sources)
            .list(inline)
            .optional(self.chown.as_ref())
            .optional(self.chmod_text.as_ref())
            .list(&self.excludes)
            .number(u64::from(self.parents))
            .number(u64::from(self.link))
    }

    /// What to say of several files that were copied to one path, where each replaced the one before
    /// it: as in BuildKit, which says nothing of it.
    fn overwriting(&self, selected: &[Selected], tree: &Tree) -> Option<String> {
        let files = selected.iter().filter(|one| !one.node.entry.is_directory()).count();
        let path = TreePath::normalized(&self.path).ok()?;
        let is_file = tree.get(&path).is_some_and(|entry| !entry.is_directory());
        let written = self.written.paths.iter().map(|word| secret::addresses(&word.text));
        (files > 1 && is_file).then(|| {
            let written: Vec<String> = written.collect();
            format!(
                "{} {} {}: each of {files} files replaced the one before it, for the destination is \
                 no folder; a slash at its end makes it one",
                self.verb,
                written.join(" "),
                self.written.destination.text
            )
        })
    }

    /// Heredocs as sources.
    fn inline_sources(&self) -> Result<Vec<Selected>> {
        let mut all = Vec::new();
        for (name, text) in &self.inline {
            let mut tree = Tree::new();
            let entry = Entry::file(text.clone(), 0o644);
            tree.insert_with_parents(TreePath::normalized(name)?, entry)?;
            let selection = Selection { sources: vec![name.clone()], ..Selection::default() };
            all.extend(copy::select(&TreeFiles::new(tree), &selection)?);
        }
        Ok(all)
    }
}

fn span_of(word: Option<&Word>) -> Span {
    word.map(|word| word.span).unwrap_or_default()
}

/// What a copy takes, and what holds it on disk.
#[derive(Default)]
struct Gathered {
    parts: Vec<Part>,
    guards: Vec<Guard>,
}

/// Sources that are treated alike.
struct Part {
    selected: Vec<Selected>,
    /// Files that are archives give what is in them.
    unpack: bool,
}

impl Gathered {
    fn of(selected: Vec<Selected>) -> Self {
        Self { parts: vec![Part { selected, unpack: false }], guards: Vec::new() }
    }

    /// The sources, archives unpacked.
    fn unpack(self, programs: &str) -> Result<(Vec<Selected>, Vec<Guard>)> {
        let Self { parts, mut guards } = self;
        let mut all = Vec::new();
        for Part { selected, unpack } in parts {
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

/// Executes `COPY`.
pub(super) async fn copy(
    stage: &mut Stage<'_>,
    instruction: &Instruction,
    copy: &Copy,
) -> Result<(), Failure> {
    let plan = Plan { parents: copy.parents, ..Plan::new(stage, "COPY", &copy.transfer)? };
    if let Some((url, span)) = plan.places().into_iter().find(|(source, _)| is_remote(source)) {
        return Err(Diagnostic::error(
            span,
            format!("COPY takes files, and {} is an address", secret::address(&url)),
        )
        .label("ADD takes addresses")
        .into());
    }
    let from = copy.from.as_ref().map(|from| (from.as_str(), from.span));
    let provider = stage.build.provider(stage.index, from).await?;
    let shop = &stage.build.common.shop;
    let label = stage.label(instruction);
    let task = shop.tools.transport.reporter.start(TaskKind::Step, label, None);
    let base = plan.key(stage);
    // A stage or image whose files were looked at before need not be looked at again.
    let asked = match &provider {
        Provider::Snapshot(snapshot) => Some(Asked::of(base.clone(), snapshot)),
        Provider::Context(_) => None,
    };
    let known = match asked.as_ref().filter(|_| stage.use_cache) {
        Some(asked) => shop.alias(asked, StepKind::Copy).await?,
        None => None,
    };
    let given_away = asked.as_ref().filter(|asked| shop.gives_away(asked.on_cached));
    let given_away = given_away.map(|asked| asked.key.clone());
    let found = match known {
        Some(key) => known_step(stage, key, given_away.clone()).await?,
        None => None,
    };
    let text = plan.text();
    let (step, origin) = if let Some(found) = found {
        found
    } else {
        let (key, selected) = select(stage, &plan, &provider, base).await?;
        if let Some(asked) = &asked {
            shop.put_alias(asked, &key)?;
        }
        let execute = || place(stage, Arc::new(plan), Gathered::of(selected));
        let wanted = Wanted { asked: given_away, ..stage.wanted(key, StepKind::Copy) };
        Box::pin(shop.step(&wanted, execute)).await?
    };
    ended(task, origin);
    stage.add(step, text);
    Ok(())
}

/// A step whose key an alias gave. Where its result is gone there is none: what its stage or image has
/// now may have another key.
async fn known_step(
    stage: &Stage<'_>,
    key: String,
    asked: Option<String>,
) -> Result<Option<(Arc<StepOutput>, Origin)>, Failure> {
    /// Why a step is not known.
    enum Unknown {
        Gone,
        Failed(Error),
    }
    impl From<Error> for Unknown {
        fn from(error: Error) -> Self {
            Self::Failed(error)
        }
    }
    let wanted = Wanted { asked, ..stage.wanted(key, StepKind::Copy) };
    let shop = &stage.build.common.shop;
    let gone = || async { Err(Unknown::Gone) };
    match Box::pin(shop.step(&wanted, gone)).await {
        Ok(found) => Ok(Some(found)),
        Err(Unknown::Gone) => Ok(None),
        Err(Unknown::Failed(error)) => Err(error.into()),
    }
}

/// Finds what is copied, and the step's key.
async fn select(
    stage: &Stage<'_>,
    plan: &Plan,
    provider: &Provider,
    base: Key,
) -> Result<(String, Vec<Selected>), Failure> {
    let files = provider.files(&stage.build.common.shop).await?;
    let mut selection = plan.selection(Vec::new())?;
    let places = plan.places();
    let inline = plan.inline_sources()?;
    blocking_or(move || {
        let mut selected = Vec::new();
        for (source, span) in places {
            selection.sources = vec![source];
            selected.extend(copy::select(files.as_ref(), &selection).at(span)?);
        }
        let digest = copy::digest(files.as_ref(), &mut selected)?;
        selected.extend(inline);
        Ok((base.text(digest.as_bytes()).finish(), selected))
    })
    .await
}

async fn place(
    stage: &Stage<'_>,
    plan: Arc<Plan>,
    gathered: Gathered,
) -> Result<Executed, Failure> {
    let shop = &stage.build.common.shop;
    let files = shop.files(&stage.snapshot).await?;
    let time = stage.build.common.job.time();
    let programs = shop.tools.path().to_owned();
    let reporter = shop.tools.transport.reporter.clone();
    blocking_or(move || {
        let (selected, guards) = gathered.unpack(&programs)?;
        let owner = plan.chown.as_deref();
        let owner = owner.map(|text| copy::owner(text, files.as_ref())).transpose();
        let owner = owner.at(span_of(plan.written.chown.as_ref()))?;
        let destination = Destination {
            path: &plan.path,
            files: files.as_ref(),
            owner,
            chmod: plan.chmod.as_ref(),
            link: plan.link,
            time,
        };
        let tree = copy::place(&selected, &destination).at(plan.written.destination.span)?;
        if let Some(text) = plan.overwriting(&selected, &tree) {
            reporter.warn(text);
        }
        Ok(Executed { tree, guards, ..Executed::default() })
    })
    .await
}

/// Executes `ADD`.
pub(super) async fn add(
    stage: &mut Stage<'_>,
    instruction: &Instruction,
    add: &Add,
) -> Result<(), Failure> {
    let plan = Arc::new(Plan::new(stage, "ADD", &add.transfer)?);
    let checksum = add.checksum.as_ref().map(|word| stage.scope.expand(word)).transpose()?;
    let checksum = checksum.filter(|text| !text.is_empty());
    if checksum.is_some() && !(plan.sources.len() == 1 && is_remote(&plan.sources[0])) {
        let span = span_of(add.checksum.as_ref());
        return Err(
            Diagnostic::error(span, "--checksum goes with one address or repository").into()
        );
    }
    let shop = &stage.build.common.shop;
    let label = stage.label(instruction);
    let task = shop.tools.transport.reporter.start(TaskKind::Step, label, None);
    let mut key = plan.key(stage).text("add").number(match add.unpack {
        None => 2,
        Some(unpack) => u64::from(unpack),
    });
    let mut gathered = Gathered::default();
    for (source, span) in &plan.places() {
        let added = if let Some(git) = GitSource::parse(source) {
            add_repository(stage, &plan, &git, add, checksum.as_deref()).await
        } else if is_remote(source) {
            add_address(stage, source, add.unpack == Some(true), checksum.as_deref()).await
        } else {
            add_local(stage, &plan, source, add.unpack != Some(false)).await
        };
        let (digest, part) = added.map_err(|failure| failure.or_at(*span))?;
        key = key.text(digest);
        gathered.parts.extend(part.parts);
        gathered.guards.extend(part.guards);
    }
    gathered.parts.push(Part { selected: plan.inline_sources()?, unpack: false });
    let (text, key) = (plan.text(), key.finish());
    let execute = || place(stage, plan.clone(), gathered);
    let wanted = stage.wanted(key, StepKind::Copy);
    let (step, origin) = shop.step(&wanted, execute).await?;
    ended(task, origin);
    stage.add(step, text);
    Ok(())
}

/// Files of the context; archives are unpacked.
async fn add_local(
    stage: &Stage<'_>,
    plan: &Plan,
    source: &str,
    unpack: bool,
) -> Result<(String, Gathered), Failure> {
    let files = stage.build.common.context.files.clone();
    let selection = plan.selection(vec![source.to_owned()])?;
    blocking(move || {
        let mut selected = copy::select(files.as_ref(), &selection)?;
        let digest = copy::digest(files.as_ref(), &mut selected)?.to_hex().to_string();
        let parts = vec![Part { selected, unpack }];
        Ok((digest, Gathered { parts, guards: Vec::new() }))
    })
    .await
    .map_err(Failure::from)
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
    stage: &Stage<'_>,
    plan: &Plan,
    git: &GitSource,
    add: &Add,
    checksum: Option<&str>,
) -> Result<(String, Gathered), Failure> {
    let tools = &stage.build.common.shop.tools;
    let checkout = git.check_out(&tools.variables, add.keep_git_dir == Some(true)).await?;
    if let Some(wanted) = checksum
        && !checkout.commit.starts_with(wanted)
    {
        let error = Error::new(ErrorKind::Corrupt, format!("add {}", git.shown()));
        let why = format!("its commit is {}, --checksum says {wanted}", checkout.commit);
        return Err(error.because(why).into());
    }
    let selection = plan.selection(vec!["/".to_owned()])?;
    blocking(move || {
        let root = context::open_folder(checkout.root(), "a checkout")?;
        let files = context::Folder::new(root).modified(checkout.time);
        let selected = copy::select(&files, &selection)?;
        let parts = vec![Part { selected, unpack: false }];
        Ok((checkout.commit.clone(), Gathered { parts, guards: vec![Arc::new(checkout)] }))
    })
    .await
    .map_err(Failure::from)
}

/// A file from a server.
async fn add_address(
    stage: &Stage<'_>,
    url: &str,
    unpack: bool,
    checksum: Option<&str>,
) -> Result<(String, Gathered), Failure> {
    let transport = &stage.build.common.shop.tools.transport;
    let checksum = checksum.map(str::parse::<Digest>).transpose()?;
    let download = download::download(transport, url, checksum.as_ref()).await?;
    if let Some(wanted) = &checksum
        && *wanted != download.digest
    {
        let error = Error::new(ErrorKind::Corrupt, format!("add {}", secret::address(url)));
        let why = format!("its digest is {}, --checksum says {wanted}", download.digest);
        return Err(error.because(why).into());
    }
    let path = transport.store.blob_path(&download.digest);
    let content = Content::file(path, download.size);
    let entry = Entry::new(EntryKind::File(content), 0o600).modified(download.modified);
    let digest = format!("{} {}", download.digest, download.modified);
    let selected = Selected {
        name: download::file_name(url).into_bytes(),
        node: Node { entry, identity: None },
        path: None,
        inside: Vec::new(),
        unpacked: None,
    };
    let parts = vec![Part { selected: vec![selected], unpack }];
    Ok((digest, Gathered { parts, guards: Vec::new() }))
}
