//! `gondola run`.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::dialect::gondola;
use crate::cli::environment::{self, Environment};
use crate::cli::flags::table::{self, Effect, Flag, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::flags::{self, pair};
use crate::cli::id_range::{Need, of_root};
use crate::cli::passing_store::WithoutStore;
use crate::cli::process::ProcessArgs;
use crate::cli::proxies;
use crate::cli::sandbox::SandboxArgs;
use crate::cli::session::{Session, print_lines, until_interrupted};
use crate::container::{
    Attachment, Containers, LockedContainer, NewContainer, Options, Origin, Plan, Publish,
    StopSignal, Supervisor, Volume, start_detached,
};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Artifact, Image, TaggedArtifact};
use crate::literal;
use crate::oci::{ContainerConfig, Platform, PlatformSet, Reference};
use crate::pipeline;
use crate::rootfs::{Rootfs, Unpacker};
use crate::sandbox::{Exit, Isolation, Limit, Root};
use crate::transport::{self, Context, Location, find_in_store};

/// Arguments of `gondola run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to run, and its arguments: the name of an image, oci:DIR, docker-archive:FILE, or a Go
    /// package that is built first: a path that begins with "." or "/", such as . or ./cmd/app
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE|PACKAGE", "ARG"])]
    words: Vec<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Remove the container once it has ended
    #[arg(long)]
    rm: bool,
    /// Add a label to the container; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// When to pull the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// The platform, where the image has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Run in a folder with a root file system instead of an image
    #[arg(long)]
    rootfs: bool,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What is run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Program")]
struct ProgramArgs {
    /// Program to run instead of the image's; "" clears the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
    /// Signal that stops the program
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<StopSignal>,
    /// Has no effect: every container has an init process
    #[arg(long)]
    init: bool,
    /// Seconds from the stop signal to the kill; -1 for never
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

/// What it sees of files.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Mount a file or folder of the host, or a folder of the container's own; repeatable
    #[arg(short, long, value_name = "[HOST:]CONTAINER[:ro]")]
    volume: Vec<Volume>,
    /// Mount type=bind,source=…,target=…[,readonly], type=tmpfs,target=… or type=volume,target=…; repeatable
    #[arg(long, value_name = "FIELDS", value_parser = Volume::mount)]
    mount: Vec<Volume>,
    /// Mount an empty file system in memory; repeatable
    #[arg(long, value_name = "PATH[:size=…,mode=…]", value_parser = Volume::tmpfs)]
    tmpfs: Vec<Volume>,
    /// The size of /dev/shm, such as 128m
    #[arg(long, value_name = "SIZE", value_parser = literal::size)]
    shm_size: Option<u64>,
    /// Forbid writing to the root file system
    #[arg(long)]
    read_only: bool,
}

/// What it sees of the network.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
    /// The network: host, none, or private, which leads out past this machine (needs pasta or
    /// slirp4netns). Without it, or with default: host, and where ports are published one of which they
    /// are the only way in and out
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Publish a TCP port of the container; repeatable
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER")]
    publish: Vec<Publish>,
    /// Publish every port that the image exposes, on free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// The host name; else the container's short id
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Add a line to /etc/hosts; repeatable
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Use this name server instead of the host's; repeatable
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
}

/// How far it is let.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Isolation")]
struct LimitArgs {
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Kill the container after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Largest number of processes and threads
    #[arg(long, value_name = "N")]
    pids_limit: Option<u64>,
    /// Limit each process, such as nofile=1024:4096; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Limit>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    /// When the local store has none of that name.
    Missing,
    /// Every time.
    Always,
    /// Not at all.
    Never,
}

impl Runs for Noted<RunArgs> {
    fn need(&self, _: &GlobalArgs, _: &Environment) -> Result<Need> {
        let needs = match self.args.network.network.as_deref() {
            Some("private") => of_root().with_own_network(),
            _ => of_root(),
        };
        Ok(Need::Isolation(self.args.limits.sandbox.request(), needs))
    }

    fn without_store(&self) -> WithoutStore {
        if self.args.detach {
            WithoutStore::Refused("what runs in the background needs a store that stays")
        } else {
            WithoutStore::Passes
        }
    }

    fn run(self: Box<Self>, session: &Session, isolation: Option<Isolation>) -> Result<ExitCode> {
        let notes = table::check(&FLAGS, &self.typed, self.args.front_end())?;
        for note in notes {
            session.reporter.warn(note);
        }
        let isolation = isolation.expect("chosen before anything else");
        session.finish(run(session, self.args, isolation))
    }
}

/// What a flag does that an image alone has.
const NOT_PULLED: Effect =
    Effect::Refused("a Go package is built, and nothing is pulled", "leave the flag out");
const FOLDER: Effect =
    Effect::Refused("a folder is run as it is", "leave the flag out, or name an image");

const fn all(name: &'static str) -> Flag {
    Flag::new(name, Effect::Applies)
}

/// What each flag does, for images, packages and folders.
pub(super) static FLAGS: [Flag; 34] = [
    all("words"),
    all("detach"),
    all("name"),
    all("rm"),
    all("label"),
    all("pull").on(FrontEnd::Packages, NOT_PULLED).on(FrontEnd::Folder, FOLDER),
    all("platform").on(FrontEnd::Folder, FOLDER),
    all("rootfs"),
    all("entrypoint"),
    all("interactive"),
    all("tty"),
    all("env"),
    all("env-file"),
    all("workdir"),
    all("user"),
    all("stop-signal"),
    // Every container has a first process that reaps the others.
    Flag::new("init", Effect::Fulfilled),
    all("stop-timeout"),
    all("volume"),
    all("mount"),
    all("tmpfs"),
    all("shm-size"),
    all("read-only"),
    all("network"),
    all("publish"),
    all("publish-all"),
    all("hostname"),
    all("add-host"),
    all("dns"),
    all("sandbox"),
    all("sandbox-min"),
    all("timeout"),
    all("pids-limit"),
    all("ulimit"),
];

impl RunArgs {
    /// What is run.
    fn front_end(&self) -> FrontEnd {
        match self.words.first() {
            _ if self.rootfs => FrontEnd::Folder,
            Some(word) if is_package(word) => FrontEnd::Packages,
            _ => FrontEnd::Image,
        }
    }
}

/// Runs a container on an isolation; answers the program's exit code.
async fn run(session: &Session, args: RunArgs, isolation: Isolation) -> Result<ExitCode> {
    if !args.detach {
        args.program.process.check_terminal(session);
    }
    let (locked, foreign) =
        until_interrupted(session, Box::pin(prepare(session, &args, isolation))).await?;
    session.view.close();
    let name = locked.container().name().to_owned();
    let exit = if args.detach {
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
    args: &RunArgs,
    isolation: Isolation,
) -> Result<(LockedContainer, Option<Platform>)> {
    let options = options(args, session)?;
    session.note_passing_store();
    let context = session.transport()?;
    // A name that is taken is told before anything is pulled.
    let containers = Containers::open(context.store.root());
    let new = containers.reserve(args.name.as_deref())?;
    if !isolation.has_namespaces() {
        session.reporter.warn(format!(
            "sandbox {isolation}: the program has no processes, network or mounts of its own, and no \
             boundary keeps it in; gondola doctor says why"
        ));
    }
    if args.rootfs {
        let folder = session.environment.resolve(&args.words[0]);
        let made = folder_container(session, (new, isolation), &folder, &options)?;
        return Ok((made, None));
    }
    let image = find(session, args, &context).await?;
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
    let made = image_container(session, (new, isolation), (&image, &rootfs), &options)?;
    Ok((made, foreign))
}

/// An image to run.
struct Found {
    image: Image,
    /// What tables call it.
    called: String,
    /// What it is called in the store, once it is there.
    reference: Option<Reference>,
    /// Whether it comes from a registry.
    pulled: bool,
}

impl Found {
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

/// Whether a word means a Go package: a path, as Go's own tools tell them from other names.
fn is_package(word: &str) -> bool {
    matches!(word, "." | "..") || ["./", "../", "/"].iter().any(|start| word.starts_with(start))
}

/// Finds the image: built of a package, in the local store, in a registry, or wherever it was said
/// to be.
async fn find(session: &Session, args: &RunArgs, context: &Context) -> Result<Found> {
    let word = args.words[0].as_str();
    let platform = args.platform.clone().unwrap_or_else(|| context.host.clone());
    let platforms = PlatformSet::Listed(vec![platform]);
    if is_package(word) {
        let built = build(session, word, args.platform.as_ref()).await?;
        let artifact =
            transport::read(&Location::Store(Some(built.clone())), &platforms, context).await?;
        let name = built.without_digest().unwrap_or(built).familiar();
        return Found::new(&artifact, &name);
    }
    let place = word.parse::<Location>()?.in_folder(&session.environment.folder);
    let Location::Registry(reference) = place else {
        return Found::new(&transport::read(&place, &platforms, context).await?, word);
    };
    // A store that cannot be read has nothing for us.
    let own = session.store_to_read().ok().flatten();
    let own = own.map(|store| Context { store, ..context.clone() });
    let own = own.as_ref().unwrap_or(context);
    let local = match args.pull {
        Pull::Always => None,
        Pull::Missing | Pull::Never => match find_in_store(&own.store, word) {
            Ok(_) => Some(Location::Store(Some(reference.clone()))),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(error) if args.pull == Pull::Never => {
                return Err(error).cannot(|| format!("run {word} without pulling it"));
            }
            Err(_) => None,
        },
    };
    if let Some(place) = local {
        match transport::read(&place, &platforms, own).await {
            // The store may have it for another platform alone.
            Err(error) if error.kind() == ErrorKind::NotFound && args.pull == Pull::Missing => {}
            found => return Found::new(&found?, word),
        }
    }
    let artifact =
        transport::read(&Location::Registry(reference.clone()), &platforms, context).await?;
    let found = Found::new(&artifact, word)?;
    Ok(Found { reference: Some(reference), pulled: true, ..found })
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
    (found, rootfs): (&Found, &Rootfs),
    options: &Options,
) -> Result<LockedContainer> {
    let plan = Plan::make(&found.image.config.value().config, options)?;
    plan.warnings.iter().for_each(|warning| session.reporter.warn(warning));
    let mut root = rootfs.fork()?.settle(&new.make_folder("root")?)?;
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

fn options(args: &RunArgs, session: &Session) -> Result<Options> {
    let environment = &session.environment;
    let (program, files, network) = (&args.program, &args.files, &args.network);
    let process = &program.process;
    let mut env = process.variables(environment)?;
    env.extend(proxies::for_container(session, &env));
    let volumes = files.volume.iter().chain(&files.mount).chain(&files.tmpfs);
    let choice = network.network.as_deref().filter(|word| *word != "default");
    let stop_timeout = program.stop_timeout.map(|seconds| u64::try_from(seconds).ok());
    Ok(Options {
        arguments: args.words[1..].to_vec(),
        entrypoint: program.entrypoint.clone(),
        env,
        workdir: process.workdir.clone(),
        user: process.user.clone(),
        hostname: network.hostname.clone(),
        hosts: network
            .add_host
            .iter()
            .map(|text| flags::host::parse(text))
            .collect::<Result<_>>()?,
        network: choice.map(str::parse).transpose()?,
        ports: network.publish.clone(),
        publish_all: network.publish_all,
        volumes: volumes.map(|volume| volume.clone().in_folder(&environment.folder)).collect(),
        read_only: files.read_only,
        stop_signal: program.stop_signal,
        stop_timeout: stop_timeout.map(|seconds| seconds.map(Duration::from_secs)),
        timeout: args.limits.timeout.map(Duration::from_secs),
        processes: args.limits.pids_limit,
        limits: args.limits.ulimit.clone(),
        shared_memory_bytes: files.shm_size,
        name_servers: network.dns.clone(),
        labels: pair::labels("--label", &args.label)?,
        input: process.interactive,
        terminal: process.tty,
        remove: args.rm,
    })
}
