//! `gondola build` of a Dockerfile: what was typed, and what it means.
//!
//! Which of the two front ends is meant is decided like this. `-f`, a flag that only Dockerfiles
//! know, standard input, a repository or an address as the context: a Dockerfile. Else a folder that has a
//! Dockerfile and no Go program of its own: the Dockerfile in it. Else Go packages.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, ValueHint};

use super::commands::build::BuildArgs;
use super::environment::parse_epoch;
use super::flags::{self, context, pair};
use super::id_range::of_root;
use super::proxies;
use super::sandbox::{self, SandboxArgs};
use super::session::Session;
use crate::dockerfile::build::{
    CachePolicy, CacheRepository, ContextSource, FileSource, Job, StatedPlatform,
};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::golang;
use crate::literal;
use crate::pipeline::DockerfileRequest;
use crate::sandbox::{Chooser, Limit, Network, Rung};
use crate::secret;

/// Names of Dockerfiles that are found without being named.
const USUAL_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];
/// What may be in front of an archive's or a Dockerfile's bytes on standard input at most.
const LONGEST_INPUT: u64 = 16 << 30;
/// Flags of docker's, besides `--memory`, for limits that there are no control groups for.
const WITHOUT_EFFECT: [&str; 9] = [
    "memory-swap",
    "cpu-shares",
    "cpu-period",
    "cpu-quota",
    "cpuset-cpus",
    "cpuset-mems",
    "cgroup-parent",
    "isolation",
    "security-opt",
];

/// How a Dockerfile is built.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Dockerfile")]
pub struct DockerfileArgs {
    /// Build this Dockerfile; the folder given, or the current one, is its context
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Give an ARG a value; without one, the variable's of the environment; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Give a secret to steps that mount it, id=NAME,src=FILE or id=NAME,env=VARIABLE; repeatable
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// Give the SSH agent to steps that mount it: default, or NAME=SOCKET; repeatable
    #[arg(long, value_name = "AGENT")]
    pub ssh: Vec<String>,
    /// Execute the steps of this stage, whatever earlier builds left behind; repeatable
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Look results of steps up in this repository of a registry, and put there what was executed
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_repo: Option<String>,
    /// The network of steps: host, none, or private, which leads out past this machine (needs pasta or
    /// slirp4netns). Without it, or with default: host
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Add a line to the steps' /etc/hosts; repeatable
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Give a name in FROM and --from another meaning: a folder, docker-image://IMAGE, oci-layout://DIR, a repository, an archive's address; repeatable
    #[arg(long, value_name = "NAME=PLACE")]
    pub build_context: Vec<String>,
    /// Limit what each process of a step may have, such as nofile=1024:4096; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<Limit>,
    /// The size of the steps' /dev/shm, such as 128m
    #[arg(long, value_name = "SIZE", value_parser = literal::size)]
    pub shm_size: Option<u64>,
    /// Limits of docker's that BuildKit passes over, too
    #[arg(long = "memory", hide = true, aliases = WITHOUT_EFFECT)]
    pub without_effect: Vec<String>,
    /// What docker's first builder was told about its containers
    #[arg(long = "rm", hide = true, aliases = ["force-rm", "compress"], action = ArgAction::Count)]
    pub containers: u8,
    /// Look for problems of the Dockerfile, and build nothing
    #[arg(long)]
    pub check: bool,
    /// Give steps that run Go no caches that they did not ask for
    #[arg(long)]
    pub no_go_cache: bool,
    /// Open a shell where a step failed
    #[arg(long)]
    pub shell_on_failure: bool,
}

impl DockerfileArgs {
    /// Whether something was typed that only Dockerfiles know.
    fn is_typed(&self) -> bool {
        let lists = [
            &self.build_arg,
            &self.secret,
            &self.ssh,
            &self.no_cache_filter,
            &self.add_host,
            &self.build_context,
        ];
        self.file.is_some()
            || self.target.is_some()
            || self.cache_repo.is_some()
            || self.network.is_some()
            || self.check
            || self.no_go_cache
            || self.shell_on_failure
            || self.shm_size.is_some()
            || !self.ulimit.is_empty()
            || lists.into_iter().any(|list| !list.is_empty())
    }
}

/// Says whether a Dockerfile is to be built.
pub(super) fn is_meant(args: &BuildArgs, folder: &Path) -> bool {
    if args.dockerfile.is_typed() {
        return true;
    }
    let names_go = args.go.toolchain.is_some() || args.config.is_some();
    if names_go || !args.bin.is_empty() || !args.prebuilt.is_empty() {
        return false;
    }
    let context = match args.packages.as_slice() {
        [] => ".",
        [only] => only.as_str(),
        _ => return false,
    };
    if context::is_remote(context) {
        return true;
    }
    let context = folder.join(context);
    let has_file = USUAL_NAMES.iter().any(|name| context.join(name).is_file());
    has_file && !context.join("gondola.yaml").exists() && !golang::has_program(&context)
}

/// What a build of a Dockerfile is asked for.
pub(super) fn request(session: &Session, args: &BuildArgs) -> Result<DockerfileRequest> {
    refuse_go(args)?;
    let environment = &session.environment;
    let own = &args.dockerfile;
    if !own.without_effect.is_empty() {
        let what = "--memory, --cpu-shares, --cgroup-parent and the like have no effect";
        session.reporter.warn(format!("{what}: steps are in no control group of their own"));
    }
    let (context, file) = context_and_file(session, args)?;
    let name = match &context {
        ContextSource::Folder(folder) => {
            let whole = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            whole.file_name().map(|name| name.to_string_lossy().into_owned())
        }
        ContextSource::Git(git) => {
            let path = git.remote.trim_end_matches('/').trim_end_matches(".git");
            path.rsplit(['/', ':']).next().map(str::to_owned)
        }
        ContextSource::Archive { .. } | ContextSource::Address(_) | ContextSource::Empty => None,
    };
    let named = own.build_context.iter().map(|text| context::named(text, &environment.folder));
    let arguments = arguments(session, &own.build_arg)?;
    let now = environment.now.duration_since(std::time::UNIX_EPOCH);
    let job = Job {
        file,
        context,
        contexts: named.collect::<Result<_>>()?,
        target: own.target.clone(),
        epoch: epoch(&arguments)?,
        arguments,
        secrets: own
            .secret
            .iter()
            .map(|text| flags::secret::parse(environment, text))
            .collect::<Result<_>>()?,
        agents: own
            .ssh
            .iter()
            .map(|text| flags::ssh::parse(environment, text))
            .collect::<Result<_>>()?,
        labels: pair::labels("--label", &args.image.label)?,
        annotations: pair::with_values("--annotation", &args.image.annotation)?,
        hosts: own.add_host.iter().map(|text| flags::host::parse(text)).collect::<Result<_>>()?,
        network: network(own.network.as_deref())?,
        limits: own.ulimit.clone(),
        // As for docker, none is the usual size.
        shared_memory_bytes: own.shm_size.filter(|bytes| *bytes > 0),
        cache: CachePolicy {
            off: args.no_cache,
            off_in: own.no_cache_filter.iter().map(|name| name.to_lowercase()).collect(),
            pull: args.pull,
            repository: own.cache_repo.as_deref().map(cache_repository).transpose()?,
        },
        go_cache: !own.no_go_cache,
        scope: environment.cache_scope(args.cache_scope.as_deref())?,
        shares_caches: !args.no_shared_caches,
        now: now.ok().and_then(|time| i64::try_from(time.as_secs()).ok()).unwrap_or_default(),
        encoding: super::settings::typed_encoding(&args.image)?,
        family: None,
        is_kept_here: !args.result.push || !args.result.output.is_empty(),
        stated: StatedPlatform::of(args.result.platform.as_ref()),
        shell_on_failure: own.shell_on_failure,
        explain: args.result.explain,
    };
    Ok(DockerfileRequest {
        job,
        platforms: args.result.platform.clone(),
        name: golang::image_name(name.as_deref().unwrap_or("app")),
        tags: args.result.tag.clone(),
    })
}

/// Refuses flags that say how Go packages become images.
fn refuse_go(args: &BuildArgs) -> Result<()> {
    let image = &args.image;
    let typed = [
        ("--bin", !args.bin.is_empty()),
        ("--one-image", args.one_image),
        ("--prebuilt", !args.prebuilt.is_empty()),
        ("--base", image.base.is_some()),
        ("--add", !image.add.is_empty()),
        ("--entrypoint", image.entrypoint.is_some()),
        ("--cmd", image.cmd.is_some()),
        ("--env", !image.env.is_empty()),
        ("--user", image.user.is_some()),
        ("--workdir", image.workdir.is_some()),
        ("--port", !image.port.is_empty()),
        ("--volume", !image.volume.is_empty()),
        ("--stop-signal", image.stop_signal.is_some()),
        ("--go", args.go.toolchain.is_some()),
        ("--build-tags", !args.go.build_tags.is_empty()),
        ("--ldflags", args.go.ldflags.is_some()),
        ("--gcflags", args.go.gcflags.is_some()),
        ("--asmflags", args.go.asmflags.is_some()),
        ("--mod", args.go.mod_mode.is_some()),
        ("--go-flag", !args.go.go_flag.is_empty()),
        ("--go-env", !args.go.go_env.is_empty()),
        ("--cgo", args.go.cgo),
        ("--vcs-stamp", args.go.vcs_stamp),
    ];
    match typed.into_iter().find(|(_, typed)| *typed) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::new(ErrorKind::Usage, format!("use {flag}"))
            .because("a Dockerfile is built, which says this itself")
            .hint("leave the flag out, or name a Go package and no Dockerfile")),
    }
}

fn context_and_file(session: &Session, args: &BuildArgs) -> Result<(ContextSource, FileSource)> {
    let folder = &session.environment.folder;
    let context = match args.packages.as_slice() {
        [] => ".",
        [only] => only.as_str(),
        [_, other, ..] => {
            let other = match other.split_once('=') {
                Some(_) => secret::pair(other),
                None => secret::addresses(other),
            };
            return Err(Error::new(ErrorKind::Usage, format!("use {other}"))
                .because("a Dockerfile has one context"));
        }
    };
    let file = args.dockerfile.file.as_deref();
    let from_stdin = file == Some(Path::new("-"));
    if context == "-" {
        if from_stdin {
            return Err(Error::new(ErrorKind::Usage, "read both from standard input")
                .because("it cannot be the Dockerfile and the context at once"));
        }
        return context_of_stdin(session, file);
    }
    let context = context::parse(context, folder);
    if !matches!(context, ContextSource::Folder(_)) {
        return Ok((context, in_context(file)?));
    }
    let file = match file {
        Some(_) if from_stdin => FileSource::Text(read_stdin()?),
        Some(path) => FileSource::Path(folder.join(path)),
        None => FileSource::InContext(String::new()),
    };
    Ok((context, file))
}

/// A Dockerfile that is named is one of the context where that is no folder.
fn in_context(file: Option<&Path>) -> Result<FileSource> {
    let Some(path) = file else { return Ok(FileSource::InContext(String::new())) };
    if path == Path::new("-") {
        return Ok(FileSource::Text(read_stdin()?));
    }
    Ok(FileSource::InContext(path.display().to_string()))
}

/// An archive is the context; anything else is the Dockerfile, without a context.
pub(super) fn context_of_stdin(
    session: &Session,
    file: Option<&Path>,
) -> Result<(ContextSource, FileSource)> {
    let bytes = read_stdin()?;
    let packed = crate::layer::detect(&bytes) != crate::oci::Compression::None
        || bytes.starts_with(b"BZh")
        || bytes.starts_with(b"\xfd7zXZ");
    let is_archive = packed || bytes.get(257..262) == Some(b"ustar");
    if !is_archive {
        return Ok((ContextSource::Empty, FileSource::Text(bytes)));
    }
    let store = session.store()?;
    let digest = store.put(&bytes)?;
    let (file_there, name) = (store.blob_path(&digest), "standard input".to_owned());
    let context = ContextSource::Archive { file: file_there, name, folder: None };
    Ok((context, in_context(file)?))
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(LONGEST_INPUT).read_to_end(&mut bytes).cannot(|| "read standard input")?;
    Ok(bytes)
}

/// What ARGs get: what was typed, proxies, and the time that everything gets.
fn arguments(session: &Session, typed: &[String]) -> Result<BTreeMap<String, String>> {
    let mut arguments = with_epoch(session, proxies::for_build(session, typed));
    let typed = pair::variables("--build-arg", typed, &session.environment.variables)?;
    arguments.extend(typed.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(arguments)
}

/// Adds the time of the environment.
pub(super) fn with_epoch(
    session: &Session,
    mut arguments: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(value) = session.environment.get(NAME) {
        arguments.insert(NAME.to_owned(), value.to_owned());
    }
    arguments
}

/// The time that everything gets: the argument `SOURCE_DATE_EPOCH`, which is the environment's where
/// none was typed. An empty one asks for none.
pub(super) fn epoch(arguments: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let text = arguments.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty());
    text.map(|text| parse_epoch(text)).transpose()
}

fn cache_repository(text: &str) -> Result<CacheRepository> {
    text.parse().map(CacheRepository::new).cannot(|| format!("use --cache-repo {text}"))
}

fn network(text: Option<&str>) -> Result<Network> {
    match text {
        None | Some("default" | "host") => Ok(Network::Host),
        Some("none") => Ok(Network::None),
        Some("private") => Ok(Network::Private),
        Some(other) => Err(Error::new(ErrorKind::Usage, format!("use --network {other}"))
            .because("expected host, none or private")),
    }
}

/// What finds out which sandbox to use, when the first step asks for one: that one which was chosen
/// before, else the best that works here.
pub(super) fn isolation(
    session: &Session,
    args: &SandboxArgs,
    chosen: Option<Rung>,
) -> Result<Chooser> {
    let asked = (args.request(), of_root());
    let chooser = sandbox::chooser(asked, &session.global, &session.environment)?;
    Ok(Chooser { decided: chosen, ..chooser })
}
