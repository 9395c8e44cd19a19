//! `gondola build`: what may be typed, what each flag does for each front end, and the request that it
//! comes to.
//!
//! Which front end is meant is decided in [`front_end`].

mod dockerfile;
mod front_end;
mod overlooked;
mod packages;
mod settings_file;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, Args, ValueHint};

use crate::cli::dialect::input;
use crate::cli::environment::Environment;
use crate::cli::flags::platform;
use crate::cli::flags::rows::FLAGS;
use crate::cli::flags::table::{self, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::sandbox::SandboxArgs;
use crate::cli::session::Session;
use crate::error::Result;
use crate::golang::ModuleMode;
use crate::literal;
use crate::oci::{Platform, PlatformSet};
use crate::pipeline::{Caches, Outputs, Request, Source};
use crate::sandbox::{IsolationRequest, Limit};
use crate::transport::Location;

pub use front_end::{Choice, choose};

/// Arguments of `gondola build`.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct BuildArgs {
    /// Folder with a Dockerfile, or another context; or Go packages (folders, import paths, patterns such
    /// as ./cmd/...). Without one: the Go package here, else the Dockerfile here
    #[arg(value_name = "CONTEXT|PACKAGE", value_hint = ValueHint::DirPath)]
    pub packages: Vec<String>,
    /// Build the Go package of a folder that also has a Dockerfile
    #[arg(long)]
    pub package: bool,
    /// Put this package's binary into one image with those of the other --bin; repeatable
    #[arg(long, value_name = "PACKAGE", conflicts_with = "packages")]
    pub bin: Vec<String>,
    /// Put all packages' binaries into one image; the first is the entrypoint
    #[arg(long)]
    pub one_image: bool,
    /// Binary to use instead of compiling; repeatable, one per platform
    #[arg(long, value_name = "[PLATFORM=]FILE", conflicts_with = "packages")]
    pub prebuilt: Vec<String>,
    /// Read settings from this file instead of gondola.yaml
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Use no results of earlier builds
    #[arg(long)]
    pub no_cache: bool,
    /// Share caches with builds that give the same name, not with those of the same CI ref or folder
    #[arg(long, value_name = "NAME")]
    pub cache_scope: Option<String>,
    /// For untrusted code: share no caches with other builds, except what is found by its content
    #[arg(long)]
    pub no_shared_caches: bool,
    /// Look up the tags of base images again, also those in gondola.lock
    #[arg(long)]
    pub pull: bool,
    #[command(flatten)]
    pub result: ResultArgs,
    #[command(flatten)]
    pub go: GoArgs,
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    pub dockerfile: DockerfileArgs,
}

/// Where images go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Result")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ResultArgs {
    /// Name the image; {name} stands for its short name; repeatable
    #[arg(short, long, value_name = "NAME")]
    pub tag: Vec<String>,
    /// Push to each name's registry
    #[arg(long)]
    pub push: bool,
    /// Write oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:TAG], or load into docker: or podman:; repeatable
    #[arg(short, long, value_name = "KIND:PATH")]
    pub output: Vec<Location>,
    /// Platforms such as linux/amd64,linux/arm64, or "all" for those that the base offers
    #[arg(long, value_name = "LIST")]
    pub platform: Vec<PlatformSet>,
    /// Write the images' digests to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub iidfile: Option<PathBuf>,
    /// Write a JSON description of the images to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metadata_file: Option<PathBuf>,
    /// Write the pinned references to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub image_refs: Option<PathBuf>,
    /// Write an HTML page that shows what ran when
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    pub timings: Option<PathBuf>,
    /// Say where each step, package and base came from, and why it was made again
    #[arg(long)]
    pub explain: bool,
    /// Say what would be done, and why, and do nothing: no step runs, nothing is compiled or written
    #[arg(long)]
    pub dry_run: bool,
    /// Write the plan of --dry-run as JSON
    #[arg(long)]
    pub json: bool,
}

/// How packages are compiled.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Go")]
pub struct GoArgs {
    /// Go to compile with: host, auto, a golang image, oci:DIR, or a program such as ./go/bin/go
    #[arg(long = "go", id = "go", value_name = "HOW", value_hint = ValueHint::ExecutablePath)]
    pub toolchain: Option<String>,
    /// Comma-separated build tags
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub build_tags: Vec<String>,
    /// Flags for the linker; repeatable
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub ldflags: Vec<String>,
    /// Flags for the compiler; repeatable
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub gcflags: Vec<String>,
    /// Flags for the assembler; repeatable
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub asmflags: Vec<String>,
    /// Module mode
    #[arg(long = "mod", id = "mod", value_name = "MODE", value_parser = module_mode())]
    pub mod_mode: Option<ModuleMode>,
    /// Any other flag for go build; repeatable
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub go_flag: Vec<String>,
    /// Set a variable for go build; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub go_env: Vec<String>,
    /// Build with cgo, which needs a C compiler for each platform
    #[arg(long)]
    pub cgo: bool,
    /// Stamp the binary with the commit; every commit then changes it
    #[arg(long)]
    pub vcs_stamp: bool,
}

/// What the image holds, and how it runs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Image")]
pub struct ImageArgs {
    /// Base image: static (built in), scratch, a name, oci:DIR, oci-archive:FILE, …
    #[arg(long, value_name = "IMAGE")]
    pub base: Option<String>,
    /// Put a file or folder into the image; repeatable
    #[arg(long, value_name = "SRC:DST[:MODE]")]
    pub add: Vec<String>,
    /// Entrypoint instead of the binary: a word, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Default arguments: a word, or a JSON array
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub cmd: Option<String>,
    /// Set a variable; repeatable
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User that runs the program
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working folder of the program
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Declare a port, PORT[/udp]; repeatable
    #[arg(short, long, value_name = "PORT")]
    pub port: Vec<String>,
    /// Declare a volume; repeatable
    #[arg(long, value_name = "DIR")]
    pub volume: Vec<String>,
    /// Add a label to the configuration; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// Add an annotation to manifests and index, or remove one with an empty value; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Name the commit in the annotation org.opencontainers.image.revision; every commit then changes the digest
    #[arg(long)]
    pub revision: bool,
    /// Signal that stops the program
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Compression of new layers: gzip[:1-9], zstd[:1-19] or none
    #[arg(long, value_name = "HOW")]
    pub compression: Option<String>,
    /// Write gzip layers as one member, for old readers; this is slower
    #[arg(long)]
    pub gzip_single_member: bool,
}

/// How a Dockerfile is built.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Dockerfile", args = limits())]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct DockerfileArgs {
    /// Build this Dockerfile; the folder given, or the current one, is its context
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set an ARG; without a value, it is the environment's; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Give a secret to steps that mount it, id=NAME,src=FILE or id=NAME,env=VARIABLE; repeatable
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// Give the SSH agent to steps that mount it: default, or NAME=SOCKET; repeatable
    #[arg(long, value_name = "AGENT")]
    pub ssh: Vec<String>,
    /// Use no results of earlier builds for this stage; repeatable
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Share results of steps through this repository of a registry
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_repo: Option<String>,
    /// Network of steps: host (default), none, or private, which reaches the internet but not this machine
    /// (needs pasta or slirp4netns)
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Add a line to the steps' /etc/hosts; repeatable
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Replace a name in FROM and --from by a folder, docker-image://IMAGE, oci-layout://DIR, a repository or the address of an archive; repeatable
    #[arg(long, value_name = "NAME=PLACE")]
    pub build_context: Vec<String>,
    /// Limit each process of a step, such as nofile=1024:4096; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<Limit>,
    /// Size of the steps' /dev/shm, such as 128m
    #[arg(long, value_name = "SIZE", value_parser = literal::size)]
    pub shm_size: Option<u64>,
    /// What docker's first builder was told about its containers
    #[arg(long, hide = true)]
    pub rm: bool,
    /// The same after a failure
    #[arg(long, hide = true)]
    pub force_rm: bool,
    /// Compress the context on its way to the daemon
    #[arg(long, hide = true)]
    pub compress: bool,
    /// Whether attestations say how the image was built
    #[arg(long, hide = true, value_name = "false", value_parser = no_attestations)]
    pub provenance: Option<String>,
    /// Whether attestations say what is in the image
    #[arg(long, hide = true, value_name = "false", value_parser = no_attestations)]
    pub sbom: Option<String>,
    /// Check the Dockerfile, and build nothing
    #[arg(long)]
    pub check: bool,
    /// Mount no Go caches into steps that run Go
    #[arg(long)]
    pub no_go_cache: bool,
    /// Open a shell where a step failed
    #[arg(long)]
    pub shell_on_failure: bool,
}

fn module_mode() -> impl TypedValueParser<Value = ModuleMode> {
    PossibleValuesParser::new(["mod", "readonly", "vendor"]).map(|mode| match mode.as_str() {
        "mod" => ModuleMode::Mod,
        "readonly" => ModuleMode::Readonly,
        _ => ModuleMode::Vendor,
    })
}

/// Limits of docker's on its builders' containers.
const LIMITS: [(&str, Option<char>); 10] = [
    ("memory", Some('m')),
    ("memory-swap", None),
    ("cpu-shares", Some('c')),
    ("cpu-period", None),
    ("cpu-quota", None),
    ("cpuset-cpus", None),
    ("cpuset-mems", None),
    ("cgroup-parent", None),
    ("isolation", None),
    ("security-opt", None),
];

fn limits() -> impl Iterator<Item = Arg> {
    LIMITS.into_iter().map(|(name, short)| {
        Arg::new(name).long(name).short(short).hide(true).action(ArgAction::Append)
    })
}

/// Reads what asks for no attestations.
fn no_attestations(text: &str) -> Result<String, &'static str> {
    match literal::boolean(text) {
        Ok(false) => Ok(text.to_owned()),
        _ => Err("no attestations are made, expected false"),
    }
}

/// The front ends of builds.
pub const FRONT_ENDS: [FrontEnd; 3] =
    [FrontEnd::Packages, FrontEnd::Prebuilt, FrontEnd::Dockerfile];

/// What a command line asks for.
#[derive(Debug)]
pub struct Asked {
    /// The build.
    pub request: Request,
    /// Which front end makes it.
    pub choice: Choice,
    /// What is said about flags that change nothing.
    pub notes: Vec<String>,
}

/// What is said of `--explain` where nothing is compiled, and no base looked up.
const NOTHING_TO_EXPLAIN: &str = "--explain is accepted and has no effect: the programs are built already, and \
                                  their base is here";

/// The front end that a command line means; errs where its flags do not go with that.
pub fn chosen(build: &Noted<BuildArgs>, folder: &Path) -> Result<FrontEnd> {
    let front_end = choose(build, folder)?.front_end;
    table::check(&FLAGS, &build.typed, front_end).map(|_| front_end)
}

/// What a command line asks for.
pub fn read(session: &Session, build: &Noted<BuildArgs>) -> Result<Asked> {
    let environment = &session.environment;
    refuse_offline(session, &build.args)?;
    let choice = choose(build, &environment.folder)?;
    let front_end = choice.front_end;
    let mut notes = table::check(&FLAGS, &build.typed, front_end)?;
    let args = &build.args;
    let source = match front_end {
        FrontEnd::Dockerfile => Source::Dockerfile(Box::new(dockerfile::source(session, args)?)),
        FrontEnd::Prebuilt => {
            let programs = packages::programs(args, environment)?;
            if args.result.explain && !packages::asks_for_a_base(&programs) {
                notes.push(NOTHING_TO_EXPLAIN.to_owned());
            }
            Source::Prebuilt(programs)
        }
        _ => {
            let programs = packages::programs(args, environment)?;
            notes.extend(overlooked::notes(args, environment, &programs));
            Source::GoPackages(programs)
        }
    };
    Ok(Asked { request: request(args, source, environment)?, choice, notes })
}

fn refuse_offline(session: &Session, args: &BuildArgs) -> Result<()> {
    let to_registry = args.result.output.iter().any(|to| matches!(to, Location::Registry(_)));
    let asked = [("--push", args.result.push || to_registry), ("--pull", args.pull)];
    input::refuse_offline(session, &asked, "leave one of the two out")
}

/// A build of one Go package, as `gondola run` asks for.
pub fn package(
    package: &str,
    platform: Option<&Platform>,
    environment: &Environment,
) -> Result<Request> {
    let platform = platform.map(|platform| PlatformSet::Listed(vec![platform.clone()]));
    let result = ResultArgs { platform: platform.into_iter().collect(), ..ResultArgs::default() };
    let packages = vec![package.to_owned()];
    let args = BuildArgs { packages, result, ..BuildArgs::default() };
    let source = Source::GoPackages(packages::programs(&args, environment)?);
    request(&args, source, environment)
}

/// What all front ends are asked for in the same way.
fn request(args: &BuildArgs, source: Source, environment: &Environment) -> Result<Request> {
    let folder = &environment.folder;
    let in_folder = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
    let result = &args.result;
    // What is built already takes nothing of what builds share, and executes nothing.
    let (caches, isolation) = match source {
        Source::Prebuilt(_) => (
            Caches {
                off: args.no_cache,
                off_by: None,
                longest_age: None,
                pull: false,
                explain: result.explain,
                scope: None,
                are_shared: true,
            },
            IsolationRequest::default(),
        ),
        _ => (caches(args, environment)?, args.sandbox.request()?),
    };
    Ok(Request {
        source,
        caches,
        isolation,
        outputs: Outputs {
            push: result.push,
            places: result.output.iter().map(|place| place.clone().in_folder(folder)).collect(),
            iidfile: in_folder(&result.iidfile),
            metadata_file: in_folder(&result.metadata_file),
            image_refs: in_folder(&result.image_refs),
            ..Outputs::default()
        },
    })
}

/// What is used of earlier builds.
fn caches(args: &BuildArgs, environment: &Environment) -> Result<Caches> {
    let are_shared = !args.no_shared_caches;
    Ok(Caches {
        explain: args.result.explain,
        off: args.no_cache,
        off_by: None,
        longest_age: None,
        pull: args.pull,
        scope: input::cache_scope(environment, args.cache_scope.as_deref(), are_shared)?,
        are_shared,
    })
}
