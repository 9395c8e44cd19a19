//! Kaniko's habits: its flags, what each of them does here, and the request that they come to.

mod cache;
mod context;
mod flags;
mod registries;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use self::flags::KanikoArgs;
pub use self::registries::Registries;
use super::input;
use crate::cli::environment::Environment;
use crate::cli::flags::table::{self, Effect, Flag, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::flags::{self as grammars, pair};
use crate::cli::output::ProgressMode;
use crate::cli::proxies;
use crate::cli::session::Session;
use crate::dockerfile::convert::{CacheRepository, ContextSource, FileSource, Recipe};
use crate::error::{Error, ErrorKind, Result};
use crate::golang;
use crate::layer::Encoding;
use crate::literal;
use crate::oci::{MediaType, Platform, PlatformSet, Reference};
use crate::pipeline::{
    Caches, DockerfileSource, ImmutableTags, KanikoFiles, Outputs, Packaging, Request, Source,
};
use crate::sandbox::{IsolationRequest, Network};
use crate::secret;
use crate::transport::Location;

/// A build as kaniko's flags describe it.
#[derive(Debug)]
pub struct KanikoBuild {
    /// The build.
    pub request: Request,
    /// Whether the image is built, or only its Dockerfile checked.
    pub purpose: Purpose,
    /// How registries are spoken to.
    pub registries: Registries,
    /// What to tell the user, a line each.
    pub notes: Vec<String>,
}

/// What the flags are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To build the image.
    Build,
    /// To check the Dockerfile, `--dryrun`.
    Check,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Log {
    /// Errors and warnings only.
    quiet: bool,
    /// As JSON.
    json: bool,
}

/// Where results of steps are unless they are to be shared.
const LOCAL: &str = "without --cache=true results of steps are kept in the local store alone";

const fn all(name: &'static str) -> Flag {
    Flag::new(name, Effect::Applies)
}

/// A flag that only kaniko's own design needs.
const fn ignored(name: &'static str, why: &'static str) -> Flag {
    Flag::new(name, Effect::Ignored(why))
}

/// What each flag does.
pub static FLAGS: [Flag; 67] = [
    all("cache"),
    Flag::new("cache-copy-layers", Effect::AppliesWith("cache", LOCAL)),
    Flag::new("cache-run-layers", Effect::AppliesWith("cache", LOCAL)),
    ignored("compressed-caching", "memory does not grow with the layers"),
    ignored("cleanup", "the build happens in folders of its own, which always go"),
    ignored("pre-cleanup", "the build happens in folders of its own"),
    all("dryrun"),
    ignored("force", "building outside of a container is what gondola does"),
    ignored("force-build-metadata", "metadata is always kept"),
    ignored("ignore-var-run", "/var/run belongs to the image, whatever is mounted here"),
    ignored("whitelist-var-run", "/var/run belongs to the image, whatever is mounted here"),
    all("insecure"),
    all("insecure-pull"),
    ignored("log-timestamp", "lines carry the time since the start"),
    ignored("materialize", "the build does not touch this file system"),
    all("no-push"),
    all("no-push-cache"),
    all("no-shared-caches"),
    ignored("preserve-context", "the build does not touch the context"),
    all("push-ignore-immutable-tag-errors"),
    all("reproducible"),
    ignored("single-snapshot", "every instruction keeps a layer of its own"),
    all("skip-default-registry-fallback"),
    ignored("skip-push-permission-check", "the push itself finds out"),
    all("skip-tls-verify"),
    all("skip-tls-verify-pull"),
    ignored("skip-unused-stages", "stages that are not needed are never built"),
    ignored(
        "use-new-run",
        "changes are read from the file system's own record, nothing is scanned",
    ),
    all("bucket"),
    ignored("cache-dir", "base images are kept in the local store"),
    Flag::new("cache-repo", Effect::AppliesWith("cache", LOCAL)),
    all("cache-scope"),
    Flag::new("cache-ttl", Effect::AppliesWith("cache", LOCAL)),
    all("compression"),
    all("compression-level"),
    all("context"),
    all("context-sub-path"),
    all("custom-platform"),
    all("digest-file"),
    all("dockerfile"),
    all("image-download-retry"),
    all("image-format"),
    ignored("image-fs-extract-retry", "unpacking a verified layer again changes nothing"),
    all("image-name-with-digest-file"),
    all("image-name-tag-with-digest-file"),
    ignored("kaniko-dir", "there is no such folder; --store names that of gondola"),
    all("log-format"),
    all("oci-layout-path"),
    all("push-retry"),
    ignored(
        "snapshot-mode",
        "changes are read from the file system's own record, nothing is scanned",
    ),
    all("tar-path"),
    all("verbosity"),
    all("annotation"),
    all("build-arg"),
    ignored("credential-helpers", "helpers are those that docker's config.json names"),
    all("destination"),
    all("git"),
    ignored("ignore-path", "only what a step writes comes into its layer, so the paths stay in"),
    all("insecure-registry"),
    all("label"),
    all("registry-certificate"),
    all("registry-client-cert"),
    all("registry-map"),
    all("registry-mirror"),
    all("secret"),
    all("skip-tls-verify-registry"),
    all("target"),
];

/// Whether the flags can be meant, as far as that is known before anything is opened.
pub fn check(build: &Noted<KanikoArgs>, environment: &Environment) -> Result<()> {
    let (args, variables) = (&build.args, &environment.variables);
    table::check(&FLAGS, &build.typed, FrontEnd::Dockerfile)?;
    let (push, destinations) = push(args, variables)?;
    cache::translate(args, &destinations, push)?;
    packaging(args, &destinations)?;
    context::choose(args, variables).map(|_| ())
}

/// Whether the image is pushed, and what it is called.
fn push(args: &KanikoArgs, variables: &BTreeMap<String, String>) -> Result<(bool, Vec<Reference>)> {
    let push = !no_push(args, variables)?;
    let destinations = destinations(args)?;
    if push && destinations.is_empty() {
        return Err(usage("push the image", "no --destination says where to")
            .hint("add --destination NAME, or --no-push"));
    }
    Ok((push, destinations))
}

/// Says what kaniko's flags ask for.
pub fn read(session: &Session, build: &Noted<KanikoArgs>) -> Result<KanikoBuild> {
    let (args, variables) = (&build.args, &session.environment.variables);
    let mut notes = table::check(&FLAGS, &build.typed, FrontEnd::Dockerfile)?;
    let (push, destinations) = push(args, variables)?;
    if args.target.len() > 1 {
        notes.push(format!(
            "--target: the stage {} is built, the others only as far as it needs them",
            args.target[0]
        ));
    }
    let cache = cache::translate(args, &destinations, push)?;
    let pushed_to = destinations.iter().filter(|_| push).map(Reference::registry);
    let cache_host = cache.as_ref().map(|cache| cache.repository.registry());
    let pushed: Vec<&str> = pushed_to.chain(cache_host).collect();
    let registries = registries::translate(args, variables, &pushed)?;
    log(args)?;
    let outputs = outputs(args, push, &destinations, &session.environment)?;
    let source = source(session, args, (&destinations, cache))?;
    let scope = args.cache_scope.as_deref().filter(|name| !name.is_empty());
    let request = Request {
        source: Source::Dockerfile(Box::new(source)),
        caches: Caches {
            off: args.cache == Some(false),
            pull: false,
            explain: false,
            scope: session.environment.cache_scope(scope)?,
            are_shared: !args.no_shared_caches.unwrap_or(false),
        },
        isolation: IsolationRequest::default(),
        outputs,
    };
    let purpose = if args.dryrun == Some(true) { Purpose::Check } else { Purpose::Build };
    Ok(KanikoBuild { request, purpose, registries, notes })
}

/// The Dockerfile, and what it is built with.
fn source(
    session: &Session,
    args: &KanikoArgs,
    (destinations, cache): (&[Reference], Option<CacheRepository>),
) -> Result<DockerfileSource> {
    let environment = &session.environment;
    let dockerfile = args.dockerfile.as_deref().unwrap_or("Dockerfile");
    if dockerfile.contains("://") {
        let shown = secret::address(dockerfile);
        return Err(usage(format!("read {shown}"), "it is no file of this machine")
            .hint("download it first, and name the file"));
    }
    // As kaniko's own steps do, these see all that it sees of proxies.
    let mut arguments = input::with_epoch(session, proxies::of_environment(session));
    arguments.extend(self::arguments(&args.build_arg, &environment.variables)?);
    let secrets = grammars::secret::all(environment, &session.reporter, &args.secret)?;
    let packaging = packaging(args, destinations)?;
    let manifest_format = manifest_format(args)?;
    // Last, because it may read standard input.
    let context = context::choose(args, &environment.variables)?.open(session)?;
    let name = golang::image_name(&context::name(&context));
    let recipe = Recipe {
        file: file(environment, &context, dockerfile),
        context,
        contexts: BTreeMap::new(),
        target: args.target.first().filter(|target| !target.is_empty()).cloned(),
        epoch: input::epoch(&arguments)?.or(args.reproducible.unwrap_or(false).then_some(0)),
        arguments,
        secrets,
        agents: BTreeMap::new(),
        hosts: Vec::new(),
        network: Network::Host,
        limits: Vec::new(),
        shared_memory_bytes: None,
        go_cache: true,
        now: input::now(environment),
        manifest_format,
        shell_on_failure: false,
    };
    Ok(DockerfileSource { recipe, execute_in: BTreeSet::new(), cache, name, packaging })
}

fn packaging(args: &KanikoArgs, destinations: &[Reference]) -> Result<Packaging> {
    let platform = args.custom_platform.as_deref().filter(|text| !text.is_empty());
    let platform: Option<Platform> = platform.map(str::parse).transpose()?;
    Ok(Packaging {
        platforms: platform.map(|platform| PlatformSet::Listed(vec![platform])),
        tags: destinations.iter().map(ToString::to_string).collect(),
        encoding: encoding(args)?.unwrap_or_default(),
        labels: pair::labels("--label", &args.label)?,
        annotations: pair::with_values("--annotation", &args.annotation)?,
    })
}

fn manifest_format(args: &KanikoArgs) -> Result<Option<MediaType>> {
    match args.image_format.as_deref().unwrap_or_default() {
        "" => Ok(None),
        "oci" => Ok(Some(MediaType::OCI_MANIFEST)),
        "docker" => Ok(Some(MediaType::DOCKER_MANIFEST)),
        other => Err(usage(format!("use --image-format {other}"), "expected docker or oci")),
    }
}

/// A Dockerfile of this machine, or else one of the context.
fn file(environment: &Environment, context: &ContextSource, name: &str) -> FileSource {
    let here = environment.resolve(name);
    match context {
        _ if here.is_file() => FileSource::Path(here),
        ContextSource::Folder(folder) => FileSource::Path(folder.join(name)),
        _ => FileSource::InContext(name.to_owned()),
    }
}

fn usage(action: impl Into<String>, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, action).because(reason)
}

fn no_push(args: &KanikoArgs, variables: &BTreeMap<String, String>) -> Result<bool> {
    match variables.get("KANIKO_NO_PUSH").filter(|value| !value.is_empty()) {
        None => Ok(args.no_push.unwrap_or(false)),
        Some(value) => literal::boolean(value).map_err(|why| usage("use KANIKO_NO_PUSH", why)),
    }
}

fn destinations(args: &KanikoArgs) -> Result<Vec<Reference>> {
    args.destination.iter().map(|name| name.parse()).collect()
}

/// A path that was given, and is one.
fn path(flag: &str, value: Option<&String>) -> Result<Option<PathBuf>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    if value.contains("://") {
        let shown = secret::address(value);
        return Err(usage(format!("write {flag} {shown}"), "it is no file of this machine")
            .hint(format!("write a file, and upload it: curl --upload-file FILE {shown}")));
    }
    Ok(Some(PathBuf::from(value)))
}

fn outputs(
    args: &KanikoArgs,
    push: bool,
    destinations: &[Reference],
    environment: &Environment,
) -> Result<Outputs> {
    let at = |flag, value: &Option<String>| {
        Ok::<_, Error>(path(flag, value.as_ref())?.map(|path| environment.resolve(path)))
    };
    let tar = at("--tar-path", &args.tar_path)?;
    if tar.is_some() && args.image_format.as_deref() == Some("oci") {
        return Err(usage(
            "write --tar-path as an OCI image",
            "the archive is one for docker load",
        )
        .hint("--oci-layout-path writes an OCI image"));
    }
    let layout = at("--oci-layout-path", &args.oci_layout_path)?;
    let kaniko = KanikoFiles {
        digest: at("--digest-file", &args.digest_file)?,
        names: at("--image-name-with-digest-file", &args.image_name_with_digest_file)?,
        tagged_names: at(
            "--image-name-tag-with-digest-file",
            &args.image_name_tag_with_digest_file,
        )?,
    };
    if destinations.is_empty() && (kaniko.names.is_some() || kaniko.tagged_names.is_some()) {
        return Err(usage("write the image's name", "no --destination gives it one"));
    }
    let tar = tar.map(|file| Location::DockerArchive { file, name: None });
    let layout = layout.map(|folder| Location::Layout { folder, tag: None });
    Ok(Outputs {
        push,
        immutable_tags: match args.push_ignore_immutable_tag_errors {
            Some(true) => ImmutableTags::Keep,
            _ => ImmutableTags::Fail,
        },
        places: tar.into_iter().chain(layout).collect(),
        kaniko,
        ..Outputs::default()
    })
}

/// Values of `ARG`s; a name alone takes its value from the environment, and is empty without one.
fn arguments(
    given: &[String],
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let read = pair::variables("--build-arg", given, variables)?;
    Ok(read.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

fn encoding(args: &KanikoArgs) -> Result<Option<Encoding>> {
    let level = args.compression_level.as_deref().filter(|level| !matches!(*level, "" | "-1"));
    let name = match args.compression.as_deref().unwrap_or_default() {
        "" if level.is_none() => return Ok(None),
        "" => "gzip",
        name @ ("gzip" | "zstd") => name,
        name => return Err(usage(format!("use --compression {name}"), "expected gzip or zstd")),
    };
    if name == "zstd" && (args.tar_path.is_some() || args.image_format.as_deref() == Some("docker"))
    {
        return Err(usage("compress with zstd", "images of docker's own format cannot have it")
            .hint("write --oci-layout-path, or take --compression=gzip"));
    }
    match level {
        Some(level) => format!("{name}:{level}").parse().map(Some),
        None => name.parse().map(Some),
    }
}

/// How progress is shown, if kaniko's flags say so; wrong ones are reported with the others.
pub fn progress(args: &KanikoArgs, otherwise: ProgressMode) -> ProgressMode {
    match log(args) {
        Ok(Log { quiet: true, .. }) => ProgressMode::Quiet,
        Ok(Log { json: true, .. }) => ProgressMode::Json,
        _ => otherwise,
    }
}

fn log(args: &KanikoArgs) -> Result<Log> {
    let quiet = match args.verbosity.as_deref().unwrap_or("info") {
        "trace" | "debug" | "info" => false,
        "warn" | "warning" | "error" | "fatal" | "panic" => true,
        other => {
            return Err(usage(format!("use --verbosity {other}"), "there is no such level")
                .hint("expected trace, debug, info, warn, error, fatal or panic"));
        }
    };
    let json = match args.log_format.as_deref().unwrap_or("color") {
        "text" | "color" => false,
        "json" => true,
        other => {
            return Err(usage(format!("use --log-format {other}"), "expected text, color or json"));
        }
    };
    Ok(Log { quiet, json })
}

#[cfg(test)]
mod tests;
