//! `gondola run`.

use std::path::Path;
use std::process::ExitCode;

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::dialect::gondola;
use crate::cli::dialect::run::{Pull, RunArgs, RunRequest, Runnable, read};
use crate::cli::environment::{self, Environment};
use crate::cli::flags::typed::Noted;
use crate::cli::id_range::{Need, of_root};
use crate::cli::passing_store::WithoutStore;
use crate::cli::process;
use crate::cli::session::{Session, check_stdout, print_lines, until_interrupted};
use crate::container::{
    Attachment, Containers, LockedContainer, NewContainer, Options, Origin, Plan, Supervisor,
    start_detached,
};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Artifact, Image, TaggedArtifact};
use crate::oci::{ContainerConfig, Platform, PlatformSet, Reference};
use crate::pipeline;
use crate::rootfs::{Rootfs, Unpacker};
use crate::sandbox::{Exit, Isolation, Root};
use crate::transport::{self, Context, Location, find_in_store};

impl Runs for Noted<RunArgs> {
    fn need(&self, _: &GlobalArgs, _: &Environment) -> Result<Need> {
        let (request, has_network) = self.args.isolation()?;
        let needs = if has_network { of_root().with_own_network() } else { of_root() };
        Ok(Need::Isolation(request, needs))
    }

    fn without_store(&self) -> WithoutStore {
        if self.args.detaches() {
            WithoutStore::Refused("what runs in the background needs a store that stays")
        } else {
            WithoutStore::Passes
        }
    }

    fn run(self: Box<Self>, session: &Session, isolation: Option<Isolation>) -> Result<ExitCode> {
        let (request, notes) = read(session, &self)?;
        for note in notes {
            session.reporter.warn(note);
        }
        let isolation = isolation.expect("chosen before anything else");
        session.finish(run(session, request, isolation))
    }
}

/// Runs a container on an isolation; answers the program's exit code.
async fn run(session: &Session, request: RunRequest, isolation: Isolation) -> Result<ExitCode> {
    if request.detach {
        check_stdout()?;
    } else {
        process::check_terminal(session, request.options.input, request.options.terminal);
    }
    let (locked, foreign) =
        until_interrupted(session, Box::pin(prepare(session, &request, isolation))).await?;
    session.view.close();
    // The container is made, and its list keeps what it needs, for however long it runs.
    session.end_use_of_store();
    let name = locked.container().name().to_owned();
    let exit = if request.detach {
        let id = locked.container().id().clone();
        let exit = start_detached(&locked, &shim_arguments(session, id.as_str())?)?;
        if exit.is_none() {
            print_lines([id])?;
        }
        exit
    } else {
        let supervisor = supervisor(session);
        Some(supervisor.run(locked, Attachment::Foreground, || ()).await?)
    };
    let report = |exit| report(session, &name, &exit, foreign.as_ref());
    Ok(exit.map_or(ExitCode::SUCCESS, report))
}

/// What keeps containers.
pub(in crate::cli) fn supervisor(session: &Session) -> Supervisor {
    Supervisor { launcher: session.launcher(), clock: environment::clock }
}

/// The arguments by which the own binary keeps a container, see `gondola shim`.
pub(in crate::cli) fn shim_arguments(session: &Session, id: &str) -> Result<Vec<String>> {
    let store = session.store()?;
    let words = ["--store", &store.root().display().to_string(), "shim", id];
    Ok(words.map(str::to_owned).to_vec())
}

/// Says what came of a program that was not there, and gives the exit code. `foreign` is the platform
/// that the program is for, where it is not this machine's.
pub(in crate::cli) fn report(
    session: &Session,
    name: &str,
    exit: &Exit,
    foreign: Option<&Platform>,
) -> ExitCode {
    if let Exit::NotFound(reason) | Exit::NotExecutable(reason) = exit {
        let error = Error::new(ErrorKind::NotFound, format!("run container {name}"));
        let error = error.because(reason);
        session.view.fail(&match (exit, foreign) {
            (Exit::NotExecutable(_), Some(platform)) => error.hint(format!(
                "the image is for {platform}: register an emulator with binfmt_misc (on Debian: \
                 apt install qemu-user-static), or run an image for this machine"
            )),
            _ => error,
        });
    }
    ExitCode::from(exit.code())
}

/// Makes the container: everything up to its start. Answers the image's platform, where it is not
/// this machine's.
async fn prepare(
    session: &Session,
    request: &RunRequest,
    isolation: Isolation,
) -> Result<(LockedContainer, Option<Platform>)> {
    let options = &request.options;
    session.note_passing_store();
    let context = session.transport()?;
    context.store.make_if_writable()?;
    // A name that is taken is told before anything is pulled.
    let containers = Containers::open(context.store.root());
    let new = containers.reserve(request.name.as_deref())?;
    if !isolation.has_namespaces() {
        session.reporter.warn(format!(
            "sandbox {isolation}: the program has no processes, network or mounts of its own, and no \
             boundary keeps it in; gondola doctor says why"
        ));
    }
    let image = match &request.what {
        Runnable::Folder(folder) => {
            let made = folder_container(session, (new, isolation), folder, options)?;
            return Ok((made, None));
        }
        Runnable::Package { word, platform } => {
            build_and_find(session, word, platform.as_ref(), &context).await?
        }
        Runnable::Image { word, platform, pull } => {
            find(session, word, (platform.as_ref(), *pull), &context).await?
        }
    };
    let cores = session.environment.cores;
    let unpacker = Unpacker { context: context.clone(), isolation, cores };
    let rootfs = if image.pulled {
        let rootfs = unpacker.unpack_and_store(&image.image).await?;
        image.name_in_store(&context).await?;
        rootfs
    } else {
        unpacker.unpack(&image.image).await?
    };
    let platform = image.image.platform().clone();
    let foreign = (!platform.satisfies(&context.host)).then_some(platform);
    let made = image_container(session, (new, isolation), (&image, &rootfs), options)?;
    Ok((made, foreign))
}

/// An image to run.
struct FoundImage {
    image: Image,
    /// What tables call it.
    called: String,
    /// What it is called in the store, once it is there.
    reference: Option<Reference>,
    /// Whether it comes from a registry.
    pulled: bool,
}

impl FoundImage {
    fn new(artifact: &Artifact, called: &str) -> Result<Self> {
        match artifact.images()[..] {
            [image] => Ok(Self {
                image: image.clone(),
                called: called.to_owned(),
                reference: None,
                pulled: false,
            }),
            _ => {
                Err(Error::new(ErrorKind::Invalid, format!("run {called}"))
                    .because("it is no image"))
            }
        }
    }

    async fn name_in_store(&self, context: &Context) -> Result<()> {
        let artifact = Artifact::Image(self.image.clone());
        let references = self.reference.clone().into_iter().collect();
        transport::write(
            &Location::Store(None),
            &[TaggedArtifact { artifact, references }],
            context,
        )
        .await
    }
}

/// Which platform of an image is meant.
fn platforms(platform: Option<&Platform>, context: &Context) -> PlatformSet {
    PlatformSet::Listed(vec![platform.unwrap_or(&context.host).clone()])
}

/// Builds a package, and finds its image.
async fn build_and_find(
    session: &Session,
    word: &str,
    platform: Option<&Platform>,
    context: &Context,
) -> Result<FoundImage> {
    let built = build(session, word, platform).await?;
    let place = Location::Store(Some(built.clone()));
    let artifact = transport::read(&place, &platforms(platform, context), context).await?;
    FoundImage::new(&artifact, &built.without_digest().unwrap_or(built).familiar())
}

/// Finds an image: in the local store, in a registry, or wherever it was said to be.
async fn find(
    session: &Session,
    word: &str,
    (platform, pull): (Option<&Platform>, Pull),
    context: &Context,
) -> Result<FoundImage> {
    let platforms = platforms(platform, context);
    let place = word.parse::<Location>()?.in_folder(&session.environment.folder);
    let Location::Registry(reference) = place else {
        return FoundImage::new(&transport::read(&place, &platforms, context).await?, word);
    };
    // A store that cannot be read has nothing for us.
    let own = session.store_to_read().ok().flatten();
    let own = own.map(|store| Context { store, ..context.clone() });
    let own = own.as_ref().unwrap_or(context);
    let local = match pull {
        Pull::Always => None,
        Pull::Missing if Location::names_registry(word) => None,
        Pull::Missing | Pull::Never => match find_in_store(&own.store, word) {
            Ok(_) => Some(Location::Store(Some(reference.clone()))),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(error) if pull == Pull::Never => {
                return Err(error).cannot(|| format!("run {word} without pulling it"));
            }
            Err(_) => None,
        },
    };
    if let Some(place) = local {
        match transport::read(&place, &platforms, own).await {
            // The store may have it for another platform alone.
            Err(error) if error.kind() == ErrorKind::NotFound && pull == Pull::Missing => {}
            found => return FoundImage::new(&found?, word),
        }
    }
    let artifact =
        transport::read(&Location::Registry(reference.clone()), &platforms, context).await?;
    let found = FoundImage::new(&artifact, word)?;
    Ok(FoundImage { reference: Some(reference), pulled: true, ..found })
}

/// Builds one package as `gondola build` does, and answers the image's name in the store.
async fn build(session: &Session, package: &str, platform: Option<&Platform>) -> Result<Reference> {
    let request = gondola::package(package, platform, &session.environment)?;
    let built = pipeline::build(&session.build_context()?, request, None).await?;
    match &built[..] {
        [one] => Ok(one.pinned.clone()),
        several => Err(Error::new(ErrorKind::Usage, format!("run {package}"))
            .because(format!("it stands for {} programs", several.len()))
            .hint("name one of them")),
    }
}

/// A container of an unpacked image.
fn image_container(
    session: &Session,
    (new, isolation): (NewContainer, Isolation),
    (found, rootfs): (&FoundImage, &Rootfs),
    options: &Options,
) -> Result<LockedContainer> {
    let plan = Plan::make(&found.image.config.value().config, options)?;
    plan.warnings.iter().for_each(|warning| session.reporter.warn(warning));
    let mut root = rootfs.fork()?.move_to(&new.make_folder("root")?)?;
    if options.remove {
        root = root.volatile();
    }
    let layers = rootfs.kept_folders();
    if matches!(root, Root::Overlay { .. }) {
        session.store()?.keep_for_container(new.folder(), &layers)?;
    }
    let origin = Origin {
        image: found.called.clone(),
        digest: Some(found.image.manifest.descriptor().digest.clone()),
        root,
        isolation,
        now: environment::clock(),
    };
    let copy_up = |path: &str, target: &Path| rootfs.copy_out(path, target);
    new.make(origin, &plan, options, &copy_up)
}

/// A container in a folder that somebody unpacked.
fn folder_container(
    session: &Session,
    (new, isolation): (NewContainer, Isolation),
    folder: &Path,
    options: &Options,
) -> Result<LockedContainer> {
    if !folder.is_dir() {
        return Err(Error::new(ErrorKind::NotFound, format!("run in {}", folder.display()))
            .because("there is no such folder"));
    }
    let plan = Plan::make(&ContainerConfig::default(), options)?;
    plan.warnings.iter().for_each(|warning| session.reporter.warn(warning));
    let origin = Origin {
        image: folder.display().to_string(),
        digest: None,
        root: Root::Folder(folder.to_owned()),
        isolation,
        now: environment::clock(),
    };
    new.make(origin, &plan, options, &|_, _| Ok(false))
}
